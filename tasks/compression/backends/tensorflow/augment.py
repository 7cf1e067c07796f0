"""Random changes of whole batches of images, every sample by its own draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from featherweight.spec import Augmentation
from tasks.compression.backends.tensorflow._framework import tf
from tasks.compression.options import image_place
from tasks.compression.samples import Samples, Tensors

__all__ = ["augmenter", "image_augmenter"]


def augmenter(augmentation: Augmentation, seed: int) -> Callable[[Any, Any], Any]:
    """A function of a batch of images (N, H, W) or (N, H, W, C) and its number, which with `seed` fixes
    what is drawn.

    Mirrored with a chance of one half; then, about the centre, turned by up to `rotate_degrees` either
    way, enlarged or reduced by up to `zoom`, and moved by up to `shift` of the sides. All of it is one
    projection, interpolated once (bilinear); where it only moves, it moves whole pixels. Beyond the
    border stands the border's nearest pixel.
    """
    warps = bool(augmentation.rotate_degrees or augmentation.zoom or augmentation.shift)

    def augment(images: Any, number: Any) -> Any:
        count = tf.shape(images)[0]
        draws = tf.random.stateless_uniform((5, count), seed=tf.stack([tf.cast(seed, tf.int64), number]))
        if augmentation.flip_horizontal:
            mirrored = tf.reshape(draws[0] < 0.5, [-1] + [1] * (len(images.shape) - 1))
            images = tf.where(mirrored, tf.reverse(images, axis=[2]), images)
        return _warped(images, augmentation, 2.0 * draws[1:] - 1.0) if warps else images

    return augment


def image_augmenter(augmentation: Augmentation, seed: int, x: Tensors) -> Callable[[Any, Any], Any]:
    """The same for batches of samples like `x`, of whose inputs only the one that is an image changes."""
    augment = augmenter(augmentation, seed)
    if not isinstance(x, Samples):
        return augment
    place = image_place([array.shape[1:] for array in x.arrays])

    def augment_one(inputs: Any, number: Any) -> Any:
        return tuple(
            augment(values, number) if index == place else values for index, values in enumerate(inputs)
        )

    return augment_one


def _warped(images: Any, augmentation: Augmentation, draws: Any) -> Any:
    """`draws`, of shape (4, N), are from -1 to 1: angle, zoom, shift down and shift right."""
    pixels = tf.cast(images if len(images.shape) == 4 else images[..., tf.newaxis], tf.float32)
    size = tf.shape(pixels)[1:3]
    height, width = tf.cast(size[0], tf.float32), tf.cast(size[1], tf.float32)
    angle = draws[0] * (math.pi / 180.0 * augmentation.rotate_degrees)
    scale = 1.0 / (1.0 + draws[1] * augmentation.zoom)
    down, right = draws[2] * augmentation.shift * height, draws[3] * augmentation.shift * width
    if not augmentation.rotate_degrees and not augmentation.zoom:
        down, right = tf.round(down), tf.round(right)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels,
        transforms=_projection(angle, scale, down, right, (height - 1.0) / 2.0, (width - 1.0) / 2.0),
        output_shape=size,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )
    if not images.dtype.is_floating:
        moved = tf.round(moved)
    result = tf.reshape(tf.cast(moved, images.dtype), tf.shape(images))
    result.set_shape(images.shape)
    return result


def _projection(angle: Any, scale: Any, down: Any, right: Any, middle_y: Any, middle_x: Any) -> Any:
    """Where each output pixel comes from, as eight numbers an image: x from the first three, y from the
    next three, and no perspective."""
    cosine, sine = scale * tf.cos(angle), scale * tf.sin(angle)
    x, y = middle_x + right, middle_y + down  # what ends here came from the centre
    nothing = tf.zeros_like(angle)
    return tf.stack(
        [
            *(cosine, -sine, middle_x - cosine * x + sine * y),
            *(sine, cosine, middle_y - sine * x - cosine * y),
            *(nothing, nothing),
        ],
        axis=1,
    )
