"""A biller installs the subscriber alone: a wheel without the native module, and what the extra needs."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent
# Runs with nothing but the wheel and what pyproject lists: any other import is refused.
ALONE = """
import sys
allowed, wheel = set(sys.argv[1].split(",")), sys.argv[2]

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        known = top in allowed or top in sys.stdlib_module_names or top == "sidecar"
        if not known and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

# Python's own finders are classes; that of an editable install is not.
sys.meta_path[:] = [Refuse(), *(finder for finder in sys.meta_path if isinstance(finder, type))]
sys.path[:] = [wheel, *(place for place in sys.path if place)]
import sidecar.subscriber
from sidecar.subscriber.sinks.json_lines import JsonLinesSink
assert sidecar.__file__.startswith(wheel), sidecar.__file__
from sidecar.cli import app
app(sys.argv[3:])
"""
# What they bring themselves.
BROUGHT = {
    "pydantic",
    "pydantic_core",
    "annotated_types",
    "typing_inspection",
    "click",
    "typing_extensions",
    "annotated_doc",
    "shellingham",
    "rich",
    "colorama",
}


def wheel(folder: Path) -> Path:
    subprocess.run(
        (
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "-w",
            str(folder),
            str(REPO),
        ),
        env=os.environ | {"SIDECAR_PURE": "1", "PATH": os.defpath, "PIP_CONFIG_FILE": os.devnull},
        check=True,
        capture_output=True,
    )
    (made,) = folder.glob("*.whl")
    return made


def alone(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["subscriber"]]
    names = {one.split("=")[0].rstrip("<>!~ ").removesuffix("-mqtt") for one in needed}
    return subprocess.run(
        (sys.executable, "-I", "-c", ALONE, ",".join(names | BROUGHT), str(place), *words),
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
    )


def test_the_wheel_without_native_parts_subscribes_with_the_extra_alone(tmp_path: Path) -> None:
    made = wheel(tmp_path)
    assert made.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(made) as content:
        assert not [name for name in content.namelist() if name.endswith((".so", ".cpp", ".hpp"))]
        content.extractall(tmp_path / "wheel")
    done = alone(tmp_path / "wheel", "subscribe", "--help")
    assert (done.returncode, "--json-lines" in done.stdout) == (0, True), done.stderr
    # It goes as far as the broker, which is not there.
    done = alone(tmp_path / "wheel", "subscribe", "127.0.0.1:1", "--json-lines", "/nowhere/records")
    assert (done.returncode, "/nowhere/" in done.stderr) == (1, True), done.stderr
    # What it leaves out is said by its name.
    done = alone(tmp_path / "wheel", "subscribe", "127.0.0.1:1", "--postgresql", "dbname=x")
    assert (done.returncode, "psycopg is missing" in done.stderr) == (2, True), done.stderr
