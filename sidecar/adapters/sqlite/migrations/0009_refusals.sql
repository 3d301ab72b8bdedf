-- Bodies of records are packed from now on (packing.py): versions before cannot read them.

-- Refusals of the running minute that got no record of their own (core/refusals), each row the record that they will
-- come to, as it stood at the last heartbeat. The row goes when that record comes; what a crash leaves is recorded by
-- the next start.
CREATE TABLE refusals (
    entry INTEGER PRIMARY KEY,
    call_id BLOB NOT NULL UNIQUE,
    body BLOB NOT NULL,                 -- wire/cdr_codec
    crc INTEGER NOT NULL,
    maybe_told INTEGER NOT NULL DEFAULT 0 -- as in open_calls
) STRICT;
