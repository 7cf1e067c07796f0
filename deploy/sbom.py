"""``make sbom``: what is in each image, as CycloneDX JSON in ``build/sbom``, valid by its schema.

An image's packages are those its stage of the Dockerfile installs out of requirements.lock, with their hashes
there, who needs whom, and the base image. Debian's packages in the base image are not listed one by one.
"""

from __future__ import annotations

import re
import sys
import tomllib
import uuid
from pathlib import Path

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from deploy.lock import LOCK, ROOT, closure, needed_by, parse

__all__ = ["TARGETS", "sbom", "write"]

TARGETS = ("service", "worker", "worker-torch", "objects")
_OUTPUT = ROOT / "build" / "sbom"


def write(directory: Path = _OUTPUT) -> list[Path]:
    """A file for each image; ValueError with the reason for one that is not valid."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{target}.cdx.json" for target in TARGETS]
    for target, path in zip(TARGETS, paths, strict=True):
        path.write_text(_checked(sbom(target)))
    return paths


def sbom(target: str) -> str:
    """The CycloneDX 1.6 document of the image `target`."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    entries = parse(LOCK.read_text())
    roots = _groups(dockerfile, target)
    names = closure(entries, roots)
    packages = {name: _package(name, entries[name]) for name in sorted(names)}
    base, image = _base_image(dockerfile), _image(target)
    bom = Bom(components=[base, *packages.values()], serial_number=_serial(target, entries, names))
    bom.metadata.component = image
    direct = {
        name
        for name in names
        if needed_by(entries[name]) & {f"group:{root}" for root in roots} or name in roots
    }
    bom.register_dependency(image, [base, *(packages[name] for name in sorted(direct))])
    for name, package in packages.items():
        bom.register_dependency(
            package, [packages[other] for other in sorted(names) if name in needed_by(entries[other])]
        )
    return JsonV1Dot6(bom).output_as_string(indent=2)


def _checked(document: str) -> str:
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(document):
        raise ValueError(f"the SBOM is not valid CycloneDX: {error}")
    return document


def _groups(dockerfile: str, target: str) -> list[str]:
    """The groups or packages of the lock that the image's stage installs."""
    found = re.search(rf"deploy\.lock only (.+) > {target}\.lock", dockerfile)
    if found is None:
        raise LookupError(f"the Dockerfile has no stage that installs the share of {target}")
    return found[1].split()


def _package(name: str, block: str) -> Component:
    version = block.split("==")[1].split()[0]
    digests = [
        HashType(alg=HashAlgorithm.SHA_256, content=each) for each in re.findall(r"sha256:(\w+)", block)
    ]
    purl = PackageURL("pypi", name=name, version=version)
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=str(purl),
        purl=purl,
        # The lock has a digest for each wheel of a release; which of them pip takes depends on the machine.
        external_references=[
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(_page(name, version)),
                hashes=digests,
            )
        ],
    )


def _page(name: str, version: str) -> str:
    """Of the release; of the project for a build of its own (``2.13.0+cpu``), which PyPI does not have."""
    return f"https://pypi.org/project/{name}/" + (f"{version}/" if "+" not in version else "")


def _base_image(dockerfile: str) -> Component:
    found = re.search(r"^FROM (\S+):(\S+) AS base$", dockerfile, flags=re.MULTILINE)
    if found is None:
        raise LookupError("the Dockerfile names no base image with a tag")
    purl = PackageURL("docker", name=found[1], version=found[2])
    return Component(
        name=found[1], version=found[2], type=ComponentType.CONTAINER, bom_ref=str(purl), purl=purl
    )


def _image(target: str) -> Component:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    name = f"featherweight-{target}"
    return Component(name=name, version=version, type=ComponentType.CONTAINER, bom_ref=f"{name}@{version}")


def _serial(target: str, entries: dict[str, str], names: set[str]) -> uuid.UUID:
    """The same for the same packages."""
    content = "".join(entries[name] for name in sorted(names))
    return uuid.uuid5(uuid.NAMESPACE_URL, f"featherweight:{target}:{content}")


def main() -> None:
    for path in write():
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
