"""Of which calls the messages are captured: all, a share, or those of some accounts."""

from __future__ import annotations

from uuid import UUID

import msgspec


class CaptureRule(msgspec.Struct, frozen=True, kw_only=True):
    share_percent: int
    accounts: frozenset[str] = frozenset()  # empty: every

    def takes(self, call_id: UUID, account: str) -> bool:
        """By the id alone, whose last bits are a hash: a call is captured whole or not at all."""
        return call_id.int % 100 < self.share_percent and (not self.accounts or account in self.accounts)
