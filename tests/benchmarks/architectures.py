"""``make bench-models``: networks of keras.applications through a whole job, for the table in docs/models.md.

    python -m tests.benchmarks.architectures [--only NAME ...] [--write]

Each is made with random weights by Keras 3, pruned to one half, converted to int8 on random images, and given
back as a Keras 3 file, which plain Keras 3 then loads. Every network has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
SAMPLES, CLASSES = 40, 10

SIDES = {
    "MobileNet": 64,
    "MobileNetV2": 64,
    "MobileNetV3Small": 64,
    "MobileNetV3Large": 64,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "DenseNet121": 64,
    "Xception": 96,
    "InceptionV3": 96,
    "NASNetMobile": 64,
    "ConvNeXtTiny": 64,
    "VGG16": 32,
}
HEADER = (
    "| network | side | parameters | bridge difference | back in Keras 3 | int8 `.tflite`, gzipped "
    "| of the original | seconds |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=sorted(SIDES), default=list(SIDES))
    parser.add_argument("--write", action="store_true", help="replace the table in docs/models.md")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child)))  # noqa: T201 - what the parent reads
        return
    rows = [_row(name) for name in options.only]
    text = "\n".join([HEADER, *rows]) + "\n"
    sys.stdout.write(text)
    if options.write:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{text}{END}{rest.partition(END)[2]}")


def _row(name: str) -> str:
    command = [sys.executable, "-m", "tests.benchmarks.architectures", "--child", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr[-2000:])
        return f"| {name} | {SIDES[name]} | refused | | | | | |"
    found = json.loads(done.stdout.splitlines()[-1])
    return (
        f"| {name} | {found['side']} | {found['parameters']:,} | {found['bridge']:.1e} | {found['back']:.1e} "
        f"| {found['gzip_bytes']:,} B | {found['share']:.3f} | {found['seconds']:.0f} |"
    )


def measure(name: str) -> dict[str, Any]:
    """One network's job: differences are relative to the largest output."""
    import numpy as np

    from tasks.compression import compress
    from tasks.compression.backends.tensorflow import bridge

    import keras  # isort: skip - after what sets TensorFlow's environment

    side = SIDES[name]
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        model.save(directory / "model.keras")
        generator = np.random.default_rng(0)
        x = generator.uniform(0, 255, (SAMPLES, side, side, 3)).astype(np.float32)
        y = generator.integers(0, CLASSES, SAMPLES)
        np.savez(directory / "data.npz", x=x, y=y)
        (directory / "job").mkdir()
        schedule = {"type": "constant_sparsity", "target_sparsity": 0.5}
        steps = [
            {"technique": "prune", "schedule": schedule},
            {"technique": "quantize", "scheme": "full_int8", "calibration_samples": 16},
        ]
        began = time.perf_counter()
        spec = {"steps": steps, "outputs": ["tflite", "keras"]}
        dataset = directory / "data.npz"
        report = compress(directory / "model.keras", spec, dataset=dataset, workdir=directory / "job").report
        seconds = time.perf_counter() - began
        delivered = keras.saving.load_model(directory / "job" / "out" / "model.keras")
        small, whole = report.outputs
        return {
            "side": side,
            "parameters": model.count_params(),
            "bridge": bridge.compare(bridge.to_keras2(model)),
            "back": whole.max_abs_difference,
            "loaded": type(delivered).__module__,
            "gzip_bytes": small.gzip_bytes,
            "share": small.gzip_bytes / report.original.gzip_bytes,
            "seconds": seconds,
        }


if __name__ == "__main__":
    main()
