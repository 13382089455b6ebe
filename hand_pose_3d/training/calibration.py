"""Keypoint scores that mean something: from the spread of a score map to the chance that its keypoint is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from hand_pose_3d.networks.lite import LitePoseNet, soft_argmax
from hand_pose_3d.training.posenet import CropSample, collate

RIGHT_WITHIN = 0.1
"""A keypoint is right if it lies within this share of the hand's size, the longer edge of its keypoints' box."""


@torch.inference_mode()
def spreads_and_errors(network: LitePoseNet, samples: Sequence[CropSample]) -> tuple[np.ndarray, np.ndarray]:
    """Spread as a share of the crop and error as a share of the hand's size, of every labelled keypoint; (M,) each."""
    spreads, errors = [], []
    for images, uv, weight in _batches(samples):
        maps = network(images).score_maps[-1].float()
        found, spread = soft_argmax(maps)
        found = (found + 0.5) * (images.shape[-1] / maps.shape[-1]) - 0.5
        size = (uv.amax(1) - uv.amin(1)).amax(1)
        used = weight > 0
        errors.append(((found - uv).norm(dim=-1) / size[:, None])[used])
        spreads.append((spread / maps.shape[-1])[used])
    return torch.cat(spreads).numpy(), torch.cat(errors).numpy()


def _batches(
    samples: Sequence[CropSample], size: int = 50
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    for start in range(0, len(samples), size):
        images, uv, weight, _, presence = collate(samples[start : start + size])
        held = presence > 0
        yield images[held], uv[held], weight[held]


def calibrate(network: LitePoseNet, samples: Sequence[CropSample]) -> dict[str, float]:
    """Fit and set the network's score calibration on held-out samples, by maximum likelihood.

    Returns the two parameters, the share of right keypoints and the expected calibration error over ten bins, measured
    on the second half of the samples after fitting on the first.
    """
    from scipy.optimize import minimize

    network.eval()
    half = len(samples) // 2
    spread, error = spreads_and_errors(network, samples[:half])
    right = error < RIGHT_WITHIN

    def loss(x: np.ndarray) -> float:
        logit = x[0] - x[1] * spread
        return float(np.mean(np.logaddexp(0, np.where(right, -logit, logit))))

    a, b = minimize(loss, np.array([3.0, 30.0]), method="Nelder-Mead").x
    network.score_calibration.copy_(torch.tensor([a, b], dtype=torch.float32))
    spread, error = spreads_and_errors(network, samples[half:])
    score, right = 1 / (1 + np.exp(b * spread - a)), error < RIGHT_WITHIN
    bins = np.minimum((score * 10).astype(int), 9)
    gaps = [
        abs(score[bins == k].mean() - right[bins == k].mean()) * (bins == k).mean()
        for k in range(10)
        if (bins == k).any()
    ]
    return {
        "score_a": float(a),
        "score_b": float(b),
        "right": float(right.mean()),
        "calibration_error": float(sum(gaps)),
    }
