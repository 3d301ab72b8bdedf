"""The control socket against a real client, and against everything that is no client."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import select
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.adapters.control_client import ControlClient, DaemonUnreachableError
from sidecar.adapters.sockets.control import BATCH_MAX, ControlServer, user_name
from sidecar.adapters.sockets.listening import ListenError
from sidecar.adapters.sqlite.file import DataDir
from sidecar.core.audit import Operator
from sidecar.wire.control import REQUEST_BYTES_MAX, CommandError, ErrorCode, Method


class Greeting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    times: int = 1
    operator: str | None = None


class Greeter:
    """A method that does something, so that a test can see that nothing was done."""

    def __init__(self) -> None:
        self.greeted: list[str] = []
        self.operators: list[Operator] = []
        self.may_go_on = asyncio.Event()

    async def greet(self, greeting: Greeting, operator: Operator) -> object:
        self.greeted.append(greeting.name)
        self.operators.append(operator)
        return {"text": f"hello {greeting.name}" * greeting.times}

    async def refuse(self, _: Greeting, __: Operator) -> object:
        raise CommandError(ErrorCode.REFUSED, "not today")

    async def fail(self, _: Greeting, __: Operator) -> object:
        raise ValueError("broken")

    async def wait(self, _: Greeting, __: Operator) -> object:
        await self.may_go_on.wait()
        return None

    def methods(self) -> dict[str, Method]:
        handlers = {"greet": self.greet, "refuse": self.refuse, "fail": self.fail, "wait": self.wait}
        methods = {name: Method(Greeting, handle) for name, handle in handlers.items()}
        return {**methods, "wait_a_little": Method(Greeting, self.wait, 0.05)}


@asynccontextmanager
async def served(path: Path, **limits: Any) -> AsyncIterator[Greeter]:
    greeter = Greeter()
    async with ControlServer(path, greeter.methods(), **limits).serving():
        yield greeter


class Wire:
    """A client that may say anything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, *lines: bytes) -> None:
        self.writer.write(b"".join(lines))
        await self.writer.drain()

    async def hear(self) -> Any:
        line = await self.reader.readline()
        return json.loads(line) if line else None

    async def ask(self, line: bytes) -> Any:
        await self.say(line, b"\n")
        return await self.hear()


@asynccontextmanager
async def wire(path: Path) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_unix_connection(path, limit=2**24)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def request(method: str = "greet", **fields: Any) -> bytes:
    return json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": "ann"}} | fields
    ).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


async def test_a_request_is_answered_with_its_result_and_its_id(path: Path) -> None:
    async with served(path), wire(path) as client:
        assert await client.ask(request(id="seven")) == {
            "jsonrpc": "2.0",
            "id": "seven",
            "result": {"text": "hello ann"},
        }


async def test_only_the_owner_can_open_the_socket(path: Path) -> None:
    async with served(path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116
    assert os.listdir(path.parent) == []  # noqa: PTH208


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", ErrorCode.PARSE_ERROR),
        (b"\xff\xfe\x00", ErrorCode.PARSE_ERROR),
        (b'"\xed\xa0\x80"', ErrorCode.PARSE_ERROR),
        (b"[" * 60_000, ErrorCode.PARSE_ERROR),
        (b"1e400", ErrorCode.PARSE_ERROR),
        (b"GET / HTTP/1.1\r", ErrorCode.PARSE_ERROR),
        (b"null", ErrorCode.INVALID_REQUEST),
        (b"[]", ErrorCode.INVALID_REQUEST),
        (b"{}", ErrorCode.INVALID_REQUEST),
        (request(jsonrpc="1.0"), ErrorCode.INVALID_REQUEST),
        (request(method=["greet"]), ErrorCode.INVALID_REQUEST),  # type: ignore[arg-type]
        (request(id={"a": 1}), ErrorCode.INVALID_REQUEST),
        (request(id=True), ErrorCode.INVALID_REQUEST),
        (request("__init__"), ErrorCode.METHOD_NOT_FOUND),
        (request(params=["ann"]), ErrorCode.INVALID_PARAMS),
        (request(params=None), ErrorCode.INVALID_PARAMS),
        (request(params={}), ErrorCode.INVALID_PARAMS),
        (request(params={"name": 7}), ErrorCode.INVALID_PARAMS),
        (request(params={"name": "ann", "tiems": 2}), ErrorCode.INVALID_PARAMS),
        (request("refuse"), ErrorCode.REFUSED),
        (request("fail"), ErrorCode.INTERNAL_ERROR),
    ],
)
async def test_what_cannot_be_done_is_an_error_by_its_code_and_the_connection_lives(
    path: Path, line: bytes, code: ErrorCode
) -> None:
    async with served(path) as greeter, wire(path) as client:
        answer = await client.ask(line)
        assert answer["error"]["code"] == code
        assert answer["error"]["message"]
        assert greeter.greeted == []
        assert "result" in await client.ask(request())


async def test_an_error_says_which_parameter_is_wrong(path: Path) -> None:
    async with served(path), wire(path) as client:
        answer = await client.ask(request(params={"name": "ann", "times": "often"}))
        assert "$.times" in answer["error"]["message"]


async def test_a_notification_is_done_and_not_answered(path: Path) -> None:
    async with served(path) as greeter, wire(path) as client:
        await client.say(b'{"jsonrpc": "2.0", "method": "greet", "params": {"name": "bob"}}\n')
        assert (await client.ask(request(id=2)))["id"] == 2
        assert greeter.greeted == ["bob", "ann"]


async def test_a_batch_is_answered_as_a_batch_and_bounded(path: Path) -> None:
    async with served(path) as greeter, wire(path) as client:
        both = await client.ask(b"[" + request(id=1) + b"," + request("nothing", id=2) + b"]")
        assert [answer["id"] for answer in both] == [1, 2]
        too_many = b"[" + b",".join([request()] * (BATCH_MAX + 1)) + b"]"
        assert (await client.ask(too_many))["error"]["code"] == ErrorCode.INVALID_REQUEST
        assert greeter.greeted == ["ann"]


async def test_lone_surrogates_come_back_as_text(path: Path) -> None:
    async with served(path), wire(path) as client:
        answer = await client.ask(b'{"jsonrpc":"2.0","id":"\\ud800","method":"\\ud800","params":{}}')
        assert "error" in answer


async def test_an_oversize_line_is_refused_and_the_connection_closed(path: Path) -> None:
    async with served(path) as greeter, wire(path) as client:
        await client.say(request(params={"name": "x" * REQUEST_BYTES_MAX}), b"\n")
        assert (await client.hear())["error"]["code"] == ErrorCode.INVALID_REQUEST
        assert greeter.greeted == []


async def test_half_a_request_does_nothing(path: Path) -> None:
    async with served(path) as greeter:
        async with wire(path) as client:
            await client.say(request())
            client.writer.write_eof()
            assert await client.hear() is None
        assert greeter.greeted == []


async def test_a_line_that_does_not_end_is_cut_off(path: Path) -> None:
    async with served(path, line_s_max=0.05) as greeter, wire(path) as client:
        await client.say(b'{"jsonrpc"')
        assert await client.reader.read() == b""
        assert greeter.greeted == []


async def test_a_method_that_takes_too_long_is_given_up(path: Path) -> None:
    async with served(path, request_s_max=0.05), wire(path) as client:
        assert (await client.ask(request("wait")))["error"]["code"] == ErrorCode.TIMED_OUT
        assert "result" in await client.ask(request())


async def test_a_method_may_have_a_time_of_its_own(path: Path) -> None:
    async with served(path), wire(path) as client:
        error = (await client.ask(request("wait_a_little")))["error"]
        assert (error["code"], "within 0.05 s" in error["message"]) == (ErrorCode.TIMED_OUT, True)


async def test_a_client_that_does_not_read_is_cut_off(path: Path) -> None:
    async with served(path, request_s_max=0.05):
        with socket.socket(socket.AF_UNIX) as deaf, select.epoll() as watch:
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, str(path))
            await loop.sock_sendall(deaf, request(params={"name": "x" * 1_000, "times": 10_000}) + b"\n")
            hung_up = asyncio.Event()
            watch.register(deaf, select.EPOLLHUP)
            loop.add_reader(watch, hung_up.set)
            await hung_up.wait()
            loop.remove_reader(watch)
            received = b"".join(iter(lambda: _chunk(deaf), b""))
        assert 0 < len(received) < 10_000_000


def _chunk(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1_000_000)
    except ConnectionError:
        return b""


async def test_connections_above_the_limit_are_told_so(path: Path) -> None:
    async with served(path, connections_max=2), wire(path) as one, wire(path) as two:
        assert "result" in await one.ask(request())
        assert "result" in await two.ask(request())
        async with wire(path) as third:
            assert (await third.hear())["error"]["code"] == ErrorCode.BUSY
        one.writer.close()
        answer = None
        while answer is None or answer.get("error", {}).get("code") == ErrorCode.BUSY:
            async with wire(path) as again:
                try:
                    answer = await again.ask(request())
                except ConnectionError:
                    continue
        assert "result" in answer


async def test_the_end_does_not_wait_for_open_connections(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        async with served(path) as greeter:
            client.connect(str(path))
            client.sendall(request("wait") + b"\n")
            async with wire(path) as other:
                assert "result" in await other.ask(request())
        assert not greeter.may_go_on.is_set()
        assert client.recv(100) == b""


async def test_a_socket_left_behind_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    async with served(path), wire(path) as client:
        assert "result" in await client.ask(request())


async def test_the_socket_of_a_running_daemon_is_left_alone(path: Path) -> None:
    async with served(path):
        with pytest.raises(ListenError, match="already running"):
            async with served(path):
                pass
        async with wire(path) as client:
            assert "result" in await client.ask(request())


async def test_a_path_that_no_socket_can_have_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="shorter"):
        async with served(tmp_path / ("x" * 120)):
            pass
    with pytest.raises(ListenError, match="writable"):
        async with served(tmp_path / "nowhere" / "control.sock"):
            pass


# --- junk ---------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
ALMOST = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | JSON,
        "id": JSON,
        "method": st.sampled_from(["refuse", "fail"]) | JSON,
        "params": st.just({"name": "ann"}) | JSON,
    },
)
JUNK = st.binary(max_size=200) | (JSON | ALMOST | st.lists(ALMOST, max_size=3)).map(
    lambda said: json.dumps(said).encode()
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(JUNK, min_size=1, max_size=20), st.booleans())
def test_junk_acts_on_nothing_and_the_next_client_is_served(
    tmp_path: Path, lines: list[bytes], cut_off: bool
) -> None:
    path = tmp_path / "control.sock"

    async def run() -> None:
        async with served(path) as greeter:
            async with wire(path) as client:
                try:
                    await client.say(b"\n".join(lines), b"" if cut_off else b"\n")
                    client.writer.write_eof()
                    for answer in (await client.reader.read()).splitlines():
                        json.loads(answer)
                except ConnectionError:
                    pass
            assert greeter.greeted == []
            async with wire(path) as client:
                assert "result" in await client.ask(request())

    asyncio.run(run())


# --- the client of the command line -------------------------------------------------------------------------


async def ask(path: Path, work: Callable[[ControlClient], Any], **limits: Any) -> Any:
    def run() -> Any:
        with ControlClient(path, **limits) as client:
            return work(client)

    return await asyncio.to_thread(run)


async def test_the_client_returns_results_and_raises_refusals(path: Path) -> None:
    async with served(path):
        big = await ask(path, lambda client: client.call("greet", {"name": "x" * 1_000, "times": 1_000}))
        assert len(big["text"]) == 1_006_000
        both = await ask(path, lambda c: [c.call("greet", {"name": name})["text"] for name in ("ann", "bob")])
        assert both == ["hello ann", "hello bob"]
        with pytest.raises(CommandError, match="not today") as refused:
            await ask(path, lambda client: client.call("refuse", {"name": "ann"}))
        assert refused.value.code is ErrorCode.REFUSED


def test_nobody_at_the_socket_is_an_error_that_says_what_to_do(path: Path) -> None:
    with pytest.raises(DaemonUnreachableError, match="sidecar run"), ControlClient(path):
        pass
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with pytest.raises(DaemonUnreachableError, match="sidecar run"), ControlClient(path):
        pass


def test_a_daemon_that_does_not_answer_is_not_waited_for_for_ever(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with (
            pytest.raises(DaemonUnreachableError, match="no answer"),
            ControlClient(path, answer_s_max=0.05) as client,
        ):
            client.call("node.status")


@pytest.mark.parametrize("answer", [b"", b"junk\n", b"[1]\n", b'{"id": 1'])
def test_an_answer_that_is_none_is_an_error_and_no_traceback(path: Path, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        other = threading.Thread(target=serve)
        other.start()
        with pytest.raises(DaemonUnreachableError), ControlClient(path) as client:
            client.call("node.status")
        other.join()


def test_the_client_imports_no_event_loop() -> None:
    code = "import sys, sidecar.adapters.control_client; print('asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


async def test_a_method_is_told_which_user_asks_and_the_name_that_he_claims(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with served(path) as greeter:
        answers = await asyncio.to_thread(_greetings, path, {"name": "a"}, {"name": "b", "operator": "ann"})
        assert answers == ["hello a", "hello b"]
    user = pwd.getpwuid(os.getuid()).pw_name
    assert greeter.operators == [Operator(user, os.getuid()), Operator("ann", os.getuid())]


def _greetings(path: Path, *params: dict[str, Any]) -> list[str]:
    with ControlClient(path) as client:
        return [client.call("greet", one)["text"] for one in params]


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that other users can reach: each start of pytest shuts that of its `tmp_path`s to them."""
    with tempfile.TemporaryDirectory(prefix="sidecar-") as folder:
        path = Path(folder)
        path.chmod(0o777)
        yield path


async def test_another_user_is_told_by_his_own_number(passable: Path) -> None:
    path = passable / "control.sock"
    script = (
        "import os, sys; from pathlib import Path\n"
        "from sidecar.adapters.control_client import ControlClient\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        f"with ControlClient(Path({str(path)!r})) as client:\n"
        "    client.call('greet', {'name': 'a', 'operator': 'root'})\n"
        "print(os.getuid())\n"
    )
    async with served(path) as greeter:
        path.chmod(0o666)
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert greeter.operators == [Operator("root", int(done.stdout))]
    assert (os.getuid() == 0) == (done.stdout == "65534\n")


def test_a_user_without_a_name_is_called_by_his_number() -> None:
    assert user_name(3_999_999_999) == "uid 3999999999"


async def test_a_group_may_open_the_socket_where_it_is_given_one(tmp_path: Path) -> None:
    path, gid = tmp_path / "control.sock", os.getgid()
    async with served(path, group=gid):
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, gid)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives a socket to a group that it is not in")
async def test_a_user_of_the_group_is_served_and_another_is_not(passable: Path) -> None:
    path = passable / "data" / "control.sock"
    path.parent.mkdir()
    DataDir(path.parent, passed_by=54_321).release()

    def asked_as(gid: int) -> str:
        script = (
            "import os, sys; from pathlib import Path\n"
            "from sidecar.adapters.control_client import ControlClient, DaemonUnreachableError\n"
            f"os.setgroups([]); os.setgid({gid}); os.setuid(65534)\n"
            f"path = Path({str(path)!r})\n"
            "try:\n"
            "    with ControlClient(path) as client: print(client.call('greet', {'name': 'a'})['text'])\n"
            "except DaemonUnreachableError as error: print(error)\n"
            "try: os.listdir(path.parent)\n"
            "except PermissionError: print('sees nothing')\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    async with served(path, group=54_321) as greeter:
        assert await asyncio.to_thread(asked_as, 54_321) == "hello a\nsees nothing\n"
        assert [one.uid for one in greeter.operators] == [65_534]
        said = await asyncio.to_thread(asked_as, 54_322)
        assert "permission denied" in said
        assert "control.group" in said


@pytest.mark.skipif(os.getuid() != 0, reason="another user is needed, who is not in the group")
def test_a_group_that_the_user_is_not_in_is_one_clear_error(passable: Path) -> None:
    script = (
        "import asyncio, os; from pathlib import Path\n"
        "from sidecar.adapters.sockets.control import ControlServer\n"
        "from sidecar.adapters.sockets.listening import ListenError\n"
        "from sidecar.adapters.sqlite.file import DataDir, StoreError\n"
        f"path = Path({str(passable)!r})\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "async def serve():\n"
        "    async with ControlServer(path / 'c.sock', {}, group=54321).serving(): pass\n"
        "try: asyncio.run(serve())\n"
        "except* ListenError as group: print(group.exceptions[0])\n"
        "try: DataDir(path / 'data', passed_by=54321)\n"
        "except StoreError as error: print(error)\n"
        "print(os.listdir(path))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    text = "cannot be given to group 54321 of control.group (Operation not permitted)"
    why = "only root, or a user in that group, can"
    assert done.stdout.splitlines() == [
        f"{passable / 'c.sock'}: {text}: {why}",
        f"data_dir {passable / 'data'}: {text}: {why}",
        "['data']",
    ], done.stderr
