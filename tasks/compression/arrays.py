"""The arrays of a data set, each found a place: an input or an output of the model, and a split.

    x, y                             all samples of the only input and output
    x_train, y_train, x_test, y_test the caller's own division
    x/<input>, y_train/<output> ...  of models with several: by name, or by position from 0

A name that a tensor really has counts before a position. Every input must be there, in every split there is;
outputs may lack labels.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from tasks.compression.datasets.opened import OpenDataset
from tasks.compression.datasets.samplefile import join
from tasks.compression.errors import CompressionError
from tasks.compression.samples import Array

__all__ = [
    "Arrangement",
    "Given",
    "Names",
    "arranged",
    "array_pointer",
    "is_of_samples",
    "missing",
    "read_given",
]

_SIDES = {
    "x": ("x", "all"),
    "y": ("y", "all"),
    "x_train": ("x", "train"),
    "y_train": ("y", "train"),
    "x_test": ("x", "test"),
    "y_test": ("y", "test"),
}
_ARRAYS_HINT = "give x and y, or x_train, y_train and, if there is a test split, x_test, y_test"


@dataclass(frozen=True)
class Given:
    """An array for every input, in the model's order, and for each output that has labels; `called` are their
    names in the file. Samples from `test_from` on are the caller's test split."""

    x: dict[str, Array]
    y: dict[str, Array]
    called: Mapping[tuple[str, str], str]
    test_from: int | None


@dataclass(frozen=True)
class _Place:
    side: str  # x or y
    split: str  # all, train or test
    tensor: str


class Names(Protocol):
    """The names of a model's inputs and outputs, as ModelFacts has them."""

    @property
    def input_names(self) -> tuple[str, ...]: ...
    @property
    def output_names(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Arrangement:
    """The names of the arrays of every input, and of each output that has labels: that of the training split
    or of all samples, and that of the test split where there is one. `called` as of Given, `samples` are
    those before the test split, `tested` those in it, None without one."""

    x: Mapping[str, Sequence[str]]
    y: Mapping[str, Sequence[str]]
    called: Mapping[tuple[str, str], str]
    samples: int
    tested: int | None


def read_given(opened: OpenDataset, facts: Names) -> Given:
    """CompressionError bad_data, array_missing, shape_mismatch, and what npz raises."""
    places = _chosen(opened.names(), facts)
    arrays = opened.read(frozenset(places.values()))
    found = _arranged({name: array.shape for name, array in arrays.items()}, places, facts)
    return Given(
        _whole(found.x, arrays),
        _whole(found.y, arrays),
        found.called,
        None if found.tested is None else found.samples,
    )


def arranged(shapes: Mapping[str, tuple[int, ...]], facts: Names) -> Arrangement:
    """Of arrays with these names and shapes, what `read_given` would make. CompressionError bad_data,
    array_missing, shape_mismatch."""
    return _arranged(shapes, _chosen(shapes, facts), facts)


def is_of_samples(name: str) -> bool:
    """Whether an array of that name is read; others stay unread, whatever is in them."""
    return name.partition("/")[0] in _SIDES


def missing(name: str, facts: Names, hint: str | None = None) -> CompressionError:
    return CompressionError(
        "array_missing",
        f"the data set has no array {name}",
        hint=hint or _hint(facts),
        pointer=array_pointer(name) if "/" in name else None,
    )


def array_pointer(name: str) -> str:
    return "/dataset/" + name.replace("~", "~0").replace("/", "~1")


def _hint(facts: Names) -> str:
    if len(facts.input_names) == len(facts.output_names) == 1:
        return _ARRAYS_HINT
    names = ", ".join(_wanted(facts))
    return f"this model's arrays are {names}; with splits of your own, x_train, y_train, x_test and y_test"


def _wanted(facts: Names) -> list[str]:
    sides = (("x", facts.input_names), ("y", facts.output_names))
    return [side if len(names) == 1 else f"{side}/{name}" for side, names in sides for name in names]


def _chosen(names: Iterable[str], facts: Names) -> dict[_Place, str]:
    """The arrays that are read: the caller's own splits, where there are any."""
    places = _places(names, facts)
    train = any(place.split == "train" for place in places)
    return {place: name for place, name in places.items() if (place.split != "all") is train}


def _places(names: Iterable[str], facts: Names) -> dict[_Place, str]:
    places: dict[_Place, str] = {}
    for name in filter(is_of_samples, names):
        head, separator, tensor = name.partition("/")
        side, split = _SIDES[head]
        place = _Place(side, split, _tensor(name, tensor if separator else None, side, facts))
        if place in places:
            raise CompressionError(
                "bad_data",
                f"the arrays {places[place]} and {name} are of the same tensor",
                pointer=array_pointer(name),
            )
        places[place] = name
    return places


def _tensor(name: str, tensor: str | None, side: str, facts: Names) -> str:
    """The name of the input or output that the array `name` is of."""
    known = facts.input_names if side == "x" else facts.output_names
    what = "input" if side == "x" else "output"
    if tensor is None:
        if len(known) == 1:
            return known[0]
        raise CompressionError(
            "array_missing",
            f"the array {name} does not say of which {what} it is; the model has {', '.join(known)}",
            hint=f"name the arrays {', '.join(f'{name}/{each}' for each in known)}",
            pointer=array_pointer(name),
        )
    if tensor in known:
        return tensor
    if tensor.isascii() and tensor.isdigit() and int(tensor) < len(known):
        return known[int(tensor)]
    near = difflib.get_close_matches(tensor, known, n=1)
    raise CompressionError(
        "shape_mismatch",
        f"the array {name} is of no {what} of the model, whose {what}s are {', '.join(known)}",
        hint=f"did you mean {name.partition('/')[0]}/{near[0]}?" if near else _hint(facts),
        pointer=array_pointer(name),
    )


def _arranged(
    shapes: Mapping[str, tuple[int, ...]], places: Mapping[_Place, str], facts: Names
) -> Arrangement:
    split = "train" if any(place.split == "train" for place in places) else "all"
    tested = any(place.split == "test" for place in places)
    labelled = [name for name in facts.output_names if _any(places, "y", name)]
    x = {name: _parts(places, "x", name, split, tested, facts) for name in facts.input_names}
    y = {name: _parts(places, "y", name, split, tested, facts) for name in labelled}
    _check_counts(shapes, places)
    for names in (*x.values(), *y.values()):
        if len({shapes[name][1:] for name in names}) > 1:
            raise CompressionError(
                "shape_mismatch", "the test split's samples are shaped unlike the training split's"
            )
    called = {(place.side, place.tensor): _without_split(name) for place, name in places.items()}
    first, *rest = (shapes[name][0] for name in next(iter(x.values())))
    return Arrangement(x, y, called, first, rest[0] if rest else None)


def _any(places: Mapping[_Place, str], side: str, tensor: str) -> bool:
    return any(place.side == side and place.tensor == tensor for place in places)


def _parts(
    places: Mapping[_Place, str], side: str, tensor: str, split: str, tested: bool, facts: Names
) -> list[str]:
    """The training part of an array, and the test part where there is one."""
    return [
        places[place] if (place := _Place(side, wanted, tensor)) in places else _lacking(place, facts)
        for wanted in ([split, "test"] if tested else [split])
    ]


def _lacking(place: _Place, facts: Names) -> NoReturn:
    several = len(facts.input_names if place.side == "x" else facts.output_names) > 1
    name = place.side if place.split == "all" else f"{place.side}_{place.split}"
    raise missing(f"{name}/{place.tensor}" if several else name, facts)


def _without_split(name: str) -> str:
    head, separator, tensor = name.partition("/")
    return f"{head[0]}{separator}{tensor}"


def _whole(parts: Mapping[str, Sequence[str]], arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {
        tensor: arrays[names[0]] if len(names) == 1 else join(*(arrays[name] for name in names))
        for tensor, names in parts.items()
    }


def _check_counts(shapes: Mapping[str, tuple[int, ...]], places: Mapping[_Place, str]) -> None:
    """Every array of a split has as many samples as the first of its inputs."""
    for split in ("all", "train", "test"):
        of_split = sorted((place for place in places if place.split == split), key=lambda place: place.side)
        for place in of_split:
            first, other = shapes[places[of_split[0]]], shapes[places[place]]
            if not first or not other or first[0] != other[0]:
                raise CompressionError(
                    "shape_mismatch",
                    f"{places[of_split[0]]} has {_length(first)} samples and {places[place]} has "
                    f"{_length(other)}",
                    hint="the arrays of a split hold the same samples in the same order",
                    pointer=array_pointer(places[place]) if "/" in places[place] else None,
                )


def _length(shape: tuple[int, ...]) -> str:
    return str(shape[0]) if shape else "no"
