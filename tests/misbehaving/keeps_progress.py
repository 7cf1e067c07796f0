"""Finishes a step, writes a checkpoint, and waits to be stopped; another attempt goes on from there.

The bytes of the model say what else it does: ``ends`` after a while, ``plants:<what>`` something that is none
of its checkpoints, ``grows`` a checkpoint of 3 MB.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.events import LogEvent, ResumedEvent
from tasks.compression.checkpoints import Checkpoint
from tasks.compression.stopping import Stop, Stopped
from tasks.compression.workspace import StepRecord, Workspace
from tests.misbehaving import Outcome, made

STEP, NEXT = "a" * 32, "b" * 32


def compress(model: Path, _: Any, *, workdir: Path, emit: Any, stop: Stop, **__: Any) -> Outcome:
    told = model.read_text("latin-1")
    workspace = Workspace(workdir)
    checkpoints = workspace.checkpoints(NEXT)
    newest = checkpoints.newest()
    if workspace.find(STEP) is not None and newest is not None:
        emit(ResumedEvent(step=1, epoch=newest.epoch))
        return made(workdir, model__tflite=f"after epoch {newest.epoch}")

    def keep(epoch: int) -> None:
        size = 750_000 if told == "grows" else 100
        checkpoints.keep(Checkpoint(epoch, 0, {}, [np.full(size, epoch, np.float32)]))

    # Before there is anything to store: else that might be stored before this is there.
    plant(told.partition("plants:")[2], workdir / "checkpoints")
    workspace.keep(STEP, StepRecord(), lambda folder: (folder / "model.keras").write_bytes(b"network" * 1000))
    keep(2)
    emit(LogEvent(message="began"))
    if told == "ends":
        time.sleep(2)
        return made(workdir, model__tflite="to the end")
    with stop.held():
        while not stop.requested:
            time.sleep(0.05)
        keep(3)
        raise Stopped


def plant(what: str, folder: Path) -> None:
    path = folder / "planted.npz"
    folder.mkdir(parents=True, exist_ok=True)
    match what:
        case "symlink":
            path.symlink_to("/etc/passwd")
        case "pipe":
            os.mkfifo(path)
        case "hard_link":
            path.write_bytes(b"weights")
            os.link(path, folder.with_name("another name"))
        case "holes":
            path.touch()
            os.truncate(path, 1 << 30)
        case "huge":
            path.write_bytes(b"x" * 2_000_000)
        case "name":
            (folder / "..planted").touch()
        case "many":
            making = folder.with_name("making")
            making.mkdir()
            for number in range(1100):
                (making / f"{number}.npz").touch()
            making.rename(folder / "many")  # in one moment
        case "folder_link":
            folder.rename(folder.with_name("elsewhere"))
            folder.symlink_to("elsewhere")
