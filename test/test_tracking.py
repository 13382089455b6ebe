"""Identities over time, and when a new hand is believed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_hand import UPRIGHT, hand_from, keypoints_of, turned

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.skeleton import PALM, Side
from hand_pose_3d.smoothing import SmoothingConfig
from hand_pose_3d.tracking import HandTracker, TrackerConfig, distinct, similarity

FLAT = {side: keypoints_of({}, side) for side in Side}


def hand_at(u: float, v: float, side: Side = Side.RIGHT, score: float = 0.9, angle: float = 0.0, **fields):
    """An upright hand about 105 px tall with its wrist at (u, v)."""
    points = FLAT[side]
    shape = turned(UPRIGHT * ([1, 1] if side == Side.RIGHT else [-1, 1]), angle)
    return hand_from(points, shape + [u, v], side, score=score, **fields)


def ids(hands) -> list[int]:
    return [hand.track_id for hand in hands]


def test_hands_keep_their_identity_while_they_cross():
    tracker = HandTracker()
    first = None
    for frame in range(40):
        x = 100 + 12 * frame
        hands = [hand_at(x, 300, Side.LEFT), hand_at(660 - x, 330, Side.RIGHT)]
        out = tracker.update(hands if frame % 2 else hands[::-1], frame / 30)
        assert len(out) == 2
        sides = {h.track_id: h.side for h in out}
        first = first or sides
        assert sides == first
    assert set(ids(out)) == {1, 2}


def test_hands_of_one_side_cross_by_their_motion():
    tracker = HandTracker()
    start: set[int] = set()
    for frame in range(40):
        x = 100 + 12 * frame
        out = tracker.update([hand_at(660 - x, 335), hand_at(x, 300)], frame / 30)
        low = {h.track_id for h in out if h.keypoints_px[0, 1] > 318}
        start = start or low
        assert low == start and len(out) == 2


def test_a_hidden_hand_is_not_reported_and_keeps_its_identity_for_a_while():
    tracker = HandTracker(TrackerConfig(hidden_s=0.4))
    (seen,) = tracker.update([hand_at(100, 300)], 0.0)
    tracker.update([hand_at(106, 300)], 1 / 30)
    for frame in range(2, 8):
        assert tracker.update([], frame / 30) == []
        assert len(tracker.predict((frame + 1) / 30)) == 1
    (back,) = tracker.update([hand_at(150, 300)], 8 / 30)
    assert back.track_id == seen.track_id
    for frame in range(9, 30):
        assert tracker.update([], frame / 30) == []
    assert tracker.predict(30 / 30) == []
    (new,) = tracker.update([hand_at(150, 300)], 30 / 30)
    assert new.track_id == seen.track_id + 1


def test_a_hand_that_comes_back_is_where_it_is():
    tracker = HandTracker()
    tracker.update([hand_at(100, 300)], 0.0)
    for frame in range(1, 11):
        tracker.update([], frame / 30)
    there = hand_at(140, 300)
    (out,) = tracker.update([there], 11 / 30)
    np.testing.assert_allclose(out.keypoints_px, there.keypoints_px)


def test_a_far_hand_is_another_hand():
    tracker = HandTracker()
    (a,) = tracker.update([hand_at(100, 300)], 0.0)
    (b,) = tracker.update([hand_at(400, 300)], 1 / 30)
    assert a.track_id != b.track_id
    # Frames later the first one is still looked for, but no more than max_hands windows are open.
    tracker.update([hand_at(400, 300), hand_at(700, 300)], 2 / 30)
    assert len(tracker.predict(3 / 30)) == 2


def test_one_hand_seen_twice_is_reported_once_with_the_better_score():
    tracker = HandTracker()
    tracker.update([hand_at(100, 300), hand_at(300, 300)], 0.0)
    out = tracker.update([hand_at(298, 300, score=0.6), hand_at(300, 301, score=0.8, side=Side.RIGHT)], 1 / 30)
    assert [h.score for h in out] == [0.8]
    out = tracker.update([hand_at(300, 300), hand_at(360, 300)], 2 / 30)
    assert len(out) == 2  # Side by side and touching is two hands.


def test_two_hands_do_not_share_a_palm_however_their_fingers_lie():
    fingers = np.setdiff1d(np.arange(21), PALM)
    first, second = hand_at(300, 300), hand_at(302, 301, score=0.8)
    uv = second.keypoints_px.copy()
    uv[fingers] += [90, 20]
    second = second.replace(keypoints_px=uv)
    assert similarity(first.keypoints_px, uv) < 0.4
    assert HandTracker().update([second, first], 0.0)[0].score == first.score
    assert len(distinct([first, second])) == 1
    assert len(distinct([first, second.replace(keypoints_px=uv + [60, 0])])) == 2  # beside it


def test_side_is_voted():
    """A followed hand's windows are read as of its side, with the probability of that."""
    tracker = HandTracker(TrackerConfig(smoothing=SmoothingConfig(enabled=False)))

    def follow(frame, right):
        window = (*tracker.predict(frame / 30), None)[0]
        side = Side.RIGHT if window is None else window.side
        score = right if side == Side.RIGHT else 1 - right
        return tracker.update([hand_at(100, 300, side).replace(side_score=score)], frame / 30)

    for frame in range(30):
        (out,) = follow(frame, 0.05 if frame % 5 in (2, 3) else 0.9)
        assert out.side == Side.RIGHT and out.track_id == 1
    found = [follow(30 + k, 0.1)[0] for k in range(8)]
    flip = [h.side for h in found].index(Side.LEFT)
    assert 0 < flip < 8 and all(h.side == (Side.LEFT if k >= flip else Side.RIGHT) for k, h in enumerate(found))
    assert found[flip - 1].side_score < 0.01 and found[flip].side_score > 0.99
    (out,) = tracker.update([hand_at(100, 300).replace(side=Side.UNKNOWN, side_score=0.0)], 38 / 30)
    assert out.side == Side.LEFT and out.track_id == 1
    assert tracker.predict(39 / 30)[0].side == Side.LEFT


def test_a_pose_of_the_other_side_is_neither_published_nor_smoothed():
    """Its fingers would bend backwards, under this hand's name."""
    tracker = HandTracker()
    for frame in range(20):
        (before,) = tracker.update([hand_at(100, 300, Side.RIGHT)], frame / 30)
    assert tracker.update([hand_at(100, 300, Side.LEFT).replace(side_score=0.7)], 20 / 30) == []
    (after,) = tracker.update([hand_at(100, 300, Side.RIGHT)], 21 / 30)
    assert after.track_id == before.track_id and after.side == Side.RIGHT
    np.testing.assert_allclose(after.keypoints_canonical, before.keypoints_canonical, atol=1e-9)


def test_of_two_readings_of_one_hand_the_one_of_its_side_counts():
    """Where two followed hands meet, each one's window shows the other's hand."""
    tracker = HandTracker(TrackerConfig(max_hands=2))
    for frame in range(10):
        found = tracker.update([hand_at(100, 300, Side.RIGHT), hand_at(400, 300, Side.LEFT)], frame / 30)
    left = next(hand for hand in found if hand.side == Side.LEFT)
    wrong = hand_at(400, 300, Side.LEFT, score=0.99).replace(side=Side.RIGHT, side_score=0.1)
    (out,) = tracker.update([wrong, hand_at(401, 300, Side.LEFT, score=0.9)], 10 / 30)
    assert (out.track_id, out.side) == (left.track_id, Side.LEFT)


def test_scores_have_hysteresis():
    tracker = HandTracker(TrackerConfig(start_score=0.5, sure_score=0.5, keep_score=0.3))
    assert tracker.update([hand_at(100, 300, score=0.45)], 0.0) == []
    assert len(tracker.update([hand_at(100, 300, score=0.55)], 0.03)) == 1
    assert len(tracker.update([hand_at(100, 300, score=0.35)], 0.06)) == 1
    assert tracker.update([hand_at(100, 300, score=0.25)], 0.09) == []


def test_a_sure_hand_is_reported_at_once():
    tracker = HandTracker(TrackerConfig(sure_score=0.9))
    assert len(tracker.update([hand_at(100, 300, score=0.9)], 0.0)) == 1
    assert len(tracker.update([hand_at(101, 300, score=0.4)], 1 / 30)) == 1


def test_a_followed_hand_that_scores_low_is_not_reported_but_followed():
    tracker = HandTracker(TrackerConfig(keep_score=0.1, report_score=0.3))
    (first,) = tracker.update([hand_at(100, 300, score=0.95)], 0.0)
    assert tracker.update([hand_at(110, 300, score=0.2)], 1 / 30) == []
    assert not tracker.needs_detection(2 / 30)
    (again,) = tracker.update([hand_at(120, 300, score=0.4)], 2 / 30)
    assert again.track_id == first.track_id


def test_what_is_left_of_a_hand_keeps_no_place_for_ever():
    tracker, stamps_s, found = HandTracker(TrackerConfig(max_hands=1)), np.arange(1, 31) / 30, []
    (first,) = tracker.update([hand_at(100, 100)], 0.0)
    for stamp_s in stamps_s:
        read = {window.track_id for window in tracker.predict(stamp_s)}
        seen = [hand_at(100, 100, score=0.15)] if first.track_id in read else []
        if read - {first.track_id} or tracker.needs_detection(stamp_s):
            seen.append(hand_at(400, 300, score=0.99))
        found += [(stamp_s, hand.track_id) for hand in tracker.update(seen, stamp_s)]
    assert found[0][0] == pytest.approx(0.4, abs=0.04) and len(found) == sum(stamps_s >= found[0][0])
    assert {track_id for _, track_id in found} == {2}


def test_fewer_hands_leave_the_visible_ones():
    tracker = HandTracker(TrackerConfig(max_hands=2))
    tracker.update([hand_at(100, 100), hand_at(400, 300)], 0.0)
    (visible,) = tracker.update([hand_at(400, 300)], 0.03)
    tracker.configure(TrackerConfig(max_hands=1))
    assert ids(tracker.update([hand_at(400, 300)], 0.06)) == [visible.track_id]


def test_an_unsure_hand_is_reported_if_the_next_frame_confirms_it():
    tracker = HandTracker(TrackerConfig(start_score=0.3, sure_score=0.9, confirm_score=0.7))
    assert tracker.update([hand_at(100, 300, score=0.5)], 0.0) == []
    (window,) = tracker.predict(1 / 30)
    assert window.least_score == 0.7
    assert tracker.needs_detection(1 / 30)  # until then nobody is followed
    (hand,) = tracker.update([hand_at(102, 300, score=0.75)], 1 / 30)
    assert hand.track_id == 1 and hand.score == 0.75
    assert tracker.predict(2 / 30)[0].least_score == tracker.config.keep_score
    assert len(tracker.update([hand_at(104, 300, score=0.4)], 2 / 30)) == 1


@pytest.mark.parametrize("second", [[], [hand_at(100, 300, score=0.6)], [hand_at(400, 300, score=0.8)]])
def test_what_is_a_hand_for_one_frame_leaves_no_trace(second):
    """Gone, not confirmed, or somewhere else in the next frame: there was no hand."""
    tracker = HandTracker(TrackerConfig(start_score=0.3, sure_score=0.9, confirm_score=0.7, hidden_s=0.4))
    assert tracker.update([hand_at(100, 300, score=0.8)], 0.0) == []
    assert tracker.update(second, 1 / 30) == []
    assert all(window.keypoints_px[0, 0] > 300 for window in tracker.predict(2 / 30))
    # It neither comes back as an old acquaintance nor keeps the search from going on.
    assert tracker.needs_detection(2 / 30)
    assert tracker.update([hand_at(100, 300, score=0.8)], 2 / 30) == []


def test_seen_twice_in_one_image_is_seen_once():
    tracker = HandTracker(TrackerConfig(sure_score=0.9, confirm_score=0.8))
    assert tracker.update([hand_at(100, 300, score=0.8)], 1.0) == []
    assert tracker.update([hand_at(100, 300, score=0.8)], 1.0) == []
    assert len(tracker.update([hand_at(100, 300, score=0.8)], 1.04)) == 1


def test_an_unsure_hand_beside_a_followed_one_waits_alone():
    tracker = HandTracker()
    tracker.update([hand_at(100, 300)], 0.0)
    for frame in range(1, 12):  # a face that the detector takes for a hand in every other frame
        found = [hand_at(100, 300)] + [hand_at(400, 300, score=0.6)] * (frame % 2)
        assert [hand.track_id for hand in tracker.update(found, frame / 30)] == [1]
        assert len(tracker.predict((frame + 1) / 30)) == 1 + frame % 2


@settings(max_examples=25, deadline=None)
@given(scores=st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_a_hand_is_reported_once_sure_or_once_confirmed_in_the_frame_that_follows(scores):
    config = TrackerConfig(confirm_score=0.8)
    tracker, confirmed, tentative = HandTracker(config), False, False
    for frame, score in enumerate(scores):
        out = tracker.update([hand_at(100, 300, score=score)], frame / 30)
        confirmed = confirmed or score >= config.sure_score or (tentative and score >= config.confirm_score)
        tentative = not tentative and not confirmed and score >= config.start_score
        assert len(out) == int(confirmed and score >= config.report_score)
        if confirmed and score < config.keep_score:
            break  # hidden from here on


def test_max_hands_holds_and_answers_fall_in_score():
    rng = np.random.default_rng(0)
    tracker = HandTracker(TrackerConfig(max_hands=3, sure_score=0.5))
    for frame in range(30):
        hands = [hand_at(150 * k, 300, score=float(rng.uniform(0.5, 1))) for k in range(6)]
        out = tracker.update(hands, frame / 30)
        assert len(out) == 3 and sorted(ids(out)) == [1, 2, 3]
        assert [h.score for h in out] == sorted((h.score for h in out), reverse=True)


def test_backward_time_long_gaps_and_another_image_size_start_again():
    tracker = HandTracker(TrackerConfig(max_gap_s=1.0))
    track = lambda stamp, size=(640, 480): ids(tracker.update([hand_at(100, 300)], stamp, size))  # noqa: E731
    assert track(10.0) == [1] and track(10.0) == [1] and track(10.9) == [1]
    assert tracker.predict(10.5) == []
    assert track(10.8) == [2]
    assert track(12.0) == [3]
    assert track(12.1, (320, 240)) == [4]
    tracker.reset()
    assert track(12.2) == [5]
    with pytest.raises(InvalidInputError, match="finite"):
        tracker.update([], float("nan"))


def test_hands_without_stamps_are_a_thirtieth_apart():
    tracker = HandTracker()
    for _ in range(5):
        (out,) = tracker.update([hand_at(100, 300)])
    assert out.track_id == 1
    for _ in range(14):
        tracker.update([])
    (out,) = tracker.update([hand_at(100, 300)])
    assert out.track_id == 2


def test_when_the_whole_image_is_searched():
    tracker = HandTracker(TrackerConfig(max_hands=2, detect_every_s=0.33))
    one, two = hand_at(100, 300), hand_at(400, 300)

    def searched(hands, frames) -> list[int]:
        asked = []
        for _ in range(frames):
            if tracker.needs_detection():
                asked.append(step[0])
            tracker.update(hands)
            step[0] += 1
        return asked

    step = [0]
    assert searched([], 3) == [0, 1, 2]
    assert searched([one], 21) == [3, 13, 23]
    assert searched([one, two], 30) == []  # Both are followed.
    assert searched([one], 12) == [55, 65]  # Frame 54 loses one: look at once, then every tenth.


def test_the_next_window_is_where_the_hand_goes():
    tracker = HandTracker()
    for frame in range(10):
        tracker.update([hand_at(100 + 10 * frame, 300)], frame / 30)
    (window,) = tracker.predict(10 / 30)
    np.testing.assert_allclose(window.keypoints_px, hand_at(200, 300).keypoints_px, atol=0.2)


@pytest.mark.parametrize("early_s", [0.02, 0.001, 1e-4, 1e-6])
def test_a_stamp_shortly_before_the_next_throws_no_window_away(early_s):
    """Cameras that stamp images on arrival give two in a row after a hiccup."""
    tracker, rng, x = HandTracker(), np.random.default_rng(0), 0.0
    for frame in range(60):
        x = 100 + 3 * frame + rng.normal(0, 0.7)
        (hand,) = tracker.update([hand_at(x, 300)], frame / 30 + (1 / 30 - early_s if frame % 3 == 2 else 0))
        if frame > 5:
            (window,) = tracker.predict((frame + 1) / 30 + (1 / 30 - early_s if frame % 3 == 1 else 0))
            assert abs(window.keypoints_px[0, 0] - (x + 3)) < 10  # a tenth of the hand
    assert hand.track_id == 1


def test_broken_hands_are_dropped():
    tracker = HandTracker()
    good = hand_at(100, 300)
    bad = hand_at(400, 300)
    assert len(tracker.update([good, bad.replace(keypoints_px=bad.keypoints_px * np.nan)], 0.0)) == 1
    assert tracker.update([bad.replace(score=float("nan"))], 0.03) == []


@pytest.mark.parametrize("field", ["keypoints_m", "scale_m", "roi_px", "keypoint_scores"])
def test_what_is_not_finite_spoils_no_later_frame(field):
    tracker, spoiled = HandTracker(), []
    hand = hand_at(100, 300)
    hand = hand.replace(keypoints_m=hand.keypoints_relative * 0.04 + [0, 0, 0.5], scale_m=0.04)
    for frame in range(12):
        given = hand.replace(**{field: np.array(getattr(hand, field)) * np.nan}) if frame == 5 else hand
        out = tracker.update([given], frame / 30)
        spoiled += [frame] * (len(out) == 0)
        for each in out:
            assert np.isfinite([*each.keypoints_px.ravel(), *each.keypoints_m.ravel(), each.scale_m]).all()
    assert spoiled == [5]


def test_where_boxes_are_one_a_new_hand_is_none():
    """A fist read as of both sides, palms apart; hands that pass each other are followed as before."""
    first, second = hand_at(200, 300), hand_at(200, 300, Side.LEFT, score=0.8, angle=math.pi)
    second = second.replace(roi_px=first.roi_px)
    assert len(distinct([first, second])) == 2
    assert distinct([first, second], overlap=0.7) == [first]
    x, y, width, height = first.roi_px
    beside = second.replace(roi_px=(x + 0.25 * width, y, width, height))  # 0.6 of both
    assert len(distinct([first, beside], overlap=0.7)) == 2
    assert distinct([second], overlap=0.7, known=[first]) == []
    assert distinct([beside], overlap=0.7, known=[first]) == [beside]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_whatever_comes_identities_are_distinct_and_memory_bounded(seed):
    rng = np.random.default_rng(seed)
    tracker, stamp, highest = HandTracker(), 0.0, 0
    for _ in range(60):
        stamp += float(rng.choice([1 / 30, 0.0, -0.05, 0.2, 3.0], p=[0.8, 0.05, 0.05, 0.05, 0.05]))
        found = [
            hand_at(rng.uniform(0, 500), rng.uniform(0, 500), Side(int(rng.integers(3)) or 2), float(rng.uniform(0, 1)))
            for _ in range(rng.integers(0, 5))
        ]
        tracker.needs_detection(stamp)
        out = tracker.update(found, stamp)
        assert len(set(ids(out))) == len(out) <= 2
        assert len(tracker.predict(stamp)) <= 4
        fresh = [i for i in ids(out) if i > highest]
        highest = max([highest, *fresh])
        for hand in out:
            assert np.isfinite(hand.keypoints_px).all() and np.isfinite(hand.keypoints_relative).all()


def test_bad_parameters_are_refused():
    with pytest.raises(InvalidInputError, match="at least 1"):
        TrackerConfig(max_hands=0)
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        TrackerConfig(keep_score=2)
    with pytest.raises(InvalidInputError, match="zero or a positive"):
        TrackerConfig(gate=-1)


@pytest.mark.parametrize("wrong", [{"keep_score": "a"}, {"max_hands": 2.5}, {"smoothing": {}}, {"gate": True}])
def test_settings_of_another_type_are_refused(wrong):
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        TrackerConfig(**wrong)


def test_numbers_of_numpy_are_numbers():
    config = TrackerConfig(max_hands=np.int64(3), gate=np.float32(0.5))
    assert type(config.max_hands) is int and type(config.gate) is float
    with pytest.raises(InvalidInputError, match="smoothing enabled must be true or false"):
        SmoothingConfig(enabled="no")  # type: ignore[arg-type]
