"""Joint angles of a hand, flexion and abduction, for robot hands.

Zero pose: the flat hand with fingers and thumb straight, side by side, parallel to the line from the wrist to the
middle finger's base. Flexion is positive towards the palm (for the thumb's metacarpal: across the palm, towards the
little finger, so that a thumb held out to the side has a negative value). Abduction is positive away from the middle
finger's line: index towards the thumb, ring and little finger the other way, the middle finger towards the thumb; the
thumb's is palmar, out of the palm's plane. Signs are the same for left and right hands.
"""

from __future__ import annotations

import math

import numpy as np

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.geometry import wrist_rotation
from hand_pose_3d.hands import HandPose
from hand_pose_3d.skeleton import FINGERS, JOINTS, WRIST, Side

THUMB_ROLL = math.radians(60)
"""Rotation of the thumb's nail away from the back of the hand, radians, as in the rendered hands that the networks are
trained on. It affects the sign of the thumb's flexion, not its size."""

JOINT_NAMES = (
    "thumb_cmc_flexion",
    "thumb_cmc_abduction",
    "thumb_mcp_flexion",
    "thumb_ip_flexion",
    *(
        f"{finger}_{joint}"
        for finger in FINGERS[1:]
        for joint in ("mcp_flexion", "mcp_abduction", "pip_flexion", "dip_flexion")
    ),
)

_LIMITS_DEG = {  # see JOINT_LIMITS
    "thumb_cmc_flexion": (-80, 30),
    "thumb_cmc_abduction": (-20, 80),
    "thumb_mcp_flexion": (-20, 80),
    "thumb_ip_flexion": (-35, 90),
    "mcp_flexion": (-45, 100),
    "mcp_abduction": (-25, 35),
    "pip_flexion": (-15, 120),
    "dip_flexion": (-25, 90),
}
JOINT_LIMITS = {
    name: tuple(math.radians(x) for x in _LIMITS_DEG.get(name) or _LIMITS_DEG[name.split("_", 1)[1]])
    for name in JOINT_NAMES
}
"""Least and greatest angle of a healthy adult, radians: the norms of the American Academy of Orthopaedic Surgeons
(Joint Motion, 1965) and 10 to 25 degrees more, for supple hands and for joints that the wrist's line puts off zero."""


def joint_angles(hand: HandPose, *, clamp: bool = False) -> dict[str, float]:
    """Flexion and abduction of every joint, radians, by the names of JOINT_NAMES; the zero pose is the module's.

    hand: keypoints_relative and side are read; an unknown side is treated as right. clamp: limit angles to
    JOINT_LIMITS, for driving robots: noise then cannot bend a joint the wrong way. Without it the angles are those of
    the keypoints. A joint at a bone without length is arbitrary. Raises InvalidInputError for keypoints that are not
    finite and DegenerateHandError for a palm without a plane.
    """
    relative = np.asarray(hand.keypoints_relative, dtype=float)
    if relative.shape != (21, 3) or not np.isfinite(relative).all():
        raise InvalidInputError(f"joint angles need 21 finite keypoints (21, 3), not an array {relative.shape}")
    points = (relative - relative[WRIST]) @ wrist_rotation(relative, hand.side)
    if hand.side == Side.LEFT:
        # Mirrored, y points to the thumb as in a right hand.
        points = points * [1, -1, 1]
    out: dict[str, float] = {}
    for number, finger in enumerate(FINGERS):
        bones = np.diff(points[1 + 4 * number : 5 + 4 * number], axis=0)
        first, *hinges = JOINTS[finger][:3]
        out[f"{finger}_{first}_flexion"], out[f"{finger}_{first}_abduction"], frame = (
            _thumb_base(bones[0]) if finger == "thumb" else _finger_base(bones[0], finger in ("index", "middle"))
        )
        for joint, before, after in zip(hinges, bones[:-1], bones[1:], strict=True):
            ahead, aside, dorsal = after @ frame
            if finger == "thumb":
                # The full angle between the bones, as the thumb rolls about an unknown axis; only the sign is from the
                # frame.
                cross = np.linalg.norm(np.cross(before, after))
                angle = math.copysign(math.atan2(cross, before @ after), -dorsal)
            else:
                angle = math.atan2(-dorsal, ahead)
            out[f"{finger}_{joint}_flexion"] = angle
            frame = frame @ _turn_y(angle)
    return {name: _limited(angle, *JOINT_LIMITS[name]) for name, angle in out.items()} if clamp else out


def _limited(angle: float, low: float, high: float) -> float:
    """The nearest angle between both, by the shorter way round."""
    if low <= angle <= high:
        return angle
    middle = 0.5 * (low + high)
    return min(max(middle + math.remainder(angle - middle, 2 * math.pi), low), high)


def _finger_base(bone: np.ndarray, to_thumb: bool) -> tuple[float, float, np.ndarray]:
    """Flexion, abduction and frame (ahead, aside, dorsal as columns) of a finger's first bone in the wrist frame."""
    x, y, z = bone
    flexion, aside = math.atan2(-z, x), math.atan2(y, math.hypot(x, z))
    return flexion, aside if to_thumb else -aside, _turn_y(flexion) @ _turn_z(aside)


def _thumb_base(bone: np.ndarray) -> tuple[float, float, np.ndarray]:
    """The same for the thumb's metacarpal, which swings in the palm's plane and then out of it."""
    x, y, z = bone
    aside, abduction = math.atan2(y, x), math.atan2(-z, math.hypot(x, y))
    c, s = math.cos(-THUMB_ROLL), math.sin(-THUMB_ROLL)
    roll = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return -aside, abduction, _turn_z(aside) @ _turn_y(abduction) @ roll


def _turn_y(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _turn_z(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
