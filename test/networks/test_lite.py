"""The lite networks: HandSegNet's maps and what of them reaches detection, and the PoseNets' keypoints."""

import math
from typing import cast

import numpy as np
import pytest
import torch

from hand_pose_3d.conventions import EXTENT_UNIT, FINE_CROP_SIZE, PALM_STRIDES
from hand_pose_3d.detection import decode
from hand_pose_3d.networks.backbones import SceneTrunk
from hand_pose_3d.networks.lite import (
    FinePose,
    LiteFinePoseNet,
    LiteHandSegNet,
    LiteLifting,
    LitePalmNet,
    LitePoseNet,
    gaussians,
    soft_argmax,
)
from hand_pose_3d.networks.lite_runtime import CropReader, PalmReader, SceneReader


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = LiteHandSegNet().eval()
    with torch.no_grad():
        network.hands.weight[0] *= 30  # centres that differ from cell to cell
        network.hands.bias[0] = 0
    return network


@torch.inference_mode()
def test_maps_are_a_quarter_of_the_image_and_the_mask_is_that_of_forward(network):
    image = torch.rand(2, 3, 64, 96) - 0.5
    maps = network.maps(image)
    assert [tuple(m.shape) for m in maps] == [(2, c, 16, 24) for c in (2, 1, 1, 2, 2)]
    full = network(image)
    assert full.shape == (2, 2, 64, 96)
    pooled = torch.nn.functional.avg_pool2d(full, 4)  # interpolated linearly about each cell's middle
    assert (pooled - maps.mask)[:, :, 1:-1, 1:-1].abs().mean() < 0.5 * maps.mask.std()


@torch.inference_mode()
def test_a_new_network_sees_no_hands():
    maps = LiteHandSegNet().eval().maps(torch.rand(1, 3, 64, 64) - 0.5)
    assert maps.centre.sigmoid().max() < 0.1
    assert maps.direction[:, 1].min() > 0.5  # upright, and of EXTENT_UNIT pixels
    assert abs(maps.extent).max() < 0.5 and EXTENT_UNIT == 16


@torch.inference_mode()
def test_reader_keeps_centres_only_where_they_are_greatest_among_their_neighbours(network):
    image = torch.randint(0, 255, (2, 64, 96, 3), dtype=torch.uint8)
    out = SceneReader(network)(image)
    assert out.shape == (2, 6, 16, 24)
    maps = network.maps(image.permute(0, 3, 1, 2).float() / 255 - 0.5)
    centre, kept = maps.centre[:, 0].sigmoid(), out[:, 0]
    around = torch.nn.functional.pad(centre, (1, 1, 1, 1), value=0.0).unfold(1, 3, 1).unfold(2, 3, 1)
    peak = centre == around.amax((-1, -2))
    assert peak.any() and not peak.all()
    torch.testing.assert_close(kept, torch.where(peak, centre, 0.0))
    torch.testing.assert_close(out[:, 1:], torch.cat([maps.extent, maps.direction, maps.offset], 1))
    torch.testing.assert_close(SceneReader(network)(image[1:])[0], out[1])  # a batch of any size


@torch.inference_mode()
@pytest.mark.parametrize("level", [0, 1])
def test_a_palms_box_gives_the_hand_at_it(level):
    """One cell's surest anchor has a box two pixels right and one above the cell's middle, on a hand turned by 0.5."""
    cell, turn = PALM_STRIDES[level], 0.5
    up = np.array([math.sin(turn), -math.cos(turn)])
    network = LitePalmNet().eval()
    features = torch.zeros(1, SceneTrunk.widths[1 + level], 160 // cell, 96 // cell)
    features[0, 0, 3, 2] = 1
    score, boxes = network.scores[level], network.boxes[level].bias.view(-1, 18)
    torch.nn.init.zeros_(score.weight)
    torch.nn.init.constant_(score.bias, -20)
    score.weight[-1, 0] = 22  # only the last anchor, only where the feature is 1
    torch.nn.init.zeros_(network.boxes[level].weight)
    torch.nn.init.normal_(boxes, std=9)
    boxes[-1] = torch.zeros(18)
    boxes[-1, :4], boxes[-1, 4:6], boxes[-1, 8:10] = (
        torch.tensor([2.0, -1, 20, 20]),
        torch.tensor(-9 * up),
        torch.tensor(6 * up),
    )
    other = 1 - level
    torch.nn.init.constant_(network.scores[other].bias, -20)
    torch.nn.init.zeros_(network.scores[other].weight)
    maps = [torch.zeros(1, w, 160 // s, 96 // s) for w, s in zip(SceneTrunk.widths[1:], PALM_STRIDES)]
    maps[level] = features
    network.trunk = cast(SceneTrunk, Given(maps))
    out = PalmReader(network)(torch.zeros(1, 160, 96, 3))
    assert [tuple(each.shape) for each in out] == [(1, 6, 160 // s, 96 // s) for s in PALM_STRIDES]
    assert decode(out[other][0].numpy(), (1.0, 1.0), (0, 0), 0.3) == []
    (found,) = decode(out[level][0].numpy(), (2.0 * cell, 2.0 * cell), (100, 0), 0.3)  # half the image's resolution
    middle = np.array([2.5, 3.5]) * cell + [2, -1] + 10 * up
    assert found.center == pytest.approx(2 * middle - 0.5 + [100, 0], abs=1e-3)
    assert found.extent == pytest.approx(2 * 1.625 * 20, rel=1e-4) and found.angle == pytest.approx(turn, abs=1e-4)
    assert found.score == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-4)


@torch.inference_mode()
def test_gaussians_lie_at_their_points_and_are_as_wide_as_asked():
    uv, deviation = torch.tensor([[[0.4, 0.6], [0.5, 0.3]]]), torch.tensor([[0.06, 0.1]])
    found, spread = soft_argmax(gaussians(uv, deviation, 28).log())
    torch.testing.assert_close((found + 0.5) / 28, uv, atol=1e-3, rtol=0)
    torch.testing.assert_close(spread / 28, deviation * 2**0.5, atol=2e-3, rtol=0)  # over both axes


@torch.inference_mode()
def test_fine_keypoints_lie_half_way_between_points_and_maps():
    torch.manual_seed(0)
    network = LiteFinePoseNet().eval()
    torch.nn.init.normal_(network.points.weight, std=0.01)
    torch.nn.init.constant_(network.points.bias, 0.5)
    torch.nn.init.normal_(network.maps.weight, std=3)
    crop = torch.rand(2, 3, 224, 224) - 0.5
    output = network(crop)
    (maps,) = output.score_maps
    assert maps.shape == (2, 21, 28, 28)
    of_maps = (soft_argmax(maps)[0] + 0.5) / 28
    assert (of_maps - output.points).abs().max() > 0.05
    torch.testing.assert_close(2 * output.keypoints - of_maps, output.points)
    with torch.no_grad():
        network.points.bias[0] += 0.3
    assert not torch.equal(network(crop).score_maps[0], maps)  # the maps see the points


class Given(torch.nn.Module):
    """A trunk with these maps."""

    def __init__(self, maps):
        super().__init__()
        self.maps = maps

    def forward(self, image):
        return [None, *self.maps]


class Fixed(LiteFinePoseNet):
    """Says that the keypoints are there."""

    def __init__(self, uv):
        super().__init__()
        self.uv = uv

    def forward(self, crop):
        assert crop.shape[-1] == FINE_CROP_SIZE
        return FinePose((gaussians(self.uv, 0.05, 28).log(),), self.uv)


@torch.inference_mode()
def test_keypoints_are_a_mean_as_far_as_both_networks_agree():
    torch.manual_seed(0)
    pose, lifting = LitePoseNet().eval(), LiteLifting().eval()
    torch.nn.init.normal_(pose.second.weight, std=3)  # keypoints that are far from each other
    crops, side = torch.randint(0, 255, (3, 224, 224, 3), dtype=torch.uint8), torch.tensor([-1.0, 0.0, 1.0])
    small = torch.nn.functional.interpolate(crops.permute(0, 3, 1, 2).float(), size=(160, 160), mode="bilinear")
    alone = CropReader(pose, lifting)(small.permute(0, 2, 3, 1), side)
    extent = (alone.uv.amax(1) - alone.uv.amin(1)).amax(1)
    apart = torch.tensor([0.025, 0.065, 0.105])  # agree, half-way, do not
    step = apart[:, None, None] * extent[:, None, None] * torch.tensor([1.0, 0.0])
    both = CropReader(pose, lifting, Fixed(alone.uv + step))(crops, side)
    share = torch.tensor([2 / 3, 1 / 3, 0])[:, None, None]
    torch.testing.assert_close(both.uv, alone.uv + share * step, atol=2e-3, rtol=0)
    for name in ("scores", "right", "presence"):  # those of LitePoseNet, whatever the other says
        torch.testing.assert_close(getattr(both, name), getattr(alone, name), atol=1e-3, rtol=0)
    assert not torch.allclose(both.canonical[0], alone.canonical[0], atol=1e-4)  # lifted from the keypoints that count


def test_the_spread_of_a_map_survives_half_precision():
    """As E[x^2] - E[x]^2 it would be the difference of two large numbers."""
    grid = torch.arange(40.0)
    maps = -((grid - 33.2) ** 2)[None, :] / 4.5 - ((grid - 32.1) ** 2)[:, None] / 4.5
    uv, spread = soft_argmax(maps[None, None])
    half_uv, half_spread = soft_argmax(maps[None, None].half())
    np.testing.assert_allclose(uv[0, 0], [33.2, 32.1], atol=0.01)
    np.testing.assert_allclose(half_uv.float(), uv, atol=0.05)
    np.testing.assert_allclose(half_spread.float(), spread, atol=0.02)
