"""Does a little, says so, and leaves two files: the one that behaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from featherweight.events import LogEvent, ProgressEvent, StageEvent
from tests.misbehaving import Outcome, made


def compress(model: Path, spec: Any, *, workdir: Path, emit: Callable[..., None], **_: Any) -> Outcome:
    emit(StageEvent(stage="load", index=1, total=1))
    emit(LogEvent(message=f"loaded {model}"))
    emit(ProgressEvent(stage="load", fraction=0.5, metrics={"loss": float("nan"), "accuracy": 0.9}))
    print(f"the model is {model}")
    return made(workdir, model__tflite=model.read_text("latin-1") * 2, report__json="{}")
