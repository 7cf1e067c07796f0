"""What a value of a program's JSON may be: a check answers with it made anew, and raises for any other."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from tasks.compression.errors import CompressionError

__all__ = [
    "HINT",
    "Check",
    "bad",
    "boolean",
    "integer",
    "listed",
    "mapped",
    "nothing",
    "number",
    "one_of",
    "optional",
    "qualified",
    "record",
    "text",
    "variable",
]

Check = Callable[[Any, str], Any]
HINT = "export it again with featherweight.torch.save(model, example_inputs, path), and upload that file"

_INTEGERS = range(-(1 << 63), 1 << 63)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,250}")
_QUALIFIED = re.compile(r"(?!__)[A-Za-z0-9_-]{1,100}(?:\.(?!__)[A-Za-z0-9_-]{1,100}){0,40}")
_TEXT = re.compile(r"[A-Za-z0-9_ ,.>-]{0,200}")
_NUMBERS = {"Infinity": "Infinity", "-Infinity": "-Infinity", "NaN": "NaN"}


def bad(where: str, what: str) -> NoReturn:
    raise CompressionError("bad_model", f"{where} of the exported program {what}", hint=HINT)


def boolean(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        bad(where, "is neither true nor false")
    return value


def integer(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value not in _INTEGERS:
        bad(where, "is no whole number")
    return value


def number(value: Any, where: str) -> float | str:
    """A float, or as text one that JSON has not."""
    if isinstance(value, str) and value in _NUMBERS:
        return _NUMBERS[value]
    if not isinstance(value, int | float) or isinstance(value, bool):
        bad(where, "is no number")
    return float(value)


def nothing(value: Any, where: str) -> Any:
    if value not in (None, True, False, (), []):
        bad(where, "is not empty")
    return value


def variable(value: Any, where: str) -> str:
    """A name that goes into the source PyTorch generates."""
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value) or keyword.iskeyword(value):
        bad(where, f"is not a name that is allowed: {str(value)[:60]!r}")
    return value


def qualified(value: Any, where: str) -> str:
    """The name of a module or of one of its tensors, from the model on."""
    if not isinstance(value, str) or not _QUALIFIED.fullmatch(value):
        bad(where, f"is not a name that is allowed: {str(value)[:60]!r}")
    return value


def text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _TEXT.fullmatch(value):
        bad(where, f"is not a text that is allowed: {str(value)[:60]!r}")
    return value


def listed(check: Check, most: int = 1_000_000) -> Check:
    def checked(value: Any, where: str) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            bad(where, "is no list, or too long a one")
        return [check(each, where) for each in value]

    return checked


def mapped(key: Check, check: Check) -> Check:
    def checked(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            bad(where, "is no object")
        return {key(name, where): check(each, f"{where}, {str(name)[:60]}") for name, each in value.items()}

    return checked


def optional(check: Check) -> Check:
    return lambda value, where: None if value is None else check(value, where)


def record(fields: Mapping[str, Check], free: Mapping[str, Any] = {}) -> Check:
    """An object with exactly these fields; those in `free` may be lacking."""

    def checked(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            bad(where, "is no object")
        strange = sorted(value.keys() - fields.keys())
        if strange:
            bad(where, f"has a field that is not known: {strange[0][:60]!r}")
        for name in fields:
            if name not in value and name not in free:
                bad(where, f"lacks {name}")
        return {
            name: check(value[name], f"{where}, {name}") if name in value else free[name]
            for name, check in fields.items()
        }

    return checked


def one_of(fields: Mapping[str, Check]) -> Check:
    """An object with one of these fields, which says what kind of value it is."""

    def checked(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) != 1:
            bad(where, "is not of one kind")
        ((kind, held),) = value.items()
        if kind not in fields:
            bad(where, f"is of a kind that is not allowed: {str(kind)[:60]!r}")
        return {kind: fields[kind](held, where)}

    return checked
