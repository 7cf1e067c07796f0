"""How a data set is to be read: which column is the target, how images become numbers, what a record holds.

    DataReading
    ├── target, features           columns of a table (.csv, .parquet)
    ├── classes                    the order of the classes, which gives each its number
    ├── csv                        delimiter and header, where they are not to be found out
    ├── image                      resize, colours, scale (archives of images, images in records)
    └── tfrecord                   what the features of a record are, and which is input and label

An ``.npz`` needs none of it: its arrays are taken as they are.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from featherweight.techniques.parts import AUTO, Auto, Part

__all__ = ["CsvReading", "DataReading", "ImageReading", "RecordFeature", "RecordReading"]

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
ClassName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Size = Annotated[int, Field(ge=1, le=4096, strict=True)]
_Level = Annotated[float, Field(ge=-1e6, le=1e6)]
_Spread = Annotated[float, Field(gt=0, le=1e6)]
_Channels = Field(min_length=1, max_length=4)


class CsvReading(Part):
    """Left at ``auto``, the delimiter is the one of ``,``, ``;`` and tab that divides the first lines alike,
    and the first row is a header when it names columns rather than holds numbers."""

    delimiter: Literal[",", ";", "\t", "auto"] = AUTO
    header: bool | Auto = AUTO


class ImageReading(Part):
    """How an image becomes a sample, as the model was trained: the service cannot see it from the model.

    `resize` to the model's input, or to `size` (height, width) where the model takes any: ``stretch`` each
    side, ``center_crop`` to the shape and then resize, or ``pad`` with black. Of `scale`, ``0..255`` leaves
    the pixels as they are. `mean` and `std` are then taken off and divided by: one value per channel, or one
    for all. `color` left at ``auto`` is what the model's channels say: 1 grayscale, 3 rgb, 4 rgba.
    """

    resize: Literal["stretch", "center_crop", "pad"] = "stretch"
    interpolation: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] = "bilinear"
    size: tuple[Size, Size] | None = None
    color: Literal["auto", "grayscale", "rgb", "rgba"] = AUTO
    scale: Literal["0..255", "0..1", "-1..1"] = "0..255"
    mean: Annotated[tuple[_Level, ...], _Channels] | None = None
    std: Annotated[tuple[_Spread, ...], _Channels] | None = None


class RecordFeature(Part):
    """A feature of a ``tf.train.Example``.

    `encoding` ``list`` is an int64_list or float_list of as many values as `shape` has; ``raw`` the bytes of
    such an array of `dtype`, little-endian; ``image`` a PNG, JPEG, BMP or WebP file, resized and scaled as
    `image` says; ``text`` the name of a class.
    """

    encoding: Literal["list", "raw", "image", "text"] = "list"
    dtype: Literal[
        "float32", "float64", "float16", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"
    ] = "float32"
    shape: Annotated[
        tuple[Annotated[int, Field(ge=1, le=10_000_000, strict=True)], ...], Field(max_length=7)
    ] = ()

    @model_validator(mode="after")
    def _shaped_where_it_is_read(self) -> RecordFeature:
        if self.encoding in ("image", "text") and self.shape:
            raise ValueError(f"a feature of the encoding {self.encoding} has no shape of its own")
        return self


class RecordReading(Part):
    """`features` declares those that are read, `input` the one that is the sample, `label` the target."""

    features: Annotated[dict[Name, RecordFeature], Field(min_length=1, max_length=64)]
    input: Name
    label: Name | None = None

    @model_validator(mode="after")
    def _roles_are_declared(self) -> RecordReading:
        for role, name in (("input", self.input), ("label", self.label)):
            if name is not None and name not in self.features:
                raise ValueError(f"the {role} {name!r} is not among the features declared")
        if self.input == self.label:
            raise ValueError("one feature cannot be both input and label")
        if self.features[self.input].encoding == "text":
            raise ValueError("an input cannot be of the encoding text")
        if self.label is not None and self.features[self.label].encoding == "image":
            raise ValueError("a label cannot be of the encoding image")
        return self


class DataReading(Part):
    """How the data set is to be read, where it is not an ``.npz``.

    `target` is the column, or the columns, that a table's labels are in; without it there are none.
    `features` are the columns that make a sample, in that order; left out, all others in the table's.
    A column without a header goes by its place, from ``"0"``.

    `classes` names the classes in the order of the model's outputs. Left out, texts and the names of class
    folders are put in order themselves (by value where all are whole numbers, else by their characters'
    code points) and numbers are taken as they are; ``sorted`` puts the numbers of a target in order as well.
    """

    target: Name | Annotated[tuple[Name, ...], Field(min_length=1, max_length=10_000)] | None = None
    features: Annotated[tuple[Name, ...], Field(min_length=1, max_length=100_000)] | None = None
    classes: (
        Literal["sorted"] | Annotated[tuple[ClassName, ...], Field(min_length=1, max_length=100_000)] | None
    ) = None
    csv: CsvReading | None = None
    image: ImageReading | None = None
    tfrecord: RecordReading | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,) if isinstance(self.target, str) else self.target or ()

    @model_validator(mode="after")
    def _named_once(self) -> DataReading:
        for part, names in (("target", self.targets), ("features", self.features or ())):
            if len(set(names)) != len(names):
                raise ValueError(f"{part} names a column twice")
        if both := set(self.targets) & set(self.features or ()):
            raise ValueError(f"the column {min(both)!r} is in both target and features")
        if isinstance(self.classes, tuple) and len(set(self.classes)) != len(self.classes):
            raise ValueError("classes names one twice")
        if self.classes is not None and len(self.targets) > 1:
            raise ValueError("classes go with one target column")
        return self
