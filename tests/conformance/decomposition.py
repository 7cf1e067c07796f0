"""What the decompose row of the catalogue promises, measured in the files it makes. A framework's tests are a
short subclass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from featherweight.report import Report
from tasks.compression import CompressionError
from tasks.compression.outputs import FILES
from tasks.compression.tflite import tensors
from tests.conformance.jobs import JobConformance, Run

Array = npt.NDArray[Any]

CHANCE = 0.1
RANKS: list[dict[str, Any]] = [
    {"type": "energy", "keep": 0.8},
    {"type": "parameters", "keep": 0.6},
    {"type": "budget", "keep": 0.6},
    {"type": "fixed", "rank": 5},
]


def low_rank(**options: Any) -> dict[str, Any]:
    return {"technique": "decompose", **options}


def codes(report: Report) -> list[str]:
    return [warning.code for warning in report.warnings]


class DecompositionConformance(JobConformance):
    """The module of a subclass has two fixtures: `model_file`, a trained digit classifier with the layers
    conv and mixed (3x3 convolutions of 8 and 12 output channels), and logits (dense, 432 to 10), and
    `data_file`, its digits."""

    @abstractmethod
    def kernels(self, path: Path) -> Mapping[str, Array]:
        """Every kernel of a delivered file by its layer's name, output channels last, inputs before."""

    named_in_integers: tuple[str, ...] = ()
    """The layers that can be told by name where the native format holds integers after quantisation."""

    @pytest.mark.parametrize("rank", RANKS, ids=lambda rank: rank["type"])
    def test_files_hold_fewer_parameters_and_what_was_asked_for(self, run: Run, rank: dict[str, Any]) -> None:
        report, out = run(low_rank(rank=rank), {"technique": "finetune", "epochs": 2, "batch_size": 64})
        found, layers = report.steps[0].details, report.steps[0].details["layers"]
        kernels = self.kernels(out / FILES[self.native])
        assert layers
        for name, one in layers.items():
            parts = [kernels[part] for part in one["layers"]]
            assert one["layers"][-1] == name
            assert sum(part.size for part in parts) < one["parameters_before"]
            assert one["macs_after"] < one["macs_before"]
            for before, after in pairwise(parts):
                assert before.shape[-1] == after.shape[-2]  # The rank, between one part and the next.
                assert before.shape[-1] in one["ranks"]
            if rank["type"] == "parameters":
                assert one["parameters_after"] <= rank["keep"] * one["parameters_before"]
            if rank["type"] == "fixed":
                assert all(width <= rank["rank"] for width in one["ranks"])
            if rank["type"] == "energy":
                assert one["energy_kept"] > 2 * rank["keep"] - 1  # Both axes may lose their share.
        stored = sum(
            np.prod(item.shape) for item in tensors((out / "model.tflite").read_bytes()) if item.stored
        )
        assert found["parameters_after"] <= stored < found["parameters_before"]
        if rank["type"] == "budget":
            assert found["parameters_after"] <= rank["keep"] * found["parameters_before"]
        assert found["macs_after"] < found["macs_before"]
        assert {output.parameters for output in report.outputs} == {found["parameters_after"]}
        assert report.original.parameters == found["parameters_before"]
        assert report.outputs[0].gzip_bytes < report.original.gzip_bytes
        assert all(output.max_abs_difference < 1e-3 for output in report.outputs)  # type: ignore[operator]
        accuracy = report.outputs[0].accuracy
        assert accuracy is not None
        assert accuracy.low > 4 * CHANCE

    def test_layers_of_the_report_say_what_they_were_made_from(self, run: Run) -> None:
        report, _ = run(
            low_rank(rank={"type": "fixed", "rank": 4}, layers={"include": ["mixed"]}), data=False
        )
        shown = {layer.name: (layer.made_from, layer.parameters_before) for layer in report.layers}
        assert shown == {
            "conv": (None, 80),
            "mixed_in": ("mixed", None),
            "mixed_core": ("mixed", None),
            "mixed": ("mixed", 876),
            "logits": (None, 4330),
        }
        sizes = {layer.name: layer.parameters for layer in report.layers}
        assert (sizes["mixed_in"], sizes["mixed_core"], sizes["mixed"]) == (32, 144, 60)
        assert sum(layer.parameters_before or 0 for layer in report.layers) == report.original.parameters

    def test_goes_together_with_channels_pruning_distillation_and_integers(self, run: Run) -> None:
        train = {"technique": "distill", "epochs": 2, "batch_size": 64, "features": ["mixed"]}
        report, out = run(
            low_rank(rank={"type": "fixed", "rank": 4}, layers={"exclude": ["conv"]}),
            {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.5}},
            train,
            {"technique": "quantize", "scheme": "full_int8"},
        )
        kernels = self.kernels(out / FILES[self.native])
        made = ("mixed_in", "mixed_core", "mixed", "logits_in", "logits")
        for name in self.named_in_integers or made:
            size = kernels[name].size
            # Integers may have more: a small weight is one of them.
            less = 0.1 * size if self.named_in_integers else 0
            assert size / 2 - 1 - less <= np.count_nonzero(kernels[name]) <= size / 2 + 1
        assert report.outputs[0].scheme == "full_int8"
        assert report.outputs[0].accuracy is not None
        assert report.outputs[0].accuracy.low > 3 * CHANCE
        made = {layer.name: layer.made_from for layer in report.layers}
        assert made["mixed_core"] == "mixed"
        target = next(layer.target_sparsity for layer in report.layers if layer.name == "mixed_core")
        assert target == 0.5
        channels = {"technique": "prune_channels", "layers": {"include": ["conv"]}}
        report, out = run(channels, low_rank(rank={"type": "fixed", "rank": 3}), data=False)
        assert self.kernels(out / FILES[self.native])["mixed_in"].shape[-2:] == (4, 3)

    def test_job_tried_again_goes_on_with_the_new_layers(self, run: Run) -> None:
        train = {"technique": "finetune", "batch_size": 64}
        first, _ = run(low_rank(), {**train, "epochs": 1})
        second, _ = run(low_rank(), {**train, "epochs": 2})
        assert [step.reused for step in second.steps] == [True, False]
        assert second.steps[0].details == first.steps[0].details
        assert [layer.made_from for layer in second.layers] == [layer.made_from for layer in first.layers]

    def test_ranks_are_multiples_where_that_is_asked_for(self, run: Run) -> None:
        report, out = run(low_rank(rank={"type": "energy", "keep": 0.5}, round_to=4), data=False)
        kernels = self.kernels(out / FILES[self.native])
        assert kernels["mixed_in"].shape[-1] % 4 == 0
        assert kernels["logits_in"].shape[-1] % 4 == 0
        assert report.steps[0].details["layers"]["mixed"]["energy_kept"] < 1

    def test_layer_that_would_not_become_smaller_is_named(self, run: Run) -> None:
        step = low_rank(rank={"type": "fixed", "rank": 12}, layers={"include": ["mixed"]})
        report, out = run(step, data=False)
        assert {"nothing_changed", "not_decomposed"} <= set(codes(report))
        assert self.kernels(out / FILES[self.native])["mixed"].shape[-2:] == (8, 12)
        assert next(layer.skipped for layer in report.layers if layer.name == "mixed")

    def test_share_out_of_reach_is_reported(self, run: Run) -> None:
        report, _ = run(low_rank(rank={"type": "budget", "keep": 0.001}), data=False)
        assert "rank_not_low_enough" in codes(report)

    @pytest.mark.parametrize("place", ["include", "exclude"])
    def test_pattern_that_matches_nothing_is_refused_at_its_place(self, run: Run, place: str) -> None:
        with pytest.raises(CompressionError) as caught:
            run(low_rank(layers={place: ["none_such"]}), data=False)
        assert caught.value.code == "layer_not_found"
        assert caught.value.pointer == f"/steps/0/layers/{place}/0"
