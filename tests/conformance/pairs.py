"""That every two techniques which the documentation calls combinable go together, and no others: each pair is
carried out, and what both promise is measured in its files. A framework's tests are a short subclass."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from featherweight.report import Report
from featherweight.spec import CompressionSpec, OutputFormat
from tasks.compression import compress
from tasks.compression.outputs import FILES
from tasks.compression.tflite import weight_types

Array = npt.NDArray[Any]

CHANCE = 0.1
CLUSTERS = 8
SPARSITY = 0.6
DOCUMENT = Path(__file__).parents[2] / "docs" / "techniques.md"
MARKS = ("<!-- pairs: begin -->", "<!-- pairs: end -->")

SAMPLES: Mapping[str, dict[str, Any]] = {
    "prune_channels": {"target": {"type": "ratio", "remove": 0.25}},
    "decompose": {"rank": {"type": "parameters", "keep": 0.6}, "layers": {"include": ["mixed"]}},
    "prune": {"schedule": {"type": "constant_sparsity", "target_sparsity": SPARSITY}},
    "cluster": {"clusters": CLUSTERS},
    "quantize_aware": {},
    "finetune": {"epochs": 2, "batch_size": 64},
    "distill": {"epochs": 2, "batch_size": 64},
    "quantize": {"scheme": "full_int8"},
}
TRAIN = {"technique": "finetune", "epochs": 2, "batch_size": 64}


def steps_of(first: str, second: str) -> list[dict[str, Any]]:
    """The two in this order, and the training where one of them cannot do without."""
    steps = [{"technique": name, **SAMPLES[name]} for name in (first, second)]
    return [*steps, TRAIN] if second == "quantize_aware" else steps


def accepted(first: str, second: str) -> bool:
    try:
        CompressionSpec.model_validate({"steps": steps_of(first, second)})
    except ValidationError:
        return False
    return True


def documented() -> dict[tuple[str, str], bool]:
    """The table of the documentation: what stands first in the row, what follows it in the column."""
    table = DOCUMENT.read_text(encoding="utf-8").split(MARKS[0])[1].split(MARKS[1])[0].strip().splitlines()
    rows = [[cell.strip().strip("`") for cell in line.strip().strip("|").split("|")] for line in table]
    names = rows[0][1:]
    return {
        (row[0], second): bool(re.match("yes", cell))
        for row in rows[2:]
        for second, cell in zip(names, row[1:], strict=True)
    }


def combinable() -> Iterator[Any]:
    for first, second in documented():
        if documented()[first, second]:
            yield pytest.param(first, second, id=f"{first}-{second}")


class PairsConformance:
    """The module of a subclass has two fixtures: `model_file`, a trained digit classifier with the layers
    conv, mixed and logits, and `data_file`, its digits."""

    native: OutputFormat = "keras"
    """The framework's own format, in which networks are delivered in float."""

    @abstractmethod
    def kernels(self, path: Path) -> list[Array]:
        """Every kernel of a delivered file of the framework's own format."""

    def test_the_table_of_the_documentation_is_what_the_contract_accepts(self) -> None:
        table = documented()
        assert set(table) == {(first, second) for first in SAMPLES for second in SAMPLES}
        assert {pair: accepted(*pair) for pair in table} == table

    @pytest.mark.parametrize(("first", "second"), list(combinable()))
    def test_both_keep_their_promise(
        self, model_file: Path, data_file: Path, tmp_path: Path, first: str, second: str
    ) -> None:
        spec = {"steps": steps_of(first, second), "outputs": ["tflite", self.native]}
        report = compress(model_file, spec, dataset=data_file, workdir=tmp_path).report
        out = tmp_path / "out"
        for name in {first, second}:
            getattr(self, f"check_{name}")(report, out)
        if first != second:
            assert "nothing_changed" not in {warning.code for warning in report.warnings}
        trained = {"finetune", "distill"} & {step.technique for step in report.steps}
        accuracy = report.outputs[0].accuracy
        assert accuracy is not None
        assert accuracy.value > (4 * CHANCE if trained else CHANCE)

    def check_prune_channels(self, report: Report, out: Path) -> None:
        details = next(step.details for step in report.steps if step.technique == "prune_channels")
        assert details["parameters_after"] < details["parameters_before"]
        assert report.outputs[1].parameters is not None
        assert report.original.parameters is not None
        assert report.outputs[1].parameters < report.original.parameters

    def check_decompose(self, report: Report, out: Path) -> None:
        assert len(self.kernels(out / FILES[self.native])) > 3
        assert report.outputs[1].parameters is not None
        assert report.original.parameters is not None
        assert report.outputs[1].parameters < report.original.parameters

    def check_prune(self, report: Report, out: Path) -> None:
        kernels = self.kernels(out / FILES[self.native])
        zeros = sum(int((kernel == 0).sum()) for kernel in kernels)
        assert zeros / sum(kernel.size for kernel in kernels) >= SPARSITY - 0.01

    def check_cluster(self, report: Report, out: Path) -> None:
        for kernel in self.kernels(out / FILES[self.native]):
            assert len(np.unique(kernel[kernel != 0])) <= CLUSTERS

    def check_finetune(self, report: Report, out: Path) -> None:
        assert all(len(step.epochs) == 2 for step in report.steps if step.technique == "finetune")

    def check_distill(self, report: Report, out: Path) -> None:
        assert all(len(step.epochs) == 2 for step in report.steps if step.technique == "distill")

    def check_quantize(self, report: Report, out: Path) -> None:
        assert set(weight_types((out / "model.tflite").read_bytes())) == {"int8", "int32"}

    check_quantize_aware = check_quantize
