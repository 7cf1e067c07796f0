"""Tells how far a job is, through the callable it was given, and keeps the time of each stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from featherweight.events import Event, LogEvent, ProgressEvent, ResumedEvent, StageEvent, WarningEvent
from featherweight.report import ReportWarning

__all__ = ["Progress"]

MIN_INTERVAL_S = 0.25


class Progress:
    """The stages of a job with the share of the whole each is expected to take.

    The fraction reported never falls. Within a stage at most four ProgressEvents a second go out.
    """

    def __init__(
        self,
        emit: Callable[[Event], None],
        stages: Sequence[tuple[str, float]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._emit = emit
        self._names = [name for name, _ in stages]
        total = sum(weight for _, weight in stages)
        self._shares = [weight / total for _, weight in stages]
        self._clock = clock
        self._index = -1
        self._began = self._last = clock()
        self._fraction = 0.0
        self._done_before = (1, 0)
        self._portion = (1, 1)
        self.warnings: list[ReportWarning] = []

    @property
    def stage(self) -> str | None:
        return self._names[self._index] if self._index >= 0 else None

    def begin(self) -> None:
        """Enter the next stage; IndexError after the last."""
        self._index += 1
        name = self._names[self._index]
        self._began = self._last = self._clock()
        self._done_before = (1, 0)
        self._fraction = sum(self._shares[: self._index])
        self._emit(StageEvent(stage=name, index=self._index, total=len(self._names)))
        self._emit(ProgressEvent(stage=name, fraction=round(self._fraction, 4)))

    def resume(self, step: int) -> None:
        """`step` steps of the current stage, or portion of it, and the portions before, were done before it
        began here."""
        self._done_before = (self._portion[0], step)

    def resumed(self, step: int, epoch: int = 0, round: int | None = None) -> None:
        """The attempt goes on in the step with this index: see `ResumedEvent`."""
        self._emit(ResumedEvent(step=step, epoch=epoch, round=round))

    def elapsed(self) -> float:
        """Seconds in the current stage."""
        return self._clock() - self._began

    @contextmanager
    def portion(self, number: int, count: int) -> Iterator[None]:
        """In the block, what `advance` is told is of the part `number`, from 1, of `count` equal parts of the
        stage."""
        self._portion = (number, count)
        try:
            yield
        finally:
            self._portion = (1, 1)

    def advance(self, step: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """`step` of `total` of the current stage, or of a portion of it, is done. Too soon after the last
        report, says nothing."""
        number, count = self._portion
        portions, before = self._done_before
        done_before = (portions - 1) * total + before
        step, total = step + (number - 1) * total, count * total
        now = self._clock()
        if now - self._last < MIN_INTERVAL_S and step < total:
            return
        self._last = now
        here = step - done_before
        done = min(step / total, 1.0)
        earlier = sum(self._shares[: self._index])
        self._fraction = max(self._fraction, earlier + done * self._shares[self._index])
        self._emit(
            ProgressEvent(
                stage=self._names[self._index],
                fraction=round(self._fraction, 4),
                step=step,
                total=total,
                eta_s=round((now - self._began) * (total - step) / here, 1) if here > 0 else None,
                metrics=dict(metrics or {}),
            )
        )

    def finish(self) -> None:
        self._fraction = 1.0
        self._emit(ProgressEvent(stage=self._names[-1], fraction=1.0))

    def log(self, message: str) -> None:
        self._emit(LogEvent(message=message))

    def warn(self, warning: ReportWarning) -> None:
        """Keep `warning` for the report and say it at once; said before, it is not said again."""
        if warning in self.warnings:
            return
        self.warnings.append(warning)
        self._emit(WarningEvent(code=warning.code, message=warning.message, layer=warning.layer))
