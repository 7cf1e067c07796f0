"""Each bad model, data set or spec gets its own code, and what the caller can do about it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tasks.compression import CompressionError, compress
from tests.compression.networks import keras, save_model

ONE_SHOT = {"steps": [{"technique": "prune"}]}
TRAIN = {"steps": [{"technique": "prune"}, {"technique": "finetune", "epochs": 1}]}

Spec = dict[str, Any]


def refusal(
    model: Path, tmp_path: Path, spec: Spec = ONE_SHOT, dataset: Path | None = None
) -> CompressionError:
    with pytest.raises(CompressionError) as caught:
        compress(model, spec, dataset=dataset, workdir=tmp_path / "work")
    problem = caught.value.problem()
    assert problem.detail
    assert str(tmp_path) not in problem.model_dump_json()
    return caught.value


def rewrite_config(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a .keras file with its configuration changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            new.writestr(name, content)
    return target


@pytest.mark.parametrize("length", [0, 3, 100, -200])
def test_truncated_keras_file_is_a_bad_model(cnn_file: Path, tmp_path: Path, length: int) -> None:
    (tmp_path / "m").write_bytes(cnn_file.read_bytes()[:length])
    error = refusal(tmp_path / "m", tmp_path)
    assert (error.code, error.stage) == ("bad_model", "load")


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_truncated_hdf5_file_is_a_bad_model(cnn_file: Path, tmp_path: Path, share: float) -> None:
    whole = save_model(keras().models.load_model(cnn_file), tmp_path / "m.h5").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: int(len(whole) * share)])
    assert refusal(tmp_path / "cut", tmp_path).code == "bad_model"


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"GIF89a" + bytes(100), "bad_model"), (b"\x18\0\0\0TFL3" + b"\xff" * 100, "bad_model")],
)
def test_file_of_another_kind_is_refused_whatever_its_name(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "model.keras").write_bytes(content)
    assert refusal(tmp_path / "model.keras", tmp_path).code == code


def test_archive_without_a_model_is_unsupported(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", x=np.zeros(3))
    assert refusal(tmp_path / "m.npz", tmp_path).code == "unsupported_model"


def test_weights_alone_are_unsupported(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["kernel"] = np.zeros(3)
    assert "save the whole model" in (refusal(tmp_path / "w.h5", tmp_path).hint or "")


def test_a_file_that_lies_about_its_keras_is_refused(cnn_file: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(cnn_file) as old, zipfile.ZipFile(tmp_path / "k3", "w") as new:
        for name in old.namelist():
            content = b'{"keras_version": "3.15.1"}' if name == "metadata.json" else old.read(name)
            new.writestr(name, content)
    assert refusal(tmp_path / "k3", tmp_path).code == "bad_model"


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_lambda_layer_is_refused_and_never_run(tmp_path: Path, suffix: str) -> None:
    marker = tmp_path / "ran"
    name = str(marker)  # the closure is saved with the layer
    layers = keras().layers

    def leave_mark(x: Any) -> Any:
        with open(name, "w"):
            return x

    model = keras().Sequential(
        [layers.InputLayer((4,)), layers.Lambda(leave_mark, name="sly"), layers.Dense(2)]
    )
    save_model(model, tmp_path / f"m.{suffix}")
    marker.unlink()
    error = refusal(tmp_path / f"m.{suffix}", tmp_path)
    assert (error.code, error.layer) == ("layer_not_allowed", "sly")
    assert not marker.exists()


def test_class_of_the_callers_own_is_refused_by_name(cnn_file: Path, tmp_path: Path) -> None:
    def rename(config: dict[str, Any]) -> None:
        config["config"]["layers"][2]["class_name"] = "Mine>Swirl"

    error = refusal(rewrite_config(cnn_file, tmp_path / "m", rename), tmp_path)
    assert error.code == "layer_not_allowed"
    assert "Mine>Swirl" in error.detail
    assert error.layer == "conv"


def test_configuration_that_contradicts_its_weights_is_a_bad_model(cnn_file: Path, tmp_path: Path) -> None:
    def widen(config: dict[str, Any]) -> None:
        config["config"]["layers"][-1]["config"]["units"] = 11

    assert refusal(rewrite_config(cnn_file, tmp_path / "m", widen), tmp_path).code == "bad_model"


@pytest.mark.parametrize(
    ("step", "code", "pointer"),
    [
        ({"layers": {"include": ["convv"]}}, "layer_not_found", "/steps/0/layers/include/0"),
        ({"layers": {"exclude": ["no*"], "include": ["*"]}}, None, None),
        ({"layers": {"exclude": ["nothing*"]}}, "layer_not_found", "/steps/0/layers/exclude/0"),
        ({"on_unsupported": "error"}, "layer_not_supported", "/steps/0/layers"),
    ],
)
def test_layer_selection_is_judged_at_its_place(
    cnn_file: Path, tmp_path: Path, step: Spec, code: str | None, pointer: str | None
) -> None:
    spec = {"steps": [{"technique": "prune", **step}], "outputs": ["keras"]}
    if code is None:
        compress(cnn_file, spec, workdir=tmp_path / "work")
        return
    error = refusal(cnn_file, tmp_path, spec)
    assert (error.code, error.pointer) == (code, pointer)
    assert error.problem().errors[0].pointer == pointer


@pytest.mark.parametrize("steps", [TRAIN["steps"], [{"technique": "quantize", "scheme": "full_int8"}]])
def test_steps_that_need_data_say_so(cnn_file: Path, tmp_path: Path, steps: list[Spec]) -> None:
    error = refusal(cnn_file, tmp_path, {"steps": steps})
    assert error.code == "dataset_required"
    assert error.pointer == f"/steps/{len(steps) - 1}"


X, Y = np.random.default_rng(0).random((200, 28, 28), dtype=np.float32), np.arange(200) % 10
WITH_NAN = np.where(np.arange(200)[:, None, None] == 7, np.nan, X)


@pytest.mark.parametrize(
    ("arrays", "code", "words"),
    [
        ({"x": X}, "array_missing", "no array y"),
        ({"x": X, "y": Y[:-1]}, "shape_mismatch", "200 samples and y has 199"),
        ({"x": WITH_NAN, "y": Y}, "not_finite", "sample 7"),
        ({"x": X, "y": np.where(Y == 3, np.inf, Y)}, "not_finite", "y holds"),
        ({"x": X.reshape(200, 784), "y": Y}, "shape_mismatch", "x.reshape(-1, 28, 28)"),
        ({"x": X[:, :20], "y": Y}, "shape_mismatch", "(28, 28)"),
        ({"x": X, "y": Y + 1}, "label_out_of_range", "subtract 1"),
        ({"x": X, "y": Y + 90}, "label_out_of_range", "90"),
        ({"x": X[:10], "y": Y[:10]}, "too_few_samples", "at least 20"),
        ({"x": X, "y": Y.astype("U3")}, "dtype_not_allowed", "<U3"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :20], "y_test": Y}, "shape_mismatch", "test split"),
        ({"x_train": X, "y_train": Y, "x_test": X[:0], "y_test": Y[:0]}, "too_few_samples", "0 to test"),
    ],
)  # fmt: skip
def test_bad_data_has_its_code(
    cnn_file: Path, tmp_path: Path, save_data: Callable[..., Path], arrays: Spec, code: str, words: str
) -> None:
    error = refusal(cnn_file, tmp_path, TRAIN, save_data(**arrays))
    assert error.code == code
    assert words in f"{error.detail} {error.hint}"


def test_damaged_data_set_is_bad_data(cnn_file: Path, digit_file: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.npz").write_bytes(digit_file.read_bytes()[:5000])
    assert refusal(cnn_file, tmp_path, TRAIN, tmp_path / "cut.npz").code == "bad_archive"


def test_diverging_training_names_step_and_learning_rate(
    tmp_path: Path, save_data: Callable[..., Path]
) -> None:
    layers = keras().layers
    model = keras().Sequential([layers.InputLayer((4,)), layers.Dense(8), layers.Dense(1)])
    path = save_model(model, tmp_path / "m.keras")
    x = 10 * np.random.default_rng(0).normal(size=(200, 4))
    step = {"technique": "finetune", "optimizer": "sgd", "learning_rate": 10.0, "epochs": 5, "batch_size": 16}
    error = refusal(path, tmp_path, {"steps": [step]}, save_data(x=x, y=x.sum(axis=1)))
    assert (error.code, error.stage) == ("training_diverged", "finetune")
    assert "learning rate 10" in error.detail
    assert "try a learning rate of 1" in (error.hint or "")


def test_indices_beyond_an_embedding_are_refused(tmp_path: Path, save_data: Callable[..., Path]) -> None:
    layers = keras().layers
    model = keras().Sequential(
        [layers.InputLayer((6,)), layers.Embedding(9, 4), layers.Flatten(), layers.Dense(3)]
    )
    path = save_model(model, tmp_path / "m.keras")
    x = np.arange(240).reshape(40, 6) % 10
    error = refusal(path, tmp_path, TRAIN, save_data(x=x, y=np.arange(40) % 3))
    assert (error.code, error.stage) == ("input_out_of_range", "load")
    assert "0 to 9" in error.detail


@pytest.mark.parametrize("scheme", ["full_int8", "int16x8"])
def test_calibration_of_a_layer_the_converter_crashes_on_is_refused(
    digit_file: Path, tmp_path: Path, scheme: str
) -> None:
    layers = keras().layers
    rnn = layers.Bidirectional(layers.GRU(4), name="both_ways")
    path = save_model(
        keras().Sequential([layers.InputLayer((28, 28)), rnn, layers.Dense(10)]), tmp_path / "m.keras"
    )
    error = refusal(path, tmp_path, {"steps": [{"technique": "quantize", "scheme": scheme}]}, digit_file)
    assert (error.code, error.layer) == ("layer_not_supported", "both_ways")
    assert "dynamic_int8" in (error.hint or "")
