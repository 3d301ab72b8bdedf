from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.config.crosscheck import web_fault
from sidecar.config.settings import Web

OPEN = ("192.0.2.1", 8080)
FILES = Web(listen=OPEN, certificate_file=Path("c.pem"), key_file=Path("k.pem"))


@pytest.mark.parametrize(
    ("web", "setting"),
    [
        (Web(), None),
        (Web(listen=("127.0.0.1", 8080)), None),
        (Web(listen=Path("/run/page.sock"), user_header="X-User"), None),
        (Web(listen=Path("/run/page.sock"), proxies=("10.0.0.1",)), "web.proxies"),
        (Web(listen=OPEN), "web.listen"),
        (Web(listen=("::", 8080)), "web.listen"),
        (FILES, None),
        (Web(listen=OPEN, proxies=("192.0.2.7/32",), user_header="X-User"), None),
        (replace(FILES, user_header="X-User"), "web.user_header"),
        (Web(certificate_file=Path("c.pem")), "web.certificate_file"),
    ],
)
def test_no_password_goes_in_the_clear_and_nobody_says_himself_who_he_is(
    web: Web, setting: str | None
) -> None:
    fault = web_fault(web)
    assert (fault[0] if fault is not None else None) == setting
