from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from tests.conformance.channels import ChannelsConformance
from tests.conformance.exported import kernels_of, save_digit_classifier


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_digit_classifier(tmp_path_factory.mktemp("model") / "cnn.pt2")


class TestTorchChannels(ChannelsConformance):
    native = "pt2"
    rounds_native = True

    def kernels(self, path: Path) -> Mapping[str, npt.NDArray[Any]]:
        return kernels_of(path, "conv", "mixed", "logits")
