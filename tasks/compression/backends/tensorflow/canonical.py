"""The graph of a SavedModel under names that do not depend on what the process did before.

TensorFlow numbers functions by a counter of the process (``__inference_serve_1100``), writes them in the
order of a hash table, and marks those of recurrent layers with random numbers. None of that is part of
what the model computes.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tasks.compression.backends.tensorflow._framework import AttrValue, SavedModel, TensorProto

__all__ = ["canonical"]

_COUNTER = re.compile(r"_\d+(?=_|$)")
_LAST = re.compile(r"_(\d+)$")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NUMBER = re.compile(r"\d+")


def canonical(content: bytes) -> bytes:
    """The same ``saved_model.pb`` with functions numbered and ordered by when they were made."""
    saved = SavedModel.FromString(content)
    for graph in saved.meta_graphs:
        library = graph.graph_def.library
        _order(library.function, lambda function: _made(function.signature.name))
        _order(library.gradient, lambda gradient: _made(gradient.function_name))
        _Renaming([function.signature.name for function in library.function]).apply(graph)
    return bytes(saved.SerializeToString(deterministic=True))


def _made(name: str) -> tuple[int, str]:
    number = _LAST.search(name)
    return int(number[1]) if number else -1, name


def _order(items: Any, key: Any) -> None:
    ordered = [type(item).FromString(item.SerializeToString()) for item in sorted(items, key=key)]
    del items[:]
    items.extend(ordered)


class _Renaming:
    """New names for the functions `names`, wherever they occur; random marks and the numbers that captured
    variables go by are counted as they come."""

    def __init__(self, names: list[str]) -> None:
        counted = [name for name in names if _LAST.search(name)]
        self._functions = {name: f"{_COUNTER.sub('', name)}_{index}" for index, name in enumerate(counted)}
        longest = sorted(self._functions, key=len, reverse=True)
        self._any = re.compile("|".join(f"{re.escape(name)}(?!\\d)" for name in longest) or r"(?!)")
        self._marks: dict[str, str] = {}

    def apply(self, message: Message) -> None:
        for field, value in message.ListFields():
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                self._map(value)
            elif field.type == FieldDescriptor.TYPE_MESSAGE:
                for part in value if field.is_repeated else [value]:
                    if not isinstance(part, TensorProto):
                        self.apply(part)
            elif field.type == FieldDescriptor.TYPE_STRING:
                self._strings(message, field, value)
            elif isinstance(message, AttrValue) and field.name == "s":
                message.s = self._attribute(value)

    def _map(self, value: Any) -> None:
        for key in sorted(value, key=lambda key: _made(str(key))):
            part = value[key]
            if not isinstance(part, Message):
                continue
            self.apply(part)
            if isinstance(key, str) and (new := self._name(key)) != key:
                value[new].CopyFrom(part)
                del value[key]

    def _strings(self, message: Message, field: Any, value: Any) -> None:
        if field.is_repeated:
            for index, text in enumerate(value):
                value[index] = self._name(text)
        else:
            setattr(message, field.name, self._name(value))

    def _name(self, text: str) -> str:
        return self._any.sub(lambda found: self._functions[found[0]], text)

    def _attribute(self, value: bytes) -> bytes:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return value
        if _NUMBER.fullmatch(text):
            return self._mark(text).encode()
        return _UUID.sub(lambda found: self._mark(found[0]), self._name(text)).encode()

    def _mark(self, text: str) -> str:
        return self._marks.setdefault(text, str(len(self._marks)))
