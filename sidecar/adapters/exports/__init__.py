"""Records handed over as files: CSV, JSON lines or Parquet, with a manifest that a second program can check.

    OUT/cdrs-00001.csv      the records, ROWS_PER_FILE at most in each file OUT/manifest.json       files with
    digest and number of records, what was asked for, the columns, epochs with
                            their ranges of `seq`, and control totals
    OUT/SHA256SUMS          for `sha256sum -c`, the manifest included

columns    a CDR as one flat row: made from its definition
files      one file of rows, hashed as it is written
parquet    the same through duckdb, an optional extra
export     all of it together
verify     the same read back, digests and sums against the manifest

The manifest comes last: a folder that has none is an export that did not end. The same records give the same
files, byte for byte; only `generated_at` differs. Memory does not grow with the number of records.
"""

from sidecar.adapters.exports.columns import COLUMNS, Column, row_of
from sidecar.adapters.exports.export import ExportError, Format, JournalHead, Manifest, export
from sidecar.adapters.exports.verify import Verification, verify

__all__ = [
    "COLUMNS",
    "Column",
    "ExportError",
    "Format",
    "JournalHead",
    "Manifest",
    "Verification",
    "export",
    "row_of",
    "verify",
]
