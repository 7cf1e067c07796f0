"""JSON as RFC 8259 has it and no more, in bounded time and memory.

Refused beside what is no JSON at all: NaN, Infinity and numbers that overflow to them, a key twice
in one object, text that is not UTF-8 or holds lone surrogates, and nesting beyond MAX_DEPTH.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Never

__all__ = ["MAX_DEPTH", "BadJSON", "loads"]

MAX_DEPTH = 64

# One pass, whatever the input: possessive, and a string that is never closed reaches to the end.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class BadJSON(ValueError):
    """The sentence says what is wrong, and where if that is known."""


def loads(data: bytes) -> Any:
    """The value; BadJSON."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadJSON(f"byte {error.start} is not UTF-8") from None
    _check_depth(text)
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite
        )
    except json.JSONDecodeError as error:
        raise BadJSON(f"{error.msg} at line {error.lineno} column {error.colno}") from None
    except BadJSON:
        raise
    except ValueError:
        raise BadJSON("a number has too many digits") from None
    if _SURROGATE.search(text):
        _check_surrogates(value)
    return value


def _check_depth(text: str) -> None:
    """Before parsing, since the parser itself is recursive."""
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        first = text[token.start()]
        if first == '"':
            continue
        depth += 1 if first in "[{" else -1
        if depth > MAX_DEPTH:
            raise BadJSON(f"nested deeper than {MAX_DEPTH} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise BadJSON(f"the key {twice[:100]!r} stands twice in one object")
    return value


def _refuse_constant(name: str) -> Never:
    raise BadJSON(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise BadJSON(f"{digits[:40]} is too large a number")
    return value


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadJSON("a string holds half of a surrogate pair") from None
