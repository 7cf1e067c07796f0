"""What goes from handler to handler: a model on its way through the steps, of any framework."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from tasks.compression.pending import Pending, Sharing, StepT
from tasks.compression.samples import Tensors, read_tensors, write_tensors
from tasks.compression.waiting import WaitingStep

__all__ = ["Underway", "UnderwayT", "extras", "read_state", "write_state"]

_STATE = "network.json"
_TENSORBOARD = "tensorboard.tar.gz"
_SIMULATED = "simulated.npz"
_WAITING: TypeAdapter[WaitingStep] = TypeAdapter(WaitingStep)


@dataclass(frozen=True)
class Underway:
    """A framework's `model`, and what the steps have left behind.

    `pending` are the steps not carried out yet; `pruned` the layers earlier steps made zeros in, with the
    sparsity they were meant to have; `shared` those whose weights they made share values; `simulated` is what
    a file in integers should answer to the test split, where quantisation-aware training made it: the outputs
    of the network it was converted from, weights and activations rounded; `tensorboard` the archive of the
    last training's summaries, where a prune step asked for them.
    """

    model: Any
    _: KW_ONLY
    pending: tuple[Pending[WaitingStep], ...] = ()
    pruned: Mapping[str, float] = field(default_factory=dict)
    shared: Mapping[str, Sharing] = field(default_factory=dict)
    simulated: Tensors | None = None
    tensorboard: bytes | None = None

    def waiting(self, kind: type[StepT]) -> list[Pending[StepT]]:
        """The pending steps of one technique, in order."""
        return [Pending(item.step, item.pointer) for item in self.pending if isinstance(item.step, kind)]


UnderwayT = TypeVar("UnderwayT", bound=Underway)


def extras(network: Underway) -> dict[str, bytes]:
    """Files to be delivered beside the outputs, by name."""
    return {} if network.tensorboard is None else {_TENSORBOARD: network.tensorboard}


def write_state(network: Underway, directory: Path, own: Mapping[str, Any]) -> None:
    """Write all of a network but its model and files; `own` is JSON that only its framework knows."""
    if network.simulated is not None:
        write_tensors(directory / _SIMULATED, network.simulated)
    for name, content in extras(network).items():
        (directory / name).write_bytes(content)
    state = {
        "pending": [[item.step.model_dump(mode="json"), item.pointer] for item in network.pending],
        "pruned": dict(network.pruned),
        "shared": {path: asdict(sharing) for path, sharing in network.shared.items()},
        **own,
    }
    (directory / _STATE).write_text(json.dumps(state), encoding="utf-8")


def read_state(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `write_state` wrote: fields of `Underway`, and `own`."""
    own = json.loads((directory / _STATE).read_text(encoding="utf-8"))
    tensorboard, simulated = directory / _TENSORBOARD, directory / _SIMULATED
    fields = {
        "pending": tuple(
            Pending(_WAITING.validate_python(step), pointer) for step, pointer in own.pop("pending")
        ),
        "pruned": own.pop("pruned"),
        "shared": {path: Sharing(**sharing) for path, sharing in own.pop("shared").items()},
        "simulated": read_tensors(simulated) if simulated.exists() else None,
        "tensorboard": tensorboard.read_bytes() if tensorboard.exists() else None,
    }
    return fields, own
