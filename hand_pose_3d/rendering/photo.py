"""What a camera does to a rendered picture: motion, defocus, noise, colour and compression."""

from __future__ import annotations

import numpy as np

from hand_pose_3d.rendering.scene import Photo


def develop(picture: np.ndarray, photo: Photo, rng: np.random.Generator) -> np.ndarray:
    """Degrade an RGB picture (H, W, 3) uint8; same size out."""
    import cv2

    height, width = picture.shape[:2]
    image = picture
    if photo.motion_px > 0:
        image = cv2.filter2D(image, -1, _streak(photo.motion_px, photo.motion_angle))
    if photo.defocus_px > 0:
        image = cv2.GaussianBlur(image, (0, 0), photo.defocus_px)
    if photo.shrink > 0:
        small = (max(int(width * photo.shrink), 16), max(int(height * photo.shrink), 16))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    # Per channel: white balance and gamma as one table, then saturation around the grey value.
    levels = np.linspace(0, 1, 256)[:, None] ** photo.gamma * photo.gain
    table = np.clip(levels * 255, 0, 255).astype(np.float32)
    image = np.stack([table[image[..., c], c] for c in range(3)], axis=-1)
    grey = image.mean(axis=-1, keepdims=True)
    image = grey + (image - grey) * np.float32(photo.saturation)
    if photo.noise > 0:
        shape = image.shape if rng.random() < 0.5 else (*image.shape[:2], 1)
        image += rng.standard_normal(shape, dtype=np.float32) * np.float32(255 * photo.noise) * (0.4 + image / 320)
    image = np.clip(image, 0, 255).astype(np.uint8)
    if photo.jpeg_quality:
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, photo.jpeg_quality])[1]
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def _streak(length: float, angle: float) -> np.ndarray:
    import cv2

    side = int(np.ceil(length)) | 1
    kernel = np.zeros((side, side), np.float32)
    centre = (side - 1) / 2
    step = 0.5 * (length - 1) * np.array([np.cos(angle), np.sin(angle)])
    a, b = (np.round(16 * (centre + sign * step)).astype(int).tolist() for sign in (-1, 1))
    cv2.line(kernel, a, b, 1.0, 1, cv2.LINE_AA, 4)
    return kernel / max(float(kernel.sum()), 1e-6)
