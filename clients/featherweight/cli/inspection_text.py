"""An inspection as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from featherweight.cli.output import columns
from featherweight.inspection import (
    InspectedObstacle,
    InspectedOutput,
    InspectedTechnique,
    InspectedTensor,
    Inspection,
)

__all__ = ["inspection_text"]

_WORDS = {True: "yes", False: "no", None: "seen in the job"}


def inspection_text(found: Inspection) -> str:
    """A number with a ~ before it is an estimate."""
    return "\n\n".join(_sections(found))


def _sections(found: Inspection) -> Iterator[str]:
    yield _head(found)
    if found.layers:
        rows = [
            [
                layer.layer,
                layer.kind,
                _shape(layer.output_shape),
                f"{layer.parameters:,}",
                f"{layer.weight_bytes:,}",
                "?" if layer.macs is None else f"{layer.macs:,}",
                layer.dtype,
            ]
            for layer in found.layers
        ]
        head = ["layer", "kind", "output", "parameters", "bytes", "MACs", "stored as"]
        yield columns(head, rows, right=[3, 4, 5])
    if found.techniques:
        rows = [_technique(each) for each in found.techniques]
        yield columns(["technique", "possible", "layers", "data", "why not"], rows)
        yield from _left_alone(found.techniques)
    if found.formats:
        yield columns(["output", "possible", "why not"], [_format(each) for each in found.formats])


def _head(found: Inspection) -> str:
    facts: list[tuple[str, Any]] = [
        ("file", found.filename),
        ("format", f"{found.format} ({found.kind_reason})" if found.kind_reason else found.format),
        ("written by", found.written_by),
        ("bytes", f"{found.bytes:,}"),
        ("inputs", _tensors(found.inputs)),
        ("outputs", _tensors(found.outputs)),
    ]
    if (totals := found.totals) is not None:
        open_ = f" (sizes left open counted as 1 in {len(totals.macs_assumed)} layers)"
        macs = "not known" if totals.macs is None else f"{totals.macs:,}"
        peak = totals.activation_bytes_peak_estimate
        facts += [
            ("parameters", f"{totals.parameters:,} ({totals.nonzero_parameters:,} not zero)"),
            ("weights", f"{totals.weight_bytes:,} bytes"),
            ("MACs", macs + (open_ if totals.macs_assumed else "")),
            ("activations", None if peak is None else f"~{peak:,} bytes at most"),
        ]
    lines = [f"{name:<12} {value}" for name, value in facts if value]
    if found.problem is not None:
        lines.append(f"{'problem':<12} {_told(found.problem)} [{found.problem.code}]")
        if found.problem.hint:
            lines.append(f"{'hint':<12} {found.problem.hint}")
    return "\n".join(lines)


def _technique(each: InspectedTechnique) -> list[Any]:
    options = ", ".join(f"{name} {value}" for name, value in each.step.items() if name != "technique")
    name = f"{each.technique} ({options})" if options else each.technique
    count = len(each.layers) or None
    why = _told(each.why) if each.why is not None else each.open
    return [name, _WORDS[each.possible], count, "needed" if each.needs_data else "", why or ""]


def _left_alone(techniques: Sequence[InspectedTechnique]) -> Iterator[str]:
    """The layers that a technique which is possible would leave as they are; weightless ones are no news."""
    rows: dict[tuple[str, str], dict[str, None]] = {}
    for each in techniques:
        for obstacle in each.left_alone if each.possible else ():
            rows.setdefault((obstacle.layer or "", obstacle.detail), {})[each.technique] = None
    if rows:
        told = [[layer, ", ".join(names), why] for (layer, why), names in rows.items()]
        yield columns(["left alone", "by", "why"], told)


def _format(each: InspectedOutput) -> list[Any]:
    why = _told(each.why) if each.why is not None else each.open
    return [each.output, _WORDS[each.possible], why or ""]


def _told(why: InspectedObstacle) -> str:
    return f"{why.detail} (layer {why.layer})" if why.layer and why.layer not in why.detail else why.detail


def _tensors(given: Sequence[InspectedTensor]) -> str:
    return ", ".join(f"{tensor.name} {_shape(tensor.shape)}" for tensor in given)


def _shape(shape: Sequence[int | None] | None) -> str:
    """Without the batch axis; open sizes as a question mark."""
    if shape is None:
        return "?"
    return "x".join("?" if size is None or size < 0 else str(size) for size in shape[1:]) or "scalar"
