"""Camera effects on a rendered picture: motion, defocus, noise, colour and compression."""

from __future__ import annotations

from functools import cache

import numpy as np

from hand_pose_3d.rendering.scene import CameraEffects


def apply_camera_effects(picture: np.ndarray, effects: CameraEffects, rng: np.random.Generator) -> np.ndarray:
    """Degrade an RGB picture (H, W, 3) uint8; same size out."""
    import cv2

    height, width = picture.shape[:2]
    image = picture
    if effects.motion_px > 0:
        image = cv2.filter2D(image, -1, motion_kernel(effects.motion_px, effects.motion_angle))
    if effects.defocus_px > 0:
        image = cv2.GaussianBlur(image, (0, 0), effects.defocus_px)
    if effects.shrink > 0:
        small = (max(int(width * effects.shrink), 16), max(int(height * effects.shrink), 16))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    # White balance, gamma and saturation as one 3x3 matrix between tables; noise from a bank of grain.
    levels = np.linspace(0, 1, 256)[:, None] ** effects.gamma * effects.gain * 255
    image = cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8)[None])
    if effects.saturation != 1:
        keep, mix = effects.saturation, (1 - effects.saturation) / 3
        image = cv2.transform(image, np.full((3, 3), mix) + keep * np.eye(3))
    if effects.noise > 0:
        image = _add_noise(image, effects.noise, rng)
    if effects.jpeg_quality:
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, effects.jpeg_quality])[1]
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


_GRAIN = 512  # edge of the noise bank in pixels, larger than a picture of the training set


@cache
def _grain(coloured: bool) -> np.ndarray:
    """A bank (GRAIN, GRAIN, 3) uint8 of Gaussian noise of mean 128 and deviation 32."""
    noise = np.random.default_rng(7).standard_normal((_GRAIN, _GRAIN, 3)) * 32
    if not coloured:
        noise = noise[..., :1] + np.zeros(3)
    return np.clip(np.round(noise + 128), 0, 255).astype(np.uint8)


def _add_noise(image: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Sensor noise of `deviation` (of full scale), coloured or grey, from any part of the bank."""
    import cv2

    height, width = image.shape[:2]
    top, left = rng.integers(0, [_GRAIN - height + 1, _GRAIN - width + 1])
    grain = _grain(rng.random() >= 0.5)[top : top + height, left : left + width]
    strength = 255 * deviation / 32
    return cv2.addWeighted(grain, strength, image, 1.0, -128 * strength)


def motion_kernel(length: float, angle: float) -> np.ndarray:
    """A centred line of that length in pixels and angle in radians, (S, S) float32 with a sum of one, S odd."""
    import cv2

    side = int(np.ceil(length)) | 1
    kernel = np.zeros((side, side), np.float32)
    centre = (side - 1) / 2
    step = 0.5 * (length - 1) * np.array([np.cos(angle), np.sin(angle)])
    a, b = (np.round(16 * (centre + sign * step)).astype(int).tolist() for sign in (-1, 1))
    cv2.line(kernel, a, b, 1.0, 1, cv2.LINE_AA, 4)
    kernel = kernel + kernel[::-1, ::-1]  # OpenCV's line may lie off by most of a pixel
    return kernel / max(float(kernel.sum()), 1e-6)
