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

from tasks.compression.datasets.opened import OpenDataset
from tasks.compression.datasets.samplefile import join
from tasks.compression.errors import CompressionError
from tasks.compression.facts import ModelFacts
from tasks.compression.samples import Array

__all__ = ["Given", "array_pointer", "missing", "read_given"]

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


def read_given(opened: OpenDataset, facts: ModelFacts) -> Given:
    """CompressionError bad_data, array_missing, shape_mismatch, and what npz raises."""
    places = _places(opened.names(), facts)
    train = any(place.split == "train" for place in places)
    places = {place: name for place, name in places.items() if (place.split != "all") is train}
    arrays = opened.read(frozenset(places.values()))
    used = {place: arrays[name] for place, name in places.items()}
    return _paired(used, places, facts, "train" if train else "all")


def missing(name: str, facts: ModelFacts, hint: str | None = None) -> CompressionError:
    return CompressionError(
        "array_missing",
        f"the data set has no array {name}",
        hint=hint or _hint(facts),
        pointer=array_pointer(name) if "/" in name else None,
    )


def array_pointer(name: str) -> str:
    return "/dataset/" + name.replace("~", "~0").replace("/", "~1")


def _hint(facts: ModelFacts) -> str:
    if len(facts.inputs) == len(facts.outputs) == 1:
        return _ARRAYS_HINT
    names = ", ".join(_wanted(facts))
    return f"this model's arrays are {names}; with splits of your own, x_train, y_train, x_test and y_test"


def _wanted(facts: ModelFacts) -> list[str]:
    sides = (("x", facts.input_names), ("y", facts.output_names))
    return [side if len(names) == 1 else f"{side}/{name}" for side, names in sides for name in names]


def _places(names: Iterable[str], facts: ModelFacts) -> dict[_Place, str]:
    """Arrays called otherwise than the data set's are called stay unread, as they always were."""
    places: dict[_Place, str] = {}
    for name in names:
        head, separator, tensor = name.partition("/")
        if head not in _SIDES:
            continue
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


def _tensor(name: str, tensor: str | None, side: str, facts: ModelFacts) -> str:
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


def _paired(
    used: Mapping[_Place, Array], places: Mapping[_Place, str], facts: ModelFacts, split: str
) -> Given:
    tested = any(place.split == "test" for place in used)
    labelled = [name for name in facts.output_names if _any(used, "y", name)]
    x = {name: _parts(used, "x", name, split, tested, facts) for name in facts.input_names}
    y = {name: _parts(used, "y", name, split, tested, facts) for name in labelled}
    called = {(place.side, place.tensor): _without_split(name) for place, name in places.items()}
    _check_counts(used, places)
    test_from = len(next(iter(x.values()))[0]) if tested else None
    called = {(place.side, place.tensor): _without_split(name) for place, name in places.items()}
    return Given(_whole(x), _whole(y), called, test_from)


def _any(used: Mapping[_Place, Array], side: str, tensor: str) -> bool:
    return any(place.side == side and place.tensor == tensor for place in used)


def _parts(
    used: Mapping[_Place, Array], side: str, tensor: str, split: str, tested: bool, facts: ModelFacts
) -> list[Array]:
    """The training part of an array, and the test part where there is one."""
    return [
        used[place] if (place := _Place(side, wanted, tensor)) in used else _lacking(place, facts)
        for wanted in ([split, "test"] if tested else [split])
    ]


def _lacking(place: _Place, facts: ModelFacts) -> Array:
    several = len(facts.inputs if place.side == "x" else facts.outputs) > 1
    name = place.side if place.split == "all" else f"{place.side}_{place.split}"
    raise missing(f"{name}/{place.tensor}" if several else name, facts)


def _without_split(name: str) -> str:
    head, separator, tensor = name.partition("/")
    return f"{head[0]}{separator}{tensor}"


def _whole(parts: Mapping[str, Sequence[Array]]) -> dict[str, Array]:
    for arrays in parts.values():
        if any(array.shape[1:] != arrays[0].shape[1:] for array in arrays):
            raise CompressionError(
                "shape_mismatch", "the test split's samples are shaped unlike the training split's"
            )
    return {name: arrays[0] if len(arrays) == 1 else join(*arrays) for name, arrays in parts.items()}


def _check_counts(used: Mapping[_Place, Array], places: Mapping[_Place, str]) -> None:
    """Every array of a split has as many samples as the first of its inputs."""
    for split in ("all", "train", "test"):
        of_split = sorted((place for place in used if place.split == split), key=lambda place: place.side)
        for place in of_split:
            first, other = used[of_split[0]], used[place]
            if first.ndim == 0 or other.ndim == 0 or len(first) != len(other):
                raise CompressionError(
                    "shape_mismatch",
                    f"{places[of_split[0]]} has {_length(first)} samples and {places[place]} has "
                    f"{_length(other)}",
                    pointer=array_pointer(places[place]) if "/" in places[place] else None,
                )


def _length(array: Array) -> str:
    return str(len(array)) if array.ndim else "no"
