"""Samples for the networks of MLPerf Tiny, as data sets of the service.

Two of the five come with inputs and labels of their own, and the benchmark's photographs and sounds for the
others are too large to be asked for: those get stand-ins, which say how like the original an answer is and
nothing about how right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tasks.compression.litert import Program
from tests.benchmarks.quality import datasets
from tests.benchmarks.quality.datasets import Arrays

__all__ = ["SAMPLES", "enlarged_images", "reproducible_noise", "save", "wake_words"]

ENLARGED = (400, 300)
SIDE = 96
NOISE = (2000, 500)
# In decibels: what the input of the published int8 file takes, how often noise goes through the network, and
# the deviation of what is added afterwards, so that there is an error to measure.
LEVELS, PASSES, DEVIATION = (-84.8, 14.9), 3, 3.0

Array = npt.NDArray[Any]


def enlarged_images(folder: Path) -> Arrays:
    """Images of CIFAR-10 enlarged to 96x96, in 0..1, without labels: none of them was made to show persons or
    their absence."""
    arrays = datasets.cifar10(folder)
    train, test = ENLARGED
    return {"x_train": _enlarged(arrays["x_train"][:train]), "x_test": _enlarged(arrays["x_test"][:test])}


def reproducible_noise(folder: Path) -> Arrays:
    """Spectra [n, 640] that the autoencoder holds to be normal: seeded noise that went through it three
    times, and 3 dB more. No labels; it is to answer with its input."""
    autoencoder = Program((folder / "mlperf_tiny" / "ad" / "ad01_fp32.tflite").read_bytes())
    generator = np.random.default_rng(0)
    train, test = NOISE
    spectra: Array = generator.uniform(*LEVELS, (train + test, 640)).astype(np.float32)
    for _ in range(PASSES):
        spectra = np.asarray(autoencoder.predict(spectra))
    spectra = (spectra + generator.normal(0, DEVIATION, spectra.shape)).astype(np.float32)
    return {"x_train": spectra[:train], "x_test": spectra[train:]}


def wake_words(folder: Path) -> Arrays:
    """The 45 labelled spectrograms [n, 30, 1, 40] that MLPerf Tiny calibrates its wake word network on: every
    other one of each class to train, the rest to test."""
    with np.load(folder / "mlperf_tiny" / "sww" / "calibration_samples.npz") as given:
        x, y = given["specs"].astype(np.float32), given["labels"].astype(np.uint8)
    order = np.argsort(y, kind="stable")
    train, test = order[::2], order[1::2]
    return {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}


def save(name: str, folder: Path, path: Path) -> Path:
    """Write the data set `name` of SAMPLES to `path`, unless it is there."""
    if not path.exists():
        partly = path.with_suffix(".partly.npz")
        np.savez(partly, **SAMPLES[name](folder))  # type: ignore[arg-type]
        partly.rename(path)
    return path


def _enlarged(pixels: Array) -> Array:
    made = [Image.fromarray(image.astype(np.uint8)).resize((SIDE, SIDE)) for image in pixels]
    return (np.stack([np.asarray(image) for image in made]) / 255.0).astype(np.float32)


SAMPLES: Mapping[str, Callable[[Path], Arrays]] = {
    "cifar10": datasets.cifar10,
    "keywords": datasets.keywords,
    "enlarged-images": enlarged_images,
    "reproducible-noise": reproducible_noise,
    "wake-words": wake_words,
}
