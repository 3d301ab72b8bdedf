"""Address blocks of accounts, changed within one transaction."""

from __future__ import annotations

import apsw

from sidecar.adapters.sqlite.chain import Draft
from sidecar.adapters.sqlite.rows import Table

ADDRESSES = Table("account_addresses", ("block", "account", "boot", "created_wall_ns"))


class Addresses:
    """Blocks are canonical."""

    def __init__(self, connection: apsw.Connection, boot: int, wall_ns: int, chain: Draft) -> None:
        self._chain = chain
        self._connection = connection
        self._boot = boot
        self._wall_ns = wall_ns

    def account_of(self, block: str) -> str | None:
        """Whose this very block is."""
        found: str | None = self._connection.execute(
            "SELECT account FROM account_addresses WHERE block = ?", (block,)
        ).get
        return found

    def add(self, block: str, account: str) -> None:
        ADDRESSES.write(self._connection, [(block, account, self._boot, self._wall_ns)])
        self._chain.put("account_addresses", (block, account))

    def remove(self, block: str) -> None:
        self._chain.take("account_addresses", (block, self.account_of(block)))
        self._connection.execute("DELETE FROM account_addresses WHERE block = ?", (block,))
