from __future__ import annotations

import tarfile
import warnings
from pathlib import Path

import pytest

from tasks.compression import compress
from tasks.compression.samples import Array
from tests.compression.networks import digits, keras, save_model, save_trained_cnn
from tests.conformance.outputs import OutputsConformance, as_float


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_trained_cnn(tmp_path_factory.mktemp("model") / "cnn.keras", *digits())


class TestTensorFlowOutputs(OutputsConformance):
    def answers(self, output: str, path: Path, x: Array) -> Array:
        if output == "keras":
            return as_float(keras().models.load_model(path, compile=False).predict(x, verbose=0))
        import tensorflow as tf

        with tarfile.open(path) as archive:
            archive.extractall(path.parent / "unpacked", filter="data")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = tf.saved_model.load(str(path.parent / "unpacked" / "saved_model"))
        (answer,) = loaded.signatures["serving_default"](tf.constant(x)).values()
        return as_float(answer.numpy())

    def test_several_inputs_and_outputs_keep_their_names(self, tmp_path: Path) -> None:
        path = _recurrent(tmp_path / "several.keras")
        spec = {
            "steps": [{"technique": "prune"}],
            "outputs": ["tflite", "c_array", "saved_model", "onnx"],
        }
        report = compress(path, spec, workdir=tmp_path / "first").report
        for item in report.outputs:
            assert item.by_output is not None
            assert set(item.by_output) == {"kind", "size"}
            assert all((part.max_abs_difference or 0.0) < 1e-4 for part in item.by_output.values())
        compress(path, spec, workdir=tmp_path / "second")
        for name in ("saved_model.tar.gz", "model.onnx"):
            first, second = ((tmp_path / each / "out" / name).read_bytes() for each in ("first", "second"))
            assert first == second, name


def _recurrent(path: Path) -> Path:
    layers = keras().layers
    keras().utils.set_random_seed(1)
    words = keras().Input((6, 4), name="words")
    age = keras().Input((2,), name="age")
    read = layers.Bidirectional(layers.LSTM(5))(words)
    both = layers.Concatenate()([read, layers.Dense(3, activation="relu")(age)])
    outputs = [
        layers.Dense(3, activation="softmax", name="kind")(both),
        layers.Dense(1, name="size")(both),
    ]
    return save_model(keras().Model([words, age], outputs), path)
