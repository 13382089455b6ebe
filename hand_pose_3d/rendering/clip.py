"""The built-in clips: two rendered hands that move as stated, with the truth about every frame.

``python -m hand_pose_3d.rendering.clip --out hand_pose_3d/data`` writes clip.mp4 and clip.json, hands that appear, move
and leave; with ``--motion teleop_clip`` hands that drive a robot: the left one's pinch is the clutch, the right one
is followed.
Nothing but the project's own renders is in them: no environment map, no texture.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hand_pose_3d.rendering.actions import ACTIONS, action_angles, touch
from hand_pose_3d.rendering.character import Arm
from hand_pose_3d.rendering.pose import ELBOW, WRIST_ANGLES, respect_anatomy
from hand_pose_3d.rendering.sampling import sample_scene
from hand_pose_3d.rendering.scene import HandInstance, Scene
from hand_pose_3d.rendering.sequences import FPS, HEIGHT, WIDTH, SequenceMaker, camera_of, film, gentle, write_sequence
from hand_pose_3d.rendering.source import Source
from hand_pose_3d.skeleton import Side

FOCAL_PX = 560.0  # of a 640x480 webcam with a horizontal view of 60 degrees
_SEED, _SCENE = 2017, 24  # data set and frame whose appearance and light the clip has; chosen by eye
_SLEEVES = (0.03, 0.06, 0.16)  # linear RGB

# time in seconds, action, wrist (metres, camera frame), turn about the camera's x, y and z (degrees)
_Key = tuple[float, str, tuple[float, float, float], tuple[float, float, float]]
RIGHT: tuple[_Key, ...] = (
    (0.0, "open", (0.05, 0.10, 0.52), (0, 0, 4)),
    (0.6, "spread", (0.06, 0.09, 0.50), (-8, 12, -6)),
    (1.2, "point", (0.08, 0.10, 0.50), (0, -14, -10)),
    (1.8, "pinch", (0.10, 0.09, 0.48), (-6, -24, -4)),
    (2.3, "two", (0.11, 0.10, 0.50), (0, 6, 8)),
    (2.8, "open", (0.13, 0.10, 0.52), (0, 0, 10)),
    (3.2, "relaxed", (0.50, 0.16, 0.54), (0, 0, 30)),
    (3.7, "relaxed", (0.50, 0.16, 0.54), (0, 0, 30)),
    (4.3, "open", (0.07, 0.10, 0.52), (0, 0, 6)),
    (5.0, "open", (0.05, 0.10, 0.52), (0, 0, 4)),
)
LEFT: tuple[_Key, ...] = (
    (0.0, "relaxed", (-0.50, 0.16, 0.55), (0, 0, -30)),
    (1.3, "relaxed", (-0.50, 0.16, 0.55), (0, 0, -30)),
    (1.9, "open", (-0.13, 0.10, 0.52), (0, 0, -6)),
    (2.4, "fist", (-0.12, 0.08, 0.50), (0, 16, 0)),
    (3.0, "thumb up", (-0.10, 0.06, 0.48), (0, -20, -8)),
    (3.6, "grasp ball", (-0.08, 0.07, 0.47), (-14, 10, 0)),
    (4.1, "spread", (-0.12, 0.09, 0.51), (0, 0, -8)),
    (4.6, "relaxed", (-0.50, 0.16, 0.55), (0, 0, -30)),
    (5.0, "relaxed", (-0.50, 0.16, 0.55), (0, 0, -30)),
)
# Reach over an object, down, grasp, lift, carry to the side, put down, release, up: as if watching the robot.
LEAD: tuple[_Key, ...] = (
    (0.0, "open", (-0.12, -0.05, 0.66), (0, -34, -4)),
    (1.6, "open", (-0.12, -0.05, 0.66), (0, -34, -4)),
    (3.2, "open", (0.00, -0.04, 0.58), (0, -34, -4)),
    (3.5, "open", (0.00, -0.04, 0.58), (0, -34, -4)),
    (5.2, "open", (0.00, 0.16, 0.58), (0, -34, -4)),
    (5.5, "open", (0.00, 0.16, 0.58), (0, -34, -4)),
    (6.3, "pinch, touching", (0.00, 0.16, 0.58), (0, -34, -4)),
    (6.8, "pinch, touching", (0.00, 0.16, 0.58), (0, -34, -4)),
    (8.3, "pinch, touching", (0.00, -0.02, 0.58), (0, -34, -4)),
    (10.2, "pinch, touching", (-0.20, -0.02, 0.60), (0, -34, -4)),
    (11.6, "pinch, touching", (-0.20, 0.15, 0.60), (0, -34, -4)),
    (11.9, "pinch, touching", (-0.20, 0.15, 0.60), (0, -34, -4)),
    (12.7, "open", (-0.20, 0.15, 0.60), (0, -34, -4)),
    (13.0, "open", (-0.20, 0.15, 0.60), (0, -34, -4)),
    (14.2, "open", (-0.18, -0.02, 0.62), (0, -34, -4)),
    (15.0, "open", (-0.18, -0.02, 0.62), (0, -34, -4)),
)
CLUTCH: tuple[_Key, ...] = (
    (0.0, "open", (0.20, 0.06, 0.62), (0, 34, 6)),
    (0.8, "open", (0.20, 0.06, 0.62), (0, 34, 6)),
    (1.1, "pinch, touching", (0.20, 0.06, 0.62), (0, 34, 6)),
    (14.3, "pinch, touching", (0.20, 0.06, 0.62), (0, 34, 6)),
    (14.6, "open", (0.20, 0.06, 0.62), (0, 34, 6)),
    (15.0, "open", (0.20, 0.06, 0.62), (0, 34, 6)),
)
MOTIONS = {"clip": {Side.RIGHT: RIGHT, Side.LEFT: LEFT}, "teleop_clip": {Side.RIGHT: LEAD, Side.LEFT: CLUTCH}}
"""By file name. A clip is as long as its motion."""


def _angles(name: str, arm: Arm) -> np.ndarray:
    """The pose vector of an action; with ", touching" appended, the thumb is moved to what it touches."""
    action, _, touching = name.partition(", ")
    contact = ACTIONS[action][0].contact
    plain = action_angles(action)
    return touch(arm, plain, contact) if touching and contact is not None else plain


def moment(keys: Sequence[_Key], time_s: float, arm: Arm) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(angles, wrist (3,) metres, turns (3,) radians) between two keys, with smooth start and end."""
    after = next((k for k, key in enumerate(keys) if key[0] > time_s), len(keys) - 1)
    (start, first, *a), (end, second, *b) = keys[after - 1], keys[after]
    share = gentle((time_s - start) / (end - start))
    angles, wrist, turns = (
        (1 - share) * np.asarray(p, float) + share * np.asarray(q, float)
        for p, q in zip((_angles(first, arm), *a), (_angles(second, arm), *b), strict=True)
    )
    angles[WRIST_ANGLES] = 0.08 * np.sin(2.1 * time_s), 0.05 * np.sin(1.7 * time_s)
    angles[ELBOW] = 0.9
    return respect_anatomy(angles), wrist, np.radians(turns)


def hand_at(keys: Sequence[_Key], time_s: float, side: Side, like: HandInstance) -> HandInstance:
    """One hand at a time, palm to the camera and fingers up, with the appearance of another."""
    from scipy.spatial.transform import Rotation

    angles, wrist, turns = moment(keys, time_s, like.arm)
    upright = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]) @ np.diag([-1.0, 1, -1])
    rotation = Rotation.from_euler("xyz", turns).as_matrix() @ upright
    return dataclasses.replace(
        like, side=side, angles=angles, rotation_camera_hand=rotation, wrist_camera_m=wrist, action="clip"
    )


def _scenery(source: Source) -> Scene:
    """Light, skin and background of the clip: those of a sampled scene."""
    scene = sample_scene(source, "evaluation", _SEED, _SCENE)
    size = max(WIDTH, HEIGHT)
    middle = (size - 1) / 2
    return dataclasses.replace(
        scene,
        intrinsics=np.array([[FOCAL_PX, 0, middle], [0, FOCAL_PX, middle], [0, 0, 1]]),
        environment=None,
        clutter=True,
        background_blur=2.5,
        props=(),
        people=(),
    )


def scenes(times: Sequence[float], source: Source, motion: str = "clip") -> Iterator[Scene]:
    """The scene of each time in seconds of a motion."""
    scenery = _scenery(source)
    like = scenery.hands[0]
    sleeves = dataclasses.replace(like.clothing, colours=np.broadcast_to(_SLEEVES, like.clothing.colours.shape))
    like = dataclasses.replace(like, skin=dataclasses.replace(like.skin, texture=None), clothing=sleeves)
    for time_s in times:
        hands = tuple(hand_at(MOTIONS[motion][side], time_s, side, like) for side in (Side.LEFT, Side.RIGHT))
        yield dataclasses.replace(scenery, hands=hands)


def write_clip(folder: Path, motion: str = "clip", seconds: float | None = None) -> None:
    """Write a motion's MP4 and JSON into a folder."""
    from tqdm import tqdm

    maker = SequenceMaker(None)
    seconds = MOTIONS[motion][Side.RIGHT][-1][0] if seconds is None else seconds
    times = [k / FPS for k in range(round(seconds * FPS))]
    frames = film(scenes(times, maker.source, motion), maker.source, maker.rasteriser)
    camera = camera_of(_scenery(maker.source).intrinsics)
    print(write_sequence(folder / motion, tqdm(frames, total=len(times), unit="frame"), camera))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--motion", choices=MOTIONS, default="clip")
    parser.add_argument("--seconds", type=float)
    chosen = parser.parse_args()
    write_clip(chosen.out, chosen.motion, chosen.seconds)
