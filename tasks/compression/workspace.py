"""The job's directory: step results named by what made them, and the files delivered.

    <workdir>/steps/<key>/     a finished step's network, as its backend saves it, and step.json; while a step
                               trains in rounds, those of its last round
    <workdir>/checkpoints/<key>.npz   how far a step that trains has got
    <workdir>/out/             what is delivered

A key is a hash of the step, its input's key, the toolchain's versions and the seed. A job tried again in
the same directory, or with copies of `steps` and `checkpoints` in another, goes on after the last finished
step; two specs that begin alike share the beginning. What has its name there is whole: it is made elsewhere,
and moved.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from featherweight.report import EpochReport, MissingOutput, ReportWarning, StepReached
from tasks.compression.checkpoints import CheckpointFile

__all__ = ["LAYOUT", "LayerNote", "StepRecord", "Workspace", "chain"]

LAYOUT = 2
"""What the folder of a finished step holds, as a number that changes with it: results that another version of
this code left behind are not taken for its own."""

_KEY_LENGTH = 32


class LayerNote(BaseModel):
    """What a step meant to do to a layer: its target sparsity, or why it was left alone; and of a layer the
    step made, which layer it was made from."""

    model_config = ConfigDict(frozen=True)

    target_sparsity: float | None = None
    skipped: str | None = None
    made_from: str | None = None


class StepRecord(BaseModel):
    """What a step did, kept beside its result so that a resumed job reports it all the same. `missing` are
    the outputs that the step could not make and the job goes on without."""

    seconds: float = 0.0
    changed: bool = True
    epochs: list[EpochReport] = Field(default_factory=list)
    details: dict[str, Any] = Field(default_factory=dict)
    layers: dict[str, LayerNote] = Field(default_factory=dict)
    warnings: list[ReportWarning] = Field(default_factory=list)
    missing: list[MissingOutput] = Field(default_factory=list)
    reached: StepReached | None = None


def chain(key: str, **made_by: Any) -> str:
    """The key of what comes of the thing named `key` by `made_by` (JSON values)."""
    document = json.dumps([key, made_by], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(document.encode()).hexdigest()[:_KEY_LENGTH]


class Workspace:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.out = root / "out"
        self.scratch = root / "tmp"
        self._steps = root / "steps"
        self._checkpoints = root / "checkpoints"
        for directory in (self.out, self.scratch, self._steps, self._checkpoints):
            directory.mkdir(parents=True, exist_ok=True)

    def find(self, key: str) -> tuple[Path, StepRecord] | None:
        """The directory and record of a finished step, None if it is not there or not whole."""
        directory = self._steps / key
        try:
            return directory, StepRecord.model_validate_json((directory / "step.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def keep(self, key: str, record: StepRecord, save: Callable[[Path], None]) -> None:
        """Store a step's result: `save` writes the network into a directory, which then appears whole."""
        making = self.scratch / f"{key}.{os.getpid()}"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        save(making)
        (making / "step.json").write_text(record.model_dump_json(), encoding="utf-8")
        shutil.rmtree(self._steps / key, ignore_errors=True)
        making.rename(self._steps / key)

    def forget(self, key: str) -> None:
        """Remove a finished step's result, if there is one."""
        shutil.rmtree(self._steps / key, ignore_errors=True)

    def checkpoints(self, key: str) -> CheckpointFile:
        """Those of the step that is making the result `key`."""
        return CheckpointFile(self._checkpoints / f"{key}.npz", self.scratch)

    def write_json(self, name: str, value: Mapping[str, Any] | BaseModel) -> Path:
        """Write a delivered JSON file, whole or not at all."""
        if isinstance(value, BaseModel):
            text = value.model_dump_json(indent=2)
        else:
            text = json.dumps(value, indent=2, allow_nan=False)
        return self.write(name, text.encode())

    def write(self, name: str, content: bytes) -> Path:
        making = self.scratch / f"{name}.{os.getpid()}"
        making.write_bytes(content)
        return making.rename(self.out / name)
