"""A job that was broken off goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from featherweight.spec import CompressionSpec
from tasks.compression import CompressionError, Outcome, compress, resuming
from tasks.compression.backends.tensorflow import checkpoints, fit
from tasks.compression.backends.tensorflow._framework import keras, tf
from tasks.compression.checkpoints import Checkpoint, CheckpointFile
from tasks.compression.stopping import Stopped
from tests.compression.breaking import (
    Broken,
    StopAfter,
    broken_off_at,
    finite,
    same_bits,
    saved_weights,
    told,
)
from tests.compression.networks import digits, save_model
from tests.compression.test_summaries import scalars

EPOCHS = 4
PER_EPOCH = 10

RISING = {"type": "polynomial_decay", "initial_sparsity": 0.2, "final_sparsity": 0.7, "frequency": 3}
PRUNE = {"technique": "prune", "schedule": RISING, "summaries": True}
GLOBAL = {**PRUNE, "method": "global_magnitude"}
AUGMENTED = {"augmentation": {"rotate_degrees": 10, "shift": 0.1}}
BEST = {
    "keep_best": True,
    "optimizer": "adamw",
    "learning_rate_schedule": {"type": "cosine", "warmup_steps": 5},
}

CASES = {
    "pruning": [PRUNE, {"technique": "finetune"}],
    "augmentation": [{"technique": "finetune", "optimizer": "nadam", **AUGMENTED}],
    "best_weights": [GLOBAL, {"technique": "finetune", "gradient_clip_norm": 1.0, **BEST}],
    "distillation": [PRUNE, {"technique": "distill", "features": ["conv"], "optimizer": "sgd_momentum"}],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A convolutional network with everything that has a state (dropout, noise, batch normalisation), and
    digits for ten batches of 16 an epoch."""
    folder = tmp_path_factory.mktemp("drawing")
    layers = keras.layers
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            layers.InputLayer((28, 28)),
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(4, 5, strides=3, activation="relu", name="conv"),
            layers.BatchNormalization(),
            layers.GaussianNoise(0.1),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(10, name="logits"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    x, y = digits()
    model.fit(x[:500], y[:500], epochs=1, verbose=0)
    np.savez(folder / "digits.npz", x=x[:220], y=y[:220])
    return save_model(model, folder / "m.keras"), folder / "digits.npz"


@pytest.fixture(autouse=True)
def at_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints as a long training has them, and steps in groups."""
    monkeypatch.setattr(resuming, "AT_EPOCH_END_S", 0.0)
    monkeypatch.setattr(resuming, "COST_SHARE", 1e9)
    monkeypatch.setattr(fit, "GROUP_FROM_STEPS", 1)


def spec(steps: Sequence[dict[str, Any]]) -> CompressionSpec:
    training = {"epochs": EPOCHS, "batch_size": 16, **steps[-1]}
    return CompressionSpec.model_validate({"steps": [*steps[:-1], training], "outputs": ["keras"], "seed": 7})


def run(files: tuple[Path, Path], steps: Sequence[dict[str, Any]], work: Path, **options: Any) -> Outcome:
    return compress(files[0], spec(steps), dataset=files[1], workdir=work, **options)


def assert_same(one: Outcome, other: Outcome, one_work: Path, other_work: Path) -> None:
    assert told(one.report.steps[-1]) == told(other.report.steps[-1])
    weights = saved_weights(one_work / "out" / "model.keras")
    assert same_bits(weights, saved_weights(other_work / "out" / "model.keras"))


@pytest.fixture(scope="module", params=CASES)
def undisturbed(
    request: pytest.FixtureRequest, files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[dict[str, Any]], Outcome, Path]:
    """The steps of a case, and what comes of them when nothing happens."""
    work = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "GROUP_FROM_STEPS", 1)
        outcome = run(files, CASES[request.param], work)
    details = outcome.report.steps[-1].details
    assert (details["optimiser_steps"], details["steps_per_execution"]) == (EPOCHS * PER_EPOCH, 2)
    assert "resumed_from_epoch" not in details
    return CASES[request.param], outcome, work


def test_training_broken_off_again_and_again_ends_with_the_same_bits(
    undisturbed: tuple[list[dict[str, Any]], Outcome, Path], files: tuple[Path, Path], tmp_path: Path
) -> None:
    steps, expected, work = undisturbed
    with pytest.raises(Broken):
        run(files, steps, tmp_path, emit=broken_off_at("epoch 2 of"))
    # From the end of epoch 1 to steps 12, 14, 16 and 18 and the end of epoch 2, and from there to step 24.
    for looks in (4, 1):
        with pytest.raises(Stopped):
            run(files, steps, tmp_path, stop=StopAfter(looks))
    again = run(files, steps, tmp_path)
    details = again.report.steps[-1].details
    assert (details["resumed_from_epoch"], details["resumed_from_step"]) == (2, 2 * PER_EPOCH + 4)
    assert_same(again, expected, tmp_path, work)
    assert summaries(tmp_path) == summaries(work)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def summaries(work: Path) -> dict[str, list[float]] | None:
    """What TensorBoard would show of a job, where it was asked for."""
    archive = work / "out" / "tensorboard.tar.gz"
    if not archive.exists():
        return None
    with tarfile.open(archive) as content:
        content.extractall(work / "shown", filter="data")
    shown = scalars(work / "shown")
    assert all(len(values) >= EPOCHS for values in shown.values())
    return shown


def test_training_that_was_over_when_told_to_stop_is_not_gone_on_with(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    stopping = {"patience": 1, "min_delta": 10.0}  # never better: over after the second epoch
    steps = [{"technique": "finetune", "early_stopping": stopping, "keep_best": True}]
    expected = run(files, steps, tmp_path / "undisturbed")
    assert expected.report.steps[0].details["stopped_after_epoch"] == 2
    with pytest.raises(Stopped):
        run(files, steps, tmp_path / "stopped", stop=StopAfter(9))
    again = run(files, steps, tmp_path / "stopped")
    details = again.report.steps[0].details
    assert (details["resumed_from_epoch"], details["stopped_after_epoch"]) == (2, 2)
    assert_same(again, expected, tmp_path / "stopped", tmp_path / "undisturbed")


def test_killed_process_leaves_a_checkpoint_to_go_on_from(files: tuple[Path, Path], tmp_path: Path) -> None:
    steps = CASES["pruning"]
    code = "\n".join(
        [
            "import sys, time; from pathlib import Path; from tasks.compression import compress",
            "from tasks.compression.backends.tensorflow import fit",
            "from tasks.compression import resuming",
            "resuming.AT_EPOCH_END_S, resuming.COST_SHARE, fit.GROUP_FROM_STEPS = 0.0, 1e9, 1",
            "def emit(event):",
            "    if 'epoch 3 of' in getattr(event, 'message', ''):",
            "        print('now', flush=True); time.sleep(600)",
            "model, data, work, spec = sys.argv[1:]",
            "import json",
            "compress(Path(model), json.loads(spec), dataset=Path(data), workdir=Path(work), emit=emit)",
        ]
    )
    arguments = [*map(str, files), str(tmp_path / "killed"), spec(steps).model_dump_json()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGKILL)
    again = run(files, steps, tmp_path / "killed")
    assert again.report.steps[-1].details["resumed_from_epoch"] == 2
    expected = run(files, steps, tmp_path / "undisturbed")
    assert_same(again, expected, tmp_path / "killed", tmp_path / "undisturbed")


def test_recurrent_layers_that_draw_go_on_drawing(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = keras.layers
    keras.utils.set_random_seed(0)
    recurrent = layers.LSTM(6, dropout=0.2, recurrent_dropout=0.2)
    model = keras.Sequential([layers.InputLayer((28, 28)), recurrent, layers.Dense(10, activation="softmax")])
    both = save_model(model, tmp_path / "lstm.keras"), files[1]
    steps = [{"technique": "finetune"}]
    expected = run(both, steps, tmp_path / "undisturbed")
    with pytest.raises(Stopped):
        run(both, steps, tmp_path / "stopped", stop=StopAfter(7))
    again = run(both, steps, tmp_path / "stopped")
    assert_same(again, expected, tmp_path / "stopped", tmp_path / "undisturbed")


def test_layers_that_draw_have_their_own_generators_back_after_training(files: tuple[Path, Path]) -> None:
    from tasks.compression.backends.tensorflow.load import read_model
    from tasks.compression.backends.tensorflow.randomness import own_generators

    model = read_model(files[0])
    before = [layer._random_generator for layer in model.layers if hasattr(layer, "_random_generator")]
    with own_generators(model, 1) as states:
        assert len(states) == len(before) == 2
        during = [layer._random_generator for layer in model.layers if hasattr(layer, "_random_generator")]
        assert not set(map(id, before)) & set(map(id, during))
        assert len({tuple(state.numpy()) for state in states}) == 2
    after = [layer._random_generator for layer in model.layers if hasattr(layer, "_random_generator")]
    assert list(map(id, after)) == list(map(id, before))


def test_changed_step_does_not_go_on_from_another_ones_checkpoint(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(Broken):
        run(files, [{"technique": "finetune"}], tmp_path, emit=broken_off_at("epoch 3 of"))
    other = run(files, [{"technique": "finetune", "learning_rate": 0.002}], tmp_path)
    assert "resumed_from_epoch" not in other.report.steps[0].details


def test_damaged_checkpoint_is_none(files: tuple[Path, Path], tmp_path: Path) -> None:
    steps = [{"technique": "finetune"}]
    with pytest.raises(Broken):
        run(files, steps, tmp_path / "broken", emit=broken_off_at("epoch 3 of"))
    (path,) = (tmp_path / "broken" / "checkpoints").iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    again = run(files, steps, tmp_path / "broken")
    assert "resumed_from_epoch" not in again.report.steps[0].details
    expected = run(files, steps, tmp_path / "undisturbed")
    assert_same(again, expected, tmp_path / "broken", tmp_path / "undisturbed")


def test_checkpoint_of_another_network_is_none(files: tuple[Path, Path], tmp_path: Path) -> None:
    steps = [{"technique": "finetune"}]
    with pytest.raises(Broken):
        run(files, steps, tmp_path, emit=broken_off_at("epoch 3 of"))
    (path,) = (tmp_path / "checkpoints").iterdir()
    file = CheckpointFile(path, tmp_path)
    found = file.newest()
    assert found is not None
    wrong = [np.zeros((3, 3), np.float32), *found.arrays[1:]]
    file.keep(Checkpoint(found.epoch, found.step, found.state, wrong))
    assert "resumed_from_epoch" not in run(files, steps, tmp_path).report.steps[0].details


def test_short_training_keeps_no_checkpoint(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "AT_EPOCH_END_S", 600.0)
    monkeypatch.setattr(CheckpointFile, "keep", lambda *_: pytest.fail("one was kept"))
    run(files, [{"technique": "finetune"}], tmp_path)


def test_checkpoints_take_no_more_than_their_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "AT_EPOCH_END_S", 1.0)
    monkeypatch.setattr(resuming, "COST_SHARE", 0.02)
    model = keras.Sequential([keras.layers.InputLayer((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    clock = Clock()
    kept = Kept(clock)
    callback = checkpoints.Checkpointing(
        _Bare(kept), model, epochs=1000, per_epoch=5, memories=(), clock=clock
    )
    callback.set_model(model)
    for epoch in range(200):
        clock.now += 0.4  # an epoch
        callback.on_epoch_end(epoch)
    # The first after a second, the next when the 0.1 s it took are 2 % of what was trained since.
    assert [round(at, 1) for at in kept.at[:2]] == [1.2, 6.5]
    assert 0.1 * len(kept.at) < 0.021 * clock.now
    assert len(kept.at) >= 15


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Kept:
    """Takes 0.1 s for a checkpoint."""

    def __init__(self, clock: Clock) -> None:
        self.at: list[float] = []
        self._clock = clock

    def keep(self, checkpoint: Checkpoint) -> None:
        self.at.append(self._clock.now)
        self._clock.now += 0.1


class _Bare:
    """As much of a context as keeping takes."""

    def __init__(self, kept: Kept) -> None:
        from tasks.compression.stopping import Never

        self.checkpoints, self.stop = kept, Never()


def test_disk_without_room_is_warned_of_and_ends_nothing(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with monkeypatch.context() as patch:
        patch.setattr(resuming, "AT_EPOCH_END_S", 0.0)
        outcome = run(files, [{"technique": "finetune"}], tmp_path)
    (warning,) = [each for each in outcome.report.warnings if each.code == "checkpoint_not_kept"]
    assert "No space left" in warning.message
    assert len(outcome.report.steps[0].epochs) == EPOCHS
    assert list((tmp_path / "tmp").iterdir()) == []


class TestFile:
    def test_newest_is_what_was_kept_last(self, tmp_path: Path) -> None:
        half = tf.constant([1.5, -0.0], tf.bfloat16).numpy()
        same = np.arange(6, dtype=np.float32).reshape(2, 3)
        file = CheckpointFile(tmp_path / "k.npz", tmp_path)
        assert file.newest() is None
        file.keep(Checkpoint(1, 0, {}, [same]))
        file.keep(Checkpoint(2, 3, {"a": [1, float("inf")]}, [half, same, np.int64(5), same.copy()]))
        found = CheckpointFile(tmp_path / "k.npz", tmp_path).newest()
        assert found is not None
        assert (found.epoch, found.step, found.state) == (2, 3, {"a": [1, float("inf")]})
        assert found.arrays[0].tobytes() == half.tobytes()
        assert all(np.array_equal(array, same) for array in (found.arrays[1], found.arrays[3]))
        assert found.arrays[2].shape == ()
        assert os.listdir(tmp_path) == ["k.npz"]

    def test_equal_arrays_are_stored_once(self, tmp_path: Path) -> None:
        weights = np.random.default_rng(0).random(100_000)
        CheckpointFile(tmp_path / "k.npz", tmp_path).keep(Checkpoint(1, 0, {}, [weights, weights.copy()]))
        assert (tmp_path / "k.npz").stat().st_size < 1.1 * weights.nbytes

    def test_the_one_before_stays_when_the_next_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = CheckpointFile(tmp_path / "k.npz", tmp_path / "making")
        (tmp_path / "making").mkdir()
        file.keep(Checkpoint(1, 0, {}, [np.zeros(3)]))

        def half(target: Any, **_: Any) -> None:
            target.write(b"PK half of it")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "savez", half)
        with pytest.raises(OSError, match="No space"):
            file.keep(Checkpoint(2, 0, {}, [np.ones(3)]))
        found = file.newest()
        assert found is not None
        assert found.epoch == 1
        assert os.listdir(tmp_path / "making") == []

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04K\x01.", b"[]"])
    def test_whatever_else_lies_there_is_none(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "k.npz").write_bytes(content)
        assert CheckpointFile(tmp_path / "k.npz", tmp_path).newest() is None

    def test_pickles_are_not_opened(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "k.npz", state=np.array([{}], dtype=object))
        assert CheckpointFile(tmp_path / "k.npz", tmp_path).newest() is None


HALF = {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.5}}
SOON = broken_off_at("epoch 2 of")


class TestDivergence:
    # The rate rises until it is far too large: the first epochs are good ones.
    STEP: ClassVar[dict[str, Any]] = {
        "technique": "finetune",
        "optimizer": "sgd",
        "learning_rate": 10.0,
        "learning_rate_schedule": {"type": "constant", "warmup_steps": 1000},
    }

    @pytest.fixture
    def regression(self, tmp_path: Path) -> tuple[Path, Path]:
        layers = keras.layers
        keras.utils.set_random_seed(0)
        linear = keras.Sequential([layers.InputLayer((4,)), layers.Dense(40), layers.Dense(1)])
        x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
        np.savez(tmp_path / "sums.npz", x=x, y=x.sum(axis=1))
        return save_model(linear, tmp_path / "linear.keras"), tmp_path / "sums.npz"

    def failure(self, files: tuple[Path, Path], work: Path, step: dict[str, Any], **options: Any) -> Any:
        with pytest.raises(CompressionError) as caught:
            run(files, [HALF, {"epochs": 40, **step}], work, **options)
        assert caught.value.code == "training_diverged"
        return caught.value

    def test_last_good_model_is_kept(self, regression: tuple[Path, Path], tmp_path: Path) -> None:
        error = self.failure(regression, tmp_path / "w", self.STEP)
        assert error.artifacts == (tmp_path / "w" / "out" / "checkpoint.keras",)
        assert "checkpoint.keras is the model as it was at the end of epoch" in error.problem().detail
        model = keras.models.load_model(error.artifacts[0], compile=False)
        assert [type(layer).__name__ for layer in model.layers] == ["Dense", "Dense"]
        assert finite(model.get_weights())
        kernel = model.layers[0].get_weights()[0]
        assert np.mean(kernel == 0) == pytest.approx(0.5)
        before = keras.models.load_model(regression[0], compile=False).get_weights()
        assert not same_bits(before, model.get_weights())

    def test_last_good_model_may_be_an_earlier_attempts(
        self, regression: tuple[Path, Path], tmp_path: Path
    ) -> None:
        expected = self.failure(regression, tmp_path / "undisturbed", self.STEP)
        with pytest.raises(Broken):
            run(regression, [HALF, {"epochs": 40, **self.STEP}], tmp_path / "broken", emit=SOON)
        again = self.failure(regression, tmp_path / "broken", self.STEP)
        assert again.detail == expected.detail
        assert same_bits(saved_weights(again.artifacts[0]), saved_weights(expected.artifacts[0]))

    def test_nothing_is_kept_of_a_first_epoch(self, regression: tuple[Path, Path], tmp_path: Path) -> None:
        step = {**self.STEP, "learning_rate_schedule": {"type": "constant"}}
        error = self.failure(regression, tmp_path / "w", step)
        assert error.artifacts == ()
        assert "in epoch 1" in error.detail
        assert "there is no checkpoint to keep" in error.detail
        assert not (tmp_path / "w" / "out" / "checkpoint.keras").exists()
