"""Stage lifting: canonical pose and viewpoint from 21 score maps and the hand's side.

Needs no images: true poses are rotated to new views, projected, and get noise like PoseNet's predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from hand_pose_3d.geometry import normalise, to_canonical
from hand_pose_3d.networks.lifting import LiftingResult
from hand_pose_3d.networks.lite import LiteLifting, lifting_maps
from hand_pose_3d.skeleton import BONES, Side
from hand_pose_3d.training.loop import Mixture, Stage
from hand_pose_3d.windows import hand_angle


@dataclass(frozen=True)
class LiftingAugmentation:
    """Augmentation of inputs. Lengths are shares of the crop's edge."""

    turn: float = 0.2  # standard deviation of rotation about the upright crop, radians
    any_turn: float = 0.1
    margin: tuple[float, float] = (1.15, 1.55)
    shift: float = 0.05
    any_view: float = 0.4  # share of poses from a uniformly random view; the rest stay near their rendered view
    view: float = 0.5  # standard deviation of the change of view of the others, radians
    noise: float = 0.012  # median keypoint noise
    outlier: float = 0.03  # share of keypoints with a large error
    bone: float = 0.04  # standard deviation of each bone's length, relative


SHOWN_HANDS = LiftingAugmentation(any_view=0.0, view=0.12)
"""For hands of photographs, which stay near the view in which they were shown."""


class LiftingBatch(NamedTuple):
    """N examples. uv (N, 21, 2) and spread (N, 21) in 0..1 of the crop; side (N,) 0 left, 1 right; canonical
    (N, 21, 3) of the hand's own side; rotation (N, 3, 3) crop axes from canonical; scale_m (N,) the reference bone."""

    uv: np.ndarray
    spread: np.ndarray
    side: np.ndarray
    canonical: np.ndarray
    rotation: np.ndarray
    scale_m: np.ndarray


def _rescale_bones(xyz: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Hands of other people: bone lengths change, with a common factor per finger. xyz: (N, 21, 3)."""
    out = xyz.copy()
    n = len(xyz)
    finger, bone = np.exp(rng.normal(0, sigma, (n, 5))), np.exp(rng.normal(0, sigma / 2, (n, 21)))
    for parent, child in BONES:
        factor = bone[:, child] * (finger[:, (child - 1) // 4] if parent else 1)
        out[:, child] = out[:, parent] + (xyz[:, child] - xyz[:, parent]) * factor[:, None]
    return out


class LiftingSampler:
    """Draws inputs and targets from poses xyz_m (N, 21, 3) in camera axes with their sides (N,)."""

    def __init__(self, xyz_m: np.ndarray, side: np.ndarray, augmentation: LiftingAugmentation | None = None) -> None:
        self.xyz_m, self.side, self.augmentation = xyz_m, side, augmentation or LiftingAugmentation()

    def __call__(self, rng: np.random.Generator, count: int) -> LiftingBatch:
        """A batch of new views of random poses, projected by a camera that looks at the hand, with noise."""
        from scipy.spatial.transform import Rotation

        augmentation, index = self.augmentation, rng.integers(len(self.xyz_m), size=count)
        xyz = self.xyz_m[index].astype(float)
        xyz -= xyz.mean(1, keepdims=True)
        right = self.side[index] == Side.RIGHT
        mirror = rng.random(count) < 0.5
        xyz[mirror, :, 0] *= -1
        right ^= mirror
        xyz = _rescale_bones(xyz, augmentation.bone, rng)
        anywhere = rng.random(count) < augmentation.any_view
        view = Rotation.from_rotvec(rng.normal(0, augmentation.view, (count, 3))).as_matrix()
        view[anywhere] = Rotation.from_quat(rng.normal(size=(count, 4))).as_matrix()[anywhere]
        xyz = xyz @ view.transpose(0, 2, 1)
        xyz -= (xyz.min(1, keepdims=True) + xyz.max(1, keepdims=True)) / 2
        distance = np.abs(xyz).max((1, 2)) * np.exp(rng.uniform(np.log(2.5), np.log(14), count))
        uv = xyz[..., :2] / (xyz[..., 2:] + distance[:, None, None])

        angle = hand_angle(uv)
        angle = np.where(
            rng.random(count) < augmentation.any_turn,
            rng.uniform(-np.pi, np.pi, count),
            angle + rng.normal(0, augmentation.turn, count),
        )
        c, s = np.cos(angle), np.sin(angle)
        turn = np.zeros((count, 3, 3))
        turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1], turn[:, 2, 2] = c, -s, s, c, 1
        window = uv @ turn[:, :2, :2]
        low, high = window.min(1), window.max(1)
        edge = (high - low).max(1) * rng.uniform(*augmentation.margin, count)
        center = (low + high) / 2 + rng.normal(0, augmentation.shift, (count, 2)) * edge[:, None]
        window = (window - center[:, None]) / edge[:, None, None] + 0.5

        level = augmentation.noise * np.exp(rng.normal(0, 0.6, (count, 1))) * np.exp(rng.normal(0, 0.5, (count, 21)))
        level = np.where(rng.random((count, 21)) < augmentation.outlier, rng.uniform(0.05, 0.2, (count, 21)), level)
        window = window + rng.normal(0, 1, (count, 21, 2)) * level[..., None]
        spread = np.clip(0.028 + level * np.exp(rng.normal(0, 0.4, (count, 21))), 0.03, 0.25)
        relative, scale = normalise(xyz @ turn)
        canonical, rotation = to_canonical(relative)
        return LiftingBatch(
            window.astype(np.float32),
            spread.astype(np.float32),
            right.astype(np.int64),
            canonical.astype(np.float32),
            rotation.astype(np.float32),
            scale.astype(np.float32),
        )


Sampler = Callable[[np.random.Generator, int], LiftingBatch]
"""Draws a batch of this size."""


def lift(network: nn.Module, uv: torch.Tensor, spread: torch.Tensor, side: torch.Tensor) -> LiftingResult:
    """Run any approach on keypoints: the lite one directly, the others on score maps drawn from them."""
    if isinstance(network, LiteLifting):
        return network.read(uv, spread, side)
    return network(lifting_maps(uv, spread), side)


class LiftingStage(Stage):
    """Training of a lifting approach: the loss of the relative pose, and the paper's two with both streams."""

    defaults: ClassVar[dict[str, Any]] = {"images": 5_000_000, "batch": 256, "learning_rate": 1e-3}
    seed = 13

    def __init__(
        self,
        network: nn.Module,
        samplers: Sequence[Sampler],
        held_out: Sampler,
        pose_weight: float = 0.5,
    ) -> None:
        self.network, self.samplers, self.pose_weight = network, Mixture(samplers), pose_weight
        self.held_out = held_out(np.random.default_rng(3), 2000)

    def draw(self, rng: np.random.Generator, size: int) -> tuple:
        """Examples of one of the samplers."""
        return self._tensors(self.samplers.draw(rng)(rng, size))

    @staticmethod
    def _tensors(examples: LiftingBatch) -> tuple[torch.Tensor, ...]:
        uv, spread, side, canonical, rotation, _ = (torch.from_numpy(x) for x in examples)
        relative = canonical @ rotation.transpose(1, 2)  # here, as products on a GPU may be rounded to 16 bits
        return uv, spread, torch.nn.functional.one_hot(side, 2).float(), canonical, rotation, relative

    def loss(self, batch: tuple) -> tuple[torch.Tensor, dict[str, float]]:
        """Mean squared error of canonical coordinates and of the rotation matrix, weight 1 : 1 (section 5.2)."""
        uv, spread, side, canonical, rotation, relative = batch
        result = lift(self.network, uv, spread, side)
        error = (result.relative - relative).norm(dim=-1).mean()
        terms = {"loss_pose": self.pose_weight * error}
        if result.canonical is not None and result.rotation is not None:
            terms["loss_canonical"] = (result.canonical - canonical).square().mean()
            terms["loss_rotation"] = (result.rotation - rotation).square().mean()
        return torch.stack(list(terms.values())).sum(), {key: value.item() for key, value in terms.items()}

    @torch.inference_mode()
    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Median error in millimetres of all keypoints but the wrist: true root, true scale, no rotation."""
        network.eval()
        device = next(network.parameters()).device
        uv, spread, side, *_, relative = (x.to(device) for x in self._tensors(self.held_out))
        result = lift(network, uv, spread, side)
        error = (result.relative - relative).norm(dim=-1).cpu()
        mm = error * torch.from_numpy(self.held_out.scale_m)[:, None] * 1000
        return {"renders_median_mm": mm[:, 1:].median().item(), "renders_mean_mm": mm[:, 1:].mean().item()}
