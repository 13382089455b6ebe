"""PoseNet's own predictions as the lifting networks' input: its noise, its misses and its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hand_pose_3d.camera import Crop
from hand_pose_3d.conventions import to_unit
from hand_pose_3d.geometry import normalise, rotation_to_ray, to_canonical
from hand_pose_3d.networks.lite import LitePoseNet, soft_argmax
from hand_pose_3d.training.crops import CropPack
from hand_pose_3d.training.lifting import LiftingBatch
from hand_pose_3d.training.posenet import CropSample, PoseSampler, collate


@torch.inference_mode()
def posenet_predictions(network: LitePoseNet, packs: Sequence[CropPack], count: int, seed: int) -> LiftingBatch:
    """Predictions of a trained PoseNet on `count` augmented crops of packs, with the true poses."""
    from tqdm import tqdm

    network.eval()
    sampler, rng = PoseSampler(packs), np.random.default_rng(seed)
    rows: list[LiftingBatch] = []
    with tqdm(total=count, desc="PoseNet's predictions", unit="hand", delay=2, leave=False) as progress:
        while sum(len(row.side) for row in rows) < count:
            drawn = [sampler.draw(rng) for _ in range(32)]
            drawn = [d for d in drawn if d[0].presence]
            samples = [sample for sample, _, _ in drawn]
            maps = network(collate(samples)[0]).score_maps[-1].float()
            found, spread = soft_argmax(maps)
            uv, spread = to_unit(found, maps.shape[-1]), spread / maps.shape[-1]
            targets = [target(sample, crop, xyz) for sample, crop, xyz in drawn]
            side = np.array([s.side for s in samples], np.int64)
            canonical, rotation, scale = (np.stack(x).astype(np.float32) for x in zip(*targets))
            rows.append(LiftingBatch(uv.numpy(), spread.numpy(), side, canonical, rotation, scale))
            progress.update(len(side))
    return LiftingBatch(*(np.concatenate(column)[:count] for column in zip(*rows)))


def target(sample: CropSample, crop: Crop, xyz_m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Canonical pose, rotation and scale in the axes of a camera that looks along the crop's ray, with its rotation."""
    c, s = np.cos(crop.angle), np.sin(crop.angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    rays = xyz_m[:, :2] / xyz_m[:, 2:]
    middle = (rays.min(0) + rays.max(0)) / 2
    relative, scale = normalise(xyz_m @ rotation_to_ray(np.array([*middle, 1.0])) @ turn)
    canonical, rotation = to_canonical(relative)
    return canonical, rotation, scale


class PredictionSampler:
    """Draws batches from stored predictions."""

    def __init__(self, predictions: LiftingBatch) -> None:
        self.predictions = predictions

    def __call__(self, rng: np.random.Generator, count: int) -> LiftingBatch:
        """A batch, with replacement."""
        index = rng.integers(len(self.predictions.side), size=count)
        return LiftingBatch(*(column[index] for column in self.predictions))
