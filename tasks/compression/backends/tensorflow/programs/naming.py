"""Names for the tensors of a ``.tflite`` that has been stripped of them."""

from __future__ import annotations

from tasks.compression.outline.facts import Outline
from tasks.compression.tflite import read, written

__all__ = ["named"]


def named(content: bytes, outline: Outline) -> bytes:
    """The same program, of one graph, in which every tensor has a name of its own and the first output of
    each operation that of its layer in `outline`; the file itself where that is so already. Inputs and
    outputs of the program keep their names."""
    model = read(content)
    graph = model.subgraphs[0]
    ends = {int(number) for number in (*graph.inputs, *graph.outputs)}
    names = [(tensor.name or b"").decode("utf-8", "replace") for tensor in graph.tensors]
    wanted = list(names)
    for call in outline.calls:
        for place, number in enumerate(call.outputs):
            if number not in ends:
                wanted[number] = call.layer if place == 0 else f"{call.layer}:{place}"
    taken: set[str] = set()
    for number, name in enumerate(wanted):
        while number not in ends and (not name or name in taken):
            name = f"{name or 'tensor'}_{number}"
        wanted[number] = name
        taken.add(name)
    if wanted == names:
        return content
    for tensor, name in zip(graph.tensors, wanted, strict=True):
        tensor.name = name
    return written(model, len(content))
