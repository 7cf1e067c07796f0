"""The tutorial's job as anyone would write it: TFMOT and TensorFlow in one file, started cold.

    python tests/benchmarks/plain_script.py MODEL.keras DATA.npz OUTPUT_DIR

Prunes 50 → 80 % over two epochs, strips, converts to full int8, scores the original and the
``.tflite`` on the test split and prints one JSON line. ``compute_s`` is everything after the
imports; the process's own start is what the caller's clock adds.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import time
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter

BATCH, EPOCHS = 128, 2


def main(model_path: Path, data_path: Path, output: Path) -> dict[str, float]:
    began = time.perf_counter()
    keras.utils.set_random_seed(0)
    with np.load(data_path) as data:
        x_train, y_train, x_test, y_test = (data[key] for key in ("x_train", "y_train", "x_test", "y_test"))
    model = keras.models.load_model(model_path)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    _, baseline = model.evaluate(x_test, y_test, verbose=0)

    samples = len(x_train) - int(len(x_train) * 0.1)
    steps = int(np.ceil(samples / BATCH)) * EPOCHS
    schedule = tfmot.sparsity.keras.PolynomialDecay(
        initial_sparsity=0.5,
        final_sparsity=0.8,
        begin_step=0,
        end_step=steps,
        # TFMOT's default of 100 would never prune in the few steps that 5,000 digits make.
        frequency=max(1, min(100, steps // 20)),
    )
    pruned = tfmot.sparsity.keras.prune_low_magnitude(model, pruning_schedule=schedule)
    pruned.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    pruned.fit(
        x_train,
        y_train,
        batch_size=BATCH,
        epochs=EPOCHS,
        validation_split=0.1,
        callbacks=[tfmot.sparsity.keras.UpdatePruningStep()],
        verbose=0,
    )
    stripped = tfmot.sparsity.keras.strip_pruning(pruned)
    stripped.save(output / "pruned.keras")

    converter = tf.lite.TFLiteConverter.from_keras_model(stripped)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample[None]] for sample in x_train[:200])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    content = converter.convert()
    (output / "pruned.tflite").write_bytes(content)
    accuracy = _accuracy(content, x_test, y_test)
    return {
        "compute_s": time.perf_counter() - began,
        "baseline_accuracy": float(baseline),
        "accuracy": accuracy,
        "original_gzip_bytes": len(gzip.compress(model_path.read_bytes(), 9)),
        "gzip_bytes": len(gzip.compress(content, 9)),
    }


def _accuracy(content: bytes, x: np.ndarray, y: np.ndarray) -> float:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    into = interpreter.get_input_details()[0]["index"]
    out = interpreter.get_output_details()[0]["index"]
    right = 0
    for sample, label in zip(x, y, strict=True):
        interpreter.set_tensor(into, sample[None])
        interpreter.invoke()
        right += int(np.argmax(interpreter.get_tensor(out)[0]) == label)
    return right / len(x)


if __name__ == "__main__":
    print(json.dumps(main(*map(Path, sys.argv[1:4]))))  # noqa: T201 - its output is its result
