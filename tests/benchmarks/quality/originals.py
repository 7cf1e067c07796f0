"""The networks to compress: five trained here, two of them by PyTorch, two as MLPerf Tiny published them.

    python -m tests.benchmarks.quality.originals FOLDER NAME --data DIR

writes ``FOLDER/NAME.h5`` without optimiser state, or ``FOLDER/NAME.pt2`` of one trained by PyTorch, and
``FOLDER/NAME.tflite`` with its float32 weights.
Those on MNIST are trained with a fixed seed on the 54,000 digits that a spec of seed 0 and a
`validation_split` of 0.1 trains on: what recipes are chosen by, the other 6,000, they have never seen, and
the test digits neither.
"""

from __future__ import annotations

import argparse
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.compression.split import stratified
from tests.benchmarks import full_mnist
from tests.benchmarks.quality import datasets

__all__ = ["ORIGINALS", "Original", "Trained", "make", "training_digits"]

SEED = 0
VALIDATION = 0.1
BATCH = 128


@dataclass(frozen=True)
class Trained:
    """A network made here: `build` its layers, `parameters` how many weights and biases they must have,
    `falling` whether the learning rate falls along a cosine."""

    build: Callable[[Any], list[Any]]
    parameters: int
    epochs: int
    falling: bool = True


@dataclass(frozen=True)
class Given:
    """A network that is in the data folder at `path`, an ``.h5`` file or a SavedModel."""

    path: str
    parameters: int


@dataclass(frozen=True)
class TrainedByTorch:
    """A network of PyTorch: the `names` of its builder and its training in torch_networks, which is imported
    where it is needed; `samples` are images, channels first, and labels of the data folder."""

    names: tuple[str, str]
    samples: Callable[[Path], tuple[np.ndarray, np.ndarray]]
    parameters: int
    epochs: int


Original = Trained | TrainedByTorch | Given


def _tutorial(layers: Any) -> list[Any]:
    """TensorFlow's tutorials on pruning and clustering."""
    return [
        layers.Input((28, 28)),
        layers.Reshape((28, 28, 1)),
        layers.Conv2D(12, 3, activation="relu", name="conv"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(10, name="dense"),
    ]


def _lenet_300_100(layers: Any) -> list[Any]:
    """LeCun et al. 1998, as Han et al. 2016 compress it."""
    return [
        layers.Input((28, 28, 1)),
        layers.Flatten(),
        layers.Dense(300, activation="relu", name="ip1"),
        layers.Dense(100, activation="relu", name="ip2"),
        layers.Dense(10, name="ip3"),
    ]


def _lenet_5(layers: Any) -> list[Any]:
    """Caffe's: no activation after the convolutions."""
    return [
        layers.Input((28, 28, 1)),
        layers.Conv2D(20, 5, name="conv1"),
        layers.MaxPooling2D(),
        layers.Conv2D(50, 5, name="conv2"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(500, activation="relu", name="ip1"),
        layers.Dense(10, name="ip2"),
    ]


def training_digits(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The places, in the training split, of the digits that a spec with the default seed trains on."""
    labels = arrays["y_train"]
    # The service draws the validation split with the spec's seed + 1.
    kept, _ = stratified(np.arange(len(labels)), labels, VALIDATION, SEED + 1)
    return kept


def make(name: str, folder: Path, data: Path) -> None:
    """Train the original `name`, or take it from `data`; RuntimeError for a wrong number of parameters."""
    original = ORIGINALS[name]
    if isinstance(original, TrainedByTorch):
        _train_by_torch(original, folder / f"{name}.pt2", data)
        return
    model = _train(original, data) if isinstance(original, Trained) else _given(data / original.path)
    if model.count_params() != original.parameters:
        raise RuntimeError(f"{name} has {model.count_params()} parameters, not {original.parameters}")
    path = folder / f"{name}.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras would rather have .keras files, larger by their metadata
        if isinstance(original, Given) and original.path.endswith(".h5"):
            shutil.copyfile(data / original.path, path)
        else:
            model.save(path, include_optimizer=False)
        _write_tflite(model, path.with_suffix(".tflite"))


def _write_tflite(model: Any, path: Path) -> None:
    import tensorflow as tf

    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def _train(original: Trained, data: Path) -> Any:
    keras = _keras()
    arrays = full_mnist.load(data)
    chosen = training_digits(arrays)
    keras.utils.set_random_seed(SEED)
    model = keras.Sequential(original.build(keras.layers))
    rate: Any = 1e-3
    if original.falling:
        steps = -(-len(chosen) // BATCH) * original.epochs
        rate = keras.optimizers.schedules.CosineDecay(rate, steps, alpha=0.01)
    model.compile(
        keras.optimizers.legacy.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    images, labels = arrays["x_train"][chosen], arrays["y_train"][chosen]
    if len(model.input_shape) == 4:
        images = images[..., np.newaxis]
    model.fit(images, labels, batch_size=BATCH, epochs=original.epochs, verbose=0)
    return model


def _train_by_torch(original: TrainedByTorch, path: Path, data: Path) -> None:
    import litert_torch
    import torch

    import featherweight.torch
    from tests.benchmarks.quality import torch_networks

    build, train = original.names
    torch.manual_seed(SEED)
    model = getattr(torch_networks, build)()
    parameters = sum(value.numel() for value in model.parameters())
    if parameters != original.parameters:
        raise RuntimeError(f"{path.stem} has {parameters} parameters, not {original.parameters}")
    images, labels = original.samples(data)
    getattr(torch_networks, train)(model, images, labels, original.epochs)
    example = torch.from_numpy(images[:2])
    featherweight.torch.save(model, (example,), path)
    path.with_suffix(".tflite").write_bytes(litert_torch.convert(model, (example[:1],)).model_content())


def _digits(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """[n, 1, 28, 28] and labels, of the digits that specs train on."""
    arrays = full_mnist.load(data)
    chosen = training_digits(arrays)
    return arrays["x_train"][chosen][:, np.newaxis], arrays["y_train"][chosen]


def _images(data: Path) -> tuple[np.ndarray, np.ndarray]:
    arrays = datasets.cifar10_channels_first(data)
    return arrays["x_train"], arrays["y_train"]


def _given(path: Path) -> Any:
    return _keras().models.load_model(path, compile=False)


def _keras() -> Any:
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tf_keras

    tf_keras.utils.disable_interactive_logging()
    return tf_keras


ORIGINALS: Mapping[str, Original] = {
    "tutorial": Trained(_tutorial, 20_410, epochs=4, falling=False),
    "lenet-300-100": Trained(_lenet_300_100, 266_610, epochs=20),
    "lenet-5": Trained(_lenet_5, 431_080, epochs=10),
    "lenet-5-torch": TrainedByTorch(("lenet_5", "train_on_digits"), _digits, 431_080, epochs=10),
    "resnet-8-torch": TrainedByTorch(("resnet_8", "train_on_images"), _images, 77_850, epochs=8),
    "resnet-8": Given("mlperf_tiny/ic/pretrainedResnet.h5", 78_666),
    "ds-cnn": Given("mlperf_tiny/kws/kws_ref_model", 24_908),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", choices=list(ORIGINALS))
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # for PyTorch: its idle threads would spin
    options.folder.mkdir(parents=True, exist_ok=True)
    make(options.name, options.folder, options.data)


if __name__ == "__main__":
    main()
