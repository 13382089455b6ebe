"""Packs of whole scenes, renders and photographs, for the training of HandSegNet, made once.

A pack is a folder with `pixels.npy`, all images one after the other as (H, W, 4) uint8, RGB and the class of each
pixel, and `labels.npz`. Memory-mapped, so that start is instant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from hand_pose_3d.conventions import rescale_pixels
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.skeleton import NUM_KEYPOINTS
from hand_pose_3d.training.crops import ArrayWriter

LARGEST_SIDE = 480
"""Pixels; larger images are scaled down."""
_UNFINISHED = "pixels.part.npy"
BACKGROUND, PERSON, HAND, UNKNOWN = 0, 1, 2, 255
"""Classes of pixels."""


@dataclass(frozen=True, eq=False)
class LabelledScene:
    """One image with what is known of its hands.

    rgbc: (H, W, 4) uint8; keypoints_px: (N, 21, 2); sure: (N,) whether these keypoints are labels; others are
    left out of every loss; right: (N,) probability that it is a right hand, NaN if unknown; spread: (N, 21)
    disagreement of the teacher's views over the hand's extent, 0 for renders; complete: whether there is no other hand
    in it; boxed: (N,) whether only a hand's box is known, its keypoints being those of :func:`box_outline`.
    """

    rgbc: np.ndarray
    keypoints_px: np.ndarray
    sure: np.ndarray
    right: np.ndarray
    spread: np.ndarray
    complete: bool = True
    boxed: np.ndarray | None = None

    @property
    def only_boxes(self) -> np.ndarray:
        """`boxed`, (N,) bool, all False if it is None."""
        return np.zeros(len(self.sure), bool) if self.boxed is None else self.boxed


def box_outline(box: Sequence[float]) -> np.ndarray:
    """(21, 2) what stands for the keypoints of a hand of which only the box (left, top, right, bottom) is known.

    The middle of the box and points of the ellipse inscribed in it, whose own box grows little when they are turned.
    """
    low, high = np.array(box, float).reshape(2, 2)
    angle = np.linspace(0, 2 * np.pi, NUM_KEYPOINTS)[:-1]
    unit = np.vstack([np.zeros(2), np.column_stack([np.cos(angle), np.sin(angle)])])
    return (low + high) / 2 + unit * (high - low) / 2


class Scenes(Protocol):
    """A collection of scenes: a :class:`ScenePack`, or images that are read when they are indexed."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> LabelledScene: ...


class ScenePack:
    """A folder of scenes. Indexing gives a :class:`LabelledScene`; `source` (N,) names where each comes from."""

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        try:
            self._pixels = np.load(folder / "pixels.npy", "r")
            with np.load(folder / "labels.npz") as labels:
                self._labels = {name: labels[name] for name in labels.files}
        except (OSError, ValueError) as error:
            raise InvalidInputError(f"{folder} is not a pack of scenes: {error}") from error
        self.source = self._labels["source"]
        self._first_hand = np.searchsorted(self._labels["scene"], np.arange(len(self) + 1))
        self.num_sure = np.add.reduceat(np.r_[self._labels["sure"], 0].astype(int), self._first_hand[:-1])
        self.num_sure[self._first_hand[:-1] == self._first_hand[1:]] = 0

    def __len__(self) -> int:
        return len(self._labels["shape"])

    def __getitem__(self, index: int) -> LabelledScene:
        labels, (height, width), start = self._labels, self._labels["shape"][index], self._labels["start"][index]
        hands = slice(self._first_hand[index], self._first_hand[index + 1])
        return LabelledScene(
            self._pixels[start : start + height * width * 4].reshape(height, width, 4),
            labels["keypoints_px"][hands],
            labels["sure"][hands],
            labels["right"][hands],
            labels["spread"][hands],
            bool(labels["complete"][index]),
            labels["boxed"][hands] if "boxed" in labels else None,
        )


def check_pack_target(folder: Path) -> Path:
    """The folder, if a pack can be written there. Raises InvalidInputError where it holds one, or something else."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _UNFINISHED).exists():
        finished = (folder / "pixels.npy").exists() and (folder / "labels.npz").exists()
        what = "a pack; delete it, or" if finished else "something other than a pack;"
        raise InvalidInputError(f"{folder} holds {what} choose another folder")
    return folder


def pack_scenes(scenes: Iterable[tuple[str, LabelledScene]], folder: str | Path) -> ScenePack:
    """Write a pack from (source, scene) pairs; images larger than LARGEST_SIDE are scaled down."""
    import cv2
    from tqdm import tqdm

    folder = check_pack_target(Path(folder))
    folder.mkdir(parents=True, exist_ok=True)
    shapes: list[tuple[int, ...]] = []
    starts: list[int] = []
    complete: list[bool] = []
    sources: list[str] = []
    hands: dict[str, list[np.ndarray]] = {
        name: [] for name in ("keypoints_px", "sure", "right", "spread", "boxed", "scene")
    }
    size = 0
    with ArrayWriter(folder / _UNFINISHED) as pixels:
        for source, scene in tqdm(scenes, desc="packing scenes", unit="image"):
            rgbc, scale = scene.rgbc, min(1.0, LARGEST_SIDE / max(scene.rgbc.shape[:2]))
            if scale < 1:
                inner = (round(rgbc.shape[1] * scale), round(rgbc.shape[0] * scale))
                rgb = cv2.resize(np.ascontiguousarray(rgbc[..., :3]), inner, interpolation=cv2.INTER_AREA)
                classes = cv2.resize(np.ascontiguousarray(rgbc[..., 3]), inner, interpolation=cv2.INTER_NEAREST)
                rgbc = np.dstack([rgb, classes])
            pixels.append(rgbc.reshape(-1))
            count = len(scene.sure)
            fields = (
                rescale_pixels(scene.keypoints_px, scale),
                scene.sure,
                scene.right,
                scene.spread,
                scene.only_boxes,
            )
            for name, value in zip(hands, fields):
                hands[name].append(value)
            hands["scene"].append(np.full(count, len(shapes)))
            shapes.append(rgbc.shape[:2])
            starts.append(size)
            complete.append(scene.complete)
            sources.append(source)
            size += rgbc.size
    if not shapes:
        raise InvalidInputError("there is no scene to pack")
    (folder / _UNFINISHED).replace(folder / "pixels.npy")
    empty = {"keypoints_px": (0, 21, 2), "spread": (0, 21)}
    stacked = {name: np.concatenate([np.zeros(empty.get(name, (0,))), *rows]) for name, rows in hands.items()}
    np.savez(
        folder / "labels.npz",
        shape=np.array(shapes),
        start=np.array(starts, np.int64),
        complete=np.array(complete),
        source=np.array(sources),
        keypoints_px=stacked["keypoints_px"].astype(np.float32),
        sure=stacked["sure"].astype(bool),
        boxed=stacked["boxed"].astype(bool),
        right=stacked["right"].astype(np.float32),
        spread=stacked["spread"].astype(np.float32),
        scene=stacked["scene"].astype(np.int64),
    )
    return ScenePack(folder)
