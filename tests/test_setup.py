"""What set-up promises: both native modules load in an empty environment, into one and the same pjsip."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

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


def built(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What build.sh says where its cache has one source: small, and none that can be built."""
    source = tmp_path / "pjproject-2.99"
    cached = tmp_path / "cache/sidecar/pjproject/source"
    source.mkdir()
    cached.mkdir(parents=True)
    (source / "version.mak").write_text(
        "export PJ_VERSION_MAJOR  := 2\nexport PJ_VERSION_MINOR  := 99\nexport PJ_VERSION_REV    :=\n"
    )
    tarball = cached / "pjproject-2.99.tar.gz"
    subprocess.run(["tar", "-czf", tarball, "-C", tmp_path, source.name], check=True)
    return subprocess.run(
        [PJPROJECT / "build.sh"],
        env={
            "PATH": os.defpath,
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "PYTHON": sys.executable,
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_source_of_unknown_hash_is_refused_with_the_way_out(tmp_path: Path) -> None:
    done = built(tmp_path)
    assert done.returncode == 1
    assert "is not in sidecar/b2bua/pjproject/sources.sha256" in done.stderr
    assert "make PJPROJECT_UNTRIED=1 ..." in done.stderr
    assert "Building" not in done.stderr


def test_a_source_of_unknown_hash_is_built_where_that_is_asked_for(tmp_path: Path) -> None:
    done = built(tmp_path, PJPROJECT_UNTRIED="1")
    assert done.returncode == 1  # it is none
    assert "was never tried with this product" in done.stderr
    assert "Building pjproject 2.99" in done.stderr


def stand_in(cache: Path, **more: str) -> tuple[Path, Path]:
    """Our own build, as far as build.sh looks at it, in another cache; and the source that it is of."""
    own = Path((Path(sys.prefix) / ".made-pjsua2").read_text().strip())
    prefix = cache / "sidecar/pjproject" / own.name
    prefix.mkdir(parents=True)
    written = dict(line.split("=", 1) for line in (own / "BUILD").read_text().splitlines())
    (prefix / "BUILD").write_text("".join(f"{key}={value}\n" for key, value in {**written, **more}.items()))
    given = os.environ.get("PJPROJECT_TARBALL")
    for source in [Path(given)] if given else (own.parent / "source").iterdir():
        if hashlib.sha256(source.read_bytes()).hexdigest() == written["tarball_sha256"]:
            return prefix, source
    raise AssertionError(f"the source of {own} is no longer in the cache")


def looked_up(program: Path, cache: Path, **environment: str) -> tuple[str, str]:
    """What build.sh prints, and what it says."""
    done = subprocess.run(
        [program],
        env={
            "PATH": os.defpath,
            "XDG_CACHE_HOME": str(cache),
            "PYTHON": sys.executable,
            **({"PJ_SANITIZE": "1"} if "-sanitize" in sys.prefix else {}),
            **environment,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), done.stderr


def test_an_old_build_is_told_with_its_age_and_its_compiler(tmp_path: Path) -> None:
    prefix, source = stand_in(tmp_path, compiler="cc 99")
    os.utime(prefix / "BUILD", (0, 0))
    found, said = looked_up(PJPROJECT / "build.sh", tmp_path, PJPROJECT_TARBALL=str(source))
    assert found == str(prefix)
    assert re.search(r"built \d{5} days ago, by cc 99", said)


def test_where_debian_has_gone_on_the_tried_source_comes_from_its_snapshots(tmp_path: Path) -> None:
    prefix, source = stand_in(tmp_path / "cache")
    recipe = tmp_path / "recipe"
    shutil.copytree(PJPROJECT, recipe)
    # Debian's of another day: `fetch.sh` alone is not the real one.
    other = tmp_path / "asterisk.orig-Xpjproject.tar.gz"
    tree = tmp_path / "pjproject-2.99"
    tree.mkdir()
    (tree / "version.mak").write_text("PJ_VERSION_MAJOR := 2\nPJ_VERSION_MINOR := 99\n")
    subprocess.run(["tar", "-czf", other, "-C", tmp_path, tree.name], check=True)
    (recipe / "fetch.sh").write_text(f'#!/bin/sh\necho "{other}"\n')
    files = tmp_path / "files"
    files.mkdir()
    shutil.copy(source, files / hashlib.sha1(source.read_bytes(), usedforsecurity=False).hexdigest())
    found, said = looked_up(recipe / "build.sh", tmp_path / "cache", PJPROJECT_SNAPSHOT=files.as_uri())
    assert found == str(prefix)
    assert "Debian has another pjproject now (2.99)" in said


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


def test_the_bill_of_materials_names_every_python_package_and_what_is_built_or_loaded_beside(
    tmp_path: Path,
) -> None:
    """Of this venv; `make package-test` compares that of the package with what it installs."""
    out = tmp_path / "sbom.json"
    run([sys.executable, SETUP / "sbom.py", sys.prefix, out], env={"PATH": os.environ["PATH"]})
    bom = json.loads(out.read_text())
    found = {one["bom-ref"]: one for one in bom["components"]}
    here = {canonicalize_name(one.name): one.version for one in distributions()}
    product = here.pop(canonicalize_name("sip-billing-sidecar"))
    assert bom["metadata"]["component"]["version"] == product
    assert {ref: one["version"] for ref, one in found.items() if ref.startswith("python:")} == {
        f"python:{name}": version for name, version in here.items()
    }
    (msgpack,) = found["python:msgpack"]["externalReferences"]
    assert {one["alg"] for one in msgpack["hashes"]} == {"SHA-256"}
    prefix = Path((Path(sys.prefix) / ".made-pjsua2").read_text().strip())
    build = dict(line.split("=", 1) for line in (prefix / "BUILD").read_text().splitlines())
    assert found["pjproject"]["hashes"] == [{"alg": "SHA-256", "content": build["tarball_sha256"]}]
    assert {"npm:htmx.org", "npm:uplot"} < found.keys()
    assert "npm:axe-core" not in found  # tests alone load it
    (tree,) = (one for one in bom["dependencies"] if one["ref"] == "python:uvicorn")
    assert {"python:click", "python:h11"} <= set(tree["dependsOn"])
