"""Address blocks of accounts, changed within one transaction."""

from __future__ import annotations

from sidecar.adapters.store.reading import Asks


class Addresses:
    """Blocks are canonical."""

    def __init__(self, connection: Asks, boot: int, wall_ns: int) -> None:
        self._connection = connection
        self._boot = boot
        self._wall_ns = wall_ns

    def account_of(self, block: str) -> str | None:
        """Whose this very block is."""
        sql = "SELECT account FROM account_addresses WHERE block = ?"
        return next((account for (account,) in self._connection.execute(sql, (block,))), None)

    def add(self, block: str, account: str) -> None:
        self._connection.execute(
            "INSERT INTO account_addresses (block, account, boot, created_wall_ns) VALUES (?, ?, ?, ?)",
            (block, account, self._boot, self._wall_ns),
        )

    def remove(self, block: str) -> None:
        self._connection.execute("DELETE FROM account_addresses WHERE block = ?", (block,))
