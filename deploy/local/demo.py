"""``make demo``: a real model made small by the running service, from nothing to a table.

Starts Redis, an S3 server, the API and a worker, and trains the tutorial's CNN on real digits; sends
it over HTTP with the client library; follows the job, brings the result home and runs it; ends all.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from time import monotonic
from typing import Any

import featherweight
from deploy.local.digits import DATA, MODEL
from deploy.local.main import run_main, say
from deploy.local.processes import Process, StartError
from deploy.local.stack import ROOT, LocalStack
from deploy.local.table import report_table
from featherweight.events import ProgressEvent, StageEvent, WarningEvent

__all__ = ["SPEC", "demonstrate", "main"]

SPEC: dict[str, Any] = {
    "steps": [
        {
            "technique": "prune",
            "schedule": {"type": "polynomial_decay", "initial_sparsity": 0.5, "final_sparsity": 0.8},
        },
        # Smaller batches than the tutorial's 128: fourteen times fewer digits make as many steps as that
        # needs. Chosen on the validation split.
        {"technique": "finetune", "epochs": 2, "batch_size": 32, "learning_rate": 0.004},
        {"technique": "quantize", "scheme": "full_int8"},
    ],
    "outputs": ["tflite", "keras"],
}
_TRIED_DIGITS = 10


def main() -> None:
    began = monotonic()
    with tempfile.TemporaryDirectory(prefix="featherweight-demo-") as name:
        directory = Path(name)
        say("Starting Redis, an S3 server, the API and a worker; training a CNN on 4,000 real digits ...")
        training = train(directory)
        with LocalStack(directory / "stack", redis_url=os.environ.get("REDIS_URL")) as stack:
            if training.wait() != 0:
                raise StartError(f"the training failed\n{training.log_tail()}")
            say(f"Ready after {monotonic() - began:.0f} s: {stack.url}\n")
            report = demonstrate(stack, directory)
    say(report_table(report))
    say(f"\nDone in {monotonic() - began:.0f} s; everything that was started has ended.")


def train(directory: Path) -> Process:
    """Start writing the model and its data into `directory`, in a process of its own: here, TensorFlow
    would stay in memory."""
    command = [sys.executable, "-m", "deploy.local.digits", str(directory)]
    return Process(
        "training", command, log=directory / "training.log", environment=os.environ, directory=ROOT
    )


def demonstrate(stack: LocalStack, directory: Path) -> featherweight.Report:
    """The caller's part: nothing here but the client library and, at the end, LiteRT."""
    with featherweight.Client(stack.url, stack.api_key) as client:
        job = client.compress(directory / MODEL, SPEC, dataset=directory / DATA, name="demo")
        say(f"Sent {MODEL} and {DATA}; job {job.id}")
        job.wait(timeout=1200, on_event=_show)
        paths = job.download(directory / "result")
        say(f"Downloaded {', '.join(path.name for path in paths)}")
        _try_out(next(path for path in paths if path.suffix == ".tflite"), directory / DATA)
        return job.report()


def _show(event: object) -> None:
    match event:
        case StageEvent(stage=stage, index=index, total=total):
            say(f"  {index + 1}/{total} {stage}")
        case ProgressEvent(fraction=fraction, metrics=metrics) if metrics:
            shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            say(f"      {fraction:4.0%}  {shown}")
        case WarningEvent(message=message):
            say(f"      warning: {message}")


def _try_out(tflite: Path, data: Path) -> None:
    """Run the compressed file itself on digits that nothing was trained on, where a phone would."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    with np.load(data) as arrays:
        images, labels = arrays["x_test"][:_TRIED_DIGITS], arrays["y_test"][:_TRIED_DIGITS]
    interpreter = Interpreter(model_content=tflite.read_bytes())
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    guesses = []
    for image in images:
        interpreter.set_tensor(source, image[None])
        interpreter.invoke()
        guesses.append(int(interpreter.get_tensor(target).argmax()))
    say(f"Ran it in LiteRT on {_TRIED_DIGITS} unseen digits: {guesses}")
    say(f"{'their labels':>{len(f'Ran it in LiteRT on {_TRIED_DIGITS} unseen digits')}}: {labels.tolist()}\n")


if __name__ == "__main__":
    run_main(main)
