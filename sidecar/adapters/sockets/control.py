"""The control socket: JSON-RPC 2.0 on a unix socket, one request per line (contract: wire/control.py). Its
mode is 0600, or 0660 for a group.

Whoever may open the socket may do everything, so the file's mode is the only door; it is set before the name
exists. Methods are told who asks: the kernel says which user it is (SO_PEERCRED); where a parameter
`operator` is given, it is the name that this person claims (core/audit).

What comes in is bounded in every direction: connections, bytes of a line, the time a line may take to arrive,
requests in a batch, the time of a request, the time the other side may take to read. Junk is answered with an
error by its code and does nothing. A line without its newline is half a request and is never carried out.
"""

from __future__ import annotations

import asyncio
import pwd
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import structlog

from sidecar.adapters.sockets.accepting import Acceptor, streams
from sidecar.adapters.sockets.listening import at_path
from sidecar.core.audit import Operator
from sidecar.ports import UnavailableError
from sidecar.wire.control import ANSWER_BYTES_MAX, REQUEST_BYTES_MAX, CommandError, ErrorCode, Method

log = structlog.get_logger("sidecar.control")

CONNECTIONS_MAX = 32
BATCH_MAX = 32
LINE_S_MAX = 60.0  # from one request to the next, or from the first byte of a line to its newline
REQUEST_S_MAX = 10.0

Id = str | int | float | None


class ControlServer:
    """Serves `methods` at `path` while `serving` lasts."""

    def __init__(
        self,
        path: Path,
        methods: Mapping[str, Method],
        *,
        group: int | None = None,
        connections_max: int = CONNECTIONS_MAX,
        line_s_max: float = LINE_S_MAX,
        request_s_max: float = REQUEST_S_MAX,
    ) -> None:
        self._path = path
        self._methods = methods
        self._group = group  # its number: whoever is in it may do everything, too
        self._connections_max = connections_max
        self._line_s_max = line_s_max
        self._request_s_max = request_s_max
        self._connections = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Raises ListenError. On leaving, requests in progress are cancelled and the socket's name is
        removed."""
        listener = at_path(self._path, self._group, "node.data_dir")
        listener.setblocking(False)
        inode = self._path.stat().st_ino
        try:
            async with asyncio.TaskGroup() as group:

                def connected(connection: socket.socket) -> None:
                    tasks.add(
                        task := group.create_task(self._connection(connection), name="control-connection")
                    )
                    task.add_done_callback(tasks.discard)

                tasks: set[asyncio.Task[None]] = set()
                acceptor = Acceptor(listener, connected, "control")
                try:
                    yield
                finally:
                    acceptor.close()
                    for task in tasks:
                        task.cancel()
        finally:
            listener.close()
            # Not the socket of a daemon that has taken our place meanwhile.
            with suppress(OSError):
                if self._path.stat().st_ino == inode:
                    self._path.unlink()

    # --- one connection -------------------------------------------------------------------------------------

    async def _connection(self, connection: socket.socket) -> None:
        with connection:  # also where it is cancelled before it has a stream
            await self._talk(*await streams(connection, REQUEST_BYTES_MAX))

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)  # so that drained means handed over
        try:
            peer = await _peer(writer.get_extra_info("socket"))
            if self._connections >= self._connections_max:
                text = f"{self._connections_max} connections are open: close one, or try again"
                await self._write(writer, _error(None, ErrorCode.BUSY, text))
                return
            self._connections += 1
            try:
                while await self._one_line(reader, writer, peer):
                    pass
            finally:
                self._connections -= 1
        except (OSError, TimeoutError):
            # The other side went away, or does not read, or does not end its line. `close` would wait for it.
            writer.transport.abort()
        except Exception:
            log.exception("control_connection_failed")  # a defect of ours: this connection pays
        finally:
            writer.close()

    async def _one_line(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Operator
    ) -> bool:
        """Whether another line may follow."""
        try:
            async with asyncio.timeout(self._line_s_max):
                line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return False
        except asyncio.LimitOverrunError:
            text = f"a request is one line of at most {REQUEST_BYTES_MAX} bytes"
            await self._write(writer, _error(None, ErrorCode.INVALID_REQUEST, text))
            return False
        if line.isspace():
            return True
        answer = await self._answer(line, peer)
        if answer is not None:
            await self._write(writer, answer)
        return True

    async def _write(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        async with asyncio.timeout(self._request_s_max):
            writer.write(answer + b"\n")
            await writer.drain()

    # --- JSON-RPC -------------------------------------------------------------------------------------------

    async def _answer(self, line: bytes, peer: Operator) -> bytes | None:
        try:
            said = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _error(None, ErrorCode.PARSE_ERROR, f"not JSON: {error}")
        if not isinstance(said, list):
            return await self._request(said, peer)
        if not 1 <= len(said) <= BATCH_MAX:
            return _error(None, ErrorCode.INVALID_REQUEST, f"a batch has 1 to {BATCH_MAX} requests")
        answers = [answer for one in said if (answer := await self._request(one, peer)) is not None]
        return b"[" + b",".join(answers) + b"]" if answers else None

    async def _request(self, said: object, peer: Operator) -> bytes | None:
        """The answer; None for a notification, which has no id and gets none (JSON-RPC 2.0 §4.1)."""
        if (
            not isinstance(said, dict)
            or said.get("jsonrpc") != "2.0"
            or not isinstance(said.get("method"), str)
        ):
            text = 'a request is an object with "jsonrpc": "2.0", "method" and "id"'
            return _error(_id_of(said), ErrorCode.INVALID_REQUEST, text)
        if "id" in said and not _is_id(said["id"]):
            return _error(None, ErrorCode.INVALID_REQUEST, '"id" is a text, a number or null')
        try:
            answer = await self._call(said["method"], said.get("params", {}), said.get("id"), peer)
        except CommandError as error:
            log.info("control_refused", method=said["method"][:64], code=error.code.value)
            answer = _error(said.get("id"), error.code, error.text)
        return answer if "id" in said else None

    async def _call(self, name: str, params: object, request_id: Id, peer: Operator) -> bytes:
        method = self._methods.get(name)
        if method is None:
            known = ", ".join(sorted(self._methods))
            raise CommandError(ErrorCode.METHOD_NOT_FOUND, f"there is no such method; there are {known}")
        if not isinstance(params, dict):
            raise CommandError(ErrorCode.INVALID_PARAMS, "parameters are given by name, as an object")
        try:
            checked = msgspec.convert(params, method.params)
        except msgspec.ValidationError as error:
            raise CommandError(ErrorCode.INVALID_PARAMS, str(error)) from None
        claimed = getattr(checked, "operator", None)
        operator = peer if claimed is None else Operator(claimed, peer.uid)
        within_s = method.within_s or self._request_s_max
        try:
            async with asyncio.timeout(within_s):
                result = await method.handle(checked, operator)
            answer = msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "result": result})
        except CommandError:
            raise
        except UnavailableError as error:
            raise CommandError(ErrorCode.BUSY, f"nothing was changed: {error}; the log has more") from error
        except TimeoutError:
            text = f"not done within {within_s:g} s; whether it was done later is not known"
            raise CommandError(ErrorCode.TIMED_OUT, text) from None
        except Exception as error:
            # A defect of ours, or a store that fails: this request pays, the calls go on.
            log.exception("control_failed", method=name)
            text = f"{type(error).__name__}: {error}; the log has more"
            raise CommandError(ErrorCode.INTERNAL_ERROR, text) from error
        if len(answer) >= ANSWER_BYTES_MAX:
            raise CommandError(ErrorCode.REFUSED, "the answer is too large: ask for fewer rows")
        done = log.debug if claimed is None else log.info  # a page that is open asks every two seconds
        done("control_done", method=name, uid=operator.uid)
        return answer


async def _peer(connection: socket.socket) -> Operator:
    """The user who opened the connection (unix(7): struct ucred is pid, uid, gid)."""
    _, uid, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Operator(await asyncio.to_thread(user_name, uid), uid)


def user_name(uid: int) -> str:
    # In a thread: a directory of users may be asked over the network.
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _is_id(value: object) -> bool:
    return value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))


def _id_of(said: object) -> Id:
    """The id of what is no request, if it can be told."""
    found = said.get("id") if isinstance(said, dict) else None
    return found if _is_id(found) else None


def _error(request_id: Id, code: ErrorCode, text: str) -> bytes:
    message = {"code": code.value, "message": _encodable(text)}
    if isinstance(request_id, str):
        request_id = _encodable(request_id)
    return msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "error": message})


def _encodable(text: str) -> str:
    """JSON text may name lone surrogates (`\\ud800`), which no UTF-8 can carry back."""
    return text.encode(errors="backslashreplace").decode()
