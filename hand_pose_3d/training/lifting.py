"""Stage lifting: canonical pose and viewpoint from 21 score maps and the hand's side.

Needs no images: true poses are turned to new views, projected, and spoilt as PoseNet's answers are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from hand_pose_3d.geometry import normalise, to_canonical
from hand_pose_3d.networks.lite import lifting_maps
from hand_pose_3d.skeleton import Side
from hand_pose_3d.tracking import crop_from_pose


@dataclass(frozen=True)
class LiftingAugmentation:
    """How inputs are drawn. Lengths are shares of the crop's edge."""

    turn: float = 0.2  # standard deviation of rotation about the upright crop, radians
    any_turn: float = 0.1
    margin: tuple[float, float] = (1.15, 1.55)
    shift: float = 0.05
    any_view: float = 0.4  # share of poses seen from anywhere; the rest keep about the view they were rendered in
    view: float = 0.5  # standard deviation of the change of the others, radians
    noise: float = 0.012  # median keypoint noise
    outlier: float = 0.03  # share of keypoints that are badly off
    bone: float = 0.04  # standard deviation of each bone's length, relative


@dataclass(frozen=True)
class LiftingExample:
    """uv (21, 2) and spread (21,) in 0..1 of the crop, side 0 left 1 right; canonical of the hand's own side."""

    uv: np.ndarray
    spread: np.ndarray
    side: int
    canonical: np.ndarray
    rotation: np.ndarray
    scale_m: float


def _rotation(rng: np.random.Generator, any_view: bool, spread: float) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    if any_view:
        q = rng.normal(size=4)
        return Rotation.from_quat(q / np.linalg.norm(q)).as_matrix()
    return Rotation.from_rotvec(rng.normal(0, spread, 3)).as_matrix()


def _rescale_bones(xyz: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    from hand_pose_3d.skeleton import BONES

    out = xyz.copy()
    finger = np.exp(rng.normal(0, sigma, 5))
    for parent, child in BONES:
        factor = finger[(child - 1) // 4] * np.exp(rng.normal(0, sigma / 2)) if parent else np.exp(rng.normal(0, sigma / 2))
        out[child] = out[parent] + (xyz[child] - xyz[parent]) * factor
    return out


class LiftingSampler:
    """Draws inputs and targets from poses xyz_m (N, 21, 3) in camera axes with their sides (N,)."""

    def __init__(self, xyz_m: np.ndarray, side: np.ndarray, how: LiftingAugmentation | None = None) -> None:
        self.xyz_m, self.side, self.how = xyz_m, side, how or LiftingAugmentation()

    def __call__(self, rng: np.random.Generator, clean: bool = False) -> LiftingExample:
        """One example; a clean one has neither noise nor jitter."""
        how, index = self.how, int(rng.integers(len(self.xyz_m)))
        side = Side(int(self.side[index]))
        xyz = self.xyz_m[index].astype(float)
        xyz = xyz - xyz.mean(0)
        if rng.random() < 0.5:
            xyz, side = xyz * [-1, 1, 1], side.other
        if not clean:
            xyz = _rescale_bones(xyz, how.bone, rng)
        xyz = xyz @ _rotation(rng, rng.random() < how.any_view, how.view).T
        xyz -= (xyz.min(0) + xyz.max(0)) / 2
        distance = np.abs(xyz).max() * float(np.exp(rng.uniform(np.log(2.5), np.log(14))))
        uv = xyz[:, :2] / (xyz[:, 2:] + distance)
        return make_example(uv, xyz, side, how, rng, clean)


def make_example(
    uv: np.ndarray, xyz: np.ndarray, side: Side, how: LiftingAugmentation, rng: np.random.Generator, clean: bool
) -> LiftingExample:
    """Crop, spoil and split one projected pose. uv: (21, 2) any unit; xyz: (21, 3) metres, axes of the ray's camera."""
    ideal = crop_from_pose(uv * 1e4, 1, 1.3 if clean else float(rng.uniform(*how.margin)))
    angle = ideal.angle
    center = np.asarray(ideal.center)
    if not clean:
        angle = rng.uniform(-np.pi, np.pi) if rng.random() < how.any_turn else angle + rng.normal(0, how.turn)
        center = center + rng.normal(0, how.shift, 2) * ideal.side
    c, s = np.cos(angle), np.sin(angle)
    image_from_window = np.array([[c, -s], [s, c]])
    window = (uv * 1e4 - center) @ image_from_window / ideal.side + 0.5
    spread = np.full(21, 0.03)
    if not clean:
        level = how.noise * np.exp(rng.normal(0, 0.6)) * np.exp(rng.normal(0, 0.5, 21))
        bad = rng.random(21) < how.outlier
        level = np.where(bad, rng.uniform(0.05, 0.2, 21), level)
        window = window + rng.normal(0, 1, (21, 2)) * level[:, None]
        spread = np.clip(0.028 + level * np.exp(rng.normal(0, 0.4, 21)), 0.03, 0.25)
    turn = np.eye(3)
    turn[:2, :2] = image_from_window
    relative, scale = normalise(xyz @ turn)
    canonical, rotation = to_canonical(relative)
    return LiftingExample(
        window.astype(np.float32), spread.astype(np.float32), int(side == Side.RIGHT),
        canonical.astype(np.float32), rotation.astype(np.float32), float(scale),
    )


class LiftingStage:
    """Training of a lifting approach: the paper's two losses where it has both streams, and that of the relative pose."""

    defaults = {"images": 2_000_000, "batch": 128, "learning_rate": 5e-4}

    def __init__(self, network: nn.Module, samplers: Sequence, held_out: LiftingSampler, extra_evaluation=None, pose_weight: float = 0.5) -> None:
        self.network, self.samplers, self.pose_weight, self.extra_evaluation = network, samplers, pose_weight, extra_evaluation
        rng = np.random.default_rng(3)
        self.held_out = [held_out(rng) for _ in range(1000)]

    def parameter_groups(self, learning_rate: float) -> list[dict]:
        """One group."""
        return [{"params": list(self.network.parameters()), "lr": learning_rate}]

    def batches(self, batch: int, rank: int, start: int) -> Iterator[tuple]:
        """Endless batches."""
        rng = np.random.default_rng([rank, start, 13])
        while True:
            yield self._tensors([self.samplers[int(rng.integers(len(self.samplers)))](rng) for _ in range(batch)])

    @staticmethod
    def _tensors(examples: Sequence[LiftingExample]) -> tuple[torch.Tensor, ...]:
        def stack(name: str) -> torch.Tensor:
            return torch.from_numpy(np.stack([getattr(e, name) for e in examples]))

        side = torch.nn.functional.one_hot(torch.tensor([e.side for e in examples]), 2).float()
        return stack("uv"), stack("spread"), side, stack("canonical"), stack("rotation")

    def loss(self, batch: tuple) -> tuple[torch.Tensor, dict[str, float]]:
        """Mean squared error of canonical coordinates and of the rotation matrix, weight 1 : 1 (section 5.2)."""
        uv, spread, side, canonical, rotation = batch
        result = self.network(lifting_maps(uv, spread), side)
        l_pose = (result.relative - canonical @ rotation.transpose(1, 2)).norm(dim=-1).mean()
        terms = {"loss_pose": self.pose_weight * l_pose}
        if result.canonical is not None:
            terms["loss_canonical"] = (result.canonical - canonical).square().mean()
            terms["loss_rotation"] = (result.rotation - rotation).square().mean()
        return sum(terms.values()), {key: value.item() for key, value in terms.items()}

    @torch.inference_mode()
    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Median error in millimetres by the paper's rule: true root, true scale, no rotation."""
        network.eval()
        device = next(network.parameters()).device
        uv, spread, side, canonical, rotation = (x.to(device) for x in self._tensors(self.held_out))
        result = network(lifting_maps(uv, spread), side)
        error = (result.relative - canonical @ rotation.transpose(1, 2)).norm(dim=-1).cpu()
        mm = error * torch.tensor([e.scale_m for e in self.held_out])[:, None] * 1000
        figures = {"renders_median_mm": mm[:, 1:].median().item(), "renders_mean_mm": mm[:, 1:].mean().item()}
        return figures | (self.extra_evaluation(network) if self.extra_evaluation else {})
