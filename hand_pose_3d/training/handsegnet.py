"""Stage handsegnet, lite family: segmentation of hands in a scene, and detection of each hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hand_pose_3d.camera import Crop
from hand_pose_3d.conventions import EXTENT_UNIT, STRIDE, image_to_input
from hand_pose_3d.detection import PADDING
from hand_pose_3d.networks.lite import LiteHandSegNet, SceneMaps
from hand_pose_3d.training import augment
from hand_pose_3d.training.loop import Mixture, Stage
from hand_pose_3d.training.scenes import HAND, UNKNOWN, LabelledScene, ScenePack
from hand_pose_3d.windows import crop_from_pose, crop_upright

SCENE_INPUT = 160
"""Edge of a training image in pixels: about as many pixels as the coarsest pass over a scene at run time."""


_LARGEST, _FAR_LARGER = 1.15, 1.7
"""Extents of hands over the edge of the input. Up to the first, a hand has to be detected; above the second, its parts
are labelled as no hand, because a coarser pass detects the whole; between them there is no loss. Set by hand."""


@dataclass(frozen=True)
class SceneAugmentation:
    """Augmentation: composition of scenes from pictures."""

    extent: tuple[float, float] = (6.0, 330.0)  # of the hand that determines the scale, input pixels
    turn: float = 0.2  # standard deviation of rotation, radians
    any_turn: float = 0.3  # share with uniformly random rotation
    more: float = 0.45  # chance of each further picture, three at most
    bare: float = 0.4  # share of further ones without a hand, so that a picture's edge is no sign of a hand
    empty: float = 0.22  # share of inputs without a picture of hands
    smallest: float = 48.0  # longer side of a picture within the input, pixels


class SceneSample(NamedTuple):
    """One training example. image: (S, S, 3) uint8; classes: (S, S) uint8; crops: the hands' windows at margin 1, with
    an angle of NaN if it is unknown; ignored: (S, S) uint8, 1 where hands may be unlabelled."""

    image: np.ndarray
    classes: np.ndarray
    crops: list[Crop]
    ignored: np.ndarray


class SceneSampler:
    """Puts scenes with hands before scenes without."""

    def __init__(
        self,
        packs: Sequence[tuple[ScenePack, float]],
        augmentation: SceneAugmentation | None = None,
        size: int = SCENE_INPUT,
    ) -> None:
        """packs: each with its share of the pictures of hands."""
        self.augmentation, self.size = augmentation or SceneAugmentation(), size
        with_hands = [(pack, np.flatnonzero(pack.num_sure > 0)) for pack, _ in packs]
        self.hands = Mixture(with_hands, [share * (len(x) > 0) for (_, x), (_, share) in zip(with_hands, packs)])
        self.empty = [
            (pack, i) for pack, _ in packs for i in range(len(pack)) if pack[i].complete and len(pack[i].sure) == 0
        ]

    def __call__(self, rng: np.random.Generator) -> SceneSample:
        """One augmented example."""
        size, augmentation = self.size, self.augmentation
        image = np.full((size, size, 3), PADDING, np.uint8)
        classes, ignored = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
        owner = np.zeros((size, size), np.uint8)
        hands: list[tuple[int, np.ndarray, bool, bool]] = []
        if self.empty and rng.random() < 0.9:
            pack, index = self.empty[rng.integers(len(self.empty))]
            self._paste(pack[index], self._cover(pack[index], rng), image, classes, owner, 0, rng)
        further = int(rng.random() < augmentation.more) + int(rng.random() < augmentation.more)
        kinds = [True] * bool(self.hands and rng.random() >= augmentation.empty)
        kinds += [bool(kinds) and rng.random() >= augmentation.bare for _ in range(further)]
        for number, shows_hands in enumerate(rng.permutation(kinds), 1):
            if not shows_hands:
                if self.empty:
                    pack, index = self.empty[rng.integers(len(self.empty))]
                    inside = self._paste(pack[index], self._aside(pack[index], rng), image, classes, owner, number, rng)
                    ignored[inside] = 0
                continue
            pack, with_hands = self.hands.draw(rng)
            scene = pack[int(with_hands[rng.integers(len(with_hands))])]
            matrix = self._place(scene, rng)
            inside = self._paste(scene, matrix, image, classes, owner, number, rng)
            ignored[inside] = not scene.complete and (classes[inside] == UNKNOWN)
            for uv, sure, boxed in zip(scene.keypoints_px, scene.sure, scene.only_boxes):
                hands.append((number, uv @ matrix[:, :2].T + matrix[:, 2], bool(sure), bool(boxed)))
        crops = []
        for number, uv, sure, boxed in hands:
            cells = np.clip(np.round(uv), 0, size - 1).astype(int)
            shown = (uv > -1).all(1) & (uv < size).all(1) & (owner[cells[:, 1], cells[:, 0]] == number)
            if not shown.any():
                continue
            crop = replace(crop_upright(uv, size, 1.0), angle=np.nan) if boxed else crop_from_pose(uv, size, 1.0)
            middle = np.asarray(crop.center)
            good = sure and shown.mean() > 0.5 and crop.side > 5 and ((middle >= 0) & (middle <= size - 1)).all()
            box = np.r_[uv.min(0), uv.max(0)]
            reach = 0.15 * crop.side + 2
            low = np.clip(np.floor(box[:2] - reach), 0, size).astype(int)
            high = np.clip(np.ceil(box[2:] + reach), 0, size).astype(int)
            around = np.s_[low[1] : high[1], low[0] : high[0]]
            if good and crop.side <= _LARGEST * size:
                crops.append(crop)
                ignored[around] = 0
            elif not (sure and crop.side > _FAR_LARGER * size):
                ignored[around] |= owner[around] == number
        if rng.random() < 0.5:
            image, classes, ignored = (np.ascontiguousarray(x[:, ::-1]) for x in (image, classes, ignored))
            crops = [Crop((size - 1 - c.center[0], c.center[1]), c.side, c.size, -c.angle) for c in crops]
        return SceneSample(augment.degrade(augment.recolour(image, rng), rng), classes, crops, ignored)

    def _cover(self, scene: LabelledScene, rng: np.random.Generator) -> np.ndarray:
        """A map from a picture to the input that covers all of the input, if possible."""
        height, width = scene.rgbc.shape[:2]
        least = self.size / min(height, width)
        scale = least * float(np.exp(rng.uniform(-0.1, max(np.log(1.2 / least), 0.3))))
        free = (np.array([width, height]) * scale - self.size) / 2
        target = np.full(2, self.size / 2) + rng.uniform(-1, 1, 2) * np.maximum(free, 0)
        return self._map(scene, np.array([width, height]) / 2, target, scale, 0.1, rng)

    def _aside(self, scene: LabelledScene, rng: np.random.Generator) -> np.ndarray:
        """A map from a picture to a part of the input."""
        height, width = scene.rgbc.shape[:2]
        scale = min(float(np.exp(rng.uniform(np.log(0.25), np.log(1.2)))) * self.size / max(height, width), 1.6)
        target = rng.uniform(0.05, 0.95, 2) * self.size
        return self._map(scene, np.array([width, height]) / 2, target, scale, self.augmentation.any_turn, rng)

    def _place(self, scene: LabelledScene, rng: np.random.Generator) -> np.ndarray:
        """A map from a picture to the input that shows one of its hands, at an extent drawn at random."""
        augmentation, sure = self.augmentation, np.flatnonzero(scene.sure)
        uv = scene.keypoints_px[sure[rng.integers(len(sure))]]
        crop = crop_from_pose(uv, self.size, 1.0)
        extent = float(np.exp(rng.uniform(*np.log(augmentation.extent))))
        longer = max(scene.rgbc.shape[:2])
        scale = min(max(extent / crop.side, augmentation.smallest / longer), 1.6)
        reach = 0.05 if rng.random() < 0.8 else -0.08
        target = rng.uniform(reach, 1 - reach, 2) * self.size
        return self._map(scene, np.asarray(crop.center), target, scale, augmentation.any_turn, rng)

    def _map(
        self,
        scene: LabelledScene,
        source: np.ndarray,
        target: np.ndarray,
        scale: float,
        any_turn: float,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """(2, 3) from pixels of the picture to those of the input."""
        angle = rng.uniform(-np.pi, np.pi) if rng.random() < any_turn else rng.normal(0, self.augmentation.turn)
        stretch = float(np.exp(rng.normal(0, 0.06)))
        c, s = np.cos(angle) * scale, np.sin(angle) * scale
        linear = np.array([[c, -s], [s, c]]) @ np.diag([stretch, 1 / stretch])
        return np.column_stack([linear, target - linear @ source])

    def _paste(
        self,
        scene: LabelledScene,
        matrix: np.ndarray,
        image: np.ndarray,
        classes: np.ndarray,
        owner: np.ndarray,
        number: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Draw a picture over the input; returns where, (S, S) bool."""
        rgbc, shape = scene.rgbc, (self.size, self.size)
        scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
        if scale < 0.7:  # averaged over merged pixels
            factor = max(scale, 0.02)
            inner = (max(round(rgbc.shape[1] * factor), 1), max(round(rgbc.shape[0] * factor), 1))
            fx, fy = inner[0] / rgbc.shape[1], inner[1] / rgbc.shape[0]
            columns, rows = (((np.arange(n) + 0.5) / f).astype(int) for n, f in zip(inner, (fx, fy)))
            kinds = rgbc[rows[:, None], columns, 3]
            rgbc = cv2.resize(rgbc, inner, interpolation=cv2.INTER_AREA)
            linear = matrix[:, :2] @ np.diag([1 / fx, 1 / fy])
            matrix = np.column_stack([linear, matrix[:, 2] + (linear - matrix[:, :2]) @ np.full(2, 0.5)])
        else:
            kinds = rgbc[..., 3]
        rgb, kinds = np.ascontiguousarray(rgbc[..., :3]), np.ascontiguousarray(kinds)
        cv2.warpAffine(rgb, matrix, shape, image, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
        inside = cv2.warpAffine(np.ones(rgb.shape[:2], np.uint8), matrix, shape, flags=cv2.INTER_NEAREST) > 0
        kinds = cv2.warpAffine(kinds, matrix, shape, flags=cv2.INTER_NEAREST)
        classes[inside] = kinds[inside]
        owner[inside] = number
        return inside


def targets(crops: Sequence[Crop], size: int) -> np.ndarray:
    """Maps (7, size / 4, size / 4) float32 of hands: centre, 0 to 1; log extent, sine, cosine (both 0 for an unknown
    direction), offset x and y near a hand; weight of these, whose sum over a hand's cells grows with the root of their
    number, so that neither small hands nor large ones are lost."""
    side = size // STRIDE
    maps = np.zeros((7, side, side), np.float32)
    owner = np.zeros((side, side), int)
    where = (np.arange(side) + 0.5) * STRIDE - 0.5
    for number, crop in enumerate(sorted(crops, key=lambda c: -c.side), 1):  # smaller hands overwrite larger ones
        dx, dy = (crop.center[0] - where)[None], (crop.center[1] - where)[:, None]
        spread = max(0.12 * crop.side, 0.55 * STRIDE)
        bump = np.exp(-(dx**2 + dy**2) / (2 * spread**2)).astype(np.float32)
        nearest = np.unravel_index(np.argmax(bump), bump.shape)
        bump[nearest] = 1
        near = (bump > 0.25) & (bump >= maps[0])
        maps[0] = np.maximum(maps[0], bump)
        maps[6][near], owner[near] = bump[near], number
        values = (
            np.full_like(bump, np.log(crop.side / EXTENT_UNIT)),
            np.full_like(bump, np.nan_to_num(np.sin(crop.angle))),
            np.full_like(bump, np.nan_to_num(np.cos(crop.angle))),
            np.broadcast_to(dx / crop.side, bump.shape),
            np.broadcast_to(dy / crop.side, bump.shape),
        )
        for k, value in enumerate(values, 1):
            maps[k][near] = value[near]
    total = np.bincount(owner.ravel(), maps[6].ravel(), len(crops) + 1)
    maps[6] /= np.sqrt(np.maximum(total, 1e-9))[owner]
    return maps


class LiteSegmentationStage(Stage):
    """Training of LiteHandSegNet: cross-entropy and soft Dice for the mask, CenterNet's losses for hands.

    trunk_rate: the learning rate of the trunk's coarse stages over that of the rest; the fine ones, which are slow to
    train, are frozen, with 0 the whole trunk.
    """

    defaults: ClassVar[dict[str, Any]] = {"images": 150_000, "batch": 16, "learning_rate": 1e-3}
    seed = 11
    network: LiteHandSegNet

    def __init__(
        self,
        network: LiteHandSegNet,
        train: Sequence[tuple[ScenePack, float]],
        held_out: ScenePack,
        trunk_rate: float = 0.0,
    ) -> None:
        self.network, self.trunk_rate = network, trunk_rate
        self.sampler = SceneSampler(train)
        sampler, rng = SceneSampler([(held_out, 1.0)]), np.random.default_rng(5)
        self.held_out = [sampler(rng) for _ in range(200)]
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        trunk = network.trunk
        frozen = (trunk.stem, trunk.stem_act, *trunk.stages[:3]) if trunk_rate else (trunk,)
        for module in frozen:
            module.requires_grad_(False)

    def parameter_groups(self, learning_rate: float) -> list[dict]:
        """Parameters of the trunk and of the rest."""
        inside = {id(p) for p in self.network.trunk.parameters()}
        groups = [{"params": [p for p in self.network.parameters() if id(p) not in inside], "lr": learning_rate}]
        trunk = [p for p in self.network.trunk.parameters() if p.requires_grad]
        return [*groups, {"params": trunk, "lr": learning_rate * self.trunk_rate}] if trunk else groups

    def draw(self, rng: np.random.Generator, size: int) -> tuple:
        """Augmented examples."""
        return self._tensors([self.sampler(rng) for _ in range(size)])

    @staticmethod
    def _tensors(samples: Sequence[SceneSample]) -> tuple[torch.Tensor, ...]:
        images = image_to_input(torch.from_numpy(np.stack([s.image for s in samples])))
        return (
            images.to(memory_format=torch.channels_last),
            torch.from_numpy(np.stack([s.classes for s in samples])),
            torch.from_numpy(np.stack([targets(s.crops, s.image.shape[0]) for s in samples])),
            torch.from_numpy(np.stack([s.ignored for s in samples])),
        )

    def loss(self, batch: tuple) -> tuple[torch.Tensor, dict[str, float]]:
        """Losses of the mask where it is known, of centres where labels are complete, of properties near centres."""
        images, classes, required, ignored = batch
        maps = SceneMaps(*(x.float() for x in self.network.maps(images)))
        mask = mask_loss(maps.mask, classes)
        hands = hand_loss(maps, required, ignored)
        total = 0.5 * mask + sum(hands.values())
        return total, {"loss_mask": mask.item(), **{f"loss_{k}": v.item() for k, v in hands.items()}}

    @torch.inference_mode()
    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Intersection over union of hand pixels, and average precision of centres, on held-out renders."""
        network.eval()
        device = next(network.parameters()).device
        both = either = 0
        found: list[tuple[float, bool]] = []
        hands = 0
        for start in range(0, len(self.held_out), 25):
            part = self.held_out[start : start + 25]
            images, classes, *_ = self._tensors(part)
            maps = network.maps(images.to(device))  # type: ignore[operator]
            scores = F.interpolate(maps.mask.float(), scale_factor=4.0, mode="bilinear").cpu()
            predicted, truth, known = scores[:, 1] > scores[:, 0], classes == HAND, classes != UNKNOWN
            both += int((predicted & truth & known).sum())
            either += int(((predicted | truth) & known).sum())
            centre = maps.centre.float().sigmoid().cpu()
            peaks = (centre == F.max_pool2d(centre, 3, 1, 1)) & (centre > 0.05)
            for sample, p, c in zip(part, peaks[:, 0], centre[:, 0]):
                found += _match(sample, p.numpy(), c.numpy())
                hands += len(sample.crops)
        return {"held_out_iou": both / max(either, 1), "held_out_ap": _average_precision(found, hands)}


def _match(sample: SceneSample, peaks: np.ndarray, centre: np.ndarray) -> list[tuple[float, bool]]:
    """Score of every peak and whether it is the first within a quarter of a hand's extent of its middle."""
    out, taken = [], set()
    for y, x in sorted(np.argwhere(peaks), key=lambda at: -centre[at[0], at[1]]):
        at = (np.array([x, y]) + 0.5) * STRIDE - 0.5
        if sample.ignored[int(at[1]), int(at[0])]:
            continue
        near = [
            k
            for k, crop in enumerate(sample.crops)
            if k not in taken and np.linalg.norm(at - crop.center) < max(0.25 * crop.side, STRIDE)
        ]
        taken |= set(near[:1])
        out.append((float(centre[y, x]), bool(near)))
    return out


def _average_precision(found: Sequence[tuple[float, bool]], hands: int) -> float:
    right = np.array([hit for _, hit in sorted(found, key=lambda f: -f[0])], float)
    if not len(right) or not hands:
        return 0.0
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    return float((np.maximum.accumulate(precision[::-1])[::-1] * right).sum() / hands)


def mask_loss(scores: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and soft Dice against the share of hand in each cell, where the pixels' class is known.

    scores: (N, 2, h, w); classes: (N, 4 h, 4 w).
    """
    known = F.avg_pool2d((classes != UNKNOWN)[:, None].float(), STRIDE)[:, 0]
    share = F.avg_pool2d((classes == HAND)[:, None].float(), STRIDE)[:, 0]
    known = (known == 1).float()
    logit = scores[:, 1] - scores[:, 0]
    cross = F.binary_cross_entropy_with_logits(
        logit, share, known, pos_weight=torch.tensor(2.0, device=logit.device), reduction="sum"
    ) / known.sum().clamp_min(1)
    p, share = logit.sigmoid() * known, share * known
    dice = 1 - (2 * (p * share).sum() + 1) / (p.sum() + share.sum() + 1)
    return cross + 0.3 * dice


def hand_loss(maps: SceneMaps, required: torch.Tensor, ignored: torch.Tensor) -> dict[str, torch.Tensor]:
    """CenterNet's focal loss of centres, and L1 losses of the properties there. required: (N, 7, h, w) of `targets`."""
    truth, weight = required[:, 0], required[:, 6]
    counts = 1 - F.max_pool2d(ignored[:, None].float(), STRIDE)[:, 0]
    number = (truth == 1).sum().clamp_min(1)
    logit = maps.centre[:, 0]
    p = logit.sigmoid()
    positive = (truth == 1).float()
    focal = -positive * (1 - p) ** 2 * F.logsigmoid(logit)
    focal = focal - (1 - positive) * (1 - truth) ** 4 * p**2 * F.logsigmoid(-logit) * counts
    total = weight.sum().clamp_min(1)
    extent = ((maps.extent[:, 0] - required[:, 1]).abs() * weight).sum() / total
    known = weight * required[:, 2:4].square().sum(1)
    direction = ((maps.direction - required[:, 2:4]).square().sum(1) * known).sum() / total
    offset = ((maps.offset - required[:, 4:6]).abs().sum(1) * weight).sum() / total
    return {"centre": focal.sum() / number, "extent": 2 * extent, "direction": 1.8 * direction, "offset": 2 * offset}
