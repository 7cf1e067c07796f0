"""The bills of materials list what the images install, and are valid CycloneDX."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.lock import LOCK, closure, parse
from deploy.sbom import TARGETS, sbom, write
from tests.deploy.test_images import share

ENTRIES = parse(LOCK.read_text())


def test_there_is_a_valid_one_for_every_image(tmp_path: Path) -> None:
    # `write` checks each against the schema.
    assert [path.name for path in write(tmp_path)] == [f"{target}.cdx.json" for target in TARGETS]
    document = json.loads((tmp_path / "worker.cdx.json").read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")


@pytest.mark.parametrize("target", TARGETS)
def test_it_lists_the_packages_of_the_image_with_their_hashes(target: str) -> None:
    document = json.loads(sbom(target))
    listed = {each["name"]: each for each in document["components"]}
    assert set(listed) - {"python"} == closure(ENTRIES, share(target))
    for name, component in listed.items():
        if name == "python":
            assert component["purl"].startswith("pkg:docker/python@3.")
            continue
        (origin,) = component["externalReferences"]
        assert origin["hashes"]
        for digest in origin["hashes"]:
            assert f"sha256:{digest['content']}" in ENTRIES[name]


def test_it_says_who_needs_whom() -> None:
    needs = {each["ref"]: each.get("dependsOn", []) for each in json.loads(sbom("service"))["dependencies"]}
    flask = next(ref for ref in needs if ref.startswith("pkg:pypi/flask@"))
    assert any(ref.startswith("pkg:pypi/werkzeug@") for ref in needs[flask])
    image = next(ref for ref in needs if ref.startswith("featherweight-service@"))
    assert flask in needs[image]
    assert not any(ref.startswith("pkg:pypi/werkzeug@") for ref in needs[image])


def test_the_same_lock_makes_the_same_one() -> None:
    first, second = (json.loads(sbom("objects")) for _ in range(2))
    assert first["serialNumber"] == second["serialNumber"]
    assert first["components"] == second["components"]
