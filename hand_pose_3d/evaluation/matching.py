"""Running an estimator over samples, and matching its hands with the labelled ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from hand_pose_3d.camera import Crop
from hand_pose_3d.conventions import from_unit, rescale_pixels
from hand_pose_3d.datasets.sample import Sample
from hand_pose_3d.errors import naming
from hand_pose_3d.evaluation.metrics import box_iou, box_of, epe
from hand_pose_3d.hands import HandPose
from hand_pose_3d.interfaces import ImageEstimator
from hand_pose_3d.skeleton import MIDDLE_MCP, WRIST, Side, palm_from_wrist
from hand_pose_3d.windows import crop_authors, crop_from_pose

if TYPE_CHECKING:
    from hand_pose_3d.estimator import HandPoseEstimator
    from hand_pose_3d.families import Family

T = TypeVar("T")

Keypoint0 = Literal["label", "palm", "mistake"]
"""Meaning of keypoint 0 in a comparison. 'label': as the data set labels it (our wrist is moved to the palm's centre
where that is labelled). 'palm': the palm's centre on both sides, as the authors evaluate. 'mistake': predicted palm
against labelled wrist, the mistake in the paper's Table 1."""

POSE_SCORE = 0.1
"""Least score of hands that are compared with labelled poses, unless the user names another."""


@dataclass(frozen=True, eq=False)
class Match:
    """A labelled hand and the predicted hand that belongs to it, None when it was missed.

    iou: of the boxes of the labelled keypoints and of the same predicted keypoints. hands: all predictions.
    """

    sample: Sample
    hand: HandPose | None
    iou: float = 0.0
    hands: tuple[HandPose, ...] = ()


def evenly_spread(items: list[T], most: int | None) -> list[T]:
    """At most so many of a list, evenly spread over it; all of them for None."""
    if most is None or most >= len(items):
        return items
    return [items[index * len(items) // most] for index in range(most)]


def match(sample: Sample, hands: Sequence[HandPose]) -> Match:
    """The predicted hand whose box overlaps most with the labelled one; without any overlap, the best scored.

    Where the labelled keypoints span no area, a single one, say, it is the one whose keypoints are nearest, with an iou
    of NaN. A hand elsewhere still counts as the prediction, with its large error; only an empty list is a miss.
    """
    known = sample.visible & np.isfinite(sample.keypoints_px).all(axis=-1)
    if not known.any():
        known = np.isfinite(sample.keypoints_px).all(axis=-1)
    target = box_of(sample.keypoints_px[known])
    spans = bool(target[2:].all())
    if not hands:
        return Match(sample, None, 0.0 if spans else math.nan)
    if not spans:
        nearest = min(hands, key=lambda hand: epe(hand.keypoints_px, sample.keypoints_px)[known].mean())
        return Match(sample, nearest, math.nan, tuple(hands))
    ious = [box_iou(box_of(hand.keypoints_px[known]), target) for hand in hands]
    best = max(range(len(hands)), key=lambda index: (ious[index], hands[index].score))
    return Match(sample, hands[best], ious[best], tuple(hands))


def run(estimator: ImageEstimator, samples: Iterable[Sample], *, upscale_px: int = 0) -> list[Match]:
    """Run the estimator on every whole image and match its predictions; shows progress. Without what has no label.

    upscale_px: images whose longer side is shorter are enlarged to it first; results are in pixels of the original.
    """
    from tqdm import tqdm

    matches = []
    samples = [each for each in samples if np.isfinite(each.keypoints_px).all(axis=-1).any()]
    for sample in tqdm(samples, desc="images", unit="image", delay=2, disable=None, leave=False):
        image, camera = sample.image(), sample.camera
        factor = upscale_px / max(image.shape[:2])
        if factor > 1:
            image, camera = _enlarged(image, factor), camera and camera.scaled(factor, factor)
        with naming(sample.image_path):
            hands = estimator(image, camera=camera)
        if factor > 1:
            hands = [hand.replace(keypoints_px=rescale_pixels(hand.keypoints_px, 1 / factor)) for hand in hands]
        matches.append(match(sample, hands))
    return matches


def run_with_sides(estimator: HandPoseEstimator, matches: Sequence[Match], *, upscale_px: int = 0) -> list[Match]:
    """The same matches with the labelled side given to the networks, as the authors' evaluation does.

    Only hands whose estimated side was wrong are estimated again; the others' predictions stay the same.
    """
    given, own = list(matches), estimator.config.hand_side
    for side in (Side.LEFT, Side.RIGHT):
        wrong = [i for i, m in enumerate(matches) if m.hand and m.sample.side == side and m.hand.side != side]
        estimator.configure(hand_side=side.label)
        for index, item in zip(wrong, run(estimator, [matches[i].sample for i in wrong], upscale_px=upscale_px)):
            given[index] = item
    estimator.configure(hand_side=own)
    return given


def _enlarged(image: np.ndarray, factor: float) -> np.ndarray:
    import cv2

    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def true_crop(sample: Sample, image_shape: tuple[int, ...], size: int = 256) -> Crop:
    """The authors' crop around a labelled hand, whose keypoints are clipped to the image."""
    height, width = image_shape[:2]
    inside = np.clip(sample.keypoints_px, 0, [width - 1, height - 1])
    return crop_authors(sample.keypoints_px[MIDDLE_MCP], inside[sample.visible], size)


CropRule = Callable[[Sample, tuple[int, ...]], Crop]
"""From a labelled sample and the shape of its image to the crop of its hand."""


def own_crop(family: Family) -> CropRule:
    """The crop rule of a family of networks for a hand of known pose, applied to the labels."""

    def rule(sample: Sample, image_shape: tuple[int, ...]) -> Crop:
        if not family.upright:
            return true_crop(sample, image_shape, family.crop_size)
        return crop_from_pose(sample.keypoints_px, family.crop_size, family.crop_margin)

    return rule


def run_on_crops(family: Family, samples: Iterable[Sample], rule: CropRule) -> list[np.ndarray]:
    """Keypoints (21, 2) in image pixels that a family's PoseNet finds in crops taken from the labels."""
    from tqdm import tqdm

    found = []
    for sample in tqdm(samples, desc="true crops", unit="image", delay=2, disable=None, leave=False):
        image = sample.image()
        # The authors' window is read at the network's resolution, too.
        crop = replace(rule(sample, image.shape), size=family.fine_size)
        (reading,) = family.read(crop.extract(image, family.border)[None], [Side.UNKNOWN])
        found.append(crop.to_image(from_unit(reading.uv, crop.size)))
    return found


def same_keypoint0(
    predicted: np.ndarray, sample: Sample, labelled: np.ndarray, keypoint0: Keypoint0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted and labelled keypoints (21, D) with one meaning of keypoint 0, and which count, (21,) bool."""
    visible = sample.visible
    if sample.palm or keypoint0 != "label":
        predicted = palm_from_wrist(predicted)
    if not sample.palm and keypoint0 == "palm":
        labelled, visible = palm_from_wrist(labelled), visible.copy()
        visible[WRIST] |= visible[MIDDLE_MCP]
    return predicted, labelled, visible & np.isfinite(labelled).all(axis=-1)
