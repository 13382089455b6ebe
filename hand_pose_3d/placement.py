"""Metres: position and size of a hand in the camera frame, with their uncertainty.

A relative pose and its image determine a hand's direction, and its distance in units of the reference bone. Metres
need one more length: that of the bone (assumed or calibrated), or a depth image.
"""

from __future__ import annotations

import math

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import InvalidInputError, check_numbers
from hand_pose_3d.hands import HandPose, ScaleSource
from hand_pose_3d.skeleton import FINGER_BASES, NUM_KEYPOINTS, WRIST

REFERENCE_LENGTH_M = 0.042
"""Adults' mean distance from the knuckle to the middle joint of the index finger.

The bone alone measures 39.8 mm, standard deviation 4.9 mm, on radiographs of 66 adults (Buryanov and Kotiuk,
Int. J. Morphol. 28(3), 2010); joint centre to joint centre is a little more, as the knuckle's centre lies inside the
metacarpal's head: 0.245 of the hand's length, 45.8 mm for 187 mm (Buchholz et al., Ergonomics 35(3), 1992).
"""

REFERENCE_LENGTH_RANGE_M = 0.005, 0.2
"""Lengths that are accepted: shorter and longer ones are no hand's, or in other units."""

REFERENCE_SPREAD = 0.15
"""Standard deviation of the reference bone among people from school age on, as a share of its length.

Adults alone have 0.12 (the same source); the characters of the training renders, children among them, 0.18.
"""

PALM_LENGTH = 7.5
"""Sum of the distances from the wrist to the four finger bases in reference bones, mean of the characters of earlier
renders; since their finger bases lie deeper it is 7.7, and 7.1 in people (Buchholz et al.).

Networks bend and shorten fingers more than palms, so that a hand's size is read from its palm.
"""

CALIBRATED_SPREAD = 0.07
"""The same for one person whose hand was measured: about the root mean square error of the palm's size that the shipped
networks read from open hands of held-out renders at known distances, 0.072 for the 44 that show most keypoints and got
the right side."""

_MIN_KEYPOINTS = 6  # for a fit, set by hand
_MIN_SCORE = 0.2
"""Keypoints that score less are left out if enough others remain; set by hand."""
_HUBER = 1.5
"""Threshold of the Huber weights in standard deviations, close to the usual 1.345."""
_MIN_NOISE_PX = 0.5  # least noise of a keypoint: no network is more accurate
_MIN_DEPTH = 0.5
"""Least distance of a keypoint from the camera plane, reference bones (2 cm)."""
_SIZE_NOISE = 1.3
"""Error of the palm's size in the pose over the residual of one keypoint; both in the same unit.

Errors that all keypoints have in common leave no residual. The factor was fitted so that the stated deviation is right
for the shipped networks on held-out renders.
"""
_POSE_DEPTH_NOISE = (0.3, 5.0)
"""Error of the wrist's depth within the pose, which limits placement by a depth image: a constant in reference bones,
and a factor of the residual of one keypoint. Fitted in the same way."""

_TISSUE = np.array([0.45, 0.40, 0.27, 0.22, 0.16] + [0.30, 0.20, 0.17, 0.14] * 4)
"""Depth of each keypoint below the skin that faces the camera, reference bones (0.2 is 8 mm); estimated by hand."""
_PLAUSIBLE = 1.8
"""Largest factor by which depth may change a hand's size from the reference length; beyond, it is not the hand's depth.
Set by hand."""
_DEPTH_BAND = 0.7
"""Tolerance within which depths of one hand agree, reference bones; set by hand."""
_LEAST_UNITS = 1e-3
"""Least size of a palm, over that of a mean hand, that is none."""
_FARTHEST_M = 100.0
"""Largest distance of a placed hand: no camera shows one beyond."""


def place(
    hand: HandPose,
    camera: Camera | None,
    depth_m: np.ndarray | None = None,
    *,
    reference_length_m: float = REFERENCE_LENGTH_M,
    reference_length_stddev_m: float | None = None,
    scale_source: ScaleSource = ScaleSource.ASSUMED,
) -> HandPose:
    """Put a hand into the camera frame, in metres.

    Args:
        hand: keypoints_px, keypoint_scores and keypoints_relative are read.
        camera: None leaves the hand unplaced.
        depth_m: (H, W) metres along z, registered to the image; 0, nan and inf are holes; used where it shows the hand.
        reference_length_m: length of the index finger's first bone.
        reference_length_stddev_m: None for that of adults (ASSUMED) or of a measured hand (CALIBRATED).
        scale_source: which of the two the length is.

    Returns:
        A copy with keypoints_m, scale_source, scale_m and position_stddev_m, the root mean square error of the wrist's
        position to expect, in all three directions together. A hand that cannot be placed (no camera, degenerate or
        non-finite input, behind the camera or beyond 100 m) has keypoints_m None, NONE, 0, nan.

    Raises:
        InvalidInputError: for a length that is not positive, a wrong scale_source or depth that is not (H, W).
    """
    if not (math.isfinite(reference_length_m) and reference_length_m > 0):
        raise InvalidInputError(f"reference_length_m must be a positive length in metres, not {reference_length_m}")
    if scale_source not in (ScaleSource.ASSUMED, ScaleSource.CALIBRATED):
        raise InvalidInputError(f"scale_source must be ASSUMED or CALIBRATED, not {scale_source!r}")
    if reference_length_stddev_m is not None:
        check_numbers({"reference_length_stddev_m": reference_length_stddev_m})
    if depth_m is not None and np.ndim(depth_m) != 2:
        raise InvalidInputError(f"depth_m must be (height, width), not {np.shape(depth_m)}")
    fit = None if camera is None else _fit_root(hand, camera)
    if fit is None:
        return hand.unplaced()
    root, covariance, noise = fit
    if reference_length_stddev_m is None:
        spread = CALIBRATED_SPREAD if scale_source == ScaleSource.CALIBRATED else REFERENCE_SPREAD
    else:
        spread = reference_length_stddev_m / reference_length_m

    units = reference_units(hand.keypoints_relative)
    if not units > _LEAST_UNITS:
        return hand.unplaced()
    expected = reference_length_m / units
    measured = None if depth_m is None else _scale_from_depth(hand, root, depth_m, expected)
    if measured is not None:
        scale, scale_stddev = measured
        scale_source = ScaleSource.DEPTH
        # Depth fixes the distance, so that errors of the root along its ray cancel.
        across = np.eye(3)
        across[:, 2] -= root / root[2]
        variance = scale**2 * np.trace(across @ covariance @ across.T)
        always, by_residual = _POSE_DEPTH_NOISE
        variance += scale**2 * (scale_stddev**2 * (root @ root) + always**2 + (by_residual * noise) ** 2)
    else:
        scale = expected
        variance = scale**2 * np.trace(covariance)
        variance += (spread**2 + (_SIZE_NOISE * noise) ** 2) * scale**2 * (root @ root)
    keypoints_m = scale * (hand.keypoints_relative + root)
    if not np.all(np.abs(keypoints_m) < _FARTHEST_M):
        return hand.unplaced()
    return hand.replace(
        keypoints_m=keypoints_m,
        scale_source=scale_source,
        scale_m=float(scale),
        position_stddev_m=math.sqrt(variance),
    )


def reference_units(keypoints_relative: np.ndarray) -> float:
    """Length that the reference bone has by the size of the palm, in units of the pose; 1 for a mean hand.

    keypoints_relative: (21, 3). A network's error of that one bone, whose length is 1 by definition, is larger.
    """
    palm = keypoints_relative[FINGER_BASES, :] - keypoints_relative[WRIST]
    return float(np.sqrt(np.einsum("ij,ij->i", palm, palm)).sum()) / PALM_LENGTH


def _fit_root(hand: HandPose, camera: Camera) -> tuple[np.ndarray, np.ndarray, float] | None:
    """The wrist in the camera frame in units of the reference bone, by least squares of the reprojection.

    Returns (root (3,), covariance (3, 3), standard deviation of one keypoint in units), or None.
    """
    relative = np.asarray(hand.keypoints_relative, dtype=float)
    pixels = np.asarray(hand.keypoints_px, dtype=float)
    weights = np.asarray(hand.keypoint_scores, dtype=float)
    if not (np.isfinite(relative).all() and np.isfinite(pixels).all()):
        return None
    rays = camera.rays(pixels)
    if not np.isfinite(rays).all():
        return None
    used = weights > _MIN_SCORE
    if used.sum() >= _MIN_KEYPOINTS:
        weights = weights[used]
        x, y, z = relative[used].T
        u, v = rays[used, 0], rays[used, 1]
    else:
        weights = np.ones(NUM_KEYPOINTS)
        x, y, z = relative.T
        u, v = rays[:, 0], rays[:, 1]
    nearest = relative[:, 2].min()
    focal = 0.5 * (camera.fx + camera.fy)

    # Linear start: x + root_x = u (z + root_z) and y alike.
    solution = _solve(weights, u, v, u * z - x, v * z - y)
    if solution is None:
        return None
    root = solution[0]
    for _ in range(4):
        if not nearest + root[2] > _MIN_DEPTH:
            return None
        depth = z + root[2]
        pu, pv = (x + root[0]) / depth, (y + root[1]) / depth
        du, dv = u - pu, v - pv
        error = focal * np.sqrt(du * du + dv * dv)
        # Two directions: the median of a Rayleigh distribution is 1.18 standard deviations.
        sigma = max(np.sort(error)[len(error) // 2] / 1.1774, _MIN_NOISE_PX)
        robust = weights * np.minimum(1.0, _HUBER * sigma / np.maximum(error, 1e-9))
        # The derivative of the projection is that of the linear problem over the depth.
        solution = _solve(robust / depth**2, pu, pv, du * depth, dv * depth)
        if solution is None:
            return None
        step, inverse = solution
        root = root + step
        if step @ step < 1e-8 * (root @ root):
            break
    if not nearest + root[2] > _MIN_DEPTH:
        return None
    effective = robust.sum() ** 2 / (robust @ robust)

    def variance_of(error: np.ndarray) -> float:
        variance = (robust @ (error * error)) / robust.sum() / max(2 - 3 / effective, 0.5)
        return max(float(variance), _MIN_NOISE_PX**2)

    # Scores are weights but not inverse variances, so the covariance is scaled by the effective number of keypoints.
    covariance = inverse * (variance_of(error) * robust.sum() / effective / focal**2)
    if camera.model != "equidistant":
        return root, covariance, math.sqrt(variance_of(error)) * float(root[2]) / focal
    # A pixel of a fisheye is an angle, which spans the more of the plane z = 1 the farther out it lies.
    angle = error / (1 + pu * pu + pv * pv)
    return root, covariance, math.sqrt(variance_of(angle)) * math.hypot(*root) / focal


def _solve(
    weights: np.ndarray, u: np.ndarray, v: np.ndarray, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Least squares of ``t_x - u t_z = a`` and ``t_y - v t_z = b``; all arguments (N,).

    Returns (t (3,), inverse normal matrix (3, 3)), or None where the rays coincide, so that the distance is
    undetermined.
    """
    total = float(weights.sum())
    mu, mv = float(weights @ u) / total, float(weights @ v) / total
    ma, mb = float(weights @ a) / total, float(weights @ b) / total
    cu, cv = u - mu, v - mv
    spread = float(weights @ (cu * cu + cv * cv))
    if not spread > 1e-10 * total:
        return None
    tz = -float(weights @ (cu * a + cv * b)) / spread
    t = np.array([ma + mu * tz, mb + mv * tz, tz])
    inverse = np.array([[mu * mu, mu * mv, mu], [mu * mv, mv * mv, mv], [mu, mv, 1.0]]) / spread
    inverse[0, 0] += 1 / total
    inverse[1, 1] += 1 / total
    return t, inverse


def _scale_from_depth(
    hand: HandPose, root: np.ndarray, depth_m: np.ndarray, expected_scale_m: float
) -> tuple[float, float] | None:
    """Metres per unit so that the placed hand agrees with a depth image, and its relative standard error.

    Every keypoint gives one value: depth over the distance of its skin in units. The largest group of
    agreeing values decides, so that keypoints on the background, an occluder or a hole do not count.
    """
    relative = np.asarray(hand.keypoints_relative, dtype=float)
    units = relative[:, 2] + root[2]
    surface = units - _TISSUE
    radius = max(1, round(0.1 * _pixels_per_unit(hand, relative)))
    depth = _sample(np.asarray(depth_m), np.asarray(hand.keypoints_px), min(radius, 8))
    scores = np.asarray(hand.keypoint_scores, dtype=float)
    with np.errstate(invalid="ignore"):
        scale = depth / surface
        usable = (
            (scores > _MIN_SCORE)
            & (surface > 0.1)
            & (np.abs(np.log(np.where(scale > 0, scale, np.nan) / expected_scale_m)) < math.log(_PLAUSIBLE))
        )
    if np.count_nonzero(usable) < 4:
        return None
    scale, weights, units = scale[usable], scores[usable], units[usable]
    band = _DEPTH_BAND / units
    agree = np.abs(scale[None, :] / scale[:, None] - 1) < band[None, :]
    votes = agree @ weights
    inlier = agree[int(np.argmax(votes))]
    if np.count_nonzero(inlier) < 4:
        return None
    order = np.argsort(scale[inlier])
    value, weight = scale[inlier][order], weights[inlier][order]
    cumulative = np.cumsum(weight)
    median = float(np.interp(0.5 * cumulative[-1], cumulative - 0.5 * weight, value))
    spread = 1.4826 * float(np.median(np.abs(value / median - 1)))
    return median, 1.25 * max(spread, 0.002) / math.sqrt(len(value))


def _pixels_per_unit(hand: HandPose, relative: np.ndarray) -> float:
    """Size of the reference bone in the image, from the extents of both."""
    return float(np.ptp(hand.keypoints_px, axis=0).max() / max(np.ptp(relative[:, :2], axis=0).max(), 1e-6))


def _sample(depth_m: np.ndarray, pixels: np.ndarray, radius: int) -> np.ndarray:
    """Depth of the nearer surface around each pixel: the lower quartile of a patch; nan for holes and outside. (N,)."""
    height, width = depth_m.shape
    offsets = np.arange(-radius, radius + 1)
    center = np.rint(pixels).astype(int)
    v = center[:, 1, None, None] + offsets[None, :, None]
    u = center[:, 0, None, None] + offsets[None, None, :]
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    patch = depth_m[np.clip(v, 0, height - 1), np.clip(u, 0, width - 1)].astype(float)
    valid = inside & np.isfinite(patch) & (patch > 0)
    patch = np.where(valid, patch, np.inf).reshape(len(pixels), -1)
    count = valid.reshape(len(pixels), -1).sum(axis=1)
    patch.sort(axis=1)
    quartile = patch[np.arange(len(pixels)), np.maximum(count // 4, 0)]
    # A patch of mostly holes lies on an edge, where depth is unreliable.
    return np.where(count >= max(3, patch.shape[1] // 4), quartile, np.nan)
