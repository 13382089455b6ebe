"""Settings of the estimator: their types, defaults, allowed values, and what `auto` stands for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from hand_pose_3d.errors import InvalidInputError, check_numbers
from hand_pose_3d.families import FAMILIES, ONE_POSENET
from hand_pose_3d.hands import SCALE_SOURCES, ScaleSource
from hand_pose_3d.placement import REFERENCE_LENGTH_M, REFERENCE_LENGTH_RANGE_M
from hand_pose_3d.tracking import TrackerConfig

NETWORK_SETTINGS = ("model", "device", "weights", "precision", "threads", "keypoints")
"""Settings of which networks are loaded, and how; all others can be changed without loading networks again."""

_KINDS = (
    ("device", str, "a device's name"),
    ("precision", str, "a name"),
    ("weights", (str, os.PathLike, NoneType), "a folder's path"),
    ("mirrored", (bool, np.bool_), "True or False"),
    ("tracking", (bool, np.bool_), "True or False"),
    ("score_threshold", Real, "a number"),
    ("reference_length", Real, "a number of metres"),
    ("tracker", TrackerConfig, "a TrackerConfig"),
)
"""Settings whose other values nothing else would refuse, their types, and those in words."""


@dataclass(frozen=True)
class EstimatorConfig:
    """Settings of the estimator. Lengths in metres."""

    model: str = "auto"  # lite, paper, or auto, which is lite: it finds more hands, on a GPU too
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    weights: str | Path | None = None  # folder with the networks' files; None: those that are shipped
    precision: str = "auto"  # auto, float32, float16 (GPU), bfloat16 or int8 (lite, on most CPUs)
    threads: int = 0  # of a CPU: more are faster but use more processor time; 0: one if `quick`, else two
    max_hands: int = 2
    hand_side: str = "auto"  # auto, left or right: the side of every hand, if known
    mirrored: bool = False  # the image shows the scene as a mirror does
    score_threshold: float = 0.9  # hands that score less are left out, 0..1; of the others about one in thirty is false
    tracking: bool = False  # identities, crops from the last frame and smoothing; for video
    # fast: one pass an image, coarse or closer; thorough: all scales, by a second detector too (lite); auto: fast in
    # video
    search: str = "auto"
    # fast: by one network; thorough (lite): a second one refines them; auto: thorough where single images are searched
    # thoroughly and the weights have it
    keypoints: str = "auto"
    scale_source: str = "auto"  # the only source of metres: one of SCALE_SOURCES, or a ScaleSource
    reference_length: float = REFERENCE_LENGTH_M  # the index finger's first bone
    # If given, auto treats the length as calibrated. None: that of people (assumed) or of a measured hand (calibrated).
    reference_length_stddev: float | None = None
    tracker: TrackerConfig = field(default_factory=TrackerConfig)

    def __post_init__(self) -> None:
        if not _is_one_of(self.model, ("auto", *FAMILIES)):
            raise InvalidInputError(f"model {self.model!r} is not one of auto, {', '.join(FAMILIES)}")
        for name, kinds, allowed in _KINDS:
            value = getattr(self, name)
            if not isinstance(value, kinds) or (kinds is Real and isinstance(value, bool)):
                raise InvalidInputError(f"{name} must be {allowed}, not {value!r}")
        if not (isinstance(self.max_hands, Integral) and 1 <= self.max_hands <= 16):
            raise InvalidInputError(f"max_hands must be a whole number from 1 to 16, not {self.max_hands!r}")
        if not (isinstance(self.threads, Integral) and 0 <= self.threads <= 64):
            raise InvalidInputError(f"threads must be a whole number from 0 to 64, not {self.threads!r}")
        if not _is_one_of(self.hand_side, ("auto", "left", "right")):
            raise InvalidInputError(f"hand_side {self.hand_side!r} is not one of auto, left, right")
        for name in ("search", "keypoints"):
            if not _is_one_of(getattr(self, name), ("auto", "fast", "thorough")):
                raise InvalidInputError(f"{name} {getattr(self, name)!r} is not one of auto, fast, thorough")
        if self.keypoints == "thorough" and self.model == "paper":
            raise InvalidInputError(ONE_POSENET)
        if isinstance(self.scale_source, ScaleSource):
            object.__setattr__(self, "scale_source", self.scale_source.label)
        if not _is_one_of(self.scale_source, SCALE_SOURCES):
            raise InvalidInputError(f"scale_source {self.scale_source!r} is not one of {', '.join(SCALE_SOURCES)}")
        if not 0 <= self.score_threshold <= 1:
            raise InvalidInputError(f"score_threshold must lie in 0..1, not {self.score_threshold!r}")
        low, high = REFERENCE_LENGTH_RANGE_M
        if not low <= self.reference_length <= high:
            raise InvalidInputError(f"reference_length must lie in {low}..{high} m, not {self.reference_length!r}")
        if self.reference_length_stddev is not None:
            check_numbers({"reference_length_stddev": self.reference_length_stddev})

    def changed(self, settings: Mapping[str, Any]) -> EstimatorConfig:
        """A checked copy with other settings, by name. Raises InvalidInputError for a name that does not exist."""
        known = {f.name for f in fields(self)}
        unknown = sorted(settings.keys() - known)
        if unknown:
            raise InvalidInputError(f"unknown setting {unknown[0]!r}; allowed are {', '.join(sorted(known))}")
        return replace(self, **settings)

    @property
    def search_kind(self) -> str:
        """What `search` stands for: 'fast' or 'thorough'."""
        return ("fast" if self.tracking else "thorough") if self.search == "auto" else self.search

    @property
    def quick(self) -> bool:
        """Whether an image is searched once, as in a video, where speed matters more than the last few hands."""
        return self.tracking or self.search == "fast"

    @property
    def reference_source(self) -> ScaleSource:
        """Source of metres that rest on the reference length: CALIBRATED or ASSUMED."""
        measured = self.scale_source == "auto" and self.reference_length_stddev is not None
        return ScaleSource.CALIBRATED if measured or self.scale_source == "calibrated" else ScaleSource.ASSUMED

    @property
    def uses_depth(self) -> bool:
        """Whether a depth image changes anything."""
        return self.scale_source in ("auto", "depth")

    def tracker_config(self) -> TrackerConfig:
        """The tracker's configuration, with the settings that it shares with the estimator."""
        least, sure = self.score_threshold, self.tracker.sure_score
        start, confirm = least, least
        if least >= sure:  # a hand with this score is reported at once; others need a second frame
            start, confirm, sure = least / 2, (1 + least) / 2, least
        return replace(
            self.tracker, max_hands=self.max_hands, start_score=start, confirm_score=confirm, sure_score=sure
        )


def _is_one_of(value: Any, allowed: Sequence[str]) -> bool:
    """Also of a value that cannot be compared, as an array."""
    return isinstance(value, str) and value in allowed
