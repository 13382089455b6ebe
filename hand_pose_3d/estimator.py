"""HandPoseEstimator: an image in, the hands in it out. The whole pipeline, without ROS."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.camera import Camera, Crop
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.families import FAMILIES, CropReading, Family, first_crop, load_family
from hand_pose_3d.geometry import rotation_to_ray
from hand_pose_3d.hands import HandPose, ScaleSource
from hand_pose_3d.placement import REFERENCE_LENGTH_M, place
from hand_pose_3d.runtime import choose_device, choose_precision
from hand_pose_3d.skeleton import Side
from hand_pose_3d.tracking import HandTracker, TrackerConfig, crop_from_pose, distinct

STAGES = ("segmentation", "crop", "keypoints", "placement", "tracking")
"""Names of the timings, in the order of the pipeline; 'keypoints' holds PoseNet and lifting, which are one graph."""

_ROUGH_SCORE = 0.4
"""A first look, at a crop that fits less well, has to reach this share of the score that is asked for."""

_CLAIMED = 0.3
"""A region of the mask that overlaps a followed hand's box by more (intersection over union) is that hand."""


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
    score_threshold: float = 0.5  # hands below are left out, 0..1
    tracking: bool = False  # identities, crops from the last frame and smoothing; for video
    scale_source: ScaleSource = ScaleSource.ASSUMED  # or CALIBRATED, if reference_length is the user's own
    reference_length: float = REFERENCE_LENGTH_M  # the index finger's first bone
    tracker: TrackerConfig = field(default_factory=TrackerConfig)

    def __post_init__(self) -> None:
        if self.model not in ("auto", *FAMILIES):
            raise InvalidInputError(f"model {self.model!r} is not one of auto, {', '.join(FAMILIES)}")
        if not (isinstance(self.max_hands, int) and 1 <= self.max_hands <= 16):
            raise InvalidInputError(f"max_hands must be a whole number from 1 to 16, not {self.max_hands!r}")
        if self.hand_side not in ("auto", "left", "right"):
            raise InvalidInputError(f"hand_side {self.hand_side!r} is not one of auto, left, right")
        if not 0 <= self.score_threshold <= 1:
            raise InvalidInputError(f"score_threshold must lie in 0..1, not {self.score_threshold!r}")
        if not 0.005 <= self.reference_length <= 0.2:
            raise InvalidInputError(f"reference_length must lie in 0.005..0.2 m, not {self.reference_length!r}")


class HandPoseEstimator:
    """Finds hands in colour images and estimates their 3D pose.

    Settings are those of :class:`EstimatorConfig`, by name. Raises WeightsError, DeviceError or InvalidInputError when
    it cannot be set up. Not thread-safe: one estimator a thread. After a call `timings_ms` holds each stage's time.

    >>> estimator = HandPoseEstimator(device="auto")
    >>> hands = estimator(image_rgb, camera=camera)
    """

    def __init__(self, **settings: Any) -> None:
        known = {f.name for f in fields(EstimatorConfig)}
        unknown = sorted(settings.keys() - known)
        if unknown:
            raise InvalidInputError(f"unknown setting {unknown[0]!r}; allowed are {', '.join(sorted(known))}")
        self.config = config = EstimatorConfig(**settings)
        self.device = choose_device(config.device)
        self.model = "lite" if config.model == "auto" else config.model
        self._family: Family = load_family(
            self.model, config.weights, self.device, choose_precision(config.precision, self.device)
        )
        tracker = replace(config.tracker, max_hands=config.max_hands, start_score=config.score_threshold)
        self._tracker = HandTracker(tracker) if config.tracking else None
        self._camera: Camera | None = None
        self._shape: tuple[int, ...] = ()
        self.timings_ms: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @property
    def family(self) -> Family:
        """The loaded networks, to measure them apart from the search for hands."""
        return self._family

    def reset(self) -> None:
        """Forget every hand that was followed."""
        if self._tracker is not None:
            self._tracker.reset()

    def __call__(
        self,
        image: np.ndarray,
        camera: Camera | None = None,
        depth_m: np.ndarray | None = None,
        stamp_s: float | None = None,
    ) -> list[HandPose]:
        """Hands in one image, by falling score.

        image: (H, W, 3) uint8 RGB. camera: needed for metres; None leaves keypoints_m unknown. depth_m: (H, W) metres,
        registered to the image. stamp_s: acquisition time, seconds; needed when tracking, the clock is read if None.
        With `mirrored`, pixels of the answer are those of the mirrored image and everything 3D is of the real camera.
        Raises InvalidInputError for anything that is no such image.
        """
        check_image(image)
        if depth_m is not None and depth_m.shape != image.shape[:2]:
            raise InvalidInputError(
                f"the depth image is {depth_m.shape}, the colour image {image.shape[:2]}; they must be registered"
            )
        width = image.shape[1]
        if self.config.mirrored:
            image = np.ascontiguousarray(image[:, ::-1])
            depth_m = None if depth_m is None else depth_m[:, ::-1]
        self.timings_ms = dict.fromkeys(STAGES, 0.0)
        self._camera = camera
        if self._tracker is None:
            hands = self._detect(image, [])
        else:
            stamp_s = time.monotonic() if stamp_s is None else stamp_s
            hands = self._follow(self._tracker, image, stamp_s)
        start = time.perf_counter()
        placed = [self._place(hand, camera, depth_m) for hand in hands]
        self._took("placement", start)
        if self.config.mirrored:
            placed = [_mirror_pixels(hand, width) for hand in placed]
        return sorted(placed, key=lambda hand: -hand.score)

    def _took(self, stage: str, start: float) -> None:
        self.timings_ms[stage] += (time.perf_counter() - start) * 1e3

    def _place(self, hand: HandPose, camera: Camera | None, depth_m: np.ndarray | None) -> HandPose:
        config = self.config
        source = ScaleSource.CALIBRATED if config.scale_source == ScaleSource.CALIBRATED else ScaleSource.ASSUMED
        return place(hand, camera, depth_m, reference_length_m=config.reference_length, scale_source=source)

    def _detect(self, image: np.ndarray, known: Sequence[HandPose]) -> list[HandPose]:
        """Hands found by segmentation, without those that are known already."""
        start = time.perf_counter()
        regions = self._family.find(image, self.config.max_hands)
        if known:
            # Hands that were just read in their own windows need no second look.
            claimed = [hand.roi_px for hand in known]
            regions = [r for r in regions if all(box_overlap(r.box, box) < _CLAIMED for box in claimed)]
        crops = [first_crop(region, self._family) for region in regions]
        self._took("segmentation", start)
        if self._family.upright:
            # The first crop knew neither direction nor extent; the pose it gave does.
            rough = self._read(image, crops, _ROUGH_SCORE * self.config.score_threshold)
            crops = [self._crop(hand.keypoints_px) for hand in rough]
        hands = self._read(image, crops, self.config.score_threshold)
        return [hand for hand in distinct([*known, *hands]) if not any(hand is k for k in known)]

    def _crop(self, keypoints_px: np.ndarray) -> Crop:
        """The window around a hand whose pose is about known."""
        family = self._family
        if family.upright:
            return crop_from_pose(keypoints_px, family.crop_size, family.crop_margin)
        low, high = keypoints_px.min(0), keypoints_px.max(0)
        center = (low + high) / 2
        return Crop((float(center[0]), float(center[1])), float(max(high - low)) * family.crop_margin, family.crop_size)

    def _follow(self, tracker: HandTracker, image: np.ndarray, stamp_s: float) -> list[HandPose]:
        """Hands of a video's next frame: crops from the last ones, segmentation when the tracker asks for it."""
        if image.shape != self._shape:  # other pixels, so windows in the old ones mean nothing
            tracker.reset()
            self._shape = image.shape
        start = time.perf_counter()
        windows = tracker.predict(stamp_s)
        search = tracker.needs_detection(stamp_s)
        self._took("tracking", start)
        crops = [self._crop(window.keypoints_px) for window in windows]
        hands = self._read(image, crops, tracker.config.keep_score)
        if search:
            hands = hands + self._detect(image, hands)
        start = time.perf_counter()
        hands = tracker.update(hands, stamp_s, (image.shape[1], image.shape[0]))
        self._took("tracking", start)
        return hands

    def _read(self, image: np.ndarray, crops: Sequence[Crop], least_score: float) -> list[HandPose]:
        """Poses of the hands in some windows of the image, those whose answer is finite and scores enough."""
        if not crops:
            return []
        start = time.perf_counter()
        pixels = np.stack([crop.extract(image) for crop in crops])
        self._took("crop", start)
        start = time.perf_counter()
        given = {"auto": Side.UNKNOWN, "left": Side.LEFT, "right": Side.RIGHT}[self.config.hand_side]
        readings = self._family.read(pixels, [given] * len(crops))
        self._took("keypoints", start)
        hands = [to_hand(reading, crop, given, image.shape, self._camera) for reading, crop in zip(readings, crops)]
        return [hand for hand in hands if hand is not None and hand.score >= least_score]


def check_image(image: np.ndarray) -> None:
    """Raise InvalidInputError unless image is (H, W, 3) uint8 with at least 16 pixels each way."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InvalidInputError(f"an image must be a numpy array (height, width, 3) of uint8 RGB, not {what}")
    if min(image.shape[:2]) < 16:
        raise InvalidInputError(f"an image must be at least 16 x 16 pixels, not {image.shape[1]} x {image.shape[0]}")


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


def box_overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(w, 0.0) * max(h, 0.0)
    return shared / max(a[2] * a[3] + b[2] * b[3] - shared, 1e-9)


def _mirror_pixels(hand: HandPose, width: int) -> HandPose:
    x, y, w, h = hand.roi_px
    uv = hand.keypoints_px * [-1, 1] + [width - 1, 0]
    return hand.replace(keypoints_px=uv, roi_px=(width - 1 - x - w, y, w, h))
