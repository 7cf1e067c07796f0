"""What a handler is given beside the model and its step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featherweight.report import ReportWarning
from featherweight.spec import OutputFormat, Step
from tasks.compression.checkpoints import Checkpoints, NoCheckpoints
from tasks.compression.data import Data
from tasks.compression.delivery import Delivery
from tasks.compression.errors import CompressionError
from tasks.compression.progress import Progress
from tasks.compression.remarks import remark
from tasks.compression.rounds import NoRounds, Rounds
from tasks.compression.stopping import Never, Stop
from tasks.compression.workspace import StepRecord

__all__ = ["Context"]


@dataclass(frozen=True)
class Context:
    """`following` is the next step of the spec; `pointer` the JSON pointer of this one.

    A handler writes what it did into `record` and says warnings through `warn`; `scratch` is a directory
    for its temporary files; `outputs` are the formats to be delivered, and `delivery` goes on without one
    that the step cannot make; without it every one has to be made. `original` is a copy of the uploaded
    model, where the spec has a distill step. A handler that takes long keeps how far it got in `checkpoints`,
    of rounds in `rounds`, and looks whether it is to `stop`. `rounds_ended` is how many rounds came before a
    training that is one of several.
    """

    index: int
    pointer: str
    following: Step | None
    seed: int
    data: Data | None
    progress: Progress
    scratch: Path
    outputs: tuple[OutputFormat, ...] = ()
    delivery: Delivery | None = None
    original: Any = None
    checkpoints: Checkpoints = field(default_factory=NoCheckpoints)
    rounds: Rounds = field(default_factory=NoRounds)
    rounds_ended: int | None = None
    stop: Stop = field(default_factory=Never)
    record: StepRecord = field(default_factory=StepRecord)

    def warn(self, code: str, *, layer: str | None = None, **values: object) -> None:
        """KeyError for a code that remarks does not know."""
        self._say(remark(code, layer=layer, **values))

    def leave_out(self, outputs: Iterable[str], error: CompressionError) -> None:
        """Go on without `outputs`, which cannot be made because of `error`: raises it where that is not to
        be, as Delivery.leave_out does."""
        if self.delivery is None:
            raise error
        self.record.missing += self.delivery.leave_out(outputs, error, self._say)

    @property
    def lost(self) -> bool:
        """Whether the job goes on without an output that was asked for."""
        return self.delivery is not None and bool(self.delivery.missing)

    def _say(self, warning: ReportWarning) -> None:
        self.record.warnings.append(warning)
        self.progress.warn(warning)

    @property
    def training_data(self) -> Data:
        """The data set, for steps that cannot do without; the pipeline has refused the others before."""
        if self.data is None:
            raise RuntimeError("a step that needs data was started without any")
        return self.data
