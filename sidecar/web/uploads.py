"""Price lists that somebody has sent to have a look at: read from the form, and kept in the data directory
for half an hour at most, so many at a time. A list that is taken over is a deck, and no longer here."""

from __future__ import annotations

import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from email.message import Message
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

import msgspec

UPLOAD_BYTES_MAX = 16_777_216  # larger lists by the command line
FIELD_BYTES_MAX = 1_024
PARTS_MAX = 20
KEPT_S_MAX = 1_800.0
KEPT_MAX = 8  # of all users together; the oldest goes
NAME_LENGTH_MAX = 80
FOLDER = "uploads"
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


class UploadError(Exception):
    """The text says why it is no upload."""


class Sent(msgspec.Struct, frozen=True):
    """A file of a form."""

    name: str
    content: bytes


class Upload(msgspec.Struct, kw_only=True):
    """`said`: how it was read; `fault`: why it could not be."""

    token: str
    user: str
    path: Path
    at_s: float
    options: Mapping[str, str] = {}
    said: Any = None
    fault: str = ""


class Uploads:
    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER
        self._lock = threading.Lock()
        self._kept: dict[str, Upload] = {}
        shutil.rmtree(self._folder, ignore_errors=True)  # of a page that was killed

    def put(self, user: str, sent: Sent) -> Upload:
        """OSError where the disk will not have it."""
        token = secrets.token_hex(16)
        path = self._folder / token / file_name(sent.name)
        with self._lock:
            self._forget_old(KEPT_MAX - 1)
            for folder in (self._folder, path.parent):
                folder.mkdir(mode=0o700, exist_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(sent.content)
            upload = self._kept[token] = Upload(token=token, user=user, path=path, at_s=time.monotonic())
        return upload

    def find(self, token: str, user: str) -> Upload | None:
        """Each has his own."""
        with self._lock:
            self._forget_old(KEPT_MAX)
            found = self._kept.get(token)
        return found if found is not None and found.user == user else None

    def drop(self, upload: Upload) -> None:
        with self._lock:
            self._drop(upload)

    def forget_old(self) -> None:
        """To be called now and then, also where nobody comes."""
        with self._lock:
            self._forget_old(KEPT_MAX)

    def close(self) -> None:
        with self._lock:
            self._kept.clear()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _forget_old(self, kept_max: int) -> None:
        too_old_s = time.monotonic() - KEPT_S_MAX
        by_age = sorted(self._kept.values(), key=lambda one: one.at_s)
        for place, one in enumerate(by_age):
            if one.at_s < too_old_s or len(by_age) - place > kept_max:
                self._drop(one)

    def _drop(self, upload: Upload) -> None:
        self._kept.pop(upload.token, None)
        with suppress(OSError):
            shutil.rmtree(upload.path.parent)


def file_name(said: str) -> str:
    """What a browser says the file is called, as a name that leads nowhere else."""
    last = re.split(r"[/\\]", said)[-1]
    return _ODD.sub("_", last).lstrip("._-")[-NAME_LENGTH_MAX:] or "list.csv"


def form_of(content_type: str, body: bytes) -> tuple[dict[str, str], dict[str, Sent]]:
    """The fields and the files of a form (RFC 7578). Raises UploadError."""
    head = Message()
    head["content-type"] = content_type
    boundary = head.get_boundary()
    if head.get_content_type() != "multipart/form-data" or not boundary:
        raise UploadError("This is no form with a file.")
    fields: dict[str, str] = {}
    files: dict[str, Sent] = {}
    for disposition, content in _parts(boundary.encode(errors="replace"), body):
        name, file = disposition.get_param("name", header=_DISPOSITION), disposition.get_filename()
        if not isinstance(name, str):
            raise UploadError("This is no form: a part of it has no name.")
        if file is not None:
            files[name] = Sent(file, content)
        elif len(content) > FIELD_BYTES_MAX:
            raise UploadError(f"{name[:50]} is too long.")
        else:
            try:
                fields[name] = content.decode()
            except UnicodeDecodeError:
                raise UploadError(f"{name[:50]} is no text.") from None
    return fields, files


_DISPOSITION = "content-disposition"


def _parts(boundary: bytes, body: bytes) -> Iterator[tuple[Message, bytes]]:
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, PARTS_MAX + 2)
    if len(pieces) > PARTS_MAX + 2 or not pieces[-1].startswith(b"--"):
        raise UploadError("This form was cut off, or has too many parts.")
    for piece in pieces[1:-1]:
        head, found, content = piece.partition(b"\r\n\r\n")
        if not found or not piece.startswith(b"\r\n"):
            raise UploadError("This is no form.")
        yield BytesHeaderParser().parsebytes(head[2:]), content
