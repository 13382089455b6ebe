"""HandPoseEstimator: an image in, the hands in it out. The whole pipeline, without ROS."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.camera import Camera, Crop
from hand_pose_3d.detection import Detection, on_known
from hand_pose_3d.errors import InvalidInputError, check_numbers
from hand_pose_3d.families import FAMILIES, CropReading, Family, load_family
from hand_pose_3d.geometry import rotation_to_ray
from hand_pose_3d.hands import HandPose, ScaleSource
from hand_pose_3d.images import as_rgb8
from hand_pose_3d.placement import REFERENCE_LENGTH_M, place
from hand_pose_3d.runtime import choose_backend, choose_device, choose_precision
from hand_pose_3d.skeleton import Side
from hand_pose_3d.tracking import HandTracker, TrackerConfig, distinct
from hand_pose_3d.windows import fits

STAGES = ("detection", "crop", "keypoints", "placement", "tracking")
"""Names of the timings, in the order of the pipeline; 'keypoints' holds PoseNet and lifting, which are one graph."""

NETWORK_SETTINGS = ("model", "device", "weights", "precision")
"""Settings that say which networks are loaded, and how; all others can change while they stay."""

_ROUGH_SCORE = 0.015
"""Of a first reading of a single image, from which on its hand is read again in a better window."""

_ROUGH_SHARE = 0.3
"""The same in a video, whose next image will be searched too: share of the score that is asked for."""

_SPARE_READS = 2
"""Places that are read beyond the number of hands that are still missing, since some will hold none."""


_FARTHEST_M = 100.0
"""Depth images whose median lies beyond are taken for millimetres; hands are found within a few metres."""


@dataclass(frozen=True)
class EstimatorConfig:
    """Settings of the estimator. Lengths in metres."""

    model: str = "auto"  # lite, paper, or auto: lite on a CPU and, as no weights of paper are shipped, on a GPU too
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    weights: str | Path | None = None  # folder with the networks' files; None: those that are shipped
    precision: str = "auto"  # auto, float32, float16 (GPU) or bfloat16
    max_hands: int = 2
    hand_side: str = "auto"  # auto, left or right: the side of every hand if it is known
    mirrored: bool = False  # the image shows the scene as a mirror does
    score_threshold: float = 0.9  # hands below are left out, 0..1; about one in fifty is false then
    tracking: bool = False  # identities, crops from the last frame and smoothing; for video
    search: str = "auto"  # fast: one look an image, coarse or closer; thorough: all scales; auto: fast in video
    scale_source: ScaleSource = ScaleSource.ASSUMED  # or CALIBRATED, if reference_length is the user's own
    reference_length: float = REFERENCE_LENGTH_M  # the index finger's first bone
    reference_length_stddev: float | None = None  # None: that of people (ASSUMED) or of a measured hand (CALIBRATED)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)

    def __post_init__(self) -> None:
        if self.model not in ("auto", *FAMILIES):
            raise InvalidInputError(f"model {self.model!r} is not one of auto, {', '.join(FAMILIES)}")
        if not (isinstance(self.max_hands, int) and 1 <= self.max_hands <= 16):
            raise InvalidInputError(f"max_hands must be a whole number from 1 to 16, not {self.max_hands!r}")
        if self.hand_side not in ("auto", "left", "right"):
            raise InvalidInputError(f"hand_side {self.hand_side!r} is not one of auto, left, right")
        if self.search not in ("auto", "fast", "thorough"):
            raise InvalidInputError(f"search {self.search!r} is not one of auto, fast, thorough")
        if not 0 <= self.score_threshold <= 1:
            raise InvalidInputError(f"score_threshold must lie in 0..1, not {self.score_threshold!r}")
        if not 0.005 <= self.reference_length <= 0.2:
            raise InvalidInputError(f"reference_length must lie in 0.005..0.2 m, not {self.reference_length!r}")
        if self.reference_length_stddev is not None:
            check_numbers({"reference_length_stddev": self.reference_length_stddev})

    def changed(self, settings: Mapping[str, Any]) -> EstimatorConfig:
        """A checked copy with other settings, by name. Raises InvalidInputError for a name that does not exist."""
        known = {f.name for f in fields(self)}
        unknown = sorted(settings.keys() - known)
        if unknown:
            raise InvalidInputError(f"unknown setting {unknown[0]!r}; allowed are {', '.join(sorted(known))}")
        return replace(self, **settings)

    def tracker_config(self) -> TrackerConfig:
        """The tracker's configuration, with what it shares with the estimator."""
        least, sure = self.score_threshold, self.tracker.sure_score
        scores = {"start_score": least, "confirm_score": least, "sure_score": sure}
        if least >= sure:  # whoever scores it is reported at once; a second frame helps those that score less
            scores = {"start_score": least / 2, "confirm_score": (1 + least) / 2, "sure_score": least}
        return replace(self.tracker, max_hands=self.max_hands, **scores)


class HandPoseEstimator:
    """Finds hands in colour images and estimates their 3D pose.

    Settings are those of :class:`EstimatorConfig`, by name. Raises WeightsError, DeviceError or InvalidInputError when
    it cannot be set up. Not thread-safe: one estimator a thread. After a call `timings_ms` holds each stage's time.
    `model`, `device`, `precision` (float32, ...) and `backend` (onnxruntime or torch) say what was chosen.

    >>> estimator = HandPoseEstimator(device="auto")
    >>> hands = estimator(image_rgb, camera=camera)
    """

    def __init__(self, **settings: Any) -> None:
        self.config = config = EstimatorConfig().changed(settings)
        self.device = choose_device(config.device)
        self.model = "lite" if config.model == "auto" else config.model
        dtype = choose_precision(config.precision, self.device)
        self.precision, self.backend = str(dtype).removeprefix("torch."), choose_backend(self.device, dtype)
        self._family: Family = load_family(self.model, config.weights, self.device, dtype)
        self._tracker = HandTracker(config.tracker_config())
        self._camera: Camera | None = None
        self._searches = 0
        self._shape: tuple[int, ...] = ()
        self.timings_ms: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @property
    def family(self) -> Family:
        """The loaded networks, to measure them apart from the search for hands."""
        return self._family

    def reset(self) -> None:
        """Forget every hand that was followed."""
        self._tracker.reset()
        self._searches = 0

    def configure(self, **settings: Any) -> None:
        """Change settings between two images; networks stay loaded and hands stay followed where that has a meaning.

        Raises InvalidInputError, and changes nothing, for a bad value and for another of NETWORK_SETTINGS.
        """
        old, new = self.config, self.config.changed(settings)
        for name in NETWORK_SETTINGS:
            if getattr(new, name) != getattr(old, name):
                raise InvalidInputError(f"{name} belongs to the networks: make another estimator for it")
        self.config = new
        self._tracker.configure(new.tracker_config())
        if any(getattr(new, name) != getattr(old, name) for name in ("tracking", "mirrored", "hand_side")):
            self.reset()

    def take_over(self, other: HandPoseEstimator) -> None:
        """Follow on the hands that another estimator, of other networks, has followed so far."""
        self._tracker, self._shape = other._tracker, other._shape
        self._tracker.configure(self.config.tracker_config())

    def warm_up(self) -> None:
        """Run every stage as for one hand and for two, so that the first real image is not slow."""
        crop = Crop((320.0, 240.0), 200.0, self._family.crop_size)
        camera = Camera(fx=600.0, fy=600.0, cx=320.0, cy=240.0)
        image = np.zeros((480, 640, 3), np.uint8)
        tracker = HandTracker()
        for count in (1, 2, 1, 2):
            self._family.detect(image, self._family.looks(640, 480, "fast", 0))
            readings = self._family.read(np.stack([crop.extract(image)] * count), [Side.UNKNOWN] * count)
            hands = [to_hand(reading, crop, Side.UNKNOWN, image.shape, camera) for reading in readings]
            placed = [place(hand, camera).replace(score=1.0) for hand in hands if hand is not None]
            tracker.update(placed[:1])

    def __call__(
        self,
        image: np.ndarray,
        camera: Camera | None = None,
        depth_m: np.ndarray | None = None,
        stamp_s: float | None = None,
    ) -> list[HandPose]:
        """Hands in one image, by falling score.

        image: (H, W, 3) uint8 RGB, or what :func:`as_rgb8` takes for it. camera: needed for metres; None leaves
        keypoints_m unknown; one of another size of the same shape is scaled. depth_m: (H, W) metres, floating-point,
        registered to the image. stamp_s: acquisition time, seconds; needed when tracking, the clock is read if None.
        With `mirrored`, pixels of the answer are those of the mirrored image and everything 3D is of the real camera.
        Raises InvalidInputError for anything that is no such image.
        """
        image = check_image(image)
        height, width = image.shape[:2]
        check_depth(depth_m, (height, width))
        if camera is not None:
            if not isinstance(camera, Camera):
                raise InvalidInputError(f"camera must be a hand_pose_3d.Camera, not {type(camera).__name__}")
            camera = camera.fitted_to(width, height)
        if self.config.mirrored:
            image = np.ascontiguousarray(image[:, ::-1])
            depth_m = None if depth_m is None else depth_m[:, ::-1]
        self.timings_ms = dict.fromkeys(STAGES, 0.0)
        self._camera = camera
        if self.config.tracking:
            hands = self._follow(image, depth_m, time.monotonic() if stamp_s is None else stamp_s)
        else:
            hands = self._place(self._detect(image, []), depth_m)
        if self.config.mirrored:
            hands = [_mirror_pixels(hand, width) for hand in hands]
        return sorted(hands, key=lambda hand: -hand.score)

    def _took(self, stage: str, start: float) -> None:
        self.timings_ms[stage] += (time.perf_counter() - start) * 1e3

    def _place(self, hands: Sequence[HandPose], depth_m: np.ndarray | None) -> list[HandPose]:
        """The hands in metres, as far as camera and depth are known."""
        start = time.perf_counter()
        config = self.config
        source = ScaleSource.CALIBRATED if config.scale_source == ScaleSource.CALIBRATED else ScaleSource.ASSUMED
        placed = [
            place(
                hand,
                self._camera,
                depth_m,
                reference_length_m=config.reference_length,
                reference_length_stddev_m=config.reference_length_stddev,
                scale_source=source,
            )
            for hand in hands
        ]
        self._took("placement", start)
        return placed

    def _detect(self, image: np.ndarray, known: Sequence[HandPose]) -> list[HandPose]:
        """Hands found in the whole image, without those that are known already."""
        family, config = self._family, self.config
        start = time.perf_counter()
        search = ("fast" if config.tracking else "thorough") if config.search == "auto" else config.search
        turn = self._searches if config.tracking else 0  # a single image is not searched by parts
        looks = family.looks(image.shape[1], image.shape[0], search, turn)
        self._searches += 1
        taken = [hand.keypoints_px for hand in known]
        places = [d for d in family.detect(image, looks) if not on_known(d, taken)]
        self._took("detection", start)
        spare = _SPARE_READS if config.tracking else config.max_hands + _SPARE_READS
        places = places[: config.max_hands - len(known) + spare]
        crops = [place.crop(family.crop_size, family.crop_margin) for place in places]
        rough = config.score_threshold * _ROUGH_SHARE if config.tracking else min(_ROUGH_SCORE, config.score_threshold)
        hands: list[HandPose] = []
        again: list[tuple[Crop, Detection]] = []
        for number, crop, hand in self._read(image, crops):
            hand, better = family.confirm(hand, places[number]), family.crop(hand.keypoints_px)
            if config.tracking and fits(crop, better):  # the next image will be read in a better window
                hands.append(hand)
            elif hand.score >= rough:
                again.append((better, places[number]))
        windows = [crop for crop, _ in again]
        for number, _, hand in self._read(image, windows, mirrored_too=not config.tracking):
            hands.append(family.confirm(hand, again[number][1]))
        least = self._tracker.config.start_score if config.tracking else config.score_threshold
        hands = [hand for hand in hands if hand.score >= least]
        found = distinct([*known, *sorted(hands, key=lambda hand: -hand.score)])
        return [hand for hand in found if not any(hand is k for k in known)][: config.max_hands]

    def _follow(self, image: np.ndarray, depth_m: np.ndarray | None, stamp_s: float) -> list[HandPose]:
        """Hands of a video's next frame: crops from the last ones, detection when the tracker asks for it."""
        tracker = self._tracker
        if image.shape != self._shape:  # other pixels, so windows in the old ones mean nothing
            self.reset()
            self._shape = image.shape
        if tracker.starts_anew(stamp_s):
            self._searches = 0  # the whole image first
        start = time.perf_counter()
        windows = tracker.predict(stamp_s)
        search = tracker.needs_detection(stamp_s)
        self._took("tracking", start)
        crops = [self._family.crop(window.keypoints_px) for window in windows]
        hands = [hand for n, _, hand in self._read(image, crops) if hand.score >= windows[n].least_score]
        if search:
            hands = hands + self._detect(image, hands)
        hands = self._place(hands, depth_m)  # before the tracker, which smooths metres too
        start = time.perf_counter()
        hands = tracker.update(hands, stamp_s, (image.shape[1], image.shape[0]))
        self._took("tracking", start)
        return hands

    def _read(
        self, image: np.ndarray, crops: Sequence[Crop], mirrored_too: bool = False
    ) -> list[tuple[int, Crop, HandPose]]:
        """Number, window and hand of each window whose reading is finite.

        mirrored_too: read each window both ways round and take the mean.
        """
        if not crops:
            return []
        start = time.perf_counter()
        pixels = np.stack([crop.extract(image) for crop in crops])
        self._took("crop", start)
        start = time.perf_counter()
        given = {"auto": Side.UNKNOWN, "left": Side.LEFT, "right": Side.RIGHT}[self.config.hand_side]
        readings = self._family.read(pixels, [given] * len(crops))
        if mirrored_too:
            flipped = self._family.read(np.ascontiguousarray(pixels[:, :, ::-1]), [given.other] * len(crops))
            readings = [a.mean(b.mirrored(self._family.crop_size)) for a, b in zip(readings, flipped)]
        self._took("keypoints", start)
        hands = [to_hand(reading, crop, given, image.shape, self._camera) for reading, crop in zip(readings, crops)]
        return [(n, crop, hand) for n, (crop, hand) in enumerate(zip(crops, hands)) if hand is not None]


def check_image(image: np.ndarray) -> np.ndarray:
    """The image as (H, W, 3) uint8 RGB; InvalidInputError for what is none or has fewer than 16 pixels each way."""
    image = as_rgb8(image)
    if min(image.shape[:2]) < 16:
        raise InvalidInputError(f"an image must be at least 16 x 16 pixels, not {image.shape[1]} x {image.shape[0]}")
    return image


def check_depth(depth_m: np.ndarray | None, shape: tuple[int, int]) -> None:
    """Raise InvalidInputError unless depth is None or metres for an image of this shape (H, W)."""
    if depth_m is None:
        return
    if not isinstance(depth_m, np.ndarray) or depth_m.dtype.kind != "f":
        what = f"{depth_m.dtype} numbers" if isinstance(depth_m, np.ndarray) else f"a {type(depth_m).__name__}"
        raise InvalidInputError(
            f"depth must be a numpy array of floating-point metres, not {what}: divide millimetres by 1000.0"
        )
    if depth_m.shape != shape:
        raise InvalidInputError(
            f"the depth image is {depth_m.shape}, the colour image {shape}; they must be registered"
        )
    some = depth_m[::8, ::8]
    some = some[np.isfinite(some) & (some > 0)]
    if some.size and np.median(some) > _FARTHEST_M:
        raise InvalidInputError(
            f"depth must be metres, but half of it is above {_FARTHEST_M:.0f}: divide millimetres by 1000.0"
        )


def to_hand(
    reading: CropReading, crop: Crop, given: Side, shape: tuple[int, ...], camera: Camera | None = None
) -> HandPose | None:
    """A crop's reading in the frames of the image and, with a camera, of that camera rather than of the crop's ray.

    None if a number is not finite or the pose collapsed.
    """
    values = (reading.uv, reading.scores, reading.canonical, reading.rotation)
    if not all(np.isfinite(v).all() for v in values) or not np.isfinite(reading.presence):
        return None
    uv = crop.to_image(reading.uv)
    relative = reading.relative - reading.relative[0]
    length = float(np.linalg.norm(relative[6] - relative[5]))
    if length < 1e-3 or np.ptp(uv, axis=0).max() < 1:
        return None
    c, s = np.cos(crop.angle), np.sin(crop.angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    if camera is not None:
        turn = rotation_to_ray(camera.rays(np.asarray(crop.center))) @ turn
    rotation = turn @ reading.rotation
    canonical = (reading.canonical - reading.canonical[0]) / length
    if given == Side.UNKNOWN:
        side, side_score = (Side.RIGHT, reading.right) if reading.right > 0.5 else (Side.LEFT, 1 - reading.right)
    else:
        side, side_score = given, 1.0
    inside = ((uv >= 0) & (uv <= [shape[1] - 1, shape[0] - 1])).all(1)
    low, high = uv.min(0), uv.max(0)
    return HandPose(
        side=side,
        side_score=float(side_score),
        score=float(reading.presence),
        keypoints_px=uv,
        # A keypoint outside the picture is an extrapolation.
        keypoint_scores=np.where(inside, reading.scores, np.minimum(reading.scores, 0.1)).astype(float),
        keypoints_relative=canonical @ rotation.T,
        keypoints_canonical=canonical,
        rotation_camera_canonical=rotation,
        roi_px=(float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])),
    )


def _mirror_pixels(hand: HandPose, width: int) -> HandPose:
    x, y, w, h = hand.roi_px
    uv = hand.keypoints_px * [-1, 1] + [width - 1, 0]
    return hand.replace(keypoints_px=uv, roi_px=(width - 1 - x - w, y, w, h))
