"""What the prune_channels row of the catalogue promises, measured in the files it makes. A framework's tests
are a short subclass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
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
BEFORE = {"conv": 8, "mixed": 12, "logits": 10}


def channels(**options: Any) -> dict[str, Any]:
    return {"technique": "prune_channels", **options}


def codes(report: Report) -> list[str]:
    return [warning.code for warning in report.warnings]


class ChannelsConformance(JobConformance):
    """The module of a subclass has two fixtures: `model_file`, a trained digit classifier with the layers
    conv and mixed (convolutions of 8 and 12 output channels), and logits, and `data_file`, its digits."""

    @abstractmethod
    def kernels(self, path: Path) -> Mapping[str, Array]:
        """The weights of conv, mixed and logits in a delivered file, output channels last, inputs before."""

    rounds_native = False
    """Whether the native format holds integers after quantisation, in which small weights are zero too."""

    def check_half_is_zero(self, kernel: Array) -> None:
        nonzero = np.count_nonzero(kernel)
        assert nonzero == kernel.size // 2 or (
            self.rounds_native and 0.4 * kernel.size < nonzero < kernel.size // 2
        )

    def widths(self, out: Path) -> dict[str, int]:
        return {name: kernel.shape[-1] for name, kernel in self.kernels(out / FILES[self.native]).items()}

    def test_channels_are_gone_from_every_file(self, run: Run) -> None:
        report, out = run(channels(), data=False)
        assert self.widths(out) == {"conv": 4, "mixed": 6, "logits": 10}
        assert self.kernels(out / FILES[self.native])["mixed"].shape[-2] == 4
        shapes = {tuple(item.shape) for item in tensors((out / "model.tflite").read_bytes())}
        assert (6, 3, 3, 4) in shapes
        assert not any(12 in shape for shape in shapes)
        after = sum(layer.parameters for layer in report.layers)
        assert {output.parameters for output in report.outputs} == {after}
        assert report.original.parameters == sum(layer.parameters_before or 0 for layer in report.layers)
        assert all(output.max_abs_difference < 1e-4 for output in report.outputs)  # type: ignore[operator]
        found = report.steps[0].details
        assert found["channels"] == {
            name: {"before": before, "after": after}
            for (name, before), after in zip(BEFORE.items(), [4, 6, 10], strict=True)
        }
        assert found["parameters_after"] == after
        assert found["left_alone"] == {"logits": "they are an output of the model"}
        assert "channels_left_alone" in codes(report)
        assert "unstructured_sparsity_no_speed" not in codes(report)

    @pytest.mark.parametrize("measure", ["parameters", "macs"])
    @pytest.mark.parametrize("importance", ["l1", "l2", "geometric_median", "taylor", "random"])
    def test_target_is_met_and_training_recovers(self, run: Run, measure: str, importance: str) -> None:
        step = channels(target={"type": measure, "keep": 0.5}, importance=importance)
        report, _ = run(step, {"technique": "finetune", "epochs": 2, "batch_size": 64})
        found = report.steps[0].details
        assert found["met"]
        assert found[f"{measure}_after"] <= 0.5 * found[f"{measure}_before"]
        if measure == "parameters":
            assert report.outputs[0].parameters == found["parameters_after"]
        accuracy = report.outputs[0].accuracy
        assert accuracy is not None
        assert accuracy.low > 4 * CHANCE

    def test_goes_together_with_pruning_and_integers(self, run: Run) -> None:
        report, out = run(
            channels(),
            {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.5}},
            {"technique": "finetune", "epochs": 2, "batch_size": 64},
            {"technique": "quantize", "scheme": "full_int8"},
        )
        kernels = self.kernels(out / FILES[self.native])
        assert kernels["mixed"].shape[-2:] == (4, 6)
        self.check_half_is_zero(kernels["mixed"])
        assert report.outputs[0].scheme == "full_int8"
        assert report.outputs[0].accuracy is not None
        assert report.outputs[0].accuracy.low > 3 * CHANCE

    def test_job_tried_again_goes_on_with_the_smaller_network(self, run: Run) -> None:
        train = {"technique": "finetune", "batch_size": 64}
        first, _ = run(channels(), {**train, "epochs": 1})
        second, _ = run(channels(), {**train, "epochs": 2})
        third, out = run(channels(), {**train, "epochs": 2})
        assert [step.reused for step in second.steps] == [True, False]
        assert second.steps[0].details == first.steps[0].details
        assert [step.reused for step in third.steps] == [True, True]
        assert [output.sha256 for output in third.outputs] == [output.sha256 for output in second.outputs]
        assert self.widths(out) == {"conv": 4, "mixed": 6, "logits": 10}

    def test_overrides_selection_and_rounding_hold(self, run: Run) -> None:
        step = channels(
            overrides=[
                {"layers": {"include": ["conv"]}, "remove": 0.25},
                {"layers": {"include": ["*"], "exclude": ["mixed"]}, "remove": 0.75},
            ]
        )
        report, out = run(step, data=False)
        assert self.widths(out) == {"conv": 6, "mixed": 6, "logits": 10}
        assert codes(report).count("override_unused") == 1
        _, out = run(channels(layers={"exclude": ["conv"]}), data=False)
        assert self.widths(out) == {"conv": 8, "mixed": 6, "logits": 10}
        _, out = run(channels(round_to=8), data=False)
        assert self.widths(out) == {"conv": 8, "mixed": 8, "logits": 10}
        _, out = run(channels(target={"type": "ratio", "remove": 0.9}, min_channels=3), data=False)
        assert self.widths(out) == {"conv": 3, "mixed": 3, "logits": 10}

    def test_target_out_of_reach_is_reported(self, run: Run) -> None:
        report, _ = run(channels(target={"type": "parameters", "keep": 0.001}, min_channels=4), data=False)
        assert "target_not_reached" in codes(report)
        assert not report.steps[0].details["met"]

    def test_step_that_removes_nothing_says_so(self, run: Run) -> None:
        report, out = run(channels(layers={"include": ["logits"]}), data=False)
        assert {"nothing_changed", "channels_left_alone"} <= set(codes(report))
        assert self.widths(out) == BEFORE

    def test_layer_that_cannot_lose_channels_is_refused_by_name(self, run: Run) -> None:
        with pytest.raises(CompressionError, match="output of the model") as caught:
            run(channels(on_unsupported="error"), data=False)
        assert (caught.value.code, caught.value.layer) == ("layer_not_supported", "logits")
        assert (caught.value.pointer, caught.value.stage) == ("/steps/0/layers", "load")
        _, out = run(channels(on_unsupported="error", layers={"exclude": ["logits"]}), data=False)
        assert self.widths(out)["conv"] == 4

    @pytest.mark.parametrize(
        ("options", "pointer"),
        [
            ({"layers": {"include": ["none_such"]}}, "/steps/0/layers/include/0"),
            ({"layers": {"exclude": ["none_such"]}}, "/steps/0/layers/exclude/0"),
            (
                {"overrides": [{"layers": {"include": ["none_such"]}, "remove": 0.1}]},
                "/steps/0/overrides/0/layers/include/0",
            ),
        ],
    )
    def test_pattern_that_matches_nothing_is_refused_at_its_place(
        self, run: Run, options: dict[str, Any], pointer: str
    ) -> None:
        with pytest.raises(CompressionError) as caught:
            run(channels(**options), data=False)
        assert (caught.value.code, caught.value.pointer) == ("layer_not_found", pointer)

    def test_taylor_without_data_is_refused(self, run: Run) -> None:
        with pytest.raises(CompressionError) as caught:
            run(channels(importance="taylor"), data=False)
        assert (caught.value.code, caught.value.pointer) == ("dataset_required", "/steps/0")

    def test_criterion_without_its_layers_leaves_all_alone(self, run: Run) -> None:
        report, _ = run(channels(importance="batch_norm_scale"), data=False)
        assert set(report.steps[0].details["left_alone"]) == set(BEFORE)

    def test_rounds_of_cut_and_training_come_to_the_target(self, run: Run) -> None:
        report, out = run(
            channels(iterations=3, target={"type": "macs", "keep": 0.4}, importance="taylor"),
            {
                "technique": "finetune",
                "epochs": 2,
                "batch_size": 64,
                "learning_rate_schedule": {"type": "cosine"},
                "keep_best": True,
            },
        )
        waiting, training = report.steps
        assert waiting.details["asked"] == pytest.approx([0.4 ** (1 / 3), 0.4 ** (2 / 3), 0.4], abs=1e-5)
        assert waiting.details["left_alone"] == {"logits": "they are an output of the model"}
        assert waiting.epochs == []
        found = training.details["prune_channels"]
        macs = [part["macs"] for part in found["rounds"]]
        assert found["met"]
        assert found["macs_before"] > macs[0] > macs[1] > macs[2] == found["macs_after"]
        for part in found["rounds"]:
            assert part["met"]
            assert part["macs"] <= part["asked"] * found["macs_before"] + 1
        assert self.widths(out) == found["rounds"][-1]["channels"]
        assert {name: change["before"] for name, change in found["channels"].items()} == BEFORE
        assert {name: change["after"] for name, change in found["channels"].items()} == self.widths(out)
        assert report.outputs[0].parameters == found["rounds"][-1]["parameters"]
        assert [(epoch.round, epoch.epoch) for epoch in training.epochs] == [
            (round, epoch) for round in (1, 2, 3) for epoch in (1, 2)
        ]
        rates = [epoch.metrics["learning_rate"] for epoch in training.epochs]
        assert rates[:2] == rates[2:4] == rates[4:]
        assert rates[0] > 10 * rates[1]
        taken = [part["optimiser_steps"] for part in found["rounds"]]
        assert training.details["optimiser_steps"] == sum(taken) == 3 * taken[0]
        assert all(part["best_epoch"] in (1, 2) for part in found["rounds"])
        assert "best_epoch" not in training.details
        losses = [epoch.metrics["loss"] for epoch in training.epochs]
        assert losses[3] < losses[0]  # a round goes on with what the one before has learnt
        accuracy = report.outputs[0].accuracy
        assert accuracy is not None
        assert accuracy.low > 4 * CHANCE
        assert not {"nothing_changed", "target_not_reached"} & set(codes(report))

    def test_shares_of_layers_rise_from_round_to_round(self, run: Run) -> None:
        step = channels(
            iterations=2,
            target={"type": "ratio", "remove": 0.75},
            overrides=[{"layers": {"include": ["mixed"]}, "remove": 0.5}],
        )
        report, out = run(step, {"technique": "distill", "epochs": 1, "batch_size": 64})
        told = report.steps[1].details["prune_channels"]
        assert [part["asked"] for part in told["rounds"]] == [0.5, 0.75]
        assert [(part["channels"]["conv"], part["channels"]["mixed"]) for part in told["rounds"]] == [
            (4, 9),  # of 12 not 8.49: no more than the share is removed
            (2, 6),
        ]
        assert self.widths(out) == {"conv": 2, "mixed": 6, "logits": 10}

    def test_rounds_go_together_with_pruning_and_integers_after_them(self, run: Run) -> None:
        train = {"technique": "finetune", "epochs": 1, "batch_size": 64}
        report, out = run(
            channels(iterations=2),
            train,
            {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.5}},
            train,
            {"technique": "quantize", "scheme": "full_int8"},
        )
        kernels = self.kernels(out / FILES[self.native])
        assert kernels["mixed"].shape[-2:] == (4, 6)
        self.check_half_is_zero(kernels["mixed"])
        assert [epoch.round for epoch in report.steps[3].epochs] == [None]

    def test_job_tried_again_cuts_and_trains_once_more(self, run: Run) -> None:
        first, _ = run(channels(iterations=2), {"technique": "finetune", "epochs": 1, "batch_size": 64})
        train = {"technique": "finetune", "epochs": 1, "batch_size": 128}
        second, out = run(channels(iterations=2), train)
        third, _ = run(channels(iterations=2), train)
        assert [step.reused for step in second.steps] == [True, False]
        assert second.steps[0].details == first.steps[0].details
        assert self.widths(out) == {"conv": 4, "mixed": 6, "logits": 10}
        assert [step.reused for step in third.steps] == [True, True]
        assert third.steps[1].details == second.steps[1].details
        assert third.steps[1].epochs == second.steps[1].epochs

    def test_rounds_that_cannot_remove_anything_are_a_training(self, run: Run) -> None:
        step = channels(iterations=3, layers={"include": ["logits"]})
        report, out = run(step, {"technique": "finetune", "epochs": 1, "batch_size": 64})
        assert "nothing_changed" in codes(report)
        assert len(report.steps[1].epochs) == 1
        assert self.widths(out) == BEFORE

    def test_rounds_short_of_their_target_say_so_once(self, run: Run) -> None:
        step = channels(iterations=2, target={"type": "parameters", "keep": 0.001}, min_channels=4)
        report, _ = run(step, {"technique": "finetune", "epochs": 1, "batch_size": 64})
        assert codes(report).count("target_not_reached") == 1
        assert not report.steps[1].details["prune_channels"]["met"]
