"""The two families of networks behind one interface: detection of hands, and reading of crops."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from hand_pose_3d.camera import Crop
from hand_pose_3d.conventions import CROP_SIZE, FINE_CROP_SIZE, PALM_STRIDES, PAPER_BORDER, STRIDE, CropReading
from hand_pose_3d.detection import (
    PADDING,
    Detection,
    SearchPass,
    decode,
    distinct_detections,
    evidence,
    search_passes,
    with_palms,
)
from hand_pose_3d.errors import InvalidInputError, WeightsError
from hand_pose_3d.hands import HandPose
from hand_pose_3d.pixels import Image, canvas_of
from hand_pose_3d.quantisation import clip_crops
from hand_pose_3d.runtime import Recipe, Runner, make_runner
from hand_pose_3d.segmentation import grow_region, hand_regions
from hand_pose_3d.skeleton import Side
from hand_pose_3d.weights import (
    FINE_POSE_NET,
    PALM_NET,
    Conventions,
    checked_sha256,
    default_weights,
    load_weights,
    read_array,
    read_metadata,
)
from hand_pose_3d.windows import crop_from_pose, crop_upright

if TYPE_CHECKING:
    from torch import nn


_CROP_IN_BYTES = (
    *(f"/pose/trunk/blocks.{index}/" for index in range(3, 15)),
    "/pose/pyramid/",
    "/pose/first",
    "/pose/mix",
    "/pose/refine",
    "/pose/second",
)
"""Layers that run in 8 bits, chosen by measurement (docs/latency.md, "8 bits"). In the first blocks rounding does most
harm and saves least; in the head of the trunk it shifts the presence. HandSegNet would find fewer hands."""

_FINE_IN_BYTES = (
    *_CROP_IN_BYTES,
    *(f"/fine/trunk/blocks.{index}/" for index in range(3, 15)),
    "/fine/pyramid/",
    "/fine/mix",
    "/fine/refine",
)
"""The same of both PoseNets together."""

_FULL_EXTENT = 128
"""Pixels of the image: a hand of this extent fills a crop, and a larger one shows LitePoseNet no more."""

_SIDE_INPUT = {Side.UNKNOWN: -1.0, Side.LEFT: 0.0, Side.RIGHT: 1.0}
"""The networks' input `side`."""


def _read(reader: Runner, crops: Any, sides: list[Side]) -> list[CropReading]:
    """Each crop's reading by a network, in double precision."""
    out = reader(crops, np.array([_SIDE_INPUT[side] for side in sides], np.float32))
    return [CropReading(*row) for row in zip(*(field.astype(float) for field in out))]


class Margins(NamedTuple):
    """Windows of a new hand, edges over its extent. detected: around a detection, where of readings of one hand that
    with the highest score counts; read: then around the last reading, one after the other."""

    detected: tuple[float, ...]
    read: tuple[float, ...]


class Family(Protocol):
    """One family of networks, loaded."""

    crop_size: int
    fine_size: int  # of crops that are read with LiteFinePoseNet, too; `crop_size` without it
    crop_margin: float  # edge of a crop over the extent of a known hand's keypoints
    image_margins: Margins  # of new hands in single images, where time matters less
    video_margins: Margins
    upright: bool  # whether crops are turned so that the hand points up
    int8: bool  # whether the networks can run in 8 bits
    border: int  # grey level 0..255 of crops outside the image, as PoseNet was trained with it

    def passes(self, width: int, height: int, search: str, number: int) -> list[SearchPass]:
        """Passes over an image of this size. search: 'fast' or 'thorough'; number: of the search in a video."""

    def detect(self, image: Image, passes: Sequence[SearchPass]) -> list[Detection]:
        """Detections in an image (H, W, 3) RGB, by falling score."""

    def crop(self, keypoints_px: np.ndarray, margin: float | None = None, size: int | None = None) -> Crop:
        """The window around a hand with approximate keypoints (21, 2).

        margin: None for `crop_margin`; size: `crop_size`, for which None stands, or `fine_size`.
        """

    def read(self, crops: Any, sides: list[Side]) -> list[CropReading]:
        """Read crops (N, S, S, 3) RGB, as :mod:`pixels` cuts them; an unknown side is estimated.

        S: `crop_size`, or `fine_size` for finer keypoints.
        """

    def sized(self, hand: HandPose) -> HandPose:
        """The hand, whose keypoints score less the smaller it is in the image."""

    def confirm(self, hand: HandPose, detection: Detection) -> HandPose:
        """The hand read from a detection, with the score that PoseNet and HandSegNet give together."""


def _path(weights: Path | None, name: str) -> Path:
    return default_weights(name) if weights is None else weights / f"{name}.safetensors"


class LiteFamily:
    """Networks that a CPU runs in real time."""

    crop_size, crop_margin, upright, int8, border = CROP_SIZE, 1.3, True, True, 0
    # Measured against other margins: docs/experiments.md, "Windows".
    image_margins, video_margins = Margins((1.3, 2.0), (1.45, 1.25)), Margins((1.65,), (1.3,))
    _area, _step = 170 * 128, 32

    def __init__(self, weights: Path | None, device: str, precision: str, threads: int, fine: bool) -> None:
        files = [_path(weights, f"lite-{name}") for name in ("handsegnet", "posenet", "lifting")]
        fine_file = _path(weights, FINE_POSE_NET) if fine else None

        def scene_reader() -> nn.Module:
            from hand_pose_3d.networks.lite import LiteHandSegNet
            from hand_pose_3d.networks.lite_runtime import SceneReader

            segmentation = LiteHandSegNet()
            load_weights(segmentation, files[0])
            return SceneReader(segmentation)

        def crop_reader(fine_file: Path | None) -> nn.Module:
            from hand_pose_3d.networks.lite import LiteFinePoseNet, LiteLifting, LitePoseNet
            from hand_pose_3d.networks.lite_runtime import CropReader

            pose, lifting = LitePoseNet(), LiteLifting()
            load_weights(pose, files[1])
            load_weights(lifting, files[2])
            if fine_file is None:
                return CropReader(pose, lifting)
            fine = LiteFinePoseNet()
            load_weights(fine, fine_file)
            return CropReader(pose, lifting, fine)

        def crop_recipe(size: int, fine_file: Path | None) -> Recipe:
            return Recipe(
                "CropReader" if fine_file is None else "FineCropReader",
                partial(crop_reader, fine_file),
                files[1:] if fine_file is None else [*files[1:], fine_file],
                [np.zeros((2, size, size, 3), np.uint8), np.full(2, -1, np.float32)],
                [{0: "n"}, {0: "n"}],
                lambda: ((crop, np.full(1, -1, np.float32)) for crop in clip_crops(size, self.crop_margin)),
                _CROP_IN_BYTES if fine_file is None else _FINE_IN_BYTES,
            )

        scene = Recipe(
            "SceneReader",
            scene_reader,
            files[:1],
            [np.zeros((1, 192, 256, 3), np.uint8)],
            [{0: "n", 1: "h", 2: "w"}],
        )
        self.fine_size = self.crop_size if fine_file is None else FINE_CROP_SIZE
        self._scene = make_runner(scene, device, precision, threads)
        self._crop = self._fine = make_runner(crop_recipe(self.crop_size, None), device, precision, threads)
        if fine_file is not None:
            self._fine = make_runner(crop_recipe(self.fine_size, fine_file), device, precision, threads)
        self._confirmation = read_array(files[0], "confirmation").astype(float)
        self._size_power = float(read_array(files[1], "score_calibration")[2])
        self._palm_file = _path(weights, PALM_NET)
        self._palm_confirmation = None
        if self._palm_file.exists():
            checked_sha256(self._palm_file)
            self._palm_confirmation = read_array(self._palm_file, "confirmation").astype(float)
        self._make_palms = partial(make_runner, device=device, precision=precision, threads=threads)

    @cached_property
    def _palms(self) -> Runner | None:
        """LitePalmNet, made when an image is first searched thoroughly; None if the weights lack it."""
        if self._palm_confirmation is None:
            return None

        def palm_reader() -> nn.Module:
            from hand_pose_3d.networks.lite import LitePalmNet
            from hand_pose_3d.networks.lite_runtime import PalmReader

            palms = LitePalmNet()
            load_weights(palms, self._palm_file)
            return PalmReader(palms)

        example = np.zeros((1, 192, 256, 3), np.uint8)
        return self._make_palms(
            Recipe("PalmReader", palm_reader, [self._palm_file], [example], [{0: "n", 1: "h", 2: "w"}])
        )

    def passes(self, width: int, height: int, search: str, number: int) -> list[SearchPass]:
        """See :class:`Family`."""
        return search_passes(width, height, self._area, search, number)

    def detect(self, image: Image, passes: Sequence[SearchPass]) -> list[Detection]:
        """See :class:`Family`."""
        reader = None if passes[0].least_palm is None else self._palms
        found, palms = zip(*(self._detect(image, part, reader) for part in passes))
        detections = distinct_detections(chain(*found))
        return detections if reader is None else with_palms(detections, distinct_detections(chain(*palms)))

    def _detect(self, image: Image, part: SearchPass, palms: Runner | None) -> tuple[list[Detection], list[Detection]]:
        """HandSegNet's detections in a part of the image, and LitePalmNet's if `palms` runs it."""
        width, height = part.size
        scale, inner, padded = part.input_size(self._step)
        # Samples at most two pixels apart, averaged: averaging all pixels of a large image takes longer.
        finer = math.ceil(0.5 / scale)
        canvas = canvas_of(image, part.origin, part.size, inner, padded, PADDING, finer)

        def decoded(maps: np.ndarray, cell: int, least: float) -> list[Detection]:
            maps = maps[:, : -(-inner[1] // cell), : -(-inner[0] // cell)]
            return decode(maps, (width / inner[0] * cell, height / inner[1] * cell), part.origin, least)

        found = decoded(self._scene(canvas)[0][0], STRIDE, part.least)
        found = [d for d in found if d.extent <= part.largest / scale]
        if palms is None or part.least_palm is None:
            return found, []
        return found, [
            palm for maps, cell in zip(palms(canvas), PALM_STRIDES) for palm in decoded(maps[0], cell, part.least_palm)
        ]

    def crop(self, keypoints_px: np.ndarray, margin: float | None = None, size: int | None = None) -> Crop:
        """See :class:`Family`: turned so that the hand points up."""
        return crop_from_pose(keypoints_px, size or self.crop_size, margin or self.crop_margin)

    def confirm(self, hand: HandPose, detection: Detection) -> HandPose:
        """See :class:`Family`."""
        facts = evidence(hand.score, detection, crop_from_pose(hand.keypoints_px, self.crop_size, 1.0))
        factors = self._confirmation if detection.palm is None else self._palm_confirmation
        return hand.replace(score=float(1 / (1 + np.exp(-(factors @ facts)))))

    def read(self, crops: Any, sides: list[Side]) -> list[CropReading]:
        """See :class:`Family`."""
        return _read(self._crop if crops.shape[1] == self.crop_size else self._fine, crops, sides)

    def sized(self, hand: HandPose) -> HandPose:
        """See :class:`Family`."""
        factor = math.exp(self._size_power * size_odds(hand.keypoints_px))
        return hand.replace(keypoint_scores=hand.keypoint_scores * factor / (1 - hand.keypoint_scores * (1 - factor)))


class PaperFamily:
    """The paper's networks. They take the side as an input; the lite PoseNet estimates it where it is not given."""

    crop_size = fine_size = 256
    crop_margin, upright, int8, border = 1.25, False, False, PAPER_BORDER
    image_margins = video_margins = Margins((1.25,), (1.25,))
    _input = (320, 240)

    def __init__(self, weights: Path | None, device: str, precision: str, threads: int, fine: bool) -> None:
        files = [_path(weights, f"paper-{name}") for name in ("handsegnet", "posenet", "lifting")]
        files.append(default_weights("lite-posenet"))

        def scene_reader() -> nn.Module:
            from hand_pose_3d.networks import HandSegNet
            from hand_pose_3d.networks.paper_runtime import PaperSceneReader

            segmentation = HandSegNet()
            load_weights(segmentation, files[0])
            return PaperSceneReader(segmentation)

        def crop_reader() -> nn.Module:
            from hand_pose_3d.networks import Lifting, PoseNet
            from hand_pose_3d.networks.lite import LitePoseNet
            from hand_pose_3d.networks.paper_runtime import PaperCropReader

            pose, lifting, side = PoseNet(), Lifting(), LitePoseNet()
            for network, path in zip((pose, lifting, side), files[1:]):
                load_weights(network, path)
            return PaperCropReader(pose, lifting, side)

        examples: list[np.ndarray] = [np.zeros((1, 240, 320, 3), np.uint8)]
        scene = Recipe("PaperSceneReader", scene_reader, files[:1], examples, [{0: "n"}])
        examples = [np.zeros((2, 256, 256, 3), np.uint8), np.full(2, -1, np.float32)]
        crop = Recipe("PaperCropReader", crop_reader, files[1:], examples, [{0: "n"}, {0: "n"}])
        self._scene, self._crop = (make_runner(each, device, precision, threads) for each in (scene, crop))
        about = [read_metadata(path) for path in files[1:3]]
        self._keypoints, self._pose = (Conventions.from_metadata(metadata) for metadata in about)
        if self._keypoints.keypoint0 != self._pose.keypoint0:
            raise WeightsError(
                f"{files[1]} finds the {self._keypoints.keypoint0} as keypoint 0 and {files[2]} lifts the "
                f"{self._pose.keypoint0}: they are of different origins"
            )
        # Probability that a hand is right = sigmoid(first + second * logit(mean peak)); the authors' files have none.
        self.presence_calibration: list[float] | None = json.loads(about[0].get("presence_calibration", "null"))

    def passes(self, width: int, height: int, search: str, number: int) -> list[SearchPass]:
        """See :class:`Family`: always the whole image at once."""
        return [SearchPass((0, 0), (width, height), self._input[0] * self._input[1])]

    def detect(self, image: Image, passes: Sequence[SearchPass]) -> list[Detection]:
        """See :class:`Family`: connected regions of the mask, the paper's object first."""
        height, width = image.shape[:2]
        canvas = canvas_of(image, (0, 0), (width, height), self._input, self._input, PADDING)
        probability = self._scene(canvas)[0][0]
        step = np.array([width / self._input[0], height / self._input[1]])
        first = grow_region(probability)
        regions = [*hand_regions(np.where(first, probability, 0)), *hand_regions(np.where(first, 0, probability))]
        boxes = [(np.array([x, y]) * step, np.array([w, h]) * step, p) for (x, y, w, h), p in regions]
        return [Detection(tuple(corner + size / 2 - 0.5), float(size.max()), 0.0, p) for corner, size, p in boxes]

    def crop(self, keypoints_px: np.ndarray, margin: float | None = None, size: int | None = None) -> Crop:
        """See :class:`Family`: parallel to the image's edges."""
        return crop_upright(keypoints_px, size or self.crop_size, margin or self.crop_margin)

    def confirm(self, hand: HandPose, detection: Detection) -> HandPose:
        """See :class:`Family`: unchanged, as the paper's HandSegNet has no score of its own."""
        return hand

    def read(self, crops: Any, sides: list[Side]) -> list[CropReading]:
        """See :class:`Family`."""
        return [
            reading._replace(
                uv=self._keypoints.keypoints_to_public(reading.uv),
                presence=self._calibrated(reading.presence),
                canonical=self._pose.pose_to_public(reading.canonical),
            )
            for reading in _read(self._crop, crops, sides)
        ]

    def sized(self, hand: HandPose) -> HandPose:
        """See :class:`Family`: unchanged."""
        return hand

    def _calibrated(self, peak: float) -> float:
        """Probability of a hand from the mean peak of its score maps."""
        if self.presence_calibration is None:
            return peak
        first, second = self.presence_calibration
        return float(1 / (1 + np.exp(-first - second * peak_odds(peak))))


def size_odds(keypoints_px: np.ndarray) -> float:
    """Logarithm of the extent of keypoints (21, 2) in the image over that of a hand that fills a crop, at most 0."""
    extent = float(np.ptp(keypoints_px, axis=0).max())
    return math.log(min(max(extent, 1.0), _FULL_EXTENT) / _FULL_EXTENT)


def peak_odds(peak: float) -> float:
    """Log odds of the mean peak of the paper's score maps."""
    peak = min(max(peak, 1e-3), 1 - 1e-3)
    return math.log(peak / (1 - peak))


PEAK_SCORES = (
    "scores of these hands are mean peaks of score maps, not probabilities, and few reach 0.9: take --score-threshold "
    "0.5, or fit them with python -m hand_pose_3d.training.score_calibration"
)
"""What is said of weights of the paper's PoseNet without calibration."""

ONE_POSENET = "keypoints thorough needs model lite, as the paper has one PoseNet: take auto or fast"
"""What is said of a setting that the paper's networks do not have."""

FAMILIES: dict[str, type[LiteFamily] | type[PaperFamily]] = {"lite": LiteFamily, "paper": PaperFamily}


def load_family(
    name: str, weights: str | Path | None, device: str, precision: str, threads: int = 1, fine: bool | None = False
) -> Family:
    """A family by name, from the shipped weights or from a folder that holds NAME.safetensors for each network.

    threads: of a CPU that the networks may use; fine: whether to load LiteFinePoseNet, too (lite), None: where
    there is one.
    Raises WeightsError if a file is missing or damaged, InvalidInputError for `fine` with networks of the paper.
    """
    folder = None if weights is None or str(weights) == "" else Path(weights)
    if folder is not None and not folder.is_dir():
        raise WeightsError(
            f"weights must be a folder with files such as {name}-posenet.safetensors; {folder} is not one"
        )
    if fine and name != "lite":
        raise InvalidInputError(ONE_POSENET)
    has_fine = name == "lite" and (folder is None or _path(folder, FINE_POSE_NET).exists())
    if fine and not has_fine:
        missing = _path(folder, FINE_POSE_NET)
        raise WeightsError(f"keypoints thorough needs {missing}, which does not exist: take auto or fast")
    if fine is None:
        fine = has_fine
    return FAMILIES[name](folder, device, precision, threads, fine)
