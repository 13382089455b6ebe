"""The pipeline with a reader that cannot err, so that answers are exact, and with real networks of random weights."""

import copy
import gc
import math
import shutil
import weakref
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from hand_pose_3d import estimator as module
from hand_pose_3d import families
from hand_pose_3d.camera import Camera
from hand_pose_3d.conventions import CropReading, to_unit
from hand_pose_3d.detection import Detection, SearchPass
from hand_pose_3d.errors import DeviceError, HandPoseError, InvalidInputError, WeightsError
from hand_pose_3d.estimator import HandPoseEstimator
from hand_pose_3d.estimator_config import EstimatorConfig
from hand_pose_3d.families import Margins, load_family
from hand_pose_3d.geometry import normalise, to_canonical
from hand_pose_3d.hands import ScaleSource
from hand_pose_3d.networks.lite import LiteFinePoseNet, LiteHandSegNet, LiteLifting, LitePalmNet, LitePoseNet
from hand_pose_3d.placement import REFERENCE_LENGTH_M
from hand_pose_3d.skeleton import NUM_KEYPOINTS, Side
from hand_pose_3d.smoothing import SmoothingConfig
from hand_pose_3d.tracking import TrackerConfig
from hand_pose_3d.weights import save_weights
from hand_pose_3d.windows import crop_from_pose

# The back of a flat right hand, fingers up, thumb on the left; wrist at zero, unit: the index finger's first bone.
FLAT = np.zeros((NUM_KEYPOINTS, 2))
for _finger, _x in enumerate((-1.7, -0.9, -0.1, 0.7, 1.5)):
    for _joint in range(4):
        FLAT[1 + 4 * _finger + _joint] = [_x * (1 + 0.1 * _joint), -(0.8 if _finger == 0 else 2.2) - _joint]


def picture(*hands, size=(640, 480)):
    """A black image with hands of coloured dots, (21, 2) pixels each: red says which keypoint, green is 255 - red."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for pixels in hands:
        for k, (u, v) in enumerate(np.round(pixels).astype(int).tolist()):
            red = 20 + 11 * k
            cv2.circle(image, (u, v), 6, (red, 255 - red, 0), -1)
    return image


def hand_at(center, size=30.0, angle=0.0, side=Side.RIGHT):
    """Pixels of the flat hand, turned clockwise by angle."""
    c, s = np.cos(angle), np.sin(angle)
    flat = FLAT * ([1, 1] if side == Side.RIGHT else [-1, 1])
    return (flat - flat.mean(0)) @ np.array([[c, s], [-s, c]]) * size + center


@dataclass
class DotReader:
    """A family of networks that finds and reads such pictures, flat hands seen from their backs, without error.

    directed: whether detections know which way a hand points; presence: score of whatever shows all of a hand.
    """

    crop_size: int = 320
    border: int = 0
    fine_size: int = 320
    crop_margin: float = 1.3
    image_margins: Margins = Margins((1.3,), (1.3,))
    video_margins: Margins = Margins((1.3,), (1.3,))
    directed: bool = False
    presence: float = 0.95
    searches: int = 0
    asked: list = field(default_factory=list)
    sides: list = field(default_factory=list)
    batches: list = field(default_factory=list)
    read_sizes: list = field(default_factory=list)
    confirmed: list = field(default_factory=list)
    spoil: str = ""

    def passes(self, width, height, search, turn):
        self.asked.append((search, turn))
        return [SearchPass((0, 0), (width, height), 1)]

    def detect(self, image, passes):
        self.searches += 1
        dots = (image.max(2) > 0).astype(np.uint8)
        count, labels = cv2.connectedComponents(cv2.dilate(dots, np.ones((41, 41))))
        found = []
        for label in range(1, count):
            x, y, w, h = cv2.boundingRect((dots * (labels == label)).astype(np.uint8))
            detection = Detection((x + (w - 1) / 2, y + (h - 1) / 2), max(w, h) - 12.0, 0.0, 0.9)
            if self.directed:
                uv = self._dots(image * (labels == label)[..., None])
                crop = crop_from_pose(uv, self.crop_size, 1.0)
                detection = Detection(crop.center, crop.side, crop.angle, 0.9)
            found += [detection] * (2 if self.spoil == "twice" else 1)
        return found

    def crop(self, keypoints_px, margin=None, size=None):
        return crop_from_pose(keypoints_px, size or self.crop_size, margin or self.crop_margin)

    def confirm(self, hand, detection):
        self.confirmed.append(detection)
        return hand.replace(score=hand.score * 0.5) if self.spoil == "doubt" else hand

    def sized(self, hand):
        return hand

    def read(self, crops, sides):
        self.sides += sides
        self.batches.append(len(crops))
        self.read_sizes.append(crops.shape[1])
        return [self._read(crop) for crop in crops]

    @staticmethod
    def _dots(image):
        red, green = image[..., 0].astype(int), image[..., 1].astype(int)
        uv = np.full((NUM_KEYPOINTS, 2), np.nan)
        for k in range(NUM_KEYPOINTS):
            rows, columns = np.nonzero((red + green > 245) & (abs(red - 20 - 11 * k) < 5))
            if len(rows):
                uv[k] = columns.mean(), rows.mean()
        return uv

    def _read(self, crop):
        uv = self._dots(crop)
        if np.isnan(uv).any():  # not all of a hand: say so
            return CropReading(FLAT, np.zeros(21), 0.5, 0.0, np.eye(21, 3), np.eye(3))
        relative, _ = normalise(np.column_stack([uv, np.zeros(NUM_KEYPOINTS)]))
        canonical, rotation = to_canonical(relative)
        (ax, ay), (bx, by) = uv[9] - uv[0], uv[1] - uv[0]
        thumb_is_left = ax * by - ay * bx < 0
        if self.spoil == "canonical":
            canonical = canonical * np.nan
        if self.spoil == "frame":  # as LiteLifting, which knows it to a few degrees
            off = Rotation.from_rotvec([0.05, -0.03, 0.04]).as_matrix()
            canonical, rotation = canonical @ off, rotation @ off
        if self.spoil == "rotation":
            rotation = rotation * np.nan
        right = 0.9 if thumb_is_left != (self.spoil == "side") else 0.1
        return CropReading(to_unit(uv, len(crop)), np.full(21, 0.7), right, self.presence, canonical, rotation)


@pytest.fixture
def reader(monkeypatch):
    family = DotReader()
    monkeypatch.setattr(module, "load_family", lambda *_: family)
    return family


def make(**settings):
    return HandPoseEstimator(device="cpu", **settings)


def test_the_canonical_pose_is_in_its_frame_exactly(reader):
    truth = hand_at((300, 250), angle=0.6)
    (before,) = make()(picture(truth))
    reader.spoil = "frame"
    (hand,) = make()(picture(truth))
    np.testing.assert_allclose(hand.keypoints_canonical[9, [0, 2]], 0, atol=1e-12)
    assert hand.keypoints_canonical[9, 1] < 0 and hand.keypoints_canonical[17, 2] == pytest.approx(0, abs=1e-12)
    # A pose is a mean of two readings, here with frames that are off to different sides.
    np.testing.assert_allclose(hand.keypoints_relative, before.keypoints_relative, atol=0.02)
    np.testing.assert_allclose(hand.rotation_camera_canonical, before.rotation_camera_canonical, atol=0.02)


@pytest.mark.parametrize("tracking", [False, True])
@pytest.mark.parametrize("wrong", ["3", float("nan"), float("inf")])
def test_a_stamp_that_is_no_number_is_refused(reader, tracking, wrong):
    with pytest.raises(InvalidInputError, match="stamp_s must be a finite number"):
        make(tracking=tracking)(picture(), stamp_s=wrong)


def test_every_description_of_a_hand_agrees_with_the_others(reader):
    truth = hand_at((300, 250), angle=0.6)
    (hand,) = make()(picture(truth))
    assert hand.side == Side.RIGHT and hand.side_score == pytest.approx(0.9) and hand.score == pytest.approx(0.95)
    np.testing.assert_allclose(hand.keypoints_px, truth, atol=1.5)
    rotated = hand.keypoints_canonical @ hand.rotation_camera_canonical.T
    np.testing.assert_allclose(hand.keypoints_relative, rotated, atol=1e-9)
    np.testing.assert_allclose(hand.keypoints_relative[0], 0, atol=1e-9)
    assert np.linalg.norm(hand.keypoints_relative[6] - hand.keypoints_relative[5]) == pytest.approx(1)
    np.testing.assert_allclose(hand.rotation_camera_canonical @ hand.rotation_camera_canonical.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(hand.rotation_camera_canonical) == pytest.approx(1)
    low, high = hand.keypoints_px.min(0), hand.keypoints_px.max(0)
    assert hand.roi_px == pytest.approx((*low, *(high - low)))


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2, 2.5, -2.0])
def test_the_crops_rotation_is_undone(reader, angle):
    """Crops are turned until the hand points up; the answer is that of the image all the same."""
    truth = hand_at((320, 240), angle=angle)
    (hand,) = make()(picture(truth))
    expected, _ = normalise(np.column_stack([truth, np.zeros(21)]))
    np.testing.assert_allclose(hand.keypoints_px, truth, atol=1.5)
    np.testing.assert_allclose(hand.keypoints_relative, expected, atol=0.15)


def test_a_turned_image_turns_the_pose_about_the_optical_axis(reader):
    image = picture(hand_at((320, 240), angle=0.3))
    (before,) = make()(image)
    (after,) = make()(np.ascontiguousarray(np.rot90(image, -1)))  # clockwise: x to y, y to -x
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(after.keypoints_relative, before.keypoints_relative @ turn.T, atol=0.1)
    np.testing.assert_allclose(after.rotation_camera_canonical, turn @ before.rotation_camera_canonical, atol=0.05)
    np.testing.assert_allclose(after.keypoints_canonical, before.keypoints_canonical, atol=0.1)


def test_a_followed_hand_that_its_window_cuts_is_read_in_a_larger_one(reader):
    reader.video_margins = Margins((2.0,), (1.3,))
    estimator = make(tracking=True, max_hands=1)
    at = hand_at((300, 240))
    (first,) = estimator(picture(at), stamp_s=0.0)
    reader.batches.clear()
    assert estimator(picture(at), stamp_s=1 / 30) and reader.batches == [1]  # a sure hand costs one reading
    reader.batches.clear()
    moved = at + [0.3 * np.ptp(at, axis=0).max(), 0]
    (hand,) = estimator(picture(moved), stamp_s=2 / 30)
    assert reader.batches == [1, 1] and reader.searches == 1
    assert hand.track_id == first.track_id and hand.score == pytest.approx(0.95)
    np.testing.assert_allclose(hand.keypoints_px, moved, atol=20)  # smoothed


@pytest.mark.parametrize(("larger", "counts"), [(0.8, 0.6), (0.92, 0.92)])
def test_a_larger_window_of_a_followed_hand_counts_where_it_is_sure(reader, monkeypatch, larger, counts):
    reader.video_margins = Margins((2.0,), (1.3,))
    estimator, image = make(tracking=True, max_hands=2), picture(hand_at((180, 240)), hand_at((460, 240)))
    assert len(estimator(image, stamp_s=0.0)) == 2
    scores = iter([0.95, 0.6, larger])  # of both narrow windows, and of the larger one of the second
    one = DotReader._read
    monkeypatch.setattr(reader, "_read", lambda crop: one(reader, crop)._replace(presence=next(scores)), raising=False)
    hands = estimator(image, stamp_s=1 / 30)
    assert [hand.score for hand in hands] == [pytest.approx(0.95), pytest.approx(counts)]
    assert next(scores, None) is None


@pytest.mark.parametrize("side", [Side.LEFT, Side.RIGHT])
def test_a_mirrored_image_gives_its_own_pixels_and_the_real_hand(reader, side):
    image = picture(hand_at((200, 260), angle=0.4, side=side))
    camera = Camera(600, 600, 340, 239.5, 640, 480, (0.05, -0.1, 0.001, -0.002, 0.02))
    (real,) = make()(image, camera)
    (seen,) = make(mirrored=True)(np.ascontiguousarray(image[:, ::-1]), camera.mirrored())  # of the pixels
    assert real.side == seen.side == side
    np.testing.assert_allclose(seen.keypoints_px, real.keypoints_px * [-1, 1] + [639, 0], atol=1e-6)
    np.testing.assert_allclose(seen.keypoints_relative, real.keypoints_relative, atol=1e-9)
    np.testing.assert_allclose(seen.keypoints_m, real.keypoints_m, atol=1e-9)
    assert seen.roi_px[0] == pytest.approx(639 - real.roi_px[0] - real.roi_px[2])


def test_followed_hands_are_read_as_of_their_side(reader):
    """A misread side would lift the pose of the other hand."""
    estimator = make(tracking=True)
    image = picture(hand_at((320, 240), side=Side.LEFT))
    (first,) = estimator(image, stamp_s=0.0)
    assert reader.sides[-1] == Side.UNKNOWN and first.side == Side.LEFT
    reader.spoil = "side"
    (second,) = estimator(image, stamp_s=0.03)
    assert reader.sides[-1] == Side.LEFT and second.side == Side.LEFT and second.track_id == first.track_id
    assert second.side_score < first.side_score
    (still,) = make()(image)
    assert still.side == Side.RIGHT  # nobody knows better in a single image


def test_an_image_taken_for_an_unmirrored_one_shows_the_other_side(reader):
    image = picture(hand_at((320, 240), side=Side.RIGHT))
    (hand,) = make()(np.ascontiguousarray(image[:, ::-1]))
    assert hand.side == Side.LEFT


@pytest.mark.parametrize(("given", "side"), [("left", Side.LEFT), ("right", Side.RIGHT)])
def test_a_given_side_is_told_to_the_networks_and_certain(reader, given, side):
    (hand,) = make(hand_side=given)(picture(hand_at((320, 240))))
    assert hand.side == side and hand.side_score == 1
    assert reader.sides == [side, side, side.other]  # the last reads the hand in a mirror


def test_two_hands_and_no_more_than_are_asked_for(reader):
    image = picture(hand_at((150, 240), 22), hand_at((480, 240), 22, side=Side.LEFT))
    assert {hand.side for hand in make()(image)} == {Side.LEFT, Side.RIGHT}
    assert len(make(max_hands=1)(image)) == 1
    assert make()(np.zeros((480, 640, 3), np.uint8)) == []


@pytest.mark.parametrize("tracking", [True, False])
def test_a_fist_read_as_of_both_sides_is_one_hand(reader, monkeypatch, tracking):
    """The readings share their box, not their palm."""
    estimator = make(tracking=tracking)
    (hand,) = make()(picture(hand_at((320, 240))))
    x, y, width, height = hand.roi_px
    turned = 2 * np.array([x + width / 2, y + height / 2]) - hand.keypoints_px
    other = hand.replace(keypoints_px=turned, side=hand.side.other, score=0.92)
    monkeypatch.setattr(estimator, "_read_detections", lambda frame, places: [other, hand])
    (found,) = estimator(picture(hand_at((320, 240))), stamp_s=0.0)
    assert found.side == hand.side


def test_a_hand_found_twice_is_one_hand(reader):
    reader.spoil = "twice"
    assert len(make()(picture(hand_at((320, 240))))) == 1


@pytest.mark.parametrize("spoil", ["canonical", "rotation"])
def test_answers_that_are_not_finite_are_dropped(reader, spoil):
    reader.spoil = spoil
    image = picture(hand_at((320, 240)))
    assert make()(image) == []
    assert make(tracking=True)(image, stamp_s=0.0) == []


def test_hands_below_the_threshold_are_left_out(reader):
    image = picture(hand_at((320, 240)))
    assert make(score_threshold=0.94)(image) and not make(score_threshold=0.96)(image)


def test_a_followed_hand_needs_no_search(reader):
    estimator = make(tracking=True, max_hands=1)
    ids = set()
    for frame in range(10):
        truth = hand_at((200 + 6 * frame, 240), angle=0.02 * frame)
        (hand,) = estimator(picture(truth), stamp_s=frame / 30)
        assert np.abs(hand.keypoints_px - truth).max() < 8  # smoothing lags a little
        ids.add(hand.track_id)
    assert reader.searches == 1 and len(ids) == 1
    assert estimator(picture(), stamp_s=10 / 30) == [] and estimator(picture(), stamp_s=11 / 30) == []
    assert reader.searches == 2
    (back,) = estimator(picture(hand_at((500, 240))), stamp_s=2.0)
    assert back.track_id not in ids
    estimator.reset()
    (fresh,) = estimator(picture(hand_at((500, 240))), stamp_s=2.1)
    assert fresh.track_id not in ids | {back.track_id}


def test_a_second_hand_is_found_beside_a_followed_one(reader):
    estimator = make(tracking=True, max_hands=2)
    left, right = hand_at((150, 240), 22, side=Side.LEFT), hand_at((480, 240), 22)
    estimator(picture(left), stamp_s=0.0)
    for frame in range(1, 20):  # nothing was lost: the other hand comes with the next regular search
        hands = estimator(picture(left, right), stamp_s=frame / 30)
    assert {hand.side for hand in hands} == {Side.LEFT, Side.RIGHT}
    assert len({hand.track_id for hand in hands}) == 2
    assert reader.searches < 5


def test_beside_a_followed_hand_an_image_is_searched_or_places_are_read_but_never_both(reader):
    estimator = make(tracking=True, max_hands=3)
    hands = [hand_at((110, 240), 14), hand_at((320, 240), 14), hand_at((530, 240), 14, np.pi)]
    estimator(picture(hands[0]), stamp_s=0.0)
    for frame in range(1, 20):
        reader.batches.clear()
        before = reader.searches
        answer = estimator(picture(*hands), stamp_s=frame / 30)
        searched, reads = reader.searches - before, sum(reader.batches)
        assert reads == 1 if searched else reads <= 3 + 1  # the one that points down is read twice
        if len(answer) == 3:
            break
    assert searched == 0 and frame < 9
    estimator(picture(*hands), stamp_s=(frame + 1) / 30)
    assert sum(reader.batches[-1:]) == 3 and reader.searches == before


def test_the_image_may_change_its_size_in_a_stream(reader):
    estimator = make(tracking=True)
    (first,) = estimator(picture(hand_at((320, 240))), stamp_s=0.0)
    truth = hand_at((160, 120), 14)
    (second,) = estimator(picture(truth, size=(320, 240)), stamp_s=0.03)
    assert second.track_id != first.track_id
    np.testing.assert_allclose(second.keypoints_px, truth, atol=2)


def test_first_crops_are_read_again_unless_they_fit_and_another_image_follows(reader):
    for tracking, angle, readings in (
        (True, 0.0, 1),
        (True, 0.3, 1),
        (True, 2.5, 2),
        (True, -np.pi / 2, 2),
        (False, 0.0, 3),  # and once more in a mirror
        (False, 2.5, 3),
    ):
        reader.sides.clear()
        hands = make(tracking=tracking)(picture(hand_at((320, 240), angle=angle)))
        assert hands and len(reader.sides) == readings


def test_a_detection_that_knows_the_direction_needs_one_look(reader):
    reader.directed = True
    for angle in (0.0, 1.5, 3.0, -2.0):
        reader.batches.clear()
        truth = hand_at((320, 240), 24, angle)
        (hand,) = make(tracking=True)(picture(truth))
        np.testing.assert_allclose(hand.keypoints_px, truth, atol=2)
        assert reader.batches == [1]


def test_all_detections_of_an_image_are_read_together(reader):
    both = [hand_at((150, 240), 15), hand_at((480, 240), 15, np.pi)]
    hands = make(tracking=True)(picture(*both))
    assert reader.batches == [2, 1]  # the one that pointed down is looked at again
    assert sorted(round(hand.keypoints_px[0, 0]) for hand in hands) == sorted(round(h[0, 0]) for h in both)


def test_the_surest_of_a_detections_windows_counts(reader):
    truth = hand_at((150, 240), 15), hand_at((480, 240), 15)
    reader.image_margins = Margins((0.5, 1.5), ())  # the first window cuts the hands, and is not sure of them
    hands = make()(picture(*truth))
    assert reader.batches == [4] and len(hands) == 2
    for hand, uv in zip(sorted(hands, key=lambda h: h.keypoints_px[0, 0]), truth, strict=True):
        np.testing.assert_allclose(hand.keypoints_px, uv, atol=2)
    reader.image_margins = Margins((0.5,), ())
    assert make()(picture(*truth)) == []


def test_a_window_that_shows_the_hand_beside_it_too_loses_none(reader, monkeypatch):
    truth = hand_at((180, 240), 30), hand_at((430, 240), 30)
    reader.image_margins = Margins((2.2, 4.2), (2.2,))
    detect, read = reader.detect, reader._read

    def other_hand(crop):
        middle = np.s_[:, : len(crop) * 3 // 4]
        beside = crop.copy()
        beside[middle] = 0
        return read(beside if beside.any() else crop)

    monkeypatch.setattr(reader, "detect", lambda *image: detect(*image)[:1])
    monkeypatch.setattr(reader, "_read", other_hand)
    hands = make()(picture(*truth))
    assert sorted(round(hand.keypoints_px[0, 0]) for hand in hands) == sorted(round(uv[0, 0]) for uv in truth)


def test_single_images_are_read_in_one_window_after_the_other(reader):
    reader.image_margins = Margins((1.6,), (1.5, 1.3))
    reader.batches.clear()
    assert len(make()(picture(hand_at((320, 240))))) == 1
    assert reader.batches == [1, 1, 1, 1, 1]  # and twice in a mirror


def test_every_reading_is_weighed_with_the_detection_it_comes_from(reader):
    truth = hand_at((150, 240), 15), hand_at((480, 240), 15, np.pi)
    reader.spoil = "doubt"
    hands = make(score_threshold=0.4)(picture(*truth))
    assert [hand.score for hand in hands] == pytest.approx([0.475, 0.475])
    middles = sorted(round(detection.center[0]) for detection in reader.confirmed[-2:])
    assert middles == pytest.approx(sorted(uv.min(0)[0] / 2 + uv.max(0)[0] / 2 for uv in truth), abs=3)
    assert make(score_threshold=0.5)(picture(*truth)) == []


def test_followed_hands_are_not_weighed_with_detections(reader):
    estimator = make(tracking=True, max_hands=1)
    image = picture(hand_at((320, 240)))
    for frame in range(3):
        estimator(image, stamp_s=frame / 30)
    assert len(reader.confirmed) == 1


def test_a_hand_seen_in_one_frame_of_a_video_alone_is_never_reported(reader):
    reader.presence = 0.7
    image, empty = picture(hand_at((320, 240))), picture()
    estimator = make(tracking=True, score_threshold=0.5)
    assert [len(estimator(x, stamp_s=k / 30)) for k, x in enumerate((image, empty, image, empty))] == [0] * 4
    assert [len(estimator(image, stamp_s=k / 30)) for k in (4, 5)] == [0, 1]
    assert (
        len(make(tracking=False, score_threshold=0.5)(image)) == 1
    )  # of a single image everything above the threshold is


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({}, "thorough"),
        ({"tracking": True}, "fast"),
        ({"tracking": True, "search": "thorough"}, "thorough"),
        ({"search": "fast"}, "fast"),
    ],
)
def test_how_an_image_is_searched(reader, settings, expected):
    make(**settings)(picture(), stamp_s=0.0)
    assert [search for search, _ in reader.asked] == [expected]


def test_searches_of_a_video_take_turns_and_start_with_the_whole_image(reader):
    estimator = make(tracking=True)
    for frame in range(4):
        estimator(picture(), stamp_s=frame / 30)
    assert [turn for _, turn in reader.asked] == [0, 1, 2, 3]
    estimator.reset()
    estimator(picture(), stamp_s=4 / 30)
    estimator(picture(size=(320, 240)), stamp_s=5 / 30)
    assert [turn for _, turn in reader.asked[4:]] == [0, 0]


def test_what_is_found_in_an_image_does_not_depend_on_those_before(reader):
    estimator = make(search="fast")
    for _ in range(3):
        estimator(picture())
    assert [turn for _, turn in reader.asked] == [0, 0, 0]


def test_the_search_may_change_between_two_images(reader):
    estimator = make()
    estimator.configure(search="fast")
    estimator(picture())
    assert reader.asked == [("fast", 0)]
    with pytest.raises(InvalidInputError, match="auto, fast, thorough"):
        estimator.configure(search="deep")


@pytest.mark.parametrize(
    "settings, first, later",
    [
        ({}, [320, 320, 320, 400, 400], None),  # the last window, and its mirror image, finely
        ({"search": "fast"}, [320, 400], None),
        ({"tracking": True}, [320], [400]),  # a new hand quickly, a followed one finely
    ],
)
def test_which_windows_are_read_finely(reader, settings, first, later):
    reader.fine_size = 400
    reader.image_margins = Margins((1.3,), (1.4, 1.25))
    estimator = make(**settings)
    for stamp_s, sizes in ((0.0, first), (1 / 30, later or first)):
        reader.read_sizes.clear()
        (hand,) = estimator(picture(hand_at((320, 240))), stamp_s=stamp_s)
        np.testing.assert_allclose(hand.keypoints_px, hand_at((320, 240)), atol=1.5)
        assert reader.read_sizes == sizes


def test_metres_need_a_camera(reader):
    image, truth = picture(hand_at((420, 200))), hand_at((420, 200))
    (hand,) = make()(image)
    assert hand.keypoints_m is None and hand.scale_source == ScaleSource.NONE
    camera = Camera(600, 600, 319.5, 239.5, 640, 480)
    (hand,) = make()(image, camera)
    assert hand.scale_source == ScaleSource.ASSUMED
    np.testing.assert_allclose(camera.project(hand.keypoints_m), truth, atol=6)
    (calibrated,) = make(scale_source=ScaleSource.CALIBRATED, reference_length=0.05)(image, camera)
    assert calibrated.scale_source == ScaleSource.CALIBRATED
    assert calibrated.scale_m / hand.scale_m == pytest.approx(0.05 / REFERENCE_LENGTH_M, rel=1e-6)
    (deep,) = make()(image, camera, depth_m=np.full((480, 640), 0.8, np.float32))
    assert deep.scale_source == ScaleSource.DEPTH
    assert deep.keypoints_m[:, 2].mean() == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    ("settings", "without_depth", "with_depth"),
    [
        ({}, "assumed", "depth"),
        ({"reference_length_stddev": 0.001}, "calibrated", "depth"),
        ({"scale_source": "none"}, "none", "none"),
        ({"scale_source": "assumed", "reference_length_stddev": 0.001}, "assumed", "assumed"),
        ({"scale_source": "calibrated"}, "calibrated", "calibrated"),
        ({"scale_source": "depth"}, "none", "depth"),
        ({"scale_source": ScaleSource.NONE}, "none", "none"),
        ({"scale_source": ScaleSource.DEPTH}, "none", "depth"),
    ],
)
@pytest.mark.parametrize("tracking", [False, True])
def test_metres_come_from_where_scale_source_says(reader, settings, without_depth, with_depth, tracking):
    image, camera = picture(hand_at((420, 200))), Camera(600, 600, 319.5, 239.5, 640, 480)
    blind, estimator, deep = (make(tracking=tracking, **settings) for _ in range(3))
    assert blind(image)[0].scale_source == ScaleSource.NONE  # no camera, no metres
    for hand, label in (
        (estimator(image, camera)[0], without_depth),
        (deep(image, camera, depth_m=np.full((480, 640), 0.8, np.float32))[0], with_depth),
    ):
        assert hand.scale_source.label == label and (hand.keypoints_m is None) == (label == "none")
        assert math.isnan(hand.position_stddev_m) == (label == "none") == (hand.scale_m == 0)
        # The camera says how the hand is turned, metres or not.
        np.testing.assert_allclose(hand.keypoints_relative, make()(image, camera)[0].keypoints_relative, atol=0.05)


def wrist_distances(reader, smoothing, sizes, noise=0.0):
    """Distance of the wrist in metres in each frame of a video of a hand of these sizes, by an unsteady reader."""
    random = np.random.default_rng(3)

    def read(crop):
        reading = DotReader._read(reader, crop)
        middle = reading.uv.mean(0)
        return reading._replace(uv=middle + (reading.uv - middle) * random.normal(1, noise))

    reader._read = read
    estimator = make(tracking=True, max_hands=1, tracker=TrackerConfig(smoothing=smoothing))
    camera = Camera(600, 600, 319.5, 239.5, 640, 480)
    images = {size: picture(hand_at((320, 240), size)) for size in set(sizes)}
    frames = [estimator(images[size], camera, stamp_s=k / 30) for k, size in enumerate(sizes)]
    return np.array([hands[0].keypoints_m[0, 2] for hands in frames])


def test_metres_of_a_still_hand_are_smoothed_as_the_parameter_says(reader):
    settings = SmoothingConfig(enabled=False), SmoothingConfig(), SmoothingConfig(beta_position=1000.0)
    raw, smooth, quick = (wrist_distances(reader, s, [30.0] * 60, noise=0.02)[20:].std() for s in settings)
    assert raw > 0.01
    assert smooth < 0.5 * raw  # a cut-off of 1 Hz leaves a third of noise that is independent at 30 Hz
    assert quick > 0.9 * raw


def test_the_distance_of_a_coming_hand_is_not_late(reader):
    sizes = np.round(np.geomspace(20, 34, 45), 2).tolist()
    truth = wrist_distances(reader, SmoothingConfig(enabled=False), sizes)
    speed = np.polyfit(np.arange(10) / 30, truth[-10:], 1)[0]
    late, usual, quick = (
        np.mean(wrist_distances(reader, SmoothingConfig(beta_position=beta), sizes)[-10:] - truth[-10:]) / -speed
        for beta in (0.0, SmoothingConfig.beta_position, 20.0)
    )
    assert 0 < quick < 0.05 < usual < late < 0.2  # seconds; 1 / (2 pi 1 Hz) is 0.16


def test_an_estimator_is_not_copied(reader):
    with pytest.raises(HandPoseError, match="cannot be pickled or copied"):
        copy.copy(make())


def test_settings_change_while_hands_are_followed(reader):
    estimator = make(tracking=True, max_hands=1)
    camera = Camera(600, 600, 319.5, 239.5, 640, 480)
    image = picture(hand_at((320, 240)))
    (before,) = estimator(image, camera, stamp_s=0.0)
    estimator.configure(scale_source=ScaleSource.CALIBRATED, reference_length=0.05, reference_length_stddev=0.001)
    (after,) = estimator(image, camera, stamp_s=0.03)
    assert after.track_id == before.track_id and reader.searches == 1
    assert after.scale_source == ScaleSource.CALIBRATED
    assert after.scale_m / before.scale_m == pytest.approx(0.05 / REFERENCE_LENGTH_M, rel=0.01)
    assert after.position_stddev_m < 0.5 * before.position_stddev_m
    zoomed = replace(camera, fx=camera.fx * 1.001)  # a lens that breathes
    (same,) = estimator(image, zoomed, stamp_s=0.05)
    assert same.track_id == after.track_id
    for k in range(1, 8):  # one that creeps would move the hand
        zoomed = replace(camera, fx=camera.fx * (1 + 0.005 * k), fy=camera.fy * (1 + 0.005 * k))
        (same,) = estimator(image, zoomed, stamp_s=0.05 + 1e-4 * k)
    assert same.track_id != after.track_id
    (another,) = estimator(image, replace(camera, fx=1.1 * camera.fx, fy=1.1 * camera.fy), stamp_s=0.055)
    assert another.track_id != after.track_id
    (after,) = estimator(image, camera, stamp_s=0.056)
    estimator.configure(reference_length=0.06)  # nobody could tell the new place from motion
    (elsewhere,) = estimator(image, camera, stamp_s=0.06)
    assert elsewhere.track_id != after.track_id
    with pytest.raises(InvalidInputError, match="precision belongs to the networks"):
        estimator.configure(precision="bfloat16", reference_length=0.07)
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        estimator.configure(score_threshold=2)
    before_it = estimator.config
    for wrong in (
        {"mirrored": "false"},
        {"tracker": None},
        {"score_threshold": "0.5"},
        {"score_threshold": True},
        {"reference_length": None},
    ):
        ((name, value),) = wrong.items()
        with pytest.raises(InvalidInputError, match=f"{name} must be .*, not {value!r}"):
            estimator.configure(**wrong, max_hands=2)
    with pytest.raises(InvalidInputError, match="reference_length_stddev must be .*, not a"):
        estimator.configure(reference_length_stddev="a")
    with pytest.raises(InvalidInputError, match="stamp_s must be"):
        estimator(image, camera, stamp_s="1")
    assert estimator.config is before_it and estimator.config.reference_length == 0.06
    estimator.configure(max_hands=np.int64(1), hand_side="left")
    (other,) = estimator(image, camera, stamp_s=0.06)
    assert other.side == Side.LEFT and other.track_id != before.track_id


def test_other_networks_follow_the_same_hands(reader):
    first, second = make(tracking=True), make(tracking=True)
    image = picture(hand_at((320, 240)))
    (before,) = first(image, stamp_s=0.0)
    second(image, stamp_s=0.0)
    second.take_over(first)
    (after,) = second(image, stamp_s=0.03)
    assert after.track_id == before.track_id and reader.searches == 2


def test_other_networks_that_put_hands_elsewhere_follow_new_ones(reader):
    first, second = make(tracking=True), make(tracking=True, reference_length=0.09)
    image, camera = picture(hand_at((320, 240))), Camera(500, 500, 320, 240, 640, 480)
    (before,) = first(image, camera, stamp_s=0.0)
    second.take_over(first)
    (after,) = second(image, camera, stamp_s=0.03)
    assert after.track_id != before.track_id
    assert after.scale_m / before.scale_m == pytest.approx(0.09 / first.config.reference_length)  # nothing smoothed


def test_warm_up_runs_all_networks_and_follows_nobody(reader):
    estimator = make(tracking=True, max_hands=3)
    estimator.warm_up()
    assert reader.searches > 0 and {1, 2, 3} == set(reader.batches)
    (hand,) = estimator(picture(hand_at((320, 240))), stamp_s=0.0)
    assert hand.track_id == 1


def test_with_a_camera_rotations_are_the_cameras_not_those_of_the_ray(reader):
    """The same look of a hand at the image's edge is another rotation of the hand in the camera's frame."""
    camera = Camera(300, 300, 319.5, 239.5, 640, 480)
    middle, edge = (make()(picture(hand_at(c, 20)), camera)[0] for c in ((320, 240), (560, 240)))
    turn = edge.rotation_camera_canonical @ middle.rotation_camera_canonical.T
    angle = np.arctan2(turn[0, 2], turn[2, 2])
    assert angle == pytest.approx(np.arctan2(240, 300), abs=0.05)


@pytest.mark.parametrize(
    "image",
    [
        None,
        [[0]],
        np.zeros((480, 640, 2), np.uint8),
        np.zeros((480, 640, 5), np.uint8),
        np.zeros((1, 480, 640, 3), np.uint8),
        np.zeros((480, 640, 3), np.float32),
        np.zeros((480, 640, 3), np.int8),
        np.zeros((480, 640, 3), np.uint32),
        np.zeros((480, 640), bool),
        np.zeros((8, 640, 3), np.uint8),
        np.zeros((0, 0, 3), np.uint8),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(reader, image):
    with pytest.raises(InvalidInputError, match="an image must be") as caught:
        make()(image)
    assert "\n" not in str(caught.value)


def test_grey_alpha_and_16_bits_are_taken_as_the_same_picture(reader):
    seen = []

    class Spy:
        def detect(self, image, passes):
            seen.append(image)
            return reader.detect(image, passes)

        def __getattr__(self, name):
            return getattr(reader, name)

    estimator = make()
    estimator._family = Spy()
    rgb = picture()
    grey = rgb[..., 0]
    for image, same in (
        (rgb, rgb),
        (np.dstack([rgb, grey]), rgb),
        (rgb.astype(np.uint16) * 257, rgb),
        (rgb.astype(">u2") * 256 + 255, rgb),
        (grey, np.dstack([grey] * 3)),
        (grey[..., None], np.dstack([grey] * 3)),
    ):
        estimator(image)
        np.testing.assert_array_equal(seen[-1], same)
        assert seen[-1].dtype == np.uint8


@pytest.mark.parametrize(
    ("depth", "words"),
    [
        (np.full((480, 640), 500, np.uint16), "millimetres"),
        (np.full((480, 640), 500, np.int32), "millimetres"),
        (np.full((480, 640), 500, np.float32), "millimetres"),
        ([[0.5]], "metres, not a list$"),
        (np.zeros((480, 640, 1)), "registered"),
    ],
)
def test_depth_that_is_not_metres_is_refused(reader, depth, words):
    with pytest.raises(InvalidInputError, match=words):
        make()(picture(), Camera(600, 600, 319.5, 239.5), depth_m=depth)


def test_masked_depth_is_unknown(reader):
    image, camera, depth_m = picture(hand_at((320, 240))), Camera(600, 600, 319.5, 239.5), np.full((480, 640), 0.8)
    for mask, source in ((False, ScaleSource.DEPTH), (True, ScaleSource.ASSUMED)):
        (hand,) = make()(image, camera, depth_m=np.ma.masked_array(depth_m, mask=mask))
        assert hand.scale_source == source


def test_a_camera_of_another_size_is_scaled_or_refused(reader):
    estimator = make()
    own, larger = Camera(600, 600, 319.5, 239.5, 640, 480), Camera(1200, 1200, 639.5, 479.5, 1280, 960)
    (a,), (b,) = (estimator(picture(hand_at((320, 240), 20)), camera) for camera in (own, larger))
    np.testing.assert_allclose(a.keypoints_m, b.keypoints_m, atol=1e-6)
    with pytest.raises(InvalidInputError, match="1280x720"):
        estimator(picture(), Camera(1200, 1200, 640, 360, 1280, 720))
    with pytest.raises(InvalidInputError, match=r"hand_pose_3d\.Camera"):
        estimator(picture(), own.matrix)


@pytest.mark.parametrize("tracking", [False, True])
def test_nothing_that_a_call_was_given_is_kept(reader, tracking):
    estimator = make(tracking=tracking)
    image, depth_m, camera = picture(hand_at((320, 240))), np.full((480, 640), 0.8), Camera(600, 600, 319.5, 239.5)
    hands = estimator(image, camera, depth_m)
    kept = [weakref.ref(thing) for thing in (image, depth_m, camera)]
    del image, depth_m, camera
    gc.collect()
    assert hands and [thing() for thing in kept] == [None] * 3


def test_depth_of_another_size_is_refused(reader):
    with pytest.raises(InvalidInputError, match="registered"):
        make()(picture(), depth_m=np.zeros((240, 320), np.float32))


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"model": "large"}, "auto, lite, paper"),
        ({"model": np.array(["lite", "paper"])}, "auto, lite, paper"),
        ({"search": np.array(["fast", "thorough"])}, "auto, fast, thorough"),
        ({"precision": np.array(["int8", "float32"])}, "precision must be"),
        ({"max_hands": 0}, "between 1 and 16"),
        ({"max_hands": 1.5}, "a whole number"),
        ({"hand_side": "both"}, "auto, left, right"),
        ({"search": "slow"}, "auto, fast, thorough"),
        ({"keypoints": "slow"}, "auto, fast, thorough"),
        ({"keypoints": "thorough", "model": "paper"}, "needs model lite"),
        ({"score_threshold": 1.2}, "between 0 and 1"),
        ({"score_threshold": float("nan")}, "between 0 and 1"),
        ({"reference_length": 0.0}, "between 0.005 and 0.2 m"),
        ({"scale_source": "banana"}, "auto, none, assumed, calibrated, depth"),
        ({"scale_source": 3}, "auto, none, assumed, calibrated, depth"),
        ({"precision": "int4"}, "float32"),
        ({"precision": "int8", "model": "paper"}, "model lite"),
        ({"threads": 65}, "between 0 and 64"),
        ({"precision": "float16"}, "needs a GPU"),
        ({"colour": "red"}, "hand_side"),
        ({"threads": True}, "a whole number"),
        ({"mirrored": 1}, "true or false"),
        ({"weights": 1}, "a folder's path"),
        ({"reference_length": 10**400}, "a number"),
    ],
)
def test_a_bad_setting_names_what_is_allowed(reader, settings, allowed):
    with pytest.raises(InvalidInputError) as caught:
        make(**settings)
    assert allowed in str(caught.value) and "\n" not in str(caught.value)


def test_numbers_of_numpy_are_settings(reader):
    assert make(model=np.str_("lite")).config.model == "lite"
    config = make(mirrored=np.True_, max_hands=np.int64(1), reference_length=np.float64(0.05), score_threshold=1).config
    assert (config.mirrored, config.max_hands, config.reference_length) == (True, 1, 0.05)
    assert type(config.mirrored) is bool and type(config.score_threshold) is float


@pytest.mark.parametrize("device", ["tpu", "cpu:1", "cpu:", "auto:", "cuda:", "cuda:x", "cuda:²", "cuda:99", ""])
def test_a_device_that_is_not_there_is_named(reader, device):
    with pytest.raises(DeviceError, match="device"):
        HandPoseEstimator(device=device)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files of all three lite networks with random values, which see hands everywhere."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    segmentation = LiteHandSegNet()
    with torch.no_grad():
        segmentation.hands.weight[0] *= 20
        segmentation.hands.bias[0] = 0.0
    for name, network in (("handsegnet", segmentation), ("posenet", LitePoseNet()), ("lifting", LiteLifting())):
        metadata = {"family": "lite", "version": "0", "licence": "none"}
        save_weights(folder / f"lite-{name}.safetensors", network, metadata)
    return folder


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


class PlaceReader(DotReader):
    """Reads where a crop lies from the colours of its pixels, and answers with the nearer of its hands, seen flat."""

    hands = hand_at((270, 250)), hand_at((380, 260))

    def detect(self, image, passes):
        self.searches += 1
        crops = [crop_from_pose(uv, self.crop_size, 1.0) for uv in self.hands]
        return [Detection(crop.center, crop.side, crop.angle, 0.9) for crop in crops]

    def _read(self, crop):
        rows, columns = np.nonzero(crop[..., 2] == 255)
        there = 4.0 * crop[rows, columns, :2].astype(float)
        affine = np.linalg.lstsq(np.column_stack([columns, rows, np.ones(len(rows))]), there, rcond=None)[0]
        middle = np.array([crop.shape[1] / 2, crop.shape[0] / 2, 1]) @ affine
        hand = min(self.hands, key=lambda uv: np.linalg.norm(uv.mean(0) - middle))
        uv = (hand - affine[2]) @ np.linalg.inv(affine[:2])
        relative, _ = normalise(np.column_stack([uv, np.zeros(NUM_KEYPOINTS)]))
        return CropReading(to_unit(uv, len(crop)), np.full(21, 0.9), 0.9, 0.95, *to_canonical(relative))


@pytest.mark.parametrize("max_hands, tracking", [(2, False), (2, True), (1, False)])
def test_hands_that_touch_are_both_found(monkeypatch, max_hands, tracking):
    """Each is a detection of its own, and the one that is followed does not hide the other."""
    family = PlaceReader()
    monkeypatch.setattr(module, "load_family", lambda *_: family)
    columns, rows = np.meshgrid(np.arange(640) // 4, np.arange(480) // 4)
    image = np.dstack([columns, rows, np.full_like(rows, 255)]).astype(np.uint8)
    estimate = make(max_hands=max_hands, tracking=tracking)
    family.searches = 0
    hands = estimate(image)
    assert family.searches == 1 and len(hands) == max_hands
    for hand in hands:
        assert min(np.abs(hand.keypoints_px - truth).max() for truth in PlaceReader.hands) < 6


def test_networks_from_files_answer_in_every_precision(weights, photo):
    """Random weights mean nothing, but what they give is the same however it is computed, and is a hand's form."""
    exact, rough = (make(weights=weights, score_threshold=0.0, precision=p) for p in ("float32", "bfloat16"))
    crops = np.stack([cv2.resize(photo, (160, 160)), np.zeros((160, 160, 3), np.uint8)])
    sides = [Side.UNKNOWN, Side.LEFT]
    for a, b in zip(exact.family.read(crops, sides), exact.family.read(crops[:1], sides[:1])):
        np.testing.assert_allclose(a.uv, b.uv, atol=1e-4)  # a batch of any size
    for a, b in zip(exact.family.read(crops, sides), rough.family.read(crops, sides)):
        np.testing.assert_allclose(a.uv, b.uv, atol=0.02)
        np.testing.assert_allclose(a.canonical, b.canonical, atol=0.05)
        np.testing.assert_allclose(a.rotation @ a.rotation.T, np.eye(3), atol=1e-5)
        np.testing.assert_allclose(a.relative, a.canonical @ a.rotation.T, atol=1e-6)
    hands = exact(photo, Camera(150, 150, 80, 60, 160, 120))
    assert all(np.isfinite(hand.keypoints_px).all() for hand in hands)
    assert exact.timings_ms["detection"] > 0
    passes = exact.family.passes(160, 120, "thorough", 0)
    found, about = (e.family.detect(photo, passes) for e in (exact, rough))
    assert found and about and found[0].score == pytest.approx(about[0].score, abs=0.05)
    for detection in (*found, *about):
        values = (*detection.center, detection.extent, detection.angle, detection.score)
        assert all(math.isfinite(value) for value in values) and 0.1 <= detection.score <= 1


def test_what_runs_is_said(weights):
    made = [make(weights=weights, precision=p) for p in ("auto", "bfloat16")]
    chosen = [(e.backend, e.precision, e.keypoints) for e in made]
    assert chosen == [("onnxruntime", "float32", "fast"), ("torch", "bfloat16", "fast")]


@pytest.mark.parametrize(
    ("settings", "auto"), [({}, "thorough"), ({"tracking": True}, "fast"), ({"search": "fast"}, "fast")]
)
def test_the_second_posenet_is_loaded_where_it_is_wanted(weights, tmp_path, monkeypatch, settings, auto):
    monkeypatch.setattr("hand_pose_3d.families.make_runner", lambda recipe, *_: recipe.name)
    shutil.copytree(weights, tmp_path / "both")
    metadata = {"family": "lite", "version": "0", "licence": "none"}
    save_weights(tmp_path / "both" / "lite-fineposenet.safetensors", LiteFinePoseNet(), metadata)
    for asked, expected in (("auto", auto), ("fast", "fast"), ("thorough", "thorough")):
        estimator = make(weights=tmp_path / "both", keypoints=asked, **settings)
        assert estimator.keypoints == expected
        assert estimator.family.fine_size == (224 if expected == "thorough" else 160)
    assert make(weights=weights, **settings).keypoints == "fast"
    with pytest.raises(WeightsError, match=r"lite-fineposenet.safetensors, which does not exist: take auto or fast"):
        make(weights=weights, keypoints="thorough", **settings)


def test_palms_are_looked_for_where_the_weights_have_them_and_only_when_it_takes_them(weights, tmp_path, monkeypatch):
    shutil.copytree(weights, tmp_path / "with")
    palms, metadata = LitePalmNet(), {"family": "lite", "version": "0", "licence": "none"}
    for layer in (*palms.scores, *palms.boxes):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.constant_(layer.bias, 5)  # palms everywhere
    save_weights(tmp_path / "with" / "lite-palmnet.safetensors", palms, metadata)
    made, make_runner = [], families.make_runner

    def noted(recipe, *args, **kwargs):
        made.append(recipe.name)
        return make_runner(recipe, *args, **kwargs)

    monkeypatch.setattr(families, "make_runner", noted)
    image = np.zeros((120, 160, 3), np.uint8)
    for folder, settings, expected in (
        (weights, {}, False),
        (tmp_path / "with", {}, True),
        (tmp_path / "with", {"tracking": True}, False),
        (tmp_path / "with", {"search": "fast"}, False),
        (tmp_path / "with", {"tracking": True, "search": "thorough"}, True),
    ):
        made.clear()
        estimator = make(weights=folder, **settings)
        assert "PalmReader" not in made
        estimator.warm_up()
        assert ("PalmReader" in made) is expected
        found = estimator.family.detect(image, estimator.family.passes(160, 120, estimator.config.search_kind, 0))
        assert all((d.palm is not None) is expected for d in found) and (found or not expected)
    families_ = (make(weights=tmp_path / "with", precision=p).family for p in ("float32", "bfloat16"))
    exact, rough = (f.detect(image, f.passes(160, 120, "thorough", 0)) for f in families_)
    extent = 1.625 * 5 * (160 * 120 / (170 * 128)) ** 0.5  # of the boxes' edge, 5 pixels of the network's input
    for found in (exact, rough):
        assert any(d.palm > 0.99 and d.extent == pytest.approx(extent, rel=0.02) for d in found)
    path = tmp_path / "with" / "lite-palmnet.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(WeightsError, match="lite-palmnet"):  # at once, not with the first image
        make(weights=tmp_path / "with")


def test_the_paper_has_one_posenet():
    with pytest.raises(InvalidInputError, match="needs model lite"):
        EstimatorConfig(model="paper", keypoints="thorough")
    with pytest.raises(InvalidInputError, match="needs model lite"):
        load_family("paper", None, "cpu", "float32", fine=True)


def test_what_is_quick_takes_one_thread_and_bytes_where_they_are_fast(reader, monkeypatch):
    for fast, precision in ((True, "int8"), (False, "float32")):
        monkeypatch.setattr("hand_pose_3d.runtime.is_fast", lambda fast=fast: fast)
        for quick in ({"tracking": True}, {"search": "fast"}):
            estimator = make(**quick)
            assert (estimator.threads, estimator.precision) == (1, precision)
        assert make().precision == "float32" and make(threads=3).threads == 3
    with pytest.raises(InvalidInputError, match="VNNI"):
        make(precision="int8")


def test_missing_or_wrong_weights_are_named(tmp_path, weights):
    with pytest.raises(WeightsError, match="must be a folder"):
        make(weights=tmp_path / "nothing")
    with pytest.raises(HandPoseError, match="lite-handsegnet.safetensors"):
        make(weights=tmp_path)
    (tmp_path / "lite-handsegnet.safetensors").write_bytes((weights / "lite-posenet.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="LitePoseNet"):
        make(weights=tmp_path)
