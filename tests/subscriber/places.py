"""Where a sink keeps its records, and what is in there afterwards: read without the sink."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from sidecar.subscriber.sink import Sink
from sidecar.subscriber.sinks.json_lines import JsonLinesSink
from sidecar.subscriber.sinks.postgresql import PostgresqlSink
from sidecar.subscriber.sinks.sqlite import SqliteSink


class Place(NamedTuple):
    kind: str
    where: str  # a file, or how to connect

    def sink(self) -> Sink:
        match self.kind:
            case "json-lines":
                return JsonLinesSink(Path(self.where))
            case "sqlite":
                return SqliteSink(Path(self.where))
            case _:
                return PostgresqlSink(self.where)

    def options(self) -> list[str]:
        """Of `sidecar subscribe`."""
        return [f"--{self.kind}", self.where]

    def records(self) -> list[dict[str, Any]]:
        """All that are there, in the order of their coming where there is one."""
        if self.kind == "json-lines":
            file = Path(self.where)
            content = file.read_bytes() if file.exists() else b""
            whole = content[: content.rfind(b"\n") + 1]  # the last line may be under way
            return [json.loads(line) for line in whole.splitlines()]
        rows = self.ask("SELECT record FROM sidecar_cdrs")
        return [json.loads(row[0]) if isinstance(row[0], str) else row[0] for row in rows]

    def seqs(self) -> list[int]:
        return sorted(record["seq"] for record in self.records())

    def ask(self, sql: str) -> Sequence[tuple[Any, ...]]:
        if self.kind == "postgresql":
            with psycopg.connect(self.where) as connection:
                return connection.execute(sql.encode()).fetchall()
        file = self.where + (".index" if self.kind == "json-lines" else "")
        with closing(sqlite3.connect(file, timeout=30)) as connection:
            return connection.execute(sql).fetchall()
