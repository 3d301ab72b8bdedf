from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.b2bua.settings import TlsFiles
from tests.b2bua.authority import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "other")


@pytest.fixture
def ours(tmp_path: Path, authority: Authority) -> TlsFiles:
    """The bridge's own, in a folder of their own."""
    copies = []
    for name, file in zip(("pem", "key"), authority.sign("sidecar.example"), strict=True):
        copy = tmp_path / f"ours.{name}"
        copy.write_bytes(Path(file).read_bytes())
        copy.chmod(0o600)
        copies.append(str(copy))
    return TlsFiles(certificate=copies[0], private_key=copies[1], ca=authority.certificate)


@pytest.fixture
def third(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "third")
