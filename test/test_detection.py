"""From maps whose answer is known to hands, and which passes cover an image."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hand_pose_3d.camera import Crop
from hand_pose_3d.conventions import EXTENT_UNIT, STRIDE
from hand_pose_3d.detection import (
    Detection,
    decode,
    distinct_detections,
    evidence,
    on_known,
    same_hand,
    search_passes,
    with_palms,
)
from hand_pose_3d.training import handsegnet


def maps_of(*hands, shape=(24, 32)):
    """Maps of hands in the network's input: each (u, v) and extent in its pixels, angle, score."""
    maps = np.zeros((6, *shape), np.float32)
    for (u, v), extent, angle, score in hands:
        column, row = int((u + 0.5) // STRIDE), int((v + 0.5) // STRIDE)
        middle = (np.array([column, row]) + 0.5) * STRIDE - 0.5
        offset = (np.array([u, v]) - middle) / extent
        maps[:, row, column] = [
            score,
            math.log(extent / EXTENT_UNIT),
            2 * math.sin(angle),
            2 * math.cos(angle),
            *offset,
        ]
    return maps


HANDS = st.tuples(
    st.tuples(st.floats(0, 127), st.floats(0, 95)), st.floats(6, 140), st.floats(-3.1, 3.1), st.floats(0.15, 1)
)


@given(hand=HANDS, scale=st.floats(0.2, 20), origin=st.tuples(st.integers(0, 4000), st.integers(0, 4000)))
def test_a_hand_is_where_the_maps_say_whatever_the_looks_scale_and_origin(hand, scale, origin):
    (u, v), extent, angle, score = hand
    (found,) = decode(maps_of(hand), (scale * STRIDE, scale * STRIDE), origin, 0.1)
    # Pixels have their centres at whole numbers: corners at -0.5 map to corners.
    expected = (np.array([u, v]) + 0.5) * scale - 0.5 + origin
    assert found.center == pytest.approx(expected, abs=1e-3 * scale)
    assert found.extent == pytest.approx(extent * scale, rel=1e-4)
    assert found.angle == pytest.approx(angle, abs=1e-4)
    assert found.score == pytest.approx(score, abs=1e-6)


def test_steps_may_differ_a_little_between_the_axes():
    (found,) = decode(maps_of(((50, 30), 40, 0.5, 0.9)), (4.2, 3.9), (0, 0), 0.1)
    assert found.center == pytest.approx((50.5 * 1.05 - 0.5, 30.5 * 0.975 - 0.5), abs=1e-3)
    assert found.extent == pytest.approx(40 * math.sqrt(1.05 * 0.975), rel=1e-4)


def test_peaks_below_the_least_score_are_none_and_the_surest_comes_first():
    maps = maps_of(((20, 20), 20, 0, 0.3), ((100, 20), 20, 0, 0.9), ((60, 60), 20, 0, 0.6), ((20, 80), 20, 0, 0.05))
    assert [d.score for d in decode(maps, (4, 4), (0, 0), 0.1)] == pytest.approx([0.9, 0.6, 0.3])
    assert [d.score for d in decode(maps, (4, 4), (0, 0), 0.5)] == pytest.approx([0.9, 0.6])
    assert decode(np.zeros((6, 24, 32), np.float32), (4, 4), (0, 0), 0.1) == []


def test_absurd_extents_stay_finite():
    maps = maps_of(((20, 20), 20, 0, 0.9))
    for value in (-1e4, 1e4):
        maps[1, maps[0] > 0] = value
        (found,) = decode(maps, (4, 4), (0, 0), 0.1)
        assert math.isfinite(found.extent) and found.extent > 0 and np.isfinite(found.center).all()


@settings(max_examples=50)
@given(
    u=st.floats(10, 150),
    v=st.floats(10, 150),
    side=st.floats(6, 150),
    angle=st.floats(-3.1, 3.1),
)
def test_what_training_draws_is_what_detection_reads(u, v, side, angle):
    """The targets of a hand, taken for a network's prediction, give the hand."""
    size = handsegnet.SCENE_INPUT
    target = handsegnet.targets([Crop((u, v), side, size, angle)], size)
    found = decode(target[:6] * (target[0] == 1), (STRIDE, STRIDE), (0, 0), 0.1)
    assert len(found) == 1 and found[0].score == 1
    crop = found[0].crop(160, 1.0)
    assert crop.center == pytest.approx((u, v), abs=0.01)
    assert crop.side == pytest.approx(side, rel=1e-4) and crop.angle == pytest.approx(angle, abs=1e-4)


def test_targets_of_touching_hands_are_two_peaks_each_with_its_own_properties():
    hands = [Crop((60.0, 80.0), 60.0, 160, 0.5), Crop((100.0, 84.0), 40.0, 160, -1.0)]
    target = handsegnet.targets(hands, 160)
    found = decode(target[:6] * (target[0] == 1), (STRIDE, STRIDE), (0, 0), 0.1)
    assert sorted(d.center[0] for d in found) == pytest.approx([60, 100], abs=0.01)
    assert sorted(d.extent for d in found) == pytest.approx([40, 60], rel=1e-4)
    assert distinct_detections(found) == found
    # Every cell that counts says the same of the hand that it is near.
    rows, columns = np.nonzero(target[6])
    for row, column in zip(rows, columns):
        k = np.argmin([abs(math.exp(target[1, row, column]) * EXTENT_UNIT - hand.side) for hand in hands])
        at = (np.array([column, row]) + 0.5) * STRIDE - 0.5 + target[4:6, row, column] * hands[k].side
        assert at == pytest.approx(hands[k].center, abs=0.01)


def test_the_window_of_a_detection_is_the_hand_with_a_margin_pointing_up():
    crop = Detection((30.0, 40.0), 50.0, 0.7, 0.9).crop(160, 1.3)
    assert crop == Crop((30.0, 40.0), 65.0, 160, 0.7)
    assert Detection((30.0, 40.0), 0.0, 0.7, 0.9).crop(160, 1.3).side == 1


SIZES = {"width": st.integers(16, 5000), "height": st.integers(16, 5000)}


def covered(passes, width, height):
    """(16, 16) bool of places of the image, its corners among them, that a part holds."""
    x, y = np.linspace(0, width - 1, 16)[None], np.linspace(0, height - 1, 16)[:, None]
    inside = [
        (x >= k.origin[0])
        & (x <= k.origin[0] + k.size[0] - 1)
        & (y >= k.origin[1])
        & (y <= k.origin[1] + k.size[1] - 1)
        for k in passes
    ]
    return np.any(inside, axis=0)


@given(**SIZES, turn=st.integers(0, 100), search=st.sampled_from(["fast", "thorough"]))
def test_looks_lie_within_the_image(width, height, turn, search):
    for part in search_passes(width, height, 20_000, search, turn):
        (x, y), (w, h) = part.origin, part.size
        assert 0 <= x and 0 <= y and w > 0 and h > 0 and x + w <= width and y + h <= height


@given(**SIZES, turn=st.integers(0, 100))
def test_a_fast_search_is_one_look_and_sees_everything_closely_within_eight(width, height, turn):
    searches = [search_passes(width, height, 20_000, "fast", turn + k) for k in range(8)]
    assert all(len(passes) == 1 and passes[0].pixels == 20_000 for passes in searches)
    whole = [passes for (passes,) in searches if passes.size == (width, height)]
    closer = [passes for (passes,) in searches if passes.size != (width, height)]
    assert len(whole) == 4 and covered(closer, width, height).all()
    # Every second one is of the whole image, so that a large hand never waits for more than one.
    assert [passes.size == (width, height) for (passes,) in searches[turn % 2 :: 2]] == [True] * len(
        searches[turn % 2 :: 2]
    )
    edges = {(part.size[0] / width, part.size[1] / height) for part in closer}
    assert all(w < 0.7 + 1 / width and h < 0.7 + 1 / height for w, h in edges)


@given(**SIZES, turn=st.integers(0, 100))
def test_a_thorough_search_always_looks_at_the_whole_image_in_more_than_one_scale(width, height, turn):
    passes = search_passes(width, height, 20_000, "thorough", turn)
    assert all(part.origin == (0, 0) and part.size == (width, height) for part in passes)
    pixels = [part.pixels for part in passes]
    assert pixels == sorted(pixels) and pixels[0] == 20_000
    assert len(passes) == 1 + sum(width * height * 1.3 >= factor * 20_000 for factor in (2, 4, 8))
    # Nothing is enlarged by much, and only the coarsest part keeps the largest hands.
    assert pixels[0] == max(pixels) or pixels[-1] <= 1.3 * width * height
    assert passes[0].largest == math.inf and all(part.largest < math.inf for part in passes[1:])


def test_one_hand_is_one_detection():
    hand = Detection((100.0, 100.0), 80.0, 0.0, 0.9)
    near = Detection((115.0, 95.0), 60.0, 1.0, 0.5)
    beside = Detection((160.0, 100.0), 80.0, 0.0, 0.8)
    fingertip = Detection((125.0, 85.0), 20.0, 0.0, 0.7)
    far = Detection((300.0, 100.0), 20.0, 0.0, 0.3)
    assert distinct_detections([far, near, fingertip, hand, beside]) == [hand, beside, far]
    assert distinct_detections([]) == []


def test_a_hand_seen_as_a_whole_stands_before_its_surer_pieces():
    finger = Detection((125.0, 85.0), 20.0, 0.0, 0.9)
    whole, doubtful = (Detection((100.0, 100.0), 80.0, 0.0, score) for score in (0.5, 0.2))
    assert distinct_detections([finger, whole]) == [whole]
    assert distinct_detections([finger, doubtful]) == [finger]


DETECTIONS = st.builds(
    Detection,
    st.tuples(st.floats(0, 600), st.floats(0, 400)),
    st.floats(5, 300),
    st.floats(-3.1, 3.1),
    st.floats(0.1, 1),
)


@given(a=DETECTIONS, b=DETECTIONS, scale=st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_whether_two_are_one_hand_depends_on_neither_order_nor_scale(a, b, scale):
    def scaled(d):
        return Detection((d.center[0] * scale, d.center[1] * scale), d.extent * scale, d.angle, d.score)

    assert same_hand(a, a) and same_hand(a, b) == same_hand(b, a) == same_hand(scaled(a), scaled(b))


@given(st.lists(DETECTIONS, max_size=8))
def test_distinct_detections_fall_in_score_and_what_is_left_out_has_a_better_one(detections):
    kept = distinct_detections(detections)
    assert [d.score for d in kept] == sorted((d.score for d in kept), reverse=True)
    assert not any(same_hand(a, b) for k, a in enumerate(kept) for b in kept[:k])
    for detection in detections:
        better = [d for d in detections if d.score >= detection.score or d.extent > detection.extent]
        assert detection in kept or any(same_hand(detection, d) for d in better if d is not detection)
    assert distinct_detections(kept) == kept


def test_a_known_hand_is_not_found_again_but_the_one_beside_it_is():
    known = np.stack([np.linspace(100, 160, 21), np.linspace(300, 200, 21)], axis=1)  # 60 x 100 around (130, 250)
    assert on_known(Detection((130.0, 250.0), 100.0, 0.0, 0.9), [known])
    assert on_known(Detection((140.0, 240.0), 80.0, 0.0, 0.9), [known])
    assert not on_known(Detection((190.0, 250.0), 90.0, 0.0, 0.9), [known])
    assert not on_known(Detection((130.0, 250.0), 100.0, 0.0, 0.9), [])
    assert on_known(Detection((130.0, 250.0), 100.0, 0.0, 0.9), [known + 400, known])


@given(
    score=st.floats(0, 1),
    detection=DETECTIONS,
    center=st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
    side=st.floats(0, 1e4),
    angle=st.floats(-10, 10),
)
def test_evidence_is_finite_and_of_one_form(score, detection, center, side, angle):
    facts = evidence(score, detection, Crop(center, side, 160, angle))
    assert facts.shape == (6,) and np.isfinite(facts).all() and facts[0] == 1
    assert 0 <= facts[3] <= 2 and 0 <= facts[4] <= 2 and 0 <= facts[5] <= 2


def test_evidence_of_a_reading_that_agrees_is_the_odds_alone():
    detection = Detection((30.0, 40.0), 50.0, 3.0, 0.5)
    agreed = evidence(0.8, detection, detection.crop(160, 1.0))
    np.testing.assert_allclose(agreed, [1, math.log(4), 0, 0, 0, 0], atol=1e-9)
    away = evidence(0.8, detection, Crop((55.0, 40.0), 25.0, 160, 3.0 - math.pi))
    np.testing.assert_allclose(away[3:], [0.5, math.log(2), 2], atol=1e-9)
    # Scores of exactly 0 and 1 are not infinitely sure.
    assert evidence(0.0, detection, detection.crop(160, 1.0))[1] == pytest.approx(
        -evidence(1.0, detection, detection.crop(160, 1.0))[1]
    )


def test_both_detectors_windows_are_read_unless_they_are_nearly_one():
    seen = Detection((50.0, 50.0), 40.0, 0.0, 0.6)
    alone = Detection((300.0, 80.0), 30.0, 0.0, 0.2)
    same, turned = replace(seen, score=0.8), replace(seen, angle=1.0, score=0.8)
    elsewhere = Detection((200.0, 200.0), 30.0, 0.0, 0.4)
    assert with_palms([seen, alone], [same, elsewhere]) == [
        replace(seen, palm=0.8),  # with both scores
        replace(elsewhere, score=0.0, palm=0.4),
        replace(alone, palm=0.0),
    ]
    assert with_palms([seen], [turned]) == [replace(turned, score=0.6, palm=0.8), replace(seen, palm=0.8)]
    assert with_palms([], []) == [] and with_palms([seen], []) == [replace(seen, palm=0.0)]


def test_evidence_of_a_palm_is_its_odds_and_knows_nothing_below_what_is_read():
    window = Detection((30.0, 40.0), 50.0, 3.0, 0.5).crop(160, 1.0)
    both = evidence(0.8, Detection((30.0, 40.0), 50.0, 3.0, 0.5, palm=0.8), window)
    np.testing.assert_allclose(both, [1, math.log(4), 0, 0, 0, 0, math.log(4)], atol=1e-9)
    neither = evidence(0.8, Detection((30.0, 40.0), 50.0, 3.0, 0.0, palm=0.0), window)
    np.testing.assert_allclose(neither[[2, 6]], [math.log(0.05 / 0.95), math.log(0.3 / 0.7)], atol=1e-9)


def test_a_small_hand_counts_in_training_more_than_by_its_area():
    target = handsegnet.targets([Crop((60.0, 60.0), 100.0, 160, 0.5), Crop((140.0, 140.0), 8.0, 160, -1.0)], 160)
    small = np.isclose(target[1], math.log(8 / EXTENT_UNIT), atol=1e-4)
    near = [target[0] * (target[6] > 0) * at for at in (small, ~small)]  # what each cell counts by area
    counts = [target[6][small].sum(), target[6][~small].sum()]
    assert counts == pytest.approx([np.sqrt(each.sum()) for each in near], rel=1e-4)
    assert 2 < counts[1] / counts[0] < 10 and near[1].sum() / near[0].sum() > 20
