"""Jobs of every technique and output, run in a process of their own, to compare with another process'.

    python -m tests.compression.repeated FOLDER CASE ...

does the cases in the order given with the models and the data set ``digits.npz`` in FOLDER, which the first
such process makes, and prints a JSON object: for each case the sha256 of each file it delivered but the
report, which has the time of day and durations.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["CASES", "Case"]

SAMPLES = 400
REPORTS = ("report.json", "report.html")


@dataclass(frozen=True)
class Case:
    """`steps` done to `model`; `more` are other fields of the spec."""

    model: str
    steps: tuple[Mapping[str, Any], ...]
    outputs: tuple[str, ...] = ("tflite", "keras")
    more: Mapping[str, Any] = field(default_factory=dict)


def _training(technique: str, **options: Any) -> dict[str, Any]:
    return {"technique": technique, "epochs": 1, "batch_size": 64, **options}


_PRUNE = {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.5}}
_INT8 = {"technique": "quantize", "scheme": "full_int8", "calibration_samples": 64}
_EVERY_OUTPUT = ("tflite", "keras", "saved_model", "c_array", "onnx")

CASES: Mapping[str, Case] = {
    "zeros, augmented training, every output": Case(
        "keras3.keras",
        (
            _PRUNE,
            _training("finetune", augmentation={"shift": 0.1, "rotate_degrees": 10}, keep_best=True),
            {**_INT8, "calibration_candidates": 3, "sensitivity": {"max_drop": 0.0, "max_float_layers": 1}},
        ),
        _EVERY_OUTPUT,
        {"tflite_metadata": {"name": "digits", "labels": [str(digit) for digit in range(10)]}},
    ),
    "channels in rounds, distilled": Case(
        "keras2.keras",
        (
            {"technique": "prune_channels", "importance": "taylor", "iterations": 2},
            _training("distill", class_weights="balanced"),
            {**_INT8, "scheme": "int16x8"},
        ),
    ),
    "thinner layers": Case(
        "keras2.keras",
        ({"technique": "decompose", "rank": {"type": "budget", "keep": 0.5}}, _training("finetune")),
        ("tflite", "saved_model", "onnx"),
    ),
    "shared values, four bits": Case(
        "keras2.keras",
        (
            {"technique": "cluster", "clusters": 8},
            _training("finetune", optimizer="adamw"),
            {"technique": "quantize", "scheme": "weight_only", "weight_bits": 4, "algorithm": "gptq"},
        ),
    ),
    "zeros and shared values, trained in integers": Case(
        "keras2.keras",
        (
            _PRUNE,
            {"technique": "cluster"},
            {"technique": "quantize_aware"},
            _training("finetune", optimizer="sgd_momentum"),
        ),
    ),
    "recurrent, without data": Case(
        "recurrent.keras",
        ({"technique": "prune", "method": "random"}, {"technique": "cluster"}),
        ("keras", "saved_model", "onnx"),
    ),
    "a graph without layers": Case("graph.tar.gz", (_INT8,), ("tflite", "saved_model", "onnx")),
    "a float program": Case("float.tflite", (_INT8,), ("tflite", "c_array")),
}


def save_models(folder: Path) -> None:
    """A classifier of digits saved by Keras 2, one with dropout by Keras 3, both without Keras as a graph and
    as a program, and a recurrent one."""
    from tasks.compression.backends.tensorflow.convert import to_tflite
    from tests.compression.networks import keras as keras2
    from tests.compression.networks import save_model

    import keras  # isort: skip - after what sets TensorFlow's environment

    for module, name, extra in ((keras2(), "keras2.keras", False), (keras, "keras3.keras", True)):
        layers = module.layers
        module.utils.set_random_seed(0)
        stack = [
            layers.Input((28, 28)),
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(8, 3, strides=2, activation="relu", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Conv2D(12, 3, strides=2, activation="relu", name="mixed"),
            *([layers.Dropout(0.2)] if extra else []),
            layers.Flatten(),
            layers.Dense(10, activation="softmax", name="classes"),
        ]
        model = module.Sequential(stack)
        save_model(model, folder / name)
        if module is keras:
            model.export(folder / "graph", verbose=False)
        else:
            (folder / "float.tflite").write_bytes(to_tflite(model))
    with tarfile.open(folder / "graph.tar.gz", "w:gz") as archive:
        archive.add(folder / "graph", arcname="graph")
    keras2().utils.set_random_seed(0)
    layers = keras2().layers
    recurrent = [layers.Input((10, 6)), layers.Bidirectional(layers.LSTM(8)), layers.Dense(3)]
    save_model(keras2().Sequential(recurrent), folder / "recurrent.keras")


def save_data(path: Path) -> None:
    from tests.compression.networks import digits

    x, y = digits()
    np.savez(path, x=x[:SAMPLES], y=y[:SAMPLES])


def run(folder: Path, name: str) -> dict[str, str]:
    """The digests of the files that the case `name` delivers, by the files' names."""
    from tasks.compression import compress

    case = CASES[name]
    spec = {"steps": list(case.steps), "outputs": list(case.outputs), **case.more}
    data = None if case.model == "recurrent.keras" else folder / "digits.npz"
    with tempfile.TemporaryDirectory() as work:
        outcome = compress(folder / case.model, spec, dataset=data, workdir=Path(work))
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in outcome.artifacts
            if path.name not in REPORTS
        }


def main(folder: Path, names: Sequence[str]) -> None:
    data = folder / "digits.npz"
    if not data.exists():
        save_models(folder)
        save_data(data)
    sys.stdout.write(json.dumps({name: run(folder, name) for name in names}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
