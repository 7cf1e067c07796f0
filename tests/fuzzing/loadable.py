"""Small models that frameworks wrote and small data sets, which a job reads when they are whole."""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.sandbox.gate import Role
from tests.fuzzing.reading import SPECS

__all__ = ["loadable_datasets", "loadable_models"]

ROOT = Path(__file__).parents[2]
_MODELS = ("model.keras", "model.h5", "saved_model.zip", "model.tflite")
_COUNT = 24


def loadable_models() -> dict[str, tuple[Role, Callable[[], bytes]]]:
    """By name."""
    return _written("models", "model", _MODELS)


def loadable_datasets() -> dict[str, tuple[Role, Callable[[], bytes]]]:
    """By name, as `reading.SPECS` says how they are read."""
    return _written("datasets", "dataset", tuple(SPECS))


def _written(what: str, role: Role, names: Sequence[str]) -> dict[str, tuple[Role, Callable[[], bytes]]]:
    """TensorFlow, which writes models, stays in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "tests.fuzzing.loadable", what, folder],
            check=True,
            cwd=ROOT,
            capture_output=True,
        )
        contents = {name: (Path(folder) / name).read_bytes() for name in names}
    return {name: (role, lambda content=content: content) for name, content in contents.items()}


def _write_models(folder: Path) -> None:
    from tasks.compression.backends.tensorflow import _framework
    from tests.compression import saved_models
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
    for name in _MODELS[:2]:
        save_model(model, folder / name)
    model.save(folder / "saved", save_format="tf")
    saved_models.zip_of(saved_models.files_of(folder / "saved"), folder / _MODELS[2])
    converted = _framework.tf.lite.TFLiteConverter.from_keras_model(model).convert()
    (folder / _MODELS[3]).write_bytes(converted)


def _write_datasets(folder: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tests.compression.datasets.making import image, tar_of, zip_of
    from tests.compression.datasets.test_records import example, written

    kinds = [f"k{number % 3}" for number in range(_COUNT)]
    random = np.random.default_rng(1)
    np.savez_compressed(
        folder / "data.npz",
        x=random.random((_COUNT, 8, 8, 1), np.float32),
        y=np.arange(_COUNT, dtype=np.int64) % 3,
    )
    rows = random.random((_COUNT, 2)).round(3).tolist()
    lines = ["a,b,kind", *(f"{a},{b},{kind}" for (a, b), kind in zip(rows, kinds, strict=True))]
    (folder / "data.csv").write_text("\n".join(lines))
    columns = {"a": [a for a, _ in rows], "b": [b for _, b in rows], "kind": kinds}
    pq.write_table(pa.table(columns), folder / "data.parquet")
    formats = ("PNG", "JPEG", "BMP", "WEBP")
    pictures = [image(7 * number, (8, 8), formats[number % 4]) for number in range(_COUNT)]
    files = {
        f"{kind}/{number}.{formats[number % 4].lower()}": picture
        for number, (kind, picture) in enumerate(zip(kinds, pictures, strict=True))
    }
    zip_of(folder / "images.zip", files)
    tar_of(folder / "images.tar", files)
    (folder / "images.tar.gz").write_bytes(gzip.compress((folder / "images.tar").read_bytes()))
    records = [example(i=picture, l=kind.encode()) for picture, kind in zip(pictures, kinds, strict=True)]
    written(folder, records).rename(folder / "data.tfrecord")


if __name__ == "__main__":
    {"models": _write_models, "datasets": _write_datasets}[sys.argv[1]](Path(sys.argv[2]))
