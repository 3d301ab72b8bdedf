"""Where the books are: what does not go together is named, with file, line and key, and no secret with it."""

from __future__ import annotations

import pytest

from tests.config.support import Start

POSTGRESQL = "[store]\nengine = 'postgresql'\ndsn_file = 'dsn'\n"
HERE = "host=127.0.0.1 dbname=books user=node password=hunter2"
WRONG = "is no connection string as libpq takes it: `host=... dbname=... user=...`, or `postgresql://...`"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("[store]\nengine = 'mysql'\n", "2: store.engine: "),
        (
            "[store]\nengine = 'postgresql'\n",
            "2: store.dsn_file: postgresql needs a file with its",
        ),
        ("[store]\ndsn_file = 'dsn'\n", "2: store.dsn_file: is of a PostgreSQL database: set store.engine"),
        ("[web]\ndsn_file = 'dsn'\n", "2: web.dsn_file: is of a PostgreSQL database: set store.engine"),
        (f"{POSTGRESQL}[web]\ndsn_file = 'no'\n", "5: web.dsn_file: there is no file no"),
        ("[store]\nengine = 'postgresql'\ndsn_file = 'no'\n", "3: store.dsn_file: there is no file no"),
        (f"{POSTGRESQL}lease_s = 3\n[timers]\nheartbeat_s = 2\n", "4: store.lease_s: is over between two"),
    ],
)
def test_what_does_not_go_with_the_engine_is_an_error(start: Start, settings: str, expected: str) -> None:
    file = start.folder / "dsn"
    file.write_text(HERE)
    file.chmod(0o600)
    [shown] = start.shown(start.problems(settings))
    assert shown.startswith(f"sidecar.toml:{expected}")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "dsn: its first line is empty: it is the connection string"),
        (b"\nhost=127.0.0.1\n", "dsn: its first line is empty: it is the connection string"),
        (b"hunter2", f"dsn: its first line {WRONG}"),
        (b"host=127.0.0.1 hunter2=hunter2", f"dsn: its first line {WRONG}"),
        (b"postgresql://u:hunter2@[127.0.0.1/books", f"dsn: its first line {WRONG}"),
        (b"host=\xff password=hunter2", "dsn: is not UTF-8"),
    ],
)
def test_what_is_no_connection_string_is_an_error_that_does_not_show_it(
    start: Start, content: bytes, expected: str
) -> None:
    (start.folder / "dsn").write_bytes(content)
    (start.folder / "dsn").chmod(0o600)
    assert start.shown(start.problems(POSTGRESQL)) == [f"sidecar.toml:3: store.dsn_file: {expected}"]


@pytest.mark.parametrize(
    ("dsn", "is_warned"),
    [
        (HERE, False),
        ("dbname=books", False),
        ("host=/run/postgresql dbname=books", False),
        ("postgresql://node:hunter2@localhost/books", False),
        ("host=db.example.net dbname=books", True),
        ("host=127.0.0.1,db.example.net dbname=books", True),
        ("hostaddr=192.0.2.1 dbname=books sslmode=require", True),
        ("host=db.example.net dbname=books sslmode=verify-full sslrootcert=ca.pem", False),
    ],
)
def test_a_server_on_another_machine_is_to_be_proved(start: Start, dsn: str, is_warned: bool) -> None:
    (start.folder / "dsn").write_text(f"{dsn}\nwhat comes after the first line is not read\n")
    (start.folder / "dsn").chmod(0o600)
    text = "dsn: the server is not proved to be ours, and what goes to it may go in the clear"
    found = start.shown(start.load(POSTGRESQL).warnings)
    ends = ": add sslmode=verify-full and sslrootcert=FILE"
    assert found == ([f"sidecar.toml:3: store.dsn_file: {text}{ends}"] if is_warned else [])
