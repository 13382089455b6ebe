"""HandPose, the record of one hand that the estimator returns."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np

from hand_pose_3d.geometry import from_canonical, normalise, to_canonical, wrist_rotation
from hand_pose_3d.skeleton import Side


class ScaleSource(IntEnum):
    """Source of the metric scale; values are those of HandPose3D.scale_source."""

    NONE = 0
    ASSUMED = 1
    CALIBRATED = 2
    DEPTH = 3

    @property
    def label(self) -> str:
        """Lower-case name: 'none', 'assumed', 'calibrated' or 'depth'."""
        return self.name.lower()


SCALE_SOURCES = ("auto", *(source.label for source in ScaleSource))
"""Values of the setting scale_source. auto: depth where it shows the hand, else the reference length."""


@dataclass(frozen=True, eq=False)
class HandPose:
    """One hand in one image.

    Frames: pixels (u right, v down) of the received image; camera axes x right, y down, z forward.
    ``keypoints_relative == keypoints_canonical @ rotation_camera_canonical.T`` holds always.

    score: probability that this is a hand at this place. keypoints_px: (21, 2) pixels. keypoint_scores: (21,) in 0..1,
    low where hidden.
    keypoints_relative: (21, 3) camera axes, wrist at zero, index finger's first bone = 1.
    keypoints_canonical: (21, 3) the paper's canonical frame, of the hand's own side (not mirrored), same unit.
    rotation_camera_canonical: (3, 3) the viewpoint. roi_px: (x, y, width, height) box of the hand.
    keypoints_m: (21, 3) metres in the camera frame, or None when placement is unknown.
    scale_m: metres per unit of keypoints_relative (the reference bone), 0 when unknown.
    position_stddev_m: root mean square error of the wrist's position in all three directions together, metres; nan when
        unknown.
    """

    side: Side
    side_score: float
    score: float
    keypoints_px: np.ndarray
    keypoint_scores: np.ndarray
    keypoints_relative: np.ndarray
    keypoints_canonical: np.ndarray
    rotation_camera_canonical: np.ndarray
    roi_px: tuple[float, float, float, float]
    track_id: int = 0
    keypoints_m: np.ndarray | None = None
    scale_source: ScaleSource = ScaleSource.NONE
    scale_m: float = 0.0
    position_stddev_m: float = float("nan")

    @classmethod
    def from_canonical(
        cls, side: Side, keypoints_px: np.ndarray, canonical: np.ndarray, rotation: np.ndarray, **fields: Any
    ) -> HandPose:
        """A hand by its pixels (21, 2), canonical keypoints (21, 3) and viewpoint (3, 3); further fields by name.

        roi_px is the box of the pixels; scores that are not given are 1.
        """
        low, high = keypoints_px.min(axis=0), keypoints_px.max(axis=0)
        given = {
            "side": side,
            "side_score": 1.0,
            "score": 1.0,
            "keypoints_px": keypoints_px,
            "keypoint_scores": np.ones(len(keypoints_px)),
            "keypoints_relative": from_canonical(canonical, rotation),
            "keypoints_canonical": canonical,
            "rotation_camera_canonical": rotation,
            "roi_px": (float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])),
        }
        return cls(**{**given, **fields})

    @classmethod
    def from_keypoints(cls, side: Side, keypoints_px: np.ndarray, keypoints: np.ndarray, **fields: Any) -> HandPose:
        """A hand by its pixels (21, 2) and its keypoints (21, 3) in camera axes, any unit and origin.

        Further fields by name, as :meth:`from_canonical` has them. Raises DegenerateHandError.
        """
        return cls.from_canonical(side, keypoints_px, *to_canonical(normalise(keypoints)[0]), **fields)

    @property
    def rotation_camera_wrist(self) -> np.ndarray:
        """(3, 3) wrist orientation; axes as in :func:`hand_pose_3d.geometry.wrist_rotation`."""
        return wrist_rotation(self.keypoints_relative, self.side)

    @property
    def placed_m(self) -> np.ndarray | None:
        """keypoints_m if their scale is known, else None."""
        return None if self.scale_source == ScaleSource.NONE else self.keypoints_m

    @property
    def numbers(self) -> dict[str, Any]:
        """All that is known of the hand in numbers, by field."""
        names = ["score", "side_score", "keypoints_px", "keypoint_scores", "keypoints_relative", "keypoints_canonical"]
        names += ["rotation_camera_canonical", "roi_px"]
        names += [] if self.keypoints_m is None else ["keypoints_m", "scale_m", "position_stddev_m"]
        return {name: getattr(self, name) for name in names}

    def unplaced(self) -> HandPose:
        """The hand without metres."""
        return self.replace(
            keypoints_m=None, scale_source=ScaleSource.NONE, scale_m=0.0, position_stddev_m=float("nan")
        )

    def replace(self, **changes: Any) -> HandPose:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The entry of one hand in `predict --json`; a followed one has a track_id, too."""
        return {
            **({"track_id": self.track_id} if self.track_id else {}),
            "side": self.side.label,
            "side_score": float(self.side_score),
            "score": float(self.score),
            "roi": [float(x) for x in self.roi_px],
            "keypoints_2d": self.keypoints_px.tolist(),
            "keypoint_scores": self.keypoint_scores.tolist(),
            "keypoints_relative": self.keypoints_relative.tolist(),
            "keypoints": None if self.keypoints_m is None else self.keypoints_m.tolist(),
            "scale_source": self.scale_source.label,
            "scale": float(self.scale_m),
            "position_stddev": float(self.position_stddev_m) if math.isfinite(self.position_stddev_m) else None,
            "canonical": self.keypoints_canonical.tolist(),
            "viewpoint": self.rotation_camera_canonical.tolist(),
        }
