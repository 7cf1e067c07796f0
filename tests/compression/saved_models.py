"""Tiny SavedModels of every origin, and archives of them."""

from __future__ import annotations

import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.compression.networks import keras, save_model

__all__ = [
    "CLASSES",
    "IMAGE",
    "files_of",
    "framework",
    "image_data",
    "keras2",
    "keras2_with_lambda",
    "keras3_export",
    "plain_module",
    "tar_of",
    "two_inputs",
    "zip_of",
]

IMAGE = (8, 8, 1)
CLASSES = 4
SAMPLES = 120

Array = npt.NDArray[Any]


def framework() -> Any:
    """TensorFlow, in the environment the domain imports it in."""
    from tasks.compression.backends.tensorflow import _framework

    return _framework.tf


def keras2(folder: Path) -> Path:
    """A convolutional network, compiled, as model.save of tf_keras writes it; the dense layers are nested."""
    layers = keras().layers
    keras().utils.set_random_seed(0)
    head = keras().Sequential([layers.InputLayer((6 * 6 * 4,)), layers.Dense(CLASSES, name="logits")], "head")
    model = keras().Sequential(
        [
            layers.InputLayer(IMAGE),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(),
            head,
        ]
    )
    model.compile("adam", keras().losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"])
    return save_model(model, folder, save_format="tf")


def two_inputs(folder: Path) -> Path:
    layers = keras().layers
    first, second = keras().Input((3,), name="first"), keras().Input((2,), name="second")
    both = layers.Dense(8, activation="relu", name="hidden")(layers.Concatenate()([first, second]))
    outputs = [
        layers.Dense(CLASSES, activation="softmax", name="kind")(both),
        layers.Dense(1, name="size")(both),
    ]
    return save_model(keras().Model([first, second], outputs), folder, save_format="tf")


def keras2_with_lambda(folder: Path, marker: Path) -> Path:
    """Its layer ``sly`` leaves a mark when Python runs it; the graph of it does nothing."""
    layers = keras().layers
    name = str(marker)

    def leave_mark(x: Any) -> Any:
        with open(name, "w"):
            return x

    model = keras().Sequential(
        [layers.InputLayer((4,)), layers.Lambda(leave_mark, name="sly"), layers.Dense(3, name="out")]
    )
    save_model(model, folder, save_format="tf")
    marker.unlink()
    return folder


def keras3_export(folder: Path) -> Path:
    import keras as keras3

    model = keras3.Sequential(
        [
            keras3.Input(IMAGE),
            keras3.layers.Conv2D(8, 3, activation="relu"),
            keras3.layers.Flatten(),
            keras3.layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.export(str(folder), verbose=False)
    return folder


def plain_module(
    folder: Path,
    function: Callable[[Any], Any] | None = None,
    *,
    signatures: tuple[str, ...] = ("serving_default",),
    width: int = 4,
) -> Path:
    """No Keras: of ``x`` the softmax of a product, or what `function` makes of it."""
    tf = framework()
    module = tf.Module()
    module.kernel = tf.Variable(np.random.default_rng(0).normal(size=(width, 3)).astype(np.float32))

    def serve(x: Any) -> dict[str, Any]:
        return {"y": tf.nn.softmax(tf.matmul(x, module.kernel)) if function is None else function(x)}

    module.serve = tf.function(
        serve, input_signature=[tf.TensorSpec([None, width], tf.float32, name="x")], autograph=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf.saved_model.save(module, str(folder), signatures=dict.fromkeys(signatures, module.serve))
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def zip_of(files: Mapping[str, bytes], path: Path, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{top}{name}", content)
    return path


def tar_of(folder: Path, path: Path, *, packed: bool = True) -> Path:
    with tarfile.open(path, "w:gz" if packed else "w") as archive:
        archive.add(folder, folder.name)
    return path


def image_data(path: Path) -> Path:
    chance = np.random.default_rng(0)
    x = chance.random((SAMPLES, *IMAGE), dtype=np.float32)
    np.savez(path, x=x, y=np.arange(SAMPLES) % CLASSES)
    return path
