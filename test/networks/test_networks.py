"""The paper's tables as counts and shapes, and the mathematics of the two lifting streams."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from hand_pose_3d import geometry, networks
from hand_pose_3d.networks import pose_net
from hand_pose_3d.networks.backbones import HandTrunk
from hand_pose_3d.networks.layers import BIAS_INIT, run
from hand_pose_3d.networks.lifting import LIFTINGS, _peaks, chain_from_keypoints, keypoints_from_chain
from hand_pose_3d.skeleton import BONES

SIDES = torch.eye(2)


@pytest.mark.parametrize(
    "name, parameters, tensors",
    [
        ("HandSegNet", 13_601_986, 32),
        ("PoseNet", 17_518_847, 62),
        ("PosePrior", 1_637_279, 18),
        ("ViewpointNet", 2_238_403, 22),
        ("Lifting", 3_875_682, 40),
        ("DirectLifting", 1_637_279, 18),
        ("BottleneckLifting", 1_622_303, 20),
        ("LocalLifting", 1_637_279, 18),
    ],
)
def test_parameter_counts(name, parameters, tensors):
    state = getattr(networks, name)().state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == parameters
    assert len(state) == tensors


def test_initial_values_are_xavier_with_a_small_bias():
    torch.manual_seed(0)
    layer = networks.ViewpointNet().conv_vp_2_2
    assert bool((layer.bias == BIAS_INIT).all())
    bound = (6 / (9 * 256 + 9 * 256)) ** 0.5
    assert layer.weight.abs().max() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)


@torch.inference_mode()
def test_a_signal_keeps_its_size_through_the_long_networks():
    torch.manual_seed(0)
    network = networks.PoseNet()
    x = torch.randn(1, 3, 64, 64)
    encoding = run(network, pose_net.ENCODING, x)
    assert 0.2 < encoding.square().mean().sqrt() < 5
    assert network(x)[-1].abs().max() < 1


def test_segmentation_has_the_size_of_the_image_also_when_it_is_no_multiple_of_eight():
    net = networks.HandSegNet().eval()
    with torch.no_grad():
        image = torch.randn(2, 3, 44, 30) * 0.2
        scores = net(image)
        assert scores.shape == (2, 2, 44, 30)
        # Upsampling keeps the low-resolution values where both grids meet.
        low = net.scores_low(image)
    assert low.shape == (2, 2, 5, 3)
    torch.testing.assert_close(scores[:, :, ::44, ::10], low[:, :, :1])


def test_posenet_maps_have_stride_eight():
    with torch.no_grad():
        maps = networks.PoseNet().eval()(torch.zeros(1, 3, 64, 64))
    assert [tuple(m.shape) for m in maps] == [(1, 21, 8, 8)] * 3


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
@settings(max_examples=50, deadline=None)
def test_rotation_is_rodrigues(u):
    ours = networks.rotation_from_axis_angle(torch.tensor([u], dtype=torch.float64))[0].numpy()
    # The 1e-8 under the authors' root makes a vector of length zero turn by 1e-4 about no axis.
    np.testing.assert_allclose(ours, Rotation.from_rotvec(u).as_matrix(), atol=3e-4)
    if np.linalg.norm(u) > 1e-2:
        np.testing.assert_allclose(ours @ ours.T, np.eye(3), atol=1e-3)


def test_lifting_result_follows_the_conventions_of_geometry():
    torch.manual_seed(0)
    net = networks.Lifting().eval()
    with torch.no_grad():
        maps = torch.randn(1, 21, 32, 32).expand(2, -1, -1, -1)
        relative, canonical, rotation = net(maps, SIDES)
        raw = net.pose_prior(maps, SIDES)
    composed = geometry.from_canonical(canonical.numpy(), rotation.numpy())
    np.testing.assert_allclose(relative.numpy(), composed, atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rotation.numpy()), 1, atol=1e-5)
    torch.testing.assert_close(canonical[0], raw[0])
    torch.testing.assert_close(canonical[1], raw[1] * torch.tensor([1.0, 1.0, -1.0]))


@pytest.mark.parametrize("name", [name for name in LIFTINGS if name != "nearest-neighbour"])
def test_every_lifting_answers_batches_of_any_size_alike(name):
    net = LIFTINGS[name]().eval()
    maps = torch.randn(3, 21, 32, 32)
    sides = SIDES[[0, 1, 0]]
    with torch.no_grad():
        together = net(maps, sides).relative
        alone = torch.cat([net(maps[i : i + 1], sides[i : i + 1]).relative for i in range(3)])
    assert together.shape == (3, 21, 3)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_dropout_acts_only_while_teaching():
    net = networks.Lifting()
    maps = torch.randn(2, 21, 32, 32)
    assert not torch.equal(net.train()(maps, SIDES).relative, net(maps, SIDES).relative)
    assert torch.equal(net.eval()(maps, SIDES).relative, net(maps, SIDES).relative)


def test_chain_and_keypoints_are_inverse():
    relative = torch.randn(5, 21, 3, dtype=torch.float64)
    relative[:, 0] = 0
    chain = chain_from_keypoints(relative)
    torch.testing.assert_close(keypoints_from_chain(chain), relative)
    lengths = torch.stack([(relative[:, b] - relative[:, a]).norm(dim=-1) for a, b in BONES], 1)
    torch.testing.assert_close(chain[:, 1:, 0], lengths)


def test_straight_chain_runs_along_z():
    chain = torch.zeros(1, 21, 3)
    chain[:, 1:, 0] = 1
    expected = torch.zeros(1, 21, 3)
    expected[:, 1:, 2] = torch.arange(1.0, 5).repeat(5)
    torch.testing.assert_close(keypoints_from_chain(chain), expected)


def test_bending_a_joint_moves_only_what_is_beyond_it():
    chain = chain_from_keypoints(torch.randn(1, 21, 3))
    before = keypoints_from_chain(chain)
    chain[:, 7, 1] += 0.5
    moved = (keypoints_from_chain(chain) - before).norm(dim=-1)[0] > 1e-4
    assert torch.nonzero(moved).flatten().tolist() == [7, 8]


def test_nearest_neighbour_finds_its_own_library_in_both_sides():
    rng = np.random.default_rng(0)
    count = 30
    pixels = torch.from_numpy(rng.integers(0, 32, size=(count, 21, 2))).float()
    relative = torch.from_numpy(rng.normal(size=(count, 21, 3))).float()
    sides = SIDES[torch.from_numpy(rng.integers(0, 2, count))]
    net = networks.NearestNeighbourLifting()
    net.fit(pixels * 8 + 3, relative, sides)

    maps = torch.zeros(count, 21, 32, 32)
    u, v = pixels.long().unbind(-1)
    maps[torch.arange(count)[:, None], torch.arange(21), v, u] = 1
    torch.testing.assert_close(net(maps, sides).relative, relative)

    # Of a hand that is partly hidden or outside, what is shown decides.
    maps[torch.arange(count)[:, None], torch.from_numpy(rng.integers(0, 21, size=(count, 12)))] = 0
    torch.testing.assert_close(net(maps, sides).relative, relative)

    # The mirror image of a hand, named the other side, is the mirrored pose.
    mirrored = net(maps.flip(-1), sides.flip(-1)).relative
    torch.testing.assert_close(mirrored, relative * torch.tensor([-1.0, 1.0, 1.0]))

    loaded = networks.NearestNeighbourLifting(count)
    loaded.load_state_dict(net.state_dict())
    torch.testing.assert_close(loaded(maps, sides).relative, relative)


def test_peaks_lie_between_pixels():
    centers = torch.tensor([[4.3, 20.0], [15.5, 9.75]])
    grid = torch.arange(32.0)
    u, v = centers[:, 0, None, None], centers[:, 1, None, None]
    maps = torch.exp(-((grid - u) ** 2 + (grid[:, None] - v) ** 2) / 2)[None]
    torch.testing.assert_close(_peaks(maps)[0], centers, atol=0.1, rtol=0)


@pytest.mark.parametrize("name", LIFTINGS)
def test_liftings_can_be_captured_as_a_graph(name):
    net = LIFTINGS[name](10) if name == "nearest-neighbour" else LIFTINGS[name]()
    maps = torch.randn(2, 21, 32, 32)
    program = torch.export.export(net.eval(), (maps, SIDES))
    torch.testing.assert_close(program.module()(-maps, SIDES)[0], net(-maps, SIDES)[0])


@pytest.mark.parametrize("blocks", [0, 3, 11])
def test_a_trunk_run_in_two_parts_answers_the_same(blocks):
    torch.manual_seed(0)
    trunk = HandTrunk().eval()
    with torch.no_grad():
        image = torch.rand(2, 3, 64, 64)
        maps, pooled = trunk(image)
        in_parts = trunk.rest(*trunk.front(image, blocks), blocks)
    assert [m.shape[1] for m in maps] == list(trunk.widths)
    torch.testing.assert_close((in_parts[0], in_parts[1]), (maps, pooled))
