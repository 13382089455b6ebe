"""HandPoseEstimator: an image in, the hands in it out. The whole pipeline, without ROS."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from hand_pose_3d.camera import Camera, Crop
from hand_pose_3d.conventions import CropReading, from_unit, mirror_pixels
from hand_pose_3d.detection import Detection, on_known
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.estimator_config import NETWORK_SETTINGS, EstimatorConfig
from hand_pose_3d.families import FAMILIES, Family, load_family
from hand_pose_3d.frame import Frame
from hand_pose_3d.geometry import DegenerateHandError, rotation_to_ray
from hand_pose_3d.hands import HandPose, ScaleSource
from hand_pose_3d.pixels import crops_of, mirrored
from hand_pose_3d.placement import place
from hand_pose_3d.runtime import (
    choose_backend,
    choose_device,
    choose_precision,
    make_upload,
    opencv_threads,
    refuse_copies,
)
from hand_pose_3d.skeleton import Side
from hand_pose_3d.tracking import HandTracker, Window, distinct
from hand_pose_3d.windows import fits

STAGES = ("detection", "crop", "keypoints", "placement", "tracking")
"""Names of the timings, in the order of the pipeline; 'keypoints' is PoseNet and lifting, which are one graph."""

_ROUGH_SCORE, _QUICK_ROUGH_SCORE = 0.015, 0.1
"""Least score of a first reading whose hand is read again in a better window, in a thorough search (set by hand), and
in a fast one or a video: docs/experiments.md, "First readings". Independent of the required score, so that a lower one
adds hands and changes none."""

_SPARE_READS, _QUICK_SPARE_READS = 8, 2
"""Detections that are read beyond twice the number of hands, since some will hold none; in a fast search or a video
beyond the number of hands that are still missing. The first by average precision (docs/experiments.md)."""

_SAME_VIEW = 0.01
"""Most by which x / z or y / z of a pixel's ray may change while hands are followed: about 2 % of the focal length, and
of a hand's distance; set by hand."""

_ONE_HAND = 0.7
"""Intersection over union of boxes from which a new hand is another reading of a known one, as a fist may be read as of
either side. A followed hand may pass behind another; a new one would be a clasped one. Set by hand."""

_READS_BESIDE = 2
"""Detections that are read in a video frame beside followed hands, which bounds its time; others wait a frame."""


class HandPoseEstimator:
    """Finds hands in colour images and estimates their 3D pose.

    Settings are those of :class:`EstimatorConfig`, by name. Raises WeightsError, DeviceError or InvalidInputError when
    it cannot be set up. Not thread-safe: one estimator a thread. After a call `timings_ms` holds each stage's time.
    `model`, `device`, `precision` (float32, ...), `threads`, `backend` (onnxruntime or torch) and `keypoints` (fast or
    thorough) say what was chosen.

    >>> estimator = HandPoseEstimator(device="auto")
    >>> hands = estimator(image_rgb, camera=camera)
    """

    def __init__(self, **settings: Any) -> None:
        self.config = config = EstimatorConfig().changed(settings)
        self.device = choose_device(config.device)
        self.model = "lite" if config.model == "auto" else config.model
        self.threads = config.threads or (1 if config.quick and self.model == "lite" else min(2, os.cpu_count() or 1))
        bytes_allowed = FAMILIES[self.model].int8 and (config.quick or config.precision == "int8")
        self.precision = choose_precision(config.precision, self.device, bytes_allowed)
        self.backend = choose_backend(self.device, self.precision)
        fine = None if config.keypoints == "auto" and not config.quick else config.keypoints == "thorough"
        self._family: Family = load_family(self.model, config.weights, self.device, self.precision, self.threads, fine)
        self.keypoints = "fast" if self._family.fine_size == self._family.crop_size else "thorough"
        self._upload = make_upload(self.device, self.precision)
        self._tracker = HandTracker(config.tracker_config())
        self._searches = 0
        self._camera: Camera | None = None  # the first one since the last reset
        self._waiting: list[Detection] = []
        self.timings_ms: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @property
    def family(self) -> Family:
        """The loaded networks, so that they can be measured without the search for hands."""
        return self._family

    def reset(self) -> None:
        """Forget all followed hands."""
        self._tracker.reset()
        self._camera = None
        self._searches = 0
        self._waiting = []

    def configure(self, **settings: Any) -> None:
        """Change settings between two images; networks stay loaded, and hands stay followed where possible.

        What `auto` chose of NETWORK_SETTINGS for single images or for video stays, too: make another estimator for the
        other kind.

        Raises InvalidInputError, and changes nothing, for a bad value and for another of NETWORK_SETTINGS.
        """
        old, new = self.config, self.config.changed(settings)
        for name in NETWORK_SETTINGS:
            if getattr(new, name) != getattr(old, name):
                raise InvalidInputError(f"{name} belongs to the networks: make another estimator for it")
        self._tracker.configure(new.tracker_config())
        self.config = new
        if _shows_otherwise(old, new):
            self.reset()

    def __reduce__(self) -> NoReturn:
        refuse_copies()

    def take_over(self, other: HandPoseEstimator) -> None:
        """Take over the followed hands of another estimator, with other networks, where its settings allow that."""
        self._tracker, self._camera = other._tracker, other._camera
        self._tracker.configure(self.config.tracker_config())
        if _shows_otherwise(other.config, self.config):
            self.reset()

    def warm_up(self) -> None:
        """Run every stage, for one hand and for several, so that the first real images are not slow."""
        sizes = {self._family.crop_size, self._family.fine_size}
        frame = Frame(self._upload(np.zeros((480, 640, 3), np.uint8)), Camera(fx=600.0, fy=600.0, cx=320.0, cy=240.0))
        tracker = HandTracker()
        counts = [*range(1, min(max(self.config.max_hands, 2), 4) + 1)] * 2
        searched = [frame]
        if self.device != "cpu":  # whose graphs are of one shape of image each
            searched.append(replace(frame, image=self._upload(np.zeros((360, 640, 3), np.uint8))))
        for number, count in enumerate(counts):
            for each in searched:  # a video's searches take turns
                self._family.detect(each.image, self._family.passes(*each.size, self.config.search_kind, number % 2))
            crops = [[Crop((320.0, 240.0), 200.0, size)] * count for size in sizes]
            hands = [hand for each in crops for *_, hand in self._read(frame, each)]
            placed = [place(hand, frame.camera).replace(score=1.0) for hand in hands]
            tracker.update(placed[:1])

    def __call__(
        self,
        image: np.ndarray,
        camera: Camera | None = None,
        depth_m: np.ndarray | None = None,
        stamp_s: float | None = None,
    ) -> list[HandPose]:
        """Hands in one image, by falling score.

        Args:
            image: (H, W, 3) uint8 RGB, or an image that :func:`as_rgb8` converts to it.
            camera: needed for metres; one of another size of the same shape is scaled.
            depth_m: (H, W) metres, floating-point, registered to the image; used as scale_source says.
            stamp_s: acquisition time in seconds, for tracking; the current time if None.

        Returns:
            The hands. With `mirrored`, their pixels are those of the given image and all 3D is of the real camera.

        Raises:
            InvalidInputError: for anything that is no such image, camera or depth.
            WeightsError: for a damaged LitePalmNet of a folder, which is loaded by the first thorough search.
        """
        frame = Frame.checked(image, camera, depth_m, stamp_s)
        if self.config.mirrored:
            frame = frame.mirrored()
        self.timings_ms = dict.fromkeys(STAGES, 0.0)
        with opencv_threads(self.threads):
            with self._timed("crop"):
                frame = replace(frame, image=self._upload(frame.image))
            hands = self._follow(frame) if self.config.tracking else self._place(self._detect(frame, []), frame)
        if self.config.mirrored:
            hands = [_mirror_pixels(hand, frame.size[0]) for hand in hands]
        return sorted(hands, key=lambda hand: -hand.score)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.timings_ms[stage] += (time.perf_counter() - start) * 1e3

    def _place(self, hands: Sequence[HandPose], frame: Frame) -> list[HandPose]:
        """The hands in metres, as far as camera and depth are known and scale_source allows them."""
        config = self.config
        with self._timed("placement"):
            placed = [
                place(
                    hand,
                    None if config.scale_source == "none" else frame.camera,
                    frame.depth_m if config.uses_depth else None,
                    reference_length_m=config.reference_length,
                    reference_length_stddev_m=config.reference_length_stddev,
                    scale_source=config.reference_source,
                )
                for hand in hands
            ]
        if config.scale_source == "depth":  # never by the reference length
            placed = [hand if hand.scale_source == ScaleSource.DEPTH else hand.unplaced() for hand in placed]
        return placed

    def _detect(self, frame: Frame, known: Sequence[HandPose]) -> list[HandPose]:
        """Hands found in the whole image, without those that are known already."""
        config = self.config
        places = self._places(frame, known)
        if config.tracking:  # an image pays for its hands and a pass, or for its hands and some detections
            count = config.max_hands if not known else _READS_BESIDE if self._waiting else 0
            places, self._waiting = places[:count], places[count:]
        hands = self._read_detections(frame, places)
        least = self._tracker.config.start_score if config.tracking else config.score_threshold
        hands = [hand for hand in hands if hand.score >= least]
        hands = sorted(hands, key=lambda hand: -hand.score)
        return distinct(hands, overlap=_ONE_HAND, known=known)[: config.max_hands]

    def _places(self, frame: Frame, known: Sequence[HandPose]) -> list[Detection]:
        """Detections besides the known hands: in a video those of the last pass that were not read yet, if any."""
        family, config = self._family, self.config
        taken = [hand.keypoints_px for hand in known]
        self._waiting = [place for place in self._waiting if not on_known(place, taken)]
        if self._waiting:
            return self._waiting
        number = self._searches if config.tracking else 0  # a single image is not searched by parts
        self._searches += 1
        with self._timed("detection"):
            found = family.detect(frame.image, family.passes(*frame.size, config.search_kind, number))
            places = [d for d in found if not on_known(d, taken)]
        spare = _QUICK_SPARE_READS if config.quick else config.max_hands + _SPARE_READS
        return places[: config.max_hands - len(known) + spare]

    def _read_detections(self, frame: Frame, places: Sequence[Detection]) -> list[HandPose]:
        """Hands read from detections: first in windows around the detections, then in windows around these readings."""
        family, config = self._family, self.config
        margins = family.video_margins if config.quick else family.image_margins
        rough = _QUICK_ROUGH_SCORE if config.quick else _ROUGH_SCORE
        around = [detection for _ in margins.detected for detection in places]
        crops = [detection.crop(family.crop_size, margin) for margin in margins.detected for detection in places]
        first = [(around[n], crop, family.confirm(hand, around[n])) for n, crop, hand in self._read(frame, crops)]
        readings: list[tuple[Detection, Crop, HandPose]] = []
        for reading in sorted(first, key=lambda reading: -reading[2].score):
            known = [hand for detection, _, hand in readings if detection is reading[0]]
            if len(distinct([*known, reading[2]])) > len(known):  # larger windows may show a hand beside it
                readings.append(reading)
        last = family.crop_size if config.tracking else family.fine_size  # in a video followed hands are read finely
        for left, margin in enumerate(margins.read, 1 - len(margins.read)):
            size = family.crop_size if left else last
            windows = {
                number: family.crop(hand.keypoints_px, margin, size)
                for number, (_, _, hand) in enumerate(readings)
                if hand.score >= rough
            }
            if config.quick and size == family.crop_size:  # in a video the next image will be read in a better window
                width = margins.detected[0]
                windows = {
                    number: crop
                    for number, crop in windows.items()
                    if not fits(readings[number][1], family.crop(readings[number][2].keypoints_px, width))
                }
            numbers = list(windows)
            for n, crop, hand in self._read(frame, list(windows.values()), mirrored_too=not config.quick):
                detection = readings[numbers[n]][0]
                readings[numbers[n]] = detection, crop, family.confirm(hand, detection)
        return [hand for _, _, hand in readings]

    def _follow(self, frame: Frame) -> list[HandPose]:
        """Hands of a video's next frame: crops from the last ones, detection when the tracker asks for it."""
        tracker = self._tracker
        stamp_s = time.monotonic() if frame.stamp_s is None else frame.stamp_s
        if tracker.starts_anew(stamp_s, frame.size) or _sees_otherwise(self._camera, frame.camera, frame.size):
            self.reset()
        self._camera = self._camera or frame.camera
        with self._timed("tracking"):
            windows = tracker.predict(stamp_s)
            search = tracker.needs_detection(stamp_s) or bool(self._waiting)
        hands = [hand for window, hand in self._read_followed(frame, windows) if hand.score >= window.least_score]
        if len(hands) >= self.config.max_hands:
            self._waiting = []
        elif search:
            hands = hands + self._detect(frame, hands)
        hands = self._place(hands, frame)  # before the tracker, which smooths metres too
        with self._timed("tracking"):
            return tracker.update(hands, stamp_s, frame.size)

    def _read_followed(self, frame: Frame, windows: Sequence[Window]) -> list[tuple[Window, HandPose]]:
        """Hands read where they are expected; where that is unsure, in a larger window, such as new hands are read in.

        The last pose may cover a part of the hand only, and a window about it would lose the rest.
        """
        family, sure = self._family, self._tracker.config.sure_score
        best: dict[int, HandPose] = {}
        for margin in dict.fromkeys((family.crop_margin, family.video_margins.detected[0])):
            first = margin == family.crop_margin
            left = [n for n in range(len(windows)) if n not in best or best[n].score < sure]
            crops = [family.crop(windows[n].keypoints_px, margin, family.fine_size) for n in left]
            sides = [windows[n].side for n in left]  # so that a misread side turns no followed hand inside out
            for k, _, hand in self._read(frame, crops, sides):
                if first or hand.score >= sure:
                    best[left[k]] = hand
        return [(windows[n], hand) for n, hand in best.items()]

    def _read(
        self,
        frame: Frame,
        crops: Sequence[Crop],
        sides: Sequence[Side] | None = None,
        mirrored_too: bool = False,
    ) -> list[tuple[int, Crop, HandPose]]:
        """Number, window and hand of each window whose reading is finite.

        sides: which hand each is taken for where `hand_side` is auto, None or Side.UNKNOWN for what it looks like.
        mirrored_too: read each window and its mirror image and take the mean.
        """
        if not crops:
            return []
        with self._timed("crop"):
            pixels = crops_of(frame.image, crops, self._family.border)
        given = {"auto": Side.UNKNOWN, "left": Side.LEFT, "right": Side.RIGHT}[self.config.hand_side]
        taken = [given] * len(crops) if sides is None or given != Side.UNKNOWN else list(sides)
        with self._timed("keypoints"):
            readings = self._family.read(pixels, taken)
            if mirrored_too:
                flipped = self._family.read(mirrored(pixels), [side.other for side in taken])
                readings = [a.mean(b.mirrored()) for a, b in zip(readings, flipped)]
        if given != Side.UNKNOWN:
            readings = [reading._replace(right=float(given == Side.RIGHT)) for reading in readings]
        hands = [to_hand(reading, crop, side, frame) for reading, crop, side in zip(readings, crops, taken)]
        return [(n, crops[n], self._family.sized(hand)) for n, hand in enumerate(hands) if hand is not None]


def _shows_otherwise(old: EstimatorConfig, new: EstimatorConfig) -> bool:
    """Whether other settings change where or what the followed hands are."""
    # Another length from the same source puts hands elsewhere, and nobody could tell it from motion.
    relocated = new.reference_length != old.reference_length and new.reference_source == old.reference_source
    anew = ("tracking", "mirrored", "hand_side")
    return relocated or any(getattr(new, name) != getattr(old, name) for name in anew)


def _sees_otherwise(before: Camera | None, now: Camera | None, size: tuple[int, int]) -> bool:
    """Whether pixels mean other directions than before, which nobody could tell from motion; a lens may breathe."""
    if before is None or now is None or before == now:
        return False
    width, height = size
    pixels = np.array([[x, y] for x in (0, width / 2, width) for y in (0, height / 2, height)])
    return not (np.abs(before.rays(pixels) - now.rays(pixels)).max() <= _SAME_VIEW)


def to_hand(reading: CropReading, crop: Crop, taken: Side, frame: Frame) -> HandPose | None:
    """A crop's reading in the frame of the image; with a camera, in its axes rather than those along the crop's ray.

    taken: the side whose pose it is, Side.UNKNOWN for the more probable one. None if a number is not finite or the pose
    collapsed.
    """
    values = (reading.uv, reading.scores, reading.canonical, reading.rotation)
    if not all(np.isfinite(v).all() for v in values) or not np.isfinite(reading.presence):
        return None
    uv = crop.to_image(from_unit(reading.uv, crop.size))
    if np.ptp(uv, axis=0).max() < 1:
        return None
    c, s = np.cos(crop.angle), np.sin(crop.angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    if frame.camera is not None:
        turn = rotation_to_ray(frame.camera.rays(np.asarray(crop.center))) @ turn
    side = taken if taken != Side.UNKNOWN else Side.RIGHT if reading.right > 0.5 else Side.LEFT
    side_score = reading.right if side == Side.RIGHT else 1 - reading.right
    inside = ((uv >= 0) & (uv <= np.array(frame.size) - 1)).all(1)
    try:
        # LiteLifting's canonical pose and viewpoint are those of the frame to about a degree: they are split anew.
        return HandPose.from_keypoints(
            side,
            uv,
            reading.relative @ turn.T,
            side_score=float(side_score),
            score=float(reading.presence),
            # A keypoint outside the image is extrapolated.
            keypoint_scores=np.where(inside, reading.scores, np.minimum(reading.scores, 0.1)).astype(float),
        )
    except DegenerateHandError:
        return None


def _mirror_pixels(hand: HandPose, width: int) -> HandPose:
    x, y, w, h = hand.roi_px
    return hand.replace(keypoints_px=mirror_pixels(hand.keypoints_px, width), roi_px=(width - 1 - x - w, y, w, h))
