"""From a scene's values to meshes, uniforms and exact labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.images import read_pixels
from hand_pose_3d.rendering import mesh, pose
from hand_pose_3d.rendering.background import (
    CLUTTER_WHITE,
    Environment,
    clutter,
    environment_or_procedural,
    perspective_view,
)
from hand_pose_3d.rendering.character import Arm
from hand_pose_3d.rendering.objects import unit_shape
from hand_pose_3d.rendering.people import Body
from hand_pose_3d.rendering.scene import IMAGE_SIZE, HandInstance, Person, Prop, Scene
from hand_pose_3d.rendering.source import Source
from hand_pose_3d.skeleton import Side

_TEXTURE_SIDE = 1024  # pixels
_COARSE_BELOW_PX = 320
_SHOULDER_M, _TUCK_M = 0.09, 0.028
"""How far from its end an arm starts to grow thinner, and by how much it is at the end."""


@dataclass(eq=False)
class SceneMesh:
    """An arm, a body or a prop in camera axes.

    moving: (R, 6) float32, position and normal. still: (R' >= R, 11) float32, an array that many frames share: rest 3,
    traits 4 (palm, redness, metres up the arm, nail), uv 2, part 1, crease 1. faces: (F, 3), such an array too.
    uniforms: of the shader. texture: (name, RGB picture). mirrored: faces run clockwise. shadow_faces: coarser ones.
    """

    moving: np.ndarray
    still: np.ndarray
    faces: np.ndarray
    uniforms: dict[str, Any]
    texture: tuple[str, np.ndarray] | None = None
    casts_shadow: bool = True
    mirrored: bool = False
    shadow_faces: np.ndarray | None = None


@dataclass(eq=False)
class Assembly:
    """What the engine draws, and the truth about it.

    keypoints_m: of each arm its side and the (21, 3) camera-frame keypoints, public order. background: (S, S, 3) uint8.
    environment: where lighting's harmonics come from, in world axes. seed: of whatever chance an engine takes.
    """

    intrinsics: np.ndarray
    arms: list[SceneMesh]
    props: list[SceneMesh]
    lighting: dict[str, Any]
    background: np.ndarray
    shadow_centre: np.ndarray
    shadow_radius: float
    environment: Environment
    rotation_world_camera: np.ndarray
    seed: int
    keypoints_m: list[tuple[Side, np.ndarray]] = field(default_factory=list)


def assemble(scene: Scene, source: Source) -> Assembly:
    """Pose, place and dress everything in a scene."""
    arms, keypoints = [], []
    for hand in scene.hands:
        arm_mesh, points = _arm_mesh(hand, source, scene.intrinsics[0, 0])
        arms.append(arm_mesh)
        keypoints.append((hand.side, points))
    everything = np.concatenate([p for h, (_, p) in zip(scene.hands, keypoints, strict=True) if not h.background])
    centre = 0.5 * (everything.min(axis=0) + everything.max(axis=0))
    radius = float(np.linalg.norm(everything - centre, axis=1).max()) + 0.05
    light = scene.lighting
    return Assembly(
        intrinsics=scene.intrinsics,
        arms=arms,
        props=[_prop_mesh(p) for p in scene.props] + [_person_mesh(p, source) for p in scene.people],
        lighting={
            "key": tuple(map(float, light.key)),
            "key_direction": tuple(map(float, light.key_direction)),
            "fill": tuple(map(float, light.fill)),
            "fill_direction": tuple(map(float, light.fill_direction)),
            "sh": light.harmonics,
            "exposure": light.exposure,
        },
        background=background_picture(scene, source),
        shadow_centre=centre,
        shadow_radius=radius,
        environment=_environment(scene, source),
        rotation_world_camera=scene.rotation_world_camera,
        seed=scene.background_seed,
        keypoints_m=keypoints,
    )


def _environment(scene: Scene, source: Source) -> Environment:
    path = None if scene.environment is None else source.environment(scene.environment)
    return environment_or_procedural(path, scene.background_seed)


def tone_curve(linear: np.ndarray) -> np.ndarray:
    """The shader's curve from linear light to sRGB 0..1."""
    c = np.clip(linear, 0, None)
    return np.clip(c * (1 + 0.12 * c) / (1 + 0.36 * c), 0, 1) ** np.float32(1 / 2.2)


_BRIGHTEST = 1.27
"""Linear light that the curve takes to full white."""
_FINENESS = 1.25
"""Pixels of a view for each of the environment map's, at least."""
_SHARPEST_PX = 1.5
"""Standard deviation of a blur that a picture must still be able to hold."""


def background_picture(scene: Scene, source: Source) -> np.ndarray:
    """The picture (S, S, 3) uint8 behind everything."""
    import cv2

    rng = np.random.default_rng(scene.background_seed)
    # Square roots of light, of which 255 is `white`: about as fine as the eye, and bytes are quick.
    if scene.clutter or scene.environment is None:
        roots, white, strength = clutter(rng, IMAGE_SIZE), CLUTTER_WHITE, 1.2
    else:
        env, focal = _environment(scene, source), scene.intrinsics[0, 0] * 0.8
        # No more pixels than the map has there, which leaves less to do.
        size = min(round(IMAGE_SIZE * _FINENESS * env.pixels.shape[1] / (2 * np.pi * focal)), IMAGE_SIZE)
        light = perspective_view(env, scene.rotation_world_camera, focal * size / IMAGE_SIZE, size)
        mean = float(light.mean())
        strength = min(max(mean, 0.3), 1.5) / mean
        white = _BRIGHTEST / (strength * scene.background_exposure)
        roots = cv2.convertScaleAbs(cv2.sqrt(light), alpha=255 * white**-0.5)
    shown = tone_curve(white * strength * scene.background_exposure * np.linspace(0, 1, 256) ** 2)
    picture = cv2.LUT(roots, np.round(shown * 255).astype(np.uint8))
    if scene.background_blur > 0:
        # As few pixels as hold a blurred picture, for the same reason.
        size = min(round(IMAGE_SIZE * _SHARPEST_PX / scene.background_blur), len(picture))
        picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
        picture = cv2.GaussianBlur(picture, (0, 0), scene.background_blur * size / IMAGE_SIZE)
    return cv2.resize(picture, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_LINEAR)


def _arm_mesh(hand: HandInstance, source: Source, focal: float) -> tuple[SceneMesh, np.ndarray]:
    arm, t = hand.arm, hand.arm.template
    motion, points = hand.posed
    place = hand.rotation_camera_pose
    camera_points = points @ place.T + hand.wrist_camera_m
    span_px = np.ptp(camera_points[:, :2], axis=0).max() / camera_points[:, 2].mean() * focal
    level = t.coarse if span_px < _COARSE_BELOW_PX else t.fine

    welded = pose.skin(arm, motion, level.faces_at_vertex.shape[0])
    normals = mesh.vertex_normals(welded, level.faces, level.faces_at_vertex)
    turn, still, shown = place.T.astype(np.float32), _at_rest(arm), level.render_source
    normals = (normals @ turn).take(shown, axis=0)
    cover = pose.within((still[: len(shown), 5] - hand.clothing.sleeve) * 60, 0, 1) * hand.clothing.thickness
    if hand.clothing.glove:
        cover = np.maximum(cover, 0.001)
    if hand.attached:  # the end goes down into the shoulder that covers it
        shoulder = still[:, 5].max()
        cover -= pose.within((still[: len(shown), 5] - shoulder + _SHOULDER_M) / _SHOULDER_M, 0, 1) * _TUCK_M
    placed = welded @ turn + hand.wrist_camera_m.astype(np.float32)
    moving = np.hstack([placed.take(shown, axis=0) + normals * cover[:, None].astype(np.float32), normals])
    texture = skin_texture(source.skin(hand.skin.texture)) if hand.skin.texture else None
    palm = float(np.linalg.norm(points[9]))
    uniforms = _arm_uniforms(hand, texture, *pose.capsules(arm, camera_points), camera_points, palm)
    picture = (str(hand.skin.texture), texture[0]) if texture else None
    faces, shadow_faces = level.render_faces, t.coarse.render_faces
    shadow, mirrored = not hand.background, hand.side is Side.RIGHT
    return SceneMesh(moving, still, faces, uniforms, picture, shadow, mirrored, shadow_faces), camera_points


@cache
def _at_rest(arm: Arm) -> np.ndarray:
    """What no pose changes of an arm's vertices, as in :class:`SceneMesh`, with a left hand's part labels."""
    t = arm.template
    source = t.fine.render_source
    columns = [arm.vertices[source], arm.attributes[:, :3], t.nail[:, None], t.uv, t.part[source, None]]
    return np.hstack([*columns, arm.attributes[:, 3:]]).astype(np.float32)


def _arm_uniforms(
    hand: HandInstance,
    texture: tuple | None,
    starts: np.ndarray,
    ends: np.ndarray,
    radii: np.ndarray,
    points: np.ndarray,
    palm: float,
) -> dict[str, Any]:
    skin, clothing = hand.skin, hand.clothing
    ring, ring_axis = np.zeros(4), np.zeros(3)
    if clothing.ring:
        finger, along = clothing.ring
        a, b = points[1 + 4 * finger], points[2 + 4 * finger]
        ring = np.array([*(a + along * (b - a)), 0.0022])
        ring_axis = (b - a) / np.linalg.norm(b - a)
    return {
        **_PLAIN,
        "material": 0,
        "label_shift": 16.0 if hand.side is Side.RIGHT else 0.0,
        "num_capsules": len(starts),
        "capsule_start": np.c_[starts, radii],
        "capsule_end": ends,
        "ring": ring,
        "ring_axis": ring_axis,
        "base": tuple(map(float, skin.base)),
        "roughness": skin.roughness,
        "bump": skin.bump,
        "blotch": skin.blotch,
        "seed": skin.seed,
        "veins": skin.veins,
        "hair": skin.hair,
        "palm_light": skin.palm_light * (0.5 if texture else 1.0),
        "nail_colour": tuple(map(float, skin.nail_colour)),
        "creases": skin.creases,
        "trousers": 99.0,
        "palm": palm,
        "texture_share": skin.texture_share,
        "texture_mean": tuple(map(float, texture[1])) if texture else (1.0, 1.0, 1.0),
        "sleeve": clothing.sleeve,
        "cloth_a": tuple(map(float, clothing.colours[0])),
        "cloth_b": tuple(map(float, clothing.colours[1])),
        "stripes": clothing.stripes,
        "cloth_kind": float(clothing.along),
        "glove": float(clothing.glove),
        "watch": (*clothing.watch, 0.0),
        "metal": tuple(map(float, clothing.metal)),
    }


def _prop_mesh(prop: Prop) -> SceneMesh:
    vertices, normals, _, faces = unit_shape(prop.kind)
    positions = (vertices * prop.size) @ prop.rotation.T + prop.centre_m
    turned = normals / prop.size
    turned = turned / np.linalg.norm(turned, axis=1, keepdims=True) @ prop.rotation.T
    moving = np.hstack([positions, turned]).astype(np.float32)
    uniforms = {
        **_PLAIN,
        "material": 1,
        "roughness": prop.roughness,
        "bump": 0.05,
        "blotch": prop.blotch,
        "seed": prop.seed,
        "texture_share": prop.metal,
        "cloth_a": tuple(map(float, prop.colours[0])),
        "cloth_b": tuple(map(float, prop.colours[1])),
        "metal": tuple(map(float, prop.colours[0])),
        "stripes": prop.stripes,
        "cloth_kind": float(prop.along),
        "rest_scale": tuple(map(float, prop.size)),
    }
    return SceneMesh(moving, _unit_at_rest(prop.kind), faces, uniforms)


@cache
def _unit_at_rest(kind: str) -> np.ndarray:
    """What all props of a kind share, as in :class:`SceneMesh`; their size stretches its rest."""
    vertices, _, uv, _ = unit_shape(kind)
    none = np.zeros((len(vertices), 4))
    return np.hstack([vertices, none, uv, none[:, :1], none[:, :1] + 1]).astype(np.float32)


_PLAIN: dict[str, Any] = {
    "num_capsules": 0,
    "ring": (0.0, 0.0, 0.0, 0.0),
    "watch": (0.0, 0.0, 0.0, 0.0),
    "glove": 0.0,
    "sleeve": 9.0,
    "creases": 0.0,
    "palm": 0.08,
    "label_shift": 0.0,
    "rest_scale": (1.0, 1.0, 1.0),
}


def _person_mesh(person: Person, source: Source) -> SceneMesh:
    """A body in the arm's own material: cloth above a 'sleeve' of 0.5, hair in the place of nails."""
    body = source.people.body(person.body, person.seated)
    still = _dressed(body, person.short_sleeves, person.hair_m > 0)
    cloth, hair = _covered(body, person.short_sleeves), person.hair_m * body.hair
    normals = body.normals
    positions = body.vertices + normals * (0.018 * cloth + hair)[:, None]
    if person.arm_directions is not None:
        positions, normals = _shrugged(body, person.arm_directions, positions)
    turn = person.rotation.T.astype(np.float32)
    moving = np.hstack([positions @ turn + person.origin_m.astype(np.float32), normals @ turn])
    skin = person.skin
    texture = skin_texture(source.skin(skin.texture)) if skin.texture else None
    uniforms = {
        **_PLAIN,
        "material": 0,
        "base": tuple(map(float, skin.base)),
        "roughness": skin.roughness,
        "bump": skin.bump,
        "blotch": skin.blotch,
        "seed": skin.seed,
        "veins": 0.0,
        "hair": 0.0,
        "palm_light": 0.0,
        "nail_colour": tuple(map(float, person.hair_colour)),
        "texture_share": skin.texture_share,
        "texture_mean": tuple(map(float, texture[1])) if texture else (1.0, 1.0, 1.0),
        "sleeve": 0.5,
        "trousers": 1.6,
        "trouser_colour": tuple(map(float, person.trouser_colour)),
        "cloth_a": tuple(map(float, person.colours[0])),
        "cloth_b": tuple(map(float, person.colours[1])),
        "stripes": person.stripes,
        "cloth_kind": 1.0,
        "metal": (0.9, 0.9, 0.9),
    }
    picture = (str(skin.texture), texture[0]) if texture else None
    return SceneMesh(moving, still, body.faces, uniforms, picture, not person.background)


def _shrugged(body: Body, directions: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and normals (R, 3) of a body whose shoulders follow upper arms along directions (2, 3)."""
    positions, normals = positions.astype(np.float32), body.normals.copy()
    for shoulder, weight, rest, direction in zip(
        body.shoulders, body.arm_weights, body.arm_directions, directions, strict=True
    ):
        near = np.flatnonzero(weight > 0.01)
        turn = pose.between(rest, direction)
        share = weight[near, None]
        offset = positions[near] - shoulder
        positions[near] += (share * (offset @ turn.T - offset)).astype(np.float32)
        normals[near] += (share * (normals[near] @ turn.T - normals[near])).astype(np.float32)
    return positions, normals


def _covered(body: Body, short_sleeves: bool) -> np.ndarray:
    """(R,) 0..1 where a shirt or trousers cover a body."""
    return body.cloth * (1 - body.bare_arm) if short_sleeves else body.cloth


@cache
def _dressed(body: Body, short_sleeves: bool, hairy: bool) -> np.ndarray:
    """What nothing changes of a body in such clothes, as in :class:`SceneMesh`."""
    nothing = np.zeros((len(body.vertices), 2))
    up = _covered(body, short_sleeves) + 2 * body.legs
    hair = body.hair if hairy else nothing[:, 0]
    columns = [body.vertices, nothing, up[:, None], hair[:, None], body.uv, nothing + 1]
    return np.hstack(columns).astype(np.float32)


@lru_cache(maxsize=32)
def skin_texture(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A MakeHuman skin (H, W, 3) uint8 RGB, first row at v = 0, and its mean squared colour over the hand's island."""
    import cv2

    image = read_pixels(path, cv2.IMREAD_COLOR)
    image = cv2.resize(image, (_TEXTURE_SIDE, _TEXTURE_SIDE), interpolation=cv2.INTER_AREA)[::-1, :, ::-1]
    island = image[
        int(0.02 * _TEXTURE_SIDE) : int(0.1 * _TEXTURE_SIDE), int(0.62 * _TEXTURE_SIDE) : int(0.7 * _TEXTURE_SIDE)
    ]
    mean = ((island / 255.0) ** 2).reshape(-1, 3).mean(axis=0)
    return np.ascontiguousarray(image), mean
