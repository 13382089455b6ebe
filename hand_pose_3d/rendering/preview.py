"""Contact sheets of a rendered split: pictures beside the same pictures with skeletons and masks drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hand_pose_3d.datasets.rhd import LEFT_CLASSES, PERSON_CLASS, RIGHT_CLASSES, annotation_path
from hand_pose_3d.drawing import draw_skeleton
from hand_pose_3d.images import read_pixels
from hand_pose_3d.outputs import write_beside
from hand_pose_3d.pickles import load_arrays

_TILE = 160  # pixels


def write_preview(root: Path, split: str, count: int = 48, columns: int = 8) -> Path:
    """Write <root>/preview_<split>.png with the first `count` frames and return its path.

    Every second row repeats the one above with classes and keypoints drawn; hidden keypoints are faint.
    """
    import cv2

    folder = root / split
    with annotation_path(root, split).open("rb") as file:
        records = load_arrays(file)
    indices = sorted(records)[:count]
    rows = []
    for start in range(0, len(indices), columns):
        plain, drawn = [], []
        for index in indices[start : start + columns]:
            name = f"{index:05d}.png"
            colour = read_pixels(folder / "color" / name, cv2.IMREAD_COLOR)
            mask = read_pixels(folder / "mask" / name, cv2.IMREAD_GRAYSCALE)
            plain.append(_tile(colour))
            drawn.append(_tile(_labelled(colour[..., ::-1].copy(), mask, records[index])[..., ::-1]))
        for tiles in (plain, drawn):
            tiles += [np.zeros_like(tiles[0])] * (columns - len(tiles))
            rows.append(np.hstack(tiles))
    return write_beside(root / f"preview_{split}.png", cv2.imencode(".png", np.vstack(rows))[1].tobytes())


def _tile(picture: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(np.ascontiguousarray(picture), (_TILE, _TILE), interpolation=cv2.INTER_AREA)


def _labelled(colour: np.ndarray, mask: np.ndarray, record: dict[str, np.ndarray]) -> np.ndarray:
    """Tint the classes (left hand turquoise, right hand orange, person grey) and draw all skeletons."""
    tints = {(PERSON_CLASS,): (120, 120, 120), LEFT_CLASSES: (0, 190, 200), RIGHT_CLASSES: (255, 130, 0)}
    for classes, tint in tints.items():
        chosen = np.isin(mask, list(classes))
        shade = 1 - 0.05 * ((mask[chosen] - classes[0]) % 3)[:, None]  # neighbouring parts differ a little
        colour[chosen] = 0.55 * colour[chosen] + 0.45 * np.array(tint) * shade
    for hand in record["hands"]:
        if hand["visible"].any():
            draw_skeleton(colour, hand["uv"], scores=hand["visible"])
    return colour
