"""Protocols of what is used of a HandPoseEstimator, which the peer and light ones in tests implement too."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.hands import HandPose


class ImageEstimator(Protocol):
    """Hands in single images, as used by the evaluation. Arguments as of HandPoseEstimator."""

    def __call__(self, image: np.ndarray, *, camera: Camera | None = None) -> list[HandPose]: ...


class VideoEstimator(Protocol):
    """Hands from frame to frame, as used by the benchmark."""

    def __call__(
        self, image: np.ndarray, *, camera: Camera | None = None, stamp_s: float | None = None
    ) -> list[HandPose]: ...

    def reset(self) -> None: ...


class NodeEstimator(Protocol):
    """The estimator of the node, which configures and replaces it."""

    timings_ms: dict[str, float]

    @property
    def model(self) -> str: ...

    @property
    def device(self) -> object: ...

    def __call__(
        self,
        image: np.ndarray,
        *,
        camera: Camera | None = None,
        depth_m: np.ndarray | None = None,
        stamp_s: float | None = None,
    ) -> list[HandPose]: ...

    def reset(self) -> None: ...

    def configure(self, **settings: Any) -> None: ...

    def warm_up(self) -> None: ...

    def take_over(self, other: Any) -> None: ...
