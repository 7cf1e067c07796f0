"""Data sets in small, made as their users make them; and what reading one gives."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from featherweight.data import DataReading
from featherweight.report import ReportWarning
from tasks.compression import CompressionError
from tasks.compression.datasets.opened import OpenDataset, open_dataset
from tasks.compression.facts import CompiledState, ModelFacts, Shape

__all__ = ["arrays", "facts", "image", "opened", "refused", "tar_of", "zip_of"]

ALL = frozenset({"x", "y", "x_train", "y_train", "x_test", "y_test"})


def facts(*inputs: Shape, classes: int = 3) -> ModelFacts:
    return ModelFacts(inputs, ((classes,),), "softmax", CompiledState())


def opened(
    path: Path, shape: Shape, warnings: list[ReportWarning] | None = None, **reading: Any
) -> OpenDataset:
    told = [] if warnings is None else warnings
    data = DataReading.model_validate(reading) if reading else None
    return open_dataset(path, facts(shape), data, path.parent / "scratch", told.append)


def arrays(path: Path, shape: Shape, **reading: Any) -> dict[str, npt.NDArray[Any]]:
    return dict(opened(path, shape, **reading).read(ALL))


def refused(path: Path, shape: Shape, **reading: Any) -> CompressionError:
    with pytest.raises(CompressionError) as caught:
        opened(path, shape, **reading).read(ALL)
    return caught.value


def image(
    colour: int | tuple[int, ...] = 0, size: tuple[int, int] = (4, 6), kind: str = "PNG", mode: str = "L"
) -> bytes:
    """A file of one colour, `size` high and wide."""
    stream = io.BytesIO()
    Image.new(mode, (size[1], size[0]), colour).save(
        stream, kind, **({"quality": 100} if kind == "JPEG" else {})
    )
    return stream.getvalue()


def zip_of(path: Path, files: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tar_of(path: Path, files: Mapping[str, bytes | tarfile.TarInfo], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def same(one: npt.NDArray[Any], other: npt.ArrayLike) -> bool:
    return one.shape == np.shape(other) and bool((one == np.asarray(other)).all())
