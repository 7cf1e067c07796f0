"""The line that shows how far things are: on a terminal only, and gone when they are done."""

from __future__ import annotations

import shutil
import threading
import time
from typing import TextIO

from featherweight.cli.output import clean
from featherweight.events import Event, ProgressEvent, StageEvent, StateEvent, WarningEvent
from featherweight.eventstream import UnknownEvent

__all__ = ["NoProgress", "ProgressLine", "progress_for"]

_BAR = 24
_SHORTEST_INTERVAL_S = 0.1


class NoProgress:
    """Says nothing: where standard error is no terminal."""

    def bytes(self, what: str, done: int, total: int) -> None:
        pass

    def event(self, event: Event | UnknownEvent) -> None:
        pass

    def items(self, done: int, total: int) -> None:
        pass

    def clear(self) -> None:
        pass


class ProgressLine(NoProgress):
    """One line, rewritten in place."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._drawn_at = float("-inf")
        self._label = "waiting"
        self._fraction = 0.0

    def bytes(self, what: str, done: int, total: int) -> None:
        fraction = done / total if total else 1.0
        self._draw(fraction, what, f"{_size(done)} of {_size(total)}", last=done == total)

    def items(self, done: int, total: int) -> None:
        self._draw(done / total if total else 0.0, "batch", f"{done} of {total} items", last=True)

    def event(self, event: Event | UnknownEvent) -> None:
        if isinstance(event, StateEvent):
            self._label = event.state
            self._draw(self._fraction, self._label, "", last=True)
        elif isinstance(event, StageEvent):
            self._label = f"{event.stage} {event.index + 1}/{event.total}"
        elif isinstance(event, ProgressEvent):
            self._fraction = event.fraction
            self._draw(event.fraction, self._label, _detail(event))
        elif isinstance(event, WarningEvent):
            self.clear()
            self._stream.write(clean(f"warning: {event.message}") + "\n")

    def clear(self) -> None:
        with self._lock:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _draw(self, fraction: float, label: str, detail: str, *, last: bool = False) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._drawn_at < _SHORTEST_INTERVAL_S and not last:
                return
            self._drawn_at = now
            filled = round(_BAR * min(1.0, max(0.0, fraction)))
            line = f"[{'#' * filled}{'.' * (_BAR - filled)}] {fraction:4.0%}  {label}  {detail}"
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r{clean(line)[:width]}\x1b[K")
            self._stream.flush()


def progress_for(stream: TextIO) -> NoProgress:
    return ProgressLine(stream) if stream.isatty() else NoProgress()


def _detail(event: ProgressEvent) -> str:
    parts = []
    if event.step is not None and event.total is not None:
        parts.append(f"{event.step}/{event.total}")
    parts += [f"{name} {value:.4g}" for name, value in event.metrics.items()]
    if event.eta_s is not None:
        parts.append(f"eta {_duration(event.eta_s)}")
    return "  ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"
