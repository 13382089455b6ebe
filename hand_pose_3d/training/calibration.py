"""Scores that mean something: the chance that a keypoint is right, and that a hand is where it is said to be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from tqdm import tqdm

from hand_pose_3d.datasets.rhd import read_rhd
from hand_pose_3d.estimator import HandPoseEstimator
from hand_pose_3d.evaluation.metrics import box_iou, box_of
from hand_pose_3d.evaluation.protocols import FOUND_IOU
from hand_pose_3d.networks.lite import LitePoseNet, soft_argmax
from hand_pose_3d.training.posenet import CropSample, collate
from hand_pose_3d.weights import default_weights, save_weights

RIGHT_WITHIN = 0.1
"""A keypoint is right if it lies within this share of the hand's size, the longer edge of its keypoints' box."""

_LEAST_SCORE = 0.02
"""Of the answers that the score of a hand is fitted to: what is surely no hand says little."""


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
    right = error < RIGHT_WITHIN
    gap = calibration_error(1 / (1 + np.exp(b * spread - a)), right)
    return {"score_a": float(a), "score_b": float(b), "right": float(right.mean()), "calibration_error": gap}


def calibration_error(score: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error over ten bins of scores (N,) for answers that are right or not (N,)."""
    bins = np.minimum((score * 10).astype(int), 9)
    return float(sum(abs((score - right)[bins == k].sum()) for k in range(10)) / len(score))


@torch.inference_mode()
def calibrate_presence(network: LitePoseNet, root: Path, split: str, count: int = 1000) -> dict[str, float]:
    """Fit and set how presence and keypoint scores make the score of a hand, by maximum likelihood.

    The whole pipeline, with the shipped HandSegNet and lifting, answers for up to `count` images of a data set in RHD's
    layout. An answer is right if its box and that of a labelled hand overlap by more than half of their union. Answers
    that reach out of the picture are left out, since their keypoint scores are lowered afterwards. Returns the three
    parameters, the number of answers and the expected calibration error, measured on the second half of the answers
    after fitting on the first. Without both right and wrong answers nothing is set, and nothing returned.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    network.presence_calibration.copy_(torch.tensor([0.0, 1.0, 0.0]))
    presence, keypoints, right = _answers(network, root, split, count).T
    half = len(right) // 2
    if len(np.unique(right[:half])) < 2:
        return {}
    x = np.stack([np.ones_like(presence), np.log(presence / (1 - presence)), keypoints], axis=1)

    def loss(w: np.ndarray, upto: int) -> float:
        logit = x[:upto] @ w
        return float(np.mean(np.logaddexp(0, np.where(right[:upto] > 0, -logit, logit))) + 1e-4 * w @ w)

    start = np.array([0.0, 1.0, 0.0])
    trial = minimize(loss, start, half).x
    fitted = minimize(loss, start, len(right)).x
    network.presence_calibration.copy_(torch.tensor(fitted, dtype=torch.float32))
    error = calibration_error(expit(x[half:] @ trial), right[half:])
    named = {f"presence_{name}": float(value) for name, value in zip("abc", fitted, strict=True)}
    return {**named, "presence_answers": float(len(right)), "presence_calibration_error": error}


def _answers(network: LitePoseNet, root: Path, split: str, count: int) -> np.ndarray:
    """(N, 3) of the pipeline's answers: presence, mean keypoint score, 1 where a labelled hand is found by it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for other in ("lite-handsegnet", "lite-lifting"):
            (folder / f"{other}.safetensors").symlink_to(default_weights(other))
        metadata = {"family": "lite", "version": "0", "licence": "none"}
        save_weights(folder / "lite-posenet.safetensors", network, metadata)
        estimator = HandPoseEstimator(model="lite", device="cpu", weights=folder, score_threshold=_LEAST_SCORE)
    answers = []
    images = [list(group) for _, group in groupby(read_rhd(root, split, "all"), key=lambda sample: sample.image_path)]
    for samples in tqdm(images[:count], desc="hand scores", unit="image"):
        image = samples[0].image()
        for hand in estimator(image):
            if ((hand.keypoints_px >= 0) & (hand.keypoints_px <= np.array(image.shape[1::-1]) - 1)).all():
                box = box_of(hand.keypoints_px)
                found = any(box_iou(box, box_of(sample.keypoints_px)) > FOUND_IOU for sample in samples)
                answers.append((np.clip(hand.score, 1e-4, 1 - 1e-4), hand.keypoint_scores.mean(), found))
    return np.array(answers, float).reshape(-1, 3)
