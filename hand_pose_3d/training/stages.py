"""The stages by name, put together from data sets, and their weights written as they are shipped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hand_pose_3d import __version__
from hand_pose_3d.conventions import FINE_CROP_SIZE, from_unit, image_to_input
from hand_pose_3d.errors import InvalidInputError, WeightsError
from hand_pose_3d.networks import HandSegNet, Lifting, PoseNet
from hand_pose_3d.networks.lifting import LIFTINGS
from hand_pose_3d.networks.lite import LiteFinePoseNet, LiteHandSegNet, LiteLifting, LitePoseNet
from hand_pose_3d.skeleton import NUM_KEYPOINTS, Side
from hand_pose_3d.training import pretrained
from hand_pose_3d.training.crops import load_pack, with_pose
from hand_pose_3d.training.data import StoredScenes, crop_pack, dominant_hands, poses, scene_pack
from hand_pose_3d.training.fineposenet import LiteFinePoseStage
from hand_pose_3d.training.handsegnet import LiteSegmentationStage
from hand_pose_3d.training.lifting import SHOWN_HANDS, LiftingSampler, LiftingStage, Sampler
from hand_pose_3d.training.loop import Stage
from hand_pose_3d.training.paper import PaperLiftingStage, PaperPoseStage, PaperSegmentationStage
from hand_pose_3d.training.posenet import CROP_MARGIN, CROP_SIZE, LitePoseStage, PoseSampler
from hand_pose_3d.training.predictions import PredictionSampler, posenet_predictions
from hand_pose_3d.training.scenes import ScenePack
from hand_pose_3d.training.score_calibration import calibrate
from hand_pose_3d.weights import load_weights, save_weights

LICENCE = "Apache-2.0"
"""Licence of weights trained here, on renders and on photographs whose licences allow it."""

PREDICTIONS = 32_000
"""Number of crops of renders, and of photographs, on whose PoseNet predictions the lifting stage is trained."""

NETWORKS: dict[str, dict[str, type[nn.Module]]] = {
    "lite": {
        "handsegnet": LiteHandSegNet,
        "posenet": LitePoseNet,
        "fineposenet": LiteFinePoseNet,
        "lifting": LiteLifting,
    },
    "paper": {"handsegnet": HandSegNet, "posenet": PoseNet, "lifting": Lifting},
}


def build_lite_stage(
    stage: str,
    roots: Sequence[Path],
    *,
    trunk: Path | None = None,
    trunk_rate: float | None = None,
    frozen_blocks: int | None = None,
    posenet: Path | None = None,
    real: Path | None = None,
    photographs: Sequence[Path] = (),
    photograph_share: float = 0.4,
    mined: int | None = None,
    most_predictions: int = PREDICTIONS,
) -> Stage:
    """A stage of the lite family, ready for the loop.

    trunk: mediapipe wheel that trunks start from; trunk_rate: its learning rate over that of the rest; frozen_blocks:
    number of first blocks of PoseNet's trunk that stay as they are; None for the stage's own. posenet: weights of a
    LitePoseNet on whose predictions lifting is trained too, None for simulated noise only.
    photographs: packs of `training.photographs` to train on too; photograph_share: their share of the hands in training
    HandSegNet and PoseNet. mined: number of images of each data set that are searched for hard negatives when it is
    packed, None for all. most_predictions: number of training renders' crops that PoseNet predicts for lifting.
    """
    rate: dict[str, Any] = {} if trunk_rate is None else {"trunk_rate": trunk_rate}
    if stage == "handsegnet":
        segmentation = LiteHandSegNet()
        if trunk is not None:
            pretrained.load_scene_trunk(segmentation.trunk, trunk)
        held_out_scenes = scene_pack(roots[0], "evaluation")  # small, so that what is missing is said soon
        scenes = [scene_pack(root, "training") for root in roots]
        seen = [ScenePack(folder) for folder in photographs]
        shares = _shares(
            [int(p.num_sure.sum()) for p in scenes], [int(p.num_sure.sum()) for p in seen], photograph_share
        )
        weighted = list(zip([*scenes, *seen], shares))
        return LiteSegmentationStage(segmentation, weighted, held_out_scenes, **rate)
    if stage in ("posenet", "fineposenet"):
        extra = None if real is None else TrueCrops(real, CROP_SIZE if stage == "posenet" else FINE_CROP_SIZE)
        held_out = crop_pack(roots[0], "evaluation", mined)
        crops = [crop_pack(root, "training", mined) for root in roots]
        real_crops = [load_pack(folder / "crops") for folder in photographs]
        shares = _shares([len(p) for p in crops], [len(p) for p in real_crops], photograph_share)
        crops = [*crops, *real_crops]
        if stage == "fineposenet":
            fine = LiteFinePoseNet()
            if trunk is not None:
                pretrained.start_fine_pose_net(fine, trunk)
            return LiteFinePoseStage(fine, crops, held_out, extra, shares)
        pose = LitePoseNet()
        if trunk is not None:
            pretrained.start_pose_net(pose, trunk)
        frozen: dict[str, Any] = {} if frozen_blocks is None else {"frozen_blocks": frozen_blocks}
        return LitePoseStage(pose, crops, held_out, extra, shares=shares, **frozen, **rate)
    xyz_m, side = (np.concatenate(x) for x in zip(*(poses(root, "training") for root in roots)))
    samplers: list[Sampler] = [LiftingSampler(xyz_m, side)]
    shown = [pack for folder in photographs if len(pack := with_pose(load_pack(folder / "crops")))]
    # Open hands, near the views in which people show them.
    samplers += [LiftingSampler(pack.xyz_m, pack.side, SHOWN_HANDS) for pack in shown]
    held_out_poses = LiftingSampler(*poses(roots[0], "evaluation"))
    if posenet is None:
        return LiftingStage(LiteLifting(), samplers, held_out_poses)
    pose = LitePoseNet()
    load_weights(pose, posenet)
    crops = [crop_pack(root, "training", mined) for root in roots]
    predictions = [posenet_predictions(pose, packs, most_predictions, seed=1) for packs in (crops, shown) if packs]
    unseen = [crop_pack(roots[0], "evaluation", mined)]
    held = posenet_predictions(pose, unseen, min(2000, most_predictions), seed=2)
    return LiftingStage(LiteLifting(), [*samplers, *map(PredictionSampler, predictions)], PredictionSampler(held))


def _shares(renders: Sequence[int], photographs: Sequence[int], share: float) -> list[float]:
    """Share of each pack among the sampled hands: renders by size, photographs by the square root of theirs, so that
    small sources count."""
    share = share if sum(photographs) else 0.0
    roots = [n**0.5 for n in photographs]
    return [(1 - share) * n / max(sum(renders), 1) for n in renders] + [share * n / max(sum(roots), 1) for n in roots]


def build_paper_stage(
    stage: str,
    roots: Sequence[Path],
    *,
    approach: str = "proposed",
    posenet: Path | None = None,
    most_held_out: int | None = None,
) -> Stage:
    """A stage of the paper's family, ready for the loop.

    approach: of lifting, one of networks.lifting.LIFTINGS; posenet: weights of a PoseNet on whose maps lifting is
    trained, None for maps of the labels. most_held_out: number of images on which HandSegNet and PoseNet are evaluated
    during training, None for the stage's own number.
    """
    if stage == "handsegnet":
        scenes = [StoredScenes(root, "training") for root in roots]
        return PaperSegmentationStage(HandSegNet(), scenes, StoredScenes(roots[0], "evaluation", most_held_out))
    train, held_out = dominant_hands(roots, "training"), dominant_hands(roots[:1], "evaluation")
    if stage == "posenet" and most_held_out is not None:
        held_out = held_out[:: max(1, -(-len(held_out) // most_held_out))]
    if stage == "posenet":
        return PaperPoseStage(PoseNet(), train, held_out)
    pose = None
    if posenet is not None:
        pose = PoseNet()
        load_weights(pose, posenet)
    return PaperLiftingStage(LIFTINGS[approach](), train, held_out, pose)


class TrueCrops:
    """PoseNet on crops of the true pose of labelled photographs: measured on during training, never trained on.

    Of hands that have all keypoints the visible ones count, and sides that are known. Raises InvalidInputError where
    there is no such hand.
    """

    def __init__(self, folder: Path, size: int = CROP_SIZE, every: int = 2) -> None:
        from hand_pose_3d.datasets.keypoints import read_keypoints
        from hand_pose_3d.windows import crop_from_pose

        self.name = folder.name
        samples = [s for s in read_keypoints(folder) if s.visible.any() and np.isfinite(s.keypoints_px).all()][::every]
        if not samples:
            raise InvalidInputError(f"{folder} has no hand with all {NUM_KEYPOINTS} keypoints")
        self.truth = np.stack([np.where(s.visible[:, None], s.keypoints_px, np.nan) for s in samples])
        self.side = [s.side for s in samples]
        self.crops = [crop_from_pose(s.keypoints_px, size, CROP_MARGIN) for s in samples]
        self.images = np.stack([c.extract(s.image()) for c, s in zip(self.crops, samples)])

    @torch.inference_mode()
    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Median and mean error in the photographs' own pixels, and share of right sides if the network tells sides."""
        device = next(network.parameters()).device
        found: list[np.ndarray] = []
        sides: list[Side] = []
        for start in range(0, len(self.images), 50):
            x = image_to_input(torch.from_numpy(self.images[start : start + 50]))
            prediction = network(x.to(device))
            uv = from_unit(prediction.keypoints.cpu().numpy(), x.shape[-1])
            found += [crop.to_image(points) for crop, points in zip(self.crops[start : start + 50], uv)]
            if hasattr(prediction, "side_logit"):
                sides += [Side.RIGHT if logit > 0 else Side.LEFT for logit in prediction.side_logit.tolist()]
        errors = np.linalg.norm(np.stack(found) - self.truth, axis=-1)
        key = f"{self.name}_true_crops"
        metrics = {f"{key}_median_px": float(np.nanmedian(errors)), f"{key}_mean_px": float(np.nanmean(errors))}
        known = [one == true for one, true in zip(sides, self.side) if true != Side.UNKNOWN]
        return metrics | ({f"{key}_side": float(np.mean(known))} if known else {})


def start_from(network: nn.Module, path: Path) -> None:
    """Fill a network from a weights file before it is trained, or to be averaged with.

    Raises WeightsError as `load_weights` does, and for weights that may not be shipped on as Apache-2.0.
    """
    metadata = load_weights(network, path)
    if metadata["licence"] != LICENCE:
        raise WeightsError(
            f"{path} cannot be a starting point: its licence is {metadata['licence']!r}, and weights that are "
            f"saved here are {LICENCE}"
        )


def save_stage(
    stage: str,
    run: Path,
    folder: Path,
    metrics: dict[str, float],
    family: str = "lite",
    held_out: Path | None = None,
    mean_with: Path | None = None,
) -> Path:
    """Write the averaged network of a run as float16 safetensors, with its metrics, and return their path.

    held_out: data set on whose evaluation split the scores of a LitePoseNet are calibrated first. mean_with: weights
    whose mean with the run's is written instead, without metrics (Wortsman et al., Model soups, ICML 2022).
    """
    network = NETWORKS[family][stage]()
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    network.load_state_dict(state["average"])
    if mean_with is not None:
        other = NETWORKS[family][stage]()
        start_from(other, mean_with)
        with torch.no_grad():
            for one, another in zip(network.state_dict().values(), other.state_dict().values()):
                one.copy_((one + another) / 2)
        metrics = {}
    if isinstance(network, LitePoseNet) and held_out is not None:
        sampler, rng = PoseSampler([crop_pack(held_out, "evaluation", 0)]), np.random.default_rng(4)
        metrics = metrics | calibrate(network, [sampler(rng) for _ in range(1000)])
    metadata = {"family": family, "version": __version__, "licence": LICENCE, "images_seen": str(state["seen"])}
    path = folder / f"{family}-{stage}.safetensors"
    save_weights(path, network, {**metadata, "figures": json.dumps(metrics)}, half=True)
    return path
