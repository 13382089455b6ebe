"""The two families of networks behind one interface: where hands may be, and what a crop holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hand_pose_3d.camera import Crop
from hand_pose_3d.errors import WeightsError
from hand_pose_3d.geometry import from_canonical
from hand_pose_3d.runtime import make_runner
from hand_pose_3d.segmentation import HandMask, HandRegion, grow_region
from hand_pose_3d.skeleton import Side
from hand_pose_3d.weights import Conventions, default_weights, load_weights

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class CropReading:
    """What a crop holds. uv: (21, 2) crop pixels; scores: (21,); right, presence: probabilities; canonical:
    (21, 3) of the hand's own side; rotation: (3, 3) crop axes from canonical. relative: (21, 3) crop axes."""

    uv: np.ndarray
    scores: np.ndarray
    right: float
    presence: float
    canonical: np.ndarray
    rotation: np.ndarray

    @property
    def relative(self) -> np.ndarray:
        """(21, 3) wrist at zero, reference bone of length one, crop axes."""
        return from_canonical(self.canonical, self.rotation)


class Family(Protocol):
    """One family of networks, loaded."""

    crop_size: int
    crop_margin: float  # edge of a crop over the extent of the hand's keypoints
    region_margin: float  # edge of a first crop over the longer side of a region of the mask
    upright: bool  # whether crops are turned so that the hand points up

    def segment(self, image: np.ndarray, max_hands: int) -> HandMask:
        """Where up to max_hands hands may be in an image (H, W, 3) RGB uint8."""

    def read(self, crops: np.ndarray, sides: list[Side]) -> list[CropReading]:
        """Read crops (N, S, S, 3) RGB uint8; an unknown side is estimated."""


def _path(weights: Path | None, name: str) -> Path:
    return default_weights(name) if weights is None else weights / f"{name}.safetensors"


class LiteFamily:
    """Networks that a CPU runs in real time."""

    crop_size, crop_margin, region_margin, upright = 160, 1.3, 1.15, True
    _area, _step, _cell = 170 * 128, 32, 4

    def __init__(self, weights: Path | None, device: torch.device, dtype: torch.dtype) -> None:
        from hand_pose_3d.networks.lite import LiteHandSegNet, LiteLifting, LitePoseNet
        from hand_pose_3d.networks.lite_runtime import CropReader, SceneReader

        segmentation, pose, lifting = LiteHandSegNet(), LitePoseNet(), LiteLifting()
        networks: dict[str, nn.Module] = {"handsegnet": segmentation, "posenet": pose, "lifting": lifting}
        for name, network in networks.items():
            load_weights(network, _path(weights, f"lite-{name}"))
        scene, crop, size = SceneReader(segmentation), CropReader(pose, lifting), self.crop_size
        examples: list[np.ndarray] = [np.zeros((1, 192, 256, 3), np.uint8)]
        self._scene = make_runner(scene, examples, device, dtype, dynamic=[{0: "n", 1: "h", 2: "w"}])
        examples = [np.zeros((2, size, size, 3), np.uint8), np.full(2, -1, np.float32)]
        self._crop = make_runner(crop, examples, device, dtype, dynamic=[{0: "n"}, {0: "n"}])

    def segment(self, image: np.ndarray, max_hands: int) -> HandMask:
        """See :class:`Family`."""
        import cv2

        height, width = image.shape[:2]
        # About as many pixels as _area in the image's own shape, so that nothing is distorted.
        scale = (self._area / (height * width)) ** 0.5
        inner = (max(round(width * scale), 8), max(round(height * scale), 8))
        padded = [-(-x // self._step) * self._step for x in inner]
        canvas = np.full((padded[1], padded[0], 3), 114, np.uint8)
        finer = math.ceil(0.5 / scale)
        if finer > 1:
            # Samples at most two pixels apart, averaged below: averaging all pixels of a large image takes longer.
            image = cv2.resize(image, (finer * inner[0], finer * inner[1]), interpolation=cv2.INTER_LINEAR)
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        canvas[: inner[1], : inner[0]] = cv2.resize(image, inner, interpolation=way)
        probability = self._scene(canvas[None])[0][0]
        probability = probability[: -(-inner[1] // self._cell), : -(-inner[0] // self._cell)]
        step = (width / inner[0] * self._cell, height / inner[1] * self._cell)
        return HandMask(probability, (width, height), step, min_area=6, reach=1)

    def read(self, crops: np.ndarray, sides: list[Side]) -> list[CropReading]:
        """See :class:`Family`."""
        code = {Side.UNKNOWN: -1.0, Side.LEFT: 0.0, Side.RIGHT: 1.0}
        uv, scores, right, presence, canonical, rotation = self._crop(
            crops, np.array([code[s] for s in sides], np.float32)
        )
        uv = uv * self.crop_size - 0.5
        return [
            CropReading(
                uv[i],
                scores[i],
                float(right[i]),
                float(presence[i]),
                canonical[i].astype(float),
                rotation[i].astype(float),
            )
            for i in range(len(crops))
        ]


class PaperFamily:
    """The paper's networks. They take the side as an input; the lite PoseNet estimates it where it is not given."""

    crop_size, crop_margin, region_margin, upright = 256, 1.25, 1.25, False
    _input = (320, 240)

    def __init__(self, weights: Path | None, device: torch.device, dtype: torch.dtype) -> None:
        from hand_pose_3d.networks import HandSegNet, Lifting, PoseNet
        from hand_pose_3d.networks.lite import LitePoseNet
        from hand_pose_3d.networks.paper_runtime import PaperCropReader, PaperSceneReader

        segmentation, pose, lifting, side = HandSegNet(), PoseNet(), Lifting(), LitePoseNet()
        for name, network in (("paper-handsegnet", segmentation), ("paper-posenet", pose)):
            metadata = load_weights(network, _path(weights, name))
        self._keypoints = Conventions.from_metadata(metadata)
        self._pose = Conventions.from_metadata(load_weights(lifting, _path(weights, "paper-lifting")))
        load_weights(side, default_weights("lite-posenet"))
        examples: list[np.ndarray] = [np.zeros((1, 240, 320, 3), np.uint8)]
        self._scene = make_runner(PaperSceneReader(segmentation), examples, device, dtype, dynamic=[{0: "n"}])
        examples = [np.zeros((2, 256, 256, 3), np.uint8), np.full(2, -1, np.float32)]
        reader = PaperCropReader(pose, lifting, side)
        self._crop = make_runner(reader, examples, device, dtype, dynamic=[{0: "n"}, {0: "n"}])

    def segment(self, image: np.ndarray, max_hands: int) -> HandMask:
        """See :class:`Family`: the paper's region growing for one hand, connected regions for more."""
        import cv2

        height, width = image.shape[:2]
        way = cv2.INTER_AREA if width > self._input[0] else cv2.INTER_LINEAR
        probability = self._scene(cv2.resize(image, self._input, interpolation=way)[None])[0][0]
        if max_hands == 1:
            probability = np.where(grow_region(probability), probability, 0)
        return HandMask(probability, (width, height), (width / self._input[0], height / self._input[1]))

    def read(self, crops: np.ndarray, sides: list[Side]) -> list[CropReading]:
        """See :class:`Family`."""
        code = {Side.UNKNOWN: -1.0, Side.LEFT: 0.0, Side.RIGHT: 1.0}
        out = self._crop(crops, np.array([code[s] for s in sides], np.float32))
        readings = []
        for uv, scores, right, presence, canonical, rotation in zip(*out):
            uv = self._keypoints.keypoints_to_public(uv)
            canonical = self._pose.pose_to_public(canonical.astype(float))
            readings.append(CropReading(uv, scores, float(right), float(presence), canonical, rotation.astype(float)))
        return readings


FAMILIES: dict[str, type] = {"lite": LiteFamily, "paper": PaperFamily}


def load_family(name: str, weights: str | Path | None, device: torch.device, dtype: torch.dtype) -> Family:
    """A family by name, from the shipped weights or from a folder that holds NAME.safetensors for each network.

    Raises WeightsError if a file is missing or damaged.
    """
    folder = None if weights is None or str(weights) == "" else Path(weights)
    if folder is not None and not folder.is_dir():
        raise WeightsError(
            f"weights must be a folder with files such as {name}-posenet.safetensors; {folder} is not one"
        )
    return FAMILIES[name](folder, device, dtype)


def first_crop(region: HandRegion, family: Family) -> Crop:
    """The window around a region of the mask, of which no direction is known."""
    x, y, w, h = region.box
    center = (x + (w - 1) / 2, y + (h - 1) / 2)
    return Crop(center, max(w, h, 8) * family.region_margin, family.crop_size)
