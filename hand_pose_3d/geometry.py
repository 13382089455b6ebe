"""The paper's normalisation, canonical frame and viewpoint, and alignments between point sets.

Camera axes are those of REP 103 optical frames: x right, y down, z forward. A rotation is written
``rotation_target_source`` and acts on column vectors; on an array of points (rows) that is
``points_target = points_source @ rotation_target_source.T``.
"""

from __future__ import annotations

import math

import numpy as np

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.skeleton import INDEX_MCP, LITTLE_MCP, MIDDLE_MCP, REFERENCE_BONE, WRIST, Side


class DegenerateHandError(InvalidInputError):
    """The keypoints coincide or are collinear where a length or a frame has to come from them."""


def _unit(vectors: np.ndarray, what: str) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not np.all(length > 1e-9):
        raise DegenerateHandError(f"{what} has no length: the keypoints coincide or are not finite")
    return vectors / length


def _unit_of_plain(vector: list[float], what: str) -> list[float]:
    length = math.hypot(*vector)
    if not length > 1e-9:
        raise DegenerateHandError(f"{what} has no length: the keypoints coincide or are not finite")
    return [number / length for number in vector]


def bone_length(keypoints: np.ndarray, bone: tuple[int, int] = REFERENCE_BONE) -> np.ndarray:
    """Length of one bone.

    Args:
        keypoints: (..., 21, 3), any unit and frame.
        bone: its two keypoints; the reference bone if it is not given.

    Returns:
        Its length (...), in the keypoints' unit.

    >>> hand = np.outer(np.arange(21), [0.0, 0.0, 0.5])  # on a line, half a unit apart
    >>> float(bone_length(hand))
    0.5
    """
    keypoints = np.asarray(keypoints)
    return np.linalg.norm(keypoints[..., bone[1], :] - keypoints[..., bone[0], :], axis=-1)


def normalise(keypoints: np.ndarray, bone: tuple[int, int] = REFERENCE_BONE) -> tuple[np.ndarray, np.ndarray]:
    """Root-relative, scale-normalised keypoints (paper, equation 1).

    Args:
        keypoints: (..., 21, 3), any unit and frame.
        bone: the two keypoints of the bone that becomes one long.

    Returns:
        (relative, scale): relative (..., 21, 3) with the wrist at zero and the bone at length one, and the bone's
        length scale (...) in the input's unit.

    Raises:
        DegenerateHandError: where the bone has no length.

    >>> relative, scale = normalise(np.outer(np.arange(21), [0.0, 0.0, 0.5]) + 3)
    >>> float(scale), relative[2].tolist()
    (0.5, [0.0, 0.0, 2.0])
    """
    keypoints = np.asarray(keypoints, dtype=float)
    scale = bone_length(keypoints, bone)
    if not np.all(scale > 1e-9):
        raise DegenerateHandError("the reference bone has no length: its keypoints coincide or are not finite")
    return (keypoints - keypoints[..., WRIST : WRIST + 1, :]) / scale[..., None, None], scale


def canonical_rotation(relative: np.ndarray) -> np.ndarray:
    """Rotation from the canonical frame to the frame of the keypoints: the viewpoint.

    In the canonical frame the middle finger's base lies on the -y axis and the little finger's base
    in the half plane z = 0, x > 0 (paper, section 4.2; signs as in the authors' code).

    Args:
        relative: (..., 21, 3) with the wrist at zero.

    Returns:
        rotation_camera_canonical (..., 3, 3).

    Raises:
        DegenerateHandError: where the wrist and the two bases are collinear.
    """
    relative = np.asarray(relative, dtype=float)
    y = -_unit(relative[..., MIDDLE_MCP, :], "the line from the wrist to the middle finger's base")
    little = relative[..., LITTLE_MCP, :]
    x = _unit(little - np.sum(little * y, -1, keepdims=True) * y, "the little finger's distance from the middle line")
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def to_canonical(relative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split relative keypoints into canonical coordinates and viewpoint.

    Args:
        relative: (..., 21, 3), wrist at zero, as :func:`normalise` gives it.

    Returns:
        (canonical (..., 21, 3), rotation_camera_canonical (..., 3, 3)), with
        ``relative = canonical @ rotation_camera_canonical.T``.

    Raises:
        DegenerateHandError: where wrist and the bases of middle and little finger are collinear.

    >>> hand = np.random.default_rng(0).normal(size=(21, 3))
    >>> relative, _ = normalise(hand)
    >>> canonical, rotation = to_canonical(relative)
    >>> np.allclose(from_canonical(canonical, rotation), relative)
    True
    >>> bool(canonical[9, 1] < 0), np.allclose(canonical[9, [0, 2]], 0)  # the middle finger's base is on -y
    (True, True)
    """
    rotation = canonical_rotation(relative)
    return np.asarray(relative, dtype=float) @ rotation, rotation


def from_canonical(canonical: np.ndarray, rotation_camera_canonical: np.ndarray) -> np.ndarray:
    """Inverse of :func:`to_canonical`. Shapes (..., 21, 3) and (..., 3, 3); returns (..., 21, 3)."""
    return canonical @ np.swapaxes(rotation_camera_canonical, -1, -2)


def wrist_rotation(relative: np.ndarray, side: Side) -> np.ndarray:
    """Orientation of the wrist frame in the frame of the keypoints.

    Args:
        relative: (21, 3), any unit.
        side: of the hand; an unknown one is treated as right.

    Returns:
        rotation_camera_wrist (3, 3): x from the wrist to the middle finger's base, z out of the back of the hand, y
        completing a right-handed frame (towards the thumb of a right hand, away from the thumb of a left hand).
    """
    # In plain numbers, as teleoperation asks for it at every image: see turns.py.
    rows = np.asarray(relative, dtype=float)[[WRIST, MIDDLE_MCP, INDEX_MCP, LITTLE_MCP]].tolist()
    wrist, middle, index, little = rows
    x = _unit_of_plain([a - b for a, b in zip(middle, wrist)], "the line from the wrist to the middle finger's base")
    across = [b - a if side == Side.LEFT else a - b for a, b in zip(index, little)]
    along = sum(a * b for a, b in zip(across, x))
    y = _unit_of_plain([a - along * b for a, b in zip(across, x)], "the palm's width")
    z = [x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]]
    return np.array([x, y, z]).T


def rotation_to_ray(ray: np.ndarray) -> np.ndarray:
    """The smallest rotation that turns the optical axis (z) onto a viewing ray.

    A hand at the edge of the picture looks turned to a network that only sees its crop; this turns it back.

    Args:
        ray: (3,) with z > 0.

    Returns:
        rotation_camera_ray (3, 3), from the axes of a camera that looks along the ray.
    """
    x, y, z = _unit(np.asarray(ray, dtype=float), "the viewing ray")
    cross = np.array([[0, 0, x], [0, 0, y], [-x, -y, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + z)


def align_rigid(source: np.ndarray, target: np.ndarray, *, scale: bool = False) -> np.ndarray:
    """Move source onto target by the least-squares rotation and translation (Umeyama, PAMI 1991; no reflection).

    Args:
        source, target: (..., N, 3).
        scale: whether the size is fitted too.

    Returns:
        source aligned, same shape.
    """
    source, target = np.asarray(source, dtype=float), np.asarray(target, dtype=float)
    mean_s, mean_t = source.mean(-2, keepdims=True), target.mean(-2, keepdims=True)
    s, t = source - mean_s, target - mean_t
    u, singular, vt = np.linalg.svd(np.swapaxes(t, -1, -2) @ s)
    sign = np.ones(singular.shape)
    sign[..., 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign[..., None, :]) @ vt
    factor = np.sum(singular * sign, -1)[..., None, None] / np.sum(s * s, (-1, -2), keepdims=True) if scale else 1.0
    return factor * s @ np.swapaxes(rotation, -1, -2) + mean_t


def align_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Procrustes alignment: rotation, translation and scale. source, target: (..., N, 3)."""
    return align_rigid(source, target, scale=True)


def align_scale(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Root- and scale-aligned: wrist on wrist and the least-squares scale, no rotation. (..., 21, 3)."""
    s = source - source[..., WRIST : WRIST + 1, :]
    t = target - target[..., WRIST : WRIST + 1, :]
    factor = np.sum(s * t, (-1, -2), keepdims=True) / np.sum(s * s, (-1, -2), keepdims=True)
    return factor * s + target[..., WRIST : WRIST + 1, :]


def folded_fingers(keypoints: np.ndarray) -> np.ndarray:
    """Which fingers (..., 4), index to little, are folded: their tips nearer to the wrist than their PIP joints.

    keypoints: (..., 21, 3) in any unit.
    """
    wrist = keypoints[..., :1, :]
    tips, middle = keypoints[..., 8::4, :], keypoints[..., 6::4, :]
    return np.linalg.norm(tips - wrist, axis=-1) < np.linalg.norm(middle - wrist, axis=-1)
