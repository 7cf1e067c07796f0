from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from tests.conformance.pairs import PairsConformance
from tests.conformance.torch_models import kernels


@pytest.fixture(scope="module")
def model_file(torch_file: Path) -> Path:
    return torch_file


class TestTorchPairs(PairsConformance):
    native = "pt2"

    def kernels(self, path: Path) -> list[npt.NDArray[Any]]:
        return list(kernels(path).values())
