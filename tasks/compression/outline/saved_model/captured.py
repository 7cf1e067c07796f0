"""Which variables a signature computes with: exports may hold them twice, and some that nothing uses.

Numbers of fields are those of TensorFlow's saved_object_graph.proto and trackable_object_graph.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

from tasks.compression.outline.saved_model.bundle import Objects
from tasks.compression.outline.saved_model.wire import Malformed, messages, numbers, text, texts

__all__ = ["captured_keys"]

_NODES, _CONCRETE = 1, 2
_CHILDREN = 1
_CHILD_ID, _CHILD_NAME = 1, 2
_FUNCTION, _BARE_FUNCTION = 6, 8
_MAP_KEY, _MAP_VALUE = 1, 2
_BOUND_INPUTS = 2


def captured_keys(objects: memoryview, checkpoint: Objects, signature: str) -> list[str] | None:
    """Keys in the checkpoint of the variables that the signature's function is bound to, in its order; None
    where the file does not tell. `objects` is the SavedObjectGraph. Malformed."""
    nodes = list(messages(objects, _NODES))
    children = [dict(_children(node)) for node in nodes]
    if not nodes or any(place >= len(nodes) for each in children for place in each.values()):
        raise Malformed("the objects lead nowhere")
    place = children[children[0].get("signatures", 0)].get(signature)
    if place is None:
        return None
    names = {
        name
        for number in (_FUNCTION, _BARE_FUNCTION)
        for part in messages(nodes[place], number)
        for name in texts(part, 1)
    }
    bound = [
        number
        for entry in messages(objects, _CONCRETE)
        if text(entry, _MAP_KEY) in names
        for value in messages(entry, _MAP_VALUE)
        for number in numbers(value, _BOUND_INPUTS)
    ]
    same = _counterparts(children, checkpoint)
    keys = [checkpoint.keys[same[number]] for number in bound if number in same]
    return list(dict.fromkeys(key for key in keys if key is not None))


def _children(node: memoryview) -> Iterator[tuple[str, int]]:
    for child in messages(node, _CHILDREN):
        number = list(numbers(child, _CHILD_ID))
        yield text(child, _CHILD_NAME), max(0, number[-1]) if number else 0


def _counterparts(children: list[dict[str, int]], checkpoint: Objects) -> dict[int, int]:
    """The checkpoint's object for each of the SavedModel's: both are numbered anew, children go by name."""
    same = {0: 0}
    waiting = [0]
    while waiting:
        ours = waiting.pop()
        for name, place in children[ours].items():
            theirs = checkpoint.child(same[ours], name)
            if theirs is not None and place not in same:
                same[place] = theirs
                waiting.append(place)
    return same
