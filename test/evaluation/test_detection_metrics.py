"""Prediction metrics on boxes whose overlaps are known."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hand_pose_3d.datasets.boxes import BoxImage, HandBox
from hand_pose_3d.evaluation import report
from hand_pose_3d.evaluation.boxes import FREE, Outcome, detection_metrics, match, precision_recall
from hand_pose_3d.evaluation.contact_sheet import write_contact_sheet
from hand_pose_3d.evaluation.plots import plot_precision_recall
from hand_pose_3d.skeleton import Side


def image(*hands, size=(1000, 500), path="a.png"):
    width, height = size
    return BoxImage("a.png", Path(path), width, height, hands)


def label(x, y=0.0, size=100.0, **fields):
    return HandBox(np.array([x, y, size, size], dtype=float), **fields)


def hand(x, score, y=0.0, size=100.0, side=Side.LEFT):
    """A prediction whose keypoints have the box (x, y, size, size)."""
    points = np.full((21, 2), (x, y)) + np.linspace(0, size, 21)[:, None]
    return SimpleNamespace(keypoints_px=points, score=score, side=side)


def outcomes(labelled, *hands):
    return [item.outcome.value for item in match(labelled, hands)]


def test_overlap_decides_between_hit_loose_and_false():
    # Boxes of side 100 shifted by d share 100 - d of 100 + d: IoU .408 at 42, .399 at 43, .105 at 81, .099 at 82.
    for shift, outcome in ((0, "hit"), (42, "hit"), (43, "loose"), (81, "loose"), (82, "false")):
        assert outcomes(image(label(0)), hand(shift, 0.9)) == [outcome]
    assert outcomes(image(), hand(0, 0.9)) == ["false"]
    assert outcomes(image(label(0))) == []


def test_the_better_scored_prediction_takes_the_hand_and_the_other_is_there_twice():
    found = match(image(label(0), label(500)), [hand(0, 0.5), hand(20, 0.9), hand(510, 0.3)])
    assert [(item.outcome, item.label) for item in found] == [
        (Outcome.HIT, 0),
        (Outcome.TWICE, None),
        (Outcome.HIT, 1),
    ]
    assert [item.hand.score for item in found] == [0.9, 0.5, 0.3]


def test_a_prediction_takes_the_free_hand_it_overlaps_most():
    near = image(label(0), label(30))
    assert [item.label for item in match(near, [hand(20, 0.9), hand(22, 0.8)])] == [1, 0]


def test_predictions_on_ignored_hands_are_excused_unless_they_find_another():
    ignored = label(0, ignore=True)
    assert outcomes(image(ignored), hand(0, 0.9), hand(66, 0.8), hand(70, 0.7)) == ["excused", "excused", "false"]
    assert outcomes(image(ignored), hand(30, 0.9, y=30, size=20)) == ["excused"]  # IoU .04, wholly inside
    assert outcomes(image(ignored), hand(90, 0.9, y=0, size=20)) == ["excused"]  # half inside
    assert outcomes(image(ignored), hand(91, 0.9, y=0, size=20)) == ["false"]
    assert outcomes(image(ignored, label(40)), hand(20, 0.9), hand(25, 0.8)) == ["hit", "excused"]


def measure(images, hands, threshold=0.3):
    detections = [match(labelled, found) for labelled, found in zip(images, hands, strict=True)]
    return detection_metrics(images, detections, threshold)


def test_average_precision_by_hand():
    # Precision 1, 1/2, 2/3, 3/4 at recall 1/4, 1/4, 2/4, 3/4; envelope 1, 3/4, 3/4, 3/4.
    images = [image(label(0), label(200)), image(label(0), label(200))]
    hands = [[hand(0, 0.9), hand(600, 0.8), hand(200, 0.7)], [hand(0, 0.6)]]
    assert measure(images, hands)["average_precision"] == pytest.approx(0.25 + 0.5 * 0.75)
    # Equal scores enter together: one hit of two predictions, then two of three.
    hands = [[hand(0, 0.9), hand(600, 0.9)], [hand(0, 0.6)]]
    assert measure(images, hands)["average_precision"] == pytest.approx(0.5 * 2 / 3)
    curve = precision_recall(images, [match(*pair) for pair in zip(images, hands)])
    np.testing.assert_allclose(curve.scores, [0.9, 0.6])
    np.testing.assert_allclose(curve.recall, [0.25, 0.5])
    np.testing.assert_allclose(curve.precision, [0.5, 2 / 3])
    assert measure(images, [[], []])["average_precision"] == 0


def test_figures_at_the_threshold_by_hand():
    images = [
        image(
            label(0, size=40, kinds=frozenset({"holding", "touching"}), side=Side.LEFT),
            label(200, side=Side.RIGHT),
            label(400, size=99),
            label(600, ignore=True),
        ),
        image(),
        image(label(0, ignore=True)),
    ]
    hands = [
        [hand(0, 0.3, size=40), hand(200, 0.9), hand(210, 0.8), hand(450, 0.7), hand(600, 0.6), hand(400, 0.29)],
        [hand(0, 0.5), hand(300, 0.4), hand(600, 0.1)],
        [],
    ]
    metrics = measure(images, hands)

    def counts(entry):
        return entry["count"], entry["of"]

    sizes = [counts(entry) for entry in metrics["recall_by_size"]]
    assert sizes == [(1, 1), (0, 0), (0, 1), (1, 1), (0, 0), (0, 0)]  # 4 %, 9.9 %, 10 %
    assert {kind: counts(entry) for kind, entry in metrics["recall_by_kind"].items()} == {
        FREE: (1, 2),
        "holding": (1, 1),
        "touching": (1, 1),
        "gloved": (0, 0),
    }
    assert counts(metrics["recall"]) == (2, 3)
    assert counts(metrics["precision"]) == (2, 6)
    false = metrics["false_hands"]
    assert counts(false["with_hands"]) == (2, 2) and counts(false["without_hands"]) == (2, 1)
    assert (false["twice"], false["loose"], metrics["excused"]) == (1, 1, 1)
    assert counts(metrics["side"]) == (1, 2)
    lower = measure(images, hands, 0.0)
    assert counts(lower["recall"]) == (3, 3) and counts(lower["precision"]) == (3, 8)
    assert lower["average_precision"] == metrics["average_precision"]
    alone = measure(images, hands, None)
    assert counts(alone["recall"]) == (3, 3) and alone["average_precision"] is None and "curve" not in alone


def test_no_hands_and_no_predictions_are_no_division_by_zero():
    metrics = measure([image()], [[]])
    assert metrics["recall"]["share"] is None and metrics["precision"]["share"] is None
    assert metrics["average_precision"] is None
    assert "-" in report.boxes({"ours": metrics}).text()


BOXES = st.tuples(*[st.integers(0, 6)] * 2, st.integers(1, 4)).map(lambda box: [25.0 * value for value in box])
LABELS = st.builds(
    lambda box, ignore, side: label(*box, ignore=ignore, side=side), BOXES, st.booleans(), st.sampled_from(Side)
)
PREDICTIONS = st.lists(
    st.builds(lambda box, score: hand(box[0], score / 5, box[1], box[2]), BOXES, st.integers(0, 5)), max_size=6
)
SCENES = st.lists(st.tuples(st.lists(LABELS, max_size=4), PREDICTIONS), min_size=1, max_size=4)


@given(SCENES, st.randoms(use_true_random=False))
def test_order_has_no_influence_and_shares_lie_in_0_to_1(scenes, random):
    images, hands = [image(*labels) for labels, _ in scenes], [found for _, found in scenes]
    metrics = measure(images, hands)
    order = sorted(range(len(images)), key=lambda _: random.random())
    shuffled = [sorted(hands[index], key=lambda _: random.random()) for index in order]
    assert measure([images[index] for index in order], shuffled) == metrics
    assert (
        metrics["average_precision"] is None if not metrics["recall"]["of"] else 0 <= metrics["average_precision"] <= 1
    )
    curve = metrics["curve"]
    assert all(0 <= value <= 1 for value in curve["recall"] + curve["precision"])
    assert curve["recall"] == sorted(curve["recall"])
    shown, false = metrics["recall"], metrics["false_hands"]
    predictions = sum(found.score >= 0.3 for items in hands for found in items)
    excused = metrics["excused"] + false["with_hands"]["count"] + false["without_hands"]["count"]
    assert shown["count"] + excused == predictions
    assert sum(entry["of"] for entry in metrics["recall_by_size"]) == shown["of"]


@given(SCENES, st.integers(1, 5))
def test_predictions_below_a_threshold_do_not_change_those_above(scenes, level):
    for labels, hands in scenes:
        above = [item for item in match(image(*labels), hands) if item.hand.score >= level / 5]
        alone = match(image(*labels), [found for found in hands if found.score >= level / 5])
        assert [(a.outcome, a.label) for a in above] == [(a.outcome, a.label) for a in alone]


def test_table_has_a_column_for_each_detector():
    images, hands = [image(label(0)), image()], [[hand(0, 0.9)], [hand(0, 0.8)]]
    text = report.boxes({"ours": measure(images, hands), "peer": measure(images, [[], []], None)}).text()
    assert text.splitlines()[0].split() == ["ours", "peer"]
    for size in ("under 5%", "7.5% to 10%", "25% and more"):
        assert f"recall, size {size}  " in text
    (row,) = [line for line in text.splitlines() if line.startswith("precision")]
    assert row.split() == ["precision", "50.0%", "(1/2)", "-"]


def test_a_curve_without_a_prediction_is_empty(tmp_path):
    plot_precision_recall(tmp_path / "curve.png", [], [], [("score", 0.0, 0.0)], "nothing")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_curve_and_contact_sheet_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    pixels = np.full((500, 1000, 3), 128, np.uint8)
    pixels[:100, :100] = (255, 0, 0)  # BGR: the missed hand is blue
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    images = [image(label(0), label(400), path=tmp_path / "a.png")]
    detections = [match(images[0], [hand(400, 0.9), hand(800, 0.5), hand(900, 0.2)])]
    write_contact_sheet(tmp_path / "out/sheet.png", images, detections, 0.3)
    sheet = cv2.imread(str(tmp_path / "out/sheet.png"))
    assert sheet.shape == (2 * 40 + 2 * 208, 3 * 174 + 6, 3)
    assert tuple(sheet[40 + 84, 6 + 84]) == (255, 0, 0)
    assert tuple(sheet[40 + 84, 180 + 84]) == (36, 32, 32)  # background: one missed hand only
    assert tuple(sheet[40 + 208 + 40 + 84, 6 + 84]) == (128, 128, 128)
    plot_precision_recall(tmp_path / "pr.png", [0.5, 0.5], [1.0, 0.5], [("score 0.3", 0.5, 0.5)], "title")
    assert cv2.imread(str(tmp_path / "pr.png")) is not None
