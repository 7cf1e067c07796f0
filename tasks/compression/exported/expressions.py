"""Sizes that depend on the batch: sympy's expressions, which PyTorch evaluates as Python.

    expression = "Symbol('s77', positive=True, integer=True)" | "Integer(4)" | "Rational(1, 2)" | number
               | function "(" expression {"," expression} ")"

What is understood is written anew; everything else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tasks.compression.errors import CompressionError
from tasks.compression.exported.schema import bad

__all__ = ["SYMBOL", "expression"]

SYMBOL = re.compile(r"s[0-9]{1,6}")

_FUNCTIONS = frozenset(
    (
        *("Abs", "Add", "CeilDiv", "CeilToInt", "CleanDiv", "FloatTrueDiv", "FloorDiv", "FloorToInt"),
        *("IntTrueDiv", "Max", "Min", "Mod", "ModularIndexing", "Mul", "PythonMod", "ToFloat", "TruncToInt"),
        *("Eq", "Equality", "Ge", "GreaterThan", "Gt", "Le", "LessThan", "Lt", "Ne"),
        *("StrictGreaterThan", "StrictLessThan", "Unequality"),
    )
)
_TOKENS = re.compile(
    r"\s*(?:(?P<symbol>Symbol\('(?P<name>[A-Za-z0-9_]{1,40})'(?P<traits>(?:, [a-z]+=True)*)\))"
    r"|(?P<integer>Integer\(\s*(?P<value>-?[0-9]{1,18})\s*\))"
    r"|(?P<number>-?[0-9]{1,18})(?![0-9.])|(?P<function>[A-Za-z]{1,30})\(|(?P<comma>,)|(?P<close>\)))"
)
_LONGEST, _DEEPEST = 2000, 20
_TRAITS = frozenset({"positive", "nonnegative", "integer"})


def expression(value: Any, where: str) -> str:
    """The expression, written anew. CompressionError bad_model; unsupported_model for a size that depends on
    the values of a tensor."""
    if not isinstance(value, str) or len(value) > _LONGEST:
        bad(where, "is no expression, or too long a one")
    tokens = _tokens(value, where)
    try:
        found = _expression(tokens, next(tokens), where, 0)
        if next(tokens, None) is not None:
            bad(where, "is more than one expression")
    except StopIteration:
        bad(where, "is half an expression")
    return found


def _tokens(value: str, where: str) -> Iterator[re.Match[str]]:
    position = 0
    while position < len(value):
        match = _TOKENS.match(value, position)
        if match is None:
            bad(where, f"is not an expression that is allowed: {value[position : position + 60]!r}")
        yield match
        position = match.end()


def _expression(tokens: Iterator[re.Match[str]], token: re.Match[str], where: str, depth: int) -> str:
    if depth > _DEEPEST:
        bad(where, "is nested too deeply")
    if token["symbol"]:
        return _symbol(token, where)
    if token["integer"]:
        return f"Integer({int(token['value'])})"
    if token["number"]:
        return str(int(token["number"]))
    name = token["function"]
    if name not in _FUNCTIONS:
        bad(where, f"is not an expression that is allowed: {token[0][:60]!r}")
    arguments = []
    while True:
        arguments.append(_expression(tokens, next(tokens), where, depth + 1))
        after = next(tokens)
        if after["close"]:
            return f"{name}({', '.join(arguments)})"
        if not after["comma"]:
            bad(where, "is not an expression that is allowed")


def _symbol(token: re.Match[str], where: str) -> str:
    name = token["name"]
    traits = [each.removesuffix("=True") for each in token["traits"].split(", ")[1:]]
    if name.startswith("u"):
        raise CompressionError(
            "unsupported_model",
            f"{where} of the exported program has a size that depends on the values of a tensor ({name})",
            hint="let the shapes depend on the inputs' shapes alone: no .item(), nonzero or boolean masks",
        )
    if not SYMBOL.fullmatch(name) or not set(traits) <= _TRAITS:
        bad(where, f"has a symbol that is not allowed: {token[0][:60]!r}")
    return f"Symbol('{name}'{''.join(f', {each}=True' for each in traits)})"
