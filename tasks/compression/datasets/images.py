"""Images that strangers made, decoded by Pillow into samples of one shape."""

from __future__ import annotations

import io
import struct
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from featherweight.data import ImageReading
from tasks.compression.errors import CompressionError
from tasks.compression.facts import Shape

__all__ = ["MAX_PIXELS", "Decoder", "is_image"]

MAX_PIXELS = 1 << 24
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_SIZES_TOLD = 5
_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"RIFF")
_MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}
_CHANNELS = {"grayscale": 1, "rgb": 3, "rgba": 4}
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error)

# Twice as many would be Pillow's own refusal; the size is looked at here before a pixel is decoded.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS


def is_image(content: bytes) -> bool:
    """Whether the bytes begin as an image of one of FORMATS does."""
    return content.startswith(_BEGINNINGS)


class Decoder:
    """Makes samples of `shape`, float32, of a model's input of the shape `wanted`: channels last, or first
    where only the first axis can be the channels, as in PyTorch's models.

    CompressionError shape_mismatch for an input that takes no images, or any size where none is given.
    """

    def __init__(self, wanted: Shape, reading: ImageReading | None) -> None:
        self.reading = reading or ImageReading()
        self._channels_first = _channels_first(wanted)
        image = (*wanted[1:], wanted[0]) if self._channels_first else wanted
        self._height, self._width = _size(image, self.reading)
        self.color = _color(image, self.reading)
        channels = _CHANNELS[self.color]
        flat = len(image) == 2
        self._pixels = (self._height, self._width) + (() if flat else (channels,))
        self.shape: tuple[int, ...] = (
            (channels, self._height, self._width) if self._channels_first else self._pixels
        )
        self._mean = _per_channel("mean", self.reading.mean, channels, flat)
        self._std = _per_channel("std", self.reading.std, channels, flat)
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.modes: Counter[str] = Counter()

    def decode(self, content: bytes, name: str) -> npt.NDArray[np.float32]:
        """CompressionError bad_image, image_too_large, dtype_not_allowed, naming the image."""
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                _check(image, name)
                image.load()
                pixels = np.asarray(self._shaped(image), dtype=np.float32)
        except _BROKEN as error:
            raise CompressionError(
                "bad_image",
                f"the image {name!r} cannot be read: {str(error)[:100]}",
                hint=f"images of {', '.join(FORMATS)} are read",
            ) from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_large(name) from error
        scaled = self._scaled(pixels.reshape(self._pixels))
        return np.moveaxis(scaled, -1, 0) if self._channels_first else scaled

    def details(self) -> dict[str, Any]:
        """What was found and done, for the report."""
        common = self.sizes.most_common(_SIZES_TOLD)
        return {
            "sizes": {f"{height}x{width}": count for (height, width), count in common},
            "distinct_sizes": len(self.sizes),
            "resized": sum(
                count for size, count in self.sizes.items() if size != (self._height, self._width)
            ),
            "modes": dict(self.modes),
            "color": self.color,
            "channels": "first" if self._channels_first else "last",
            "size": [self._height, self._width],
            **self.reading.model_dump(mode="json", exclude={"size", "color"}),
        }

    def _shaped(self, image: Image.Image) -> Image.Image:
        self.sizes[image.height, image.width] += 1
        self.modes[image.mode] += 1
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # which Pillow asks for on the way to any other
        converted = image.convert(_MODES[self.color])
        size = (self._width, self._height)
        if converted.size == size:
            return converted
        method = _RESAMPLING[self.reading.interpolation]
        if self.reading.resize == "center_crop":
            return ImageOps.fit(converted, size, method)
        if self.reading.resize == "pad":
            return ImageOps.pad(converted, size, method)
        return converted.resize(size, method)

    def _scaled(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if self.reading.scale == "0..1":
            pixels = pixels / np.float32(255)
        elif self.reading.scale == "-1..1":
            pixels = pixels / np.float32(127.5) - np.float32(1)
        if self._mean is not None:
            pixels = pixels - self._mean
        return pixels if self._std is None else pixels / self._std


def _channels_first(wanted: Shape) -> bool:
    counts = _CHANNELS.values()
    return len(wanted) == 3 and wanted[2] not in (None, *counts) and wanted[0] in counts


def _size(wanted: Shape, reading: ImageReading) -> tuple[int, int]:
    if len(wanted) not in (2, 3):
        raise CompressionError(
            "shape_mismatch",
            f"the model's input of the shape {wanted} takes no images",
            hint="images go into inputs of the shape (height, width, channels), (channels, height, width) or "
            "(height, width)",
        )
    height, width = reading.size or wanted[:2]
    if height is None or width is None:
        raise CompressionError(
            "shape_mismatch",
            "the model takes images of any size; a data set needs one",
            hint="say data.image.size, as [height, width]",
            pointer="/data/image/size",
        )
    for side, size in zip(wanted[:2], (height, width), strict=True):
        if side is not None and side != size:
            raise CompressionError(
                "shape_mismatch",
                f"data.image.size is {height} x {width} and the model's input {wanted[0]} x {wanted[1]}",
                pointer="/data/image/size",
            )
    return height, width


def _color(wanted: Shape, reading: ImageReading) -> str:
    channels = wanted[2] if len(wanted) == 3 else 1
    if reading.color == "auto":
        if channels is None:
            return "rgb"
        for color, count in _CHANNELS.items():
            if count == channels:
                return color
    elif channels in (None, _CHANNELS[reading.color]):
        return reading.color
    raise CompressionError(
        "shape_mismatch",
        f"the model's input has {channels} channels, and data.image.color is {reading.color}",
        hint="images are read with 1 (grayscale), 3 (rgb) or 4 (rgba) channels: the input's last axis, or "
        "the first where the last is none of these",
        pointer="/data/image/color",
    )


def _per_channel(
    part: str, values: Sequence[float] | None, channels: int, flat: bool
) -> npt.NDArray[np.float32] | None:
    if values is None:
        return None
    if len(values) not in (1, channels):
        raise CompressionError(
            "shape_mismatch",
            f"{part} has {len(values)} values and the images {channels} channels",
            pointer=f"/data/image/{part}",
        )
    return np.asarray(values[0] if flat else values, dtype=np.float32)


def _check(image: Image.Image, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name)
    if getattr(image, "n_frames", 1) > 1:
        raise CompressionError("bad_image", f"the image {name!r} is an animation")
    if image.mode.startswith(("I", "F")):
        raise CompressionError(
            "dtype_not_allowed",
            f"the image {name!r} has more than 8 bits per channel",
            hint="convert the images to 8 bits, or send an .npz",
        )


def _too_large(name: str) -> CompressionError:
    return CompressionError(
        "image_too_large", f"the image {name!r} has more pixels than are decoded: {MAX_PIXELS}"
    )
