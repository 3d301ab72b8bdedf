"""A node whose books are in PostgreSQL, under SIPp's calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from sidecar.demo.check import summary
from tests.cli.test_commands import sidecar
from tests.rig.listener import check_sequences, sell
from tests.rig.node import until
from tests.rig.postgres import Postgres
from tests.sipp.rig import Rig

_databases = iter(f"sipp{number}" for number in range(1, 100))
MakeRig = Callable[..., Rig]


@pytest.fixture
async def make_rig(tmp_path: Path, postgresql: Postgres) -> MakeRig:
    """With the rights of a node, by TLS to a server that proves itself."""
    owner, node = postgresql.new_database_with_roles(next(_databases))
    (tmp_path / "ca.crt").write_bytes(postgresql.certificate.read_bytes())
    (tmp_path / "owner").touch(mode=0o600)
    (tmp_path / "owner").write_text(owner)
    done = await sidecar("store", "prepare", "--dsn-file", str(tmp_path / "owner"))
    assert (done.exit_code, done.out) == (0, "schema 1, before none\n"), done.err
    dsn = make_conninfo(node, sslmode="verify-full", sslrootcert=str(tmp_path / "ca.crt"))
    return lambda **how: Rig(tmp_path, dsn=dsn, **how)


async def test_calls_are_booked_recorded_and_published(make_rig: MakeRig) -> None:
    rig = make_rig()
    async with rig.up() as child:
        await child.command("account", "topup", "prepaid", "1")
        bye = await rig.place("caller-bye-in-call", "caller-bye-in-call", account="prepaid")
        busy = await rig.place("callee-rejected-busy", "callee-rejected-busy")
        assert summary(bye) == "caller/bye 200 16 answered"
        assert summary(busy) == "callee/rejected 486 17 rejected"
        check_sequences(rig.listener.records)
        status = await rig.status()
        assert (status["store_epoch"], status["outbox_head_seq"]) == (bye["store_epoch"], 2)
        assert not rig.data.joinpath("journal.db").exists()
        file = rig.folder / "dsn"
        file.write_text(file.read_text().replace("verify-full", "verify-ca"))
        reload = await sidecar("node", "reload", "--socket", str(rig.data / "control.sock"))
        assert (reload.exit_code, "store.dsn_file" in reload.out) == (1, True), reload
    charged = Decimal(sell(bye)["total"])
    assert charged > 0
    assert rig.balance("prepaid") == 1 - charged
    rig.check_books()


async def test_a_call_that_the_node_did_not_survive_is_recorded_once_by_the_next_start(
    make_rig: MakeRig,
) -> None:
    rig = make_rig(max_duration_s=60)
    scenario = "server-crash-in-call"
    killed: list[str] = []

    async def killed_and_started(dialled: str) -> None:
        call = await rig.live(dialled, answered=True)
        killed.append(call["call_id"])
        await asyncio.sleep(1.2)  # past one heartbeat
        rig.kill()
        async with rig.up():
            await until(lambda: rig.open_entries() == 0)
            await rig.listener.until(lambda: bool(rig.listener.records))

    async with rig.up():
        await rig.place_unrecorded(scenario, scenario, meanwhile=killed_and_started)
    (cdr,) = rig.listener.records
    assert summary(cdr) == "server/fault/crash_recovered 500 41 answered proved/recovered"
    assert (cdr["call_id"], cdr["revision"]) == (killed[0], 0)
    shown = await sidecar("cdr", "show", killed[0], "--json", cwd=rig.folder, **rig.settings())
    assert [one["message_id"] for one in shown.json] == [cdr["message_id"]]
    rig.check_books()
