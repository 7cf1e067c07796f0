"""A compression spec from wherever it is written: a model, a mapping, a YAML or JSON file, or text.

Faults are found here, before anything is sent, and say the line they stand on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from featherweight.errors import InvalidSpec
from featherweight.problem import FieldError, field_errors
from featherweight.spec import CompressionSpec

__all__ = ["SpecSource", "load_spec", "parse_spec"]

SpecSource = CompressionSpec | Mapping[str, Any] | str | os.PathLike[str]


def load_spec(source: SpecSource) -> CompressionSpec:
    """`source` is a spec, its fields as a mapping, a file's path, or the text itself.

    A string is the text when it begins with ``{`` (JSON) or has more than one line (YAML). Raises
    InvalidSpec, and OSError when the file cannot be read.
    """
    if isinstance(source, CompressionSpec):
        return source
    if isinstance(source, Mapping):
        return _validated(dict(source), "the spec", None)
    if isinstance(source, str) and (source.lstrip().startswith("{") or "\n" in source):
        return parse_spec(source, "the inline spec")
    return parse_spec(Path(source).read_bytes(), str(source))


def parse_spec(text: str | bytes, source: str) -> CompressionSpec:
    """The spec written in `text`, YAML or JSON; `source` is what messages call it. Raises InvalidSpec."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _refuse_twice_named(node, source)
        value = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(error, source) from None
    if not isinstance(value, Mapping):
        fault = FieldError(pointer="", code="dict_type", detail="a mapping with the key `steps` is needed")
        raise InvalidSpec(source, [fault])
    return _validated(value, source, node)


def _validated(value: Mapping[str, Any], source: str, node: yaml.Node | None) -> CompressionSpec:
    try:
        return CompressionSpec.model_validate(value)
    except ValidationError as error:
        faults = field_errors(error, value)
        raise InvalidSpec(source, faults, [_line(node, fault.pointer) for fault in faults]) from None


def _unreadable(error: Exception, source: str) -> InvalidSpec:
    mark = getattr(error, "problem_mark", None)
    detail = getattr(error, "problem", None) or str(error) or type(error).__name__
    fault = FieldError(pointer="", code="bad_syntax", detail=detail)
    return InvalidSpec(source, [fault], [mark.line + 1 if mark else None])


def _refuse_twice_named(root: yaml.Node, source: str) -> None:
    """YAML lets the last of two equal keys win; here it would hide one of the two."""
    waiting, visited = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in visited:  # aliases make it a graph
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            _check_keys(node, source)
            waiting += [value for _, value in node.value]


def _check_keys(node: yaml.MappingNode, source: str) -> None:
    names = set[str]()
    for key, _ in node.value:
        if str(key.value) in names:
            fault = FieldError(pointer="", code="duplicate_key", detail=f"{key.value!r} stands here twice")
            raise InvalidSpec(source, [fault], [key.start_mark.line + 1])
        names.add(str(key.value))


def _line(node: yaml.Node | None, pointer: str) -> int | None:
    """The line, from 1, of what `pointer` names, or of the nearest thing around it."""
    if node is None:
        return None
    line = node.start_mark.line
    for part in pointer.split("/")[1:]:
        found = _child(node, part.replace("~1", "/").replace("~0", "~"))
        if found is None:
            break
        line, node = found
    return int(line) + 1


def _child(node: yaml.Node, name: str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and name.isdecimal() and int(name) < len(node.value):
        item = node.value[int(name)]
        return item.start_mark.line, item
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name:
                return key.start_mark.line, value
    return None
