"""Skeletons drawn on images, for overlays, logs and pictures of failures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.hands import HandPose
from hand_pose_3d.skeleton import BONES, NUM_KEYPOINTS, WRIST, Side

FINGER_COLOURS: tuple[tuple[int, int, int], ...] = (
    (255, 89, 94),
    (255, 183, 3),
    (82, 214, 104),
    (45, 170, 255),
    (190, 110, 255),
)
"""RGB of thumb, index, middle, ring and little finger, 0..255."""

WRIST_COLOUR: tuple[int, int, int] = (245, 245, 245)  # RGB
SIDE_COLOURS = {Side.UNKNOWN: (200, 200, 200), Side.LEFT: (64, 224, 208), Side.RIGHT: (255, 140, 60)}  # RGB

LOW_SCORE = 0.5
"""Keypoints that score less are drawn faint and hollow; set by hand."""

_FAINT = 0.35  # opacity, chosen by eye
_SHIFT = 4  # cv2 draws with 1/16 pixel


def keypoint_colour(keypoint: int) -> tuple[int, int, int]:
    """RGB of a keypoint, 0..255: its finger's colour, or the wrist's."""
    return WRIST_COLOUR if keypoint == WRIST else FINGER_COLOURS[(keypoint - 1) // 4]


def _fixed(point: np.ndarray) -> tuple[int, int]:
    limited = np.clip(point, -1e5, 1e5) * (1 << _SHIFT)
    return round(float(limited[0])), round(float(limited[1]))


def draw_skeleton(
    image: np.ndarray,
    keypoints_px: np.ndarray,
    scores: np.ndarray | None = None,
    depths: np.ndarray | None = None,
) -> None:
    """Draw one skeleton into image, in place.

    image: (H, W, 3) uint8 RGB. keypoints_px: (21, 2) pixels; those that are not finite are left out.
    scores: (21,) in 0..1, all certain by default. depths: (21,), larger is farther; nearer bones cover farther ones.
    Line width grows with the hand's size, so that small hands stay legible and large ones do not look thin.
    """
    import cv2

    keypoints_px = np.asarray(keypoints_px, dtype=float)
    scores = np.ones(NUM_KEYPOINTS) if scores is None else np.asarray(scores, dtype=float)
    depths = np.zeros(NUM_KEYPOINTS) if depths is None else np.asarray(depths, dtype=float)
    finite = np.isfinite(keypoints_px).all(axis=-1)
    if not finite.any():
        return
    extent = float(np.ptp(keypoints_px[finite], axis=0).max())
    thickness = float(np.clip(extent / 55, 1.0, max(image.shape[:2]) / 90 + 1.0))
    line, outline = max(1, round(thickness)), max(1, round(thickness)) + max(2, round(0.7 * thickness))
    radius = max(1.6, 1.05 * thickness)
    certain = scores >= LOW_SCORE
    # Only the surroundings of the hand are blended, which is much cheaper on large images.
    margin = 2 * radius + outline + 2
    low = np.floor(np.clip(keypoints_px[finite].min(axis=0) - margin, 0, image.shape[1::-1])).astype(int)
    high = np.ceil(np.clip(keypoints_px[finite].max(axis=0) + margin, 0, image.shape[1::-1])).astype(int)
    if not (high > low).all():
        return
    image = image[low[1] : high[1], low[0] : high[0]]
    keypoints_px = keypoints_px - low
    dark = (20, 20, 24)

    def draw_bones(canvas: np.ndarray, wanted: bool) -> None:
        for parent, child in sorted(BONES, key=lambda bone: -(depths[bone[0]] + depths[bone[1]])):
            if not (finite[parent] and finite[child]) or bool(certain[parent] and certain[child]) != wanted:
                continue
            ends = _fixed(keypoints_px[parent]), _fixed(keypoints_px[child])
            if line > 1:
                cv2.line(canvas, *ends, dark, outline, cv2.LINE_AA, _SHIFT)
            cv2.line(canvas, *ends, keypoint_colour(child), line, cv2.LINE_AA, _SHIFT)

    def draw_joints(canvas: np.ndarray, wanted: bool) -> None:
        for k in np.argsort(-depths, kind="stable"):
            if not finite[k] or bool(certain[k]) != wanted:
                continue
            size = radius * (1.35 if k == WRIST else 1.0)
            centre = _fixed(keypoints_px[k])
            if wanted:
                if line > 1:
                    cv2.circle(canvas, centre, round((size + 0.45 * thickness) * 16), dark, -1, cv2.LINE_AA, _SHIFT)
                cv2.circle(canvas, centre, round(size * 16), keypoint_colour(k), -1, cv2.LINE_AA, _SHIFT)
                if size >= 3:
                    cv2.circle(canvas, centre, round(0.45 * size * 16), (255, 255, 255), -1, cv2.LINE_AA, _SHIFT)
            else:
                width = max(1, round(0.5 * thickness))
                cv2.circle(canvas, centre, round(size * 16), keypoint_colour(k), width, cv2.LINE_AA, _SHIFT)

    if not certain[finite].all():
        faint = image.copy()
        draw_bones(faint, wanted=False)
        cv2.addWeighted(faint, _FAINT, image, 1 - _FAINT, 0, dst=image)
    draw_bones(image, wanted=True)
    draw_joints(image, wanted=False)
    draw_joints(image, wanted=True)


def draw_label(image: np.ndarray, points: np.ndarray) -> None:
    """Draw labelled keypoints (21, 2) as a thin white skeleton into an image (H, W, 3) uint8; NaN is left out."""
    import cv2

    for parent, child in BONES:
        if np.isfinite(points[[parent, child]]).all():
            a, b = np.round(points[[parent, child]] * 16).astype(int).tolist()
            cv2.line(image, a, b, (255, 255, 255), 1, cv2.LINE_AA, _SHIFT)


def _draw_box(image: np.ndarray, roi: Sequence[float], colour: tuple[int, int, int], text: str) -> None:
    import cv2

    height, width = image.shape[:2]
    x, y, w, h = (float(value) for value in roi)
    if not np.isfinite([x, y, w, h]).all() or w <= 0 or h <= 0:
        return
    thickness = max(1, round(max(height, width) / 400))
    left, top = max(x, thickness), max(y, thickness)
    right, bottom = min(x + w, width - 1 - thickness), min(y + h, height - 1 - thickness)
    if right <= left or bottom <= top:
        return
    arm = 0.18 * min(right - left, bottom - top)
    for u, v, du, dv in ((left, top, 1, 1), (right, top, -1, 1), (left, bottom, 1, -1), (right, bottom, -1, -1)):
        corner = np.array([[u + du * arm, v], [u, v], [u, v + dv * arm]])
        points = [np.round(corner * 16).astype(np.int32)]
        cv2.polylines(image, points, False, (20, 20, 24), thickness + 2, cv2.LINE_AA, _SHIFT)
        cv2.polylines(image, points, False, colour, thickness, cv2.LINE_AA, _SHIFT)

    scale = max(max(height, width) / 1100, 0.32)
    weight = max(1, round(1.4 * scale))
    (text_width, text_height), baseline = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, weight)
    pad = max(2, round(0.35 * text_height))
    box_width, box_height = text_width + 2 * pad, text_height + baseline + 2 * pad
    if box_width > width or box_height > height:
        return
    u = round(float(np.clip(left, 0, width - box_width)))
    if top - box_height - thickness >= 0:
        v = round(top - box_height - thickness)
    else:  # no room above the box: below it, or inside
        v = round(bottom + thickness + 1 if bottom + thickness + 1 + box_height <= height else top + thickness)
    v = int(np.clip(v, 0, height - box_height))
    chip = image[v : v + box_height, u : u + box_width]
    chip[:] = (0.25 * chip + 0.75 * np.array((20, 20, 24))).astype(np.uint8)
    image[v : v + box_height, u : u + max(2, pad // 2)] = colour
    origin = (u + pad + max(1, pad // 4), v + pad + text_height)
    cv2.putText(image, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), weight, cv2.LINE_AA)


def hand_label(hand: HandPose) -> str:
    """Text beside a hand: track id if there is one, side and score."""
    identity = f"#{hand.track_id} " if hand.track_id else ""
    return f"{identity}{hand.side.label} {hand.score:.2f}"


def draw_hands(image_rgb: np.ndarray, hands: Sequence[HandPose], *, boxes: bool = True) -> np.ndarray:
    """Copy of an image with the skeleton, box, side and score of each hand.

    Args:
        image_rgb: (H, W, 3) uint8 RGB.
        hands: each in the image's pixels.
        boxes: also the box with its label.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InvalidInputError: for any other kind of image.
    """
    image_rgb = np.asarray(image_rgb)
    if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8:
        raise InvalidInputError(
            f"draw_hands takes an RGB image (height, width, 3) of uint8, not {image_rgb.shape} of {image_rgb.dtype}"
        )
    canvas = np.array(image_rgb, order="C", copy=True)
    for hand in sorted(hands, key=lambda hand: hand.score):
        if boxes:
            _draw_box(canvas, hand.roi_px, SIDE_COLOURS[hand.side], hand_label(hand))
        draw_skeleton(canvas, hand.keypoints_px, hand.keypoint_scores, hand.keypoints_relative[:, 2])
    return canvas


def enlarge(image: np.ndarray, hands: Sequence[HandPose], min_px: int) -> tuple[np.ndarray, list[HandPose]]:
    """Image and hands enlarged by a whole factor, so that the longer side has at least min_px pixels.

    image: (H, W, 3) uint8. A large enough image comes back as it is.
    """
    import cv2

    factor = -(-min_px // max(image.shape[:2]))
    if factor <= 1:
        return image, list(hands)
    large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    shift = (factor - 1) / 2  # pixel centres, not corners, are the whole numbers
    moved = []
    for hand in hands:
        x, y, w, h = hand.roi_px
        roi = (x * factor + shift, y * factor + shift, w * factor, h * factor)
        moved.append(hand.replace(keypoints_px=hand.keypoints_px * factor + shift, roi_px=roi))
    return large, moved
