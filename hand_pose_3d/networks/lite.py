"""The lite family: the paper's three roles, fast enough for real time on a CPU."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from hand_pose_3d.conventions import EXTENT_UNIT, INPUT_MEAN, PALM_STRIDES, STRIDE, to_unit
from hand_pose_3d.networks.backbones import HandTrunk, SceneTrunk
from hand_pose_3d.networks.lifting import LiftingResult
from hand_pose_3d.skeleton import NUM_KEYPOINTS

_DRAWN = 0.043
"""Standard deviation of the Gaussians that LiteFinePoseNet's maps see, share of the crop; set by hand."""


class Residual(nn.Module):
    """Two dense 3x3 convolutions around a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        nn.init.normal_(self.second.weight, std=1e-2)
        for layer in (self.first, self.second):
            nn.init.constant_(layer.bias, 0.0)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


def _up(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Pyramid(nn.Module):
    """Top-down pathway from coarse to fine maps (Lin et al., CVPR 2017), summing at each level."""

    def __init__(self, widths_in: tuple[int, ...], widths: tuple[int, ...]) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(widths_in, widths))
        self.smooth = nn.ModuleList(Residual(b) for b in widths)
        self.reduce = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in zip(widths, widths[1:]))

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """maps: fine to coarse, each half the size of the one before. Returns the finest level."""
        x = self.smooth[-1](F.relu(self.lateral[-1](maps[-1])))
        for level in range(len(maps) - 2, -1, -1):
            x = self.smooth[level](F.relu(self.lateral[level](maps[level]) + _up(self.reduce[level](x))))
        return x


class SceneMaps(NamedTuple):
    """Output of LiteHandSegNet for cells of 4 x 4 pixels, each (N, C, H/4, W/4).

    mask: scores of background and hand. centre: (C = 1) logit that a hand's middle lies in the cell. extent: (1) log of
    the hand's extent over 16 pixels. direction: (2) sine and cosine of the angle by which it is turned clockwise, 0
    when its fingers point up, not normalised. offset: (2) from the cell's middle to the hand's, x and y over its
    extent. The last three are valid where `centre` is high. Middle, extent and angle are those of
    `windows.crop_from_pose`.
    """

    mask: torch.Tensor
    centre: torch.Tensor
    extent: torch.Tensor
    direction: torch.Tensor
    offset: torch.Tensor


class LiteHandSegNet(nn.Module):
    """Hand segmentation of a whole scene, the role of the paper's HandSegNet, and where each hand is.

    forward(image (N, 3, H, W) RGB in -0.5..0.5, sides multiples of 32) returns scores (N, 2, H, W),
    0 background and 1 hand, as HandSegNet does; `maps` returns all outputs at a quarter of the size. Hands are points
    with properties as in CenterNet (Zhou et al., Objects as Points, 2019).
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = SceneTrunk()
        self.pyramid = Pyramid(SceneTrunk.widths, (32, 64, 96))
        self.score = nn.Conv2d(32, 2, 1)
        self.mix = nn.Conv2d(32, 48, 3, padding=1)
        self.hands = nn.Conv2d(48, 6, 1)
        nn.init.kaiming_normal_(self.mix.weight, nonlinearity="relu")
        nn.init.normal_(self.hands.weight, std=1e-2)
        with torch.no_grad():
            self.hands.bias.copy_(torch.tensor([-4.0, 0, 0, 1, 0, 0]))  # type: ignore[union-attr]
        # Score of a hand found in an image = sigmoid(this @ detection.evidence), fitted on predictions of the pipeline.
        self.confirmation: torch.Tensor
        self.register_buffer("confirmation", torch.tensor([0.0, 1, 0, 0, 0, 0]))

    def maps(self, image: torch.Tensor) -> SceneMaps:
        """Mask and hands of cells."""
        fine = self.pyramid(self.trunk(image + INPUT_MEAN))
        centre, extent, direction, offset = self.hands(F.relu(self.mix(fine))).split([1, 1, 2, 2], 1)
        return SceneMaps(self.score(fine), centre, extent, direction, offset)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return F.interpolate(self.maps(image).mask, scale_factor=4.0, mode="bilinear", align_corners=False)


class LitePalmNet(nn.Module):
    """Where palms are: MediaPipe Hands' palm detector as it is, and from its boxes where each hand is.

    forward(image (N, 3, H, W) RGB in -0.5..0.5, sides multiples of 32) returns, for cells of 8 and of 16 pixels, maps
    (N, 6, ., .) of centre, extent, direction and offset as in SceneMaps, extents over four cells. A cell's boxes around
    its anchors are averaged by their scores.
    """

    _anchors = (2, 6)
    _box = 18  # numbers of a box, pixels from the cell's middle: its own middle and sides, and seven points
    _hand_over_palm = 1.625
    """Extent of a hand over the edge of its palm's box: MediaPipe's windows, 2.6 boxes, over a margin of 1.6, which was
    set by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = SceneTrunk()
        heads = list(zip(SceneTrunk.widths[1:], self._anchors))
        self.scores = nn.ModuleList(nn.Conv2d(width, count, 1) for width, count in heads)
        self.boxes = nn.ModuleList(nn.Conv2d(width, count * self._box, 1) for width, count in heads)
        # Score of a hand found by both detectors = sigmoid(this @ detection.evidence), as LiteHandSegNet.confirmation.
        self.confirmation: torch.Tensor
        self.register_buffer("confirmation", torch.tensor([0.0, 1, 0, 0, 0, 0, 0]))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        _, *features = self.trunk(image + INPUT_MEAN)
        fine, coarse = (self._hands(level, x) for level, x in enumerate(features))
        return fine, coarse

    def _hands(self, level: int, features: torch.Tensor) -> torch.Tensor:
        score = self.scores[level](features).float()
        n, _, h, w = score.shape
        boxes = self.boxes[level](features).float().view(n, self._anchors[level], self._box, h, w)
        box = (score.softmax(1)[:, :, None] * boxes).sum(1)
        edge = box[:, 2:4].amax(1, keepdim=True).clamp_min(1)
        up = (box[:, 8:10] - box[:, 4:6]) / edge  # from the wrist to the middle finger's base
        offset = (box[:, :2] / edge + 0.5 * F.normalize(up, dim=1)) / self._hand_over_palm
        log_extent = edge.log() + math.log(self._hand_over_palm * STRIDE / EXTENT_UNIT / PALM_STRIDES[level])
        return torch.cat([score.amax(1, keepdim=True), log_extent, up[:, :1], -up[:, 1:], offset], 1)


class LitePose(NamedTuple):
    """Output of LitePoseNet. score_maps: logits of each stage, last is best, (N, 21, S/4, S/4); side_logit: (N,)
    positive for a right hand; presence_logit: (N,) positive where the crop holds a hand."""

    score_maps: tuple[torch.Tensor, ...]
    side_logit: torch.Tensor
    presence_logit: torch.Tensor

    @property
    def keypoints(self) -> torch.Tensor:
        """(N, 21, 2) in 0..1 over the crop."""
        return _expected(self.score_maps[-1])


class SideHead(nn.Module):
    """Left or right from appearance and keypoints.

    The thumb's direction gives the side once palm and back are distinguished: one comes from the keypoints, the other
    from the features, and their products are summed.
    """

    def __init__(self, features: int, hidden: int = 32) -> None:
        super().__init__()
        self.direct = nn.Linear(features, 1)
        self.appearance = nn.Linear(features, hidden)
        self.shape = nn.Sequential(nn.Linear(2 * NUM_KEYPOINTS, 64), nn.ReLU(), nn.Linear(64, hidden))
        self.product = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.product.weight)

    def forward(self, pooled: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
        """pooled: (N, features); uv: (N, 21, 2) in 0..1 over the crop. Returns logits (N,), positive for right."""
        shape = self.shape((4 * uv - 2).flatten(1).to(pooled.dtype))
        both = torch.tanh(self.appearance(pooled)) * torch.tanh(shape)
        return (self.direct(pooled) + self.product(both)).squeeze(1)


class LitePoseNet(nn.Module):
    """Score maps of the 21 keypoints in a crop, refined once as in the paper's PoseNet, with side and presence.

    forward(crop (N, 3, S, S) RGB in -0.5..0.5, S a multiple of 32, 160 at run time) returns LitePose.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.trunk = HandTrunk()
        self.pyramid = Pyramid(HandTrunk.widths, (width, 64, 96, 96))
        self.first = nn.Conv2d(width, NUM_KEYPOINTS, 1)
        self.mix = nn.Conv2d(width + NUM_KEYPOINTS, width, 3, padding=1)
        self.refine = Residual(width)
        self.second = nn.Conv2d(width, NUM_KEYPOINTS, 1)
        self.side = SideHead(HandTrunk.pooled_width)
        self.presence = nn.Linear(HandTrunk.pooled_width, 1)
        # Keypoint score = sigmoid(a - b * spread) of a hand that fills the crop; its odds fall with the hand's size in
        # the image to the power of c. Fitted after training.
        self.score_calibration: torch.Tensor
        self.register_buffer("score_calibration", torch.tensor([4.0, 40.0, 0.0]))
        # Hand score = sigmoid(a + b * presence logit), fitted on predictions of the pipeline.
        self.presence_calibration: torch.Tensor
        self.register_buffer("presence_calibration", torch.tensor([0.0, 1.0]))

    def forward(self, crop: torch.Tensor) -> LitePose:
        return self.read(*self.trunk(crop + INPUT_MEAN))

    def read(self, maps: list[torch.Tensor], pooled: torch.Tensor) -> LitePose:
        """The output from the trunk's features."""
        fine = self.pyramid(maps)
        first = self.first(fine)
        second = self.second(self.refine(F.relu(self.mix(torch.cat([first, fine], 1)))))
        found, _ = soft_argmax(second.detach().float())
        side = self.side(pooled, to_unit(found, second.shape[-1]))
        return LitePose((first, second), side, self.presence(pooled).squeeze(1))


class FinePose(NamedTuple):
    """Output of LiteFinePoseNet. score_maps: logits, (N, 21, S/8, S/8); points: (N, 21, 2) in 0..1 over the crop."""

    score_maps: tuple[torch.Tensor]
    points: torch.Tensor

    @property
    def keypoints(self) -> torch.Tensor:
        """(N, 21, 2) in 0..1 over the crop: the mean of the points and of what the maps expect."""
        return (self.points + _expected(self.score_maps[-1])) / 2


def _expected(maps: torch.Tensor) -> torch.Tensor:
    return to_unit(soft_argmax(maps.float())[0], maps.shape[-1])


class LiteFinePoseNet(nn.Module):
    """The 21 keypoints in a crop twice: as points and as score maps, which see the points.

    The trunk gives the points, as in MediaPipe Hands' landmark network. The maps refine them, as the stages of the
    paper's PoseNet refine their maps.

    forward(crop (N, 3, S, S) RGB in -0.5..0.5, S a multiple of 32; points are right at 224 only) returns FinePose.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.trunk = HandTrunk()
        self.points = nn.Linear(HandTrunk.pooled_width, 2 * NUM_KEYPOINTS)
        self.pyramid = Pyramid(HandTrunk.widths[1:], (width, 64, 64))
        self.mix = nn.Conv2d(NUM_KEYPOINTS + width, width, 3, padding=1)
        self.refine = Residual(width)
        self.maps = nn.Conv2d(width, NUM_KEYPOINTS, 1)

    def forward(self, crop: torch.Tensor) -> FinePose:
        return self.read(*self.trunk(crop + INPUT_MEAN))

    def read(self, maps: list[torch.Tensor], pooled: torch.Tensor) -> FinePose:
        """The output from the trunk's features."""
        points = self.points(pooled).float().view(-1, NUM_KEYPOINTS, 2)
        fine = self.pyramid(maps[1:])
        drawn = gaussians(points, _DRAWN, fine.shape[-1]).to(fine.dtype)
        refined = self.refine(F.relu(self.mix(torch.cat([drawn, fine], 1))))
        return FinePose((self.maps(refined),), points)


def soft_argmax(score_maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Expected position of each map's softmax, and its spread.

    score_maps: logits (N, K, h, w). Returns (uv (N, K, 2) in map pixels, centre of the first pixel at 0;
    spread (N, K), the standard deviation of the distribution in map pixels). Sun et al., ECCV 2018.
    """
    n, k, h, w = score_maps.shape
    p = score_maps.flatten(2).softmax(-1).view(n, k, h, w)
    xs = torch.arange(w, dtype=p.dtype, device=p.device)
    ys = torch.arange(h, dtype=p.dtype, device=p.device)
    px, py = p.sum(2), p.sum(3)
    u, v = (px * xs).sum(-1), (py * ys).sum(-1)
    variance = (px * (xs - u[..., None]) ** 2).sum(-1) + (py * (ys - v[..., None]) ** 2).sum(-1)
    return torch.stack([u, v], -1), variance.sqrt()


class _Block(nn.Module):
    """Two layers around a skip, normalised first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(F.relu(self.first(self.norm(x))))


class LiteLifting(nn.Module):
    """Canonical pose and viewpoint from score maps: the roles of PosePrior and ViewpointNet in one small network.

    It reduces a map to a position and its uncertainty, and treats every hand as a left one: right hands are mirrored,
    which is the only use of the side.
    """

    def __init__(self, width: int = 512, depth: int = 3) -> None:
        super().__init__()
        self.enter = nn.Linear(3 * NUM_KEYPOINTS, width)
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.canonical = nn.Linear(width, 3 * NUM_KEYPOINTS)
        self.viewpoint = nn.Linear(width, 6)

    def forward(self, maps: torch.Tensor, hand_side: torch.Tensor) -> LiftingResult:
        """maps: (N, 21, h, h) logits of score maps; hand_side: (N, 2) one-hot left, right."""
        found, spread = soft_argmax(maps)
        return self.read(to_unit(found, maps.shape[-1]), spread / maps.shape[-1], hand_side)

    def read(self, uv: torch.Tensor, spread: torch.Tensor, hand_side: torch.Tensor) -> LiftingResult:
        """uv: (N, 21, 2) in 0..1 over the crop; spread: (N, 21), same unit; hand_side: (N, 2) one-hot left, right."""
        mirror = torch.sign(hand_side[:, :1] - hand_side[:, 1:])  # (N, 1): 1 for left, -1 for right
        centred = (uv - 0.5) * 4
        u = centred[..., 0] * mirror
        x = torch.cat([u, centred[..., 1], spread.clamp(0.02, 0.3) * 8], 1).to(self.enter.weight.dtype)
        x = self.norm(self.blocks(self.enter(x)))
        left = self.canonical(x).reshape(-1, NUM_KEYPOINTS, 3).float()
        a, b = self.viewpoint(x).float().split(3, dim=1)
        # Two vectors made orthonormal: a continuous description of rotations (Zhou et al., CVPR 2019).
        a = F.normalize(a, dim=1)
        b = F.normalize(b - (a * b).sum(1, keepdim=True) * a, dim=1)
        rotation = torch.stack([a, b, torch.linalg.cross(a, b)], 2)
        # Mirrored in x: canonical z changes its sign, and so do row x and column z of the rotation.
        one = torch.ones_like(mirror)
        row, column = torch.cat([mirror, one, one], 1), torch.cat([one, one, mirror], 1)
        canonical = left * column[:, None, :]
        rotation = rotation * row[:, :, None] * column[:, None, :]
        return LiftingResult(canonical @ rotation.transpose(1, 2), canonical, rotation)


def lifting_maps(uv: torch.Tensor, spread: torch.Tensor, size: int = 32) -> torch.Tensor:
    """Score maps for the lifting networks: a Gaussian a keypoint at its position, as wide as its uncertainty.

    uv: (N, K, 2) in 0..1 over the crop (0 and 1 are its edges); spread: (N, K), same unit. Returns (N, K, size, size),
    1 at the peak as the paper's maps. Maps of any resolution thus look alike to PosePrior.
    """
    return gaussians(uv, torch.clamp(spread, 0.03, 0.25), size)


def gaussians(uv: torch.Tensor, deviation: torch.Tensor | float, size: int) -> torch.Tensor:
    """Gaussians, 1 at their peaks, (N, K, size, size).

    uv: (N, K, 2) in 0..1 over the crop (0 and 1 are its edges); deviation: of all, or (N, K), same unit.
    """
    centre = to_unit(torch.arange(size, dtype=uv.dtype, device=uv.device), size)
    # A number stays one: made a tensor it would be copied to the device, which no CUDA graph can record.
    width = 2 * (deviation[..., None] if isinstance(deviation, torch.Tensor) else deviation) ** 2
    gx = torch.exp(-((centre - uv[..., :1]) ** 2) / width)
    gy = torch.exp(-((centre - uv[..., 1:]) ** 2) / width)
    return gy[..., :, None] * gx[..., None, :]
