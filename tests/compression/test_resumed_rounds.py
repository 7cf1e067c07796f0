"""A training in rounds that was broken off goes on in its round, and ends as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherweight.events import Event, ResumedEvent
from featherweight.spec import CompressionSpec
from tasks.compression import Outcome, compress, resuming
from tasks.compression.backends.tensorflow._framework import keras
from tests.compression.breaking import Broken, broken_off_at, same_bits, saved_weights, told
from tests.compression.networks import digits, save_model

ROUNDS, EPOCHS = 3, 2


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("rounds")
    layers = keras.layers
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            layers.InputLayer((28, 28)),
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(8, 5, strides=3, activation="relu", name="conv"),
            layers.BatchNormalization(),
            layers.Conv2D(12, 3, activation="relu", name="wide"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2),
            layers.Dense(10, name="logits"),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    x, y = digits()
    model.fit(x[:400], y[:400], epochs=1, verbose=0)
    np.savez(folder / "digits.npz", x=x[:220], y=y[:220])
    return save_model(model, folder / "m.keras"), folder / "digits.npz"


@pytest.fixture(autouse=True)
def at_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "AT_EPOCH_END_S", 0.0)
    monkeypatch.setattr(resuming, "COST_SHARE", 1e9)


def spec(importance: str) -> CompressionSpec:
    cut = {
        "technique": "prune_channels",
        "target": {"type": "parameters", "keep": 0.5},
        "iterations": ROUNDS,
        "importance": importance,
    }
    training = {"technique": "finetune", "epochs": EPOCHS, "batch_size": 16, "optimizer": "adamw"}
    return CompressionSpec.model_validate({"steps": [cut, training], "outputs": ["keras"], "seed": 7})


def run(files: tuple[Path, Path], importance: str, work: Path, **options: Any) -> Outcome:
    return compress(files[0], spec(importance), dataset=files[1], workdir=work, **options)


def without_resuming(details: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in details.items() if not name.startswith("resumed")}
    channels = dict(kept["prune_channels"])
    channels["rounds"] = [
        {name: value for name, value in each.items() if not name.startswith("resumed")}
        for each in channels["rounds"]
    ]
    return {**kept, "prune_channels": channels}


@pytest.mark.parametrize("importance", ["l2", "taylor"])
def test_training_in_rounds_goes_on_in_its_round_and_ends_with_the_same_bits(
    files: tuple[Path, Path], tmp_path: Path, importance: str
) -> None:
    expected = run(files, importance, tmp_path / "undisturbed")
    work = tmp_path / "broken"

    said: list[Event] = []
    with pytest.raises(Broken):  # in the second epoch of the second round
        run(files, importance, work, emit=nth(4))
    with pytest.raises(Broken):
        run(files, importance, work, emit=both(said.append, broken_off_at("round 3 of 3")))
    resumed = [event for event in said if isinstance(event, ResumedEvent)]
    assert [(event.step, event.epoch, event.round) for event in resumed] == [
        (1, 0, None),
        (1, 0, 1),
        (1, 1, 1),
    ]

    said.clear()
    again = run(files, importance, work, emit=said.append)
    resumed = [event for event in said if isinstance(event, ResumedEvent)]
    assert (resumed[-1].step, resumed[-1].epoch, resumed[-1].round) == (1, 0, 2)

    step = again.report.steps[1]
    assert step.details["resumed_from_round"] == 2
    rounds = step.details["prune_channels"]["rounds"]
    assert [each.get("resumed_from_epoch") for each in rounds] == [None, 1, None]
    assert again.report.steps[0].reused
    page = (work / "out" / "report.html").read_text()
    assert "Step 0, prune_channels: finished by an earlier attempt." in page
    assert "Step 1, finetune: gone on with after round 2 of an earlier attempt." in page
    assert told(step) == told(expected.report.steps[1])
    assert without_resuming(step.details) == without_resuming(expected.report.steps[1].details)
    assert again.report.warnings == expected.report.warnings
    weights = saved_weights(work / "out" / "model.keras")
    assert same_bits(weights, saved_weights(tmp_path / "undisturbed" / "out" / "model.keras"))
    # Nothing of the rounds is left once the step has ended.
    assert len(list((work / "steps").iterdir())) == 2
    assert list((work / "checkpoints").iterdir()) == []


def test_disk_without_room_for_a_round_is_warned_of_and_ends_nothing(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.compression.rounds import RoundResults

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RoundResults, "keep", full)
    outcome = run(files, "l2", tmp_path)
    assert "checkpoint_not_kept" in {warning.code for warning in outcome.report.warnings}
    assert len(outcome.report.steps[1].epochs) == ROUNDS * EPOCHS


def nth(count: int) -> Any:
    """Broken off when the log tells of an epoch for the time `count`."""
    told = 0

    def emit(event: Event) -> None:
        nonlocal told
        if getattr(event, "message", "").startswith("epoch "):
            told += 1
            if told == count:
                raise Broken

    return emit


def both(first: Any, second: Any) -> Any:
    def emit(event: Event) -> None:
        first(event)
        second(event)

    return emit
