"""Frames drawn at random, from (seed, split, index) alone, wherever and in whatever order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hand_pose_3d.rendering import actions, groups, pose
from hand_pose_3d.rendering.appearance import dress, sample_clothing, sample_skin
from hand_pose_3d.rendering.background import environment_or_procedural, rotate_harmonics
from hand_pose_3d.rendering.character import Arm
from hand_pose_3d.rendering.objects import Shape, held_object, room_for_rod, sample_surface
from hand_pose_3d.rendering.people import CAMERA_FACING
from hand_pose_3d.rendering.scene import (
    IMAGE_SIZE,
    CameraEffects,
    Clothing,
    HandInstance,
    Lighting,
    Person,
    Prop,
    Scene,
    Skin,
)
from hand_pose_3d.rendering.source import FrameSource, Source
from hand_pose_3d.skeleton import FINGER_BASES, Side


class Owner(NamedTuple):
    """Owner of a hand: shape, skin and clothes."""

    arm: Arm
    skin: Skin
    clothing: Clothing


@dataclass(frozen=True, eq=False)
class Shot:
    """The camera: kind of view ('facing', 'egocentric', 'free' or 'people') and intrinsics (3, 3)."""

    view: str
    intrinsics: np.ndarray


def sample_scene(source: Source, split: str, seed: int, index: int, people: float = 0.0) -> Scene:
    """Draw frame `index` of data set `seed`. people: share of frames with whole people; others stay what they are."""
    frame = FrameSource.of_frame(source, split, seed, index, 2)
    if frame.rng.random() < people:
        return _sample_people_scene(frame)
    return _sample_hand_scene(FrameSource.of_frame(source, split, seed, index))


def _sample_hand_scene(frame: FrameSource) -> Scene:
    rng = frame.rng
    focal = IMAGE_SIZE * float(np.exp(rng.uniform(np.log(0.75), np.log(2.1))))
    intrinsics = _intrinsics(focal, (IMAGE_SIZE - 1) / 2 + rng.normal(0, 4, 2))
    owner = _sample_owner(frame)
    side = Side.LEFT if rng.random() < 0.5 else Side.RIGHT
    shot = Shot(str(rng.choice(["facing", "egocentric", "free"], p=[0.58, 0.12, 0.3])), intrinsics)
    first = _sample_hand(frame, shot, owner, side)
    hands = [first]
    held = _held_wrist(frame, shot, first) if first.action in _WRAPS and rng.random() < _WRIST_SHARE else None
    if held is not None:
        hands.append(held)
    elif rng.random() < 0.32:
        if rng.random() < 0.15:  # another person's hand
            owner = _sample_owner(frame)
        for _ in range(4):
            second = _sample_hand(frame, shot, owner, side.other, distance_m=first.wrist_camera_m[2])
            if _gap(first, second) > 0.022:  # hands may touch but not run into one another
                hands.append(second)
                break
    props = _sample_props(rng, hands[1:] if held is not None else hands)
    people, further = _sample_people(frame, shot, hands)
    hands = sorted(hands + further, key=lambda h: h.side)
    return _surround(frame, shot, hands, props, people, _sample_camera(rng))


def _sample_people_scene(frame: FrameSource) -> Scene:
    rng = frame.rng
    centre = (IMAGE_SIZE - 1) / 2 + rng.normal(0, 4, 2)
    shot = Shot("people", _intrinsics(groups.sample_focal(rng), centre))
    rotation = _sample_camera(rng)
    hands, people, props = groups.sample_group(frame, shot.intrinsics, rotation[1])
    props += _sample_props(rng, hands, in_front=0.0)
    return _surround(frame, shot, hands, props, people, rotation)


def _intrinsics(focal: float, centre: np.ndarray) -> np.ndarray:
    return np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])


def _sample_owner(frame: FrameSource) -> Owner:
    return Owner(frame.arm(), sample_skin(frame.rng, frame.source), sample_clothing(frame.rng))


def _surround(
    frame: FrameSource,
    shot: Shot,
    hands: list[HandInstance],
    props: list[Prop],
    people: list[Person],
    rotation: np.ndarray,
) -> Scene:
    """A scene of the given foreground with random background, light and camera effects."""
    rng, environment = frame.rng, frame.environment()
    background_seed = int(rng.integers(2**31))
    lighting = _sample_lighting(rng, environment, rotation, background_seed)
    return Scene(
        intrinsics=shot.intrinsics,
        hands=tuple(hands),
        lighting=lighting,
        environment=environment.name if environment else None,
        rotation_world_camera=rotation,
        background_seed=background_seed,
        background_exposure=lighting.exposure * float(np.exp(rng.normal(-0.1, 0.45))),
        background_blur=float(rng.choice([0, rng.uniform(0.5, 5)], p=[0.7, 0.3])),
        clutter=bool(environment is None or rng.random() < 0.15),
        view=shot.view,
        camera_effects=_sample_camera_effects(rng),
        props=tuple(props),
        people=tuple(people),
        tags=("object",) * bool(props) + ("person",) * bool(people),
    )


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Uniform over all rotations."""
    from scipy.spatial.transform import Rotation

    q = rng.normal(size=4)
    return Rotation.from_quat(q / np.linalg.norm(q)).as_matrix()


def _rotation_vector(vector: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.Rodrigues(vector)[0]


_NEAREST_M = 0.12
"""Least distance from the camera of a hand whose wrist is held; chosen by eye."""
_TYPICAL = 0.7
"""Share of the non-free views that follow from the hand's action; chosen by eye."""


def _sample_view(rng: np.random.Generator, view: str, action: str) -> np.ndarray:
    """Rotation of the left hand frame into camera axes: often the usual view of a hand in this action."""
    if view == "free":
        return random_rotation(rng)
    if rng.random() < _TYPICAL:
        return actions.typical_view(rng, action, view == "egocentric")
    away = rng.random() < (0.6 if view == "facing" else 0.2)  # palm towards the camera: the back looks away
    upright = np.diag([-1.0, -1.0, 1.0] if away else [1.0, -1.0, -1.0])
    angle = rng.uniform(0, 2 * np.pi)
    tilt = abs(rng.normal(0, 0.55)) * np.array([np.cos(angle), np.sin(angle), 0])
    roll = rng.normal(0, 0.6) if rng.random() < 0.7 else rng.uniform(-np.pi, np.pi)
    if view == "egocentric":  # from behind and above, fingers forward and away
        tilt = np.array([-rng.uniform(0.1, 1.2), rng.normal(0, 0.4), 0])
        roll = rng.normal(0, 0.5)
    return _rotation_vector(np.array([0, 0, roll])) @ _rotation_vector(tilt) @ upright


def _sample_hand(
    frame: FrameSource, shot: Shot, owner: Owner, side: Side, distance_m: float | None = None
) -> HandInstance:
    """A hand in some pose, somewhere in the picture; distance_m: about how far away, None for any distance."""
    rng, arm, focal = frame.rng, owner.arm, shot.intrinsics[0, 0]
    action, angles, points = actions.sample_pose(rng, arm, frame.actions)
    mirror = pose.mirror_of(side)
    motion = np.zeros((len(arm.template.bones), 3, 4))
    for _ in range(8):
        angles[pose.WRIST_ANGLES] = np.clip(rng.normal(0, [0.33, 0.16]), *pose.LIMITS[pose.WRIST_ANGLES].T)
        angles[pose.TWIST] = rng.uniform(*pose.LIMITS[pose.TWIST]) * 0.8
        angles[pose.ELBOW] = rng.uniform(0.1, 2.1)
        rotation = mirror @ _sample_view(rng, shot.view, action) @ mirror  # of a right hand the left one's mirror image
        pose.move_forearm(arm, angles, motion)
        elbow, shoulder = (joint @ mirror @ rotation.T for joint in pose.arm_joints(arm, motion))
        # An arm in front of the lens would hide everything: its far end stays at about the same distance, or below the
        # view.
        if min(elbow[1], shoulder[1]) > 0.1 if shot.view == "egocentric" else min(elbow[2], shoulder[2]) > -0.12:
            break
    points = points @ mirror
    turned = points @ rotation.T
    if distance_m is None:
        fill = rng.uniform(0.3, 0.85) if rng.random() < 0.55 else np.exp(rng.uniform(np.log(0.11), np.log(0.5)))
        extent = np.ptp(turned[:, :2], axis=0).max()
        extent = max(extent, 0.1)
        distance = np.clip(focal * extent / (fill * IMAGE_SIZE), 0.17, 2.5)
    else:
        distance = np.clip(distance_m + rng.normal(0, 0.06), 0.17, 2.5)
    turned_centre = 0.5 * (turned.min(axis=0) + turned.max(axis=0))
    box_px = focal * np.ptp(turned[:, :2], axis=0) / distance
    room = np.maximum(IMAGE_SIZE - box_px, 0) / 2
    spread = room * (0.9 if rng.random() < 0.86 else 0) + (0 if rng.random() < 0.86 else 0.5) * box_px
    where = (IMAGE_SIZE - 1) / 2 + np.clip(rng.uniform(-1, 1, 2) * (spread + 0.08 * box_px), -150, 150)
    wrist = np.array([*((where - shot.intrinsics[:2, 2]) / focal * distance), distance]) - turned_centre
    wrist[2] = max(wrist[2], 0.14 - turned[:, 2].min())
    return HandInstance(side, arm, action, angles, rotation, wrist, owner.skin, owner.clothing)


_WRIST_SHARE = 0.3
"""Share of grasping hands that hold another hand's wrist, where it fits; chosen by eye."""
_LEAST_WRIST_M = 0.014
"""Least radius of the room in a grasp for a wrist, into which the fingers then press a little; chosen by eye."""


def _held_wrist(frame: FrameSource, shot: Shot, holder: HandInstance) -> HandInstance | None:
    """A hand whose wrist the holder grips; None if the grasp is too tight or the hand too near to the camera."""
    rng = frame.rng
    rod = room_for_rod(rng, holder.arm, holder.posed[1], 0.02)
    if rod.radius < _LEAST_WRIST_M:
        return None
    hand = _sample_hand(frame, shot, _sample_owner(frame), holder.side.other, holder.wrist_camera_m[2])
    elbow = pose.arm_joints(hand.arm, hand.posed[0])[0] @ hand.rotation_camera_pose.T
    axis = holder.rotation_camera_pose @ rod.axis * rng.choice([-1, 1])
    turn = pose.between(elbow / np.linalg.norm(elbow), axis)
    turn = _rotation_vector(axis * rng.uniform(-np.pi, np.pi)) @ turn
    gripped = holder.rotation_camera_pose @ rod.centre + holder.wrist_camera_m
    wrist = gripped - axis * rng.uniform(0.03, 0.07)
    held = replace(hand, rotation_camera_hand=turn @ hand.rotation_camera_hand, wrist_camera_m=wrist)
    points = held.posed[1] @ held.rotation_camera_pose.T + wrist
    far = pose.arm_joints(held.arm, held.posed[0])[1] @ held.rotation_camera_pose.T + wrist
    return held if min(points[:, 2].min(), far[2]) > _NEAREST_M else None


_WRAPS = ("grasp cylinder", "grasp can", "grasp handle", "grasp ball", "letter C", "hook", "claw")
_PINCHES = (
    "pinch",
    "ok",
    "pinch closed",
    "three finger pinch",
    "pen",
    "grasp plate",
    "grasp card",
    "middle pinch",
    "tabletop",
)


def _sample_props(rng: np.random.Generator, hands: list[HandInstance], in_front: float = 0.05) -> list[Prop]:
    """Objects in the hands, and sometimes one in front of them."""
    props = []
    for hand in hands:
        likely = hand.action in _WRAPS or hand.action in _PINCHES
        if rng.random() < (0.62 if likely else 0.1):
            pinch = hand.action in _PINCHES or (hand.action not in _WRAPS and rng.random() < 0.3)
            surface = sample_surface(rng)
            for part in held_object(rng, hand.arm, hand.posed[1], "pinch" if pinch else "wrap"):
                props.append(_in_camera(hand, part, surface))
                surface = sample_surface(rng) if rng.random() < 0.6 else surface
    if rng.random() < in_front:  # something between camera and hand
        near = hands[0].wrist_camera_m * rng.uniform(0.6, 0.85) + rng.normal(0, 0.05, 3)
        size = np.exp(rng.uniform(np.log(0.01), np.log(0.09), 3)) * near[2] / 0.4
        kind = str(rng.choice(["cylinder", "box", "ball"]))
        props.append(Prop(kind, size, random_rotation(rng), near, **sample_surface(rng)))
    return props


def _in_camera(hand: HandInstance, part: Shape, surface: dict) -> Prop:
    place = hand.rotation_camera_pose
    turned = place @ part.rotation @ hand.mirror  # shapes are symmetric
    return Prop(part.kind, part.size, turned, place @ part.centre + hand.wrist_camera_m, **surface)


def _sample_people(
    frame: FrameSource, shot: Shot, hands: list[HandInstance]
) -> tuple[list[Person], list[HandInstance]]:
    """The hands' owner where that is possible, others in the background, and the further hands of all of them."""
    rng, intrinsics = frame.rng, shot.intrinsics
    people: list[Person] = []
    further: list[HandInstance] = []
    far = max(h.wrist_camera_m[2] for h in hands)
    if shot.view != "egocentric" and rng.random() < 0.5:
        body = _body_of(frame, hands)
        if body is not None:
            people.append(body[0])
            further += body[1]
    if rng.random() < (0.2 if people else 0.3):
        figure = groups.sample_figure(frame)
        distance = max(rng.uniform(0.5, 2.8), far + 0.3)
        pixel = rng.uniform(0, IMAGE_SIZE, 2)
        face = np.array([*((pixel - intrinsics[:2, 2]) / intrinsics[0, 0] * distance), distance])
        rotation = _lean(rng, 1.2)
        origin = face - rotation @ figure.body.head
        if (figure.points() @ rotation.T + origin)[:, 2].min() > min(far + 0.1, 1.0):
            others, person = groups.stand(rng, figure, rotation, origin)
            further += [replace(hand, background=True) for hand in others]
            people.append(replace(person, background=True))
    return people, further


def _lean(rng: np.random.Generator, turn: float) -> np.ndarray:
    yaw = _rotation_vector(np.array([0, rng.normal(0, turn), 0]))
    return yaw @ _rotation_vector(np.array([rng.normal(0, 0.12), 0, rng.normal(0, 0.08)])) @ CAMERA_FACING


def _body_of(frame: FrameSource, hands: list[HandInstance]) -> tuple[Person, list[HandInstance]] | None:
    """A body at the shoulder of the first hand, upright, if it then stands behind the hands, and its other hand."""
    rng, hand, index = frame.rng, hands[0], frame.body()
    body = frame.source.people.body(index)
    shoulder = hand.rotation_camera_pose @ pose.arm_joints(hand.arm, hand.posed[0])[1] + hand.wrist_camera_m
    rotation = _lean(rng, 0.5)
    side = 0 if hand.side is Side.LEFT else 1
    origin = shoulder - rotation @ body.shoulders[side]
    head = rotation @ body.head + origin
    far = max(h.wrist_camera_m[2] for h in hands)
    if head[2] < far + 0.08 or shoulder[2] < far - 0.02:
        return None
    person = dress(rng, index, rotation, origin, hand)
    if len(hands) > 1:
        return person, []
    other = groups.other_hand(frame, hand, body, rotation, origin)
    return None if other is None else (person, [other])


def _gap(a: HandInstance, b: HandInstance) -> float:
    """Least distance (metres) between the keypoints and forearms of two hands."""

    def points(hand: HandInstance) -> np.ndarray:
        motion, keypoints = hand.posed
        elbow, _ = pose.arm_joints(hand.arm, motion)
        palm = np.linspace(0.3, 0.8, 3)[:, None, None] * keypoints[FINGER_BASES]
        all_points = np.vstack([keypoints, palm.reshape(-1, 3), np.linspace(0.1, 1, 8)[:, None] * elbow])
        return all_points @ hand.rotation_camera_pose.T + hand.wrist_camera_m

    return float(np.linalg.norm(points(a)[:, None] - points(b)[None], axis=-1).min())


def _sample_camera(rng: np.random.Generator) -> np.ndarray:
    """Camera axes (x right, y down, z forward) in world axes (y up)."""
    level = np.diag([-1.0, -1.0, 1.0])  # x right is -x of the world when looking along z
    yaw = _rotation_vector(np.array([0, rng.uniform(-np.pi, np.pi), 0]))
    pitch = _rotation_vector(np.array([rng.normal(0.12, 0.3), 0, 0]))
    roll = _rotation_vector(np.array([0, 0, rng.normal(0, 0.1)]))
    return yaw @ pitch @ level @ roll


def _sample_lighting(
    rng: np.random.Generator, environment: Path | None, rotation: np.ndarray, background_seed: int
) -> Lighting:
    env = environment_or_procedural(environment, background_seed)
    harmonics = rotate_harmonics(env.harmonics, rotation)
    if rng.random() < 0.6:
        direction = env.sun @ rotation
    else:
        direction = rng.normal(size=3) + [0, -0.7, -0.5]
    direction = direction + rng.normal(0, 0.1, 3)
    direction /= np.linalg.norm(direction)
    strength = rng.uniform(0.1, 1.2) + env.sun_share * rng.uniform(0, 2.5)
    tint = np.exp(rng.normal(0, 0.1, 3))
    fill_direction = rng.normal(size=3) + [0, 0, -0.8]
    fill = rng.uniform(0, 0.35) * np.exp(rng.normal(0, 0.15, 3))
    ambient = float(harmonics[0].mean())
    total = ambient + 0.45 * strength + 0.5 * fill.mean()
    return Lighting(
        harmonics=harmonics,
        key_direction=direction,
        key=strength * tint,
        fill_direction=fill_direction / np.linalg.norm(fill_direction),
        fill=fill,
        exposure=float(np.exp(rng.normal(0.0, 0.38)) / total),
    )


def _sample_camera_effects(rng: np.random.Generator) -> CameraEffects:
    def sometimes(chance: float, low: float, high: float) -> float:
        return float(rng.uniform(low, high)) if rng.random() < chance else 0.0

    return CameraEffects(
        motion_px=sometimes(0.15, 1.5, 9),
        motion_angle=float(rng.uniform(0, np.pi)),
        defocus_px=sometimes(0.3, 0.3, 1.8),
        noise=sometimes(0.75, 0.003, 0.045),
        shrink=sometimes(0.2, 0.3, 0.9),
        jpeg_quality=int(rng.integers(35, 100)) if rng.random() < 0.7 else 0,
        gain=np.exp(rng.normal(0, 0.06, 3)),
        gamma=float(np.exp(rng.normal(0, 0.12))),
        saturation=float(rng.uniform(0.6, 1.3)),
    )
