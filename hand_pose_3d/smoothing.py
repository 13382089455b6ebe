"""One Euro filters for all parts of a hand pose, using the stamps of frames.

Casiez, Roussel and Vogel, CHI 2012: a low-pass filter whose cut-off rises with speed, so that a still hand is steady
and a moving one lags little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hand_pose_3d.errors import check_numbers
from hand_pose_3d.geometry import DegenerateHandError, from_canonical, normalise, to_canonical
from hand_pose_3d.hands import HandPose, ScaleSource
from hand_pose_3d.settings import in_type_of, setting
from hand_pose_3d.turns import turn_between, turned


def _cutoff(default: float, text: str) -> Any:
    return setting(default, text, unit="Hz", low=0.01, high=100.0)


def _beta(default: float, text: str) -> Any:
    return setting(default, text, low=0.0, high=1000.0)


@dataclass(frozen=True)
class SmoothingConfig:
    """Parameters of the filters. A hand's size is the larger edge of its box; a cutoff's lag is 1 / (2 pi cutoff)."""

    enabled: bool = setting(True, "Smooth followed hands with a One Euro filter.")
    min_cutoff_hz: float = _cutoff(1.0, "Cutoff for a still hand: lower is steadier and lags more.")
    beta_px: float = _beta(4.0, "Cutoff gained per hand size a second of motion in the image: higher lags less.")
    beta_pose: float = _beta(1.0, "The same for the fingers, per reference bone a second.")
    beta_viewpoint: float = _beta(2.0, "The same for the viewpoint, per radian a second.")
    beta_position: float = _beta(
        1.5,
        "The same for the distance from the camera in metres, per share of it a second; its direction goes by beta_px.",
    )
    speed_cutoff_hz: float = _cutoff(1.5, "Cutoff of the estimate of speed.")
    max_gap_s: float = setting(
        0.3, "A filter starts again after a longer time without a hand.", unit="s", low=0.01, high=1.0
    )

    def __post_init__(self) -> None:
        in_type_of(True, "smoothing enabled", self.enabled)
        values = {f"smoothing {name}": value for name, value in vars(self).items() if name != "enabled"}
        betas = {name: value for name, value in values.items() if "beta" in name}
        check_numbers(betas)
        check_numbers({name: value for name, value in values.items() if name not in betas}, positive=True)


def _alpha(cutoff_hz: np.ndarray | float, dt_s: float) -> np.ndarray | float:
    """Weight of a new value in a first-order low-pass filter."""
    return 1.0 / (1.0 + 1.0 / (2 * math.pi * cutoff_hz * dt_s))


class _Filter:
    """State that both filters share."""

    def __init__(
        self, min_cutoff_hz: float, beta: float, speed_cutoff_hz: float = 1.5, max_gap_s: float = math.inf
    ) -> None:
        self.min_cutoff_hz, self.beta = min_cutoff_hz, beta
        self.speed_cutoff_hz, self.max_gap_s = speed_cutoff_hz, max_gap_s
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next value passes unchanged."""
        self._value: np.ndarray | None = None
        self._stamp_s = 0.0


class OneEuro(_Filter):
    """The filter for points: one cut-off for each row, from the speed of that row.

    Values are arrays (..., D); D = 1 for independent scalars. beta is Hz per (unit of value a second).
    """

    def __call__(self, value: np.ndarray, stamp_s: float, unit: float = 1.0) -> np.ndarray:
        """Filtered value at its stamp; unit: size by which speeds are measured (pixels of a hand, say).

        A repeated stamp returns what was returned for it. A stamp that goes back, a gap longer than max_gap_s or
        another shape restarts the filter; a value that is not finite resets it and is returned unchanged.
        """
        value = np.asarray(value, dtype=float)
        dt = stamp_s - self._stamp_s
        if not np.isfinite(value).all():
            self.reset()
            return value.copy()
        if self._value is None or self._value.shape != value.shape or not 0 <= dt <= self.max_gap_s:
            self._value, self._raw, self._stamp_s = value.copy(), value.copy(), stamp_s
            self._speed = np.zeros_like(value)
        elif dt > 0:
            self._speed += _alpha(self.speed_cutoff_hz, dt) * ((value - self._raw) / (dt * unit) - self._speed)
            speed = np.sqrt(np.sum(self._speed**2, axis=-1, keepdims=True))
            self._value = self._value + _alpha(self.min_cutoff_hz + self.beta * speed, dt) * (value - self._value)
            self._raw, self._stamp_s = value.copy(), stamp_s
        return self._value.copy()


class OneEuroRotation(_Filter):
    """The same filter on SO(3): it moves along the shortest arc. beta is Hz per radian a second."""

    def __call__(self, rotation: np.ndarray, stamp_s: float) -> np.ndarray:
        """Filtered rotation (3, 3) at its stamp; resets as :class:`OneEuro` does."""
        rotation = np.asarray(rotation, dtype=float)
        dt = stamp_s - self._stamp_s
        if not np.isfinite(rotation).all():
            self.reset()
            return rotation.copy()
        if self._value is None or not 0 <= dt <= self.max_gap_s:
            self._value, self._raw, self._stamp_s = rotation.copy(), rotation.copy(), stamp_s
            self._speed = np.zeros(3)
        elif dt > 0:
            # Velocities in the fixed frame, so that they can be averaged over time.
            step = np.array(turn_between(self._raw.tolist(), rotation.tolist())) / dt
            self._speed += _alpha(self.speed_cutoff_hz, dt) * (step - self._speed)
            share = float(_alpha(self.min_cutoff_hz + self.beta * math.hypot(*self._speed.tolist()), dt))
            before = self._value.tolist()
            arc = turn_between(before, rotation.tolist())
            self._value = np.array(turned(before, [share * each for each in arc]))
            self._raw, self._stamp_s = rotation.copy(), stamp_s
        return self._value.copy()


class HandSmoother:
    """Smooths one tracked hand: pixels, finger pose, viewpoint and metric position."""

    def __init__(self, config: SmoothingConfig | None = None) -> None:
        self.config = c = config or SmoothingConfig()
        common = (c.speed_cutoff_hz, c.max_gap_s)
        self._pixels = OneEuro(c.min_cutoff_hz, c.beta_px, *common)
        self._canonical = OneEuro(c.min_cutoff_hz, c.beta_pose, *common)
        self._viewpoint = OneEuroRotation(c.min_cutoff_hz, c.beta_viewpoint, *common)
        # Distance is far less certain than direction, so that one filter would not suit both.
        self._direction = OneEuro(c.min_cutoff_hz, c.beta_px, *common)
        # By the scale source: sources differ for a hand that does not move, and may alternate from image to image.
        self._distance = {source: OneEuro(c.min_cutoff_hz, c.beta_position, *common) for source in ScaleSource}
        self._scale = {source: OneEuro(c.min_cutoff_hz, 0.0, *common) for source in ScaleSource}
        self._stamp_s = -math.inf

    def reset(self) -> None:
        """Start again: the next hand passes unchanged."""
        for one in (self._pixels, self._canonical, self._viewpoint):
            one.reset()
        self._reset_position()

    def _reset_position(self) -> None:
        for one in (self._direction, *self._distance.values(), *self._scale.values()):
            one.reset()

    def __call__(self, hand: HandPose, stamp_s: float) -> HandPose:
        """The smoothed hand at stamp_s; canonical pose, viewpoint and relative pose stay consistent.

        A hand with the stamp of the last one is returned as it is: how fast it moved is not known.
        """
        if not self.config.enabled or stamp_s == self._stamp_s:
            return hand
        self._stamp_s = stamp_s
        size = max(hand.roi_px[2], hand.roi_px[3], 1.0)
        pixels = self._pixels(hand.keypoints_px, stamp_s, unit=size)
        canonical = self._canonical(hand.keypoints_canonical, stamp_s)
        rotation = self._viewpoint(hand.rotation_camera_canonical, stamp_s)
        try:
            # A mean of canonical poses is canonical up to rounding, but its reference bone is shorter than one.
            relative, length = normalise(from_canonical(canonical, rotation))
            canonical, rotation = to_canonical(relative)
        except DegenerateHandError:
            self.reset()
            return hand
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        shift = 0.5 * (low + high) - 0.5 * (hand.keypoints_px.min(axis=0) + hand.keypoints_px.max(axis=0))
        smooth = hand.replace(
            keypoints_px=pixels,
            keypoints_relative=relative,
            keypoints_canonical=canonical,
            rotation_camera_canonical=rotation,
            roi_px=(hand.roi_px[0] + shift[0], hand.roi_px[1] + shift[1], *hand.roi_px[2:]),
        )
        if hand.keypoints_m is None or not hand.keypoints_m[0, 2] > 0:  # no place before a camera
            self._reset_position()
            return smooth
        source = hand.scale_source
        scale = float(length) * float(self._scale[source](np.array([hand.scale_m]), stamp_s)[0])
        x, y, z = hand.keypoints_m[0]
        extent = float(np.ptp(hand.keypoints_m[:, :2], axis=0).max()) / z
        ray = np.append(self._direction(np.array([x / z, y / z]), stamp_s, unit=max(extent, 1e-3)), 1.0)
        wrist = ray * math.exp(float(self._distance[source](np.array([math.log(z)]), stamp_s)[0]))
        return smooth.replace(keypoints_m=wrist + scale * relative, scale_m=scale)
