"""Joint angles of a hand, their anatomical limits, and the motion of an arm's bones.

A pose is a vector of NUM_ANGLES radians, named in ANGLES. Fingers: 0 is straight in the palm's plane, flexion is
positive, spread is positive towards the thumb. Thumb: palmar and radial abduction of the metacarpal from a relaxed
rest, flexion of its other two joints, roll about the metacarpal. Everything is for a left hand in the hand frame of
:mod:`hand_pose_3d.rendering.character`; right hands mirror the result.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from hand_pose_3d.rendering.character import TIP_DEPTH_M, Arm
from hand_pose_3d.skeleton import FINGER_BASES, FINGERS, PARENTS, Side

ANGLES = (
    *(f"{finger}_{joint}" for finger in FINGERS[1:] for joint in ("spread", "mcp", "pip", "dip")),
    "thumb_palmar",
    "thumb_radial",
    "thumb_mcp",
    "thumb_ip",
    "thumb_roll",
    "cup",
    "wrist_flexion",
    "wrist_deviation",
    "forearm_twist",
    "elbow",
)
NUM_ANGLES = len(ANGLES)
THUMB, CUP, WRIST_ANGLES, TWIST, ELBOW = slice(16, 21), 21, slice(22, 24), 24, 25

# Degrees; source at LIMITS.
_FINGER_LIMITS = {"spread": (-22, 22), "mcp": (-19, 95), "pip": (-5, 112), "dip": (-8, 82)}
_OTHER_LIMITS = {
    "thumb_palmar": (-45, 38),
    "thumb_radial": (-52, 24),
    "thumb_mcp": (-12, 62),
    "thumb_ip": (-28, 85),
    "thumb_roll": (-20, 35),
    "cup": (0, 18),
    "wrist_flexion": (-65, 65),
    "wrist_deviation": (-30, 20),
    "forearm_twist": (-85, 85),
    "elbow": (0, 135),
}
LIMITS = np.radians([_OTHER_LIMITS.get(name) or _FINGER_LIMITS[name.split("_")[1]] for name in ANGLES])
"""(NUM_ANGLES, 2) least and greatest angle; about the 95 % range of healthy adults (AAOS norms;
extension of the knuckles: Bain et al., J. Hand Surg. Eur. 40, 2015)."""


def fingers(angles: np.ndarray) -> np.ndarray:
    """View (4, 4) of the fingers' spread, mcp, pip and dip angles in a pose vector."""
    return angles[:16].reshape(4, 4)


def respect_anatomy(angles: np.ndarray) -> np.ndarray:
    """The nearest allowed pose: limits, DIP following PIP, less spread when flexed, neighbours not too far apart."""
    out = np.array(angles, dtype=float)
    f = fingers(out)
    knuckles = f[:, 1].tolist()
    for _ in range(2):  # the ring finger cannot stay straight between fully bent fingers, nor bend alone
        for a, b, most in ((1, 2, 1.05), (2, 3, 1.05), (0, 1, 1.6)):
            difference = knuckles[a] - knuckles[b]
            excess = max(abs(difference) - most, 0.0) * (0.5 if difference > 0 else -0.5)
            knuckles[a] -= excess
            knuckles[b] += excess
    f[:, 1] = knuckles
    f[:, 3] = within(f[:, 3], 0.45 * f[:, 2] - 0.3, 0.75 * f[:, 2] + 0.35)
    most = LIMITS[0, 1] * (1 - 0.85 * within(f[:, 1] / np.radians(80), 0, 1))
    f[:, 0] = within(f[:, 0], -most, most)
    return within(out, LIMITS[:, 0], LIMITS[:, 1])


def within(x: np.ndarray, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
    """np.clip without its overhead, which is several times the work on a pose."""
    return np.minimum(np.maximum(x, low), high)


MIRROR = np.diag([-1.0, 1.0, 1.0])
"""From a left hand, arm or body side to a right one, and back; poses describe left ones."""
X, Y, Z = np.eye(3)  # axes of the hand frame


def mirror_of(side: Side) -> np.ndarray:
    """(3, 3) from the left hand that a pose describes to one of this side, in the hand frame."""
    return MIRROR if side is Side.RIGHT else np.eye(3)


def _axis_matrices(axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cross product matrices (N, 3, 3) of unit axes (N, 3), and their squares, for :func:`_rotations`."""
    k = np.cross(axes[:, None], np.eye(3)).swapaxes(-1, -2)
    return k, k @ k


def _rotations(axes: tuple[np.ndarray, np.ndarray], angles: np.ndarray) -> np.ndarray:
    """Rotations (..., N, 3, 3) about N axes by angles (..., N). Source: Rodrigues' formula."""
    angles = angles[..., None, None]
    return np.sin(angles) * axes[0] + (1 - np.cos(angles)) * axes[1] + np.eye(3)


def _angle_mixing(*rows: dict[int, float]) -> np.ndarray:
    """Matrix (NUM_ANGLES, N) from the angles of a pose to N rotation angles."""
    out = np.zeros((NUM_ANGLES, len(rows)))
    for k, row in enumerate(rows):
        out[list(row), k] = list(row.values())
    return out


_MCP = [4 * k + 1 for k in range(4)]
_FINGER_MIXING = _angle_mixing(
    *({CUP: -share} for share in (0.0, 0.0, 0.5, 1.0)),  # the last two metacarpals cup the palm
    *({k: -1.0} for k in _MCP),
    *({k - 1: -1.0} for k in _MCP),
    *(row for k in (THUMB.start + 1, *_MCP) for row in ({k + 1: -1.0}, {k + 1: -1.0, k + 2: -1.0})),
    {THUMB.start: 1.0},
    {THUMB.start + 1: -1.0},
    {THUMB.start + 4: 1.0},
)
_ARM_MIXING = _angle_mixing(
    {WRIST_ANGLES.start: 1.0}, {WRIST_ANGLES.start + 1: 1.0}, {TWIST: 0.55}, {TWIST: 1.0}, {ELBOW: 1.0}
)


@cache
def _finger_axes(arm: Arm) -> tuple[np.ndarray, np.ndarray]:
    """For _FINGER_MIXING: cups, knuckles, spreads, further joints of the five fingers, the thumb's three."""
    return _axis_matrices(np.array([X] * 8 + [Z] * 4 + [X] * 10 + [Y, Z, arm.frames[0, 0][:, 1]]))


@cache
def _arm_axes(arm: Arm) -> tuple[np.ndarray, np.ndarray]:
    """For _ARM_MIXING."""
    axis = _forearm_axes(arm)[0]
    return _axis_matrices(np.array([X, Z, axis, axis, Z]))  # at no twist the elbow bends towards the thumb's side


def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Least rotation that takes unit vector a to b."""
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis)
    return np.eye(3) if sine < 1e-9 else _rotations(_axis_matrices(axis[None] / sine), np.arctan2(sine, [a @ b]))[0]


@cache
def _forearm_axes(arm: Arm) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Direction (3,) from wrist to elbow at rest, its rotation onto -y, and the upper arm's rotation onto it."""
    elbow = arm.heads[arm.template.bone("lowerarm01")]
    upper = arm.heads[arm.template.bone("upperarm01")] - elbow
    axis = elbow / np.linalg.norm(elbow)
    return axis, between(axis, np.array([0, -1.0, 0])), between(upper / np.linalg.norm(upper), axis)


def bone_motions(arm: Arm, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rigid motions (..., B, 3, 4) of the bones from rest, and keypoints (..., 21, 3) in the hand frame, public order.

    angles: (..., NUM_ANGLES); a batch takes little longer than one pose.
    """
    t = arm.template
    motion = np.zeros((*angles.shape[:-1], len(t.bones), 3, 4))
    motion[..., :, :, :3] = np.eye(3)
    cup, frames, keypoints = _fingers(arm, angles)
    pivots = arm.metacarpal_heads
    motion[..., t.metacarpals, :, :3] = cup
    motion[..., 3][..., t.metacarpals, :] = pivots - (cup @ pivots[..., None])[..., 0]
    rotation = frames @ np.swapaxes(arm.frames, -1, -2)
    motion[..., t.finger_bones, :, :3] = rotation
    points = keypoints[..., 1:, :].reshape(*angles.shape[:-1], 5, 4, 3)
    motion[..., 3][..., t.finger_bones, :] = points[..., :3, :] - (rotation @ arm.finger_heads[..., None])[..., 0]
    move_forearm(arm, angles, motion)
    return motion, keypoints


def phalanges(arm: Arm, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames (..., 5, 3, 3, 3) of the phalanges, as in :class:`Arm`, and keypoints (..., 21, 3) in the hand frame."""
    return _fingers(arm, angles)[1:]


def _fingers(arm: Arm, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotations (..., 4, 3, 3) of the metacarpals, index to little finger, and what :func:`phalanges` gives."""
    batch = angles.shape[:-1]
    pivots, heads = arm.metacarpal_heads, arm.finger_heads
    turns = _rotations(_finger_axes(arm), angles @ _FINGER_MIXING)
    cup, knuckle, spread = turns[..., :4, :, :], turns[..., 4:8, :, :], turns[..., 8:12, :, :]
    palmar, radial, roll = (turns[..., k, :, :] for k in (22, 23, 24))
    frames = np.empty((*batch, 5, 3, 3, 3))
    frames[..., 0, 0, :, :] = palmar @ radial @ roll @ arm.frames[0, 0]
    frames[..., 1:, 0, :, :] = cup @ arm.base_frames @ knuckle @ spread
    frames[..., 1:, :, :] = frames[..., :1, :, :] @ turns[..., 12:22, :, :].reshape(*batch, 5, 2, 3, 3)

    points = np.empty((*batch, 5, 4, 3))
    points[..., 0, 0, :] = heads[0, 0]
    points[..., 1:, 0, :] = pivots + (cup @ (heads[1:, 0] - pivots)[..., None])[..., 0]
    points[..., 1:, :] = frames[..., 1] * arm.phalanx_lengths
    keypoints = np.zeros((*batch, 21, 3))
    keypoints[..., 1:, :] = np.cumsum(points, axis=-2).reshape(*batch, 20, 3)
    return cup, frames, keypoints


def move_forearm(arm: Arm, angles: np.ndarray, motion: np.ndarray) -> None:
    """Set the arm's bones in motions (..., B, 3, 4).

    The hand is the fixed frame: flexing the wrist swings the forearm towards the palm's side.
    """
    t = arm.template
    elbow_at_rest = arm.heads[t.bone("lowerarm01")]
    _, straighten, unbend = _forearm_axes(arm)
    flexion, deviation, half, whole, bent = np.moveaxis(_rotations(_arm_axes(arm), angles @ _ARM_MIXING), -3, 0)
    aligned = flexion @ deviation @ straighten
    motion[..., t.bone("lowerarm02"), :, :3] = aligned @ half
    motion[..., t.bone("lowerarm01"), :, :3] = turn = aligned @ whole
    elbow = aligned @ elbow_at_rest
    upper = turn @ bent @ unbend
    for name in ("upperarm01", "upperarm02"):
        motion[..., t.bone(name), :, :3] = upper
        motion[..., t.bone(name), :, 3] = elbow - upper @ elbow_at_rest


def arm_joints(arm: Arm, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Elbow (..., 3) and shoulder (..., 3) in the hand frame after :func:`move_forearm`."""
    out = []
    for name in ("lowerarm01", "upperarm01"):
        bone = arm.template.bone(name)
        out.append(motion[..., bone, :, :3] @ arm.heads[bone] + motion[..., bone, :, 3])
    return out[0], out[1]


def skin(arm: Arm, motion: np.ndarray, count: int | None = None) -> np.ndarray:
    """Vertices (V, 3) of the arm, or its first `count`, after linear blend skinning with motions (B, 3, 4)."""
    blended = (arm.template.weights[:count] @ motion.reshape(len(motion), 12).astype(np.float32)).reshape(-1, 3, 4)
    vertices = np.einsum("nij,nj->ni", blended[:, :, :3], arm.vertices[:count]) + blended[:, :, 3]
    _round_knuckles(arm, motion, vertices)
    return vertices


def _round_knuckles(arm: Arm, motion: np.ndarray, vertices: np.ndarray) -> None:
    """Push vertices (V, 3) at bent joints outwards, where the head of the bone would keep them.

    Linear blending collapses the skin there; the back of a joint keeps its distance of the straight pose.
    """
    t = arm.template
    bones, before = t.finger_bones, t.finger_bones.copy()
    before[:, 1:], before[1:, 0] = bones[:, :2], t.metacarpals
    bones, before, frames = bones.ravel(), before.ravel(), arm.frames.reshape(15, 3, 3)
    rest, turn = frames[..., 2, None], motion[..., :3]
    back, onwards = (turn[before] @ rest)[..., 0], (turn[bones] @ rest)[..., 0]
    bent = np.clip(np.arccos(np.clip((back * onwards).sum(-1), -1, 1)) / np.radians(50), 0, 1)
    out = back + onwards
    out /= np.linalg.norm(out, axis=-1, keepdims=True)
    across = (turn[bones] @ frames[..., 0, None])[..., 0]
    centre = (turn[bones] @ arm.heads[bones, :, None])[..., 0] + motion[bones, :, 3]

    vertex, joint = arm.knuckles[:, arm.knuckles[0] < len(vertices)]
    radius, axis = arm.knuckle_depth.ravel()[joint], across[joint]
    offset = vertices[vertex] - centre[joint]
    along = (offset * axis).sum(-1)
    offset = offset - along[:, None] * axis
    distance = np.maximum(np.linalg.norm(offset, axis=1), 1e-6)
    head = radius * np.sqrt(np.maximum(1 - (along / (1.1 * radius)) ** 2, 0))
    outside = np.clip(2 * (offset * out[joint]).sum(-1) / distance, 0, 1)
    push = np.maximum(head / distance - 1, 0) * bent[joint] ** 2 * (3 - 2 * bent[joint]) * outside
    np.add.at(vertices, vertex, (offset * push[:, None]).astype(vertices.dtype))


def flexion(keypoints: np.ndarray) -> np.ndarray:
    """Flexion (..., 4, 3) in radians of the MCP, PIP and DIP joints, index to little finger, as keypoints show it.

    keypoints: (..., 21, 3) of a left hand (or a right hand mirrored) in any frame. The MCP joint's is measured against
    the line from wrist to knuckle, across the palm's plane, and is negative when bent back; the others are unsigned.
    """
    joints = keypoints[..., 1:, :].reshape(*keypoints.shape[:-2], 5, 4, 3)[..., 1:, :, :]
    metacarpal = joints[..., 0, :] - keypoints[..., :1, :]
    back = np.cross(metacarpal[..., :1, :], metacarpal[..., 3:, :])
    back = back / np.linalg.norm(back, axis=-1, keepdims=True)
    bones = np.concatenate([metacarpal[..., None, :], np.diff(joints, axis=-2)], axis=-2)
    bones /= np.linalg.norm(bones, axis=-1, keepdims=True)
    out = np.arccos(np.clip((bones[..., :-1, :] * bones[..., 1:, :]).sum(-1), -1, 1))
    upright = back - bones[..., 0, :] * (back * bones[..., 0, :]).sum(-1, keepdims=True)
    upright /= np.linalg.norm(upright, axis=-1, keepdims=True)
    first = bones[..., 1, :]
    out[..., 0] = np.arctan2(-(first * upright).sum(-1), (first * bones[..., 0, :]).sum(-1))
    return out


# Capsules: the three phalanges of each finger, then four palm bones from the wrist.
_CAPSULES = [(PARENTS[k], k) for k in range(1, 21) if k % 4 != 1] + [(0, k) for k in FINGER_BASES]
_STARTS, _ENDS = np.array(_CAPSULES).T
_FINGER_OF = np.array([(b - 1) // 4 for _, b in _CAPSULES[:15]] + [5] * 4)


def capsules(arm: Arm, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts (..., 19, 3), ends (..., 19, 3) and radii (19,) of capsules that fill the hand."""
    radii = np.concatenate([arm.radii.ravel(), [arm.palm_radius] * 4])
    ends = keypoints[..., _ENDS, :]
    ends[..., 2:15:3, :] = pulps(arm, keypoints)
    return keypoints[..., _STARTS, :], ends, radii


def pulps(arm: Arm, keypoints: np.ndarray) -> np.ndarray:
    """Middles (..., 5, 3) of the balls that end the fingers: the point of touch lies before the very tip."""
    last = keypoints[..., 4::4, :] - keypoints[..., 3::4, :]
    before_tip = (arm.radii[:, 2] - TIP_DEPTH_M) / arm.phalanx_lengths[:, 2, 0]
    return keypoints[..., 4::4, :] - before_tip[:, None] * last


_PAIRS = np.array(
    [
        (i, j)
        for i in range(19)
        for j in range(i + 1, 19)
        if _FINGER_OF[i] != _FINGER_OF[j] and not (j >= 15 and i % 3 == 0)
    ]
)
_FIRM = np.where([_FINGER_OF[i] > 0 and _FINGER_OF[j] == _FINGER_OF[i] + 1 < 5 for i, j in _PAIRS], 0.7, 0.8)
"""Incompressible share of the radii; less at the sides of neighbouring fingers, as in a fist. Chosen by eye."""


def segment_distances(p0: np.ndarray, p1: np.ndarray, q0: np.ndarray, q1: np.ndarray) -> np.ndarray:
    """Least distances (...) between segments p0-p1 and q0-q1, all (..., 3). Source: Ericson, 2005, section 5.1.9."""
    d1, d2, r = p1 - p0, q1 - q0, p0 - q0
    a, e, f = (d1 * d1).sum(-1), (d2 * d2).sum(-1), (d2 * r).sum(-1)
    b, c = (d1 * d2).sum(-1), (d1 * r).sum(-1)
    denominator = a * e - b * b
    s = np.clip(np.where(denominator > 1e-15, (b * f - c * e) / np.maximum(denominator, 1e-15), 0), 0, 1)
    t = np.clip((b * s + f) / np.maximum(e, 1e-15), 0, 1)
    s = np.clip((b * t - c) / np.maximum(a, 1e-15), 0, 1)
    return np.linalg.norm(p0 + s[..., None] * d1 - q0 - t[..., None] * d2, axis=-1)


def penetration(arm: Arm, keypoints: np.ndarray, thumb_only: bool = False) -> np.ndarray:
    """Largest depth (...) in metres to which the hand's capsules intersect, beyond what soft flesh allows.

    thumb_only: only pairs with the thumb, a third of the work.
    """
    starts, ends, radii = capsules(arm, keypoints)
    chosen = slice(np.searchsorted(_PAIRS[:, 0], 3) if thumb_only else None)
    i, j = _PAIRS[chosen].T
    gap = segment_distances(starts[..., i, :], ends[..., i, :], starts[..., j, :], ends[..., j, :])
    return -np.minimum((gap - _FIRM[chosen] * (radii[i] + radii[j])).min(axis=-1), 0.0)
