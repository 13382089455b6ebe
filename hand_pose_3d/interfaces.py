"""What stands where a HandPoseEstimator can, as far as each user needs it: the peer, and light ones in tests."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.hands import HandPose


class ImageEstimator(Protocol):
    """Hands in single images, as evaluation asks for them. Arguments as those of HandPoseEstimator."""

    def __call__(self, image: np.ndarray, *, camera: Camera | None = None) -> list[HandPose]: ...


class VideoEstimator(Protocol):
    """Hands from frame to frame, as the benchmark asks for them."""

    def __call__(
        self, image: np.ndarray, *, camera: Camera | None = None, stamp_s: float | None = None
    ) -> list[HandPose]: ...

    def reset(self) -> None: ...


class NodeEstimator(Protocol):
    """What the node runs, configures and exchanges for another."""

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
