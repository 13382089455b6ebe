"""Frames drawn at random, from (seed, split, index) alone, wherever and in whatever order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from hand_pose_3d.rendering import actions, groups, pose
from hand_pose_3d.rendering.background import environment_or_made_up, rotate_harmonics
from hand_pose_3d.rendering.looks import dress, sample_clothing, sample_skin
from hand_pose_3d.rendering.objects import Thing, held_thing, sample_surface
from hand_pose_3d.rendering.people import CAMERA_FACING
from hand_pose_3d.rendering.scene import (
    IMAGE_SIZE,
    SPLITS,
    Clothing,
    HandInstance,
    Lighting,
    Person,
    Photo,
    Scene,
    SkinLook,
    Source,
)
from hand_pose_3d.skeleton import FINGER_BASES, Side


def frame_generator(seed: int, split: str, index: int) -> np.random.Generator:
    """The only source of chance of one frame."""
    return np.random.default_rng([seed, SPLITS.index(split), index])


def sample_scene(source: Source, split: str, seed: int, index: int, people: float = 0.0) -> Scene:
    """Draw frame `index` of data set `seed`. people: share of frames with whole people; others stay what they are."""
    own = np.random.default_rng([seed, SPLITS.index(split), index, 2])
    if own.random() < people:
        return _sample_people_scene(own, source, split, seed, index)
    rng = frame_generator(seed, split, index)
    focal = IMAGE_SIZE * float(np.exp(rng.uniform(np.log(0.75), np.log(2.1))))
    centre = (IMAGE_SIZE - 1) / 2 + rng.normal(0, 4, 2)
    intrinsics = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
    identities = source.identities(split)
    character = int(identities[rng.integers(len(identities))])
    skin, clothing = sample_skin(rng, source), sample_clothing(rng)
    names = actions.TRAINING if split == "training" else actions.EVALUATION
    side = Side.LEFT if rng.random() < 0.5 else Side.RIGHT
    view = str(rng.choice(["facing", "egocentric", "free"], p=[0.58, 0.12, 0.3]))
    first = _sample_hand(rng, source, names, side, character, skin, clothing, view, intrinsics, None)
    hands = [first]
    if rng.random() < 0.32:
        if rng.random() < 0.15:  # somebody else's hand
            character = int(identities[rng.integers(len(identities))])
            skin, clothing = sample_skin(rng, source), sample_clothing(rng)
        for _ in range(4):
            second = _sample_hand(rng, source, names, side.other, character, skin, clothing, view, intrinsics, first)
            if _gap(source, first, second) > 0.022:  # hands may touch but not run into one another
                hands.append(second)
                break
    things = _sample_things(rng, source, hands)
    crowd = _sample_people(rng, source, split, names, view, intrinsics, hands)
    hands.sort(key=lambda h: h.side)
    return _surround(rng, source, split, seed, index, intrinsics, hands, things, crowd, view, _sample_camera(rng))


def _sample_people_scene(rng: np.random.Generator, source: Source, split: str, seed: int, index: int) -> Scene:
    centre = (IMAGE_SIZE - 1) / 2 + rng.normal(0, 4, 2)
    focal = groups.sample_focal(rng)
    intrinsics = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
    names = actions.TRAINING if split == "training" else actions.EVALUATION
    rotation = _sample_camera(rng)
    hands, people, things = groups.sample_group(rng, source, split, names, intrinsics, rotation[1])
    things += _sample_things(rng, source, hands, in_front=0.0)
    return _surround(rng, source, split, seed, index, intrinsics, hands, things, people, "people", rotation)


def _surround(
    rng: np.random.Generator,
    source: Source,
    split: str,
    seed: int,
    index: int,
    intrinsics: np.ndarray,
    hands: list[HandInstance],
    things: list[Thing],
    crowd: list[Person],
    view: str,
    rotation: np.ndarray,
) -> Scene:
    """The scene of what is in front, in some place and light, taken with some camera."""
    environments = source.environments(split)
    environment = environments[rng.integers(len(environments))] if environments and rng.random() < 0.72 else None
    background_seed = int(rng.integers(2**31))
    lighting = _sample_lighting(rng, environment, rotation, background_seed)
    return Scene(
        split=split,
        seed=seed,
        index=index,
        intrinsics=intrinsics,
        hands=tuple(hands),
        lighting=lighting,
        environment=environment.name if environment else None,
        rotation_world_camera=rotation,
        background_seed=background_seed,
        background_exposure=lighting.exposure * float(np.exp(rng.normal(-0.1, 0.45))),
        background_blur=float(rng.choice([0, rng.uniform(0.5, 5)], p=[0.7, 0.3])),
        clutter=bool(environment is None or rng.random() < 0.15),
        view=view,
        photo=_sample_photo(rng),
        things=tuple(things),
        people=tuple(crowd),
        tags=("held object",) * bool(things) + ("person",) * bool(crowd),
    )


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Uniform over all rotations."""
    from scipy.spatial.transform import Rotation

    q = rng.normal(size=4)
    return Rotation.from_quat(q / np.linalg.norm(q)).as_matrix()


def _rotation_vector(vector: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.Rodrigues(vector)[0]


_TYPICAL = 0.7
"""Share of the views that are not free which follow from what the hand does."""


def _sample_view(rng: np.random.Generator, view: str, action: str) -> np.ndarray:
    """Rotation of the left hand frame into camera axes: often as people hold a hand that does this action."""
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
    rng: np.random.Generator,
    source: Source,
    names: tuple[str, ...],
    side: Side,
    character: int,
    skin: SkinLook,
    clothing: Clothing,
    view: str,
    intrinsics: np.ndarray,
    other: HandInstance | None,
) -> HandInstance:
    arm = source.characters.arm(character)
    action, angles, points = actions.sample_pose(rng, arm, names)
    mirror = np.diag([-1.0 if side is Side.RIGHT else 1.0, 1, 1])
    motion = np.zeros((len(arm.template.bones), 3, 4))
    for _ in range(8):
        angles[pose.WRIST] = np.clip(rng.normal(0, [0.33, 0.16]), *pose.LIMITS[pose.WRIST].T)
        angles[pose.TWIST] = rng.uniform(*pose.LIMITS[pose.TWIST]) * 0.8
        angles[pose.ELBOW] = rng.uniform(0.1, 2.1)
        rotation = _sample_view(rng, view, action)
        if side is Side.RIGHT:  # the mirror image of what the left hand would do
            flip = np.diag([-1.0, 1, 1])
            rotation = flip @ rotation @ flip
        pose.move_forearm(arm, angles, motion)
        elbow, shoulder = (joint @ mirror @ rotation.T for joint in pose.arm_joints(arm, motion))
        # An arm across the lens hides everything: its far end stays about as far away, or well below the view.
        if min(elbow[1], shoulder[1]) > 0.1 if view == "egocentric" else min(elbow[2], shoulder[2]) > -0.12:
            break
    points = points @ mirror
    turned = points @ rotation.T
    focal = intrinsics[0, 0]
    if other is None:
        fill = rng.uniform(0.3, 0.85) if rng.random() < 0.55 else np.exp(rng.uniform(np.log(0.11), np.log(0.5)))
        extent = np.ptp(turned[:, :2], axis=0).max()
        extent = max(extent, 0.1)
        distance = np.clip(focal * extent / (fill * IMAGE_SIZE), 0.17, 2.5)
    else:
        distance = np.clip(other.wrist_camera_m[2] + rng.normal(0, 0.06), 0.17, 2.5)
    turned_centre = 0.5 * (turned.min(axis=0) + turned.max(axis=0))
    box_px = focal * np.ptp(turned[:, :2], axis=0) / distance
    room = np.maximum(IMAGE_SIZE - box_px, 0) / 2
    spread = room * (0.9 if rng.random() < 0.86 else 0) + (0 if rng.random() < 0.86 else 0.5) * box_px
    where = (IMAGE_SIZE - 1) / 2 + np.clip(rng.uniform(-1, 1, 2) * (spread + 0.08 * box_px), -150, 150)
    wrist = np.array([*((where - intrinsics[:2, 2]) / focal * distance), distance]) - turned_centre
    wrist[2] = max(wrist[2], 0.14 - turned[:, 2].min())
    return HandInstance(side, character, action, angles, rotation, wrist, skin, clothing)


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


def _sample_things(
    rng: np.random.Generator, source: Source, hands: list[HandInstance], in_front: float = 0.05
) -> list[Thing]:
    """Things that hands hold, and now and then something in front of them."""
    things = []
    for hand in hands:
        likely = hand.action in _WRAPS or hand.action in _PINCHES
        if rng.random() < (0.62 if likely else 0.1):
            arm = source.characters.arm(hand.character)
            points = pose.posed(arm, hand)[1]
            pinch = hand.action in _PINCHES or (hand.action not in _WRAPS and rng.random() < 0.3)
            held = held_thing(rng, arm, points, "pinch" if pinch else "wrap")
            if held is not None:
                kind, size, rotation, centre = held
                mirror = np.diag([-1.0 if hand.side is Side.RIGHT else 1.0, 1, 1])
                place = hand.rotation_camera_hand @ mirror
                turned = place @ rotation @ mirror  # shapes are their own mirror images
                things.append(Thing(kind, size, turned, place @ centre + hand.wrist_camera_m, **sample_surface(rng)))
    if rng.random() < in_front:  # a thing between camera and hand
        near = hands[0].wrist_camera_m * rng.uniform(0.6, 0.85) + rng.normal(0, 0.05, 3)
        size = np.exp(rng.uniform(np.log(0.01), np.log(0.09), 3)) * near[2] / 0.4
        kind = str(rng.choice(["cylinder", "box", "ball"]))
        things.append(Thing(kind, size, random_rotation(rng), near, **sample_surface(rng)))
    return things


def _sample_people(
    rng: np.random.Generator,
    source: Source,
    split: str,
    names: tuple[str, ...],
    view: str,
    intrinsics: np.ndarray,
    hands: list[HandInstance],
) -> list[Person]:
    """The hands' owner where that is possible, and others in the background; their further hands join `hands`."""
    people = []
    far = max(h.wrist_camera_m[2] for h in hands)
    indices = source.people.indices(split)
    if view != "egocentric" and rng.random() < 0.5:
        index = int(indices[rng.integers(len(indices))])
        owner = _owner(rng, source, names, index, hands)
        if owner is not None:
            people.append(owner)
    if rng.random() < (0.2 if people else 0.3):
        figure = groups.sample_figure(rng, source, split, names)
        distance = max(rng.uniform(0.5, 2.8), far + 0.3)
        pixel = rng.uniform(0, IMAGE_SIZE, 2)
        face = np.array([*((pixel - intrinsics[:2, 2]) / intrinsics[0, 0] * distance), distance])
        rotation = _lean(rng, 1.2)
        origin = face - rotation @ figure.body.head
        if (figure.points() @ rotation.T + origin)[:, 2].min() > min(far + 0.1, 1.0):
            others, person = groups.stand(rng, source, figure, rotation, origin)
            hands += [replace(hand, background=True) for hand in others]
            people.append(replace(person, background=True))
    return people


def _lean(rng: np.random.Generator, turn: float) -> np.ndarray:
    yaw = _rotation_vector(np.array([0, rng.normal(0, turn), 0]))
    return yaw @ _rotation_vector(np.array([rng.normal(0, 0.12), 0, rng.normal(0, 0.08)])) @ CAMERA_FACING


def _owner(
    rng: np.random.Generator, source: Source, names: tuple[str, ...], index: int, hands: list[HandInstance]
) -> Person | None:
    """A body at the shoulder of the first hand, upright, if it then stands behind the hands; its other hand joins."""
    body = source.people.body(index)
    hand = hands[0]
    arm = source.characters.arm(hand.character)
    motion, _ = pose.posed(arm, hand)
    mirror = np.diag([-1.0 if hand.side is Side.RIGHT else 1.0, 1, 1])
    shoulder = hand.rotation_camera_hand @ mirror @ pose.arm_joints(arm, motion)[1] + hand.wrist_camera_m
    rotation = _lean(rng, 0.5)
    side = 0 if hand.side is Side.LEFT else 1
    origin = shoulder - rotation @ body.shoulders[side]
    head = rotation @ body.head + origin
    far = max(h.wrist_camera_m[2] for h in hands)
    if head[2] < far + 0.08 or shoulder[2] < far - 0.02:
        return None
    person = dress(rng, source, index, rotation, origin, hand, 2)
    if len(hands) == 1:
        other = groups.other_hand(rng, source, names, hand, body, rotation, origin)
        if other is None:
            return None
        hands.append(other)
    return person


def _gap(source: Source, a: HandInstance, b: HandInstance) -> float:
    """Least distance (metres) between the keypoints and forearms of two hands."""

    def points(hand: HandInstance) -> np.ndarray:
        arm = source.characters.arm(hand.character)
        motion, keypoints = pose.posed(arm, hand)
        elbow, _ = pose.arm_joints(arm, motion)
        palm = np.linspace(0.3, 0.8, 3)[:, None, None] * keypoints[FINGER_BASES]
        all_points = np.vstack([keypoints, palm.reshape(-1, 3), np.linspace(0.1, 1, 8)[:, None] * elbow])
        mirror = np.array([-1.0 if hand.side is Side.RIGHT else 1.0, 1, 1])
        return all_points * mirror @ hand.rotation_camera_hand.T + hand.wrist_camera_m

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
    env = environment_or_made_up(environment, background_seed)
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


def _sample_photo(rng: np.random.Generator) -> Photo:
    def sometimes(chance: float, low: float, high: float) -> float:
        return float(rng.uniform(low, high)) if rng.random() < chance else 0.0

    return Photo(
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
