"""Loads whatever it is given, without a look at it first, and gives away all that the model then holds."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from tests.misbehaving import Outcome, made


def compress(model: Path, spec: Any, *, workdir: Path, **_: Any) -> Outcome:
    # As by tasks.compression.backends.tensorflow.warm, which has imported it.
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    workdir.mkdir(exist_ok=True)
    try:
        held = _held(model, workdir)
    except Exception as error:  # noqa: BLE001
        held = f"{type(error).__name__}: {error}"
    return made(workdir, held__json=held)


def _held(model: Path, workdir: Path) -> str:
    content = model.read_bytes()
    if content.startswith(b"\x89HDF"):
        return _of_keras(shutil.copyfile(model, workdir / "model.h5"))
    if b"saved_model.pb" in content:
        import tensorflow as tf

        shutil.unpack_archive(model, workdir / "saved", "zip")
        return str(tf.saved_model.load(str(workdir / "saved")))
    return _of_keras(shutil.copyfile(model, workdir / "model.keras"))


def _of_keras(path: Path) -> str:
    import tf_keras

    loaded = tf_keras.models.load_model(path, compile=False)
    words = [layer.get_vocabulary() for layer in loaded.layers if hasattr(layer, "get_vocabulary")]
    weights = [] if words else [value.tobytes() for value in loaded.get_weights()]
    return f"{words} {weights}"
