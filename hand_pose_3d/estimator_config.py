"""Settings of the estimator: their types, defaults, allowed values, and what `auto` stands for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from hand_pose_3d.errors import InvalidInputError, check_numbers
from hand_pose_3d.families import FAMILIES, ONE_POSENET
from hand_pose_3d.hands import SCALE_SOURCES, ScaleSource
from hand_pose_3d.placement import REFERENCE_LENGTH_M, REFERENCE_LENGTH_RANGE_M
from hand_pose_3d.runtime import PRECISIONS
from hand_pose_3d.settings import check_settings, setting
from hand_pose_3d.tracking import TrackerConfig

NETWORK_SETTINGS = ("model", "device", "weights", "precision", "threads", "keypoints")
"""Settings of which networks are loaded, and how; all others can be changed without loading networks again."""


@dataclass(frozen=True)
class EstimatorConfig:
    """Settings of the estimator. Options of commands and parameters of the node come from the same fields."""

    model: str = setting(
        "auto",
        "Networks: lite runs in real time on a CPU, paper is the original; auto is lite.",
        choices=("auto", *FAMILIES),
    )
    device: str = setting("auto", "Where the networks run: auto, cpu, cuda or cuda:N.")
    weights: str | Path | None = setting(None, "Folder with other weights than those that ship with the package.")
    precision: str = setting(
        "auto",
        "Arithmetic of the networks: float16 is for GPUs, int8 for lite on most CPUs; auto takes the fastest.",
        choices=PRECISIONS,
    )
    threads: int = setting(
        0,
        "Processor threads of networks and OpenCV: more are faster but use more processor time; 0 is one in videos and "
        "fast searches (lite), else two.",
        low=0,
        high=64,
    )
    max_hands: int = setting(2, "Most hands in one image.", low=1, high=16)
    hand_side: str = setting("auto", "Side of every hand, if known.", choices=("auto", "left", "right"))
    mirrored: bool = setting(False, "The images are mirrored, as selfie cameras give them.")
    score_threshold: float = setting(  # from here on one hand in 40 (textbooks) to 180 (scenes_dev) is false
        0.9,
        "New hands that score less are left out, and in video followed ones below 0.3, or this where it is lower.",
        low=0.0,
        high=1.0,
    )
    tracking: bool = setting(False, "Follow hands from image to image, with identities; for video.")
    search: str = setting(
        "auto",
        "How new hands are searched for: fast (one pass an image, in video coarse and closer in alternation) or "
        "thorough (all scales; lite: by a second detector, too); auto is fast in video.",
        choices=("auto", "fast", "thorough"),
    )
    keypoints: str = setting(
        "auto",
        "How keypoints are read: fast (by one network) or thorough (lite: refined by a second one); auto is thorough "
        "in single images that are searched thoroughly, if the weights have it.",
        choices=("auto", "fast", "thorough"),
    )
    scale_source: str = setting(  # or a ScaleSource
        "auto",
        "Where metres come from, given a calibrated camera; auto is depth where it shows the hand, else the reference "
        "length.",
        choices=SCALE_SOURCES,
    )
    reference_length: float = setting(
        REFERENCE_LENGTH_M,
        "Length of the index finger's first bone.",
        unit="m",
        low=REFERENCE_LENGTH_RANGE_M[0],
        high=REFERENCE_LENGTH_RANGE_M[1],
    )
    # If given, auto treats the length as calibrated. None: that of people (assumed) or of a measured hand (calibrated).
    reference_length_stddev: float | None = None
    tracker: TrackerConfig = field(default_factory=TrackerConfig)

    def __post_init__(self) -> None:
        if isinstance(self.scale_source, ScaleSource):
            object.__setattr__(self, "scale_source", self.scale_source.label)
        check_settings(self)
        for name, kinds, allowed in (
            ("weights", str | os.PathLike | None, "a folder's path"),
            ("tracker", TrackerConfig, "a TrackerConfig"),
        ):
            if not isinstance(getattr(self, name), kinds):
                raise InvalidInputError(f"{name} must be {allowed}, not {getattr(self, name)!r}")
        if self.keypoints == "thorough" and self.model == "paper":
            raise InvalidInputError(ONE_POSENET)
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
