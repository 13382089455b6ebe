"""Measuring one person's hand: hold it open for two seconds at a known distance, or beside a depth image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import HandPoseError, check_numbers
from hand_pose_3d.hands import HandPose, ScaleSource
from hand_pose_3d.joints import joint_angles
from hand_pose_3d.placement import CALIBRATED_SPREAD, place, reference_units
from hand_pose_3d.skeleton import FINGERS, PALM

_MIN_SAMPLES = 8  # images of an open hand, set by hand
_OPEN_RAD = 0.7
"""Largest flexion of a finger's middle joint in an open hand, radians (40 degrees); set by hand."""
_FACING_RAD = math.radians(40)
"""Largest tilt of the palm away from the camera, radians, as its size cannot be measured edge-on; set by hand."""
_STEADY = 0.12
"""Largest spread of the samples of a hand that kept still, as a share of their median; set by hand."""


@dataclass(frozen=True)
class CalibrationResult:
    """Length of the index finger's first bone, metres, and its standard deviation, for :func:`placement.place`."""

    reference_length_m: float
    reference_length_stddev_m: float
    samples: int


class HandCalibration:
    """Measures an open hand over several frames; call it with the hand of every frame until there is a result."""

    def __init__(self, distance_m: float | None = None, duration_s: float = 2.0, max_gap_s: float = 0.5) -> None:
        """distance_m: from the camera to the palm along the optical axis; None to measure it with depth.

        Raises InvalidInputError for a distance or duration that is not a positive number.
        """
        values = {"distance_m": distance_m, "duration_s": duration_s, "max_gap_s": max_gap_s}
        check_numbers({name: value for name, value in values.items() if value is not None}, positive=True)
        self.distance_m, self.duration_s, self.max_gap_s = distance_m, duration_s, max_gap_s
        self.hint = "show one open hand, palm or back to the camera"
        self._advice = "hold still"
        self._restart()

    def _restart(self) -> None:
        self._lengths: list[float] = []
        self._first_s = self._last_s = 0.0
        self._track_id: int | None = None

    @property
    def progress(self) -> float:
        """Share of the time that has passed, 0 to 1."""
        return min(1.0, (self._last_s - self._first_s) / self.duration_s) if self._lengths else 0.0

    def add(self, hand: HandPose, stamp_s: float, camera: Camera | None = None) -> CalibrationResult | None:
        """Take one frame's hand at its stamp; the result once the open hand was held long enough, else None.

        camera: needed with a known distance if the hand is not placed yet; beside depth the hand has to be placed by
        it. `hint` says what is missing. Another hand, a gap in time or samples that disagree restart the measurement.
        """
        gap = stamp_s - self._last_s
        rare = bool(self._lengths) and gap > self.max_gap_s
        if self._lengths and (hand.track_id != self._track_id or gap < 0 or rare):
            self._restart()
        length = self._length(hand, camera)
        if length is None:
            return None
        if not self._lengths:
            self._first_s, self._track_id = stamp_s, hand.track_id
        self._lengths.append(length)
        self._last_s = stamp_s
        self.hint = f"images of the hand are {gap:.1f} s apart, which is too rare" if rare else self._advice
        if self.progress < 1 or len(self._lengths) < _MIN_SAMPLES:
            return None
        lengths = np.array(self._lengths)
        median = float(np.median(lengths))
        # The 80 % quantile, 1.28 standard deviations of a normal distribution, so that a few bad frames do not count.
        spread = float(np.quantile(np.abs(lengths - median), 0.8)) / (1.2816 * median)
        self._restart()
        if spread > _STEADY:
            where = "" if self.distance_m is None else " and at the stated distance"
            self.hint = self._advice = f"the measurements do not agree: hold the hand still{where}"
            return None
        # The pose's error is common to all frames, so that averaging does not reduce it.
        return CalibrationResult(median, median * math.hypot(CALIBRATED_SPREAD, spread), len(lengths))

    def _length(self, hand: HandPose, camera: Camera | None) -> float | None:
        """Reference length in metres by this frame, or None with a hint."""
        try:
            angles = joint_angles(hand)
        except HandPoseError:
            self.hint = "the hand is not seen well enough"
            return None
        if max(angles[f"{finger}_pip_flexion"] for finger in FINGERS[1:]) > _OPEN_RAD:
            self.hint = "open the hand"
            return None
        if abs(hand.rotation_camera_wrist[2, 2]) < math.cos(_FACING_RAD):
            self.hint = "turn the palm or the back of the hand to the camera"
            return None
        if self.distance_m is None:
            if hand.scale_source != ScaleSource.DEPTH:
                self.hint = "no depth of the hand: check the depth image, or state the distance"
                return None
            return hand.scale_m * reference_units(hand.keypoints_relative)
        placed = place(hand, camera) if hand.keypoints_m is None else hand
        if placed.keypoints_m is None:
            self.hint = "the distance needs a calibrated camera" if camera is None else "the hand cannot be placed"
            return None
        # The hand's distance is proportional to the length that it was placed with.
        length_m = placed.scale_m * reference_units(placed.keypoints_relative)
        return length_m * self.distance_m / float(placed.keypoints_m[PALM, 2].mean())
