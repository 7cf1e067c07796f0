"""What goes into a network and what comes out of it: an array, or several that belong together.

A model with one input takes an array, whose axis 0 is the samples; one with several takes `Samples`. Both
have a length and are indexed by samples, so that splitting, shuffling and batching are the same for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Array",
    "Samples",
    "Tensors",
    "arrays_of",
    "gathered",
    "joined",
    "read_tensors",
    "signature_names",
    "structure",
    "write_tensors",
]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Samples:
    """An array for each of several tensors, all of the same samples (axis 0)."""

    names: tuple[str, ...]
    arrays: tuple[Array, ...]

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, chosen: slice | Array) -> Samples:
        """The same of the samples `chosen`."""
        return Samples(self.names, tuple(array[chosen] for array in self.arrays))

    def of(self, name: str) -> Array:
        """The array of the tensor `name`. KeyError where there is none."""
        if name not in self.names:
            raise KeyError(name)
        return self.arrays[self.names.index(name)]


Tensors = Array | Samples


def arrays_of(x: Tensors) -> tuple[Array, ...]:
    return x.arrays if isinstance(x, Samples) else (x,)


def structure(x: Tensors) -> Any:
    """As frameworks take it: the array, or a tuple of them in the order of the model's tensors."""
    return x.arrays if isinstance(x, Samples) else x


def gathered(names: Iterable[str], arrays: Iterable[Array]) -> Tensors:
    """The array itself where there is one."""
    held = tuple(arrays)
    return held[0] if len(held) == 1 else Samples(tuple(names), held)


def joined(parts: Sequence[Tensors]) -> Tensors:
    """The samples of all `parts`, one after the other; all are of the same tensors."""
    first = parts[0]
    columns = zip(*(arrays_of(part) for part in parts), strict=True)
    arrays = [np.concatenate(column) for column in columns]
    return Samples(first.names, tuple(arrays)) if isinstance(first, Samples) else arrays[0]


def write_tensors(path: Path, x: Tensors) -> None:
    """As an ``.npz``, for `read_tensors`."""
    names = x.names if isinstance(x, Samples) else ()
    parts = {str(index): array for index, array in enumerate(arrays_of(x))}
    np.savez(path, names=np.array(names, dtype=np.str_), **parts)  # type: ignore[arg-type]


def read_tensors(path: Path) -> Tensors:
    with np.load(path, allow_pickle=False) as parts:
        names = tuple(str(name) for name in parts["names"])
        if not names:
            return np.asarray(parts["0"])
        return Samples(names, tuple(parts[str(index)] for index in range(len(names))))


def signature_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names that tensors go by in a converted file's signature: characters that TensorFlow's scopes do
    not allow become underscores, without which the converter leaves the signature out."""
    plain: list[str] = []
    for name in names:
        safe = re.sub(r"[^A-Za-z0-9_./>-]", "_", name)
        safe = safe if re.match(r"[A-Za-z0-9.]", safe) else f"t{safe}"
        while safe in plain:
            safe += "_"
        plain.append(safe)
    return tuple(plain)
