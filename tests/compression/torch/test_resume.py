"""A training of a PyTorch network that was broken off goes on where it was, and ends with the same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featherweight.events import Event
from tasks.compression import CompressionError, resuming
from tasks.compression.backends.torch import finetune as module
from tasks.compression.backends.torch.distill import distill
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.training_parts import TrainingPart
from tasks.compression.checkpoints import Checkpoint, CheckpointFile
from tasks.compression.context import Context
from tasks.compression.progress import Progress
from tasks.compression.stopping import Stopped
from tests.compression.breaking import Broken, StopAfter, broken_off_at
from tests.compression.networks import digits
from tests.compression.torch.trainable import Array, DigitNet, context_of, finetune, network_of, tensors

EPOCHS = 3
PER_EPOCH = 9
SHAPE = (1, 28, 28)

CASES: dict[str, dict[str, Any]] = {
    "adam": {"augmentation": {"rotate_degrees": 10, "shift": 0.1}},
    "adamw": {"optimizer": "adamw", "keep_best": True, "gradient_clip_norm": 1.0},
    "nadam": {"optimizer": "nadam", "learning_rate_schedule": {"type": "cosine", "warmup_steps": 5}},
    "rmsprop": {"optimizer": "rmsprop", "class_weights": "balanced"},
    "sgd": {"optimizer": "sgd", "freeze_batch_norm": True},
    "sgd_momentum": {"optimizer": "sgd_momentum", "technique": "distill", "features": ["conv"]},
}


class Remembering(TrainingPart):
    """Adds to a weight what it has counted and drawn."""

    def __init__(self, *_: Any) -> None:
        self.steps, self.drawn, self.words = 0, torch.zeros(3, dtype=torch.bfloat16), ""

    def begin(self, model: Any) -> None:
        self._bias = model.logits.bias

    def before_step(self, step: int) -> None:
        self.steps += 1
        assert step == self.steps
        self.words += "x"

    def after_step(self, step: int) -> None:
        self.drawn = self.drawn + torch.rand(3).to(torch.bfloat16)
        with torch.no_grad():
            self._bias[:3] += 1e-3 * self.drawn.float() + 1e-5 * len(self.words)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "drawn": self.drawn, "words": self.words, "infinite": float("inf")}

    def load_state_dict(self, state: Any) -> None:
        assert state["infinite"] == float("inf")
        self.steps, self.drawn, self.words = state["steps"], state["drawn"], state["words"]


@pytest.fixture(autouse=True)
def at_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints as a long training has them, and a part that remembers."""
    monkeypatch.setattr(resuming, "AT_EPOCH_END_S", 0.0)
    monkeypatch.setattr(resuming, "COST_SHARE", 1e9)
    monkeypatch.setattr(module, "Masking", Remembering)


@pytest.fixture(scope="module")
def images() -> dict[str, Array]:
    x, y = digits()
    return {"x": x[:190, None], "y": y[:190]}


class Jobs:
    """Attempts at one training, whose checkpoints are in a folder."""

    def __init__(
        self,
        step: dict[str, Any],
        folder: Path,
        images: dict[str, Array],
        make: Callable[[], Network] = lambda: network_of(DigitNet(), SHAPE),
    ) -> None:
        self.make = make
        self.step = finetune(**{"epochs": EPOCHS, "batch_size": 16, **step})
        self.folder, self.images = folder, images
        folder.mkdir(exist_ok=True)
        self.file = CheckpointFile(folder / "k.npz", folder)

    def attempt(
        self, *, emit: Callable[[Event], None] | None = None, stop: Any = None
    ) -> tuple[Network, Context]:
        torch.manual_seed(3)
        network = self.make()
        asked, context = context_of(network, self.step, self.folder, **self.images)
        context = replace(context, checkpoints=self.file)
        if emit is not None:
            progress = Progress(emit, [("finetune", 1.0)])
            progress.begin()
            context = replace(context, progress=progress)
        if stop is not None:
            context = replace(context, stop=stop)
        torch.rand(int(np.random.default_rng().integers(50)))  # another process would have drawn otherwise
        handler: Any = distill if self.step["technique"] == "distill" else module.finetune
        return handler(network, asked, context), context


def told(context: Context) -> list[Any]:
    return [epoch.model_dump(exclude={"seconds"}) for epoch in context.record.epochs]


def assert_same(one: tuple[Network, Context], other: tuple[Network, Context]) -> None:
    left, right = tensors(one[0]), tensors(other[0])
    assert {name: value.tobytes() for name, value in left.items()} == {
        name: value.tobytes() for name, value in right.items()
    }
    assert told(one[1]) == told(other[1])
    for key in ("best_epoch", "optimiser_steps", "loss"):
        assert one[1].record.details.get(key) == other[1].record.details.get(key)


@pytest.mark.parametrize("case", CASES)
def test_training_broken_off_again_and_again_ends_with_the_same_bits(
    case: str, images: dict[str, Array], tmp_path: Path
) -> None:
    expected = Jobs(CASES[case], tmp_path / "undisturbed", images).attempt()
    assert expected[1].record.details["optimiser_steps"] == EPOCHS * PER_EPOCH
    assert "resumed_from_epoch" not in expected[1].record.details
    jobs = Jobs(CASES[case], tmp_path / "broken", images)
    with pytest.raises(Broken):
        jobs.attempt(emit=broken_off_at("epoch 2 of"))
    # From the end of epoch 1 to step 4 of the second, and from there to its sixth.
    for looks in (3, 1):
        with pytest.raises(Stopped):
            jobs.attempt(stop=StopAfter(looks))
    again = jobs.attempt()
    details = again[1].record.details
    assert (details["resumed_from_epoch"], details["resumed_from_step"]) == (1, PER_EPOCH + 6)
    assert_same(again, expected)


def test_training_that_was_over_when_told_to_stop_is_not_gone_on_with(
    images: dict[str, Array], tmp_path: Path
) -> None:
    step = {"early_stopping": {"patience": 1, "min_delta": 10.0}, "keep_best": True}
    expected = Jobs(step, tmp_path / "undisturbed", images).attempt()
    assert expected[1].record.details["stopped_after_epoch"] == 2
    jobs = Jobs(step, tmp_path / "stopped", images)
    with pytest.raises(Stopped):
        jobs.attempt(stop=StopAfter(2 * PER_EPOCH - 1))
    again = jobs.attempt()
    details = again[1].record.details
    assert (details["resumed_from_epoch"], details["stopped_after_epoch"]) == (2, 2)
    assert_same(again, expected)


def test_checkpoint_of_another_network_is_none(images: dict[str, Array], tmp_path: Path) -> None:
    jobs = Jobs({}, tmp_path / "broken", images)
    with pytest.raises(Broken):
        jobs.attempt(emit=broken_off_at("epoch 2 of"))
    found = jobs.file.newest()
    assert found is not None
    wrong = [np.zeros((3, 3), np.float32), *found.arrays[1:]]
    jobs.file.keep(Checkpoint(found.epoch, found.step, found.state, wrong))
    _, context = jobs.attempt()
    assert "resumed_from_epoch" not in context.record.details


def test_checkpoints_hold_no_pickles(images: dict[str, Array], tmp_path: Path) -> None:
    jobs = Jobs({}, tmp_path / "broken", images)
    with pytest.raises(Broken):
        jobs.attempt(emit=broken_off_at("epoch 2 of"))
    with np.load(tmp_path / "broken" / "k.npz", allow_pickle=False) as held:
        assert len(held.files) > 10  # reading each would fail on an object
        assert all(held[name].dtype.kind in "fiub" for name in held)


def test_last_good_network_may_be_an_earlier_attempts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "Masking", lambda *_: TrainingPart())
    x = 10 * np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    rate = {"type": "constant", "warmup_steps": 40_000}
    step = {"optimizer": "sgd", "learning_rate": 10.0, "learning_rate_schedule": rate, "epochs": 40}

    def linear() -> Network:
        return network_of(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 3)), (8,))

    def jobs(name: str) -> Jobs:
        return Jobs(step, tmp_path / name, {"x": x, "y": x[:, :3]}, linear)

    def failure(jobs: Jobs) -> CompressionError:
        with pytest.raises(CompressionError) as caught:
            jobs.attempt()
        assert caught.value.code == "training_diverged"
        assert caught.value.kept is not None
        return caught.value

    expected = failure(jobs("undisturbed"))
    broken = jobs("broken")
    with pytest.raises(Broken):
        broken.attempt(emit=broken_off_at("epoch 2 of"))
    again = failure(broken)
    assert again.detail == expected.detail
    left, right = tensors(again.kept.network), tensors(expected.kept.network)  # type: ignore[union-attr]
    assert all(left[name].tobytes() == right[name].tobytes() for name in left)
