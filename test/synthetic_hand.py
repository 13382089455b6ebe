"""A hand by forward kinematics: known angles in, keypoints out."""

import numpy as np
from scipy.spatial.transform import Rotation

from hand_pose_3d.hands import HandPose
from hand_pose_3d.skeleton import FINGERS, Side

# Right hand in its wrist frame (x to the middle finger's base, y to the thumb, z out of the back), metres.
BASES = {
    "thumb": (0.022, 0.024, -0.008),
    "index": (0.0818, 0.0221, 0.0),
    "middle": (0.0798, 0.0, 0.0),
    "ring": (0.0740, -0.0163, -0.0019),
    "little": (0.0673, -0.0317, -0.0058),
}
LENGTHS = {
    "thumb": (0.044, 0.034, 0.028),
    "index": (0.042, 0.025, 0.023),
    "middle": (0.047, 0.029, 0.024),
    "ring": (0.043, 0.028, 0.024),
    "little": (0.033, 0.020, 0.021),
}
HINGES = {"thumb": ("mcp", "ip"), **dict.fromkeys(FINGERS[1:], ("pip", "dip"))}
FIRST = {"thumb": "cmc", **dict.fromkeys(FINGERS[1:], "mcp")}


UPRIGHT = np.array(
    [[0, 0]]
    + [[-20 - 8 * k, -20 - 12 * k] for k in range(4)]
    + [[x, -60 - 15 * k] for x in (-15, 0, 12, 24) for k in range(4)],
    dtype=float,
)
"""(21, 2) pixels of a hand whose fingers point up."""


def turned(keypoints: np.ndarray, angle: float) -> np.ndarray:
    """Keypoints turned clockwise (v points down) about the origin."""
    c, s = np.cos(angle), np.sin(angle)
    return keypoints @ np.array([[c, -s], [s, c]]).T


def rotation_y(angle: float) -> np.ndarray:
    return Rotation.from_euler("y", angle).as_matrix()


def rotation_z(angle: float) -> np.ndarray:
    return Rotation.from_euler("z", angle).as_matrix()


def palm_frame() -> np.ndarray:
    """Columns: to the middle finger's base, to the thumb's side, dorsal."""
    ahead = np.array(BASES["middle"]) / np.linalg.norm(BASES["middle"])
    across = np.subtract(BASES["index"], BASES["little"])
    across = across - (across @ ahead) * ahead
    across /= np.linalg.norm(across)
    return np.stack([ahead, across, np.cross(ahead, across)], axis=1)


def keypoints_of(angles: dict[str, float], side: Side = Side.RIGHT, lengths: dict | None = None) -> np.ndarray:
    """(21, 3) metres in the wrist frame."""
    points = [np.zeros(3)]
    for finger in FINGERS:
        first = FIRST[finger]
        flexion, abduction = (
            angles.get(f"{finger}_{first}_flexion", 0.0),
            angles.get(f"{finger}_{first}_abduction", 0.0),
        )
        frame = palm_frame()
        if finger == "thumb":
            # Flexion swings across the palm about the dorsal axis, abduction out of the palm's plane.
            roll = Rotation.from_euler("x", -60, degrees=True).as_matrix()
            frame = frame @ rotation_z(-flexion) @ rotation_y(abduction) @ roll
        else:
            sign = 1.0 if finger in ("index", "middle") else -1.0
            frame = frame @ rotation_y(flexion) @ rotation_z(sign * abduction)
        point = np.array(BASES[finger])
        points.append(point)
        bones = (lengths or LENGTHS)[finger]
        for bone, hinge in zip(bones, (*HINGES[finger], None), strict=True):
            point = point + bone * frame[:, 0]
            points.append(point)
            if hinge:
                frame = frame @ rotation_y(angles.get(f"{finger}_{hinge}_flexion", 0.0))
    out = np.array(points)
    return out if side == Side.RIGHT else out * [1, -1, 1]


def relaxed(rng: np.random.Generator) -> dict[str, float]:
    """Random angles of an everyday hand."""
    angles = {"thumb_cmc_flexion": rng.uniform(-1.0, 0.2), "thumb_cmc_abduction": rng.uniform(0, 0.8)}
    for finger in FINGERS:
        if finger != "thumb":
            angles[f"{finger}_mcp_flexion"] = rng.uniform(-0.2, 1.4)
            angles[f"{finger}_mcp_abduction"] = rng.uniform(-0.15, 0.3)
        for hinge in HINGES[finger]:
            angles[f"{finger}_{hinge}_flexion"] = rng.uniform(0, 1.2)
    return angles


def hand_from(keypoints_m: np.ndarray, keypoints_px: np.ndarray, side: Side = Side.RIGHT, **fields) -> HandPose:
    """HandPose as an estimator hands it over: relative, not placed."""
    fields = {"side_score": 0.95, "score": 0.9, "keypoint_scores": np.full(21, 0.9), **fields}
    return HandPose.from_keypoints(side, np.asarray(keypoints_px, dtype=float), keypoints_m, **fields)
