"""Names of classes, put in order and given numbers."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tasks.compression.errors import CompressionError

__all__ = ["MAX_CLASSES", "Classes", "in_order", "ordering"]

MAX_CLASSES = 100_000
_NAMED = 10
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


def in_order(names: Iterable[str]) -> list[str]:
    """By value where all are whole numbers, else by their characters' code points."""
    distinct = sorted(set(names))
    if all(_WHOLE.fullmatch(name) for name in distinct):
        return sorted(distinct, key=lambda name: (int(name), name))
    return distinct


def ordering(given: Sequence[str] | None, names: Sequence[str]) -> str:
    """What the order of `names` was made by, for the report."""
    if given is not None:
        return "given"
    return "by value" if all(_WHOLE.fullmatch(name) for name in names) else "by code point"


class Classes:
    """Collects labels by name; `given` are the classes in their order, where the caller says it."""

    def __init__(self, given: Sequence[str] | None) -> None:
        self.given = None if given is None else tuple(given)
        self._numbers = {name: number for number, name in enumerate(self.given or ())}

    def number(self, name: str, where: str) -> int:
        """A number for `name`, which stays its own until `finish`. CompressionError label_out_of_range."""
        number = self._numbers.get(name)
        if number is not None:
            return number
        if self.given is not None:
            raise _unknown(name, where, self.given)
        if len(self._numbers) >= MAX_CLASSES:
            raise CompressionError(
                "label_out_of_range",
                f"the labels name more than {MAX_CLASSES} classes: they seem to be values",
            )
        self._numbers[name] = len(self._numbers)
        return self._numbers[name]

    def finish(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """The classes in order; and for every number that was given out the one that it means."""
        names = list(self._numbers)
        ordered = names if self.given is not None else in_order(names)
        place = {name: number for number, name in enumerate(ordered)}
        return ordered, np.array([place[name] for name in names], dtype=np.int64)


def _unknown(name: str, where: str, known: Sequence[str]) -> CompressionError:
    near = difflib.get_close_matches(name, known, n=1)
    listed = ", ".join(known[:_NAMED]) + (", …" if len(known) > _NAMED else "")
    return CompressionError(
        "label_out_of_range",
        f"{where} is of the class {name!r}, which is not among those given: {listed}",
        hint=f"did you mean {near[0]!r}?" if near else "name every class in data.classes, or leave it out",
        pointer="/data/classes",
    )
