"""What the readers of all formats give back, and what they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featherweight.data import DataReading
from featherweight.report import ReportWarning
from tasks.compression.datasets.samplefile import SampleFile
from tasks.compression.errors import CompressionError
from tasks.compression.facts import Shape

__all__ = ["Array", "Read", "Request", "fitted_shape", "named", "nothing_there"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Request:
    """`shape` is that of the model's input, `scratch` a directory to decode into, `warn` takes warnings."""

    path: Path
    shape: Shape
    reading: DataReading
    scratch: Path
    warn: Callable[[ReportWarning], None]


@dataclass(frozen=True)
class Read:
    """Arrays by the names an ``.npz`` would have them under. `classes` and `details` are for the report."""

    arrays: Mapping[str, Array]
    classes: list[str] | None = None
    details: dict[str, Any] = field(default_factory=dict)


def named(samples: SampleFile, labels: Array | None, test_from: int | None = None) -> dict[str, Array]:
    """`x` and `y`, or divided into train and test; without labels only the first of each."""
    if test_from is None:
        (x,) = samples.parts(samples.count)
        return {"x": x} if labels is None else {"x": x, "y": labels}
    x_train, x_test = samples.parts(test_from, samples.count - test_from)
    arrays = {"x_train": x_train, "x_test": x_test}
    if labels is not None:
        arrays |= {"y_train": labels[:test_from], "y_test": labels[test_from:]}
    return arrays


def fitted_shape(given: tuple[int, ...], wanted: Shape) -> tuple[int, ...]:
    """The shape for values that come in a row: the model's where there are as many, else as given."""
    sizes = tuple(size for size in wanted if size is not None)
    if len(sizes) == len(wanted) and int(np.prod(sizes)) == int(np.prod(given)):
        return sizes
    return given


def nothing_there(path: Path) -> CompressionError:
    return CompressionError("too_few_samples", f"{path.name} holds no samples")
