"""Stage handsegnet, lite family: hand or not, for every pixel of a scene."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hand_pose_3d.networks.lite import LiteHandSegNet
from hand_pose_3d.training import augment
from hand_pose_3d.training.loop import Evaluation
from hand_pose_3d.training.scenes import HAND, SCENE_SIZE, ScenePack

SCENE_INPUT = (192, 128)
"""Width and height of the network's input, about those at run time."""


class SceneSampler:
    """Draws augmented scenes from packs."""

    def __init__(self, packs: Sequence[ScenePack]) -> None:
        self.packs = packs
        self.shares = np.cumsum([len(p) for p in packs]) / sum(len(p) for p in packs)

    def __call__(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Image (128, 192, 3) uint8 and hand mask (128, 192) uint8 of 0 and 1."""
        pack = self.packs[int(np.searchsorted(self.shares, rng.random()))]
        four = np.asarray(pack.rgbc[rng.integers(len(pack))])
        width, height = SCENE_INPUT
        scale = float(np.exp(rng.uniform(np.log(0.55), np.log(1.6)))) * height / SCENE_SIZE
        angle = rng.normal(0, 0.2) if rng.random() < 0.8 else rng.uniform(-np.pi, np.pi)
        c, s = np.cos(angle) * scale, np.sin(angle) * scale
        matrix = np.array([[c, -s, 0], [s, c, 0]])
        if rng.random() < 0.5:
            matrix[:, 0] *= -1
        free = np.abs(np.array([width, height]) - SCENE_SIZE * scale) / 2
        target = np.array([width, height]) / 2 + rng.uniform(-1, 1, 2) * free
        matrix[:, 2] = target - matrix[:, :2] @ np.full(2, SCENE_SIZE / 2)
        # A scene smaller than the frame goes on in its mirror image, hands and all.
        border = {"borderMode": cv2.BORDER_REFLECT_101}
        image = cv2.warpAffine(
            np.ascontiguousarray(four[..., :3]), matrix, (width, height), flags=cv2.INTER_LINEAR, **border
        )
        mask = cv2.warpAffine(
            (four[..., 3] == HAND).astype(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST, **border
        )
        return augment.degrade(augment.recolour(image, rng), rng), mask


class LiteSegmentationStage:
    """Training of LiteHandSegNet with cross-entropy and soft Dice at a quarter of the resolution.

    trunk_rate: the learning rate of the trunk's coarse stages over that of the rest; the fine ones, dear to train, stay
    as they start, and with 0 the whole trunk does.
    """

    defaults: dict[str, Any] = {"images": 150_000, "batch": 16, "learning_rate": 1e-3}

    def __init__(
        self,
        network: LiteHandSegNet,
        train: Sequence[ScenePack],
        held_out: ScenePack,
        extra_evaluation: Evaluation | None = None,
        trunk_rate: float = 0.0,
    ) -> None:
        self.network, self.trunk_rate, self.extra_evaluation = network, trunk_rate, extra_evaluation
        self.sampler = SceneSampler(train)
        sampler, rng = SceneSampler([held_out]), np.random.default_rng(5)
        self.held_out = [sampler(rng) for _ in range(200)]
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        trunk = network.trunk
        frozen = (trunk.stem, trunk.stem_act, *trunk.stages[:3]) if trunk_rate else (trunk,)
        for module in frozen:
            module.requires_grad_(False)

    def parameter_groups(self, learning_rate: float) -> list[dict]:
        """Trunk and the rest."""
        rest = [*self.network.pyramid.parameters(), *self.network.score.parameters()]
        groups = [{"params": rest, "lr": learning_rate}]
        trunk = [p for p in self.network.trunk.parameters() if p.requires_grad]
        return [*groups, {"params": trunk, "lr": learning_rate * self.trunk_rate}] if trunk else groups

    def batches(self, batch: int, rank: int, start: int) -> Iterator[tuple]:
        """Endless augmented batches."""
        rng = np.random.default_rng([rank, start, 11])
        while True:
            yield self._tensors([self.sampler(rng) for _ in range(batch)])

    @staticmethod
    def _tensors(samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.from_numpy(np.stack([image for image, _ in samples])).permute(0, 3, 1, 2).float() / 255 - 0.5
        return images.to(memory_format=torch.channels_last), torch.from_numpy(np.stack([mask for _, mask in samples]))

    def loss(self, batch: tuple) -> tuple[torch.Tensor, dict[str, float]]:
        """Both terms against the share of hand in each 4x4 cell."""
        images, mask = batch
        scores = self.network.coarse(images).float()
        share = F.avg_pool2d(mask[:, None].float(), 4)[:, 0]
        logit = scores[:, 1] - scores[:, 0]
        cross = F.binary_cross_entropy_with_logits(logit, share, pos_weight=torch.tensor(2.0, device=logit.device))
        p = logit.sigmoid()
        dice = 1 - (2 * (p * share).sum() + 1) / (p.sum() + share.sum() + 1)
        return cross + 0.3 * dice, {"loss_cross": cross.item(), "loss_dice": dice.item()}

    @torch.inference_mode()
    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Intersection over union of hand pixels on held-out renders."""
        network.eval()
        device = next(network.parameters()).device
        both = either = 0
        for start in range(0, len(self.held_out), 25):
            images, mask = self._tensors(self.held_out[start : start + 25])
            scores = network(images.to(device)).cpu()
            found, truth = scores[:, 1] > scores[:, 0], mask > 0
            both += int((found & truth).sum())
            either += int((found | truth).sum())
        figures = {"renders_iou": both / max(either, 1)}
        return figures | (self.extra_evaluation(network) if self.extra_evaluation else {})
