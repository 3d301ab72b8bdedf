"""Where settings come from: a TOML file with its line numbers, the environment, the command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from sidecar.config.problems import Findings, Where
from sidecar.config.scan import Path as KeyPath
from sidecar.config.scan import key_lines
from sidecar.config.toml import ACCOUNTS, read_toml

FILE_BYTES_MAX = 33_554_432

_AT_LINE = re.compile(r"\(at line (\d+), column (\d+)\)")


class Document:
    """A settings file or a profile. Never mutated."""

    def __init__(self, source: str, folder: Path, data: Mapping[str, Any], text: str, skeleton: str) -> None:
        self.source = source
        self.folder = folder
        self.data = data
        self._text = text
        self._skeleton = skeleton  # the text without most accounts

    def where(self, path: Sequence[str | int]) -> Where:
        """The line of a key; of the table around it where the key is missing."""
        key = tuple(path)
        lines = self._all_lines if key[:1] == (ACCOUNTS,) else self._lines
        while key and key not in lines:
            key = key[:-1]
        return Where(self.source, lines.get(key))

    @cached_property
    def _lines(self) -> Mapping[KeyPath, int]:
        return key_lines(self._skeleton)

    @cached_property
    def _all_lines(self) -> Mapping[KeyPath, int]:
        """Asked where an account is wrong: 100,000 of them take half a second."""
        return self._lines if self._text is self._skeleton else key_lines(self._text)


def empty_document() -> Document:
    return Document("default", Path(), {}, "", "")


def read_document(path: Path, findings: Findings) -> Document | None:
    """The file as a document; None, with the errors in `findings`, where it is not one."""
    where = Where(str(path))
    try:
        if not path.is_file():
            findings.error(where, "", "is not a file" if path.exists() else "there is no such file")
            return None
        if path.stat().st_size > FILE_BYTES_MAX:
            findings.error(where, "", f"is larger than {FILE_BYTES_MAX} bytes")
            return None
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        findings.error(where, "", f"cannot be read: {getattr(error, 'strerror', None) or error}")
        return None
    return parse_document(content, str(path), path.parent, findings)


def parse_document(content: bytes, source: str, folder: Path, findings: Findings) -> Document | None:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        findings.error(Where(source, line), "", f"is not UTF-8 (byte 0x{content[error.start]:02x})")
        return None
    try:
        data, skeleton = read_toml(text)
        return Document(source, folder, data, text, skeleton)
    except tomllib.TOMLDecodeError as error:
        place = _AT_LINE.search(str(error))
        line = int(place[1]) if place else text.rstrip().count("\n") + 1
        what = str(error)[: place.start()].strip() if place else str(error)
        column = f", column {place[2]}" if place else ""
        findings.error(Where(source, line), "", f"not TOML: {what}{column}")
    except RecursionError:
        findings.error(Where(source), "", "not readable: nested too deeply")
    except (
        ValueError
    ) as error:  # tomllib lets int()'s refusal of thousands of digits through, and a date's of 30 February
        findings.error(Where(source), "", f"not readable: {error}")
    return None
