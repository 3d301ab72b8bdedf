"""Where profiles and sample decks are: beside the package in a clone, inside it once installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sidecar.config.problems import Findings, Where, nearest, quoted

_PACKAGE = Path(__file__).resolve().parent.parent
RESOLV_CONF = Path("/etc/resolv.conf")
SYSTEM_SETTINGS = Path("/etc/sidecar/sidecar.toml")
SYSTEM_DATA_DIR = Path("/var/lib/sidecar")


def packaged_profiles() -> Mapping[str, Path]:
    inside, beside = _PACKAGE / "sip_profiles", _PACKAGE.parent / "sip_profiles"
    return _files(inside if inside.is_dir() else beside, ".toml")


def packaged_decks() -> Mapping[str, Path]:
    return _files(_PACKAGE / "decks", ".csv")


def find_profile(written: str, folder: Path, where: Where, key: str, findings: Findings) -> Path | None:
    """A profile by name, or by path (relative to `folder`) where it has a `/` or ends in `.toml`."""
    if "/" in written or written.endswith(".toml"):
        return folder / written
    known = packaged_profiles()
    if written in known:
        return known[written]
    findings.error(
        where,
        key,
        f"there is no profile {quoted(written)} (ours: {', '.join(known)})",
        nearest(written, known),
    )
    return None


def _files(folder: Path, suffix: str) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob(f"*{suffix}"))}
