"""What arms do: where a person's hands are held, and the joint angles that bring them there without entering the body.

Everything is for a left arm in body axes (x to the person's left, y back, z up; metres); a right arm does the mirror
image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hand_pose_3d.rendering import pose
from hand_pose_3d.rendering.character import Arm
from hand_pose_3d.rendering.people import Body

_CANDIDATES, _EXAMINED = 96, 40
_PROBES = np.array([0, 1, 3, 4, 5, 6, 8, 9, 11, 12, 15, 16, 17, 18, 20])
"""Keypoints by which a hand is kept out of the body."""
_FOREARM_M, _UPPER_ARM_M, _HAND_M = 0.036, 0.05, 0.012
"""How near the surface of a body the axis of an arm and the keypoints of a hand come, metres."""
_CONTACT_M = 0.016
"""From the surface to the nearest keypoint of a hand that rests on it."""
_SLIDES = 3
"""Steps in which hands that touch are brought together."""
_STRAIGHTEST, _MOST_BENT = 0.985, np.radians(135)

_RELAXED = ("relaxed", "resting", "flat", "open")
_HOLDING = ("grasp cylinder", "grasp can", "grasp ball", "grasp handle", "pen", "pinch", "hook", "grasp card")


class Posture(NamedTuple):
    """Where one hand is and how it is turned.

    anchor: the landmark that `at` is measured from: shoulder, eyes or hips (at the height of the hips, below the
    shoulder). at, spread: (3,) mean and half range of the wrist, metres of somebody with an arm of 0.5 m. elbow: (3,)
    where it points. palm, fingers: (3,) directions they face, zero where anything will do. touches: the hand rests on
    the body. enters: the hand may be inside, as in a pocket. actions: of the hand; () is any.
    """

    anchor: str
    at: tuple[float, float, float]
    spread: tuple[float, float, float]
    elbow: tuple[float, float, float]
    palm: tuple[float, float, float]
    fingers: tuple[float, float, float]
    touches: bool = False
    enters: bool = False
    actions: tuple[str, ...] = _RELAXED
    symmetric: bool = False


POSTURES = {
    "hanging": Posture("shoulder", (0.09, 0, -0.5), (0.05, 0.06, 0.02), (0.4, 1, 0), (-1, 0, 0), (0, -0.1, -1)),
    "holding low": Posture(
        "shoulder", (0.1, -0.08, -0.47), (0.05, 0.08, 0.03), (0.5, 1, 0), (-1, 0, 0), (0, -0.2, -1), actions=_HOLDING
    ),
    "on the hip": Posture(
        "hips", (0.05, -0.04, 0.1), (0.05, 0.05, 0.05), (1, 0.4, 0), (-0.8, 0, -0.4), (-0.4, -0.8, -0.3), True
    ),
    "in a pocket": Posture(
        "hips", (0.01, -0.03, 0.03), (0.03, 0.04, 0.04), (0.6, 1, 0), (-1, 0, 0), (-0.1, -0.3, -1), enters=True
    ),
    "gesturing": Posture(
        "shoulder", (-0.02, -0.3, -0.2), (0.14, 0.1, 0.14), (0.6, 0.4, -1), (0, 0, 0), (-0.2, -0.7, 0.5), actions=()
    ),
    "explaining": Posture(
        "shoulder", (0.05, -0.28, -0.26), (0.12, 0.1, 0.08), (0.5, 0.5, -1), (-0.5, 0, 1), (-0.1, -1, 0.2)
    ),
    "waving": Posture(
        "shoulder", (0.14, -0.14, 0.14), (0.1, 0.08, 0.14), (1, 0, -0.8), (0, -1, 0), (0, 0, 1), actions=()
    ),
    "arm up": Posture(
        "shoulder", (0.12, -0.06, 0.42), (0.1, 0.08, 0.06), (1, 0, 0.3), (0, -1, 0), (0, 0, 1), actions=()
    ),
    "pointing": Posture(
        "shoulder",
        (0.06, -0.42, -0.04),
        (0.2, 0.06, 0.16),
        (0.6, 0.2, -1),
        (-0.7, 0, -0.5),
        (0, -1, 0),
        actions=("point", "point thumb out", "point relaxed", "thumb up", "two", "flat"),
    ),
    "chin": Posture(
        "eyes",
        (0.05, -0.12, -0.2),
        (0.05, 0.04, 0.05),
        (0.4, -0.2, -1),
        (-0.3, 1, 0.2),
        (-0.2, 0.4, 1),
        True,
        actions=("fist", "relaxed", "point", "pinch", "resting", "fist thumb beside"),
    ),
    "cheek": Posture("eyes", (0.12, 0, -0.16), (0.03, 0.05, 0.05), (0.5, -0.3, -1), (-1, 0.3, 0), (-0.2, 0.2, 1), True),
    "face": Posture(
        "eyes", (0.09, -0.13, -0.1), (0.06, 0.03, 0.06), (0.7, -0.2, -1), (-0.2, 1, 0), (-0.6, 0.1, 0.8), True
    ),
    "ear": Posture(
        "eyes",
        (0.16, 0.05, -0.08),
        (0.03, 0.05, 0.05),
        (0.7, -0.2, -1),
        (-1, 0, 0),
        (-0.2, 0.2, 1),
        True,
        actions=(*_RELAXED, "grasp card", "grasp can"),
    ),
    "hair": Posture(
        "eyes", (0.17, 0.05, 0.1), (0.04, 0.06, 0.06), (1, -0.2, 0.1), (-0.8, 0, -0.6), (-0.6, 0.5, 0.5), True
    ),
    "behind the head": Posture(
        "eyes", (0.15, 0.2, 0), (0.04, 0.04, 0.05), (1, -0.1, 0.1), (0, -1, 0), (-1, 0.1, 0.2), True
    ),
    "on the chest": Posture(
        "shoulder", (-0.08, -0.16, -0.18), (0.06, 0.04, 0.1), (0.8, 0, -0.8), (0, 1, 0), (-1, 0, 0.3), True
    ),
    "on the belly": Posture(
        "hips", (-0.06, -0.16, 0.16), (0.06, 0.05, 0.06), (1, 0.4, -0.4), (0, 1, 0), (-1, 0, -0.1), True
    ),
    "behind the back": Posture(
        "hips", (-0.08, 0.16, 0.12), (0.05, 0.04, 0.05), (1, 0.7, 0), (0, 1, 0), (-1, 0, -0.2), True
    ),
    "reaching": Posture(
        "shoulder", (0, -0.42, -0.18), (0.2, 0.06, 0.16), (0.8, 0.4, -1), (-0.5, 0, -1), (0, -1, 0), actions=()
    ),
    "holding": Posture(
        "shoulder",
        (-0.05, -0.28, -0.2),
        (0.12, 0.08, 0.12),
        (0.6, 0.4, -1),
        (-1, 0.2, 0.2),
        (-0.3, -0.8, 0.4),
        actions=_HOLDING,
    ),
    "drinking": Posture(
        "eyes",
        (0.1, -0.2, -0.17),
        (0.05, 0.04, 0.05),
        (0.8, -0.2, -0.8),
        (-1, 0.2, 0),
        (-0.3, -0.2, 0.8),
        actions=("grasp cylinder", "grasp can", "pinch", "grasp card"),
    ),
    "lap": Posture("hips", (-0.04, -0.28, 0.12), (0.08, 0.1, 0.06), (1, 0.5, -0.2), (0, 0, -1), (-0.4, -0.9, 0), True),
    "knee": Posture(
        "hips", (-0.04, -0.42, 0.1), (0.05, 0.06, 0.06), (1, 0.5, -0.2), (0, 0, -1), (-0.1, -0.9, -0.3), True
    ),
    "typing": Posture(
        "shoulder", (-0.06, -0.34, -0.32), (0.06, 0.06, 0.04), (0.8, 0.4, -0.8), (0, 0, -1), (-0.2, -1, 0)
    ),
}
"""Of one hand."""

PAIRS = {
    "praying": Posture(
        "shoulder",
        (-0.12, -0.26, -0.14),
        (0.03, 0.05, 0.08),
        (0.9, 0.2, -0.8),
        (-1, 0, 0),
        (0, -0.4, 0.9),
        symmetric=True,
        actions=("flat", "open"),
    ),
    "clasped": Posture(
        "shoulder",
        (-0.1, -0.26, -0.24),
        (0.04, 0.05, 0.08),
        (0.9, 0.2, -0.8),
        (-0.9, 0.3, 0),
        (-0.5, -0.7, 0.4),
        symmetric=True,
        actions=("relaxed", "resting", "grasp ball", "claw", "fist"),
    ),
    "clasped low": Posture(
        "hips",
        (-0.08, -0.2, 0.06),
        (0.04, 0.05, 0.06),
        (1, 0.4, -0.4),
        (-0.6, 0.8, 0),
        (-0.6, -0.2, -0.7),
        symmetric=True,
        actions=("relaxed", "resting", "flat"),
    ),
    "steepled": Posture(
        "shoulder",
        (-0.09, -0.28, -0.2),
        (0.04, 0.05, 0.08),
        (0.9, 0.2, -0.8),
        (-0.9, 0.2, -0.2),
        (-0.5, -0.5, 0.6),
        symmetric=True,
        actions=("spread", "open", "claw"),
    ),
    "before the face": Posture(
        "eyes",
        (0.05, -0.16, -0.17),
        (0.03, 0.04, 0.05),
        (0.6, -0.2, -1),
        (-0.4, 1, 0),
        (-0.3, 0.2, 1),
        True,
        actions=("flat", "open", "relaxed"),
    ),
    "folded": Posture(
        "shoulder",
        (-0.24, -0.16, -0.22),
        (0.03, 0.03, 0.05),
        (0.9, 0, -0.8),
        (0, 1, 0.1),
        (-1, 0.1, 0.1),
        actions=("flat", "relaxed", "resting", "fist"),
    ),
    "carrying": Posture(
        "shoulder",
        (-0.03, -0.3, -0.22),
        (0.06, 0.06, 0.1),
        (0.8, 0.4, -0.8),
        (-1, 0, 0.1),
        (-0.2, -1, 0.1),
        symmetric=True,
        actions=("flat", "open", "relaxed"),
    ),
    "in the lap": Posture(
        "hips",
        (-0.1, -0.24, 0.13),
        (0.04, 0.06, 0.04),
        (1, 0.5, -0.3),
        (-0.3, 0, -1),
        (-0.8, -0.5, 0),
        True,
        actions=("relaxed", "resting", "flat"),
    ),
}
"""Of both hands of a person."""

_STANDING_ONLY = ("on the hip", "in a pocket", "hanging", "holding low", "behind the back", "clasped low")
_SEATED_ONLY = ("lap", "knee", "in the lap")
_COMMON = {"hanging": 4.0, "gesturing": 2.0, "lap": 3.0, "knee": 2.0, "in the lap": 3.0, "holding": 2.0}
TOUCHING_PAIRS = ("praying", "clasped", "clasped low", "steepled")


@dataclass(frozen=True, eq=False)
class ArmPose:
    """A left arm in body axes: pose vector, rotation (3, 3) of the hand frame, wrist (3,), elbow (3,), shoulder (3,).

    hand: (21, 3) keypoints.
    """

    angles: np.ndarray
    rotation: np.ndarray
    wrist: np.ndarray
    elbow: np.ndarray
    shoulder: np.ndarray
    hand: np.ndarray

    def outline(self) -> np.ndarray:
        """(N, 3) points along hand, forearm and the lower half of the upper arm."""
        return np.vstack([self.hand, *_along(self.wrist, self.elbow, self.shoulder)])


def choose(rng: np.random.Generator, seated: bool) -> tuple[str, str]:
    """Names of what a person's left and right hand do."""

    if rng.random() < 0.3:
        pair = choose_one(rng, seated, PAIRS)
        return pair, pair
    left = choose_one(rng, seated)
    return left, left if rng.random() < 0.3 else choose_one(rng, seated)


def choose_one(rng: np.random.Generator, seated: bool, postures: dict[str, Posture] = POSTURES) -> str:
    """Name of one of some postures that somebody standing or seated may take."""
    allowed = [n for n in postures if n not in (_STANDING_ONLY if seated else _SEATED_ONLY)]
    chance = np.array([_COMMON.get(n, 1.0) for n in allowed])
    return str(rng.choice(allowed, p=chance / chance.sum()))


def reach(
    arm: Arm,
    shoulder: np.ndarray,
    wrists: np.ndarray,
    elbows: np.ndarray,
    flexions: np.ndarray,
    twists: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Arms from one shoulder (3,) to N wrists (N, 3), or as near to them as an arm goes.

    elbows: (N, 3) where they point. flexions: (N, 2) of the wrists; twists: (N,) of the forearms, radians.
    Returns the elbows' angles (N,), the hand frames' rotations (N, 3, 3), wrists (N, 3) and elbows (N, 3).
    """
    t = arm.template
    elbow_rest = arm.heads[t.bone("lowerarm01")]
    fore, upper = float(np.linalg.norm(elbow_rest)), arm.upper_arm_m
    tilt = (elbow_rest[2] / fore) ** 2  # the elbow bends about z, to which the forearm is not quite square
    least = _between_ends(fore, upper, np.cos(_MOST_BENT))
    to_wrist = wrists - shoulder
    distance = np.linalg.norm(to_wrist, axis=1)
    direction = to_wrist / np.maximum(distance, 1e-9)[:, None]
    distance = np.clip(distance, least, _STRAIGHTEST * (fore + upper))
    wrists = shoulder + direction * distance[:, None]

    along = (upper**2 - fore**2 + distance**2) / (2 * distance)
    out = elbows - direction * (elbows * direction).sum(axis=1, keepdims=True)
    out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)
    joints = shoulder + direction * along[:, None] + out * np.sqrt(np.maximum(upper**2 - along**2, 0))[:, None]

    cosine = (distance**2 - fore**2 - upper**2) / (2 * fore * upper)
    bent = np.arccos(np.clip((cosine - tilt) / (1 - tilt), -1, 1))
    angles = np.zeros((len(wrists), pose.NUM_ANGLES))
    angles[:, pose.WRIST], angles[:, pose.TWIST], angles[:, pose.ELBOW] = flexions, twists, bent
    motion = np.zeros((len(wrists), len(t.bones), 3, 4))
    pose.move_forearm(arm, angles, motion)
    own_elbow, own_shoulder = pose.arm_joints(arm, motion)
    rotations = _frames(joints - wrists, shoulder - joints) @ np.swapaxes(
        _frames(own_elbow, own_shoulder - own_elbow), 1, 2
    )
    return bent, rotations, wrists, joints


def _between_ends(a: float, b: float, cosine: float) -> float:
    return float(np.sqrt(a * a + b * b + 2 * a * b * cosine))


def _frames(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Right-handed frames (N, 3, 3) by column: along first (N, 3), towards second, and square to both."""
    x = first / np.linalg.norm(first, axis=1, keepdims=True)
    z = np.cross(x, second)
    z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-9)
    return np.stack([x, np.cross(z, x), z], axis=2)


def _along(wrist: np.ndarray, elbow: np.ndarray, shoulder: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (..., 6, 3) of forearms and (..., 4, 3) of upper arms, none near the shoulder."""
    share = np.linspace(0.1, 1, 6)[:, None]
    forearm = wrist[..., None, :] + share * (elbow - wrist)[..., None, :]
    share = np.linspace(0, 0.5, 4)[:, None]
    return forearm, elbow[..., None, :] + share * (shoulder - elbow)[..., None, :]


def take(
    rng: np.random.Generator,
    posture: Posture,
    arm: Arm,
    body: Body,
    angles: np.ndarray,
    keypoints: np.ndarray,
    mirrored: bool,
    obstacle: np.ndarray | None = None,
    near: bool = False,
) -> ArmPose:
    """The best of some arms that do roughly what a posture says.

    angles, keypoints: of the hand. mirrored: it is a right arm that is wanted, mirrored. obstacle: (N, 3) points of the
    other arm, mirrored likewise; near: the hands touch.
    """
    shoulder = body.shoulders[1] * [-1, 1, 1] if mirrored else body.shoulders[0]
    size = (float(np.linalg.norm(arm.heads[arm.template.bone("lowerarm01")])) + arm.upper_arm_m) / 0.5
    anchor = {
        "shoulder": shoulder,
        "eyes": body.head * [-1, 1, 1] if mirrored else body.head,
        "hips": np.array([shoulder[0], shoulder[1], body.hips_z]),
    }[posture.anchor]
    count = _CANDIDATES
    wrists = anchor + size * (np.array(posture.at) + rng.uniform(-1, 1, (count, 3)) * posture.spread)
    elbows = np.array(posture.elbow) + rng.normal(0, 0.25, (count, 3))
    low, high = pose.LIMITS[pose.WRIST].T
    flexions = np.clip(rng.normal(0, [0.4, 0.17], (count, 2)), low, high)
    twists = rng.uniform(pose.LIMITS[pose.TWIST, 0], pose.LIMITS[pose.TWIST, 1], count)
    bent, rotations, wrists, elbow = reach(arm, shoulder, wrists, elbows, flexions, twists)
    hands = keypoints @ np.swapaxes(rotations, 1, 2) + wrists[:, None]

    palms, fingers = -rotations[:, :, 2], rotations[:, :, 1]
    cost = 0.9 * _turned(palms, posture.palm) + 0.7 * _turned(fingers, posture.fingers)
    cost += 0.4 * (flexions**2).sum(axis=1) + 0.3 * np.maximum(elbow[:, 1] - shoulder[1] - 0.2, 0) / 0.1
    order = np.argsort(cost)[:_EXAMINED]
    cost, hands, joints = cost[order], hands[order], elbow[order]
    forearm, upper = _along(wrists[order], joints, np.broadcast_to(shoulder, joints.shape))
    room_of_hand, room_of_forearm, room_of_upper_arm = (
        body.clearance(points * [-1, 1, 1] if mirrored else points)
        for points in (hands[:, _PROBES], forearm[:, ::2], upper[:, ::2])
    )
    entered = np.maximum(_FOREARM_M - room_of_forearm.min(axis=1), _UPPER_ARM_M - room_of_upper_arm.min(axis=1))
    if not posture.enters:
        entered = np.maximum(entered, _HAND_M - room_of_hand.min(axis=1))
    cost += (np.maximum(entered, 0) / 0.015) ** 2
    if posture.touches:
        cost += np.abs(room_of_hand.min(axis=1) - _CONTACT_M) / 0.02
    if obstacle is not None:
        points = np.concatenate([hands, forearm, upper], axis=1)
        gap = np.linalg.norm(points[:, :, None] - obstacle, axis=-1)
        closest = np.minimum(gap[:, :21, :21].min(axis=(1, 2)), gap.min(axis=(1, 2)) - 0.03)
        cost += (np.maximum(0.024 - closest, 0) / 0.008) ** 2
        if near:
            cost += np.maximum(closest - 0.024, 0) / 0.015
    best = int(order[np.argmin(cost)])
    chosen = [best]
    for _ in range(_SLIDES if posture.symmetric and near else 0):  # both hands up to the middle
        hand = keypoints @ rotations[best].T + wrists[best]
        wrists[best, 0] -= hand[:, 0].min() - _HAND_M
        bent[chosen], rotations[chosen], wrists[chosen], elbow[chosen] = reach(
            arm, shoulder, wrists[chosen], elbows[chosen], flexions[chosen], twists[chosen]
        )
    hand = keypoints @ rotations[best].T + wrists[best]
    out = angles.copy()
    out[pose.WRIST], out[pose.TWIST], out[pose.ELBOW] = flexions[best], twists[best], bent[best]
    return ArmPose(out, rotations[best], wrists[best], elbow[best], shoulder, hand)


def _turned(directions: np.ndarray, wanted: tuple[float, float, float]) -> np.ndarray:
    """(N,) 0..2 how far directions (N, 3) are from one; 0 where that is zero."""
    length = float(np.linalg.norm(wanted))
    return 1 - directions @ np.array(wanted) / length if length else np.zeros(len(directions))
