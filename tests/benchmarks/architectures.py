"""``make bench-models``: networks of keras.applications through a whole job, for the table in docs/models.md.

    python -m tests.benchmarks.architectures [--only NAME ...] [--table] [--write]

Each is made with random weights and statistics by Keras 3, pruned to one half, converted to int8 on random
images, and given back as a Keras 3 file, which plain Keras 3 then loads. Every network has a process of its
own, and a file of its own for its result, so that they can be measured one at a time.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks import document
from tests.benchmarks.machine import machine

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "models.md"
BEGIN, END = document.markers("measured")
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
    "| network | side | parameters | bridge difference | back in Keras 3 | zeros | int8 `.tflite`, gzipped "
    "| of the original | seconds | of the processor |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def main() -> None:
    options = _options()
    if options.child:
        print(json.dumps(measure(options.child)))  # noqa: T201 - what the parent reads
        return
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in [] if options.table else options.only:
        (folder / f"{name}.json").write_text(json.dumps(_found(name), indent=2) + "\n")
    text = markdown({path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")})
    sys.stdout.write(text)
    if options.write:
        DOCUMENT.write_text(document.updated(DOCUMENT.read_text(), "measured", text))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=sorted(SIDES), default=list(SIDES))
    parser.add_argument("--table", action="store_true", help="measure nothing, make the table of the results")
    parser.add_argument("--folder", type=Path, default=ROOT / ".local" / "models", help="of the results")
    parser.add_argument("--write", action="store_true", help="replace the table in docs/models.md")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def _found(name: str) -> dict[str, Any]:
    """What `measure` found in a process of its own, or the last line of why it could not."""
    command = [sys.executable, "-m", "tests.benchmarks.architectures", "--child", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        sys.stderr.write(done.stderr[-2000:])
        return {"refused": done.stderr.strip().splitlines()[-1][:300], **_when()}
    return {**json.loads(done.stdout.splitlines()[-1]), **_when()}


def _when() -> dict[str, str]:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"measured": f"{today} on {machine()}"}


def markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """All networks; one without a result says so, and one that was refused says why."""
    when = sorted({found["measured"] for found in results.values()})
    said = "".join(f"Measured {text}.\n" for text in when)
    return "\n".join([said, HEADER, *(_row(name, results.get(name)) for name in SIDES)]) + "\n"


def _row(name: str, found: Mapping[str, Any] | None) -> str:
    side = SIDES[name]
    if found is None or "refused" in found:
        said = document.NOT_MEASURED if found is None else found["refused"]
        return f"| {name} | {side} | {said} | | | | | | | |"
    return (
        f"| {name} | {side} | {found['parameters']:,} | {found['bridge']:.1e} | {found['back']:.1e} "
        f"| {found['zeros']:.1%} | {found['gzip_bytes']:,} B | {found['share']:.3f} | {found['seconds']:.0f} "
        f"| {found['cpu_seconds']:.0f} |"
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
    _stir(model)
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
        began, worked = time.perf_counter(), time.process_time()
        spec = {"steps": steps, "outputs": ["tflite", "keras"]}
        dataset = directory / "data.npz"
        report = compress(directory / "model.keras", spec, dataset=dataset, workdir=directory / "job").report
        seconds, cpu = time.perf_counter() - began, time.process_time() - worked
        delivered = keras.saving.load_model(directory / "job" / "out" / "model.keras")
        if not isinstance(delivered, keras.Model) or delivered.count_params() != model.count_params():
            raise RuntimeError("what came back is not the Keras 3 model that was sent")
        small, whole = report.outputs
        return {
            "parameters": model.count_params(),
            "bridge": bridge.compare(bridge.to_keras2(model)),
            "back": whole.max_abs_difference,
            "zeros": 1 - whole.nonzero_parameters / whole.parameters,
            "gzip_bytes": small.gzip_bytes,
            "share": small.gzip_bytes / report.original.gzip_bytes,
            "seconds": seconds,
            "cpu_seconds": cpu,
        }


def _stir(model: Any) -> None:
    """Move biases, scales and statistics away from the zeros and ones that they begin with: left so, one that
    the bridge had forgotten would make no difference."""
    import numpy as np

    generator = np.random.default_rng(1)
    for weight in model.weights:
        if len(weight.shape) == 1 and not weight.path.startswith("normalization"):
            weight.assign(weight.numpy() + generator.normal(0, 0.05, weight.shape).astype(np.float32))


if __name__ == "__main__":
    main()
