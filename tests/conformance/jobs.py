"""Whole jobs on the model and the data of a subclass's module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featherweight.report import Report
from featherweight.spec import OutputFormat
from tasks.compression import compress

__all__ = ["JobConformance", "Run"]

Run = Callable[..., tuple[Report, Path]]


class JobConformance:
    """The module of a subclass has two fixtures: `model_file` and `data_file`."""

    native: OutputFormat = "keras"
    """The framework's own format, in which networks are delivered in float."""

    @pytest.fixture
    def run(self, model_file: Path, data_file: Path, tmp_path: Path) -> Run:
        """Does steps in order, with or without the data; the report, and the folder of what is delivered."""

        def run(*steps: dict[str, Any], data: bool = True, **spec: Any) -> tuple[Report, Path]:
            document = {"steps": list(steps), "outputs": ["tflite", self.native], **spec}
            outcome = compress(model_file, document, dataset=data_file if data else None, workdir=tmp_path)
            return outcome.report, tmp_path / "out"

        return run
