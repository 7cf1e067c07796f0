"""A batch as a file: local models and data sets, specs by name, and how they go together.

    name: nightly
    models: [models/*.keras, mdl_…]       # files (patterns too) beside the manifest, or ids
    specs: {int8: int8.yaml, half: {steps: [{technique: prune}]}}
    dataset: digits.npz
    max_concurrent: 4

Every model is given every spec; an item is called ``<file name without ending>/<name of the spec>``. `items`
instead of, or beside, `models` lists what has no such order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from featherweight.batch import BatchLimits, CustomId, Name
from featherweight.errors import InvalidManifest
from featherweight.job import JobLimits, Metadata
from featherweight.problem import FieldError, field_errors
from featherweight.spec import CompressionSpec
from featherweight.specfile import load_spec

__all__ = ["Manifest", "ManifestItem", "PlannedItem", "load_manifest"]

_Path = Annotated[str, Field(min_length=1, max_length=4096)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ManifestItem(_Part):
    """`model` and `dataset` are files or ids; `spec` is the name of one of `specs`, a file, or fields."""

    custom_id: CustomId
    model: _Path
    dataset: _Path | None = None
    spec: _Path | dict[str, Any] | None = None
    name: Name | None = None
    metadata: Metadata = Field(default_factory=dict)
    limits: JobLimits | None = None


class Manifest(_Part):
    """See the module. `folder` is what paths are relative to. `job_metadata` and `job_limits` are of every
    item, `metadata` and `limits` of the batch."""

    name: Name | None = None
    metadata: Metadata = Field(default_factory=dict)
    models: list[_Path] = Field(default_factory=list)
    specs: dict[Annotated[str, Field(min_length=1, max_length=100)], _Path | dict[str, Any]] = Field(
        default_factory=dict
    )
    items: list[ManifestItem] = Field(default_factory=list)
    dataset: _Path | None = None
    job_metadata: Metadata = Field(default_factory=dict)
    job_limits: JobLimits | None = None
    max_concurrent: Annotated[int, Field(ge=1, le=1000)] | None = None
    on_failure: Literal["continue", "stop"] | None = None
    reuse: bool | None = None
    limits: BatchLimits | None = None
    folder: Path = Field(default=Path(), exclude=True)

    def planned(self) -> list[PlannedItem]:
        """The items, in the order of the manifest. Raises InvalidManifest, InvalidSpec, OSError."""
        specs = {name: self._spec(spec) for name, spec in self.specs.items()}
        found = [
            PlannedItem(f"{label}/{name}", model, self.dataset, spec)
            for model, label in self._models()
            for name, spec in specs.items()
        ]
        for item in self.items:
            spec = item.spec if item.spec is not None else next(iter(specs), None)
            if spec is None or (item.spec is None and len(specs) > 1):
                raise self._fault(
                    f"{item.custom_id}: which spec? name one of specs, a file, or give its fields"
                )
            known = specs.get(spec) if isinstance(spec, str) else None
            dataset = item.dataset if item.dataset is not None else self.dataset
            found.append(PlannedItem(item.custom_id, item.model, dataset, known or self._spec(spec), item))
        self._check(found)
        return found

    def path(self, name: str) -> Path:
        return self.folder / name

    def _models(self) -> list[tuple[str, str]]:
        """Paths or ids, each with what to call it."""
        found: list[tuple[str, str]] = []
        for name in self.models:
            if any(char in name for char in "*?["):
                matches = sorted(str(path.relative_to(self.folder)) for path in self.folder.glob(name))
                if not matches:
                    raise self._fault(f"models: no file matches {name!r}")
                found += [(match, Path(match).stem) for match in matches]
            else:
                found.append((name, Path(name).stem))
        return found

    def _spec(self, spec: str | Mapping[str, Any]) -> CompressionSpec:
        return load_spec(self.path(spec) if isinstance(spec, str) else spec)

    def _check(self, found: list[PlannedItem]) -> None:
        if self.models and not self.specs:
            raise self._fault("models need specs: a mapping of names to files or fields")
        if not found:
            raise self._fault("there are no items: give models and specs, or items")
        names = [item.custom_id for item in found]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise self._fault(f"two items are called {twice!r}")

    def _fault(self, detail: str) -> InvalidManifest:
        return InvalidManifest("the manifest", [FieldError(pointer="", code="invalid", detail=detail)])


class PlannedItem:
    """An item whose files have not been uploaded yet."""

    def __init__(
        self,
        custom_id: str,
        model: str,
        dataset: str | None,
        spec: CompressionSpec,
        item: ManifestItem | None = None,
    ) -> None:
        self.custom_id = custom_id
        self.model = model
        self.dataset = dataset
        self.spec = spec
        self.item = item


def load_manifest(source: Manifest | Mapping[str, Any] | str | os.PathLike[str]) -> Manifest:
    """From a YAML or JSON file, or its fields. Raises InvalidManifest, and OSError for the file."""
    if isinstance(source, Manifest):
        return source
    if isinstance(source, Mapping):
        return _validated(dict(source), "the manifest", Path())
    path = Path(source)
    try:
        value = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        fault = FieldError(pointer="", code="bad_syntax", detail=str(error))
        raise InvalidManifest(str(path), [fault]) from None
    if not isinstance(value, Mapping):
        fault = FieldError(pointer="", code="dict_type", detail="a mapping is needed")
        raise InvalidManifest(str(path), [fault])
    return _validated(dict(value), str(path), path.parent)


def _validated(value: dict[str, Any], source: str, folder: Path) -> Manifest:
    if "folder" in value:
        fault = FieldError(pointer="/folder", code="extra_forbidden", detail="there is no such key")
        raise InvalidManifest(source, [fault])
    try:
        return Manifest.model_validate({**value, "folder": folder})
    except ValidationError as error:
        raise InvalidManifest(source, field_errors(error, value)) from None
