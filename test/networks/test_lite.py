"""The lite HandSegNet: what its maps are, and what of them reaches detection."""

import pytest
import torch

from hand_pose_3d.detection import EXTENT_UNIT
from hand_pose_3d.networks.lite import LiteHandSegNet
from hand_pose_3d.networks.lite_runtime import SceneReader


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
    assert out.shape == (2, 7, 16, 24)
    maps = network.maps(image.permute(0, 3, 1, 2).float() / 255 - 0.5)
    centre, kept = maps.centre[:, 0].sigmoid(), out[:, 1]
    around = torch.nn.functional.pad(centre, (1, 1, 1, 1), value=0.0).unfold(1, 3, 1).unfold(2, 3, 1)
    peak = centre == around.amax((-1, -2))
    assert peak.any() and not peak.all()
    torch.testing.assert_close(kept, torch.where(peak, centre, 0.0))
    torch.testing.assert_close(out[:, 0], maps.mask.softmax(1)[:, 1])
    torch.testing.assert_close(out[:, 2:], torch.cat([maps.extent, maps.direction, maps.offset], 1))
    torch.testing.assert_close(SceneReader(network)(image[1:])[0], out[1])  # a batch of any size
