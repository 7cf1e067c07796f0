"""SavedModels: a folder that TensorFlow and its servers read, here in one ``saved_model.tar.gz``."""

from __future__ import annotations

import io
import tarfile
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tasks.compression.archives import tar_gz
from tasks.compression.backends.tensorflow._framework import tf, without_autograph
from tasks.compression.backends.tensorflow.canonical import canonical
from tasks.compression.backends.tensorflow.inference import served
from tasks.compression.errors import CompressionError
from tasks.compression.samples import Array, Samples, Tensors, gathered, joined, signature_names

__all__ = ["FOLDER", "answer", "write_saved_model"]

FOLDER = "saved_model"
_SIGNATURE = "serving_default"
_GRAPH = "saved_model.pb"
# Holds a random number, and the sums of a file that is written anew here; TensorFlow does without.
_FINGERPRINT = "fingerprint.pb"
_BATCH = 256


@without_autograph  # type: ignore[untyped-decorator]
def write_saved_model(model: Any, path: Path) -> None:
    """Export for inference, the folder `FOLDER` in an archive: the signature ``serving_default`` takes the
    inputs and has the outputs by their names. Equal models make equal files.

    CompressionError conversion_failed for a model that TensorFlow cannot export.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as made:
        folder = Path(made)
        try:
            _export(model, folder)
        # TensorFlow raises its own OpError, and ValueError, AssertionError, KeyError of tracing.
        except Exception as error:
            raise CompressionError(
                "conversion_failed",
                f"TensorFlow cannot export the model as SavedModel: {_first_line(error)}",
                hint="leave out the output saved_model",
            ) from error
        files = {
            f"{FOLDER}/{file.relative_to(folder).as_posix()}": file.read_bytes()
            for file in folder.rglob("*")
            if file.is_file() and file.name != _FINGERPRINT
        }
    files[f"{FOLDER}/{_GRAPH}"] = canonical(files[f"{FOLDER}/{_GRAPH}"])
    path.write_bytes(tar_gz(files))


def answer(path: Path, x: Tensors) -> Tensors:
    """What the signature of an archive that `write_saved_model` made answers, loaded afresh."""
    with tempfile.TemporaryDirectory(dir=path.parent) as made:
        _unpack(path, Path(made))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = tf.saved_model.load(str(Path(made) / FOLDER))
        signature = loaded.signatures[_SIGNATURE]
        size = next(iter(signature.structured_input_signature[1].values())).shape[0] or _BATCH
        return joined([_answer(signature, x[i : i + size]) for i in range(0, len(x), size)])


def _export(model: Any, folder: Path) -> None:
    module = served(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf.saved_model.save(module, str(folder), signatures={_SIGNATURE: module.serve})


def _unpack(path: Path, folder: Path) -> None:
    with tarfile.open(path) as archive:
        for entry in archive:
            target = folder / entry.name
            content = archive.extractfile(entry) or io.BytesIO()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())


def _answer(signature: Any, x: Tensors) -> Tensors:
    specs: dict[str, Any] = signature.structured_input_signature[1]
    given: dict[str, Array] = (
        dict(zip(signature_names(x.names), x.arrays, strict=True))
        if isinstance(x, Samples)
        else {next(iter(specs)): x}
    )
    fed = {name: tf.constant(values, specs[name].dtype) for name, values in given.items()}
    answers = signature(**fed)
    return gathered(answers, [np.asarray(values, dtype=np.float32) for values in answers.values()])


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
