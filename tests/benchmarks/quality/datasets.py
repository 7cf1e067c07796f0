"""The public data sets as data sets of the service: ``.npz`` with a training and a test split.

The folder given holds MNIST as IDX files (``mnist/``), the first 25 batches of CIFAR-10's training images
and the first of its test images as PNG (``cifar10/``), and the 1,000 labelled inputs of MLPerf Tiny's
keyword spotting (``mlperf_tiny/kws/eval_kws01/``).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.benchmarks import full_mnist

__all__ = ["DATASETS", "Arrays", "cifar10", "cifar10_channels_first", "keywords", "save"]

CIFAR_BATCHES = 25
CIFAR_TRAIN = 50_000  # training images in the whole of CIFAR-10, whose labels come before the test's

KEYWORDS_TRAIN = 100
# How the reference model's int8 input, which the file holds, stands for MFCC features.
KEYWORDS_SCALE, KEYWORDS_ZERO = 0.5847029089927673, 83

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


def cifar10(folder: Path) -> Arrays:
    """float32 images [n, 32, 32, 3] in 0..255, as ResNet-8 was trained on: 25,000 to train, 1,000 to test."""
    labels = np.load(folder / "cifar10" / "labels_51000.npy").astype(np.uint8)
    train = np.concatenate([_cifar_batch(folder, number) for number in range(CIFAR_BATCHES)])
    test = _cifar_batch(folder, CIFAR_TRAIN // 1000)
    return {
        "x_train": train,
        "y_train": labels[: len(train)],
        "x_test": test,
        "y_test": labels[CIFAR_TRAIN : CIFAR_TRAIN + len(test)],
    }


def cifar10_channels_first(folder: Path) -> Arrays:
    """The same for networks of PyTorch: [n, 3, 32, 32] in 0..1."""
    arrays = dict(cifar10(folder))
    for name in ("x_train", "x_test"):
        arrays[name] = np.ascontiguousarray(arrays[name].transpose(0, 3, 1, 2) / 255)
    return arrays


def keywords(folder: Path) -> Arrays:
    """float32 MFCC features [n, 49, 10, 1] and labels 0..11: the first 100 to train, the last 900 to test."""
    root = folder / "mlperf_tiny" / "kws" / "eval_kws01"
    raw = np.fromfile(root / "kws01_mfcc_int8_1000x490.bin", np.int8).reshape(-1, 49, 10, 1)
    features = ((raw.astype(np.float32) - KEYWORDS_ZERO) * KEYWORDS_SCALE).astype(np.float32)
    with (root / "y_labels.csv").open() as lines:
        labels = np.array([int(row[2]) for row in csv.reader(lines)], np.uint8)
    first = KEYWORDS_TRAIN
    return {
        "x_train": features[:first],
        "y_train": labels[:first],
        "x_test": features[first:],
        "y_test": labels[first:],
    }


def _cifar_batch(folder: Path, number: int) -> np.ndarray[Any, Any]:
    with Image.open(folder / "cifar10" / f"cifar10_batch_{number}.png") as image:
        return np.asarray(image.convert("RGB")).reshape(-1, 32, 32, 3).astype(np.float32)


def save(name: str, folder: Path, path: Path) -> Path:
    """Write the data set `name` of DATASETS to `path`, unless it is there."""
    if not path.exists():
        partly = path.with_suffix(".partly.npz")
        np.savez_compressed(partly, **DATASETS[name](folder))  # type: ignore[arg-type]
        partly.rename(path)
    return path


DATASETS: Mapping[str, Callable[[Path], Arrays]] = {
    "mnist": full_mnist.load,
    "cifar10": cifar10,
    "cifar10-channels-first": cifar10_channels_first,
    "keywords": keywords,
}
