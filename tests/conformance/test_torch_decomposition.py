from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from tests.conformance.decomposition import DecompositionConformance
from tests.conformance.exported import every_kernel, save_digit_classifier


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_digit_classifier(tmp_path_factory.mktemp("model") / "cnn.pt2")


class TestTorchDecomposition(DecompositionConformance):
    native = "pt2"
    named_in_integers = ("mixed", "logits")

    def kernels(self, path: Path) -> Mapping[str, npt.NDArray[Any]]:
        return every_kernel(path)
