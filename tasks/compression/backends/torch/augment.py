"""Random changes of whole batches of images, every sample by its own draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from featherweight.spec import Augmentation
from tasks.compression.backends.torch._framework import torch
from tasks.compression.options import image_place
from tasks.compression.samples import Tensors, arrays_of

__all__ = ["augmenter", "image_augmenter", "warped"]

Tensor = Any


def augmenter(augmentation: Augmentation, seed: int) -> Callable[[Tensor, int], Tensor]:
    """A function of a batch of images (N, H, W) or (N, C, H, W) and its number, which with `seed` fixes
    what is drawn.

    Mirrored with a chance of one half; then, about the centre, turned by up to `rotate_degrees` either
    way, enlarged or reduced by up to `zoom`, and moved by up to `shift` of the sides. All of it is one
    projection, interpolated once (bilinear); where it only moves, it moves whole pixels. Beyond the
    border stands the border's nearest pixel.
    """
    warps = bool(augmentation.rotate_degrees or augmentation.zoom or augmentation.shift)

    def augment(images: Tensor, number: int) -> Tensor:
        generator = np.random.Generator(np.random.Philox(key=[seed, number]))
        draws = torch.from_numpy(generator.random((5, len(images)), dtype=np.float32))
        if augmentation.flip_horizontal:
            mirrored = (draws[0] < 0.5).reshape(-1, *[1] * (images.dim() - 1))
            images = torch.where(mirrored, images.flip(-1), images)
        return warped(images, augmentation, 2.0 * draws[1:] - 1.0) if warps else images

    return augment


def image_augmenter(
    augmentation: Augmentation, seed: int, x: Tensors
) -> Callable[[tuple[Tensor, ...], int], tuple[Tensor, ...]]:
    """The same for the inputs of samples like `x`, of which only the one that is an image changes."""
    augment = augmenter(augmentation, seed)
    place = image_place([array.shape[1:] for array in arrays_of(x)])

    def augment_one(inputs: tuple[Tensor, ...], number: int) -> tuple[Tensor, ...]:
        return tuple(
            augment(values, number) if index == place else values for index, values in enumerate(inputs)
        )

    return augment_one


def warped(images: Tensor, augmentation: Augmentation, draws: Tensor) -> Tensor:
    """`draws`, of shape (4, N), are from -1 to 1: angle, zoom, shift down and shift right."""
    pixels = images.to(torch.float32)
    pixels = pixels if images.dim() == 4 else pixels.unsqueeze(1)
    height, width = pixels.shape[-2:]
    angle = draws[0] * (math.pi / 180.0 * augmentation.rotate_degrees)
    scale = 1.0 / (1.0 + draws[1] * augmentation.zoom)
    down, right = draws[2] * augmentation.shift * height, draws[3] * augmentation.shift * width
    if not augmentation.rotate_degrees and not augmentation.zoom:
        down, right = down.round(), right.round()
    moved = torch.nn.functional.grid_sample(
        pixels,
        _sources(angle, scale, down, right, height, width),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    if not images.dtype.is_floating_point:
        moved = moved.round()
    return moved.to(images.dtype).reshape(images.shape)


def _sources(angle: Tensor, scale: Tensor, down: Tensor, right: Tensor, height: int, width: int) -> Tensor:
    """Where each output pixel comes from, as grid_sample takes it: shape (N, H, W, 2), x before y, -1 and 1
    being the outer edges of the outermost pixels."""
    middle_y, middle_x = (height - 1.0) / 2.0, (width - 1.0) / 2.0
    # From the centre, which what ends at it came from.
    y = torch.arange(height, dtype=torch.float32).reshape(1, -1, 1) - middle_y - down.reshape(-1, 1, 1)
    x = torch.arange(width, dtype=torch.float32).reshape(1, 1, -1) - middle_x - right.reshape(-1, 1, 1)
    cosine, sine = (scale * angle.cos()).reshape(-1, 1, 1), (scale * angle.sin()).reshape(-1, 1, 1)
    from_x, from_y = cosine * x - sine * y + middle_x, sine * x + cosine * y + middle_y
    return torch.stack([(2.0 * from_x + 1.0) / width - 1.0, (2.0 * from_y + 1.0) / height - 1.0], dim=-1)
