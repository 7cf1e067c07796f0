"""What the quantize_aware row of the catalogue promises, measured in the files it makes. A framework's tests
are a short subclass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from featherweight.report import LayerReport, Report
from tasks.compression import CompressionError
from tasks.compression.outputs import FILES
from tasks.compression.tflite import tensors
from tests.conformance.jobs import JobConformance, Run
from tests.conformance.stored import kernel

Array = npt.NDArray[Any]

CHANCE = 0.1
TRAIN = {"technique": "finetune", "epochs": 2, "batch_size": 64}
SHAPES = {"conv": (8, 3, 3, 1), "mixed": (12, 3, 3, 8)}


def rounded(**options: Any) -> dict[str, Any]:
    return {"technique": "quantize_aware", **options}


def pruned(sparsity: float = 0.7) -> dict[str, Any]:
    schedule = {"type": "constant_sparsity", "target_sparsity": sparsity}
    return {"technique": "prune", "schedule": schedule}


def types(out: Path) -> set[str]:
    return {item.dtype for item in tensors((out / "model.tflite").read_bytes())}


def codes(report: Report) -> set[str]:
    return {warning.code for warning in report.warnings}


def layer(report: Report, name: str) -> LayerReport:
    return next(found for found in report.layers if found.name == name)


class RoundingConformance(JobConformance):
    """The module of a subclass has two fixtures: `model_file`, a trained digit classifier with the layers
    conv and mixed (convolutions of SHAPES) and logits, and `data_file`, its digits."""

    narrow = frozenset(SHAPES)
    """The layers whose weights the file stores in 4 bits where they have no more."""

    @abstractmethod
    def kernels(self, path: Path) -> Mapping[str, Array]:
        """The weights of conv and mixed in a delivered file of the framework's own format, [output channels,
        everything else], in the order that a ``.tflite`` has them in."""

    def stored(self, out: Path, name: str) -> Array:
        """A kernel of the ``.tflite`` [output channels, everything else]."""
        values = kernel((out / "model.tflite").read_bytes(), SHAPES[name])
        return values.reshape(len(values), -1)

    @pytest.mark.parametrize("io_dtype", ["float32", "int8"])
    def test_every_tensor_is_an_integer_and_the_file_does_what_was_trained(
        self, run: Run, io_dtype: str
    ) -> None:
        report, out = run(rounded(io_dtype=io_dtype), TRAIN)
        output, trained = report.outputs
        assert types(out) == {"int8", "int32"} | {io_dtype}
        assert (output.scheme, output.input_dtype) == ("quantize_aware", io_dtype)
        assert "partly_quantized" not in codes(report)
        assert output.agreement is not None
        assert output.agreement > 0.97
        assert output.accuracy is not None
        assert trained.accuracy is not None
        assert output.accuracy.low > 4 * CHANCE
        assert output.accuracy.value > trained.accuracy.value - 0.03
        assert trained.max_abs_difference == pytest.approx(0, abs=1e-4)
        details = report.steps[1].details["quantize_aware"]
        assert details["scheme"] == "quantisation-aware training"
        assert details["layers"] == {"conv": "int8", "mixed": "int8", "logits": "int8"}

    def test_training_learns_to_be_rounded(self, run: Run) -> None:
        trained, _ = run(rounded(weight_bits=2), {**TRAIN, "epochs": 3})
        untrained, _ = run(rounded(weight_bits=2), {**TRAIN, "epochs": 1, "learning_rate": 1e-9})
        assert trained.outputs[0].accuracy is not None
        assert untrained.outputs[0].accuracy is not None
        assert trained.outputs[0].accuracy.value > untrained.outputs[0].accuracy.value + 0.02

    @pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
    def test_kernels_have_no_more_levels_than_the_bits_allow(self, run: Run, bits: int) -> None:
        report, out = run(rounded(weight_bits=bits), TRAIN)
        for name in SHAPES:
            assert max(len(np.unique(channel)) for channel in self.stored(out, name)) <= 2**bits - 1
            assert report.steps[1].details["quantize_aware"]["layers"][name] == (
                "int4" if bits <= 4 and name in self.narrow else "int8"
            )
        assert report.outputs[0].accuracy is not None
        assert report.outputs[0].accuracy.low > 3 * CHANCE

    @pytest.mark.parametrize("before", [[], [TRAIN]], ids=["same_training", "earlier"])
    @pytest.mark.parametrize("bits", [8, 4])
    def test_zeros_are_there_in_the_integer_kernels(
        self, run: Run, before: list[dict[str, Any]], bits: int
    ) -> None:
        report, out = run(pruned(), *before, rounded(weight_bits=bits), TRAIN)
        for name, weights in self.kernels(out / FILES[self.native]).items():
            assert np.count_nonzero(weights) == np.round(0.3 * weights.size)
            assert not self.stored(out, name)[weights == 0].any()
            assert layer(report, name).sparsity_after == pytest.approx(0.7, abs=0.01)
        assert "(PQAT)" in report.steps[-1].details["quantize_aware"]["scheme"]
        assert report.steps[-1].epochs[-1].sparsity == pytest.approx(0.7, abs=0.01)
        assert report.outputs[0].accuracy is not None
        assert report.outputs[0].accuracy.low > 3 * CHANCE

    @pytest.mark.parametrize("before", [[], [TRAIN]], ids=["same_training", "earlier"])
    @pytest.mark.parametrize("zeros", [False, True], ids=["cqat", "pcqat"])
    def test_values_stay_shared_in_the_integer_kernels(
        self, run: Run, before: list[dict[str, Any]], zeros: bool
    ) -> None:
        share = {"technique": "cluster", "clusters": 6}
        report, out = run(*[pruned()][: int(zeros)], share, *before, rounded(), TRAIN)
        for name, weights in self.kernels(out / FILES[self.native]).items():
            assert len(np.unique(weights[weights != 0])) <= 6
            if zeros:
                assert np.count_nonzero(weights) == np.round(0.3 * weights.size)
            for wide, narrow in zip(weights, self.stored(out, name), strict=True):
                # One integer for one value: the same weights are alike in both.
                assert len(np.unique(narrow)) <= len(np.unique(wide))
                pairs = {(value, level) for value, level in zip(wide, narrow, strict=True)}
                assert len(pairs) == len(np.unique(wide))
                assert not narrow[wide == 0].any()
        scheme = report.steps[-1].details["quantize_aware"]["scheme"]
        assert scheme.endswith("(PCQAT)" if zeros else "(CQAT)")
        assert report.outputs[0].accuracy is not None
        assert report.outputs[0].accuracy.low > 3 * CHANCE

    def test_schedule_runs_while_the_network_learns_to_be_rounded(self, run: Run) -> None:
        schedule = {"type": "polynomial_decay", "initial_sparsity": 0.1, "final_sparsity": 0.8}
        report, out = run({"technique": "prune", "schedule": schedule}, rounded(), {**TRAIN, "epochs": 3})
        reached = [epoch.sparsity or 0.0 for epoch in report.steps[-1].epochs]
        assert 0.1 < reached[0] < reached[1] < reached[2]
        assert reached[2] == pytest.approx(0.8, abs=0.01)
        for name, weights in self.kernels(out / FILES[self.native]).items():
            assert np.count_nonzero(weights) == np.round(0.2 * weights.size)
            assert not self.stored(out, name)[weights == 0].any()

    def test_selection_leaves_the_others_float(self, run: Run) -> None:
        report, out = run(rounded(layers={"include": ["mixed"]}), TRAIN)
        assert self.stored(out, "mixed").dtype == np.int8
        assert self.stored(out, "conv").dtype == np.float32
        found = report.steps[1].details["quantize_aware"]["layers"]
        assert found == {"conv": "float32", "mixed": "int8", "logits": "float32"}
        assert {"partly_quantized", "left_float"}.isdisjoint(codes(report))

    def test_goes_together_with_removed_channels_and_distillation(self, run: Run) -> None:
        teach = {**TRAIN, "technique": "distill", "temperature": 2.0, "weight": 0.7, "features": ["logits"]}
        report, out = run({"technique": "prune_channels"}, rounded(io_dtype="int8"), teach)
        assert types(out) == {"int8", "int32"}
        assert kernel((out / "model.tflite").read_bytes(), (6, 3, 3, 4)).dtype == np.int8
        assert report.outputs[0].accuracy is not None
        assert report.outputs[0].accuracy.low > 3 * CHANCE

    def test_job_tried_again_delivers_the_same_files(self, run: Run) -> None:
        first, _ = run(pruned(), rounded(), TRAIN)
        second, _ = run(pruned(), rounded(), TRAIN)
        assert [step.reused for step in second.steps] == [True, True, True]
        for before, after in zip(first.outputs, second.outputs, strict=True):
            assert after.sha256 == before.sha256
            assert after.max_abs_difference == before.max_abs_difference

    def test_ends_that_stay_float_cannot_be_integers(self, run: Run) -> None:
        with pytest.raises(CompressionError, match="stays float") as caught:
            run(rounded(io_dtype="int8", layers={"include": ["mixed"]}), TRAIN)
        assert (caught.value.code, caught.value.pointer) == ("layer_not_supported", "/steps/0/io_dtype")

    def test_without_data_it_is_refused(self, run: Run) -> None:
        with pytest.raises(CompressionError) as caught:
            run(rounded(), TRAIN, data=False)
        assert (caught.value.code, caught.value.pointer) == ("dataset_required", "/steps/0")

    @pytest.mark.parametrize("group", ["include", "exclude"])
    def test_pattern_that_matches_nothing_is_refused_at_its_place(self, run: Run, group: str) -> None:
        with pytest.raises(CompressionError) as caught:
            run(rounded(layers={group: ["none_such"]}), TRAIN)
        assert (caught.value.code, caught.value.pointer) == (
            "layer_not_found",
            f"/steps/0/layers/{group}/0",
        )
