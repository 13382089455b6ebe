"""PoseNet learns from photographs too: sides that nobody knows, labels that are not exact, windows beside hands."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scene_maker import keypoints, scene

from hand_pose_3d.networks.lite import LitePoseNet
from hand_pose_3d.skeleton import Side
from hand_pose_3d.training.augment import pictogram
from hand_pose_3d.training.crops import PACK_SIZE, CropPack
from hand_pose_3d.training.posenet import (
    CROP_MARGIN,
    CROP_SIZE,
    LitePoseStage,
    PoseAugmentation,
    PoseSampler,
    collate,
    ideal_sample,
    keypoint_loss,
    target_maps,
)
from hand_pose_3d.windows import crop_from_pose, fits

BACKGROUNDS = np.full((2, PACK_SIZE, PACK_SIZE, 3), [10, 200, 90], np.uint8)
SPREAD = np.linspace(0.01, 0.05, 21)


def pack(side: Side, photograph: bool, hidden: tuple[int, ...] = ()) -> CropPack:
    """Two hands; those of photographs have a spread and no person mask."""
    uv = np.stack([keypoints((128, 128), 110, angle) for angle in (0.2, -1.5)])
    rgba = np.stack([scene(one, size=(PACK_SIZE, PACK_SIZE)).rgbc for one in uv])
    rgba[..., 3] = 255 if photograph else np.where(rgba[..., 3] > 0, 255, 0)
    visible = np.ones((2, 21), bool)
    visible[:, list(hidden)] = False
    spread = np.stack([SPREAD, SPREAD]) if photograph else None
    return CropPack(rgba, BACKGROUNDS, uv, np.zeros((2, 21, 3)), visible, np.array([side, side]), spread=spread)


ALL_HANDS = PoseAugmentation(empty=0.0)


@pytest.mark.parametrize("side", Side)
def test_an_unknown_side_is_not_a_number_and_a_known_one_follows_the_flip(side: Side) -> None:
    sampler = PoseSampler([pack(side, True)], ALL_HANDS)
    sides = [sampler(np.random.default_rng(seed)).side for seed in range(12)]
    if side == Side.UNKNOWN:
        assert np.isnan(sides).all()
    else:
        assert set(sides) == {0, 1}  # half of them are flipped
    assert np.isnan(ideal_sample(pack(Side.UNKNOWN, True), 0).side)


def test_spread_is_in_pixels_of_the_crop_and_renders_have_none() -> None:
    photograph = pack(Side.LEFT, True)
    assert photograph.spread is not None
    for seed in range(8):
        sample = PoseSampler([photograph], ALL_HANDS)(np.random.default_rng(seed))
        np.testing.assert_allclose(sample.spread, SPREAD * np.ptp(sample.uv, axis=0).max(), rtol=1e-4)
        assert not PoseSampler([pack(Side.LEFT, False)], ALL_HANDS)(np.random.default_rng(seed)).spread.any()


def test_keypoints_that_a_teacher_guesses_are_not_learned() -> None:
    hidden = PoseSampler([pack(Side.LEFT, True, hidden=(4, 8))], ALL_HANDS)
    render = PoseSampler([pack(Side.LEFT, False, hidden=(4, 8))], ALL_HANDS)
    for seed in range(8):
        weight = hidden(np.random.default_rng(seed)).weight
        assert not weight[[4, 8]].any() and weight.any()
    # Those of renders are exact behind whatever hides them.
    assert any(render(np.random.default_rng(seed)).weight[[4, 8]].all() for seed in range(8))
    assert ideal_sample(pack(Side.LEFT, True, hidden=(4, 8)), 0).weight[[4, 8]].tolist() == [0, 0]


def test_windows_beside_a_hand_hold_none() -> None:
    augmentation = PoseAugmentation(empty=1.0, beside=1.0)
    shift, ratio = [], []
    for seed in range(60):
        sample, crop, _ = PoseSampler([pack(Side.LEFT, seed % 2 == 0)], augmentation).draw(np.random.default_rng(seed))
        assert sample.presence == 0 and not sample.weight.any() and np.isnan(sample.side)
        ideal = crop_from_pose(crop.to_image(sample.uv), CROP_SIZE, CROP_MARGIN)
        assert not fits(crop, ideal)
        shift.append(math.dist(crop.center, ideal.center) / ideal.side)
        ratio.append(crop.side / ideal.side)
    beside = np.array(shift) > 0.55
    assert 0.3 < beside.mean() < 0.9 and (np.abs(np.log(np.array(ratio)[~beside])) > math.log(2)).all()
    assert min(ratio) < 0.5 and max(ratio) > 2


def test_windows_that_posenet_learns_are_as_far_off_as_those_about_detections() -> None:
    hands = pack(Side.LEFT, False)
    stage = LitePoseStage(LitePoseNet(), [hands], hands)
    off = {}
    for name, augmentation in (("search", stage.sampler.augmentation), ("last window", PoseAugmentation())):
        sampler, rng = PoseSampler([hands], replace(augmentation, empty=0.0)), np.random.default_rng(0)
        shift, ratio = [], []
        for _ in range(300):
            sample, crop, _ = sampler.draw(rng)
            ideal = crop_from_pose(crop.to_image(sample.uv), CROP_SIZE, 1.0)
            shift.append(math.dist(crop.center, ideal.center) / ideal.side)
            ratio.append(crop.side / ideal.side)
            assert np.median(sample.weight) == 1  # however far off, most of the hand is in it
        off[name] = np.quantile(shift, 0.95), min(ratio), max(ratio)
    assert off["search"][0] > 1.3 * off["last window"][0]
    assert off["search"][1] < 1.05 < off["last window"][1] and off["last window"][2] < 1.75 < 2.0 < off["search"][2]


def test_windows_on_a_hand_hold_one_whatever_the_pack() -> None:
    packs = [pack(Side.LEFT, False), pack(Side.UNKNOWN, True)]
    sampler = PoseSampler(packs, ALL_HANDS, shares=[1.0, 3.0])
    samples = [sampler(np.random.default_rng(seed)) for seed in range(60)]
    assert all(sample.presence == 1 and sample.weight.sum() > 5 for sample in samples)
    assert 0.55 < np.mean([sample.spread.any() for sample in samples]) < 0.95  # three of four are photographs


def test_drawings_of_hands_hold_none() -> None:
    boxed = pack(Side.UNKNOWN, True, hidden=tuple(range(21)))
    boxed.visible[0] = True
    boxed.uv[1] = np.nan  # only its box is known: no drawing is made from it
    sampler = PoseSampler([boxed], PoseAugmentation(empty=1.0, beside=0.0, drawn=1.0))
    uv, kinds, picture = keypoints((80, 80), 100, 0.2), set(), np.full((160, 160, 3), [10, 200, 90], np.uint8)
    for seed in range(20):
        sample = sampler(np.random.default_rng(seed))
        assert sample.presence == 0 and not sample.weight.any() and np.isnan(sample.side)
        drawing = pictogram(picture, uv, np.random.default_rng(seed))
        (fill,) = {tuple(drawing[round(v), round(u)]) for u, v in uv[5::4] * 0.7 + uv[0] * 0.3}
        assert fill != tuple(drawing[0, 0])
        kinds.add((tuple(drawing[0, 0]) == tuple(picture[0, 0]), fill))
    assert len(kinds) > 5 and len({on_a_picture for on_a_picture, _ in kinds}) == 2


@pytest.mark.parametrize("empty", [0.0, 1.0])
def test_hands_and_what_is_none_are_cut_off_by_an_edge_of_the_picture(empty: float) -> None:
    augmentation = PoseAugmentation(empty=empty, beside=0.0, drawn=0.0, swap=1.0, occlude=0.0, cut=1.0)
    sampler, shares, weights = PoseSampler([pack(Side.LEFT, False)], augmentation), [], []
    for seed in range(40):
        sample = sampler(np.random.default_rng(seed))
        beyond = (sample.image == 0).all(2)
        if beyond.sum() > 100:  # beyond one straight edge everything is black
            hull = cv2.convexHull(np.argwhere(beyond).astype(np.int32))
            assert cv2.contourArea(hull) < 1.02 * beyond.sum()
        shares.append(beyond.mean())
        outside = beyond[tuple(sample.uv[sample.weight > 0].astype(int).T[::-1])]
        weights.append(outside.mean() if len(outside) else 0.0)
    assert 0.1 < np.mean(shares) < 0.5 and max(shares) < 0.8
    assert (0.1 < np.mean(weights) < 0.5) == (empty == 0)  # keypoints beyond the edge are learned


def test_loss_of_exact_labels_is_that_without_spread() -> None:
    torch.manual_seed(0)
    maps, uv, weight = torch.randn(2, 21, 40, 40), torch.rand(2, 21, 2) * 30 + 5, torch.ones(2, 21)
    plain = keypoint_loss(maps, uv, weight)
    torch.testing.assert_close(keypoint_loss(maps, uv, weight, torch.zeros(2, 21)), plain)


@pytest.mark.parametrize("spread", [0.0, 1.0, 4.0])
def test_loss_is_least_for_maps_as_wide_as_the_labels_are_unsure(spread: float) -> None:
    uv, weight = torch.full((1, 1, 2), 20.0), torch.ones(1, 1)

    def loss(sigma: float, at: float = 20.0) -> float:
        maps = (target_maps(torch.full((1, 1, 2), at), 40, sigma) + 1e-12).log()
        return keypoint_loss(maps, uv, weight, torch.full((1, 1), spread)).item()

    best = math.sqrt(1.3**2 + spread**2)
    assert loss(best) < 1e-3 < min(loss(best * 1.5), loss(best / 1.5), loss(best, 21.5))


def test_the_same_error_costs_less_where_labels_are_unsure_and_nothing_where_they_do_not_count() -> None:
    uv = torch.full((1, 3, 2), 20.0)
    maps = (target_maps(uv + 3, 40) + 1e-12).log()
    one = torch.tensor([[0.0, 1.0, 3.0]])
    costs = [keypoint_loss(maps, uv, torch.eye(3)[k : k + 1], one).item() for k in range(3)]
    assert costs == sorted(costs, reverse=True) and costs[2] < 0.7 * costs[0]
    assert keypoint_loss(maps, uv, torch.zeros(1, 3), one).item() == 0


def test_a_batch_of_photographs_of_unknown_sides_has_a_finite_loss() -> None:
    torch.manual_seed(0)
    photographs = pack(Side.UNKNOWN, True)
    stage = LitePoseStage(LitePoseNet(), [photographs], photographs, frozen_blocks=3)
    sampler = PoseSampler([photographs], ALL_HANDS)
    loss, parts = stage.loss(collate([sampler(np.random.default_rng(seed)) for seed in range(2)]))
    loss.backward()
    assert torch.isfinite(loss) and parts["loss_side"] == 0 and parts["loss_pose"] > 0
    gradients = [p.grad for p in stage.network.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)
