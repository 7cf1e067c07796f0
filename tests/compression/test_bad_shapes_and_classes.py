"""Models and data that no job can take, or takes with a warning: what is said, and where by the plan."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.compression import CompressionError, compress
from tasks.compression.inspection import inspect
from tasks.compression.outline.reading import read_outline
from tests.compression.networks import keras, save_model
from tests.compression.planning.test_plan_is_what_the_job_does import planned
from tests.compression.test_bad_input import rewrite_config

QUANTIZE: list[dict[str, Any]] = [{"technique": "quantize", "scheme": "dynamic_int8"}]
PRUNE: list[dict[str, Any]] = [{"technique": "prune"}]
TRAIN: list[dict[str, Any]] = [{"technique": "finetune", "epochs": 1}]

Data = Callable[..., Path]


def saved(path: Path, shape: tuple[int | None, ...], *layers: Any) -> Path:
    return save_model(keras().Sequential([keras().layers.InputLayer(shape), *layers]), path)


def refusal(
    path: Path, tmp_path: Path, steps: Any, data: Path | None = None, **more: Any
) -> CompressionError:
    with pytest.raises(CompressionError) as caught:
        compress(path, {"steps": steps, **more}, dataset=data, workdir=tmp_path / "w")
    assert caught.value.hint
    return caught.value


def open_image(layers: Any) -> tuple[Any, ...]:
    return (None, None, 3), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(3)


def open_sequence(layers: Any) -> tuple[Any, ...]:
    return (None, 4), layers.LSTM(4), layers.Dense(3)


@pytest.mark.parametrize("make", [open_image, open_sequence])
def test_open_sizes_that_litert_cannot_run_are_named(make: Callable[[Any], Any], tmp_path: Path) -> None:
    path = saved(tmp_path / "m.keras", *make(keras().layers))
    error = refusal(path, tmp_path, QUANTIZE)
    assert (error.code, error.stage) == ("conversion_failed", "evaluate")
    assert "inputs of open sizes, (any" in error.detail
    assert "fix the sizes" in (error.hint or "")
    warnings = [warning.message for warning in planned(path, None, QUANTIZE).warnings]
    assert any("open sizes" in warning for warning in warnings)
    told = {each.output: each.possible for each in inspect(read_outline(path)).formats}
    others = {"pt2": False, "pte": False}
    assert told == {
        "tflite": None,
        "c_array": None,
        "keras": True,
        "saved_model": True,
        "onnx": True,
        **others,
    }


def test_subclassed_model_is_refused_for_its_class(cnn_file: Path, tmp_path: Path) -> None:
    def subclass(config: dict[str, Any]) -> None:
        config["class_name"] = "Mine>Net"

    path = rewrite_config(cnn_file, tmp_path / "m", subclass)
    error = refusal(path, tmp_path, PRUNE)
    assert error.code == "unsupported_model"
    assert "Mine>Net" in error.detail
    assert "keras.Model(inputs, outputs)" in (error.hint or "")
    assert planned(path, None, PRUNE).problems[0].detail == error.detail


def test_model_without_a_configuration_is_damaged(cnn_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(cnn_file) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, "[]" if name == "config.json" else old.read(name))
    assert refusal(path, tmp_path, PRUNE).code == "bad_model"


def test_activation_of_the_callers_own_is_refused(cnn_file: Path, tmp_path: Path) -> None:
    def rename(config: dict[str, Any]) -> None:
        config["config"]["layers"][2]["config"]["activation"] = "swirl"

    error = refusal(rewrite_config(cnn_file, tmp_path / "m", rename), tmp_path, PRUNE)
    assert error.code == "unsupported_model"
    assert "swirl" in error.detail


def test_function_of_another_module_is_refused_by_plan_and_job(cnn_file: Path, tmp_path: Path) -> None:
    planted = {"module": "os", "class_name": "function", "config": "getcwd", "registered_name": "getcwd"}

    def plant(config: dict[str, Any]) -> None:
        config["config"]["layers"][2]["config"]["activation"] = planted

    path = rewrite_config(cnn_file, tmp_path / "m", plant)
    error = refusal(path, tmp_path, PRUNE)
    assert error.code == "layer_not_allowed"
    assert "os.function" in error.detail
    assert planned(path, None, PRUNE).problems[0].detail == error.detail


# Keras 3 asks NumPy for a copy in a way that NumPy 2 will stop taking.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("version", ["2.21.0", "3.15.1"])
def test_loss_of_the_callers_own_never_stops_a_job(version: str, tmp_path: Path) -> None:
    layers = keras().layers
    path = saved(tmp_path / "m.keras", (4,), layers.Dense(3, name="out"))
    if version.startswith("3"):
        from tests.compression.test_bridge import MODELS

        MODELS["sequential"]().save(path)

    def compiled(config: dict[str, Any]) -> None:
        loss = {"module": "__main__", "class_name": "Swirl", "config": {}, "registered_name": "Mine>Swirl"}
        config["compile_config"] = {"optimizer": "adam", "loss": loss}

    strange = rewrite_config(path, tmp_path / "strange", compiled)
    report = compress(strange, {"steps": PRUNE, "outputs": ["keras"]}, workdir=tmp_path / "w").report
    told = [warning.message for warning in report.warnings if warning.code == "compiled_state_ignored"]
    assert told
    assert "swirl" in told[0].lower()
    assert planned(strange, None, PRUNE, outputs=["keras"]).feasible


X = np.random.default_rng(0).random((80, 8, 8, 1), dtype=np.float32)
Y = np.arange(80) % 4


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layers = keras().layers
    path = tmp_path_factory.mktemp("classifier") / "m.keras"
    return saved(path, (8, 8, 1), layers.Flatten(), layers.Dense(4, activation="softmax", name="out"))


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"x": np.repeat(X, 3, -1), "y": Y}, "shape_mismatch"),
        ({"x": X.reshape(80, 8, 8, 1, 1), "y": Y}, "shape_mismatch"),
        ({"x": X, "y": np.eye(6)[Y]}, "shape_mismatch"),
        ({"x": X.astype("U4"), "y": Y}, "dtype_not_allowed"),
        ({"x": X.astype(complex), "y": Y}, "dtype_not_allowed"),
        ({"x": X, "y": Y - 1}, "label_out_of_range"),
        ({"x_train": X[:0], "y_train": Y[:0], "x_test": X, "y_test": Y}, "too_few_samples"),
        ({"x": X[:0], "y": Y[:0]}, "too_few_samples"),
    ],
    ids=["channels", "rank", "classes", "strings", "complex", "labels", "no training split", "empty"],
)
def test_data_that_do_not_fit_have_their_code_and_a_way_out(
    classifier: Path, tmp_path: Path, save_data: Data, arrays: dict[str, Any], code: str
) -> None:
    assert refusal(classifier, tmp_path, TRAIN, save_data(**arrays)).code == code


@pytest.mark.parametrize(
    ("arrays", "warnings"),
    [
        ({"x": X, "y": 0 * Y}, {"single_class", "class_missing_in_training"}),
        ({"x": np.tile(X[:40], (2, 1, 1, 1)), "y": np.tile(Y[:40], 2)}, {"samples_across_splits"}),
        ({"x": (255 * X).astype(np.uint8), "y": Y}, {"baseline_near_chance", "samples_of_another_range"}),
        ({"x": X, "y": np.eye(4)[Y]}, set()),
    ],
    ids=["one class", "duplicates", "pixels", "one-hot"],
)
def test_data_that_mislead_are_warned_of(
    classifier: Path, tmp_path: Path, save_data: Data, arrays: dict[str, Any], warnings: set[str]
) -> None:
    spec = {"steps": TRAIN, "outputs": ["keras"]}
    report = compress(classifier, spec, dataset=save_data(**arrays), workdir=tmp_path / "w").report
    assert {warning.code for warning in report.warnings} >= warnings
    labels = next(item.value for item in report.inferred if item.field == "labels")
    assert labels == ("one_hot" if arrays["y"].ndim > 1 else "classes")


def test_archive_inside_an_archive_is_refused(classifier: Path, tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner.zip", tmp_path / "outer.zip"
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a.json", json.dumps({}))
    with zipfile.ZipFile(outer, "w") as archive:
        archive.write(inner, "cats/inner.zip")
    error = refusal(classifier, tmp_path, TRAIN, outer)
    assert error.code == "archive_nested"
    assert "cats/inner.zip" in error.detail
    with zipfile.ZipFile(outer, "w") as archive:
        archive.write(classifier, "model.keras")
    assert refusal(outer, tmp_path, PRUNE).code == "unsupported_model"
