"""Profiles and decks are found in a clone, and in the package once it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from sidecar.config import places
from sidecar.config.problems import Findings, Where

REPO = Path(__file__).parents[2]
NAMES = ["beside-kamailio", "between-two-gateways", "demo", "loopback"]


def test_a_clone_has_its_profiles_at_the_top() -> None:
    assert list(places.packaged_profiles()) == NAMES
    assert places.packaged_profiles()["demo"] == REPO / "sip_profiles" / "demo.toml"
    assert list(places.packaged_decks()) == ["demo", "retail", "wholesale"]


def test_an_installed_package_has_its_profiles_inside(tmp_path: Path) -> None:
    """As pyproject.toml lays the wheel out."""
    shutil.copytree(
        REPO / "sidecar", tmp_path / "sidecar", ignore=shutil.ignore_patterns("__pycache__", "native")
    )
    shutil.copytree(REPO / "sip_profiles", tmp_path / "sidecar" / "sip_profiles")
    program = "from sidecar.config import places; print(*places.packaged_profiles().values(), sep='\\n')"
    search = [str(tmp_path), *(path for path in sys.path if path.endswith("site-packages"))]
    # -S: the finder of an editable install would lead back to the clone.
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(search)},
    )
    inside = tmp_path / "sidecar" / "sip_profiles"
    assert done.stdout.splitlines() == [str(inside / f"{name}.toml") for name in NAMES]


def test_a_word_is_a_name_and_a_path_is_a_path() -> None:
    findings, where = Findings(), Where("environment")
    assert (
        places.find_profile("demo", Path("/x"), where, "key", findings) == places.packaged_profiles()["demo"]
    )
    assert places.find_profile("./demo", Path("/x"), where, "key", findings) == Path("/x/demo")
    assert places.find_profile("demo.toml", Path("/x"), where, "key", findings) == Path("/x/demo.toml")
    assert places.find_profile("/y/demo.toml", Path("/x"), where, "key", findings) == Path("/y/demo.toml")
    assert list(findings.errors) == []
    assert places.find_profile("dmo", Path("/x"), where, "key", findings) is None
    assert [problem.suggestion for problem in findings.errors] == ["demo"]
