"""Conversions of images and crops to the networks' inputs and back; each convention is stated here once.

Pixels have their centres at whole numbers: an image or map of n pixels reaches from -0.5 to n - 0.5, and its unit
square from 0 to 1. Functions accept numpy arrays and torch tensors alike, and keep shapes unless stated.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

INPUT_MEAN = 0.5
"""Networks take images as value / 255 - INPUT_MEAN."""

PAPER_BORDER = 127
"""Grey level of the paper's crops outside the image: INPUT_MEAN, as the authors' code pads centred images."""

CROP_SIZE, FINE_CROP_SIZE = 160, 224
"""Edges of the crops that LitePoseNet and LiteFinePoseNet read, pixels."""

STRIDE, PALM_STRIDES = 4, (8, 16)
"""Edges of the cells of LiteHandSegNet's maps and of LitePalmNet's two, pixels of their input."""

EXTENT_UNIT = 16.0
"""LiteHandSegNet's unit of extents, pixels of its input: maps hold the logarithm of the extent over this."""


def image_to_input(image: Any, dtype: Any = None) -> Any:
    """Tensor (N, 3, H, W) in -0.5..0.5 of RGB images (N, H, W, 3), 0..255 of any type; float32 unless stated."""
    planes = image.permute(0, 3, 1, 2)
    return (planes.float() if dtype is None else planes.to(dtype)) / 255 - INPUT_MEAN


def to_unit(pixels: Any, size: int) -> Any:
    """Pixel coordinates of an image or map with an edge of `size` pixels to its unit square."""
    return (pixels + 0.5) / size


def from_unit(uv: Any, size: int) -> Any:
    """Inverse of :func:`to_unit`."""
    return uv * size - 0.5


def rescale_pixels(pixels: Any, factor: Any) -> Any:
    """Pixel coordinates of an image after it was resized by a factor."""
    return (pixels + 0.5) * factor - 0.5


def mirror_pixels(pixels: np.ndarray, width: int) -> np.ndarray:
    """Pixel coordinates (..., 2) of an image of this width in its mirror image."""
    return pixels * [-1, 1] + [width - 1, 0]


class CropReading(NamedTuple):
    """The networks' output for a crop; arrays, or tensors of N crops with a leading axis of N.

    uv: (21, 2) in the crop's unit square. scores: (21,). right, presence: probabilities that it is a right hand and
    that there is a hand at uv. canonical: (21, 3) of the hand's own side. rotation: (3, 3) crop axes from
    canonical.
    """

    uv: Any
    scores: Any
    right: Any
    presence: Any
    canonical: Any
    rotation: Any

    @property
    def relative(self) -> np.ndarray:
        """(21, 3) wrist at zero, reference bone of length one, crop axes."""
        return self.canonical @ self.rotation.T

    def mirrored(self) -> CropReading:
        """The reading of the crop mirrored left to right."""
        # The other side's canonical frame is mirrored in z, so that the result is a rotation and no reflection.
        flip = np.array([1.0, 1.0, -1.0])
        return self._replace(
            uv=self.uv * [-1, 1] + [1, 0],
            right=1 - self.right,
            canonical=self.canonical * flip,
            rotation=self.rotation * [[-1], [1], [1]] * flip,
        )

    def mean(self, other: CropReading) -> CropReading:
        """The mean of two readings of one crop; if their sides differ, the pose of the one with the clearer side."""
        odds = [math.log(p / (1 - p)) for p in (min(max(r.presence, 1e-6), 1 - 1e-6) for r in (self, other))]
        right = (self.right + other.right) / 2
        same = (self.right > 0.5) == (other.right > 0.5)
        pose = next(r for r in (self, other) if (r.right > 0.5) == (right > 0.5))
        canonical, rotation = pose.canonical, pose.rotation
        if same and np.isfinite(self.rotation + other.rotation).all():
            u, _, v = np.linalg.svd(self.rotation + other.rotation)
            canonical, rotation = (self.canonical + other.canonical) / 2, u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v
        return CropReading(
            (self.uv + other.uv) / 2,
            (self.scores + other.scores) / 2,
            right,
            1 / (1 + math.exp(-sum(odds) / 2)),
            canonical,
            rotation,
        )
