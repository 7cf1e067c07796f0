"""What the cluster row of the catalogue promises, measured in the files it makes. A framework's tests are a
short subclass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ai_edge_litert import schema_py_generated as schema

from featherweight.report import LayerReport, Report
from tasks.compression import CompressionError
from tasks.compression.outputs import FILES
from tests.conformance.jobs import JobConformance, Run

Array = npt.NDArray[Any]

CHANCE = 0.1
TRAIN = {"technique": "finetune", "epochs": 2, "batch_size": 64}
PRUNE = {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.7}}
INT8 = {
    "technique": "quantize",
    "scheme": "full_int8",
    "granularity": "per_tensor",
    "calibration_samples": 100,
}

_MULTIPLIES = (
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,  # of one input channel it is the same
    schema.BuiltinOperator.FULLY_CONNECTED,
)

both = pytest.mark.parametrize("trained", [False, True], ids=["at_once", "finetuned"])


def layer(report: Report, name: str) -> LayerReport:
    return next(found for found in report.layers if found.name == name)


def codes(report: Report) -> set[str]:
    return {warning.code for warning in report.warnings}


def values(kernel: Array) -> int:
    """Distinct ones beside zero."""
    return len(np.unique(kernel[kernel != 0]))


def stored(path: Path) -> list[Array]:
    """The weights in a ``.tflite`` of what the model multiplies with, as the numbers that it stores."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    (graph,) = model.subgraphs
    found = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        if kind in _MULTIPLIES:
            tensor = graph.tensors[operator.inputs[1]]
            dtype = {schema.TensorType.INT8: np.int8, schema.TensorType.FLOAT32: np.float32}[tensor.type]
            found.append(np.frombuffer(bytes(model.buffers[tensor.buffer].data), dtype))
    assert len(found) == 3
    return found


def with_training(*steps: dict[str, Any], trained: bool) -> list[dict[str, Any]]:
    return [*steps, TRAIN] if trained else list(steps)


class ClusteringConformance(JobConformance):
    """The module of a subclass has two fixtures: `model_file`, a trained digit classifier with the layers
    conv (8 kernels of 3x3x1), mixed (a convolution of 8 input and 12 output channels), and logits (of 10
    classes), and `data_file`, its digits."""

    @abstractmethod
    def kernels(self, path: Path) -> Mapping[str, Array]:
        """The weights of conv, mixed and logits in a delivered file, output channels last, inputs before."""

    @both
    @pytest.mark.parametrize("initialization", ["linear", "density", "kmeans_plus_plus"])
    def test_every_kernel_has_no_more_values_than_asked_for(
        self, run: Run, initialization: str, trained: bool
    ) -> None:
        step = {"technique": "cluster", "clusters": 8, "initialization": initialization}
        report, out = run(*with_training(step, trained=trained))
        for name, kernel in self.kernels(out / FILES[self.native]).items():
            assert 2 <= len(np.unique(kernel)) <= 8
            assert layer(report, name).distinct_values_after == len(np.unique(kernel))
            assert (layer(report, name).distinct_values_before or 0) > 60
        assert all(len(np.unique(kernel)) <= 8 for kernel in stored(out / "model.tflite"))
        accuracy = report.outputs[0].accuracy
        assert accuracy is not None
        assert accuracy.low > (7 if trained else 3) * CHANCE
        assert report.steps[0].details["layers"] == {"conv": 8, "mixed": 8, "logits": 8}

    @both
    def test_channels_have_values_of_their_own(self, run: Run, trained: bool) -> None:
        _, out = run(
            *with_training({"technique": "cluster", "clusters": 4, "per_channel": True}, trained=trained)
        )
        for kernel in self.kernels(out / FILES[self.native]).values():
            channels = kernel.reshape(-1, kernel.shape[-1]).T
            assert all(2 <= len(np.unique(channel)) <= 4 for channel in channels)
            assert len(np.unique(kernel)) > 4

    @both
    def test_zeros_of_pruning_stay_and_are_not_counted(self, run: Run, trained: bool) -> None:
        report, out = run(*with_training(PRUNE, {"technique": "cluster", "clusters": 4}, trained=trained))
        for name, kernel in self.kernels(out / FILES[self.native]).items():
            assert np.count_nonzero(kernel) == round(kernel.size * 0.3)
            assert 3 <= values(kernel) <= 4
            assert layer(report, name).sparsity_after == pytest.approx(0.7, abs=0.01)

    def test_pruning_goes_on_while_weights_are_shared(self, run: Run) -> None:
        points = [{"fraction": 0.1, "sparsity": 0.3}, {"fraction": 0.9, "sparsity": 0.8}]
        prune = {"technique": "prune", "method": "lamp", "schedule": {"type": "custom", "points": points}}
        cluster = {"technique": "cluster", "clusters": 15, "begin": 0.4}
        report, out = run(prune, cluster, {**TRAIN, "epochs": 4})
        kernels = self.kernels(out / FILES[self.native]).values()
        size = sum(kernel.size for kernel in kernels)
        assert sum(np.count_nonzero(kernel) for kernel in kernels) == pytest.approx(size * 0.2, abs=1)
        assert all(values(kernel) <= 15 for kernel in kernels)
        reached = [epoch.sparsity for epoch in report.steps[2].epochs]
        assert reached == pytest.approx([0.3 + 0.5 * 0.15 / 0.8, 0.55, 0.3 + 0.5 * 0.65 / 0.8, 0.8], abs=0.03)
        accuracy = report.outputs[0].accuracy
        assert accuracy is not None
        assert accuracy.low > 7 * CHANCE

    def test_per_tensor_int8_has_few_numbers_too(self, run: Run) -> None:
        report, out = run(PRUNE, {"technique": "cluster", "clusters": 15}, TRAIN, INT8)
        found = stored(out / "model.tflite")
        assert [kernel.dtype for kernel in found] == [np.int8] * 3
        assert all(len(np.unique(kernel)) <= 16 for kernel in found)
        plain, _ = run(PRUNE, TRAIN, INT8)
        assert report.outputs[0].gzip_bytes < 0.9 * plain.outputs[0].gzip_bytes

    @pytest.mark.parametrize("later", [[TRAIN], [PRUNE], [PRUNE, TRAIN], [{"technique": "distill"}]])
    def test_later_steps_keep_zeros_and_shared_values(self, run: Run, later: list[dict[str, Any]]) -> None:
        first = [
            {**PRUNE, "schedule": {"type": "constant_sparsity", "target_sparsity": 0.4}},
            {"technique": "cluster", "clusters": 6},
            TRAIN,
        ]
        _, out = run(*first)
        before = self.kernels(out / FILES[self.native])
        _, out = run(*first, *later)
        for name, kernel in self.kernels(out / FILES[self.native]).items():
            assert not kernel[before[name] == 0].any()
            assert values(kernel) <= values(before[name])
            assert (kernel != before[name]).any()

    def test_later_training_moves_the_values_of_unpruned_layers_together(self, run: Run) -> None:
        step = {"technique": "cluster", "clusters": 5, "per_channel": True}
        _, out = run(step)
        before = self.kernels(out / FILES[self.native])
        _, out = run(step, TRAIN, {**TRAIN, "epochs": 1})
        for name, kernel in self.kernels(out / FILES[self.native]).items():
            channels = zip(
                *(item.reshape(-1, item.shape[-1]).T for item in (kernel, before[name])), strict=True
            )
            assert all(len(np.unique(after)) <= len(np.unique(was)) for after, was in channels)
            assert (kernel != before[name]).any()

    def test_overrides_and_exclusions_hold_for_their_layers_alone(self, run: Run) -> None:
        step = {
            "technique": "cluster",
            "clusters": 16,
            "layers": {"include": ["*"], "exclude": ["conv"]},
            "overrides": [
                {"layers": {"include": ["log*"]}, "clusters": 3},
                {"layers": {"include": ["logits", "conv"]}, "clusters": 5},
            ],
        }
        report, out = run(step, data=False)
        kernels = self.kernels(out / FILES[self.native])
        assert len(np.unique(kernels["conv"])) == kernels["conv"].size
        assert len(np.unique(kernels["mixed"])) == 16
        assert len(np.unique(kernels["logits"])) == 3
        assert report.steps[0].details["layers"] == {"mixed": 16, "logits": 3}
        assert "override_unused" in codes(report)

    @both
    def test_clusters_above_the_weights_of_a_layer_are_said(self, run: Run, trained: bool) -> None:
        report, out = run(*with_training({"technique": "cluster", "clusters": 200}, trained=trained))
        (said,) = [item for item in report.warnings if item.code == "nothing_shared"]
        assert said.layer == "conv"
        assert "72 different weights" in said.message
        assert len(np.unique(self.kernels(out / FILES[self.native])["conv"])) > (40 if trained else 71)

    def test_layer_that_is_not_there_is_refused_at_its_place(self, run: Run) -> None:
        override = {"layers": {"include": ["none_such"]}, "clusters": 4}
        with pytest.raises(CompressionError) as caught:
            run({"technique": "cluster", "overrides": [override]}, data=False)
        assert caught.value.code == "layer_not_found"
        assert caught.value.pointer == "/steps/0/overrides/0/layers/include/0"

    def test_centres_at_once_are_the_means_of_their_weights(self, run: Run, model_file: Path) -> None:
        _, out = run({"technique": "cluster", "clusters": 6}, data=False)
        before, after = self.kernels(model_file), self.kernels(out / FILES[self.native])
        for name, kernel in after.items():
            for value in np.unique(kernel):
                assert before[name][kernel == value].mean() == pytest.approx(value, abs=1e-5)
