"""Stage fineposenet, lite family: score maps that refine the points of a trunk that stays as it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from hand_pose_3d.conventions import FINE_CROP_SIZE, INPUT_MEAN, from_unit, image_to_input, rescale_pixels
from hand_pose_3d.networks.lite import LiteFinePoseNet
from hand_pose_3d.skeleton import NUM_KEYPOINTS
from hand_pose_3d.training.crops import CropPack
from hand_pose_3d.training.loop import Stage
from hand_pose_3d.training.posenet import (
    CROP_MARGIN,
    PoseAugmentation,
    PoseSampler,
    collate,
    evaluate_crops,
    keypoint_loss,
    spread_out,
)
from hand_pose_3d.windows import crop_from_pose

_NEAR_HAND, _NEAR_POINT, _TOWARDS = 0.09, 0.16, 0.7
"""Labels move by the share _TOWARDS to the points that lie nearer than _NEAR_POINT, in hands whose points lie nearer
than _NEAR_HAND on average; distances over the hand's extent. Set by hand (docs/experiments.md)."""


def towards(uv: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Labels (N, 21, 2) moved towards points (N, 21, 2) where these are near.

    Renders and photographs put joints at slightly different places. The points know those of photographs.
    """
    distance = np.linalg.norm(points - uv, axis=-1) / np.ptp(uv, axis=1).max(1, keepdims=True)
    near = (distance.mean(1, keepdims=True) < _NEAR_HAND) & (distance < _NEAR_POINT)
    return np.where(near[..., None], uv + _TOWARDS * (points - uv), uv).astype(uv.dtype)


@torch.inference_mode()
def points_of(network: LiteFinePoseNet, pack: CropPack, batch: int = 64) -> np.ndarray:
    """The network's points (N, 21, 2) in a pack's pixels: means of the true windows and of their mirror images."""
    network.eval()
    size, found, quiet = FINE_CROP_SIZE, [], os.environ.get("RANK", "0") != "0"
    device = next(network.parameters()).device
    starts = range(0, len(pack), batch)
    for start in tqdm(starts, desc="points of renders", unit="batch", delay=2, leave=False, disable=quiet):
        rows = range(start, min(start + batch, len(pack)))
        windows = [crop_from_pose(pack.uv[i], size, CROP_MARGIN) for i in rows]
        images = np.stack(
            [w.extract(np.ascontiguousarray(pack.rgba[i]))[..., :3] for i, w in zip(rows, windows, strict=True)]
        )
        x = image_to_input(torch.from_numpy(images)).to(device)
        pooled = (network.trunk(each + INPUT_MEAN)[1] for each in (x, x.flip(3)))
        points, flipped = (network.points(each).view(-1, NUM_KEYPOINTS, 2).cpu().numpy() for each in pooled)
        uv = (points + flipped * [-1, 1] + [1, 0]) / 2
        found += [window.to_image(from_unit(p, size)) for window, p in zip(windows, uv, strict=True)]
    return np.array(found).reshape(-1, NUM_KEYPOINTS, 2)


class LiteFinePoseStage(Stage):
    """Training of LiteFinePoseNet's maps. Its trunk and points are not changed; labels of renders move towards them."""

    defaults: ClassVar[dict[str, Any]] = {"images": 200_000, "batch": 32, "learning_rate": 1.5e-3}
    seed = 17
    network: LiteFinePoseNet

    def __init__(
        self,
        network: LiteFinePoseNet,
        train: Sequence[CropPack],
        held_out: CropPack,
        extra_evaluation: Callable[[nn.Module], dict[str, float]] | None = None,
        shares: Sequence[float] | None = None,
    ) -> None:
        self.network = network
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for module in (network.trunk, network.points):
            module.requires_grad_(False)
        self._train, self._shares = train, shares
        self.held_out = spread_out(held_out, FINE_CROP_SIZE)
        self.extra_evaluation = extra_evaluation

    def prepare(self) -> None:
        """Move the labels of renders towards the points that the network has."""
        moved = [
            pack if pack.spread is not None else replace(pack, uv=towards(pack.uv, points_of(self.network, pack)))
            for pack in self._train
        ]
        self.sampler = PoseSampler(moved, PoseAugmentation(empty=0.0, cut=0.3), self._shares, FINE_CROP_SIZE)

    def draw(self, rng: np.random.Generator, size: int) -> tuple:
        """Augmented examples."""
        return collate([self.sampler(rng) for _ in range(size)])

    def loss(self, batch: tuple) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss of the maps."""
        images, uv, weight, _, _, spread = batch
        with torch.no_grad():
            maps, pooled = self.network.trunk(images + INPUT_MEAN)
        (found,) = self.network.read(maps, pooled).score_maps
        scale = found.shape[-1] / images.shape[-1]
        loss = keypoint_loss(found.float(), rescale_pixels(uv, scale), weight, spread * scale)
        return loss, {"loss_pose": loss.item()}

    @torch.inference_mode()
    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Errors on held-out renders, true crops, in pixels of a 256 px crop; then those of the further evaluation."""
        metrics, _ = evaluate_crops(network, self.held_out)
        return metrics | (self.extra_evaluation(network) if self.extra_evaluation else {})
