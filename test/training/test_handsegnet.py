"""Training scenes show what their labels say, and the losses count what is known."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from overfit import losses
from scene_maker import find_dots, keypoints, packed, scene

from hand_pose_3d.camera import Crop
from hand_pose_3d.networks.lite import LiteHandSegNet, SceneMaps
from hand_pose_3d.training import handsegnet, stages
from hand_pose_3d.training.handsegnet import (
    PADDING,
    SCENE_INPUT,
    LiteSegmentationStage,
    SceneAugmentation,
    SceneSampler,
    _average_precision,
    hand_loss,
    mask_loss,
    targets,
)
from hand_pose_3d.training.scenes import HAND, UNKNOWN, LabelledScene, box_outline
from hand_pose_3d.windows import crop_from_pose

ALONE = SceneAugmentation(extent=(50.0, 130.0), any_turn=0.5, more=0.0, empty=0.0)
"""One picture of hands and nothing else."""


def boxed_scene(box: np.ndarray) -> LabelledScene:
    """A red ellipse in a box, which is all that is known of it."""
    rgbc = np.zeros((320, 320, 4), np.uint8)
    middle, half = ((box[:2] + box[2:]) / 2).astype(int), ((box[2:] - box[:2]) / 2).astype(int)
    cv2.ellipse(rgbc, middle.tolist(), half.tolist(), 0, 0, 360, (255, 0, 0, UNKNOWN), -1)
    none = np.zeros((1, 21))
    return LabelledScene(
        rgbc, box_outline(box.tolist())[None], np.array([True]), np.array([np.nan]), none, boxed=np.array([True])
    )


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours stay as they are."""
    for name in ("recolour", "degrade"):
        monkeypatch.setattr(handsegnet.augment, name, lambda image, rng: image)


def test_windows_follow_their_hands_through_every_turn_scale_and_flip(plain: None, tmp_path: Path) -> None:
    hands = keypoints((150, 160), 130, 0.4), keypoints((130, 100), 110, -2.0)
    pack = packed(tmp_path, *(scene(hand, radius=4) for hand in hands))
    sampler, sides, angles = SceneSampler([(pack, 1.0)], ALONE), [], []
    for seed in range(100):
        sample = sampler(np.random.default_rng(seed))
        dots = find_dots(sample.image)
        if np.isnan(dots).any() or dots.min() < 4 or dots.max() > SCENE_INPUT - 5:
            continue  # cut by the border
        (crop,) = sample.crops
        seen = crop_from_pose(dots, SCENE_INPUT, 1.0)
        np.testing.assert_allclose(crop.center, seen.center, atol=1.2)
        assert crop.side == pytest.approx(seen.side, rel=0.03, abs=1)
        assert abs(np.exp(1j * crop.angle) - np.exp(1j * seen.angle)) < 0.08
        sides.append(crop.side)
        angles.append(crop.angle)
    assert len(sides) > 12 and min(sides) < 75 < 85 < max(sides)  # pixels are averaged, and are not
    assert min(angles) < -1 and max(angles) > 1


def test_a_hand_of_which_only_the_box_is_known_has_a_window_without_direction(plain: None, tmp_path: Path) -> None:
    box = np.array([100.0, 120.0, 180.0, 230.0])
    sampler = SceneSampler([(packed(tmp_path, boxed_scene(box)), 1.0)], ALONE)
    known = []
    for seed in range(60):
        sample = sampler(np.random.default_rng(seed))
        shown = np.argwhere(sample.image[..., 0] > 200)
        if not len(sample.crops) or not len(shown) or shown.min() < 3 or shown.max() > SCENE_INPUT - 4:
            continue
        (crop,) = sample.crops
        low, high = shown.min(0)[::-1], shown.max(0)[::-1]
        np.testing.assert_allclose(crop.center, (low + high) / 2, atol=2)
        assert np.isnan(crop.angle) and crop.side == pytest.approx((high - low).max(), rel=0.08, abs=3)
        maps = targets(sample.crops, SCENE_INPUT)
        assert np.isfinite(maps).all() and (maps[0] == 1).sum() == 1 and not maps[2:4].any()
        known.append(crop)
    assert len(known) > 10


def test_an_unknown_direction_costs_nothing_and_everything_else_does() -> None:
    wanted = torch.from_numpy(targets([Crop((50.0, 60.0), 50.0, 160, float("nan"))], 160))[None]
    truth, known = perfect(wanted), torch.zeros(1, 160, 160, dtype=torch.uint8)
    for name, field in (("extent", truth.extent), ("direction", truth.direction), ("offset", truth.offset)):
        off = hand_loss(truth._replace(**{name: field + 0.5}), wanted, known)
        assert [key for key, value in off.items() if value.item() > 0.01] == [name] * (name != "direction")


def test_classes_follow_their_pixels(plain: None, tmp_path: Path) -> None:
    sampler = SceneSampler([(packed(tmp_path, scene(keypoints((150, 160), 150), radius=9)), 1.0)], ALONE)
    for seed in range(10):
        sample = sampler(np.random.default_rng(seed))
        dots = sample.image[..., 2] < 100  # nothing else lacks blue
        hand = sample.classes == HAND
        assert hand.any() and (dots & hand).sum() > 0.7 * max(dots.sum(), hand.sum())


def test_samples_depend_on_the_seed_alone(tmp_path: Path) -> None:
    pack = packed(tmp_path, scene(keypoints((150, 160), 150)), scene())
    first, again = (SceneSampler([(pack, 1.0)])(np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first.image, again.image) and first.crops == again.crops
    assert first.image.shape == (SCENE_INPUT, SCENE_INPUT, 3) and first.classes.shape == (SCENE_INPUT, SCENE_INPUT)


def at(mask: np.ndarray, point: np.ndarray) -> int:
    column, row = np.round(point).astype(int)
    return int(mask[row, column])


def test_unsure_hands_are_ignored_and_sure_ones_are_not(plain: None, tmp_path: Path) -> None:
    sure, unsure = keypoints((110, 160), 90), keypoints((215, 160), 90)
    drawn = scene(unsure, sure=(False,), radius=3)  # its dots show where it went
    pictured = scene(sure, unsure, sure=(True, False))
    pictured.rgbc[...] = drawn.rgbc
    sampler = SceneSampler([(packed(tmp_path, pictured), 1.0)], ALONE)
    seen = 0
    for seed in range(80):
        sample = sampler(np.random.default_rng(seed))
        assert len(sample.crops) <= 1
        dots = find_dots(sample.image)
        if not np.isnan(dots).any() and sample.crops:
            seen += 1
            assert at(sample.ignored, dots.mean(0)) == 1
            assert at(sample.ignored, np.asarray(sample.crops[0].center)) == 0
    assert seen > 3


@pytest.mark.parametrize("extent, asked", [(330.0, True), (220.0, False)])
def test_of_a_hand_far_larger_than_the_input_no_part_is_a_hand(
    plain: None, tmp_path: Path, extent: float, asked: bool
) -> None:
    """That a coarser look will see it is known; of one that is hardly larger nothing is asked."""
    augmentation = SceneAugmentation(extent=(extent, extent), any_turn=0.0, more=0.0, empty=0.0)
    sampler = SceneSampler([(packed(tmp_path, scene(keypoints((160, 160), 250), radius=9)), 1.0)], augmentation)
    samples = [sampler(np.random.default_rng(seed)) for seed in range(10)]
    assert all(sample.crops == [] for sample in samples)
    assert any(sample.ignored.any() for sample in samples) != asked


def test_where_hands_may_be_missing_only_the_known_ones_count(plain: None, tmp_path: Path) -> None:
    sampler = SceneSampler([(packed(tmp_path, scene(keypoints((150, 160), 100), complete=False)), 1.0)], ALONE)
    for seed in range(10):
        sample = sampler(np.random.default_rng(seed))
        outside = (sample.image == PADDING).all(2)
        assert outside.sum() < 200 or sample.ignored[outside].mean() < 0.05
        for crop in sample.crops:
            assert at(sample.ignored, np.asarray(crop.center)) == 0
            near = np.hypot(*(np.indices(outside.shape)[::-1] - np.array(crop.center)[:, None, None])) < 1.2 * crop.side
            away = ~outside & ~near
            assert away.sum() < 200 or sample.ignored[away].mean() > 0.9


def test_pictures_without_hands_teach_that_there_are_none(plain: None, tmp_path: Path) -> None:
    hands = packed(tmp_path / "a", scene(keypoints((150, 160), 150)))
    bare = packed(tmp_path / "b", scene(background=(10, 200, 90)), scene(size=(200, 100), background=(10, 200, 90)))
    nothing = SceneSampler([(hands, 1.0), (bare, 1.0)], SceneAugmentation(empty=1.0))
    shown = 0.0
    for seed in range(8):
        sample = nothing(np.random.default_rng(seed))
        assert sample.crops == [] and not sample.ignored.any() and not sample.classes.any()
        shown += (np.abs(sample.image.astype(int) - [10, 200, 90]).max(2) < 3).mean() / 8
    assert shown > 0.6  # they fill most of most inputs
    unknown = packed(tmp_path / "c", scene(complete=False))
    assert SceneSampler([(hands, 1.0), (unknown, 1.0)]).empty == []  # hands may be in it, so it is none of these


def test_a_hand_that_another_picture_covers_is_not_looked_for(plain: None, tmp_path: Path) -> None:
    hands = packed(tmp_path / "a", scene(keypoints((150, 160), 150), radius=6))
    bare = packed(tmp_path / "b", scene(background=(10, 200, 90)))
    augmentation = SceneAugmentation(extent=(60.0, 120.0), more=1.0, bare=1.0, empty=0.0)
    sampler, counts = SceneSampler([(hands, 1.0), (bare, 1.0)], augmentation), []
    for seed in range(40):
        sample = sampler(np.random.default_rng(seed))
        visible = int((~np.isnan(find_dots(sample.image))).all(1).sum())
        counts.append((visible, len(sample.crops)))
        assert len(sample.crops) <= 1 and (not sample.crops or visible >= 8)
    assert {n for _, n in counts} == {0, 1}


def test_packs_are_drawn_by_their_shares(plain: None, tmp_path: Path) -> None:
    one = packed(tmp_path / "a", scene(keypoints((150, 160), 150), background=(90, 90, 200)))
    other = packed(tmp_path / "b", scene(keypoints((150, 160), 150), background=(200, 200, 90)))
    unused = packed(tmp_path / "c", scene(keypoints((150, 160), 150), background=(90, 250, 250)))
    sampler = SceneSampler([(one, 3.0), (other, 1.0), (unused, 0.0)], ALONE)
    kinds = []
    for seed in range(80):
        image = sampler(np.random.default_rng(seed)).image.astype(int)
        kinds.append([(np.abs(image - c).max(2) < 3).sum() for c in ([90, 90, 200], [200, 200, 90], [90, 250, 250])])
    share = (np.argmax(kinds, axis=1) == 0).mean()
    assert 0.6 < share < 0.9 and not np.array(kinds)[:, 2].any()


def perfect(wanted: torch.Tensor) -> SceneMaps:
    """Maps of a network that knows the targets."""
    centre = torch.where(wanted[:, :1] == 1, 12.0, -12.0)
    return SceneMaps(torch.zeros(len(wanted), 2, 40, 40), centre, wanted[:, 1:2], wanted[:, 2:4], wanted[:, 4:6])


def test_hand_loss_is_nothing_for_the_truth_and_ignores_what_is_not_known() -> None:
    wanted = torch.from_numpy(targets([Crop((50.0, 60.0), 50.0, 160, 0.5), Crop((120.0, 90.0), 20.0, 160)], 160))[None]
    known = torch.zeros(1, 160, 160, dtype=torch.uint8)
    truth = perfect(wanted)
    assert sum(v.item() for v in hand_loss(truth, wanted, known).values()) < 1e-3

    dreamt = truth.centre.clone()
    dreamt[0, 0, 35, 5] = 6.0  # a hand where none is
    wrong = truth._replace(centre=dreamt)
    assert hand_loss(wrong, wanted, known)["centre"].item() > 1
    known[0, 135:150, 15:30] = 1
    assert hand_loss(wrong, wanted, known)["centre"].item() < 1e-3

    missed = truth._replace(centre=torch.full_like(truth.centre, -12.0))
    known[:] = 1
    assert hand_loss(missed, wanted, known)["centre"].item() > 1  # hands are known even where absence is not
    for name, field in (("extent", truth.extent), ("direction", truth.direction), ("offset", truth.offset)):
        off = hand_loss(truth._replace(**{name: field + 0.5}), wanted, known)
        assert [key for key, value in off.items() if value.item() > 0.01] == [name]


def test_without_hands_the_loss_is_finite_and_pushes_centres_down() -> None:
    wanted = torch.from_numpy(targets([], 160))[None]
    centre = torch.zeros(1, 1, 40, 40, requires_grad=True)
    maps = perfect(wanted)._replace(centre=centre)
    total = sum(hand_loss(maps, wanted, torch.zeros(1, 160, 160, dtype=torch.uint8)).values())
    total.backward()
    assert bool(total.isfinite()) and (centre.grad > 0).all()


def test_mask_loss_counts_known_pixels_alone() -> None:
    classes = torch.zeros(1, 16, 16, dtype=torch.uint8)
    classes[0, :8, :8] = HAND
    logit = torch.full((1, 1, 4, 4), -9.0)
    logit[0, 0, :2, :2] = 9.0
    scores = torch.cat([-logit / 2, logit / 2], 1)
    assert mask_loss(scores, classes).item() < 0.1
    scores[0, :, 3, 3] = torch.tensor([-5.0, 5.0])
    assert mask_loss(scores, classes).item() > 0.5
    classes[0, 12:, 12:] = UNKNOWN
    assert mask_loss(scores, classes).item() < 0.1
    assert torch.isfinite(mask_loss(scores, torch.full_like(classes, UNKNOWN)))


def test_average_precision_by_hand() -> None:
    found = [(0.7, True), (0.9, True), (0.8, False)]
    assert _average_precision(found, 2) == pytest.approx((1 + 2 / 3) / 2)
    assert _average_precision(found, 4) == pytest.approx((1 + 2 / 3) / 4)
    assert _average_precision([], 3) == _average_precision([(0.5, False)], 3) == 0


def test_handsegnet_overfits_one_batch(tmp_path: Path) -> None:
    pack = packed(tmp_path, *(scene(keypoints((100 + 20 * i, 160), 120, i), radius=12) for i in range(4)), scene())
    torch.manual_seed(0)
    stage = LiteSegmentationStage(LiteHandSegNet(), [(pack, 1.0)], pack, trunk_rate=1.0)
    stage.held_out = stage.held_out[:4]
    stage.sampler = SceneSampler([(pack, 1.0)], ALONE)  # a batch that shows hands, however scenes are drawn
    found = losses(stage, 60, 2, 2e-3)
    assert found[-1] < 0.5 * found[0]
    figures = stage.evaluate(stage.network)
    assert set(figures) == {"held_out_iou", "held_out_ap"} and all(0 <= value <= 1 for value in figures.values())


def test_the_stage_is_put_together_from_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = packed(tmp_path, scene(keypoints((150, 160), 150)))
    monkeypatch.setattr(stages, "scene_pack", lambda root, split: pack)
    stage = stages.build_lite_stage("handsegnet", [tmp_path, tmp_path])
    images, classes, wanted, ignored = next(stage.batches(2, 0, 0))
    assert images.shape == (2, 3, SCENE_INPUT, SCENE_INPUT) and wanted.shape == (2, 7, 40, 40)
    assert classes.shape == ignored.shape == (2, SCENE_INPUT, SCENE_INPUT)
