"""Inverse kinematics of arms: joint angles that bring a hand to a posture without entering the body.

Everything is for a left arm in body axes (x to the person's left, y back, z up; metres); right arms are mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hand_pose_3d.rendering import pose
from hand_pose_3d.rendering.character import Arm
from hand_pose_3d.rendering.people import Body
from hand_pose_3d.rendering.postures import ArmPosture

_CANDIDATES, _EXAMINED = 96, 40
"""Number of sampled arm poses, and of the best of them that are checked for collisions; chosen by speed."""
_PROBES = np.array([0, 1, 3, 4, 5, 6, 8, 9, 11, 12, 15, 16, 17, 18, 20])
"""Keypoints of a hand that are kept out of the body."""
_FOREARM_GAP_M, _UPPER_ARM_GAP_M, _HAND_GAP_M = 0.036, 0.05, 0.012
"""Least distance of the arm's axis and of the hand's keypoints from the surface of a body, metres: about their
thickness, chosen by eye."""
_CONTACT_M = 0.016
"""From the surface to the nearest keypoint of a hand that rests on it, metres; chosen by eye."""
_SLIDES = 3
"""Number of steps in which touching hands are brought together; chosen by eye."""
_STRAIGHTEST, _MOST_BENT = 0.985, np.radians(135)
"""Reach of an arm over its length, below 1 so that the elbow stays defined, and largest flexion of the elbow, radians.
"""


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


def reach(
    arm: Arm,
    shoulder: np.ndarray,
    wrists: np.ndarray,
    elbows: np.ndarray,
    flexions: np.ndarray,
    twists: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Arms from one shoulder (3,) to N wrists (N, 3), or to the nearest points within reach.

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
    angles[:, pose.WRIST_ANGLES], angles[:, pose.TWIST], angles[:, pose.ELBOW] = flexions, twists, bent
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
    posture: ArmPosture,
    arm: Arm,
    body: Body,
    angles: np.ndarray,
    keypoints: np.ndarray,
    mirrored: bool,
    obstacle: np.ndarray | None = None,
    near: bool = False,
) -> ArmPose:
    """The best of several random arms near a posture.

    angles, keypoints: of the hand. mirrored: the result will be mirrored to a right arm. obstacle: (N, 3) points of the
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
    low, high = pose.LIMITS[pose.WRIST_ANGLES].T
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
    entered = np.maximum(_FOREARM_GAP_M - room_of_forearm.min(axis=1), _UPPER_ARM_GAP_M - room_of_upper_arm.min(axis=1))
    if not posture.enters:
        entered = np.maximum(entered, _HAND_GAP_M - room_of_hand.min(axis=1))
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
    for _ in range(_SLIDES if posture.symmetric and near else 0):  # both hands move to the middle
        hand = keypoints @ rotations[best].T + wrists[best]
        wrists[best, 0] -= hand[:, 0].min() - _HAND_GAP_M
        bent[chosen], rotations[chosen], wrists[chosen], elbow[chosen] = reach(
            arm, shoulder, wrists[chosen], elbows[chosen], flexions[chosen], twists[chosen]
        )
    hand = keypoints @ rotations[best].T + wrists[best]
    out = angles.copy()
    out[pose.WRIST_ANGLES], out[pose.TWIST], out[pose.ELBOW] = flexions[best], twists[best], bent[best]
    return ArmPose(out, rotations[best], wrists[best], elbow[best], shoulder, hand)


def _turned(directions: np.ndarray, wanted: tuple[float, float, float]) -> np.ndarray:
    """(N,) 0..2 how far directions (N, 3) are from one; 0 where that is zero."""
    length = float(np.linalg.norm(wanted))
    return 1 - directions @ np.array(wanted) / length if length else np.zeros(len(directions))
