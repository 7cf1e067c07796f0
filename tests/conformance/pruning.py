"""What the prune row of the catalogue promises, measured in the files it makes: the methods, patterns,
schedules and overrides. A framework's tests are a short subclass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from featherweight.report import LayerReport, Report
from featherweight.spec import OutputFormat
from tasks.compression import CompressionError, compress
from tasks.compression.outputs import FILES

Array = npt.NDArray[Any]
Run = Callable[..., tuple[Report, Path]]

TRAIN = {"technique": "finetune", "epochs": 2, "batch_size": 64}


def constant(sparsity: float) -> dict[str, Any]:
    return {"type": "constant_sparsity", "target_sparsity": sparsity}


def kept(size: int, sparsity: float) -> int:
    return int(np.round(size * (1 - sparsity)))


def matrix(kernel: Array) -> Array:
    return kernel.reshape(-1, kernel.shape[-1])


def layer(report: Report, name: str) -> LayerReport:
    return next(found for found in report.layers if found.name == name)


def codes(report: Report) -> set[str]:
    return {warning.code for warning in report.warnings}


def with_training(steps: list[dict[str, Any]], trained: bool) -> list[dict[str, Any]]:
    return [*steps, TRAIN] if trained else steps


both = pytest.mark.parametrize("trained", [False, True], ids=["one_shot", "finetuned"])


class PruningConformance:
    """The module of a subclass has two fixtures: `model_file`, a trained digit classifier with the layers
    conv (8 kernels of 3x3x1), mixed (a convolution of 8 input and 12 output channels), and logits (of 10
    classes), and `data_file`, its digits."""

    native: OutputFormat = "keras"
    """The framework's own format, in which networks are delivered in float."""

    beside: tuple[OutputFormat, ...] = ("tflite",)
    """Formats that are delivered and verified too; none where making them takes longer than all the rest."""

    magnitude_bears: float = 0.97
    """Up to which sparsity over all layers global magnitude leaves more than chance: it nearly empties the
    layer of the smallest weights, and how small those are depends on how the framework begins them."""

    @abstractmethod
    def kernels(self, path: Path) -> Mapping[str, Array]:
        """The weights of conv, mixed and logits in a delivered file, output channels last, inputs before."""

    @abstractmethod
    def save_mobile_network(self, path: Path) -> Path:
        """One that XNNPACK's sparse kernels can run, with a 1x1 convolution named pointwise."""

    @pytest.fixture
    def run(self, model_file: Path, data_file: Path, tmp_path: Path) -> Run:
        def run(*steps: dict[str, Any], data: bool = True) -> tuple[Report, Path]:
            spec = {"steps": list(steps), "outputs": [*self.beside, self.native]}
            outcome = compress(model_file, spec, dataset=data_file if data else None, workdir=tmp_path)
            return outcome.report, tmp_path / "out" / FILES[self.native]

        return run

    @both
    @pytest.mark.parametrize("method", ["global_magnitude", "lamp"])
    @pytest.mark.parametrize("sparsity", [0.7, 0.97])
    def test_global_methods_reach_the_sparsity_over_all_layers_and_empty_none(
        self, run: Run, method: str, sparsity: float, trained: bool
    ) -> None:
        step = {"technique": "prune", "method": method, "schedule": constant(sparsity)}
        report, path = run(*with_training([step], trained))
        kernels = self.kernels(path)
        size = sum(kernel.size for kernel in kernels.values())
        assert sum(np.count_nonzero(kernel) for kernel in kernels.values()) == kept(size, sparsity)
        assert all(np.count_nonzero(kernel) for kernel in kernels.values())
        shares = {name: 1 - np.count_nonzero(kernel) / kernel.size for name, kernel in kernels.items()}
        assert max(shares.values()) - min(shares.values()) > 0.05
        for name, share in shares.items():
            assert layer(report, name).target_sparsity == pytest.approx(share)
        assert report.steps[0].details["sparsity"] == sparsity
        if trained and (method == "lamp" or sparsity <= self.magnitude_bears):
            assert report.outputs[0].accuracy is not None
            assert report.outputs[0].accuracy.low > 0.2

    def test_one_shot_global_magnitude_keeps_the_largest_of_all(self, run: Run, model_file: Path) -> None:
        step = {"technique": "prune", "method": "global_magnitude", "schedule": constant(0.6)}
        _, path = run(step, data=False)
        before, after = self.kernels(model_file), self.kernels(path)
        gone = np.concatenate([abs(before[name][after[name] == 0]) for name in before])
        stays = np.concatenate([abs(before[name][after[name] != 0]) for name in before])
        assert gone.max() <= stays.min()

    @both
    def test_random_pruning_is_exact_and_repeats_with_its_seed(
        self, run: Run, model_file: Path, trained: bool
    ) -> None:
        step = {"technique": "prune", "method": "random", "schedule": constant(0.6)}
        _, path = run(*with_training([step], trained))
        before = self.kernels(model_file)["logits"]
        gone = self.kernels(path)["logits"] == 0
        assert np.count_nonzero(~gone) == kept(before.size, 0.6)
        # No respect of magnitudes: of the largest tenth, most go too.
        assert 0.5 < gone[abs(before) > np.quantile(abs(before), 0.9)].mean() < 0.7
        _, path = run(step, data=False)
        assert np.array_equal(self.kernels(path)["logits"] == 0, gone)

    @both
    @pytest.mark.parametrize("pooling", ["average", "max"])
    def test_blocks_become_zero_as_a_whole(self, run: Run, pooling: str, trained: bool) -> None:
        pattern = {"type": "block", "block_size": [1, 4], "pooling": pooling}
        step = {"technique": "prune", "pattern": pattern, "schedule": constant(0.75)}
        report, path = run(*with_training([step], trained))
        kernels = self.kernels(path)
        for name in ("conv", "mixed"):
            blocks = matrix(kernels[name]).reshape(-1, 4)
            alive = np.count_nonzero(blocks, axis=1)
            assert set(alive) == {0, 4}
            assert np.count_nonzero(alive) == kept(len(blocks), 0.75)
        assert np.count_nonzero(kernels["logits"]) == kernels["logits"].size
        assert "do not divide its matrix" in str(layer(report, "logits").skipped)
        assert "layer_skipped" in codes(report)

    def test_one_shot_blocks_are_the_weakest(self, run: Run, model_file: Path) -> None:
        pattern = {"type": "block", "block_size": [2, 4], "pooling": "max"}
        _, path = run({"technique": "prune", "pattern": pattern, "schedule": constant(0.5)}, data=False)

        def largest(kernel: Array) -> Array:
            rows, columns = matrix(kernel).shape
            return abs(matrix(kernel)).reshape(rows // 2, 2, columns // 4, 4).max(axis=(1, 3))

        before, after = (largest(self.kernels(file)["mixed"]) for file in (model_file, path))
        assert before[after == 0].max() <= before[after > 0].min()
        assert np.count_nonzero(after) == after.size // 2

    @both
    @pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2)])
    def test_n_of_m_holds_in_every_group(
        self, run: Run, model_file: Path, n: int, m: int, trained: bool
    ) -> None:
        step = {"technique": "prune", "pattern": {"type": "n_of_m", "n": n, "m": m}}
        report, path = run(*with_training([step], trained))
        kernels = self.kernels(path)
        for name in ("mixed", "logits"):
            groups = matrix(kernels[name]).T.reshape(-1, m)
            assert set(np.count_nonzero(groups, axis=1)) == {n}
            assert layer(report, name).target_sparsity == pytest.approx(1 - n / m)
            if not trained:
                before = abs(matrix(self.kernels(model_file)[name]).T.reshape(-1, m))
                assert (before[groups != 0].reshape(-1, n).min(1) >= np.sort(before, 1)[:, m - n]).all()
        assert "does not divide its 1 input channels" in str(layer(report, "conv").skipped)

    @pytest.mark.parametrize("pattern", [{"type": "n_of_m"}, {"type": "block", "block_size": [1, 16]}])
    def test_pattern_that_does_not_divide_a_layer_is_refused_by_its_name(
        self, run: Run, pattern: dict[str, Any]
    ) -> None:
        layers = {"include": ["conv"]}
        step = {"technique": "prune", "pattern": pattern, "layers": layers, "on_unsupported": "error"}
        with pytest.raises(CompressionError, match="divide") as caught:
            run(step, data=False)
        assert (caught.value.code, caught.value.layer) == ("layer_not_supported", "conv")

    @both
    def test_pattern_that_fits_no_layer_is_reported_as_no_change(self, run: Run, trained: bool) -> None:
        pattern = {"type": "block", "block_size": [7, 7]}
        report, _ = run(*with_training([{"technique": "prune", "pattern": pattern}], trained))
        assert {"layer_skipped", "nothing_changed"} <= codes(report)

    def test_custom_schedule_has_its_sparsity_at_every_epoch(self, run: Run) -> None:
        points = [
            {"fraction": 0.0, "sparsity": 0.0},
            {"fraction": 0.25, "sparsity": 0.4},
            {"fraction": 0.75, "sparsity": 0.8},
        ]
        schedule = {"type": "custom", "points": points}
        step = {"technique": "prune", "schedule": schedule, "layers": {"include": ["mixed"]}}
        report, path = run(step, {**TRAIN, "epochs": 4})
        reached = [epoch.sparsity for epoch in report.steps[1].epochs]
        assert reached == pytest.approx([0.4, 0.6, 0.8, 0.8], abs=0.02)
        kernel = self.kernels(path)["mixed"]
        assert np.count_nonzero(kernel) == kept(kernel.size, 0.8)
        resolved = report.spec["steps"][0]["schedule"]
        per_epoch = report.steps[1].details["optimiser_steps"] // 4
        assert [point["step"] for point in resolved["points"]] == [0, per_epoch, 3 * per_epoch]
        assert resolved["frequency"] == max(1, 3 * per_epoch // 20)

    def test_custom_schedule_of_steps_holds_each_until_the_next(self, run: Run) -> None:
        points = [{"step": 1, "sparsity": 0.2}, {"step": 30, "sparsity": 0.6}, {"step": 900, "sparsity": 0.9}]
        schedule = {"type": "custom", "points": points, "interpolation": "step", "frequency": 7}
        report, path = run({"technique": "prune", "schedule": schedule}, {**TRAIN, "epochs": 3})
        reached = [epoch.sparsity for epoch in report.steps[1].epochs]
        assert reached == pytest.approx([0.2, 0.6, 0.6], abs=0.01)
        kernel = self.kernels(path)["mixed"]
        assert np.count_nonzero(kernel) == kept(kernel.size, 0.6)
        (late,) = [item.message for item in report.warnings if item.code == "schedule_ends_late"]
        assert "90.00% at step 900" in late
        assert "60.00%" in late

    @both
    def test_overrides_and_exclusions_hold_for_their_layers_alone(self, run: Run, trained: bool) -> None:
        points = {"type": "custom", "points": [{"fraction": 0.5, "sparsity": 0.3}]}
        step = {
            "technique": "prune",
            "schedule": constant(0.8),
            "layers": {"include": ["*"], "exclude": ["conv"]},
            "overrides": [
                {"layers": {"include": ["mix*"]}, "schedule": points},
                {"layers": {"include": ["mixed", "conv"]}, "schedule": constant(0.9)},
            ],
        }
        report, path = run(*with_training([step], trained))
        kernels = self.kernels(path)
        assert np.count_nonzero(kernels["conv"]) == kernels["conv"].size
        assert np.count_nonzero(kernels["mixed"]) == kept(kernels["mixed"].size, 0.3)
        assert np.count_nonzero(kernels["logits"]) == kept(kernels["logits"].size, 0.8)
        assert layer(report, "mixed").target_sparsity == 0.3
        assert layer(report, "conv").target_sparsity is None
        assert "override_unused" in codes(report)  # the second: mixed was taken, conv is excluded

    def test_override_that_names_no_layer_is_refused_at_its_place(self, run: Run) -> None:
        override = {"layers": {"include": ["none_such"]}, "schedule": constant(0.9)}
        with pytest.raises(CompressionError) as caught:
            run({"technique": "prune", "overrides": [override]}, data=False)
        assert caught.value.code == "layer_not_found"
        assert caught.value.pointer == "/steps/0/overrides/0/layers/include/0"

    @pytest.mark.parametrize(
        "second", [{"method": "lamp"}, {"pattern": {"type": "n_of_m"}}, {"method": "random"}]
    )
    def test_zeros_of_an_earlier_step_stay(self, run: Run, second: dict[str, Any]) -> None:
        first = {"technique": "prune", "schedule": constant(0.6)}
        _, path = run(first, TRAIN)
        before = self.kernels(path)
        again = {"technique": "prune", "schedule": constant(0.9), **second}
        _, path = run(first, TRAIN, again, TRAIN)
        after = self.kernels(path)
        for name in before:
            assert not after[name][before[name] == 0].any()
        if "method" in second:
            size = sum(kernel.size for kernel in after.values())
            left = sum(np.count_nonzero(kernel) for kernel in after.values())
            assert left == pytest.approx(kept(size, 0.9), abs=2)

    def test_xnnpack_latency_prunes_the_pointwise_convolutions(self, tmp_path: Path) -> None:
        path = self.save_mobile_network(tmp_path / "mobile.keras")
        step = {"technique": "prune", "pattern": {"type": "xnnpack_latency"}, "schedule": constant(0.8)}
        step["layers"] = {"include": ["stem", "pointwise"]}
        report = compress(path, {"steps": [step]}, workdir=tmp_path / "work").report
        reached = {item.name: item.sparsity_after for item in report.layers if item.sparsity_after > 0.1}
        assert reached == {"pointwise": pytest.approx(0.8, abs=0.01)}
        plain = compress(
            path, {"steps": [{**step, "pattern": {"type": "unstructured"}}]}, workdir=tmp_path / "p"
        )
        assert report.outputs[0].bytes < plain.report.outputs[0].bytes - 4 * 64 * 64 // 2
        assert report.outputs[0].max_abs_difference is not None
        assert report.outputs[0].max_abs_difference < 1e-4
        assert "1x1" in str(layer(report, "stem").skipped)
        assert "unstructured_sparsity_no_speed" not in codes(report)

    def test_xnnpack_latency_refuses_another_network(self, run: Run) -> None:
        with pytest.raises(CompressionError, match="XNNPACK") as caught:
            run({"technique": "prune", "pattern": {"type": "xnnpack_latency"}}, data=False)
        assert caught.value.code == "layer_not_supported"
        assert caught.value.pointer == "/steps/0/pattern"
