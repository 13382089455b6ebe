"""What the lite family makes of an image before and after its network, for any size and part of it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from synthetic_hand import hand_from, keypoints_of

from hand_pose_3d import families
from hand_pose_3d.conventions import EXTENT_UNIT, CropReading
from hand_pose_3d.detection import Detection, SearchPass
from hand_pose_3d.errors import WeightsError
from hand_pose_3d.families import LiteFamily, PaperFamily
from hand_pose_3d.geometry import normalise, to_canonical
from hand_pose_3d.skeleton import Side
from hand_pose_3d.weights import Conventions, default_weights, read_weights
from hand_pose_3d.windows import crop_from_pose, crop_upright

CELL = 4


class Spots(LiteFamily):
    """A HandSegNet that takes the whitest cell of its input for the middle of a hand of 32 pixels, turned by 0.5."""

    def __init__(self):
        self.inputs = []
        self._scene, self._palms = self.answer, None
        self._confirmation = np.array([0.0, 1.0, 0.5, -1.0, 0.0, 0.0])

    def answer(self, canvas):
        self.inputs.append(canvas[0])
        height, width = canvas.shape[1] // CELL, canvas.shape[2] // CELL
        brightness = canvas[0].astype(float).reshape(height, CELL, width, CELL, 3).mean((1, 3, 4))
        row, column = np.unravel_index(np.argmax(brightness), brightness.shape)
        maps = np.zeros((1, 6, height, width), np.float32)
        maps[0, :4, row, column] = 0.9, math.log(32 / EXTENT_UNIT), math.sin(0.5), math.cos(0.5)
        return (maps,)


class Palms(Spots):
    """LitePalmNet sees the same hand at a coarser cell, upright, with a score of 0.7."""

    def __init__(self):
        super().__init__()
        self._palms, self._palm_confirmation = self.palms, np.array([0.0, 0, 0, 0, 0, 0, 1])
        self.looks = 0

    def palms(self, canvas):
        self.looks += 1
        maps = self.answer(canvas)[0]
        row, column = np.argwhere(maps[0, 0])[0]
        coarse = [np.zeros((1, 6, canvas.shape[1] // cell, canvas.shape[2] // cell)) for cell in (8, 16)]
        coarse[0][0, :4, row // 2, column // 2] = 0.7, math.log(32 / 32), 0, 1
        return tuple(coarse)


def test_a_thorough_search_sees_palms_too_and_a_fast_one_does_not():
    family, image = Palms(), np.zeros((480, 640, 3), np.uint8)
    image[200:240, 300:340] = 255
    (alone,) = family.detect(image, family.passes(640, 480, "fast", 0))
    assert alone.palm is None and family.looks == 0
    both = family.detect(image, family.passes(640, 480, "thorough", 0))
    assert family.looks == 4 and {(round(d.score, 3), round(d.palm, 3)) for d in both} == {(0.9, 0.7)}
    upright = [d for d in both if d.angle == 0]
    assert upright and len(upright) < len(both)  # windows of both, since they differ
    scale = family.passes(640, 480, "thorough", 0)[-1].input_size(32)[0]
    for palm in upright:
        assert math.dist(palm.center, (319.5, 219.5)) < 40 and palm.extent * scale >= 32 - 1e-3
    assert family.confirm(hand(0.5), both[0]).score == pytest.approx(0.7)  # by the palm's own factors
    family._palms = None
    (single,) = family.detect(image, family.passes(640, 480, "thorough", 0))
    assert single.palm is None


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(64, 1400), st.integers(64, 1400)),
    at=st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)),
    search=st.sampled_from(["fast", "thorough"]),
    turn=st.integers(0, 7),
)
def test_a_detection_is_where_the_image_shows_it_in_every_pass(size, at, search, turn):
    width, height = size
    family = Spots()
    image = np.zeros((height, width, 3), np.uint8)
    for part in family.passes(width, height, search, turn):
        (x, y), (w, h) = part.origin, part.size
        scale = part.input_size(32)[0]
        assert 0.92 < scale / math.sqrt(part.pixels / (w * h)) < (1.3 if search == "fast" else 1.001)
        cell = CELL / scale  # of the network, in pixels of the image
        u, v = x + at[0] * (w - 1), y + at[1] * (h - 1)
        reach = cell + 1  # at least one cell is white
        image[:] = 0
        top, left = max(round(v - reach), 0), max(round(u - reach), 0)
        image[top : round(v + reach) + 1, left : round(u + reach) + 1] = 255
        (found,) = family.detect(image, [part])
        assert math.dist(found.center, (u, v)) < 2 * cell + 1
        assert found.extent == pytest.approx(32 * cell / CELL, rel=0.06)
        assert found.angle == pytest.approx(0.5, abs=1e-5) and found.score == pytest.approx(0.9)
        canvas = family.inputs[-1]
        assert canvas.shape[0] % 32 == canvas.shape[1] % 32 == 0
        assert canvas.shape[0] * canvas.shape[1] < 1.1 * part.pixels + 32 * (sum(canvas.shape[:2]) + 32)


@pytest.mark.parametrize(
    ("size", "inner", "padded"), [((640, 480), (160, 120), (160, 128)), ((1280, 720), (192, 108), (192, 128))]
)
def test_a_fast_search_spends_little_on_padding(size, inner, padded):
    for number in (0, 1):
        (part,) = Spots().passes(size[0], size[1], "fast", number)
        assert part.input_size(32)[1:] == (inner, padded)
    whole = Spots().passes(size[0], size[1], "thorough", 0)[0].input_size(32)
    assert whole[1][0] > inner[0] and whole[2][0] > padded[0]


def test_what_lies_beyond_the_image_is_no_place_for_a_hand():
    """Padding is brighter than a black image: a peak there is cut off."""
    family = Spots()
    image = np.zeros((480, 640, 3), np.uint8)
    assert family.detect(image, family.passes(640, 480, "fast", 0)) == []
    canvas = family.inputs[-1]
    assert (canvas[-1, -1] == 114).all()


def test_hands_too_large_for_a_close_look_are_left_to_a_coarse_one():
    family = Spots()
    image = np.zeros((480, 640, 3), np.uint8)
    image[200:240, 300:340] = 255
    part = SearchPass((0, 0), (640, 480), 4 * 170 * 128, 31.0)
    assert family.detect(image, [part]) == []
    assert len(family.detect(image, [SearchPass((0, 0), (640, 480), 4 * 170 * 128, 33.0)])) == 1


def test_one_hand_in_several_looks_is_found_once():
    family = Spots()
    image = np.zeros((240, 320, 3), np.uint8)
    image[100:120, 150:170] = 255
    whole = SearchPass((0, 0), (320, 240), 170 * 128)
    assert len(family.detect(image, [whole, whole, SearchPass((80, 60), (200, 150), 170 * 128 * 150 // 384)])) == 1


def hand(score):
    flat = np.stack([np.linspace(200, 260, 21), np.linspace(300, 200, 21)], axis=1)
    return hand_from(keypoints_of({}), flat, score=score)


def test_a_reading_is_believed_more_the_surer_and_the_nearer_its_detection_is():
    family, seen = Spots(), hand(0.7)
    crop = crop_from_pose(seen.keypoints_px, 160, 1.0)
    there = [Detection(crop.center, crop.side, crop.angle, p) for p in (0.2, 0.5, 0.9)]
    scores = [family.confirm(seen, detection).score for detection in there]
    assert scores == sorted(scores) and scores[1] == pytest.approx(0.7)
    away = Detection((crop.center[0] + 0.5 * crop.side, crop.center[1]), crop.side, crop.angle, 0.5)
    expected = 1 / (1 + math.exp(-(math.log(0.7 / 0.3) - 0.5)))
    assert family.confirm(seen, away).score == pytest.approx(expected)
    confirmed = family.confirm(seen, away)
    np.testing.assert_array_equal(confirmed.keypoints_px, seen.keypoints_px)


def test_windows_of_followed_hands_are_those_of_training():
    from hand_pose_3d.training import posenet

    keypoints_px = hand(0.9).keypoints_px
    assert Spots().crop(keypoints_px) == crop_from_pose(keypoints_px, posenet.CROP_SIZE, posenet.CROP_MARGIN)
    paper = object.__new__(PaperFamily)
    assert paper.crop(keypoints_px) == crop_upright(keypoints_px, 256, 1.25)


def test_the_paper_finds_its_object_first_and_says_nothing_of_readings():
    paper = object.__new__(PaperFamily)
    mask = np.full((1, 240, 320), 0.1, np.float32)
    mask[0, 50:80, 40:60], mask[0, 150:190, 200:260] = 0.95, 0.8  # the most probable pixel is in the smaller
    paper._scene = lambda image: (mask,)
    image = np.zeros((480, 640, 3), np.uint8)
    (part,) = paper.passes(640, 480, "fast", 1)
    assert part.size == (640, 480)
    first, second = paper.detect(image, [part])
    assert first.center == pytest.approx((99.5, 129.5)) and first.extent == 60
    assert second.center == pytest.approx((459.5, 339.5)) and second.extent == 120
    assert (first.angle, first.score) == (0.0, pytest.approx(0.95))
    seen = hand(0.6)
    assert paper.confirm(seen, first) is seen


@pytest.mark.parametrize("size", [(640, 480), (1280, 720), (720, 1280), (480, 640)])
@pytest.mark.parametrize("edges", [(0.2, 0.3), (0.3, 0.1)])
def test_the_paper_sees_a_hand_as_large_as_it_is_in_images_of_any_shape(size, edges):
    paper = object.__new__(PaperFamily)
    mask = np.zeros((1, 1, 240, 320), np.float32)
    width, height = round(320 * edges[0]), round(240 * edges[1])
    mask[..., 60 : 60 + height, 80 : 80 + width] = 1
    paper._scene = lambda image: (mask[0],)
    (part,) = paper.passes(size[0], size[1], "fast", 0)
    (found,) = paper.detect(np.zeros((size[1], size[0], 3), np.uint8), [part])
    assert found.extent == pytest.approx(max(width / 320 * size[0], height / 240 * size[1]), rel=0.02)
    assert found.center[0] == pytest.approx((80 + width / 2) / 320 * size[0] - 0.5, abs=size[0] / 320)


def test_peaks_of_the_papers_maps_become_probabilities_where_the_weights_say_how():
    paper = object.__new__(PaperFamily)
    paper._keypoints = paper._pose = Conventions()
    peaks = [0.0, 0.4, 0.5, 0.7, 1.0]
    paper._crop = lambda crops, side: tuple(
        np.stack(rows) for rows in zip(*(reading(0, presence=peak) for peak in peaks))
    )

    def presences():
        return [r.presence for r in paper.read(np.zeros((5, 256, 256, 3), np.uint8), [Side.UNKNOWN] * 5)]

    paper.presence_calibration = None
    assert presences() == peaks
    paper.presence_calibration = [1.0, 4.0]
    found = presences()
    assert found == sorted(found) and found[2] == pytest.approx(1 / (1 + np.exp(-1)))
    assert 0 < found[0] < 0.01 and 0.99 < found[-1] < 1


def test_keypoints_of_small_hands_score_less():
    """Odds fall with the extent in the image to the weights' power, from that of a hand that fills a crop on."""
    family, points, scores = Spots(), keypoints_of({}), np.linspace(0, 1, 21)
    for power, pixels, expected in ((1.5, 32, 1 / 8), (1.5, 128, 1), (1.5, 4000, 1), (0.0, 32, 1)):
        family._size_power = power
        uv = points[:, :2] * pixels / np.ptp(points[:, :2], axis=0).max()
        before = hand_from(points, uv).replace(keypoint_scores=scores)
        after = family.sized(before).keypoint_scores
        np.testing.assert_allclose(after[1:-1] / (1 - after[1:-1]), expected * scores[1:-1] / (1 - scores[1:-1]))
        assert after[[0, -1]] == pytest.approx([0, 1])


def test_settings_of_the_network_and_of_its_training_agree():
    from hand_pose_3d.training import handsegnet

    family = Spots()
    canvas_of_black = family.detect(np.zeros((100, 300, 3), np.uint8), [SearchPass((0, 0), (300, 100), 170 * 128)])
    assert canvas_of_black == [] and (family.inputs[0][-1, -1] == handsegnet.PADDING).all()
    assert handsegnet.EXTENT_UNIT == EXTENT_UNIT and handsegnet.STRIDE == CELL


def reading(seed, right=0.9, presence=0.8):
    """Of a random pose."""
    rng = np.random.default_rng(seed)
    relative, _ = normalise(keypoints_of({}) @ np.linalg.qr(rng.normal(size=(3, 3)))[0])
    return CropReading(rng.uniform(0, 1, (21, 2)), rng.uniform(0, 1, 21), right, presence, *to_canonical(relative))


@given(seed=st.integers(0, 1000))
def test_a_reading_in_a_mirror_is_of_the_other_side_and_mirrored_twice_the_same(seed):
    there = reading(seed)
    mirrored = there.mirrored()
    np.testing.assert_allclose(mirrored.uv, (there.uv - 0.5) * [-1, 1] + 0.5)
    np.testing.assert_allclose(mirrored.relative, there.relative * [-1, 1, 1], atol=1e-9)
    assert np.linalg.det(mirrored.rotation) == pytest.approx(1) and mirrored.right == pytest.approx(0.1)
    for name, value in mirrored.mirrored()._asdict().items():
        np.testing.assert_allclose(value, getattr(there, name), atol=1e-9)


def test_the_mean_of_a_reading_and_itself_is_that_reading_and_of_two_sides_the_surer_ones_pose():
    there, other = reading(0), reading(1, right=0.3, presence=0.2)
    for name, value in there.mean(there)._asdict().items():
        np.testing.assert_allclose(value, getattr(there, name), atol=1e-9)
    mean = there.mean(other)
    assert mean.right == pytest.approx(0.6) and mean.presence == pytest.approx(0.5)
    np.testing.assert_allclose(mean.uv, (there.uv + other.uv) / 2)
    assert mean.rotation is there.rotation and mean.canonical is there.canonical
    same = there.mean(reading(1))
    np.testing.assert_allclose(same.rotation @ same.rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(same.rotation) == pytest.approx(1)


def test_networks_of_two_conventions_are_not_put_together(tmp_path, monkeypatch):
    """A lifting of wrists on a PoseNet of palms, as a folder of converted weights and others' would have."""
    monkeypatch.setattr(families, "make_runner", lambda *arguments: None)
    for name in ("handsegnet", "posenet", "lifting"):
        tensors, metadata = read_weights(default_weights(f"paper-{name}"))
        metadata |= {"keypoint0": "palm"} if name == "posenet" else {}
        save_file(tensors, tmp_path / f"paper-{name}.safetensors", metadata=metadata)
    with pytest.raises(WeightsError, match="finds the palm as keypoint 0 and .* lifts the wrist"):
        PaperFamily(tmp_path, "cpu", "float32", 1, False)
