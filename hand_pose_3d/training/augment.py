"""Random changes that make renders look like any camera's images. All on (H, W, 3) RGB, seeded by the caller."""

from __future__ import annotations

import cv2
import numpy as np

from hand_pose_3d.rendering.camera_effects import motion_kernel
from hand_pose_3d.skeleton import BONES, PALM


def occlude(image: np.ndarray, backgrounds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cover up to two patches with other texture or plain colour (cut-out)."""
    height, width = image.shape[:2]
    for _ in range(rng.integers(1, 3)):
        mask = np.zeros((height, width), np.uint8)
        center = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        axes = tuple(int(x) for x in rng.uniform(0.04, 0.2, 2) * height + 1)
        if rng.random() < 0.5:
            cv2.ellipse(mask, center, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
        else:
            box = cv2.boxPoints((center, (2.0 * axes[0], 3.0 * axes[1]), float(rng.uniform(0, 180))))
            cv2.fillConvexPoly(mask, box.astype(np.int32), 255)
        if rng.random() < 0.5:
            fill = cv2.resize(np.asarray(backgrounds[rng.integers(len(backgrounds))]), (width, height))
        else:
            fill = np.full_like(image, rng.integers(0, 256, 3).astype(np.uint8))
        image = np.where(mask[..., None] > 0, fill, image)
    return image


def pictogram(background: np.ndarray, uv: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A flat drawing of a hand with keypoints (21, 2), as signs and mouse pointers have it, often on a plain ground."""
    size, points = np.ptp(uv, axis=0).max(), np.round(uv).astype(int)
    plain = [(255, 255, 255), (0, 0, 0), tuple(rng.integers(0, 256, 3).tolist())]
    ground, fill, edge = (plain[i] for i in rng.permutation(3))
    image = np.full_like(background, ground) if rng.random() < 0.6 else background.copy()
    width, border = rng.uniform(0.08, 0.15) * size, rng.uniform(0.0, 0.04) * size
    fingers = [BONES[k : k + 4] for k in range(0, len(BONES), 4)]
    parts = fingers if rng.random() < 0.5 else [sum(fingers, ())]  # with lines between fingers, or around all
    palm = cv2.convexHull(points[[1, *PALM]])
    for bones in parts:
        for colour, thickness in ((edge, width + 2 * border), (fill, width)):
            thick = max(round(thickness), 1)
            for parent, child in bones:
                cv2.line(image, points[parent].tolist(), points[child].tolist(), colour, thick, cv2.LINE_AA)
            if bones is parts[-1]:
                cv2.polylines(image, [palm], True, colour, thick, cv2.LINE_AA)
                cv2.fillPoly(image, [palm], colour, cv2.LINE_AA)
    return image


def recolour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure, white balance, contrast, gamma and saturation by one table a channel and one matrix."""
    ramp = np.arange(256, dtype=np.float32) / 255
    gain = rng.uniform(0.6, 1.4) * (1 + rng.normal(0, 0.07, 3))
    gamma = np.exp(rng.normal(0, 0.25))
    contrast, lift = rng.uniform(0.65, 1.3), rng.uniform(-0.08, 0.08)
    table = np.stack([((ramp**gamma * g - 0.45) * contrast + 0.45 + lift) for g in gain], -1)
    table = np.clip(table * 255, 0, 255).astype(np.uint8)[None]
    image = cv2.LUT(image, table)
    if rng.random() < 0.5:
        saturation = np.float32(rng.uniform(0.2, 1.4) if rng.random() < 0.9 else 0.0)
        grey = np.array([0.299, 0.587, 0.114], np.float32)
        image = cv2.transform(image, np.eye(3, dtype=np.float32) * saturation + (1 - saturation) * grey[None])
    return image


def degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Optics and codec: low resolution, defocus or motion blur, sensor noise, JPEG."""
    height, width = image.shape[:2]
    kind = rng.random()
    if kind < 0.2:
        factor = rng.uniform(0.25, 0.8)
        small = (max(int(width * factor), 24), max(int(height * factor), 24))
        interpolation = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)[rng.choice(3, p=[0.5, 0.4, 0.1])]
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (width, height), interpolation=interpolation)
    elif kind < 0.45:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))
    elif kind < 0.55:
        image = cv2.filter2D(image, -1, motion_kernel(rng.uniform(3, 10), rng.uniform(0, np.pi)))
    if rng.random() < 0.5:
        sigma = float(rng.uniform(1, 12))
        shape = image.shape if rng.random() < 0.6 else (*image.shape[:2], 1)
        noise = rng.standard_normal(shape, dtype=np.float32) * sigma
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        quality = [int(cv2.IMWRITE_JPEG_QUALITY), int(rng.integers(20, 95))]
        image = np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR))
    return image
