"""Reader of folders with a boxes.json: whole scenes in which every hand has a box.

``boxes.json`` holds ``{"images": [{"file", "width", "height", "hands": [{"box": [x, y, width, height], "side",
"ignore", "holding", "touching", "gloved"}]}]}``. ``file`` is relative to the folder; ``width`` and ``height`` are the
image's and boxes are in its pixels, x and y their upper left corner. An image without hands has an empty list.
Optional, with their defaults: ``side`` left, right or unknown (unknown); ``ignore``, a hand that need not be found
(false); ``holding`` an object, ``touching`` another hand or a face, and ``gloved`` (false). Other keys are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.datasets.sample import box_from, check_images, read_list, reading, side_of
from hand_pose_3d.errors import LARGEST, InvalidInputError
from hand_pose_3d.skeleton import Side

FILE = "boxes.json"
KINDS = ("holding", "touching", "gloved")
"""Attributes that make a hand hard to find, of which it may have several; free and bare without any."""


@dataclass(frozen=True, eq=False)
class HandBox:
    """One labelled hand. box_px: (4,) x, y, width, height. ignore: need not be found. kinds: those of KINDS it is."""

    box_px: np.ndarray
    side: Side = Side.UNKNOWN
    ignore: bool = False
    kinds: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class BoxImage:
    """One image and its labelled hands. name: as boxes.json has it; width, height: pixels."""

    name: str
    path: Path
    width: int
    height: int
    hands: tuple[HandBox, ...] = ()

    def image(self) -> np.ndarray:
        """The image, (H, W, 3) uint8 RGB. Raises InvalidInputError for unreadable images and those of another size."""
        from hand_pose_3d.images import read_image

        image = read_image(self.path)
        height, width = image.shape[:2]
        if (width, height) != (self.width, self.height):
            raise InvalidInputError(f"{self.path} has {width}x{height} pixels, {FILE} says {self.width}x{self.height}")
        return image

    def relative_size(self, hand: HandBox) -> float:
        """Longer side of a hand's box as a share of the image's longer side."""
        return float(hand.box_px[2:].max()) / max(self.width, self.height)


def read_boxes(root: str | Path) -> list[BoxImage]:
    """Images of a folder with boxes.json, in its order.

    Raises InvalidInputError that names what is missing or malformed.
    """
    root = Path(root)
    path = root / FILE
    entries = read_list(path, "images")
    if not entries:
        raise InvalidInputError(f"{path} lists no images")
    images = []
    for index, entry in enumerate(entries):
        name = f" ({entry.get('file', '')})" if isinstance(entry, dict) else ""
        with reading(f"image {index}{name} of {path}"):
            images.append(_image(root, entry))
    check_images(root, FILE, {image.name: image.path for image in images})
    return images


def _image(root: Path, entry: Any) -> BoxImage:
    if not isinstance(entry, dict):
        raise TypeError("it is not an object")
    name, size, hands = entry["file"], (entry["width"], entry["height"]), entry["hands"]
    if not isinstance(name, str) or not name:
        raise ValueError("file is not a name")
    if not all(type(pixels) is int and 0 < pixels <= LARGEST for pixels in size):
        raise ValueError(f"width and height must be positive whole numbers up to {LARGEST:.0f}")
    if not isinstance(hands, list):
        raise ValueError("hands is not a list")
    boxes = []
    for index, hand in enumerate(hands):
        try:
            boxes.append(_hand(hand))
        except KeyError as error:
            raise ValueError(f"hand {index} lacks {error}") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"hand {index}: {error}") from error
        x, y, width, height = boxes[-1].box_px
        if x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0 or max(width, height) <= 1:
            raise ValueError(f"hand {index}: the box {hand['box']} shows nothing of {size[0]}x{size[1]} pixels")
    return BoxImage(name, root / name, *size, tuple(boxes))


def _hand(entry: Any) -> HandBox:
    if not isinstance(entry, Mapping):
        raise TypeError("it is not an object")
    box, side = box_from(entry["box"]), side_of(entry)
    flags = {name: entry.get(name, False) for name in ("ignore", *KINDS)}
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, not {value!r}")
    return HandBox(box, side, flags["ignore"], frozenset(name for name in KINDS if flags[name]))
