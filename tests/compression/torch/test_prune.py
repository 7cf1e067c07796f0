"""Pruning at once and while a training runs, and what is reported of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from featherweight.spec import Prune
from tasks.compression import CompressionError
from tasks.compression.backends.torch.masking import Masking
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.prune import check
from tests.compression.torch.prunable_networks import (
    Array,
    Everything,
    SmallCnn,
    codes,
    constant,
    context,
    done,
    kernel,
    network,
    share,
    trained,
)

PATHS = ("conv", "mixed", "logits")


def step(**options: Any) -> dict[str, Any]:
    return {"technique": "prune", "schedule": constant(0.5), **options}


def decay(end: int, final: float = 0.8, frequency: int = 5) -> dict[str, Any]:
    return {
        "type": "polynomial_decay",
        "initial_sparsity": 0.2,
        "final_sparsity": final,
        "begin_step": 0,
        "end_step": end,
        "frequency": frequency,
    }


def cnn() -> Network:
    return network(SmallCnn(), 1, 12, 12)


def kept(size: int, sparsity: float) -> int:
    return int(np.round(size * (1 - sparsity)))


class TestAtOnce:
    def test_each_layer_has_its_zeros_and_the_rest_is_as_it_was(self) -> None:
        before = {path: kernel(cnn(), path) for path in PATHS}
        after, around = done(cnn(), step(schedule=decay(40, 0.7)))
        for path, was in before.items():
            values = kernel(after, path)
            assert np.count_nonzero(values) == kept(values.size, 0.7)
            assert (values[values != 0] == was[values != 0]).all()
            assert abs(was[values == 0]).max() <= abs(values[values != 0]).min()
            assert around.record.layers[path].target_sparsity == 0.7
        assert around.record.details == {"method": "magnitude", "pattern": "unstructured", "layers": 3}
        assert after.pruned == dict.fromkeys(PATHS, 0.7)
        assert not after.pending
        assert codes(around) == []

    @pytest.mark.parametrize("method", ["global_magnitude", "lamp"])
    def test_global_methods_say_what_each_layer_came_to(self, method: str) -> None:
        after, around = done(cnn(), step(method=method, schedule=constant(0.9)))
        kernels = [kernel(after, path) for path in PATHS]
        assert sum(map(np.count_nonzero, kernels)) == kept(sum(item.size for item in kernels), 0.9)
        for path, values in zip(PATHS, kernels, strict=True):
            assert around.record.layers[path].target_sparsity == pytest.approx(share(values))
        assert around.record.details["sparsity"] == 0.9

    def test_every_kind_of_kernel_is_pruned_and_others_are_named(self) -> None:
        given = network(Everything(), 5)
        after, around = done(given, step())
        counts = {"words": 1, "attention": 2, "recurrent": 8, "along": 1, "up": 1, "last": 1}
        for path, count in counts.items():
            for index in range(count):
                assert share(kernel(after, path, index)) == pytest.approx(0.5, abs=1e-6), path
        assert set(after.pruned) == set(counts)
        assert {warning.layer for warning in around.record.warnings} == {"depthwise", "norm"}
        assert set(codes(around)) == {"layer_skipped"}
        assert around.record.layers["depthwise"].skipped == (
            "there is no magnitude pruning for depthwise Conv1d layers"
        )

    def test_groups_run_along_the_input_channels_of_every_kind(self) -> None:
        after, around = done(network(Everything(), 5), step(pattern={"type": "n_of_m"}))
        for path, count in {"attention": 2, "recurrent": 8, "along": 1, "last": 1}.items():
            for index in range(count):
                weight = kernel(after, path, index)
                groups = weight.swapaxes(1, -1).reshape(-1, 4)
                assert set(np.count_nonzero(groups, axis=1)) == {2}, path
        assert set(np.count_nonzero(kernel(after, "up").T.reshape(-1, 4), axis=1)) == {2}
        assert "the pattern n_of_m is for" in str(around.record.layers["words"].skipped)

    def test_blocks_lie_in_the_matrix_of_inputs_and_outputs(self) -> None:
        pattern = {"type": "block", "block_size": [2, 4]}
        after, around = done(cnn(), step(pattern=pattern, schedule=constant(0.75)))
        matrix = kernel(after, "mixed").transpose(2, 3, 1, 0).reshape(-1, 12)
        alive = np.count_nonzero(matrix.reshape(36, 2, 3, 4), axis=(1, 3))
        assert set(alive.flat) == {0, 8}
        assert np.count_nonzero(alive) == kept(alive.size, 0.75)
        assert "blocks of 2x4 do not divide its matrix of 9x8" in str(around.record.layers["conv"].skipped)
        assert share(kernel(after, "logits")) == 0

    def test_overrides_and_exclusions_hold_for_their_layers_alone(self) -> None:
        given = step(
            layers={"include": ["*"], "exclude": ["conv"]},
            overrides=[
                {"layers": {"include": ["mix*"]}, "schedule": constant(0.25)},
                {"layers": {"include": ["mixed", "conv"]}, "schedule": constant(0.9)},
            ],
        )
        after, around = done(cnn(), given)
        assert [share(kernel(after, path)) for path in PATHS] == [0, 0.25, 0.5]
        assert codes(around) == ["override_unused"]
        assert "Override 1" in around.record.warnings[0].message

    def test_zeros_of_an_earlier_step_stay(self) -> None:
        for later in ({"method": "lamp"}, {"pattern": {"type": "n_of_m"}}, {"method": "random"}, {}):
            before, _ = done(cnn(), step(method="random"))
            was = {path: kernel(before, path) for path in PATHS}
            after, _ = done(before, step(schedule=constant(0.7), **later))
            for path, values in was.items():
                assert not kernel(after, path)[values == 0].any()
                assert share(kernel(after, path)) > 0.55 or path == "conv"

    def test_less_than_there_is_already_changes_nothing(self) -> None:
        first, _ = done(cnn(), step())
        after, _ = done(first, step(schedule=constant(0.3)))
        assert all(share(kernel(after, path)) == pytest.approx(0.5) for path in PATHS)
        assert after.pruned == pytest.approx(dict.fromkeys(PATHS, 0.5))

    def test_of_steps_carried_out_together_the_later_counts(self) -> None:
        after, _ = done(cnn(), step(layers={"include": ["mixed", "logits"]}), step(schedule=constant(0.25)))
        assert [share(kernel(after, path)) for path in PATHS] == [0.25, 0.25, 0.25]

    def test_tied_weight_is_pruned_once(self) -> None:
        class Tied(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.words, self.last = nn.Embedding(20, 8), nn.Linear(8, 20)
                self.last.weight = self.words.weight

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.last(self.words(x).mean(1))

        for method in ("magnitude", "global_magnitude"):
            after, _ = done(network(Tied(), 3), step(method=method))
            assert share(kernel(after, "words")) == share(kernel(after, "last")) == 0.5

    def test_summaries_need_a_training(self) -> None:
        _, around = done(cnn(), step(summaries=True))
        assert codes(around) == ["summaries_need_training"]


class TestRefusals:
    def refused(self, given: Network, **options: Any) -> CompressionError:
        with pytest.raises(CompressionError) as caught:
            check(given, Prune.model_validate(step(**options)), "/steps/0")
        return caught.value

    def test_layer_that_cannot_be_pruned_by_its_name(self) -> None:
        error = self.refused(network(Everything(), 5), on_unsupported="error")
        assert (error.code, error.layer, error.pointer) == (
            "layer_not_supported",
            "depthwise",
            "/steps/0/layers",
        )

    def test_layer_that_the_pattern_does_not_fit(self) -> None:
        error = self.refused(cnn(), on_unsupported="error", pattern={"type": "n_of_m"})
        assert (error.code, error.layer) == ("layer_not_supported", "conv")
        assert "4 does not divide its 1 input channels" in str(error)

    def test_pattern_for_xnnpacks_sparse_kernels(self) -> None:
        error = self.refused(cnn(), pattern={"type": "xnnpack_latency"})
        assert (error.code, error.pointer) == ("layer_not_supported", "/steps/0/pattern")
        assert "XNNPACK" in str(error)

    def test_layers_and_overrides_that_are_not_there(self) -> None:
        error = self.refused(cnn(), layers={"include": ["mixd"]})
        assert (error.code, error.pointer) == ("layer_not_found", "/steps/0/layers/include/0")
        assert "mixed" in str(error.hint)
        override = {"layers": {"include": ["none_such"]}, "schedule": constant(0.9)}
        error = self.refused(cnn(), overrides=[override])
        assert (error.code, error.pointer) == ("layer_not_found", "/steps/0/overrides/0/layers/include/0")


class TestTraining:
    def test_sparsity_follows_its_schedule_and_ends_exactly(self) -> None:
        given, _ = done(cnn(), step(schedule=decay(40)), trains=True)
        assert all(share(kernel(given, path)) == 0 for path in PATHS)
        around = context()
        part = Masking(given, 50, around)
        assert part.settled == 40
        seen: dict[int, float] = {}
        after = {
            number: (lambda number=number: seen.update({number: part.sparsity()})) for number in range(1, 51)
        }
        final = trained(given, part, 50, around, after=after)
        for number, reached in seen.items():
            last = max(at for at in (1, *range(5, 41, 5)) if at <= number)
            assert reached == pytest.approx(0.8 - 0.6 * (1 - last / 40) ** 3, abs=0.01), number
        for path in PATHS:
            values = kernel(final, path)
            assert np.count_nonzero(values) == kept(values.size, 0.8)
        assert final.pruned == dict.fromkeys(PATHS, 0.8)
        assert codes(around) == []

    def test_what_is_zero_stays_zero_after_every_step(self) -> None:
        given, _ = done(cnn(), step(schedule=decay(20)), trains=True)
        part = Masking(given, 20, context())
        gone: dict[str, Array] = {path: np.zeros(kernel(given, path).shape, bool) for path in PATHS}

        def look() -> None:
            for path in PATHS:
                values = kernel(given, path)
                assert not values[gone[path]].any()
                gone[path] |= values == 0
            assert share(kernel(given, "mixed")) == pytest.approx(part.sparsity(), abs=0.02)

        trained(given, part, 20, context(), after=dict.fromkeys(range(1, 21), look))
        assert gone["logits"].mean() == pytest.approx(0.8, abs=0.01)

    @pytest.mark.parametrize("method", ["lamp", "global_magnitude", "random"])
    def test_methods_are_exact_in_training_too(self, method: str) -> None:
        given, _ = done(cnn(), step(method=method, schedule=decay(12, 0.9)), trains=True)
        around = context()
        final = trained(given, Masking(given, 12, around), 12, around)
        kernels = [kernel(final, path) for path in PATHS]
        size = sum(item.size for item in kernels)
        assert sum(map(np.count_nonzero, kernels)) == pytest.approx(kept(size, 0.9), abs=1.5)
        if method != "random":
            for path, values in zip(PATHS, kernels, strict=True):
                assert around.record.layers[path].target_sparsity == pytest.approx(share(values))

    def test_zeros_the_model_came_with_are_kept_and_said(self) -> None:
        given, _ = done(cnn(), step(layers={"include": ["mixed"]}))
        given = Network(given.model, given.signature)
        was, around = kernel(given, "mixed"), context()
        final = trained(given, Masking(given, 8, around), 8, around)
        assert ((kernel(final, "mixed") == 0) == (was == 0)).all()
        assert (kernel(final, "mixed") != was).any()
        assert share(kernel(final, "logits")) == 0
        (said,) = around.record.warnings
        assert (said.code, said.layer) == ("existing_zeros_kept", "mixed")

    def test_schedule_that_ends_late_says_what_is_reached(self) -> None:
        given, _ = done(cnn(), step(schedule=decay(100, frequency=10)), trains=True)
        around = context()
        final = trained(given, Masking(given, 25, around), 25, around)
        (said,) = around.record.warnings
        reached = 0.8 - 0.6 * 0.8**3
        assert said.code == "schedule_ends_late"
        assert f"{reached:.2%}" in said.message
        assert share(kernel(final, "mixed")) == pytest.approx(reached, abs=1e-3)

    def test_rare_updates_are_said(self) -> None:
        given, _ = done(cnn(), step(schedule=decay(10, frequency=5)), trains=True)
        around = context()
        Masking(given, 10, around)
        assert codes(around) == ["fewer_steps_than_frequency"]

    def test_weights_that_are_no_numbers_do_not_hide_behind_a_mask(self) -> None:
        given, _ = done(cnn(), step(schedule=decay(8, frequency=2)), trains=True)
        part = Masking(given, 8, context())

        def spoil() -> None:
            next(given.model.mixed.parameters()).data.fill_(np.nan)

        final = trained(given, part, 8, context(), after={4: spoil})
        assert np.isnan(kernel(final, "mixed")).all()

    def test_training_goes_on_from_what_was_kept(self) -> None:
        whole, _ = done(cnn(), step(method="lamp", schedule=decay(20)), trains=True)
        part = Masking(whole, 20, context())
        kept_state: dict[str, Any] = {}

        def keep() -> None:
            kept_state["model"] = {name: value.clone() for name, value in whole.model.state_dict().items()}
            kept_state["part"] = dict(part.state_dict())

        trained(whole, part, 12, context(), after={12: keep})
        again, _ = done(cnn(), step(method="lamp", schedule=decay(20)), trains=True)
        other = Masking(again, 20, context())
        other.begin(again.model)
        again.model.load_state_dict(kept_state["model"])
        other.load_state_dict(kept_state["part"])
        assert other.sparsity() == part.sparsity()
        assert other.summary() == part.summary()
        with torch.no_grad():
            again.model.mixed.weight.add_(1.0)
        other.after_step(13)
        assert ((kernel(again, "mixed") == 0) == (kernel(whole, "mixed") == 0)).all()

    def test_summary_has_the_sparsity_and_threshold_of_each_kernel(self) -> None:
        given, _ = done(cnn(), step(schedule=decay(8, frequency=2)), trains=True)
        part = Masking(given, 8, context())
        trained(given, part, 8, context())
        told = part.summary()
        assert set(told) == {
            f"{path}.weight/mask/{what}" for path in PATHS for what in ("sparsity", "threshold")
        }
        for path in PATHS:
            assert told[f"{path}.weight/mask/sparsity"] == pytest.approx(0.8, abs=0.01)
            assert told[f"{path}.weight/mask/threshold"] > 0.01
