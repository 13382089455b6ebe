"""Packs of hand crops for the training of PoseNet, made once from data sets in RHD's layout.

A pack is a folder with `rgba.npy` (N, 256, 256, 4) uint8, alpha 255 on the person, `backgrounds.npy`
(M, 256, 256, 3) uint8 without hands, `mistaken.npy` (K, 256, 256, 3) uint8, hard negatives, and `labels.npz`.
Memory-mapped, so that start is instant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hand_pose_3d.camera import Crop
from hand_pose_3d.conventions import mirror_pixels
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.skeleton import Side
from hand_pose_3d.windows import crop_upright

PACK_SIZE = 256  # edge of a stored crop, pixels
PACK_MARGIN = 2.1  # its edge over the extent of the hand's keypoints: room for augmented windows
HARD_NEGATIVE_MARGIN = 1.8
"""Edge of the stored part around a hard negative, a window without a hand, over the edge of the window, which is 1.3
times the extent of a detection: room for the windows in which detections are read."""
HARD_NEGATIVES_FILE = "mistaken.npy"
MIN_HAND_PX = 20  # extent of keypoints; smaller hands are left out, set by hand
_NO_HAND = 0.004
"""Largest share of hand pixels in a window that counts as one without hands; set by hand."""


@dataclass(frozen=True)
class CropPack:
    """Crops of one data set. uv: (N, 21, 2) in crop pixels; xyz_m: (N, 21, 3) camera axes; visible: (N, 21)
    bool; side: (N,) Side values, maybe UNKNOWN. hard_negatives: (K, S, S, 3), with a window without a hand in the
    middle in which a detector found one. spread: (N, 21) disagreement of the teacher's views over the hand's extent, 0
    for renders. xyz_m is zeros where it is unknown, as for most photographs."""

    rgba: np.ndarray
    backgrounds: np.ndarray
    uv: np.ndarray
    xyz_m: np.ndarray
    visible: np.ndarray
    side: np.ndarray
    hard_negatives: np.ndarray = field(default_factory=lambda: np.zeros((0, PACK_SIZE, PACK_SIZE, 3), np.uint8))
    spread: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.uv)


def with_pose(crops: CropPack) -> CropPack:
    """The crops of a pack whose pose and side are known."""
    known = crops.xyz_m.any((1, 2)) & (np.asarray(crops.side) != Side.UNKNOWN)
    if known.all():
        return crops
    fields = {name: getattr(crops, name)[known] for name in ("rgba", "uv", "xyz_m", "visible", "side")}
    return replace(crops, **fields, spread=None if crops.spread is None else crops.spread[known])


class ArrayWriter:
    """Writes bytes to an .npy file row by row, as many as come; a full disk is an OSError. A context manager."""

    def __init__(self, path: Path, row: tuple[int, ...] = ()) -> None:
        """row: shape of one row."""
        self._row, self._count = row, 0
        self._stream = path.open("wb")
        self._write_header()

    def append(self, rows: np.ndarray) -> None:
        """Write rows (n, *row) uint8."""
        self._stream.write(np.ascontiguousarray(rows).data)
        self._count += len(rows)

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(self, *error: object) -> None:
        with self._stream:
            self._stream.seek(0)
            self._write_header()

    def _write_header(self) -> None:
        """NumPy leaves room in it for any number of rows."""
        shape = {"descr": "|u1", "fortran_order": False, "shape": (self._count, *self._row)}
        np.lib.format.write_array_header_1_0(self._stream, shape)


def load_pack(folder: str | Path) -> CropPack:
    """Open a pack; its images stay on disk until they are touched."""
    folder = Path(folder)
    try:
        with np.load(folder / "labels.npz") as labels:
            fields = {name: labels[name] for name in ("uv", "xyz_m", "visible", "side", "spread") if name in labels}
        if (folder / HARD_NEGATIVES_FILE).exists():
            fields["hard_negatives"] = np.load(folder / HARD_NEGATIVES_FILE, "r")
        return CropPack(np.load(folder / "rgba.npy", "r"), np.load(folder / "backgrounds.npy", "r"), **fields)
    except (OSError, KeyError, ValueError) as error:
        raise InvalidInputError(f"{folder} is not a pack of crops: {error}") from error


def pack(
    samples: Iterable,
    folder: str | Path,
    seed: int = 0,
    windows: Callable[[np.ndarray], Iterable[Crop]] = lambda image: (),
) -> CropPack:
    """Cut every large enough hand out of a data set and write a pack.

    samples: iterable of (image (H, W, 3) RGB uint8, person mask (H, W) bool, hand mask (H, W) bool, hands), hands
    a list of (side, uv (21, 2), xyz_m (21, 3), visible (21,)). windows: gives a detector's windows of an image; those
    without hands are kept.
    """
    from tqdm import tqdm

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    backgrounds: list[np.ndarray] = []
    hard_negatives: list[np.ndarray] = []
    labels: dict[str, list] = {"uv": [], "xyz_m": [], "visible": [], "side": []}
    with ArrayWriter(folder / "rgba.npy", (PACK_SIZE, PACK_SIZE, 4)) as rgba:
        for image, person, hand_mask, hands in tqdm(samples, desc="packing", unit="image"):
            four = np.dstack([image, person.astype(np.uint8) * 255])
            for side, uv, xyz, visible in hands:
                height, width = image.shape[:2]
                inside = ((uv > 0) & (uv < [width - 1, height - 1])).all(1)
                crop = crop_upright(uv, PACK_SIZE, PACK_MARGIN)
                if crop.side < MIN_HAND_PX * PACK_MARGIN or inside.sum() < 12 or visible.sum() < 6:
                    continue
                rgba.append(crop.extract(four)[None])
                for key, value in (
                    ("uv", crop.to_crop(uv)),
                    ("xyz_m", xyz),
                    ("visible", visible & inside),
                    ("side", int(side)),
                ):
                    labels[key].append(value)
            side_px = rng.uniform(min(40, *image.shape[:2]), min(image.shape[:2]))
            corner = rng.uniform(0, np.array(image.shape[1::-1]) - side_px)
            x, y, s = int(corner[0]), int(corner[1]), int(side_px)
            if hand_mask[y : y + s, x : x + s].mean() < 0.002:
                backgrounds.append(Crop(tuple(corner + side_px / 2), side_px, PACK_SIZE).extract(image))
            hand = hand_mask.astype(np.uint8) * 255
            for wide in map(around, windows(image)):
                if wide.extract(hand).mean() < _NO_HAND * 255:
                    hard_negatives.append(wide.extract(image))
    if not labels["uv"] or not backgrounds:
        missing = "place without hands" if labels["uv"] else "hand that is large enough"
        raise InvalidInputError(f"the samples for {folder} show no {missing}: give more of them")
    np.save(folder / "backgrounds.npy", np.stack(backgrounds))
    if hard_negatives:
        np.save(folder / HARD_NEGATIVES_FILE, np.stack(hard_negatives))
    np.savez(folder / "labels.npz", **{key: np.stack(value) for key, value in labels.items()})  # type: ignore[arg-type]
    return load_pack(folder)


def around(window: Crop) -> Crop:
    """The part of an image that is stored of a hard negative."""
    return replace(window, side=HARD_NEGATIVE_MARGIN * window.side, size=PACK_SIZE)


def flip(uv: np.ndarray, xyz_m: np.ndarray, side: Side, width: int) -> tuple[np.ndarray, np.ndarray, Side]:
    """Labels of the image mirrored left to right: the hand becomes one of the other side."""
    return mirror_pixels(uv, width), xyz_m * [-1, 1, 1], Side(side).other
