"""Calibrated scores: the probability that a keypoint is right, and that a hand is at the predicted place."""

from __future__ import annotations

import argparse
import copy
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from hand_pose_3d.conventions import rescale_pixels
from hand_pose_3d.detection import Detection, evidence
from hand_pose_3d.errors import InvalidInputError, in_words
from hand_pose_3d.estimator import HandPoseEstimator
from hand_pose_3d.evaluation.boxes import MATCH_IOU
from hand_pose_3d.evaluation.metrics import box_iou, box_of
from hand_pose_3d.families import Family, PaperFamily, peak_odds, size_odds
from hand_pose_3d.hands import HandPose
from hand_pose_3d.networks import PoseNet
from hand_pose_3d.networks.lite import LiteHandSegNet, LitePalmNet, LitePoseNet, soft_argmax
from hand_pose_3d.skeleton import NUM_KEYPOINTS
from hand_pose_3d.training.data import scene_pack
from hand_pose_3d.training.posenet import CropSample, collate
from hand_pose_3d.training.scenes import BACKGROUND, LabelledScene, ScenePack
from hand_pose_3d.weights import DIGEST, load_weights, read_weights, save_weights
from hand_pose_3d.windows import crop_from_pose

RIGHT_WITHIN = 0.1
"""A keypoint is right if it lies within this share of the hand's size, the longer edge of its keypoints' box."""

_RENDERS = 0.1
"""Weight of a prediction on a render in fitting hands' scores, beside 1 on a photograph: renders keep the numbers
stable, photographs decide. Chosen by cross-validation on held-out photographs."""

_FEWEST = 20
"""Least number of right and of wrong predictions on which scores are fitted; set by hand."""

_UNSURE_IOU = 0.15
"""IoU with an unsure label from which on a prediction counts neither as right nor as wrong; set by hand."""


@torch.inference_mode()
def spreads_and_errors(
    network: LitePoseNet, samples: Sequence[CropSample]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spread as a share of the crop, error as a share of the hand's size, and number of the hand, of every labelled
    keypoint; (M,) each."""
    spreads, errors, hands, count = [], [], [], 0
    for images, uv, weight in _batches(samples):
        maps = network(images).score_maps[-1].float()
        found, spread = soft_argmax(maps)
        found = rescale_pixels(found, images.shape[-1] / maps.shape[-1])
        size = (uv.amax(1) - uv.amin(1)).amax(1)
        used = weight > 0
        errors.append(((found - uv).norm(dim=-1) / size[:, None])[used])
        spreads.append((spread / maps.shape[-1])[used])
        hands.append((count + torch.arange(len(uv)))[:, None].expand_as(used)[used])
        count += len(uv)
    return torch.cat(spreads).numpy(), torch.cat(errors).numpy(), torch.cat(hands).numpy()


def _batches(
    samples: Sequence[CropSample], size: int = 50
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    for start in range(0, len(samples), size):
        images, uv, weight, _, presence, _ = collate(samples[start : start + size])
        held = presence > 0
        yield images[held], uv[held], weight[held]


def calibrate(network: LitePoseNet, samples: Sequence[CropSample]) -> dict[str, float]:
    """Fit and set how the network's keypoint scores follow from spreads, on held-out samples, by maximum likelihood.

    Returns the parameters, the share of right keypoints and the expected calibration error over ten bins, measured on
    every second hand after fitting on the others.
    """
    spread, error, hand = spreads_and_errors(network.eval(), samples)
    return _fit_keypoints(network, spread, np.zeros(len(spread)), error < RIGHT_WITHIN, np.ones(len(spread)), hand)


def _fit_keypoints(
    network: LitePoseNet,
    spread: np.ndarray,
    size: np.ndarray,
    right: np.ndarray,
    weight: np.ndarray,
    hand: np.ndarray,
) -> dict[str, float]:
    """As :func:`calibrate`. All (M,): of each keypoint, and `size_odds` and number of its hand."""
    known, least = np.column_stack([np.ones(len(spread)), -10 * spread, size]), (-np.inf, 0.0, 0.0)
    other = hand % 2 > 0
    trial, fitted = (_logistic(known[m], right[m], [3.0, 3.0, 0.0], weight[m], least) for m in (~other, other | ~other))
    network.score_calibration.copy_(torch.tensor(fitted * [1, 10, 1], dtype=torch.float32))
    gap = calibration_error(1 / (1 + np.exp(-known[other] @ trial)), right[other], weight[other])
    figures = {f"score_{name}": float(value) for name, value in zip("abc", network.score_calibration)}
    return {**figures, "right": float(np.average(right, weights=weight)), "calibration_error": gap}


def calibration_error(score: np.ndarray, right: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Expected calibration error over ten bins of scores (N,) for predictions that are right or not (N,).

    weight: of each prediction, (N,); None for equal ones.
    """
    bins, weight = np.minimum((score * 10).astype(int), 9), np.ones(len(score)) if weight is None else weight
    return float(np.abs(np.bincount(bins, weight * (score - right))).sum() / weight.sum())


def calibrate_hands(
    segmentation: LiteHandSegNet,
    pose: LitePoseNet,
    lifting: Path,
    renders: Iterable[LabelledScene],
    photographs: Iterable[LabelledScene],
    palms: LitePalmNet | None = None,
) -> dict[str, float]:
    """Fit and set the parameters of hand and keypoint scores, by maximum likelihood on predictions of the pipeline.

    renders, photographs: that no network has been trained on; a prediction on a render counts a tenth. A prediction is
    right if its box fits a labelled hand as in `evaluate --dataset boxes`; those on hands whose label is unsure, those
    in incomplete scenes away from all labels and background, and those that reach out of the image are left out.
    PoseNet's two numbers are fitted first, those of `LiteHandSegNet.confirmation` on top of them, without palms, and
    those of `LitePalmNet.confirmation` on what the pipeline with palms predicts with PoseNet's. Keypoint scores are
    fitted on right predictions, without palms, on hands whose keypoints are labelled. Returns all, and of the last
    fit the number of predictions and the expected calibration error, weighted alike, measured on every second
    prediction after fitting on the others. With too few right or wrong predictions it sets and returns no more.
    """
    pose.presence_calibration.copy_(torch.tensor([0.0, 1.0]))
    segmentation.confirmation.copy_(torch.tensor([0.0, 1, 0, 0, 0, 0]))
    figures: dict[str, float] = {}
    for network in (segmentation,) if palms is None else (segmentation, palms):
        asked = [segmentation, pose] if network is segmentation else [segmentation, pose, network]
        found = [_predictions(asked, lifting, scenes) for scenes in (renders, photographs)]
        facts, right, keypoints = (np.array([row for rows in each for row in rows]) for each in zip(*found))
        weight, counts = (np.repeat([_RENDERS, 1.0], [len(each[k]) for each in found]) for k in (1, 2))
        if min(right.sum(), len(right) - right.sum()) < _FEWEST:
            return figures
        known = facts[:, 1:].copy()
        if network is segmentation:
            read = np.column_stack([np.ones(len(facts)), facts[:, 0]])
            first = _logistic(read, right, [0.0, 1.0], weight, least=(-np.inf, 0.0))
            figures = {f"presence_{n}": float(x) for n, x in zip("ab", first, strict=True)}
            if len(keypoints):
                spread, size, near = keypoints.T
                number = np.arange(len(spread)) // NUM_KEYPOINTS
                of_keypoints = _fit_keypoints(pose, spread, size, near, counts, number)
                figures |= {f"keypoint_{name}": value for name, value in of_keypoints.items()}
            known[:, 1] = np.clip(read @ first, -_ODDS, _ODDS)
            pose.presence_calibration.copy_(torch.tensor(first, dtype=torch.float32))
        start = np.eye(known.shape[1])[1]
        trial, fitted = (_logistic(known[::step], right[::step], start, weight[::step]) for step in (2, 1))
        network.confirmation.copy_(torch.tensor(fitted, dtype=torch.float32))
        error = calibration_error(1 / (1 + np.exp(-known[1::2] @ trial)), right[1::2], weight[1::2])
        name = "confirmation" if network is segmentation else "palm_confirmation"
        figures |= {f"{name}_{n}": float(x) for n, x in enumerate(fitted)}
        figures |= {"predictions": len(right), "right": float(right.mean()), "hand_calibration_error": error}
    return figures


def calibrate_peaks(weights: Path, scenes: Iterable[LabelledScene], device: str = "cpu") -> dict[str, float]:
    """Fit the parameters of hand scores from the peaks of the paper's PoseNet, and write them into the weights'
    metadata.

    weights: folder with the paper family's three files. scenes and what is returned: as of :func:`calibrate_hands`.
    Raises InvalidInputError without right or wrong predictions.
    """
    estimator = HandPoseEstimator(model="paper", device=device, weights=weights, score_threshold=0.0, max_hands=6)
    cast(PaperFamily, estimator.family).presence_calibration = None
    odds, right = [], []
    for scene in tqdm(scenes, desc="hand scores", unit="image"):
        for hand, label in judged(scene, estimator(np.ascontiguousarray(scene.rgbc[..., :3]))):
            odds.append(peak_odds(hand.score))
            right.append(float(label is not None))
    if len(np.unique(right)) < 2:
        raise InvalidInputError(
            f"scores need right and wrong predictions, which these data do not give; {weights} is as it was"
        )
    x, y = np.column_stack([np.ones(len(odds)), odds]), np.array(right)
    trial, fitted = (_logistic(x[::step], y[::step], [0.0, 1.0]) for step in (2, 1))
    network, path = PoseNet(), weights / "paper-posenet.safetensors"
    metadata = load_weights(network, path) | {"presence_calibration": json.dumps([round(float(v), 4) for v in fitted])}
    _rewrite(path, network, metadata)
    error = calibration_error(1 / (1 + np.exp(-x[1::2] @ trial)), y[1::2])
    return {"predictions": float(len(y)), "right": float(y.mean()), "hand_calibration_error": error}


def _rewrite(path: Path, network: nn.Module, metadata: Mapping[str, str]) -> None:
    """Write a network again, in the precision of its file."""
    half = any(tensor.dtype == torch.float16 for tensor in read_weights(path)[0].values())
    save_weights(path, network, {k: v for k, v in metadata.items() if k not in ("network", DIGEST)}, half=half)


_FILES = {LiteHandSegNet: "handsegnet", LitePoseNet: "posenet", LitePalmNet: "palmnet"}
"""Names of the networks' files after the family's."""

_LEAST = 0.005
"""Score, before calibration, below which a prediction is left out."""
_ODDS = math.log(1e4)
"""Largest log odds that `detection.evidence` gives."""


def _logistic(
    x: np.ndarray,
    right: np.ndarray,
    start: Sequence[float],
    weight: np.ndarray | None = None,
    least: Sequence[float] | None = None,
) -> np.ndarray:
    """Factors of the columns of x (N, M) that make outcomes (N,) of 0 and 1 most likely.

    weight: of each outcome, (N,), None for equal ones; least: limits of the factors, (M,), None for none.
    """
    from scipy.optimize import minimize

    def loss(w: np.ndarray) -> float:
        logit = x @ w
        unlikely = np.logaddexp(0, np.where(right > 0, -logit, logit))
        return float(np.average(unlikely, weights=weight) + 1e-4 * w @ w)

    bounds = None if least is None else [(low, None) for low in least]
    return minimize(loss, np.array(start), bounds=bounds).x


class _Recorder:
    """A family whose `confirm` records the features of every hand's score."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self.facts: dict[bytes, np.ndarray] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._family, name)

    def confirm(self, hand: HandPose, detection: Detection) -> HandPose:
        """The hand, unchanged."""
        crop = crop_from_pose(hand.keypoints_px, self._family.crop_size, 1.0)
        self.facts[hand.keypoints_px.tobytes()] = evidence(hand.score, detection, crop)
        return hand


class Predictions(NamedTuple):
    """Predictions of the lite family, (N, ...).

    facts: log odds of presence and `detection.evidence`, (N, 7), or (N, 8) with LitePalmNet. right: (N,) 0 or 1.
    keypoints: of those on hands with labelled keypoints, (M, 3): spread, `size_odds`, 1 where right.
    """

    facts: np.ndarray
    right: np.ndarray
    keypoints: np.ndarray


def _predictions(networks: Sequence[nn.Module], lifting: Path, scenes: Iterable[LabelledScene]) -> Predictions:
    """Predictions of these networks, without what hands' sizes do to keypoint scores."""
    networks = [copy.deepcopy(network) for network in networks]
    (pose,) = (network for network in networks if isinstance(network, LitePoseNet))
    pose.score_calibration[2] = 0
    a, b, _ = pose.score_calibration.tolist()
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lite-lifting.safetensors").symlink_to(lifting.resolve())
        for network in networks:
            metadata = {"family": "lite", "version": "0", "licence": "none"}
            save_weights(folder / f"lite-{_FILES[type(network)]}.safetensors", network, metadata)
        estimator = HandPoseEstimator(model="lite", device="cpu", weights=folder, score_threshold=_LEAST, max_hands=8)
        estimator.warm_up()  # reads all files while they are there
    recorder = estimator._family = _Recorder(estimator.family)  # type: ignore[assignment]
    facts, right, keypoints = [], [], [np.zeros((0, 3))]
    for scene in tqdm(scenes, desc="hand scores", unit="image"):
        for hand, best in judged(scene, estimator(np.ascontiguousarray(scene.rgbc[..., :3]))):
            uv = hand.keypoints_px
            known = recorder.facts[uv.tobytes()]
            facts.append(np.r_[known[1], known])
            right.append(float(best is not None))
            if best is not None and not scene.only_boxes[best]:
                label, odds = scene.keypoints_px[best], np.log(hand.keypoint_scores / (1 - hand.keypoint_scores))
                near = np.linalg.norm(uv - label, axis=1) < RIGHT_WITHIN * np.ptp(label, axis=0).max()
                size = np.full(len(uv), size_odds(uv))
                keypoints.append(np.column_stack([(a - odds) / b, size, near]))
    return Predictions(np.array(facts), np.array(right), np.concatenate(keypoints))


def judged(scene: LabelledScene, hands: Sequence[HandPose]) -> Iterator[tuple[HandPose, int | None]]:
    """Predictions of a scene, by falling score, with the number of the hand that each lies on, None where it is wrong.

    A second one on a hand is wrong. Those of which nothing is known are left out.
    """
    height, width = scene.rgbc.shape[:2]
    free = np.array(scene.sure, bool)
    for hand in sorted(hands, key=lambda hand: -hand.score):
        uv = hand.keypoints_px
        if (uv < 0).any() or (uv > [width - 1, height - 1]).any():
            continue
        box = box_of(uv)
        overlap = np.array([box_iou(box, box_of(label)) for label in scene.keypoints_px])
        x, y, w, h = box.astype(int)
        nothing = (scene.rgbc[y : y + h + 1, x : x + w + 1, 3] == BACKGROUND).mean() > 0.5
        if (overlap[~scene.sure] > _UNSURE_IOU).any() or not (scene.complete or nothing or (overlap > 0).any()):
            continue
        fitting = np.where(free, overlap, 0)
        best = int(np.argmax(fitting)) if (fitting >= MATCH_IOU).any() else None
        if best is not None:
            free[best] = False
        yield hand, best


def main() -> None:
    """Fit the scores of the networks in a folder and write them there."""
    parser = argparse.ArgumentParser(prog="python -m hand_pose_3d.training.score_calibration", description=main.__doc__)
    parser.add_argument("weights", type=Path, help="folder with the three files of one family")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="renders whose evaluation split is used")
    parser.add_argument("--photographs", type=Path, nargs="*", default=[], help="packs that no network has seen")
    args = parser.parse_args()
    if not args.data and not args.photographs:
        parser.error("there is nothing to fit scores on: give --data or --photographs")
    if all((args.weights / f"{family}-posenet.safetensors").exists() for family in ("lite", "paper")):
        parser.error(f"{args.weights} holds both families: give a folder with the files of one")
    with in_words(parser.prog):
        renders = _scenes(scene_pack(root, "evaluation") for root in args.data)
        print(calibrate_files(args.weights, renders, _scenes(ScenePack(root) for root in args.photographs)))


def calibrate_files(
    weights: Path, renders: Iterable[LabelledScene], photographs: Iterable[LabelledScene] = (), device: str = "cpu"
) -> dict[str, float]:
    """Fit the scores of the networks of one family in a folder, write them there, and return what was fitted.

    Arguments: as of :func:`calibrate_hands`. Raises InvalidInputError, and changes no file, where data do not suffice.
    """
    if (weights / "paper-posenet.safetensors").exists():
        return calibrate_peaks(weights, chain(renders, photographs), device)
    segmentation, pose, palms = LiteHandSegNet(), LitePoseNet(), LitePalmNet()
    paths = {net: weights / f"lite-{_FILES[type(net)]}.safetensors" for net in (segmentation, pose, palms)}
    if paths[palms].exists():
        renders, photographs = list(renders), list(photographs)  # seen twice
    else:
        del paths[palms]
    metadata = {network: load_weights(network, path) for network, path in paths.items()}
    lifting = weights / "lite-lifting.safetensors"
    figures = calibrate_hands(segmentation, pose, lifting, renders, photographs, palms if palms in paths else None)
    if "hand_calibration_error" not in figures or (palms in paths and "palm_confirmation_0" not in figures):
        raise InvalidInputError(
            f"scores need {_FEWEST} right and {_FEWEST} wrong predictions, which these data do not give; "
            f"{weights} is as it was"
        )
    for network, path in paths.items():
        _rewrite(path, network, metadata[network])
    return figures


def _scenes(packs: Iterable[ScenePack]) -> list[LabelledScene]:
    return [pack[i] for pack in packs for i in range(len(pack))]


if __name__ == "__main__":
    main()
