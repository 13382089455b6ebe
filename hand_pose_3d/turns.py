"""Rotations in plain numbers, for what runs a hundred times a second between long waits.

NumPy and OpenCV have left the processor's caches by then, and each of their functions takes ten times as long as in a
benchmark. Rotation matrices are rows, as `tolist()` gives them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def quaternion(rotation: Rows) -> tuple[float, float, float, float]:
    """Unit quaternion (x, y, z, w) with w >= 0 of a rotation matrix (3, 3)."""
    (a, b, c), (d, e, f), (g, h, i) = rotation
    # 4 q q^T from which the row of the largest component is taken: Shepperd, J. Guidance and Control 1978.
    rows = (
        (1 + a - e - i, b + d, c + g, h - f),
        (b + d, 1 - a + e - i, f + h, c - g),
        (c + g, f + h, 1 - a - e + i, d - b),
        (h - f, c - g, d - b, 1 + a + e + i),
    )
    x, y, z, w = max(enumerate(rows), key=lambda row: row[1][row[0]])[1]
    length = math.copysign(math.hypot(x, y, z, w), w)
    return x / length, y / length, z / length, w / length


def rotation_matrix(x: float, y: float, z: float, w: float) -> list[list[float]]:
    """Rotation matrix (3, 3) of a quaternion of any length but 0.

    >>> rotation_matrix(0, 0, 1, 1)
    [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    s = 2 / (x * x + y * y + z * z + w * w)
    return [
        [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
        [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
        [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
    ]


def turn_between(before: Rows, after: Rows) -> list[float]:
    """Rotation vector (3,) in radians from one orientation (3, 3) to another, about the axes of their frame.

    >>> turn_between([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, -1, 0], [1, 0, 0], [0, 0, 1]])[2] / math.pi
    0.5
    """
    x, y, z, w = quaternion([[a * x + b * y + c * z for x, y, z in before] for a, b, c in after])
    sine = math.hypot(x, y, z)
    scale = 2 * math.atan2(sine, w) / sine if sine > 1e-12 else 2.0
    return [scale * x, scale * y, scale * z]


def turned(rotation: Rows, turn: Sequence[float]) -> list[list[float]]:
    """An orientation (3, 3) after a rotation vector (3,) in radians about the axes of its frame."""
    x, y, z = turn
    angle = math.hypot(x, y, z)
    s, c = (math.sin(angle) / angle, (1 - math.cos(angle)) / angle**2) if angle > 1e-6 else (1.0, 0.5)
    matrix = (
        (1 - c * (y * y + z * z), c * x * y - s * z, c * x * z + s * y),
        (c * x * y + s * z, 1 - c * (x * x + z * z), c * y * z - s * x),
        (c * x * z - s * y, c * y * z + s * x, 1 - c * (x * x + y * y)),
    )
    columns = list(zip(*rotation, strict=True))
    return [[a * x + b * y + c * z for x, y, z in columns] for a, b, c in matrix]
