"""runtime.py: prints the part of requirements.lock that an installed product needs, hashes and all, by what
the packages in this environment say they depend on. No compiler, no test tool is in it."""

from __future__ import annotations

import re
import sys
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PRODUCT = Requirement("sip-billing-sidecar[node,parquet,postgresql,subscriber,web]")
LOCK = Path(__file__).with_name("requirements.lock")


def needed(one: Requirement, found: set[str]) -> None:
    """Adds what `one` depends on here, with its extras, and what that depends on."""
    for extra in ("", *one.extras):
        for line in requires(one.name) or ():
            below = Requirement(line)
            if below.marker is not None and not below.marker.evaluate({"extra": extra}):
                continue
            key = f"{canonicalize_name(below.name)}[{','.join(sorted(below.extras))}]"
            if key not in found:
                found.add(key)
                needed(below, found)


def main() -> None:
    found: set[str] = set()
    needed(PRODUCT, found)
    names = {key.split("[")[0] for key in found}
    blocks = re.split(r"^(?=[a-z0-9])", LOCK.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    by_name = {re.split(r"==", block)[0].split("[")[0]: block for block in blocks}
    if missing := names - by_name.keys():
        sys.exit(f"not in {LOCK.name}: {', '.join(sorted(missing))}")
    sys.stdout.writelines(by_name[name] for name in sorted(names))


if __name__ == "__main__":
    main()
