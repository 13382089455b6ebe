"""Matching and protocols on hands whose errors are known."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from synthetic_hand import keypoints_of

from hand_pose_3d.camera import Camera
from hand_pose_3d.datasets.sample import Sample
from hand_pose_3d.evaluation import matching, protocols, report
from hand_pose_3d.hands import HandPose, ScaleSource
from hand_pose_3d.skeleton import FINGERTIPS, MIDDLE_MCP, MIDDLE_PIP, WRIST, Side, palm_from_wrist

RNG = np.random.default_rng(5)
CAMERA = Camera(300, 300, 160, 160, 320, 320)


def labelled(shift=0.0, side=Side.LEFT, **changes):
    points = np.random.default_rng(6).normal(scale=0.05, size=(21, 3)) + [shift, 0, 0.6]
    fields = {
        "name": "a.png",
        "image_path": Path("a.png"),
        "side": side,
        "keypoints_px": CAMERA.project(points),
        "visible": np.ones(21, dtype=bool),
        "keypoints_m": points,
        "camera": CAMERA,
    }
    return Sample(**{**fields, **changes})


def answer(sample, pixels=0.0, score=0.9, side=None, points=None, metres=False):
    """The labelled hand as a prediction, moved by some pixels along u."""
    points = sample.keypoints_m if points is None else points
    return HandPose.from_keypoints(
        sample.side if side is None else side,
        sample.keypoints_px + [pixels, 0],
        points,
        score=score,
        keypoints_m=points if metres else None,
    )


def test_the_most_overlapping_hand_is_matched_whatever_its_score():
    sample = labelled()
    near, far = answer(sample, 5, score=0.6), answer(sample, 200, score=0.99)
    found = matching.match(sample, [far, near])
    assert found.hand is near and 0.5 < found.iou < 1
    assert matching.match(sample, []).hand is None
    other = answer(sample, 300, score=0.7)
    assert matching.match(sample, [other, answer(sample, 400, score=0.8)]).hand.score == 0.8


def test_fingertips_alone_can_be_matched():
    points = np.full((21, 2), np.nan)
    points[list(FINGERTIPS)] = labelled().keypoints_px[list(FINGERTIPS)]
    sample = labelled(keypoints_px=points, visible=np.isfinite(points).all(-1))
    found = matching.match(sample, [answer(labelled())])
    assert found.iou == pytest.approx(1)
    errors = protocols.errors_px([found])
    assert np.isfinite(errors).sum() == 5 and np.nanmax(errors) == 0


@pytest.mark.parametrize("known", [[8], [0, 5]])
def test_of_labels_without_an_area_the_nearest_hand_is_the_one(known):
    """One fingertip, or two keypoints on a line along the image's edge, have no box that could overlap."""
    points = np.full((21, 2), np.nan)
    points[known] = [[100.0 + k, 80.0] for k in known]
    sample = labelled(keypoints_px=points, visible=np.isfinite(points).all(-1))
    whole = labelled().keypoints_px.copy()
    whole[known] = points[known]
    near = HandPose.from_keypoints(Side.LEFT, whole, sample.keypoints_m, score=0.6)
    far = near.replace(keypoints_px=whole + [400, 0], score=0.9)
    found = matching.match(sample, [far, near])
    assert found.hand is near and np.isnan(found.iou)
    assert np.nanmax(protocols.errors_px([found])) == 0
    measured = protocols.detection([found, matching.match(labelled(), []), matching.match(sample, [])])
    assert measured["found"] == 0.0 and measured["answered"] == pytest.approx(1 / 3)
    assert protocols.detection([found])["found"] is None
    assert "nan" not in report.photographs([found]).text() and "nan" not in report.paper("dexter", [found]).text()
    nothing = labelled(keypoints_px=np.full((21, 2), np.nan), visible=np.zeros(21, bool))
    assert matching.run(None, [nothing]) == []


def test_misses_are_infinite_in_medians_and_left_out_of_found_figures():
    sample = labelled()
    matches = [matching.match(sample, [answer(sample, 4)]), matching.match(sample, [answer(sample, 2)])]
    matches += [matching.match(sample, [])] * 2
    errors = protocols.errors_px(matches)
    figures = protocols.distances(errors, matches)
    assert figures["found_median_px"] == pytest.approx(3) and figures["found_mean_px"] == pytest.approx(3)
    assert figures["median_px"] is None  # two of four have no finite error
    assert protocols.distances(errors[:3], matches[:3])["median_px"] == pytest.approx(4)
    assert protocols.detection(matches) == {"answered": 0.5, "found": 0.5, "other_hands_per_image": 0}
    summary = protocols.summary_of(errors, 30)
    assert summary["curve"][-1] == 0.5 and summary["mean"] is None and summary["found_mean"] == pytest.approx(3)


def test_hands_that_lie_on_no_hand_are_counted(tmp_path):
    sample = labelled()
    x, y = sample.keypoints_px.mean(0).astype(int)
    mask = np.zeros((480, 640), np.uint8)
    mask[y - 150 : y + 150, x - 150 : x + 150] = 17
    mask[:, x + 200 :] = 1  # a person, but no hand
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    masked = dataclasses.replace(sample, mask_path=tmp_path / "mask.png")
    matches = [
        matching.match(masked, [answer(sample, shift) for shift in shifts]) for shifts in ((0, 300), (5, 900), ())
    ]
    assert protocols.false_hands(matches) == pytest.approx(2 / 3)
    assert protocols.false_hands([matching.match(sample, [answer(sample)])]) is None


def test_share_of_hand_is_by_the_longer_side_of_the_labels_box():
    sample = labelled()
    size = np.ptp(sample.keypoints_px, axis=0).max()
    matches = [matching.match(sample, [answer(sample, 0.1 * size)])]
    figures = protocols.distances(protocols.errors_px(matches), matches)
    assert figures["median_share_of_hand"] == pytest.approx(0.1)


def test_side_figures():
    samples = [labelled(), labelled(), labelled(side=Side.UNKNOWN), labelled()]
    hands = [[answer(samples[0])], [answer(samples[1], side=Side.RIGHT)], [answer(samples[2], side=Side.LEFT)], []]
    matches = [matching.match(s, h) for s, h in zip(samples, hands, strict=True)]
    assert protocols.side_correct(matches) == {"of_answered": 0.5, "of_all": pytest.approx(1 / 3)}


@pytest.mark.parametrize("placement", list(protocols.PLACEMENTS))
def test_3d_placements_remove_position_and_scale(placement):
    sample = labelled()
    moved = 7.3 * sample.keypoints_m + [1, 2, 3]
    matches = [matching.match(sample, [answer(sample, points=moved)])]
    errors = protocols.errors_mm(matches, protocols.PLACEMENTS[placement])
    np.testing.assert_allclose(errors, 0, atol=1e-9)


def test_only_procrustes_removes_rotation():
    sample = labelled()
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    matches = [matching.match(sample, [answer(sample, points=sample.keypoints_m @ quarter.T)])]
    assert protocols.errors_mm(matches, protocols.PLACEMENTS["procrustes"]).max() < 1e-9
    for placement in ("true_scale", "root_scale"):
        errors = protocols.errors_mm(matches, protocols.PLACEMENTS[placement])
        assert errors[0, WRIST] == 0 and errors.max() > 20


def test_true_scale_uses_the_middle_fingers_first_bone():
    sample = labelled()
    predicted = np.array(sample.keypoints_m)
    predicted[MIDDLE_PIP] = 2 * predicted[MIDDLE_PIP] - predicted[MIDDLE_MCP]  # twice as long: the rest shrinks by half
    placed = protocols.true_scale(predicted, sample.keypoints_m)
    wrist = sample.keypoints_m[WRIST]
    np.testing.assert_allclose(placed[20] - wrist, 0.5 * (sample.keypoints_m[20] - wrist))


def test_missed_hands_are_infinite_in_3d_and_unlabelled_ones_left_out():
    matches = [matching.match(labelled(), []), matching.match(labelled(keypoints_m=None), [answer(labelled())])]
    errors = protocols.errors_mm(matches, protocols.PLACEMENTS["root_scale"])
    assert errors.shape == (1, 21) and np.isinf(errors).all()


def test_absolute_error_in_the_camera_frame():
    sample = labelled()
    hand = answer(sample, points=sample.keypoints_m + [0, 0, 0.02], metres=True)
    errors = protocols.errors_absolute_mm([matching.match(sample, [hand]), matching.match(sample, [answer(sample)])])
    assert errors.shape == (1, 21)
    np.testing.assert_allclose(errors, 20)


def test_the_wrist_is_placed_anew_by_each_source_of_scale(tmp_path):
    size, palm_to_camera = 1.2, np.array([[0, 1.0, 0], [-1, 0, 0], [0, 0, 1]])
    points = size * keypoints_of({}) @ palm_to_camera.T + [0.02, 0.06, 0.6]
    depth = round(0.588 / 5 * 65535)  # of the skin
    picture = np.full((320, 320, 3), [0, depth % 256, depth // 256], np.uint8)
    cv2.imwrite(str(tmp_path / "depth.png"), picture)
    sample = labelled(keypoints_m=points, keypoints_px=CAMERA.project(points), depth_path=tmp_path / "depth.png")
    matches = [matching.match(sample, [answer(sample)]), matching.match(sample, []), matching.match(labelled(), [])]
    away = np.linalg.norm(points[WRIST])
    for source, expected in ((ScaleSource.ASSUMED, 1 / 6), (ScaleSource.CALIBRATED, 0), (ScaleSource.DEPTH, 0.02)):
        ((distance, error, stddev),) = protocols.wrist_errors_m(matches, source)
        assert distance == pytest.approx(away) and stddev > 0
        assert error / away == pytest.approx(expected, abs=0.02)
    result = report.paper("rhd", matches)
    everywhere, row = result.metrics["wrist_assumed"]
    assert (everywhere["from_m"], everywhere["to_m"], everywhere["hands"]) == (0, None, 1)
    assert (row["from_m"], row["to_m"], row["inside_2_sigma"]) == (0.5, 0.8, 1)
    assert "ASSUMED, 0.5 to 0.8 m" in result.text() and "ASSUMED, 0 m and more" in result.text()
    assert "Wrist in the camera frame" not in report.paper("stb", matches).text()


def test_meanings_of_keypoint_0():
    sample = labelled()
    exact = [matching.match(sample, [answer(sample)])]
    assert protocols.errors_px(exact)[0, WRIST] == 0
    assert protocols.errors_px(exact, "palm")[0, WRIST] == 0
    mistaken = protocols.errors_px(exact, "mistake")
    half = 0.5 * np.linalg.norm(sample.keypoints_px[WRIST] - sample.keypoints_px[MIDDLE_MCP])
    assert mistaken[0, WRIST] == pytest.approx(half) and mistaken[0, 1:].max() == 0
    palm = labelled(keypoints_px=palm_from_wrist(sample.keypoints_px), palm=True)
    palm_matches = [matching.match(palm, [answer(sample)])]
    assert protocols.errors_px(palm_matches).max() == pytest.approx(0, abs=1e-12)


def test_the_palm_is_visible_if_wrist_or_middle_base_is():
    visible = np.ones(21, dtype=bool)
    visible[WRIST] = False
    sample = labelled(visible=visible)
    matches = [matching.match(sample, [answer(sample)])]
    assert np.isnan(protocols.errors_px(matches)[0, WRIST])
    assert protocols.errors_px(matches, "palm")[0, WRIST] == 0


def test_the_authors_crop():
    points = np.tile([100.0, 120.0], (21, 1))
    points[3], points[8] = [140, 120], [100, 60]
    sample = labelled(keypoints_px=points)
    crop = matching.true_crop(sample, (320, 320, 3))
    assert crop.center == (100, 120) and crop.side == 120 and crop.angle == 0
    visible = np.ones(21, dtype=bool)
    visible[8] = False
    assert matching.true_crop(labelled(keypoints_px=points, visible=visible), (320, 320)).side == 80
    # 50 px at least, which is above the limit of ten times enlargement; 256 px at most are not shrunk.
    points[3] = points[8] = points[0] + 1
    assert matching.true_crop(labelled(keypoints_px=points), (320, 320)).side == 50
    points[3] = [100, 1000]
    assert matching.true_crop(labelled(keypoints_px=points), (1200, 1200)).side == 256
    nothing = labelled(keypoints_px=points, visible=np.zeros(21, dtype=bool))
    assert matching.true_crop(nothing, (320, 320)).side == 200


class Upscaled:
    """An estimator that answers with the labelled pixels of an image three times as large."""

    def __init__(self, sample):
        self.sample, self.camera = sample, None

    def __call__(self, image, *, camera=None):
        self.shape, self.camera = image.shape, camera
        return [answer(self.sample).replace(keypoints_px=(self.sample.keypoints_px + 0.5) * 3 - 0.5)]


def test_upscaled_images_give_pixels_of_the_original(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((320, 320, 3), np.uint8))
    sample = labelled(image_path=tmp_path / "a.png")
    estimator = Upscaled(sample)
    (item,) = matching.run(estimator, [sample], upscale_px=960)
    assert estimator.shape == (960, 960, 3) and estimator.camera.fx == 900
    np.testing.assert_allclose(item.hand.keypoints_px, sample.keypoints_px, atol=1e-9)
    moved = estimator.camera.project(sample.keypoints_m)
    np.testing.assert_allclose((moved + 0.5) / 3 - 0.5, sample.keypoints_px, atol=1e-9)


def test_groups_compare_keypoint_0_as_the_rest_does():
    sample = labelled()
    match = [matching.match(sample, [answer(sample)])]
    cases: list[tuple[matching.Keypoint0, bool]] = [("label", False), ("palm", False), ("mistake", True)]
    for keypoint0, differs in cases:
        metrics = report.paper("rhd", match, keypoint0).metrics
        assert metrics["groups"] and (metrics["2d_full"]["mean"] > 0.1) == differs
        assert all((group["median_px"] > 0.1) == differs for group in metrics["groups"].values())


def test_photographs_report():
    samples = [labelled(), labelled()]
    matches = [matching.match(samples[0], [answer(samples[0], 3)]), matching.match(samples[1], [])]
    result = report.photographs(matches[:1])
    row = next(line for line in result.text().splitlines() if line.startswith("2D median px"))
    assert row.split()[-1] == "3.00"
    assert result.metrics["3d_root_scale"]["found_pooled_mean"] == pytest.approx(0, abs=1e-9)
    assert len(result.curves) == 3
    assert report.photographs(matches).metrics["detection"]["answered"] == 0.5


def test_a_further_hand_is_one_that_no_label_of_the_image_is(tmp_path):
    samples = [labelled(shift) for shift in (-0.1, 0.1)]
    hands = [answer(samples[0]), answer(samples[1]), answer(samples[0], 500)]
    alone = labelled(image_path=Path("b.png"))
    matches = [*(matching.match(sample, hands) for sample in samples), matching.match(alone, [answer(alone)])]
    assert protocols.detection(matches)["other_hands_per_image"] == 0.5


def test_given_sides_change_the_hands_that_were_on_the_wrong_one(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((320, 320, 3), np.uint8))
    samples = [labelled(0, side, image_path=tmp_path / "a.png") for side in (Side.LEFT, Side.RIGHT)]
    asked = []

    class AllLeft:
        config = SimpleNamespace(hand_side="auto")

        def configure(self, hand_side):
            self.config = SimpleNamespace(hand_side=hand_side)

        def __call__(self, image, camera=None):
            asked.append(self.config.hand_side)
            wrong = asked == ["auto", "auto"]  # a hand taken for one of the other side is bent the wrong way
            points = labelled().keypoints_m * [1, 1, -1 if wrong else 1]
            return [answer(samples[0], side=Side.RIGHT if asked[-1] == "right" else Side.LEFT, points=points)]

    estimator: Any = AllLeft()
    matches = matching.run(estimator, samples)
    told = matching.run_with_sides(estimator, matches)
    assert asked == ["auto", "auto", "right"] and estimator.config.hand_side == "auto"
    assert told[0] is matches[0] and told[1].hand.side == Side.RIGHT
    result = report.paper("rhd", matches, given_sides=told)
    assert result.metrics["3d_true_scale_side_told"]["median"] < 1e-6 < 1 < result.metrics["3d_true_scale"]["median"]
    assert result.text().count("28.69") == 2 and "given side  AUC 20-50 mm" in result.text()
    assert "given side" not in report.paper("rhd", matches).text()


def test_paper_report_prints_published_rows():
    sample = labelled()
    matches = [matching.match(sample, [answer(sample, 2)])] * 3
    crops = [sample.keypoints_px + [0, 1]] * 3
    result = report.paper("rhd", matches, crop_keypoints={"": crops, "authors": crops}, image_size=(320, 320))
    table = result.text()
    for figure in ("0.724", "0.679", "35.61", "0.603"):
        assert figure in table
    assert result.metrics["2d_true_crops"]["median"] == pytest.approx(1)
    assert result.metrics["2d_full"]["median"] == pytest.approx(2)
    # 320 px wide stays 320, so a shift along u keeps its length; along v it shrinks to three quarters.
    assert result.metrics["2d_full_240x320"]["median"] == pytest.approx(2)
    assert protocols.errors_px(matches, scale_uv=(0.5, 1))[0, 0] == pytest.approx(1)
    stb = report.paper("stb", matches)
    for name in ("PSO", "ICPPSO", "CHPR"):
        assert name in stb.text()
    assert stb.metrics["3d_true_scale"]["auc_20_50"] == pytest.approx(1)
    assert {reference.name for curve in stb.curves for reference in curve.references} >= {"PSO", "ICPPSO", "CHPR"}


def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    from hand_pose_3d.evaluation.plots import plot_pck

    sample = labelled()
    matches = [matching.match(sample, [answer(sample, 2)])] * 3
    plot_pck(tmp_path / "new" / "pck.png", report.paper("stb", matches).curves, "STB")
    picture = cv2.imread(str(tmp_path / "new" / "pck.png"))
    assert picture is not None and picture.std() > 10


def test_errors_are_given_by_what_a_hand_shows_and_hidden_hands_are_left_out():
    flat = keypoints_of({})
    seen = labelled(keypoints_m=flat + [0, 0, 0.6], keypoints_px=CAMERA.project(flat + [0, 0, 0.6]))
    hidden = dataclasses.replace(seen, visible=np.zeros(21, dtype=bool))
    matches = [matching.match(sample, [answer(seen, pixels=3.0)]) for sample in (seen, hidden, seen)]
    found = report.paper("stb", matches).metrics["groups"]
    assert (
        found["no finger folded"]["hands"] == 2 == sum(row["hands"] for name, row in found.items() if "folded" in name)
    )
    assert found["no finger folded"]["median_px"] == pytest.approx(3.0)
    assert found["no finger folded"]["root_scale_mean_mm"] == pytest.approx(0, abs=1e-6)
