"""The embedded broker: Debian's Mosquitto as a child process, for a node that has no broker of its own.

Its configuration is generated into `data_dir/broker/`; it listens on loopback only, where anybody on this
machine may connect. Whoever has no password is refused; the ACL says what the others may. Passwords are made
at the first start and kept, so a subscriber's session outlives a restart. MQTT lets any client that knows
another's id push it out, so the node's own is as secret as its password.

It lives in its own session, so a Ctrl-C in the terminal reaches the daemon alone and the last records still
find a broker; and it dies with the daemon even if that is killed (`setpriv --pdeathsig`: the kernel sends the
signal). PR_SET_PDEATHSIG follows the *thread* that forked, so `start` and `watch` belong on the main thread's
event loop.

It is a convenience and not a promise: what Mosquitto acknowledged and then lost is replayed from the journal.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import ipaddress
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog

log = structlog.get_logger("sidecar.broker")

SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
PRIVATE = 0o077  # umask: for this user alone
NODE_USER = "_node"  # the node's own; no user of the settings begins so
READER = "reader"  # reads records, the status and events
HASH_ROUNDS = 101  # mosquitto_passwd's
LOG_BYTES_MAX = 10_000_000  # looked at when the broker starts; one older file is kept


class BrokerError(Exception):
    """The broker could not be started; the text says what to do."""


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True):
    directory: Path  # data_dir/broker
    host: str = "127.0.0.1"  # a loopback address: the listener has no TLS
    port: int = 0  # 0: the port of the last start if it is free, else any free one
    ready_timeout_s: float = 10.0
    stop_timeout_s: float = 5.0
    extra: tuple[str, ...] = ()  # further lines of mosquitto.conf
    # With an ACL nobody but NODE_USER, READER and these users may connect, each with a password of its own
    # (see `password_file`), to do what the ACL says. Without one everybody may do everything.
    acl: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    # Mosquitto writes its whole store each time: after so many changes, and when we ask. Saving every change
    # was measured at 72 messages/s with 5000 waiting for an absent subscriber, this at 5800.
    autosave_changes: int = 1_000
    save_interval_s: float = 30.0

    def __post_init__(self) -> None:
        if not ipaddress.ip_address(self.host).is_loopback:
            raise ValueError(
                f"the embedded broker has no TLS and listens on loopback only, not on {self.host}"
            )


class EmbeddedBroker:
    """`start`, then `watch` as a task (cancel it first), then `stop`.

    A Mosquitto that is killed forgets what it had not saved: messages, and also who was subscribed, whose
    session then misses everything until it subscribes again. `watch` has it saved every `save_interval_s`.
    """

    def __init__(
        self, settings: BrokerSettings, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        self._settings = settings
        self._sleep = sleep
        self._child: subprocess.Popen[bytes] | None = None
        self.port = settings.port
        self.restarts = 0
        self._restarted = asyncio.Condition()

    @property
    def host(self) -> str:
        return self._settings.host

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    async def start(self) -> None:
        """Returns when the broker accepts connections. Raises BrokerError."""
        directory = self._settings.directory
        try:
            for folder in (*reversed(directory.parents), directory):
                folder.mkdir(mode=0o700, exist_ok=True)
            await self._end_leftover()
            self._turn_log()
        except OSError as error:
            raise BrokerError(f"{error.filename or directory}: {error.strerror}") from None
        for attempts_left in (4, 3, 2, 1, 0):
            self.port = self._settings.port or self._free_port()
            try:
                await self._launch()
                break
            except BrokerError:
                # Between our look and Mosquitto's bind another process may have taken a free port.
                if self._settings.port or attempts_left == 0 or _can_listen(self.host, self.port):
                    raise
        _write(directory / "port", f"{self.port}\n")

    async def watch(self) -> None:
        """Start the broker again whenever it dies, on the same port. Ends only by being cancelled."""
        delay_s = 0.1
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            if self._child is not None:
                status = await self._exited_while_saving(self._child)
                self._child = None
                log.error("broker_died", status=status, log=str(self._settings.directory / "mosquitto.log"))
            if loop.time() - began_s > 30:
                delay_s = 0.1
            await self._sleep(delay_s)
            delay_s = min(delay_s * 2, 5.0)
            try:
                await self._launch()
                async with self._restarted:
                    self.restarts += 1
                    self._restarted.notify_all()
                log.info("broker_restarted", host=self.host, port=self.port)
            except (BrokerError, OSError) as error:
                log.error("broker_not_restarted", error=str(error))

    async def started_again(self, after_restarts: int) -> None:
        """Wait until `watch` has started the broker more than so many times."""
        async with self._restarted:
            await self._restarted.wait_for(lambda: self.restarts > after_restarts)

    def save(self) -> None:
        """Have Mosquitto write its store now (mosquitto(8): SIGUSR1)."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGUSR1)

    async def stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        await _end(child, self._settings.stop_timeout_s)
        (self._settings.directory / "mosquitto.pid").unlink(missing_ok=True)

    async def _exited_while_saving(self, child: subprocess.Popen[bytes]) -> int:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.save_interval_s):
                    return await _exited(child)
            self.save()

    async def _launch(self) -> None:
        directory = self._settings.directory
        config_path = directory / "mosquitto.conf"
        if self._settings.acl:
            self._write_access()
        _write(config_path, config_text(self._settings, self.port))
        command = [_find("setpriv", "util-linux"), "--pdeathsig", "TERM", "--"]
        command += [_find("mosquitto", "mosquitto"), "-c", str(config_path)]
        # Mosquitto says READY=1 to the service manager once its listeners are open: sd_notify(3). The name is
        # abstract, so no length limit of a path applies, and nothing has to be removed.
        name = f"sidecar-broker-{secrets.token_hex(8)}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.bind(b"\0" + name.encode())
            notices.setblocking(False)
            child = _spawn(command, directory, {"NOTIFY_SOCKET": f"@{name}", "PATH": SEARCH_PATH})
            try:
                await self._until_ready(child, notices)
            except BaseException:
                await _end(child, 0.0)
                self._child = None
                raise
        self._child = child

    def password_file(self, user: str) -> Path:
        """Its first line is the password, made at the first start."""
        return self._settings.directory / f"{user}.password"

    @property
    def readers(self) -> tuple[str, ...]:
        """Users that may read records; the first may do nothing else."""
        return tuple(dict.fromkeys((READER, *self._settings.users)))

    def client_id(self) -> str:
        """The node's."""
        secret = self.password_file(NODE_USER).read_bytes()
        return f"sidecar-{hashlib.sha256(b'client id' + secret).hexdigest()[:24]}"

    def _write_access(self) -> None:
        lines = []
        for user in (NODE_USER, *self.readers):
            file = self.password_file(user)
            if not file.exists():
                _write(file, f"{secrets.token_urlsafe(24)}\n")
            lines.append(f"{user}:{password_hash(file.read_text('utf-8').splitlines()[0])}")
        _write(self._settings.directory / "passwords", "\n".join(lines) + "\n")
        _write(self._settings.directory / "acl", "\n".join(self._settings.acl) + "\n")

    async def _until_ready(self, child: subprocess.Popen[bytes], notices: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        news = asyncio.Event()
        pidfd = os.pidfd_open(child.pid)
        loop.add_reader(notices, news.set)
        loop.add_reader(pidfd, news.set)
        what = "did not become ready"
        try:
            async with asyncio.timeout(self._settings.ready_timeout_s):
                while child.poll() is None:
                    await news.wait()
                    news.clear()
                    if _says_ready(notices):
                        await _answers(self.host, self.port)
                        return
                what = f"ended with status {child.returncode}"
        except (TimeoutError, OSError):
            pass
        finally:
            loop.remove_reader(notices)
            loop.remove_reader(pidfd)
            os.close(pidfd)
        if not _can_listen(self.host, self.port):
            what += f"; {self.host}:{self.port} is in use"
        raise BrokerError(f"mosquitto {what}: {self._last_words()}")

    def _last_words(self) -> str:
        for name in ("stderr.log", "mosquitto.log"):
            path = self._settings.directory / name
            with contextlib.suppress(OSError):
                lines = path.read_text(errors="backslashreplace").splitlines()[-3:]
                if lines:
                    return f"{path}: {' | '.join(lines)}"
        return f"nothing in {self._settings.directory / 'mosquitto.log'}"

    def _free_port(self) -> int:
        """The last port again if it is free, so that subscribers find the broker where it was."""
        with contextlib.suppress(OSError, ValueError):
            last = int((self._settings.directory / "port").read_text())
            if 1024 <= last <= 65_535 and _can_listen(self.host, last):
                return last
        with socket.socket(_family(self.host)) as probe:
            probe.bind((self.host, 0))
            return int(probe.getsockname()[1])

    def _turn_log(self) -> None:
        path = self._settings.directory / "mosquitto.log"
        if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))

    async def _end_leftover(self) -> None:
        """End a broker of ours that outlived its daemon (killed between fork and prctl, or stopped by
        SIGSTOP): two would write one store."""
        directory = self._settings.directory
        try:
            pid = int((directory / "mosquitto.pid").read_text())
            pidfd = os.pidfd_open(pid)
        except (OSError, ValueError):
            return
        try:
            # Looked at after the pidfd is open: from here on no other process can be mistaken for it.
            if not _was_given(pid, directory / "mosquitto.conf"):
                return
            log.warning("broker_leftover_ended", pid=pid)
            for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(pidfd, number)
                if number is not signal.SIGCONT and await _pidfd_ended(pidfd, self._settings.stop_timeout_s):
                    return
        except (OSError, ProcessLookupError):
            return
        finally:
            os.close(pidfd)


def config_text(settings: BrokerSettings, port: int) -> str:
    directory = settings.directory
    # Started as root, Mosquitto becomes `mosquitto` unless told otherwise, and could not write into our
    # directory.
    user = pwd.getpwuid(os.geteuid()).pw_name
    lines = [
        "# Made by the sidecar at every start; changes here are lost.",
        f"user {user}",
        f"listener {port} {settings.host}",
        f"allow_anonymous {'false' if settings.acl else 'true'}",
        "set_tcp_nodelay true",
        "max_queued_messages 1000000",
        "max_inflight_messages 1000",
        "persistence true",
        f"persistence_location {directory}/",
        "autosave_on_changes true",
        f"autosave_interval {settings.autosave_changes}",
        f"log_dest file {directory / 'mosquitto.log'}",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
        "connection_messages false",
        *settings.extra,
    ]
    if settings.acl:
        lines += [f"password_file {directory / 'passwords'}", f"acl_file {directory / 'acl'}"]
    return "\n".join(lines) + "\n"


def password_hash(password: str) -> str:
    """As mosquitto_passwd writes it: PBKDF2 with SHA-512. The passwords are random, so few rounds do."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, HASH_ROUNDS)
    return f"$7${HASH_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def _was_given(pid: int, argument: Path) -> bool:
    return os.fsencode(argument) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def _find(program: str, package: str) -> str:
    path = shutil.which(program, path=SEARCH_PATH)
    if path is None:
        raise BrokerError(
            f"{program} is not installed (looked in {SEARCH_PATH}): apt-get install {package}, "
            "or name a broker of your own in [mqtt]"
        )
    return path


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _can_listen(host: str, port: int) -> bool:
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as Mosquitto does: TIME_WAIT is no listener
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _spawn(command: list[str], directory: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Without a preexec_fn Python uses vfork: quick and safe in a process that has threads and much
    memory."""
    _write(directory / "stderr.log", "")
    with (directory / "stderr.log").open("ab") as stderr:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            env=environment,
            start_new_session=True,
            umask=PRIVATE,  # messages are call records
        )
    _write(directory / "mosquitto.pid", f"{child.pid}\n")
    return child


def _write(path: Path, text: str) -> None:
    """In a file for this user alone, whatever the umask and whatever was there."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o666 & ~PRIVATE, exist_ok=False)
    path.write_text(text, "utf-8")


def _says_ready(notices: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        while True:
            if b"READY=1" in notices.recv(4096).split(b"\n"):
                return True
    return False


async def _answers(host: str, port: int) -> None:
    """Wait for an answer. Mosquitto says READY=1 just before its main loop, and forgets a SIGTERM that comes
    in between (its handler sets `run = 0`, the next line of main `run = 1`): an answer shows that it is past
    that."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        # CONNECT: protocol MQTT 5, clean start, no keep-alive, no properties, an empty client id.
        writer.write(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00")
        await reader.readexactly(1)
    except EOFError:
        raise OSError("the broker closed the connection") from None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _pidfd_ended(pidfd: int, timeout_s: float | None) -> bool:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(timeout_s):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
    return True


async def _exited(child: subprocess.Popen[bytes]) -> int:
    if child.poll() is None:
        pidfd = os.pidfd_open(child.pid)  # ours to reap, so the pid is not reused before `wait`
        try:
            await _pidfd_ended(pidfd, None)
        finally:
            os.close(pidfd)
    return child.wait()


async def _end(child: subprocess.Popen[bytes], term_timeout_s: float) -> None:
    if child.poll() is None and term_timeout_s > 0:
        child.terminate()
        child.send_signal(signal.SIGCONT)  # a stopped process would keep the SIGTERM waiting
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(term_timeout_s):
                await _exited(child)
    if child.poll() is None:
        child.kill()
    await _exited(child)
