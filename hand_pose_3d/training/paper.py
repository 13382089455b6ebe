"""The paper's networks by the paper's recipe: losses, augmentation and learning rates of the authors' code.

Keypoint 0 is the wrist and the reference bone the index finger's, as everywhere in this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hand_pose_3d.camera import Crop
from hand_pose_3d.conventions import PAPER_BORDER, image_to_input
from hand_pose_3d.datasets.sample import Sample
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.evaluation.metrics import summarise
from hand_pose_3d.families import PaperFamily
from hand_pose_3d.geometry import normalise, to_canonical
from hand_pose_3d.networks import HandSegNet, PoseNet
from hand_pose_3d.networks.lifting import LocalLifting, NearestNeighbourLifting, chain_from_keypoints
from hand_pose_3d.networks.pose_prior import MAP_SIZE
from hand_pose_3d.networks.tensorflow_ops import resize_bilinear
from hand_pose_3d.skeleton import MIDDLE_MCP, NUM_KEYPOINTS, Side
from hand_pose_3d.training.loop import Mixture, Stage
from hand_pose_3d.training.scenes import HAND, Scenes
from hand_pose_3d.windows import crop_authors

CROP_PX = PaperFamily.crop_size
SIGMA_SHARE = 25 / CROP_PX
"""Width of the label maps exp(-d^2 / sigma^2) over the crop's edge."""

ADAM: dict[str, Any] = {
    "batch": 8,
    "warm_up": 0,
    "average": 0.0,
    "weight_decay": 0.0,
    "clip": float("inf"),
}
"""Loop settings for plain Adam, as in the authors' code."""


@dataclass(frozen=True)
class PaperAugmentation:
    """Noise of training crops; standard deviations in pixels of the source image, of which at most two occur."""

    keypoint_px: float = 2.5  # of every label
    center_px: float = 20.0  # of the crop's centre, before its size is set to contain the hand
    offset_px: float = 0.0  # of the crop's centre, after it
    zoom: float = 1.0  # the crop's scale is multiplied by up to this


LIFTING_AUGMENTATION = PaperAugmentation(offset_px=10.0, zoom=1.2)  # as in hand3d
NO_AUGMENTATION = PaperAugmentation(0.0, 0.0)


def training_crop(
    uv: np.ndarray, visible: np.ndarray, size: int, augmentation: PaperAugmentation, rng: np.random.Generator
) -> Crop:
    """The authors' crop around a labelled hand, with noise: of 256/10 to 256 source pixels."""
    noise = _truncated_normal(rng, (2, 2))
    center = uv[MIDDLE_MCP] + noise[0] * augmentation.center_px
    side = crop_authors(center, uv[visible], CROP_PX).side / rng.uniform(1, augmentation.zoom)
    center = center + noise[1] * augmentation.offset_px
    return Crop((float(center[0]), float(center[1])), side, size)


def _truncated_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers of at most 2, as TensorFlow's truncated_normal."""
    numbers = rng.normal(size=shape)
    while (outside := np.abs(numbers) > 2).any():
        numbers[outside] = rng.normal(size=int(outside.sum()))
    return numbers


def label_maps(uv: torch.Tensor, visible: torch.Tensor, crop: int, size: int) -> torch.Tensor:
    """Maps exp(-d^2 / sigma^2) of the whole pixel that holds a keypoint; zero for hidden ones and those outside.

    uv: (N, K, 2) crop pixels; visible: (N, K); crop: the crop's edge; size: that of the maps, which average over
    crop / size pixels. Returns (N, K, size, size).
    """
    centre = uv.trunc()
    shown = visible.bool() & ((centre > 0) & (centre < crop - 1)).all(-1)
    away = torch.arange(crop, device=uv.device) - centre[..., None]
    line = torch.exp(-(away**2) / (SIGMA_SHARE * crop) ** 2)
    line = line.unflatten(-1, (size, crop // size)).mean(-1)  # a Gaussian's mean over a square is that of each axis
    return line[..., 1, :, None] * line[..., 0, None, :] * shown[..., None, None]


def pose_loss(score_maps: Sequence[torch.Tensor], target: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Root mean square error of each visible keypoint's map at the label's resolution, summed over the stages."""
    losses = []
    for maps in score_maps:
        full = resize_bilinear(maps.float(), (target.shape[-2], target.shape[-1]))
        error = ((full - target).square().mean((2, 3)) + 1e-12).sqrt()
        losses.append((error * visible).sum() / (visible.sum() + 0.001))
    return torch.stack(losses).sum()


class PaperSegmentationStage(Stage):
    """Training of HandSegNet: cross-entropy of random windows whose hue is shifted."""

    defaults: ClassVar[dict[str, Any]] = {
        **ADAM,
        "images": 320_000,
        "learning_rate": 1e-5,
        "steps": ((0.5, 0.1), (0.75, 0.01)),
    }
    seed = 17

    def __init__(self, network: HandSegNet, train: Sequence[Scenes], held_out: Scenes, window: int = CROP_PX) -> None:
        self.network, self.window = network, window
        self.packs = Mixture(train, [len(p) for p in train])
        self.held_out = [
            np.asarray(held_out[int(i)].rgbc)
            for i in np.linspace(0, len(held_out) - 1, min(len(held_out), 200)).astype(int)
        ]

    def _window(self, rng: np.random.Generator) -> np.ndarray:
        pack = self.packs.draw(rng)
        scene = pack[int(rng.integers(len(pack)))].rgbc
        if min(scene.shape[:2]) < self.window:
            raise InvalidInputError(
                f"images of {scene.shape[1]} x {scene.shape[0]} are too small: HandSegNet is trained on windows of "
                f"{self.window} x {self.window} pixels"
            )
        y, x = (int(rng.integers(0, edge - self.window + 1)) for edge in scene.shape[:2])
        four = scene[y : y + self.window, x : x + self.window].copy()
        hsv = cv2.cvtColor(np.ascontiguousarray(four[..., :3]), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + round(rng.uniform(-18, 18))) % 180  # a tenth of the circle
        four[..., :3] = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        return four

    def draw(self, rng: np.random.Generator, size: int) -> tuple:
        """Augmented examples."""
        return self._tensors([self._window(rng) for _ in range(size)])

    @staticmethod
    def _tensors(scenes: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        four = torch.from_numpy(np.stack(scenes))
        return image_to_input(four[..., :3]), (four[..., 3] == HAND).long()

    def loss(self, batch: tuple) -> tuple[torch.Tensor, dict[str, float]]:
        """Softmax cross-entropy, mean over pixels."""
        images, mask = batch
        loss = F.cross_entropy(self.network(images).float(), mask)
        return loss, {"loss_cross": loss.item()}

    @torch.inference_mode()
    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Intersection over union of hand pixels on held-out renders."""
        device, both, either = next(network.parameters()).device, 0, 0
        for start in range(0, len(self.held_out), 8):
            images, mask = self._tensors(self.held_out[start : start + 8])
            scores = network.eval()(images.to(device)).cpu()
            found, truth = scores[:, 1] > scores[:, 0], mask > 0
            both, either = both + int((found & truth).sum()), either + int((found | truth).sum())
        return {"renders_iou": both / max(either, 1)}


class HandCrops:
    """Crops of labelled hands by the authors' rule, from samples of a data set."""

    def __init__(self, samples: Sequence[Sample], augmentation: PaperAugmentation, size: int = CROP_PX) -> None:
        self.samples, self.augmentation, self.size = samples, augmentation, size

    def __call__(
        self, index: Sequence[int], rng: np.random.Generator, images: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images (N, 3, S, S) in -0.5..0.5 (empty where they are not needed), uv (N, 21, 2), visible (N, 21)."""
        pixels, labels, shown = [], [], []
        noise = self.augmentation.keypoint_px * _truncated_normal(rng, (len(index), NUM_KEYPOINTS, 2))
        for i, off in zip(index, noise):
            sample = self.samples[i]
            uv = sample.keypoints_px + off
            crop = training_crop(uv, sample.visible, self.size, self.augmentation, rng)
            labels.append(crop.to_crop(uv).astype(np.float32))
            shown.append(sample.visible.astype(np.float32))
            if images:
                pixels.append(crop.extract(sample.image(), border=PAPER_BORDER))
        stack = np.stack(pixels) if images else np.zeros((0, self.size, self.size, 3), np.uint8)
        tensor = image_to_input(torch.from_numpy(stack))
        return tensor, torch.from_numpy(np.stack(labels)), torch.from_numpy(np.stack(shown))


class PaperPoseStage(Stage):
    """Training of PoseNet: all three stages' maps against label maps at the crop's resolution."""

    defaults: ClassVar[dict[str, Any]] = {
        **ADAM,
        "images": 240_000,
        "learning_rate": 1e-4,
        "steps": ((1 / 3, 0.1), (2 / 3, 0.01)),
    }
    seed = 19

    def __init__(
        self, network: PoseNet, train: Sequence[Sample], held_out: Sequence[Sample], size: int = CROP_PX
    ) -> None:
        self.network, self.size = network, size
        self.crops = HandCrops(train, PaperAugmentation(), size)
        self.held_out = HandCrops(held_out[:: max(1, len(held_out) // 200)], NO_AUGMENTATION, size)

    def draw(self, rng: np.random.Generator, size: int) -> tuple:
        """Augmented examples."""
        return self.crops(rng.integers(len(self.crops.samples), size=size).tolist(), rng)

    def loss(self, batch: tuple) -> tuple[torch.Tensor, dict[str, float]]:
        """See :func:`pose_loss`."""
        images, uv, visible = batch
        loss = pose_loss(self.network(images), label_maps(uv, visible, self.size, self.size), visible)
        return loss, {"loss_pose": loss.item()}

    @torch.inference_mode()
    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Errors of visible keypoints on held-out renders, pixels of a 256 px crop."""
        device, errors = next(network.parameters()).device, []
        for start in range(0, len(self.held_out.samples), 8):
            index = range(start, min(start + 8, len(self.held_out.samples)))
            images, uv, visible = self.held_out(index, np.random.default_rng(0))
            maps = resize_bilinear(network.eval()(images.to(device))[-1].float(), (self.size, self.size)).cpu()
            best = maps.flatten(2).argmax(-1)
            found = torch.stack([best % self.size, best // self.size], -1)
            errors.append((found - uv).norm(dim=-1)[visible > 0] * CROP_PX / self.size)
        e = torch.cat(errors)
        return {"renders_median_px256": e.median().item(), "renders_mean_px256": e.mean().item()}


class PaperLiftingStage(Stage):
    """Training of a lifting approach on label maps, or on the maps that a trained PoseNet gives for the images."""

    defaults: ClassVar[dict[str, Any]] = {**ADAM, "images": 640_000, "learning_rate": 1e-5, "steps": ((0.75, 0.1),)}
    seed = 23

    def __init__(
        self, network: nn.Module, train: Sequence[Sample], held_out: Sequence[Sample], pose: PoseNet | None = None
    ) -> None:
        self.network = network
        self.pose = pose.eval().requires_grad_(False) if pose is not None else None
        self.crops, self.poses = HandCrops(train, LIFTING_AUGMENTATION), _poses(train)
        held_out = held_out[:: max(1, len(held_out) // 1000)]
        self.held_out, self.held_out_poses = HandCrops(held_out, NO_AUGMENTATION), _poses(held_out)
        if isinstance(network, NearestNeighbourLifting):
            uv = torch.from_numpy(np.stack([s.keypoints_px for s in train]).astype(np.float32))
            side, canonical, rotation, _ = self.poses
            network.fit(uv, canonical @ rotation.transpose(1, 2), side)

    def draw(self, rng: np.random.Generator, size: int) -> tuple:
        """Augmented examples."""
        index = rng.integers(len(self.crops.samples), size=size).tolist()
        side, canonical, rotation = (x[index] for x in self.poses[:3])
        relative = canonical @ rotation.transpose(1, 2)  # here, as products on a GPU may be rounded to 16 bits
        return (*self.crops(index, rng, images=self.pose is not None), side, canonical, rotation, relative)

    def maps(self, images: torch.Tensor, uv: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Input maps of the lifting, (N, 21, 32, 32)."""
        if self.pose is None:
            return label_maps(uv, visible, CROP_PX, MAP_SIZE)
        with torch.no_grad():
            return self.pose.to(images.device)(images)[-1]

    def loss(self, batch: tuple) -> tuple[torch.Tensor, dict[str, float]]:
        """Squared errors of the approach's own target; for the paper's, canonical pose and rotation, weight 1 : 1."""
        *inputs, side, canonical, rotation, relative = batch
        maps = self.maps(*inputs)
        if isinstance(self.network, LocalLifting):
            chain = self.network.chain(maps, side).float()
            with torch.autocast(relative.device.type, enabled=False):
                target = chain_from_keypoints(relative)
            terms = {"loss_chain": F.mse_loss(chain[:, 1:], target[:, 1:])}
        else:
            result = self.network(maps, side)
            terms = {"loss_relative": F.mse_loss(result.relative.float(), relative)}
            if result.canonical is not None:
                terms = {
                    "loss_canonical": F.mse_loss(result.canonical.float(), canonical),
                    "loss_rotation": F.mse_loss(result.rotation.float(), rotation),
                }
        return torch.stack(list(terms.values())).sum(), {key: value.item() for key, value in terms.items()}

    @torch.inference_mode()
    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Errors in millimetres on held-out renders: true root and scale, no rotation (section 5.2), wrist included."""
        side, canonical, rotation, scale_m = self.held_out_poses
        device, errors = next(iter(network.state_dict().values())).device, []
        for start in range(0, len(side), 50):
            index = range(start, min(start + 50, len(side)))
            inputs = self.held_out(index, np.random.default_rng(0), images=self.pose is not None)
            maps = self.maps(*(x.to(device) for x in inputs))
            found = network.eval()(maps, side[index].to(device)).relative.float().cpu()
            truth = canonical[index] @ rotation[index].transpose(1, 2)
            errors.append((found - truth).norm(dim=-1) * scale_m[index, None] * 1000)
        found = summarise(torch.cat(errors).numpy(), 50.0)
        return {"renders_median_mm": found.median, "renders_mean_mm": found.mean}


def _poses(samples: Sequence[Sample]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Side one-hot (N, 2), canonical (N, 21, 3), rotation_camera_canonical (N, 3, 3), reference bone (N,) in metres."""
    xyz_m = np.stack([np.asarray(s.keypoints_m, dtype=float) for s in samples])
    relative, scale = normalise(xyz_m)
    canonical, rotation = to_canonical(relative)
    right = torch.tensor([int(s.side == Side.RIGHT) for s in samples])
    numbers = (torch.from_numpy(x.astype(np.float32)) for x in (canonical, rotation, scale))
    return (F.one_hot(right, 2).float(), *numbers)  # type: ignore[return-value]
