"""What another process reads of the people who may use the page."""

from __future__ import annotations

from pathlib import Path

import apsw

from sidecar.adapters.sqlite.file import FILE_NAME, connect_reader
from sidecar.adapters.store.store import StoreError
from sidecar.adapters.store.users import user
from sidecar.core.users import User


def known_user(data_dir: Path, name: str) -> User | None:
    """As the journal of a data directory has it now, whether or not a daemon has it open. StoreError where
    that cannot be read."""
    file = data_dir / FILE_NAME
    try:
        connection = connect_reader(file)
    except apsw.Error as error:
        raise StoreError(f"{file}: cannot be read ({error})") from error
    try:
        # Whoever closes a file last would write the WAL into it: that is the daemon's to do.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        return user(connection, name)
    except apsw.Error as error:
        raise StoreError(f"{file}: cannot be read ({error})") from error
    finally:
        connection.close(force=True)
