"""sbom.py LIB OUT [DEB]: writes what an installed product is made of, as CycloneDX 1.6 (JSON), to OUT.

LIB is its own folder (lib/sidecar), DEB the package that brings it. In the list: the Python packages of its
venv, with the hashes under which pip took them; pjproject, with that of its source; what the page loads in a
browser; files that were compiled here; and the Debian packages that DEB depends on, as this machine has them.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

SETUP = Path(__file__).parent
PAGE = SETUP.parent / "web" / "node" / "package-lock.json"
PRODUCT = canonicalize_name("sip-billing-sidecar")
PJSUA2 = canonicalize_name("pjsua2")
LICENCE = "GPL-3.0-or-later"

Locked = dict[tuple[str, str], list[str]]  # hashes by name and version


def main(lib: Path, out: Path, deb: Path | None) -> None:
    (site,) = lib.glob("lib/python3*/site-packages")
    found = {canonicalize_name(one.name): one for one in distributions(path=[str(site)])}
    product = Component(
        type=ComponentType.APPLICATION,
        name="sidecar" if deb else PRODUCT,
        version=_field(deb, "Version") if deb else found[PRODUCT].version,
        bom_ref="sidecar",
        licenses=[LicenseFactory().make_from_string(LICENCE)],
        hashes=[_sha256(deb)] if deb else (),
    )
    bom = Bom()
    bom.metadata.component = product
    locked = _locked()
    python = {name: _python(name, one, locked) for name, one in found.items() if name != PRODUCT}
    beside = [_pjproject(found[PJSUA2]), *_page(), *_compiled(lib), *(_debian(deb) if deb else ())]
    for component in (*python.values(), *beside):
        bom.components.add(component)
    bom.register_dependency(product, [*python.values(), *beside])
    for name, component in python.items():
        bom.register_dependency(
            component, [python[below] for below in _needs(found[name]) if below in python]
        )
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    if wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"sbom: {wrong}")
    out.write_text(text + "\n", encoding="utf-8")


def _needs(one: Distribution) -> set[NormalizedName]:
    return {canonicalize_name(Requirement(line).name) for line in one.requires or ()}


def _python(name: str, one: Distribution, locked: Locked) -> Component:
    fields = [one.metadata[key] for key in ("License-Expression", "License") if key in one.metadata]
    licence = fields[0] if fields else ""
    known = (line for line in one.metadata.get_all("Classifier", ()) if line.startswith("License ::"))
    if not licence or "\n" in licence:  # some put the whole text there
        licence = next(known, "").rpartition(" :: ")[2]
    url = PackageURL("pypi", None, name, one.version) if name != PJSUA2 else None
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=one.version,
        bom_ref=f"python:{name}",
        purl=url,
        licenses=[LicenseFactory().make_from_string(licence)] if licence else (),
        external_references=_of_the_lock(name, one.version, locked),
    )


def _locked() -> Locked:
    lock = (SETUP / "requirements.lock").read_text(encoding="utf-8")
    blocks = re.finditer(r"^([a-z0-9-]+)(?:\[.*\])?==(\S+) .*\n(?:    .*\n)*", lock, re.MULTILINE)
    return {(one[1], one[2]): re.findall(r"--hash=sha256:([0-9a-f]{64})", one[0]) for one in blocks}


def _of_the_lock(name: str, version: str, locked: Locked) -> Sequence[ExternalReference]:
    """pip takes a file of these hashes alone; which one depends on machine and Python."""
    if (name, version) not in locked:
        return ()
    return [
        ExternalReference(
            type=ExternalReferenceType.DISTRIBUTION,
            url=XsUri(f"https://pypi.org/project/{name}/{version}/"),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one) for one in locked[name, version]],
        )
    ]


def _pjproject(wheel: Distribution) -> Component:
    prefix = Path((SETUP.parents[1] / ".venv" / ".made-pjsua2").read_text(encoding="utf-8").strip())
    build = dict(line.split("=", 1) for line in (prefix / "BUILD").read_text(encoding="utf-8").splitlines())
    source = HashType(alg=HashAlgorithm.SHA_256, content=build["tarball_sha256"])
    return Component(
        type=ComponentType.LIBRARY,
        name="pjproject",
        version=build["version"],
        bom_ref="pjproject",
        description=f"Built for pjsua2 {wheel.version} as {build['build']}; the hash is that of its source.",
        purl=PackageURL("github", "pjsip", "pjproject", build["version"]),
        licenses=[LicenseFactory().make_from_string("GPL-2.0-or-later")],
        hashes=[source],
    )


def _page() -> Iterable[Component]:
    for path, one in json.loads(PAGE.read_text(encoding="utf-8"))["packages"].items():
        if not path or one.get("dev"):
            continue
        name = path.removeprefix("node_modules/")
        digest = b64decode(one["integrity"].removeprefix("sha512-")).hex()
        yield Component(
            type=ComponentType.LIBRARY,
            name=name,
            version=one["version"],
            bom_ref=f"npm:{name}",
            purl=PackageURL("npm", None, name, one["version"]),
            licenses=[LicenseFactory().make_from_string(one["license"])],
            hashes=[HashType(alg=HashAlgorithm.SHA_512, content=digest)],
        )


def _compiled(lib: Path) -> Iterable[Component]:
    for pattern in (
        "pj/*.so*",
        "lib/python3*/site-packages/_pjsua2.*.so",
        "lib/**/sidecar/b2bua/_bridge.*.so",
    ):
        for file in sorted(lib.glob(pattern)):
            yield Component(
                type=ComponentType.FILE,
                name=str(file.relative_to(lib)),
                bom_ref=f"file:{file.name}",
                hashes=[_sha256(file)],
            )


def _debian(deb: Path) -> Iterable[Component]:
    names = {re.split(r"[ (:|]", part.strip())[0] for part in _field(deb, "Depends").split(",")}
    for name in sorted(names):
        query = ["dpkg-query", "-W", "-f", "${Version}\t${Architecture}", name]
        run = subprocess.run(query, check=False, capture_output=True, text=True)
        version, _, architecture = run.stdout.partition("\t")
        if not version:
            sys.exit(f"sbom: {deb.name} depends on {name}, which is not installed here")
        yield Component(
            type=ComponentType.LIBRARY,
            name=name,
            version=version,
            bom_ref=f"deb:{name}",
            purl=PackageURL("deb", "debian", name, version, qualifiers={"arch": architecture}),
        )


def _field(deb: Path, name: str) -> str:
    return subprocess.run(
        ["dpkg-deb", "-f", str(deb), name], check=True, capture_output=True, text=True
    ).stdout.strip()


def _sha256(file: Path) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=hashlib.sha256(file.read_bytes()).hexdigest())


if __name__ == "__main__":
    lib, out, *more = map(Path, sys.argv[1:])
    main(lib, out, more[0] if more else None)
