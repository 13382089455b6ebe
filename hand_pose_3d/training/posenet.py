"""Stage posenet, lite family: score maps, side and presence from crops of one hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hand_pose_3d.camera import Crop
from hand_pose_3d.conventions import INPUT_MEAN, from_unit, image_to_input, rescale_pixels
from hand_pose_3d.families import LiteFamily
from hand_pose_3d.networks.lite import LitePoseNet, soft_argmax
from hand_pose_3d.skeleton import Side
from hand_pose_3d.training import augment
from hand_pose_3d.training.crops import HARD_NEGATIVE_MARGIN, PACK_SIZE, CropPack, flip
from hand_pose_3d.training.loop import Mixture, Stage
from hand_pose_3d.windows import crop_from_pose

CROP_SIZE, CROP_MARGIN = LiteFamily.crop_size, LiteFamily.crop_margin


@dataclass(frozen=True)
class CropSample:
    """One training example. uv in crop pixels; weight (21,) of each keypoint; side 0 left, 1 right, NaN unknown; spread
    (21,): standard deviation of the labels in crop pixels."""

    image: np.ndarray
    uv: np.ndarray
    weight: np.ndarray
    side: float
    presence: int
    spread: np.ndarray = field(default_factory=lambda: np.zeros(21, np.float32))


MOST_CUT = 0.45  # of a hand's extent, beyond an edge
HARD_NEGATIVE_SCALES = -0.05, 0.43
"""Logarithms of the least and largest edge of the crop of a hard negative over its window, which is 1.3 times the
extent of a detection: detections are read in windows of up to twice their extent, and again about what was read."""


@dataclass(frozen=True)
class PoseAugmentation:
    """Augmentation: deviations of crops from the ideal one, as at run time."""

    turn: float = 0.35  # standard deviation of rotation about the upright crop, radians
    any_turn: float = 0.25  # share of crops with uniformly random rotation
    margin: tuple[float, float] = (1.1, 1.7)
    shift: float = 0.07  # standard deviation, share of the crop's edge
    rough: float = 0.0  # share of crops as far off as windows about detections; the last window of a hand is not
    rough_margin: tuple[float, float] = (0.85, 2.3)
    rough_shift: float = 0.12
    swap: float = 0.5  # share of samples that get another background
    occlude: float = 0.15
    cut: float = 0.15  # share of crops that the picture's edge cuts off, by up to MOST_CUT of a hand's extent
    empty: float = 0.13  # share of crops that hold no hand
    hard_negative: float = 0.7  # share of hard negatives among those, if there are any
    beside: float = 0.12  # share among those of windows beside a hand, or far too large or small for it
    drawn: float = 0.06  # share among the others of flat drawings of hands, as on signs


def _jittered(
    uv: np.ndarray, size: int, augmentation: PoseAugmentation, rng: np.random.Generator, upright_known: bool = True
) -> Crop:
    rough = rng.random() < augmentation.rough
    margin, shift = (
        (augmentation.rough_margin, augmentation.rough_shift) if rough else (augmentation.margin, augmentation.shift)
    )
    ideal = crop_from_pose(uv, size, float(rng.uniform(*margin)))
    any_turn = rng.random() < augmentation.any_turn or not upright_known
    angle = rng.uniform(-np.pi, np.pi) if any_turn else ideal.angle + rng.normal(0, augmentation.turn)
    center = np.asarray(ideal.center) + rng.normal(0, shift, 2) * ideal.side
    return Crop((float(center[0]), float(center[1])), ideal.side, size, float(angle))


def _beside(uv: np.ndarray, size: int, rng: np.random.Generator) -> Crop:
    """A window that covers a hand so badly that it counts as empty."""
    ideal = crop_from_pose(uv, size, CROP_MARGIN)
    center, side = np.asarray(ideal.center), ideal.side
    kind = rng.random()
    if kind < 0.6:
        direction = rng.uniform(-np.pi, np.pi)
        center = center + rng.uniform(0.6, 0.85) * side * np.array([np.cos(direction), np.sin(direction)])
    else:
        side *= rng.uniform(0.28, 0.42) if kind < 0.8 else rng.uniform(2.6, 3.4)
        center = center + rng.normal(0, 0.15, 2) * ideal.side
    return Crop((float(center[0]), float(center[1])), side, size, float(rng.uniform(-np.pi, np.pi)))


def _beyond_edge(uv: np.ndarray, crop: Crop, rng: np.random.Generator) -> np.ndarray:
    """Bool (S, S), true beyond an edge of the picture that cuts part of the hand at uv (K, 2) off, on any side."""
    axis, far, depth = rng.integers(2), rng.random() < 0.5, rng.uniform(0, MOST_CUT)
    low, high = uv[:, axis].min(), uv[:, axis].max()
    corner, right, down = crop.to_image(np.array([[0, 0], [1, 0], [0, 1]]))[:, axis]
    line = np.arange(crop.size)
    at = corner + (right - corner) * line + (down - corner) * line[:, None]
    return at > high - depth * (high - low) if far else at < low + depth * (high - low)


def _inside(uv: np.ndarray, size: int) -> np.ndarray:
    """(21,) float32: 1 for keypoints in the crop, which count in the loss."""
    return np.all((uv > 0) & (uv < size - 1), axis=1).astype(np.float32)


class PoseSampler:
    """Draws augmented crops from packs."""

    def __init__(
        self,
        packs: Sequence[CropPack],
        augmentation: PoseAugmentation | None = None,
        shares: Sequence[float] | None = None,
        size: int = CROP_SIZE,
    ) -> None:
        """shares: of the packs among the sampled hands; None: by their sizes. size: of the crops, pixels."""
        self.augmentation, self.size = augmentation or PoseAugmentation(), size
        self.hands = Mixture(packs, [len(p) for p in packs] if shares is None else shares)
        self.hard_negatives = Mixture([p.hard_negatives for p in packs], [len(p.hard_negatives) for p in packs])
        self.backgrounds = Mixture([p.backgrounds for p in packs], [len(p.backgrounds) for p in packs])

    def background(self, rng: np.random.Generator) -> np.ndarray:
        """A square without a hand, cut at random from one background."""
        images = self.backgrounds.draw(rng)
        source = images[rng.integers(len(images))]
        size = source.shape[0]
        side = float(np.exp(rng.uniform(np.log(0.35), 0.0)) * size)
        center = rng.uniform(side / 2, size - side / 2 + 1e-6, 2)
        image = Crop((float(center[0]), float(center[1])), side, self.size).extract(np.asarray(source))
        return image[:, ::-1] if rng.random() < 0.5 else image

    def hard_negative(self, rng: np.random.Generator) -> np.ndarray:
        """A crop around a hard negative, with the rotation and scale of other crops."""
        images = self.hard_negatives.draw(rng)
        source = np.ascontiguousarray(images[rng.integers(len(images))])
        edge = PACK_SIZE / HARD_NEGATIVE_MARGIN
        center = (PACK_SIZE - 1) / 2 + rng.normal(0, self.augmentation.shift, 2) * edge
        angle = float(rng.uniform(-np.pi, np.pi)) if rng.random() < 0.5 else 0.0
        side = edge * float(np.exp(rng.uniform(*HARD_NEGATIVE_SCALES)))
        image = Crop((float(center[0]), float(center[1])), side, self.size, angle).extract(source)
        return image[:, ::-1] if rng.random() < 0.5 else image

    def __call__(self, rng: np.random.Generator) -> CropSample:
        """One augmented sample."""
        return self.draw(rng)[0]

    def draw(self, rng: np.random.Generator) -> tuple[CropSample, Crop, np.ndarray]:
        """One augmented sample, its window in the pack's picture, and the hand's keypoints (21, 3) in camera axes."""
        augmentation = self.augmentation
        pack = self.hands.draw(rng)
        missing = rng.random() < augmentation.empty
        beside = missing and rng.random() < augmentation.beside
        if missing and not beside:
            with_keypoints = np.flatnonzero(pack.visible.any(1))  # others are boxes
            if len(with_keypoints) and rng.random() < augmentation.drawn:
                uv = pack.uv[rng.choice(with_keypoints)]
                window = _jittered(uv, self.size, augmentation, rng)
                image = augment.pictogram(self.background(rng), window.to_crop(uv), rng)
            else:
                hard = len(self.hard_negatives) > 0 and rng.random() < augmentation.hard_negative
                image = np.ascontiguousarray((self.hard_negative if hard else self.background)(rng))
            image = augment.degrade(augment.recolour(image, rng), rng)
            if rng.random() < augmentation.cut:
                whole = Crop(((self.size - 1) / 2,) * 2, self.size, self.size)
                image[_beyond_edge(np.array([[0.2, 0.2], [0.8, 0.8]]) * self.size, whole, rng)] = 0
            nothing = CropSample(image, np.zeros((21, 2), np.float32), np.zeros(21, np.float32), np.nan, 0)
            return nothing, Crop((0.0, 0.0), 1.0, self.size), np.zeros((21, 3))
        index = int(rng.integers(len(pack)))
        uv, xyz_m, side = pack.uv[index], pack.xyz_m[index], Side(int(pack.side[index]))
        rgba = np.asarray(pack.rgba[index])
        if rng.random() < 0.5:
            rgba = rgba[:, ::-1]
            uv, xyz_m, side = flip(uv, xyz_m, side, rgba.shape[1])
        boxed = pack.spread is not None and not pack.visible[index].any()  # only its box is known
        crop = _beside(uv, self.size, rng) if beside else _jittered(uv, self.size, augmentation, rng, not boxed)
        four = crop.extract(np.ascontiguousarray(rgba))
        image = four[..., :3]
        outside = rgba[..., 3].max() < 255 or rng.random() < augmentation.swap
        if outside:
            alpha = cv2.GaussianBlur(four[..., 3], (0, 0), 0.7)[..., None].astype(np.float32) / 255
            image = (image * alpha + self.background(rng) * (1 - alpha)).astype(np.uint8)
        image = np.ascontiguousarray(image)
        if rng.random() < augmentation.occlude:
            image = augment.occlude(image, self.backgrounds.sources[0], rng)
        image = augment.degrade(augment.recolour(image, rng), rng)
        if rng.random() < augmentation.cut:
            image[_beyond_edge(uv, crop, rng)] = 0
        uv = crop.to_crop(uv).astype(np.float32)
        weight = np.zeros(21, np.float32) if beside else _inside(uv, self.size)
        spread = np.zeros(21, np.float32)
        if pack.spread is not None:
            weight = weight * pack.visible[index]  # beyond a photograph's border the teacher's keypoints are guesses
            spread = (pack.spread[index] * np.ptp(uv, axis=0).max()).astype(np.float32)
        right = np.nan if side == Side.UNKNOWN or beside else float(side == Side.RIGHT)
        return CropSample(image, uv, weight, right, int(not beside), spread), crop, xyz_m


def ideal_sample(pack: CropPack, index: int, size: int = CROP_SIZE) -> CropSample:
    """The crop of the true pose without any augmentation, for evaluation. size: of the crop, pixels."""
    uv = pack.uv[index]
    crop = crop_from_pose(uv, size, CROP_MARGIN)
    image = crop.extract(np.ascontiguousarray(pack.rgba[index]))[..., :3]
    uv = crop.to_crop(uv).astype(np.float32)
    right = np.nan if pack.side[index] == Side.UNKNOWN else float(pack.side[index] == Side.RIGHT)
    weight = _inside(uv, size) * (pack.visible[index] if pack.spread is not None else 1)
    return CropSample(image, uv, weight.astype(np.float32), right, 1)


def collate(samples: Sequence[CropSample]) -> tuple[torch.Tensor, ...]:
    """Images as float (N, 3, S, S) in -0.5..0.5, uv (N, 21, 2), weight (N, 21), side, presence (N,), spread (N, 21)."""
    images = image_to_input(torch.from_numpy(np.stack([s.image for s in samples])))
    return (
        images.to(memory_format=torch.channels_last),
        torch.from_numpy(np.stack([s.uv for s in samples])),
        torch.from_numpy(np.stack([s.weight for s in samples])),
        torch.tensor([s.side for s in samples], dtype=torch.float32),
        torch.tensor([s.presence for s in samples], dtype=torch.float32),
        torch.from_numpy(np.stack([s.spread for s in samples])),
    )


def target_maps(uv: torch.Tensor, size: int, sigma: float | torch.Tensor = 1.3) -> torch.Tensor:
    """Normalised Gaussians (N, K, size, size) at uv (N, K, 2) in map pixels; sigma: of all, or (N, K)."""
    grid = torch.arange(size, dtype=uv.dtype, device=uv.device)
    width = 2 * torch.as_tensor(sigma, dtype=uv.dtype, device=uv.device)[..., None] ** 2
    gx = torch.exp(-((grid - uv[..., 0, None]) ** 2) / width)
    gy = torch.exp(-((grid - uv[..., 1, None]) ** 2) / width)
    maps = gy[..., :, None] * gx[..., None, :]
    return maps / maps.sum((2, 3), keepdim=True).clamp_min(1e-6)


def keypoint_loss(
    score_maps: torch.Tensor, uv_map: torch.Tensor, weight: torch.Tensor, spread: torch.Tensor | None = None
) -> torch.Tensor:
    """Distance of the soft-argmax plus the Jensen-Shannon divergence of the map from a Gaussian.

    Nibali et al., 2018. score_maps: logits (N, K, h, h); uv_map: (N, K, 2); weight: (N, K); spread: (N, K) standard
    deviation of the labels in map pixels, which widens the Gaussian and lowers the weight of the distance.
    """
    log_p = score_maps.flatten(2).log_softmax(-1)
    p = log_p.exp()
    narrow = 1.3
    sigma = torch.full_like(weight, narrow) if spread is None else (narrow**2 + spread**2).sqrt()
    q = target_maps(uv_map, score_maps.shape[-1], sigma).flatten(2)
    log_m = torch.log((p + q) / 2 + 1e-12)
    divergence = 0.5 * ((p * (log_p - log_m)).sum(-1) + (q * (torch.log(q + 1e-12) - log_m)).sum(-1))
    found, _ = soft_argmax(score_maps)
    distance = (found - uv_map).abs().sum(-1) * narrow / sigma
    return ((0.35 * distance + divergence) * weight).sum() / weight.sum().clamp_min(1)


def mix_style(maps: Sequence[torch.Tensor], chance: float = 0.5, alpha: float = 0.3) -> list[torch.Tensor]:
    """MixStyle: mean and deviation of every channel mixed between pairs of images of a batch, the same in all maps.

    maps: (N, C, h, w) each; unchanged in 1 - chance of the calls. Renders differ from photographs mostly in such
    statistics. Source: Zhou et al., Domain generalization with MixStyle, ICLR 2021.
    """
    if torch.rand(()) >= chance:
        return list(maps)
    n = len(maps[0])
    other = torch.randperm(n)
    keep = torch.distributions.Beta(alpha, alpha).sample((n, 1, 1, 1))
    mixed = []
    for x in maps:
        mean, deviation = x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True) + 1e-6
        share = keep.to(x)
        x = (x - mean) / deviation * (share * deviation + (1 - share) * deviation[other])
        mixed.append(x + share * mean + (1 - share) * mean[other])
    return mixed


class LitePoseStage(Stage):
    """Training of LitePoseNet. The trunk has a lower learning rate and frozen first blocks, followed by MixStyle."""

    defaults: ClassVar[dict[str, Any]] = {"images": 600_000, "batch": 32, "learning_rate": 1e-3}
    seed = 7
    network: LitePoseNet

    def __init__(
        self,
        network: LitePoseNet,
        train: Sequence[CropPack],
        held_out: CropPack,
        extra_evaluation: Callable[[nn.Module], dict[str, float]] | None = None,
        frozen_blocks: int = 4,
        trunk_rate: float = 0.2,
        shares: Sequence[float] | None = None,
    ) -> None:
        self.network, self.frozen, self.trunk_rate = network, frozen_blocks, trunk_rate
        self.sampler = PoseSampler(train, PoseAugmentation(rough=0.4), shares)
        self.held_out = spread_out(held_out)
        self.extra_evaluation = extra_evaluation
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for module in (network.trunk.stem, *network.trunk.blocks[:frozen_blocks]):
            module.requires_grad_(False)

    def parameter_groups(self, learning_rate: float) -> list[dict]:
        """Parameters of the trunk and of the rest."""
        trunk = [p for p in self.network.trunk.parameters() if p.requires_grad]
        inside = {id(p) for p in self.network.trunk.parameters()}
        rest = [p for p in self.network.parameters() if id(p) not in inside]
        return [{"params": trunk, "lr": learning_rate * self.trunk_rate}, {"params": rest, "lr": learning_rate}]

    def draw(self, rng: np.random.Generator, size: int) -> tuple:
        """Augmented examples."""
        return collate([self.sampler(rng) for _ in range(size)])

    def loss(self, batch: tuple) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss of both stages' maps, of the side where there is a hand, and of the presence everywhere."""
        images, uv, weight, side, presence, spread = batch
        trunk = self.network.trunk
        with torch.no_grad():
            maps, x = trunk.front(images + INPUT_MEAN, self.frozen)
            *maps, x = mix_style([*maps, x])
        out = self.network.read(*trunk.rest(maps, x, self.frozen))
        scale = out.score_maps[-1].shape[-1] / images.shape[-1]
        uv_map = rescale_pixels(uv, scale)
        pose = torch.stack(
            [keypoint_loss(maps.float(), uv_map, weight, spread * scale) for maps in out.score_maps]
        ).sum()
        known = (~side.isnan()).float()
        side_loss = (
            F.binary_cross_entropy_with_logits(out.side_logit.float(), side.nan_to_num(), reduction="none") * known
        ).mean()
        presence_loss = F.binary_cross_entropy_with_logits(out.presence_logit.float(), presence)
        total = pose + 0.6 * side_loss + 0.3 * presence_loss
        return total, {"loss_pose": pose.item(), "loss_side": side_loss.item(), "loss_presence": presence_loss.item()}

    @torch.inference_mode()
    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Errors on held-out renders, true crops, in pixels of a 256 px crop; then those of the further evaluation."""
        metrics, outputs = evaluate_crops(network, self.held_out)
        right = torch.cat([out.side_logit.cpu() > 0 for out in outputs])
        side = torch.tensor([sample.side for sample in self.held_out])
        metrics["renders_side"] = (right == (side > 0.5))[~side.isnan()].float().mean().item()
        return metrics | (self.extra_evaluation(network) if self.extra_evaluation else {})


def spread_out(pack: CropPack, size: int = CROP_SIZE, most: int = 400) -> list[CropSample]:
    """Samples of the true crops of a pack, at most so many, evenly spread over it."""
    picks = np.linspace(0, len(pack) - 1, min(len(pack), most)).astype(int)
    return [ideal_sample(pack, int(i), size) for i in picks]


@torch.inference_mode()
def evaluate_crops(network: nn.Module, samples: Sequence[CropSample]) -> tuple[dict[str, float], list[Any]]:
    """Median and mean error of the keypoints inside true crops, pixels of a 256 px crop, and the network's outputs."""
    network.eval()
    device = next(network.parameters()).device
    errors, outputs = [], []
    for start in range(0, len(samples), 50):
        images, uv, weight, *_ = collate(samples[start : start + 50])
        out = network(images.to(device))
        edge = images.shape[-1]
        errors.append((from_unit(out.keypoints.cpu(), edge) - uv).norm(dim=-1)[weight > 0] * 256 / edge)
        outputs.append(out)
    e = torch.cat(errors)
    return {"renders_median_px256": e.median().item(), "renders_mean_px256": e.mean().item()}, outputs
