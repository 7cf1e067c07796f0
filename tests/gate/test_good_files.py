"""What the gate lets in: good files of every kind, and what the installed Keras writes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.gate import judge
from tasks.sandbox.gate import check
from tasks.sandbox.gate.images import size_of
from tasks.settings import Settings
from tests.compression.networks import keras, save_model
from tests.gate.data_files import png
from tests.gate.good_files import DATASETS, MODELS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", MODELS)
def test_a_good_model_passes(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(MODELS[name]())
    check(tmp_path / "file", "model")


@pytest.mark.parametrize("name", DATASETS)
def test_a_good_data_set_passes(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATASETS[name]())
    check(tmp_path / "file", "dataset")


def test_both_are_judged_in_one_confined_process(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(MODELS["keras2"]())
    (tmp_path / "data").write_bytes(DATASETS["npz"]())
    began = time.monotonic()
    assert judge(Settings(), tmp_path, {"model": "model", "dataset": "data"}) is None
    assert time.monotonic() - began < 10  # 0.4 s on a machine that does nothing else


def test_the_size_of_an_image_is_in_its_header() -> None:
    assert size_of(png(30, 20)) == (30, 20)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_what_keras_2_saves_passes(suffix: str, tmp_path: Path) -> None:
    layers = keras().layers
    given = layers.Input((8, 8, 3))
    x = layers.RandomFlip()(given)
    x = layers.Conv2D(4, 3, padding="same", kernel_regularizer="l2", kernel_constraint="max_norm")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.Bidirectional(layers.LSTM(3))(layers.Reshape((8, 32))(x))
    model = keras().Model(given, layers.Dense(2, activation="softmax")(x * 2.0 + 1.0))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    check(save_model(model, tmp_path / f"m.{suffix}"), "model")


@pytest.mark.slow
def test_every_layer_of_keras_has_been_looked_at() -> None:
    """A class that a newer Keras has must be put on one of the lists."""
    code = (
        "import inspect, keras, tf_keras\n"
        "for each in (keras, tf_keras):\n"
        "    for name in dir(each.layers):\n"
        "        found = getattr(each.layers, name)\n"
        "        if inspect.isclass(found) and issubclass(found, each.layers.Layer): print('layer', name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    found = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("layer ")}
    from tasks.sandbox.gate.names import CODE_LAYERS, LAYERS, LOOKUPS

    assert len(found) > 100
    assert found <= LAYERS | CODE_LAYERS | LOOKUPS
