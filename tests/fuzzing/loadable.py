"""Small models that frameworks wrote, which a job compresses when they are whole."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tasks.sandbox.gate import Role

__all__ = ["loadable_models"]

ROOT = Path(__file__).parents[2]
_FILES = ("model.keras", "model.h5", "model.tflite")


def loadable_models() -> dict[str, tuple[Role, Callable[[], bytes]]]:
    """By name. TensorFlow, which writes them, stays in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "tests.fuzzing.loadable", folder],
            check=True,
            cwd=ROOT,
            capture_output=True,
        )
        contents = {name: (Path(folder) / name).read_bytes() for name in _FILES}
    return {name: ("model", lambda content=content: content) for name, content in contents.items()}


def _write(folder: Path) -> None:
    from tasks.compression.backends.tensorflow import _framework
    from tests.compression.networks import keras, save_model

    layers = keras().layers
    model = keras().Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    for name in _FILES[:2]:
        save_model(model, folder / name)
    converted = _framework.tf.lite.TFLiteConverter.from_keras_model(model).convert()
    (folder / _FILES[2]).write_bytes(converted)


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
