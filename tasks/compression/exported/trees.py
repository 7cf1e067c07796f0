"""How a model's inputs and outputs are nested: tuples, lists and dictionaries, and no other classes."""

from __future__ import annotations

import json
import re
from typing import Any

from tasks.compression.errors import CompressionError
from tasks.compression.exported.schema import bad

__all__ = ["tree"]

_VERSION = 1
_DEEPEST = 8
_PLAIN = {"builtins.tuple", "builtins.list"}
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_LONGEST = 1 << 20


def tree(value: Any, where: str) -> str:
    """The description, written anew. CompressionError bad_model; unsupported_model for another class."""
    if not isinstance(value, str) or len(value) > _LONGEST:
        bad(where, "is no description of a tree")
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        bad(where, "is no description of a tree")
    if not isinstance(found, list) or len(found) != 2 or found[0] != _VERSION:
        bad(where, "is no description of a tree")
    return json.dumps([_VERSION, _branch(found[1], where, 0)])


def _branch(value: Any, where: str, depth: int) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != {"type", "context", "children_spec"} or depth > _DEEPEST:
        bad(where, "is no description of a tree")
    kind, context, children = value["type"], value["context"], value["children_spec"]
    if not isinstance(children, list):
        bad(where, "is no description of a tree")
    if kind is None:
        if children or context is not None:
            bad(where, "is no description of a tree")
    elif kind == "builtins.dict":
        context = json.dumps(_keys(context, len(children), where))
    elif kind in _PLAIN:
        context = "null"
    else:
        raise CompressionError(
            "unsupported_model",
            f"the model takes or answers with a {str(kind)[:60]!r}",
            hint="let forward take tensors, and return a tensor, a tuple, a list or a dict of them",
        )
    inner = [_branch(each, where, depth + 1) for each in children]
    return {"type": kind, "context": context, "children_spec": inner}


def _keys(context: Any, count: int, where: str) -> list[str]:
    try:
        keys = json.loads(context) if isinstance(context, str) and len(context) <= _LONGEST else None
    except (ValueError, RecursionError):
        keys = None
    if not isinstance(keys, list) or len(keys) != count:
        bad(where, "is no description of a tree")
    if not all(isinstance(key, str) and _KEY.fullmatch(key) for key in keys):
        bad(where, "has a key that is no plain name")
    return keys
