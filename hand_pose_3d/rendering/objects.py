"""Simple props that hands hold or that stand in front of them: their shapes and where a hand would hold them."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from hand_pose_3d.rendering import pose
from hand_pose_3d.rendering.character import Arm
from hand_pose_3d.skeleton import FINGER_BASES

_THINNEST_ROD_M = 0.007
"""Radius; a hand that has no room for as much holds nothing. Chosen by eye."""


@lru_cache(maxsize=8)
def unit_shape(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (V, 3), normals (V, 3), uv (V, 2), faces (F, 3) of a primitive; outside is counter-clockwise."""
    if kind == "box":
        return _box()
    turns, rings = 28, (2 if kind == "cylinder" else 15)
    angle = np.linspace(0, 2 * np.pi, turns + 1)
    v = np.linspace(0, 1, rings)
    u, v = (g.ravel() for g in np.meshgrid(angle, v))
    if kind == "cylinder":
        normals = np.stack([np.cos(u), np.zeros_like(u), np.sin(u)], axis=-1)
        vertices = 0.5 * normals + np.stack([0 * u, v - 0.5, 0 * u], axis=-1)
    else:
        polar = np.pi * (1 - v)
        normals = np.stack([np.sin(polar) * np.cos(u), np.cos(polar), np.sin(polar) * np.sin(u)], axis=-1)
        vertices = 0.5 * normals
    uv = np.stack([v, u / (2 * np.pi)], axis=-1)
    i = np.arange((rings - 1) * (turns + 1)).reshape(rings - 1, turns + 1)[:, :-1].ravel()
    j = i + turns + 1
    faces = np.concatenate([np.c_[i, j, i + 1], np.c_[i + 1, j, j + 1]])
    if kind == "cylinder":
        for sign in (-1, 1):
            start, edge = len(vertices), angle[:-1]
            rim = np.stack([0.5 * np.cos(edge), np.full(turns, 0.5 * sign), 0.5 * np.sin(edge)], axis=-1)
            vertices = np.vstack([vertices, [[0, 0.5 * sign, 0]], rim])
            normals = np.vstack([normals, np.tile([0, sign, 0], (turns + 1, 1))])
            uv = np.vstack([uv, np.tile([0.5 + 0.5 * sign, 0], (turns + 1, 1))])
            k = np.arange(turns)
            cap = np.c_[np.full(turns, start), start + 1 + (k + 1) % turns, start + 1 + k]
            faces = np.vstack([faces, cap if sign > 0 else cap[:, ::-1]])
    return vertices, normals, uv, faces.astype(np.int32)


def _box() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    vertices: list[np.ndarray] = []
    normals: list[np.ndarray] = []
    uv: list[tuple[float, float]] = []
    faces: list[tuple[int, int, int]] = []
    for axis in range(3):
        for sign in (-1, 1):
            n = np.zeros(3)
            n[axis] = sign
            a = np.roll(n, 1) * sign
            b = np.cross(n, a)
            start = len(vertices)
            for p, q in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                vertices.append(0.5 * (n + p * a + q * b))
                normals.append(n)
                uv.append((0.5 + 0.5 * p, 0.5 + 0.5 * q))
            faces += [(start, start + 1, start + 2), (start, start + 2, start + 3)]
    return np.array(vertices), np.array(normals), np.array(uv), np.array(faces, np.int32)


def _frame(axis: np.ndarray, hint: np.ndarray) -> np.ndarray:
    """Rotation whose y column is `axis` and whose x column is near `hint`."""
    y = axis / np.linalg.norm(axis)
    x = hint - y * (hint @ y)
    x = x / np.linalg.norm(x)
    return np.stack([x, y, np.cross(x, y)], axis=1)


class Shape(NamedTuple):
    """One part of an object, as of a :class:`~hand_pose_3d.rendering.scene.Prop`, in the hand frame."""

    kind: str
    size: np.ndarray
    rotation: np.ndarray
    centre: np.ndarray


class Rod(NamedTuple):
    """Room between palm and fingers: its middle (3,), its axis (3,) towards the index finger, its radius; metres."""

    centre: np.ndarray
    axis: np.ndarray
    radius: float


def held_object(rng: np.random.Generator, arm: Arm, keypoints: np.ndarray, style: str) -> list[Shape]:
    """The parts of something that fits this grasp; none where nothing does.

    style: 'pinch' for pens, cards and phones between thumb and fingers, 'wrap' for what fingers close around.
    """
    if style == "pinch":
        return [_pinched(rng, arm, keypoints)]
    ball = rng.random() < 0.15
    rod = room_for_rod(rng, arm, keypoints, 0.0 if ball else 0.045)
    if rod.radius < _THINNEST_ROD_M:
        return []
    radius = min(rod.radius + 0.0015, 0.06)
    if ball:
        return [Shape("ball", np.full(3, 2 * radius), _frame(rod.axis, np.array([0, 0, 1.0])), rod.centre)]
    kind = rng.choice(["plain", "tool", "pistol", "mug"], p=[0.45, 0.3, 0.13, 0.12])
    length = rng.uniform(0.08, 0.24)
    rotation = _frame(rod.axis, np.array([0, 0, 1.0]))
    centre = rod.centre + rod.axis * rng.uniform(-0.35, 0.35) * max(length - 0.08, 0)
    if rng.random() < 0.3:
        side = 2 * radius * 0.78
        handle = Shape("box", np.array([side, length, side * rng.uniform(0.6, 1)]), rotation, centre)
    else:
        handle = Shape("cylinder", np.array([2 * radius, length, 2 * radius]), rotation, centre)
    if kind == "plain":
        return [handle]
    return [handle, _head(rng, str(kind), handle, keypoints)]


def object_of_two_hands(rng: np.random.Generator, keypoints: np.ndarray) -> list[Shape]:
    """A handle, and mostly what it is the handle of, between two closed hands. keypoints: (21, 3) means of both."""
    axis = keypoints[5] - keypoints[17]
    rotation = _frame(axis, np.array([1.0, 0, 0]))
    centre = keypoints[[5, 8, 9, 12, 13, 16]].mean(axis=0)
    thickness = rng.uniform(0.02, 0.045)
    handle = Shape("cylinder", np.array([thickness, rng.uniform(0.1, 0.4), thickness]), rotation, centre)
    kind = str(rng.choice(["plain", "tool", "pistol"], p=[0.25, 0.3, 0.45]))
    return [handle] if kind == "plain" else [handle, _head(rng, kind, handle, keypoints)]


def _head(rng: np.random.Generator, kind: str, handle: Shape, keypoints: np.ndarray) -> Shape:
    """What a handle is the handle of: a tool's head, a pistol's barrel, a mug. Sizes chosen by eye."""
    axis, length = handle.rotation[:, 1], handle.size[1]
    forward = keypoints[FINGER_BASES].mean(axis=0) - keypoints[0]
    across = _frame(forward - axis * (forward @ axis), axis)  # y forward, x along the handle
    end = handle.centre + axis * length / 2
    if kind == "pistol":
        size = np.array([rng.uniform(0.025, 0.045), rng.uniform(0.12, 0.24), rng.uniform(0.02, 0.035)])
        return Shape("box", size, across, end + across[:, 1] * size[1] * rng.uniform(0.15, 0.35))
    if kind == "mug":
        size = np.array([rng.uniform(0.065, 0.1), rng.uniform(0.07, 0.12), 0.0])
        size[2] = size[0]
        bent = keypoints[[6, 10, 14]].mean(axis=0)
        return Shape("cylinder", size, handle.rotation, bent + across[:, 1] * (size[0] / 2 + 0.012))
    shape = str(rng.choice(["box", "cylinder", "ball"], p=[0.6, 0.25, 0.15]))
    size = np.array([rng.uniform(0.02, 0.09), rng.uniform(0.04, 0.16), rng.uniform(0.01, 0.06)])
    if shape != "box":
        size[2] = size[0]
    return Shape(shape, size, across, end + axis * size[0] * rng.uniform(0.1, 0.6))


def _pinched(rng: np.random.Generator, arm: Arm, keypoints: np.ndarray) -> Shape:
    """A stick or a flat thing between thumb and fingers."""
    thumb, index, middle = keypoints[4], keypoints[8], keypoints[12]
    fingers = index if rng.random() < 0.5 else 0.5 * (index + middle)
    gap = fingers - thumb
    between = 0.5 * (fingers + thumb)
    width = np.linalg.norm(gap) - arm.radii[0, 2] - arm.radii[1, 2]
    towards_palm = keypoints[5] - between
    if rng.random() < 0.5:  # a stick that rests in the web of the thumb
        web = 0.5 * (keypoints[2] + keypoints[5]) + np.array([0, 0, 0.012])
        axis = web - between + rng.normal(0, 0.012, 3)
        diameter = np.clip(width, 0.006, 0.03) if rng.random() < 0.7 else rng.uniform(0.006, 0.012)
        length = rng.uniform(0.09, 0.18)
        rotation = _frame(axis, gap)
        size = np.array([diameter, length, diameter])
        return Shape("cylinder", size, rotation, between + rotation[:, 1] * length * rng.uniform(0, 0.35))
    thickness = float(np.clip(width, 0.001, 0.05))
    flat = rng.uniform(0.04, 0.085), rng.uniform(0.05, 0.15)
    rotation = _frame(-towards_palm + rng.normal(0, 0.03, 3), gap)
    size = np.array([thickness, flat[1], flat[0]])
    return Shape("box", size, rotation, between + rotation[:, 1] * flat[1] * rng.uniform(0.1, 0.45))


def room_for_rod(rng: np.random.Generator, arm: Arm, keypoints: np.ndarray, half_m: float) -> Rod:
    """Where a rod of half the length half_m, across the palm, has the most room in a hand."""
    axis = keypoints[5] - keypoints[17]
    axis = axis / np.linalg.norm(axis) + rng.normal(0, 0.12, 3)
    axis /= np.linalg.norm(axis)
    centre, radius = _largest_room(keypoints, *pose.capsules(arm, keypoints), axis * half_m)
    return Rod(centre, axis, radius)


def _largest_room(
    keypoints: np.ndarray, starts: np.ndarray, ends: np.ndarray, radii: np.ndarray, half: np.ndarray
) -> tuple[np.ndarray, float]:
    """Centre between palm and fingers where the thickest rod of half-axis `half` fits: (centre, radius)."""
    knuckles = keypoints[FINGER_BASES].mean(axis=0)
    tips = keypoints[[8, 12, 16]].mean(axis=0)
    bent = keypoints[[6, 10, 14]].mean(axis=0)
    inside = 0.4 * knuckles + 0.35 * tips + 0.25 * bent
    y, z = np.meshgrid(np.linspace(-0.035, 0.035, 8), np.linspace(-0.03, 0.03, 8))
    candidates = inside + np.stack([0 * y, y, z], axis=-1).reshape(-1, 3)
    a, b = (candidates + half)[:, None], (candidates - half - 1e-6)[:, None]
    gaps = pose.segment_distances(a, b, starts[None], ends[None]) - radii
    room = gaps.min(axis=1)
    best = int(np.argmax(room))
    return candidates[best], float(room[best])


def sample_surface(rng: np.random.Generator) -> dict:
    """Colours and finish of a prop."""
    colours = rng.uniform(0.01, 0.95, (2, 3)) ** 1.8
    if rng.random() < 0.5:  # black, grey and white things are the most frequent
        colours = rng.uniform(0.01, 0.95, (2, 1)) ** 2.5 * np.exp(rng.normal(0, 0.12, (2, 3)))
    return {
        "colours": np.clip(colours, 0, 1),
        "stripes": float(rng.choice([0, 0, 2, 4, 9])),
        "along": bool(rng.random() < 0.5),
        "blotch": float(rng.choice([0, 1])),
        "metal": float(rng.random() < 0.12),
        "roughness": float(rng.uniform(0.25, 0.9)),
        "seed": float(rng.uniform(0, 90)),
    }
