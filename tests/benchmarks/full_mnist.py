"""The full MNIST, from its IDX files, as a data set of the service."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

__all__ = ["load", "save"]


def load(folder: Path) -> dict[str, np.ndarray]:
    """float32 images [n, 28, 28] in 0..1 and uint8 labels, 60,000 to train and 10,000 to test."""
    arrays = {}
    for split, stem in (("train", "train"), ("test", "t10k")):
        images = _idx(folder / "mnist" / f"{stem}-images-idx3-ubyte.gz")
        arrays[f"x_{split}"] = (images / 255.0).astype(np.float32)
        arrays[f"y_{split}"] = _idx(folder / "mnist" / f"{stem}-labels-idx1-ubyte.gz")
    return arrays


def save(folder: Path, path: Path) -> Path:
    np.savez_compressed(path, **load(folder))  # type: ignore[arg-type]
    return path


def _idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes: magic number, rank, sizes in big-endian, then the values."""
    content = gzip.decompress(path.read_bytes())
    rank = content[3]
    shape = np.frombuffer(content, ">u4", count=rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
