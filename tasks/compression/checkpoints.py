"""How far a training has got, kept so that another attempt at the job goes on from there.

A `Checkpoint` is all that decides how the training goes on, as arrays and a JSON value; what they mean is
the backend's business. A handler is given the `Checkpoints` of its step and knows no more than the verbs, so
that they may lie on a disk or anywhere else. On disk a step has one file, named by the step's key, which is
whole at any time: whoever finds it may copy it elsewhere, or put an earlier attempt's in its place.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Checkpoint", "CheckpointFile", "Checkpoints", "NoCheckpoints"]

Array = npt.NDArray[Any]

_STATE = "state"


@dataclass(frozen=True)
class Checkpoint:
    """`epoch` epochs had ended, and `step` optimiser steps of the next one."""

    epoch: int
    step: int
    state: Mapping[str, Any]
    arrays: Sequence[Array]


class Checkpoints(Protocol):
    """Those of one step of a spec."""

    def newest(self) -> Checkpoint | None:
        """The newest complete one; a damaged one is none."""

    def keep(self, checkpoint: Checkpoint) -> None:
        """Keep it in the place of those before. OSError when that is not possible; those before then stay."""

    def discard(self) -> None:
        """The step has ended: none is needed any more."""


class NoCheckpoints:
    """For trainings that nobody goes on with."""

    def newest(self) -> Checkpoint | None:
        return None

    def keep(self, checkpoint: Checkpoint) -> None:
        pass

    def discard(self) -> None:
        pass


class CheckpointFile:
    """The newest checkpoint as an ``.npz`` at `path`; it is made in the folder `making`, on the same disk."""

    def __init__(self, path: Path, making: Path) -> None:
        self._path = path
        self._making = making / f"{path.name}.part"

    def newest(self) -> Checkpoint | None:
        try:
            # Reading to the end compares each array with its checksum.
            with self._path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                told = json.loads(file[_STATE].tobytes())
                stored = {name: file[name] for name in set(told["arrays"])}
            arrays = [stored[name] for name in told["arrays"]]
            return Checkpoint(told["epoch"], told["step"], told["state"], arrays)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            return None

    def keep(self, checkpoint: Checkpoint) -> None:
        names = [_name(array) for array in checkpoint.arrays]
        told = {
            "epoch": checkpoint.epoch,
            "step": checkpoint.step,
            "state": checkpoint.state,
            "arrays": names,
        }
        arrays: dict[str, Any] = dict(zip(names, checkpoint.arrays, strict=True))
        arrays[_STATE] = np.frombuffer(json.dumps(told).encode(), np.uint8)
        try:
            with self._making.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())
            self._making.replace(self._path)
        finally:
            self._making.unlink(missing_ok=True)
        _sync(self._path.parent)

    def discard(self) -> None:
        self._path.unlink(missing_ok=True)
        self._making.unlink(missing_ok=True)  # an attempt that was killed may have left it


def _name(array: Array) -> str:
    """The same for arrays that are equal, which are stored once: the best weights may be the newest."""
    digest = hashlib.blake2b(f"{array.dtype}{array.shape}".encode(), digest_size=16)
    digest.update(array.tobytes())
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    """A new name is in the folder for good only once the folder is written."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
