"""Archives of images, whose folders are the classes.

    <class>/<image>                       labelled
    train/<class>/<image>, test/<class>/<image>   the same, with the caller's test split
    <image>, or all in one folder         without labels; train/ and test/ may stand above here too

Folders that all images lie in may stand above it all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tasks.compression.datasets.archives import members
from tasks.compression.datasets.classes import Classes, ordering
from tasks.compression.datasets.images import Decoder, is_image
from tasks.compression.datasets.read import Read, Request, named, nothing_there
from tasks.compression.datasets.samplefile import SampleFile
from tasks.compression.errors import CompressionError
from tasks.compression.remarks import remark

__all__ = ["read_folders"]

_SPLITS = ("train", "test")
_OTHER_SPLITS = ("val", "valid", "validation", "dev")
_LAYOUT = "images lie in a folder for each class, with train and test above them if there is a split"


@dataclass
class _Folders:
    """The images as they came: each one's folders by number, as many images lie in one."""

    numbers: dict[tuple[str, ...], int] = field(default_factory=dict)
    of_image: list[int] = field(default_factory=list)

    def add(self, folder: tuple[str, ...]) -> None:
        self.of_image.append(self.numbers.setdefault(folder, len(self.numbers)))


@dataclass(frozen=True)
class _Layout:
    above: tuple[str, ...]
    splits: bool
    labelled: bool

    def place(self, folder: tuple[str, ...]) -> tuple[str, str | None]:
        """The split and the class of the images in `folder`."""
        rest = folder[len(self.above) :]
        split = rest[0] if self.splits else "all"
        return split, rest[-1] if self.labelled else None


def read_folders(request: Request) -> Read:
    """CompressionError bad_data for other layouts, bad_image, image_too_large, what `members` raises,
    shape_mismatch, label_out_of_range, array_too_large, too_few_samples."""
    decoder = Decoder(request.shape, request.reading.image)
    samples = SampleFile(request.scratch / "x.bin", decoder.shape)
    test = SampleFile(request.scratch / "x_test.bin", decoder.shape)
    folders, test_folders = _Folders(), _Folders()
    left_out: list[str] = []
    for member in members(request.path):
        if _is_litter(member.parts) or not is_image(member.content):
            left_out.append(member.name)
            continue
        of_test = next((part for part in member.parts[:-1] if part in _SPLITS), None) == "test"
        (test_folders if of_test else folders).add(member.parts[:-1])
        (test if of_test else samples).append(decoder.decode(member.content, member.name)[np.newaxis])
    test_from = samples.count
    samples.extend(test)
    if not samples.count:
        raise nothing_there(request.path)
    if odd := [name for name in left_out if not _is_litter(tuple(name.split("/")))]:
        request.warn(remark("members_left_out", count=len(odd), name=odd[0]))
    images = [folder for each in (folders, test_folders) for folder in _expanded(each)]
    layout = _layout(set(folders.numbers) | set(test_folders.numbers), request.reading.classes)
    details = {
        "images": samples.count,
        "left_out": len(left_out),
        **decoder.details(),
        "layout": _described(layout),
    }
    return _labelled(request, samples, images, layout, test_from, details)


def _labelled(
    request: Request,
    samples: SampleFile,
    images: Sequence[tuple[str, ...]],
    layout: _Layout,
    test_from: int,
    details: dict[str, object],
) -> Read:
    split = test_from if layout.splits else None
    if not layout.labelled:
        return Read(named(samples, None, split), None, details)
    wanted = request.reading.classes
    classes = Classes(wanted if isinstance(wanted, tuple) else None)
    labels = []
    for folder in images:
        _, name = layout.place(folder)
        labels.append(classes.number(name or "", f"the folder {'/'.join(folder)!r}"))
    names, place = classes.finish()
    y = place[np.array(labels, dtype=np.int64)]
    counts = Counter(y.tolist())
    details |= {
        "class_order": ordering(classes.given, names),
        "images_per_class": {names[number]: counts[number] for number in range(min(len(names), 1000))},
    }
    return Read(named(samples, y, split), names, details)


def _expanded(folders: _Folders) -> list[tuple[str, ...]]:
    by_number = list(folders.numbers)
    return [by_number[number] for number in folders.of_image]


def _layout(folders: set[tuple[str, ...]], classes: object) -> _Layout:
    above: tuple[str, ...] = ()
    while all(len(folder) > len(above) for folder in folders):
        firsts = {folder[len(above)] for folder in folders}
        only = next(iter(firsts))
        last = all(len(folder) == len(above) + 1 for folder in folders)
        is_class = last and isinstance(classes, tuple) and only in classes
        if len(firsts) > 1 or only in _SPLITS or is_class:
            break
        above = (*above, only)
    rests = {folder[len(above) :] for folder in folders}
    _refuse_validation(rests)
    splits = any(rest and rest[0] in _SPLITS for rest in rests)
    depths = {len(rest) for rest in rests}
    if splits and not all(rest and rest[0] in _SPLITS for rest in rests):
        raise CompressionError("bad_data", "some images lie in train or test and others beside", hint=_LAYOUT)
    if splits and not any(rest[0] == "train" for rest in rests):
        raise CompressionError("bad_data", "there is a folder test and none called train", hint=_LAYOUT)
    if len(depths) > 1 or max(depths) - splits > 1:
        deepest = max(folders, key=len)
        raise CompressionError(
            "bad_data", f"images lie in folders within folders: {'/'.join(deepest)}", hint=_LAYOUT
        )
    return _Layout(above, splits, max(depths) - splits == 1)


def _refuse_validation(rests: set[tuple[str, ...]]) -> None:
    for rest in rests:
        if rest and rest[0] in _OTHER_SPLITS and any(other and other[0] in _SPLITS for other in rests):
            raise CompressionError(
                "bad_data",
                f"the folder {rest[0]} beside train or test is no class",
                hint="move its images into train: the validation split is made from there",
            )


def _described(layout: _Layout) -> str:
    parts = [
        *layout.above,
        *(["train | test"] if layout.splits else []),
        *(["class"] if layout.labelled else []),
    ]
    return "/".join([*parts, "image"])


def _is_litter(parts: tuple[str, ...]) -> bool:
    """What file managers leave in archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in parts) or parts[-1:] == ("Thumbs.db",)
