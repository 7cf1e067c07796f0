from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from tests.conformance.conformance import Conformance
from tests.conformance.torch_models import kernels


@pytest.fixture(scope="module")
def model_file(torch_file: Path) -> Path:
    return torch_file


class TestTorch(Conformance):
    framework = "torch"
    native = "pt2"

    def kernels(self, path: Path) -> Mapping[str, npt.NDArray[Any]]:
        found = kernels(path)
        return {name: found[name] for name in ("conv", "logits")}
