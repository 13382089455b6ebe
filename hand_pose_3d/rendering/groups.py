"""Whole people, one to four in a picture, whose arms end in hands."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from hand_pose_3d.rendering import actions, arm_kinematics, postures
from hand_pose_3d.rendering.appearance import dress, sample_clothing, sample_skin
from hand_pose_3d.rendering.character import Arm
from hand_pose_3d.rendering.objects import object_of_two_hands, sample_surface
from hand_pose_3d.rendering.people import CAMERA_FACING, Body
from hand_pose_3d.rendering.pose import MIRROR, mirror_of
from hand_pose_3d.rendering.scene import IMAGE_SIZE, Clothing, HandInstance, Person, Prop, Skin
from hand_pose_3d.rendering.source import FrameSource
from hand_pose_3d.skeleton import FINGER_BASES, Side

DISTANCES_M = (0.4, 6.0)
_HAND_SHARES = (0.04, 0.3)
"""Of a picture's side that a hand of _HAND_M takes up."""
_HAND_M = 0.14
"""Extent of a half open hand."""
_APART_M = 0.5
_NEAREST_M = 0.16
"""From the lens to any joint of an arm, at least."""
_TRIES, _FURTHER = 8, 1.25
"""Tries of placing somebody, and how many times further away each is: the last is beyond any arm's reach."""
_SHADOW_M = 1.0
"""How far behind the nearest somebody still shares the shadow map."""
_SIMILAR = 8
"""Characters with the most similar arms that a body may have."""


@dataclass(frozen=True, eq=False)
class Figure:
    """Somebody in a posture, in body axes: who, arms (left, right mirrored to the left), names of hand poses."""

    index: int
    seated: bool
    body: Body
    arm: Arm
    arms: tuple[arm_kinematics.ArmPose, arm_kinematics.ArmPose]
    actions: tuple[str, str]
    postures: tuple[str, str]
    skin: Skin
    clothing: Clothing

    def points(self) -> np.ndarray:
        """(N, 3) outlines of both arms, in body axes."""
        left, right = (arm.outline() for arm in self.arms)
        return np.vstack([left, right @ MIRROR])


def sample_focal(rng: np.random.Generator) -> float:
    """Focal length in pixels of usual cameras: phones, webcams, cameras with a normal lens."""
    return IMAGE_SIZE * float(np.exp(rng.uniform(np.log(0.65), np.log(1.8))))


def sample_group(
    frame: FrameSource, intrinsics: np.ndarray, up: np.ndarray
) -> tuple[list[HandInstance], list[Person], list[Prop]]:
    """People, their hands and what they hold between both hands. up: (3,) in camera axes."""
    rng = frame.rng
    hands: list[HandInstance] = []
    people: list[Person] = []
    props: list[Prop] = []
    share = np.exp(rng.uniform(*np.log(_HAND_SHARES)))
    distance = float(np.clip(intrinsics[0, 0] * _HAND_M / (share * IMAGE_SIZE), *DISTANCES_M))
    places: list[np.ndarray] = []
    for _ in range(int(rng.choice([1, 2, 3, 4], p=[0.4, 0.32, 0.18, 0.1]))):
        figure = sample_figure(frame)
        for further in _FURTHER ** np.arange(_TRIES):
            placed = _place(rng, figure, intrinsics, up, float(distance * further))
            if placed is None:
                continue
            rotation, origin = placed
            trunk = rotation @ figure.body.shoulders.mean(axis=0) + origin
            if all(np.linalg.norm(trunk - other) > _APART_M for other in places):
                places.append(trunk)
                own_hands, person = stand(rng, figure, rotation, origin)
                hands += own_hands
                people.append(person)
                props += _carried(rng, figure, rotation, origin) + _glasses(rng, figure, rotation, origin)
                break
        distance = float(np.clip(distance * np.exp(rng.normal(0.05, 0.35)), *DISTANCES_M))
    nearest = min(p.origin_m[2] for p in people) if people else 0.0
    behind = [p.origin_m[2] > nearest + _SHADOW_M for p in people]
    people = [replace(p, background=b) for p, b in zip(people, behind, strict=True)]
    hands = [replace(h, background=behind[k // 2]) for k, h in enumerate(hands)]
    return hands, people, props


def sample_figure(frame: FrameSource) -> Figure:
    """Somebody in some posture."""
    rng, index = frame.rng, frame.body()
    seated = bool(rng.random() < 0.35)
    body = frame.source.people.body(index, seated)
    arm = _similar_arm(frame, body)
    chosen = postures.choose(rng, seated)
    pair = postures.PAIRS.get(chosen[0])
    near = chosen[0] in postures.TOUCHING_PAIRS
    made: list[arm_kinematics.ArmPose] = []
    hand_actions: list[str] = []
    for k, name in enumerate(chosen):
        posture = pair or postures.POSTURES[name]
        if k and posture.symmetric:
            made.append(made[0])
            hand_actions.append(hand_actions[0])
            continue
        action, angles, keypoints = actions.sample_pose(rng, arm, _allowed(posture, frame))
        obstacle = made[0].outline() @ MIRROR if made else None
        made.append(arm_kinematics.take(rng, posture, arm, body, angles, keypoints, bool(k), obstacle, near))
        hand_actions.append(action)
    clothing = sample_clothing(rng)
    gloved = clothing.glove or rng.random() < 0.06
    clothing = replace(clothing, thickness=float(rng.uniform(0.004, 0.01)), glove=gloved)
    return Figure(
        index=index,
        seated=seated,
        body=body,
        arm=arm,
        arms=(made[0], made[1]),
        actions=(hand_actions[0], hand_actions[1]),
        postures=chosen,
        skin=sample_skin(rng, frame.source),
        clothing=clothing,
    )


def _allowed(posture: postures.ArmPosture, frame: FrameSource) -> tuple[str, ...]:
    """Actions of the split that suit a posture, or all of them where none does."""
    return tuple(name for name in posture.actions if name in frame.actions) or frame.actions


def other_hand(
    frame: FrameSource, hand: HandInstance, body: Body, rotation: np.ndarray, origin: np.ndarray
) -> HandInstance | None:
    """What the other hand of somebody does of whom one hand is given; None if it would come too near to the lens."""
    rng, arm = frame.rng, hand.arm
    posture = postures.POSTURES[postures.choose_one(rng, False)]
    action, angles, keypoints = actions.sample_pose(rng, arm, _allowed(posture, frame))
    right = hand.side is Side.LEFT
    mirror = mirror_of(hand.side.other)
    placed = arm_kinematics.take(rng, posture, arm, body, angles, keypoints, right)
    depth = (placed.outline() @ mirror @ rotation.T + origin)[:, 2]
    if depth.min() < _NEAREST_M:
        return None
    turned = rotation @ mirror @ placed.rotation @ mirror
    wrist = rotation @ mirror @ placed.wrist + origin
    own = hand.side.other, arm, action, placed.angles, turned, wrist
    return HandInstance(*own, hand.skin, hand.clothing, True)


def _similar_arm(frame: FrameSource, body: Body) -> Arm:
    """The arm of a character whose upper arm is about as long as the body's."""
    characters, identities = frame.source.characters, np.array(frame.source.identities(frame.split))
    order = np.argsort(np.abs(np.log(characters.upper_arms_m[identities] / body.upper_arm_m)))
    return characters.arm(int(identities[order[frame.rng.integers(min(_SIMILAR, len(order)))]]))


def _turn(axis: int, angle: float) -> np.ndarray:
    return cv2.Rodrigues(np.eye(3)[axis] * angle)[0]


def level(up: np.ndarray) -> np.ndarray:
    """Rotation of axes with y down and z forward, level with the ground, into camera axes in which up (3,) is given."""
    forward = np.array([0, 0, 1.0]) - up * up[2]
    forward /= np.linalg.norm(forward)
    return np.stack([np.cross(-up, forward), -up, forward], axis=1)


def _place(
    rng: np.random.Generator, figure: Figure, intrinsics: np.ndarray, up: np.ndarray, distance: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Rotation and origin of a figure whose hand, or now and then trunk, is somewhere in the picture; None if a joint
    would come too near to the lens."""
    yaw = rng.normal(0, 0.6) if rng.random() < 0.75 else rng.uniform(-np.pi, np.pi)
    lean = _turn(0, rng.normal(0.03, 0.1)) @ _turn(2, rng.normal(0, 0.06))
    rotation = level(up) @ _turn(1, yaw) @ lean @ CAMERA_FACING
    side = rng.integers(2)
    aim = figure.arms[side].hand[9] * [1 - 2 * side, 1, 1]
    where = rng.uniform(0.06, 0.94, 2) * IMAGE_SIZE
    if rng.random() < 0.45:  # as photographers frame people
        aim = figure.body.shoulders.mean(axis=0) - [0, 0, 0.15]
        where = rng.uniform(0.25, 0.75, 2) * IMAGE_SIZE
    centre = np.array([*((where - intrinsics[:2, 2]) / intrinsics[0, 0]), 1]) * distance
    origin = centre - rotation @ aim
    joints = np.vstack([figure.points(), figure.body.shoulders, figure.body.head[None]])
    depth = (joints @ rotation.T + origin)[:, 2]
    return None if depth.min() < _NEAREST_M else (rotation, origin)


def stand(
    rng: np.random.Generator, figure: Figure, rotation: np.ndarray, origin: np.ndarray
) -> tuple[list[HandInstance], Person]:
    """A figure's hands and body in camera axes."""
    hands = []
    directions = np.zeros((2, 3))
    for k, (side, arm) in enumerate(zip((Side.LEFT, Side.RIGHT), figure.arms, strict=True)):
        mirror = mirror_of(side)
        turned = rotation @ mirror @ arm.rotation @ mirror
        wrist = rotation @ mirror @ arm.wrist + origin
        hands.append(
            HandInstance(
                side, figure.arm, figure.actions[k], arm.angles, turned, wrist, figure.skin, figure.clothing, True
            )
        )
        upper = mirror @ (arm.elbow - arm.shoulder)
        directions[k] = upper / np.linalg.norm(upper)
    return hands, dress(rng, figure.index, rotation, origin, hands[0], figure.seated, directions)


def _carried(rng: np.random.Generator, figure: Figure, rotation: np.ndarray, origin: np.ndarray) -> list[Prop]:
    """What is held between two hands, flat ones or closed ones."""
    left, right = figure.arms
    if figure.postures[0] == "gripping" and rng.random() < 0.85:
        parts = object_of_two_hands(rng, 0.5 * (left.hand + right.hand @ MIRROR))
        surfaces = (sample_surface(rng) for _ in parts)
        return [
            Prop(p.kind, p.size, rotation @ p.rotation, rotation @ p.centre + origin, **surface)
            for p, surface in zip(parts, surfaces)
        ]
    if figure.postures[0] != "carrying" or rng.random() < 0.2:
        return []
    a, b = left.hand, right.hand @ MIRROR
    centre = 0.5 * (a[FINGER_BASES].mean(axis=0) + b[FINGER_BASES].mean(axis=0))
    width = a[:, 0].min() - b[:, 0].max() - 0.02
    if width < 0.03:
        return []
    size = np.array([width, *rng.uniform(0.06, 0.25, 2)])
    kind = "box" if rng.random() < 0.8 else "ball"
    if kind == "ball":
        size[:] = width
    centre[0] = 0.5 * (a[:, 0].min() + b[:, 0].max())
    return [Prop(kind, size, rotation, rotation @ centre + origin, **sample_surface(rng))]


def _glasses(rng: np.random.Generator, figure: Figure, rotation: np.ndarray, origin: np.ndarray) -> list[Prop]:
    """Sun glasses, now and then."""
    if rng.random() < 0.8:
        return []
    dark = {"colours": rng.uniform(0.004, 0.06, (2, 3)), "stripes": 0.0, "metal": 0.0, "roughness": 0.3}
    surface = sample_surface(rng) | dark
    height = rng.uniform(0.022, 0.045)
    width = rng.uniform(0.044, 0.054)
    lenses = [[x, -0.026, 0, width, 0.004, height] for x in (-0.031, 0.031)]
    temples = [[x, 0.02, 0.3 * height, 0.004, 0.1, 0.005] for x in (-0.068, 0.068)]
    parts = np.array([*lenses, *temples, [0, -0.026, 0.3 * height, 0.13, 0.004, 0.005]])
    centres = (figure.body.head + parts[:, :3]) @ rotation.T + origin
    return [Prop("box", size, rotation, centre, **surface) for size, centre in zip(parts[:, 3:], centres, strict=True)]
