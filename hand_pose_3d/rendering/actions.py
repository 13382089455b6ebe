"""What hands do: named actions, 31 of them for training and 8 others for evaluation, sampled with variation."""

from __future__ import annotations

import numpy as np

from hand_pose_3d.rendering import pose
from hand_pose_3d.rendering.character import Arm

# mcp, pip, dip in degrees
_FINGER = {
    "E": (0, 4, 3),  # extended
    "R": (16, 24, 14),  # relaxed
    "C": (32, 48, 30),  # curved, as around a bottle
    "G": (52, 68, 40),  # tighter grasp
    "H": (66, 90, 48),  # half closed
    "F": (86, 106, 66),  # fist
    "K": (4, 92, 58),  # hook
    "T": (72, 10, 6),  # bent at the knuckle only
    "D": (46, 42, 22),  # towards the thumb's tip
    "X": (-14, 2, 2),  # bent back
}
# palmar, radial, mcp, ip, roll in degrees
_THUMB = {
    "side": (-22, -42, 6, 8, 0),
    "out": (-18, 6, 0, -4, 0),
    "up": (-22, 12, -4, -14, 0),
    "relaxed": (-6, -6, 14, 16, 4),
    "opposed": (18, -2, 22, 26, 14),
    "pinch": (14, -8, 28, 34, 14),
    "across": (30, -16, 34, 40, 14),
    "inside": (14, -30, 52, 30, 22),
    "flat": (-30, -12, 0, 0, 0),
    "round": (16, 4, 18, 22, 12),
    "tucked": (-20, -44, 20, 30, 4),
}
# name: (index middle ring little, thumb, spread factor, what the thumb touches). Positive k: the tip of the k-th
# finger, negative k: the back of its middle bone, as when a thumb closes a fist; 1 is the index finger.
ACTIONS: dict[str, tuple[str, str, float, int | None]] = {
    "open": ("EEEE", "out", 0.6, None),
    "spread": ("EEEE", "out", 1.8, None),
    "flat": ("EEEE", "side", -0.4, None),
    "relaxed": ("RRRR", "relaxed", 0.2, None),
    "resting": ("RRCC", "relaxed", 0.1, None),
    "fist": ("FFFF", "across", 0.0, -2),
    "fist thumb beside": ("FFFF", "side", 0.0, None),
    "point": ("EFFF", "across", 0.0, -2),
    "point thumb out": ("EFFF", "up", 0.0, None),
    "point relaxed": ("EHHH", "relaxed", 0.0, None),
    "two": ("EEFF", "across", 0.8, -3),
    "two and thumb": ("EEFF", "up", 0.6, None),
    "three": ("EEEF", "inside", 0.7, -4),
    "four": ("EEEE", "inside", 1.0, None),
    "thumb up": ("FFFF", "up", 0.0, None),
    "call": ("FFFE", "up", 0.5, None),
    "horns": ("EFFE", "across", 0.6, -2),
    "pinch": ("DRRC", "pinch", 0.3, 1),
    "ok": ("DERE", "pinch", 0.8, 1),
    "pinch closed": ("DHFF", "pinch", 0.0, 1),
    "three finger pinch": ("DDHF", "pinch", 0.0, 2),
    "grasp cylinder": ("CCCC", "round", 0.1, None),
    "grasp can": ("GGGG", "opposed", 0.1, None),
    "grasp handle": ("HHHF", "across", 0.0, -1),
    "grasp ball": ("CCCC", "round", 1.3, None),
    "grasp plate": ("TTTT", "opposed", 0.2, None),
    "hook": ("KKKK", "side", 0.0, None),
    "letter C": ("CCCC", "opposed", -0.2, None),
    "little finger": ("FFFE", "across", 0.0, -2),
    "pen": ("DCHF", "pinch", 0.0, 1),
    "typing": ("RRRR", "side", 0.4, None),
    # evaluation only from here
    "one thumb inside": ("EFFF", "inside", 0.0, None),
    "letter W": ("EEEH", "opposed", 1.2, None),
    "love": ("EFFE", "out", 0.8, None),
    "claw": ("KKKK", "out", 1.0, None),
    "middle pinch": ("EDEE", "pinch", 0.6, 2),
    "grasp card": ("CGHF", "pinch", 0.0, 1),
    "tabletop": ("TTTT", "side", 0.0, None),
    "ring bent": ("EERF", "round", 0.9, None),
}
NUM_TRAINING, NUM_EVALUATION = 31, 8
TRAINING = tuple(ACTIONS)[:NUM_TRAINING]
EVALUATION = tuple(ACTIONS)[NUM_TRAINING:]
_TRIES = 8
_FAN = np.array([6.0, 1.0, -4.0, -9.0])


def action_angles(name: str) -> np.ndarray:
    """The plain pose vector of an action, wrist and arm at rest."""
    shape, thumb, spread, _ = ACTIONS[name]
    out = np.zeros(pose.NUM_ANGLES)
    fingers = pose.fingers(out)
    fingers[:, 1:] = np.radians([_FINGER[s] for s in shape])
    fingers[:, 0] = np.radians(_FAN) * spread
    out[pose.THUMB] = np.radians(_THUMB[thumb])
    out[pose.CUP] = np.radians(12 if shape in ("FFFF", "CCCC", "GGGG") else 3)
    return out


def sample_pose(rng: np.random.Generator, arm: Arm, names: tuple[str, ...]) -> tuple[str, np.ndarray, np.ndarray]:
    """A natural pose without interpenetration: name of the action it leans to, angles, keypoints (21, 3) in hand axes.

    A third are between two actions, some are random within the limits; all vary from person to person.
    """
    best: tuple[float, str, np.ndarray, np.ndarray] = (np.inf, "", np.empty(0), np.empty(0))
    for _ in range(_TRIES):
        name, angles, target = _draw(rng, names)
        angles = pose.respect_anatomy(angles)
        if target is not None:
            angles = touch(arm, angles, target)
        keypoints = pose.phalanges(arm, angles)[1]
        depth = float(pose.penetration(arm, keypoints))
        if depth < best[0]:
            best = depth, name, angles, keypoints
        if depth < 0.001:
            break
    return best[1:]


def _draw(rng: np.random.Generator, names: tuple[str, ...]) -> tuple[str, np.ndarray, int | None]:
    name = names[rng.integers(len(names))]
    angles, target = action_angles(name), ACTIONS[name][3]
    kind = rng.random()
    if kind < 0.3:
        other = names[rng.integers(len(names))]
        share = rng.uniform(0.15, 0.85)
        angles = (1 - share) * angles + share * action_angles(other)
        target = target if share < 0.35 else None
    elif kind < 0.45:
        angles, target = _random_angles(rng), None
        name = "random"
    fingers = pose.fingers(angles)
    common = rng.normal(0, 0.1)
    for k in range(4):
        scale = 0.5 + 0.5 * min(fingers[k, 2] / 0.6, 1.5)
        fingers[k, 1] += (common + rng.normal(0, 0.11)) * 1.1
        fingers[k, 2] += (common + rng.normal(0, 0.13)) * scale
        fingers[k, 3] += (common + rng.normal(0, 0.10)) * scale
        fingers[k, 0] += rng.normal(0, 0.05)
    fingers[:, 0] += np.radians(_FAN) * rng.normal(0, 0.35)
    # Hands are closed with the knuckles bent anywhere from a third to all the way, and the last joint less than it
    # would bend by itself where the fingertip rests on the palm.
    closed = np.clip((fingers[:, 2] - 0.9) / 0.7, 0, 1)
    fingers[:, 1] -= max(rng.uniform(-0.5, 0.95), 0) * closed
    fingers[:, 3] *= 1 - max(rng.uniform(-0.5, 0.6), 0) * closed
    angles[pose.THUMB] += rng.normal(0, 1, 5) * np.radians([8, 7, 8, 12, 5])
    angles[pose.CUP] += abs(rng.normal(0, 0.08))
    return name, angles, target


def _random_angles(rng: np.random.Generator) -> np.ndarray:
    out = np.zeros(pose.NUM_ANGLES)
    fingers = pose.fingers(out)
    closed = np.clip(rng.beta(0.7, 0.7, 4), 0, 1)
    fingers[:, 1] = np.radians(-18 + 100 * np.clip(closed + rng.normal(0, 0.2, 4), 0, 1))
    fingers[:, 2] = np.radians(-2 + 108 * np.clip(closed + rng.normal(0, 0.2, 4), 0, 1))
    fingers[:, 3] = 0.55 * fingers[:, 2] + rng.normal(0, 0.15, 4)
    fingers[:, 0] = np.radians(_FAN) * rng.normal(0.5, 0.8)
    thumb = pose.LIMITS[pose.THUMB]
    out[pose.THUMB] = thumb[:, 0] + rng.beta(1.6, 1.6, 5) * (thumb[:, 1] - thumb[:, 0])
    return out


def touch(arm: Arm, angles: np.ndarray, target: int) -> np.ndarray:
    """Bring the thumb's tip to what an action says, staying near the given angles (Levenberg-Marquardt).

    target: as in ACTIONS. Where the hand cannot reach, the result is as near as it gets.
    """
    finger = abs(target)
    thumb = np.arange(16, 21)
    free = np.r_[4 * (finger - 1) + np.arange(1, 4), thumb] if target > 0 else thumb
    low, high = pose.LIMITS[free].T
    step, stiff = 1e-4, 0.8
    stiffness = np.eye(len(free)) / stiff**2
    out = angles.copy()
    for _ in range(12):
        trials = np.repeat(out[None], len(free) + 1, axis=0)
        trials[np.arange(len(free)), free] += step
        gaps = _contact_gaps(arm, trials, target) / 0.002
        if gaps[-1] @ gaps[-1] < 0.7**2:
            break
        slopes = ((gaps[:-1] - gaps[-1]) / step).T
        downhill = (angles[free] - out[free]) / stiff**2 - slopes.T @ gaps[-1]
        stuck = ((out[free] <= low) & (downhill < 0)) | ((out[free] >= high) & (downhill > 0))
        slopes, downhill = np.where(stuck, 0, slopes), np.where(stuck, 0, downhill)
        change = np.linalg.solve(slopes.T @ slopes + stiffness, downhill)
        out[free] += pose.within(change, -0.25, 0.25)
        out = pose.respect_anatomy(out)
    return out


def _contact_gaps(arm: Arm, angles: np.ndarray, target: int) -> np.ndarray:
    """(N, 3) metres from where the thumb's tip should be to where it is, in each of N poses."""
    frames, points = pose.phalanges(arm, angles)
    finger, bone = abs(target), 2 if target > 0 else 1
    radii = arm.radii[0, 2] + arm.radii[finger, bone]
    dorsal = frames[:, finger, bone, :, 2]
    if target > 0:  # pad to pad
        return points[:, 4] - points[:, 4 + 4 * finger] + 0.85 * radii * dorsal
    middle = 0.5 * (points[:, 2 + 4 * finger] + points[:, 3 + 4 * finger])
    return points[:, 4] - middle - 0.95 * radii * dorsal
