from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.conformance.exported import kernels_of, save_digit_classifier
from tests.conformance.rounding import SHAPES, Array, RoundingConformance
from tests.conformance.stored import kernel


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_digit_classifier(tmp_path_factory.mktemp("model") / "cnn.pt2")


class TestTorchRounding(RoundingConformance):
    native = "pt2"
    narrow = frozenset({"mixed"})

    def kernels(self, path: Path) -> Mapping[str, Array]:
        return {name: _rows(values) for name, values in kernels_of(path, *SHAPES).items()}

    def stored(self, out: Path, name: str) -> Array:
        if name != "conv":
            return super().stored(out, name)
        # Of one input channel, the converter makes a depthwise convolution, output channels last.
        return _rows(kernel((out / "model.tflite").read_bytes(), (1, 3, 3, 8)))


def _rows(values: Array) -> Array:
    """A kernel with its output channels last, as [output channels, everything else]."""
    return np.moveaxis(values, -1, 0).reshape(values.shape[-1], -1)
