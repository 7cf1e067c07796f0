"""Keeps networks without Keras layers between the attempts at a job."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tasks.compression.backends.tensorflow.programs.networks import FloatProgram, Graph, Layerless

__all__ = ["is_kept", "restored", "saved"]

_STATE = "program.json"
_FOLDER = "saved_model"
_PROGRAM = "program.tflite"


def saved(model: Layerless, directory: Path) -> None:
    state: dict[str, object] = {}
    if isinstance(model, Graph):
        _copy(model.folder, directory / _FOLDER)
        state = {
            "signature": model.signature,
            "inputs": model.input_names,
            "outputs": model.output_names,
            "loops": model.loops,
        }
    else:
        (directory / _PROGRAM).write_bytes(model.program)
    (directory / _STATE).write_text(json.dumps(state), encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    """Contents alone: a confined process may not set times, which shutil.copytree insists on."""
    target.mkdir()
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir()
        else:
            shutil.copyfile(path, place)


def is_kept(directory: Path) -> bool:
    """Whether what a step left there is such a network."""
    return (directory / _STATE).exists()


def restored(directory: Path) -> Layerless:
    state = json.loads((directory / _STATE).read_text(encoding="utf-8"))
    if not state:
        return FloatProgram((directory / _PROGRAM).read_bytes())
    return Graph(
        directory / _FOLDER, state["signature"], state["inputs"], state["outputs"], loops=state["loops"]
    )
