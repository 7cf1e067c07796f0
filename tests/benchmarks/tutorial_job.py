"""The tutorial's job through the warm service, beside the same steps in a plain script started cold.

Both are run in turn, `rounds` times, on the same model, data and machine; the medians are compared.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from deploy.local.stack import LocalStack
from featherweight import Client
from tests.benchmarks.table import Row

__all__ = ["SPEC", "plain_script", "run"]

SPEC: dict[str, Any] = {
    "version": 1,
    "steps": [
        {
            "technique": "prune",
            "schedule": {"type": "polynomial_decay", "initial_sparsity": 0.5, "final_sparsity": 0.8},
        },
        {"technique": "finetune", "epochs": 2, "batch_size": 128, "validation_split": 0.1},
        {"technique": "quantize", "scheme": "full_int8", "calibration_samples": 200},
    ],
    "outputs": ["tflite", "keras"],
}
SCRIPT = Path(__file__).with_name("plain_script.py")


def run(stack: LocalStack, model: Path, data: Path, *, name: str, rounds: int) -> list[Row]:
    client = Client(base_url=stack.url, api_key=stack.api_key)
    _through_the_service(client, model, data)  # the first job pays for the fork server's imports
    script, service = [], []
    for _ in range(rounds):
        script.append(plain_script(model, data))
        service.append(_through_the_service(client, model, data))
    cold = statistics.median(item["wall_s"] for item in script)
    compute = statistics.median(item["compute_s"] for item in script)
    warm = statistics.median(item["wall_s"] for item in service)
    return [
        Row(f"{name}: service warm ÷ script cold", f"{warm:.2f} s", f"{cold:.2f} s", warm / cold, "< 0.7"),
        Row(
            f"{name}: service warm ÷ script's compute",
            f"{warm:.2f} s",
            f"{compute:.2f} s",
            warm / compute,
            "< 1.15",
        ),
        Row(
            f"{name}: gzipped result, service ÷ script",
            f"{service[-1]['gzip_bytes']:,} B at {service[-1]['accuracy']:.2%}",
            f"{script[-1]['gzip_bytes']:,} B at {script[-1]['accuracy']:.2%}",
            service[-1]["gzip_bytes"] / script[-1]["gzip_bytes"],
        ),
    ]


def plain_script(model: Path, data: Path) -> dict[str, Any]:
    """What the script says of itself, and ``wall_s``, the seconds of its whole process."""
    with tempfile.TemporaryDirectory() as output:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(SCRIPT), str(model), str(data), output],
            check=True,
            capture_output=True,
            text=True,
        )
        wall = time.perf_counter() - began
    return {**json.loads(done.stdout.splitlines()[-1]), "wall_s": wall}


def _through_the_service(client: Client, model: Path, data: Path) -> dict[str, Any]:
    """From the first byte sent to the last byte received, uploads and download included."""
    with tempfile.TemporaryDirectory() as output:
        began = time.perf_counter()
        job = client.compress(model, spec=SPEC, dataset=data).wait(timeout=600)
        job.download(output)
        wall = time.perf_counter() - began
    result = next(item for item in job.report().outputs if item.format == "tflite")
    assert result.accuracy is not None
    return {"wall_s": wall, "gzip_bytes": result.gzip_bytes, "accuracy": result.accuracy.value}
