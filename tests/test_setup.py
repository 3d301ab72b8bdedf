"""What set-up promises: both native modules load in an empty environment, into one and the same pjsip."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
SETUP = REPO / "sidecar/setup"
PJPROJECT = REPO / "sidecar/b2bua/pjproject"


def run(command: Sequence[str | Path], *, env: dict[str, str], cwd: Path = Path("/")) -> str:
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(code: str, *, cwd: Path = Path("/")) -> list[str]:
    """The lines printed by a Python that inherits nothing, as under `env -i`."""
    return run([sys.executable, "-c", code], env=sanitizer_environment(), cwd=cwd).splitlines()


def sanitizer_environment() -> dict[str, str]:
    """What a sanitizer build cannot do without; otherwise nothing."""
    return {name: os.environ[name] for name in ("LD_PRELOAD", "ASAN_OPTIONS") if name in os.environ}


def loaded_pj_libraries() -> set[Path]:
    lines = python(
        "import pjsua2, sidecar.b2bua._bridge\n"
        "for line in open('/proc/self/maps'):\n"
        "    if '/libpj' in line: print(line.split(maxsplit=5)[5].strip())"
    )
    return {Path(line) for line in lines}


@pytest.mark.parametrize("cwd", [Path("/"), REPO], ids=["from-the-root", "from-the-clone"])
@pytest.mark.parametrize("module", ["pjsua2", "sidecar.b2bua._bridge"])
def test_native_modules_load_in_an_empty_environment(module: str, cwd: Path) -> None:
    assert python(f"import {module}; print('loaded')", cwd=cwd) == ["loaded"]


def test_pjsua2_works_and_ends_where_warnings_are_errors() -> None:
    """As under pytest. SWIG's own types are made at import, with the first object, and at exit."""
    run(
        [sys.executable, "-W", "error", "-c", "import pjsua2; pjsua2.EpConfig()"], env=sanitizer_environment()
    )


def test_both_modules_share_one_pjsip() -> None:
    """Two copies would have two endpoints, and the bridge would never see a call."""
    names = sorted(library.name for library in loaded_pj_libraries())
    assert [name for name in names if name.startswith("libpj.so")] == ["libpj.so.2"]
    assert len(names) == len(set(names))
    assert len({library.parent for library in loaded_pj_libraries()}) == 1


def test_every_pj_library_finds_its_siblings_beside_itself() -> None:
    folder = next(iter(loaded_pj_libraries())).parent
    libraries = sorted(folder.glob("*.so"))
    assert {"libpj.so", "libpjsip.so", "libpjsua2.so"} <= {library.name for library in libraries}
    for library in libraries:
        dynamic = run(["readelf", "-d", library], env={"PATH": os.defpath})
        assert re.search(r"\(RUNPATH\).*\[\$ORIGIN\]", dynamic), library


def test_the_engine_is_new_enough_and_says_which_build_it_is() -> None:
    version, build = python(
        "import sidecar.b2bua._bridge as bridge\nprint(bridge.pj_version())\nprint(bridge.PJ_BUILD)"
    )
    assert tuple(int(part) for part in version.split(".")[:2]) >= (2, 17)
    written = (next(iter(loaded_pj_libraries())).parent.parent / "BUILD").read_text()
    assert f"build={build}\n" in written
    assert f"version={version.removesuffix('-dev')}\n" in written


def test_a_source_below_the_floor_is_refused_with_the_reason(tmp_path: Path) -> None:
    source = tmp_path / "pjproject-2.16"
    source.mkdir()
    (source / "version.mak").write_text(
        "export PJ_VERSION_MAJOR  := 2\nexport PJ_VERSION_MINOR  := 16\nexport PJ_VERSION_REV    :=\n"
    )
    tarball = tmp_path / "pjproject-2.16.tar.gz"
    subprocess.run(["tar", "-czf", tarball, "-C", tmp_path, source.name], check=True)
    done = subprocess.run(
        [PJPROJECT / "build.sh"],
        env={
            "PATH": os.defpath,
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "PJPROJECT_TARBALL": str(tarball),
            "PYTHON": sys.executable,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "2.17 or newer is needed" in done.stderr
    assert "PJPROJECT_TARBALL=" in done.stderr
    assert done.stdout == ""


def test_the_lock_pins_every_dependency_and_names_no_index() -> None:
    lock = (SETUP / "requirements.lock").read_text()
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))
    assert "://" not in lock
    blocks = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    every = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    wanted = {re.split(r"[^a-z0-9-]", dependency)[0] for dependency in every}
    assert wanted <= pinned.keys()
    assert pinned["aiomqtt"] == "2.5.1"


@pytest.mark.parametrize("program", ["mosquitto", "sipp", "kamailio", "baresip"])
def test_the_programs_that_tests_drive_are_there(program: str) -> None:
    folders = (*os.environ["PATH"].split(os.pathsep), "/usr/sbin")
    assert any(Path(folder, program).exists() for folder in folders)


def test_apt_is_left_alone_when_nothing_is_missing() -> None:
    assert run([SETUP / "apt.sh", "tests"], env={"PATH": os.defpath}) == ""
