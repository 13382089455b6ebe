"""A picture of missed hands and of false detections, in crops around both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hand_pose_3d.camera import Crop
from hand_pose_3d.datasets.boxes import BoxImage
from hand_pose_3d.evaluation.boxes import Outcome, Prediction
from hand_pose_3d.outputs import encode_image, write_beside

TILE_PX, COLUMNS, LEAST_COLUMNS = 168, 6, 3  # edge of a crop, crops per row
MAX_TILES = 150
"""Crops per section; its title gives the total."""

_MARGIN, _MIN_SIDE_PX = 2.2, 32.0  # edge of a crop over that of its box, and at least, in the image
_TEXT_PX, _TITLE_PX, _GAP_PX = 34, 40, 6  # heights of text and titles, gap between tiles
_LABEL, _IGNORED, _PREDICTION = (64, 224, 120), (170, 170, 170), (255, 80, 80)  # RGB of boxes
_BACKGROUND, _INK = (32, 32, 36), (235, 235, 235)  # RGB


@dataclass(frozen=True, eq=False)
class _Case:
    """A crop to be made: around which box of which image, and the lines below it."""

    image: int
    box_px: np.ndarray
    lines: tuple[str, str]


def write_contact_sheet(
    path: str | Path, images: Sequence[BoxImage], detections: Sequence[Sequence[Prediction]], threshold: float
) -> Path:
    """Write the sheet: hands missed at the threshold, then false predictions, both by falling score.

    A missed hand's score is that of the prediction that would find it at a lower threshold; hands without one come
    last, the largest first; its size is the share of the image's longer side. Labelled boxes are green, ignored ones
    grey, predictions red. Format by the suffix. Returns the path: beside a file that is there already.
    """
    missed, false = _missed(images, detections, threshold), _false(images, detections, threshold)
    shown = [
        [item for item in items if item.hand.score >= threshold or item.outcome == Outcome.HIT] for items in detections
    ]
    columns = min(COLUMNS, max(len(missed), len(false), LEAST_COLUMNS))
    parts = [
        _section(f"{kind} hands at score {threshold:g}", cases, columns, images, shown)
        for kind, cases in (("missed", missed), ("false", false))
    ]
    path = Path(path)
    return write_beside(path, encode_image(np.concatenate(parts), path.suffix))


def _missed(images: Sequence[BoxImage], detections: Sequence[Sequence[Prediction]], threshold: float) -> list[_Case]:
    ranked = []
    for index, (image, items) in enumerate(zip(images, detections, strict=True)):
        scores = {item.label: item.hand.score for item in items if item.label is not None}
        for label, hand in enumerate(image.hands):
            score = scores.get(label)
            if hand.ignore or (score is not None and score >= threshold):
                continue
            size = image.relative_size(hand)
            what = " ".join(["-" if score is None else f"{score:.2f}", f"{size:.1%}", *sorted(hand.kinds)])
            rank = (-1.0 if score is None else score, size)
            ranked.append((rank, _Case(index, hand.box_px, (what, Path(image.name).stem))))
    return [case for _, case in sorted(ranked, key=lambda pair: pair[0], reverse=True)]


def _false(images: Sequence[BoxImage], detections: Sequence[Sequence[Prediction]], threshold: float) -> list[_Case]:
    ranked = []
    for index, (image, items) in enumerate(zip(images, detections, strict=True)):
        for item in items:
            if item.outcome.is_false and item.hand.score >= threshold:
                what = f"{item.hand.score:.2f} {item.outcome.value}"
                ranked.append((item.hand.score, _Case(index, item.box_px, (what, Path(image.name).stem))))
    return [case for _, case in sorted(ranked, key=lambda pair: pair[0], reverse=True)]


def _section(
    title: str,
    cases: Sequence[_Case],
    columns: int,
    images: Sequence[BoxImage],
    detections: Sequence[Sequence[Prediction]],
) -> np.ndarray:
    """A titled grid of crops, (H, W, 3); every image is read once."""
    shown = cases[:MAX_TILES]
    rows = -(-len(shown) // columns)
    cell = (TILE_PX + _TEXT_PX + _GAP_PX, TILE_PX + _GAP_PX)
    canvas = np.full((_TITLE_PX + rows * cell[0], columns * cell[1] + _GAP_PX, 3), _BACKGROUND, np.uint8)
    count = f"{len(cases)}" if len(shown) == len(cases) else f"{len(shown)} of {len(cases)}"
    _write(canvas, f"{title}: {count}", (_GAP_PX, 27), 0.7)
    places: dict[int, list[tuple[int, _Case]]] = {}
    for place, case in enumerate(shown):
        places.setdefault(case.image, []).append((place, case))
    for index, group in places.items():
        pixels = images[index].image()
        for place, case in group:
            row, column = divmod(place, columns)
            top, left = _TITLE_PX + row * cell[0], _GAP_PX + column * cell[1]
            tile = _tile(pixels, case.box_px, images[index], detections[index])
            canvas[top : top + TILE_PX, left : left + TILE_PX] = tile
            for number, line in enumerate(case.lines):
                text = canvas[:, left : left + TILE_PX]  # long lines are clipped at the tile's edge
                _write(text, line, (1, top + TILE_PX + 13 + 15 * number), 0.38)
    return canvas


def _tile(pixels: np.ndarray, box_px: np.ndarray, image: BoxImage, detections: Sequence[Prediction]) -> np.ndarray:
    """Crop around a box with the labelled and the predicted boxes, (TILE_PX, TILE_PX, 3)."""
    import cv2

    centre = box_px[:2] + box_px[2:] / 2
    side = max(_MARGIN * float(box_px[2:].max()), _MIN_SIDE_PX)
    crop = Crop((float(centre[0]), float(centre[1])), side, TILE_PX)
    tile = crop.extract(pixels, border=(70, 70, 74, 0))
    boxes = [(hand.box_px, _IGNORED if hand.ignore else _LABEL) for hand in image.hands]
    boxes += [(item.box_px, _PREDICTION) for item in detections]
    for box, colour in boxes:
        corners = np.round(crop.to_crop(np.array([box[:2], box[:2] + box[2:]]))).astype(int)
        thickness = 2 if box is box_px else 1
        cv2.rectangle(tile, corners[0].tolist(), corners[1].tolist(), colour, thickness, cv2.LINE_AA)
    return tile


def _write(canvas: np.ndarray, text: str, origin: tuple[int, int], scale: float) -> None:
    import cv2

    drawn = np.ascontiguousarray(canvas)
    cv2.putText(drawn, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
    canvas[:] = drawn
