"""Hands of a camera, found in a thread of its own, so that a robot's control loop never waits for an image."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import HandPoseError
from hand_pose_3d.estimator import HandPoseEstimator
from hand_pose_3d.hands import HandPose
from hand_pose_3d.images import LiveCamera, Video


@dataclass(frozen=True)
class SeenHands:
    """All hands of one image. Times are seconds of time.monotonic(): image read, hands found."""

    hands: list[HandPose]
    stamp_s: float
    found_s: float


class HandReader:
    """Reads `source`, which it closes at the end, from now on. A video is played at its own speed."""

    def __init__(self, source: LiveCamera | Video, estimator: HandPoseEstimator, camera: Camera) -> None:
        self._source, self._estimator, self._camera = source, estimator, camera
        self._newest: deque[SeenHands] = deque(maxlen=1)
        self._error: HandPoseError | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hand_pose_3d", daemon=True)
        self._thread.start()

    def take(self) -> SeenHands | None:
        """Hands of the newest image, given once; None without a new one.

        Raises HandPoseError if the camera is lost or a video ends.
        """
        if self._error is not None:
            raise self._error
        return self._newest.pop() if self._newest else None

    def close(self) -> None:
        """End the thread, which lets go of the camera."""
        self._end.set()
        self._thread.join(timeout=10.0)

    def _run(self) -> None:
        start_s = time.monotonic()
        try:
            for image in self._source:
                if self._source.time_s is not None:
                    self._end.wait(max(0.0, start_s + self._source.time_s - time.monotonic()))
                if self._end.is_set():
                    break
                stamp_s = time.monotonic()
                hands = self._estimator(image, camera=self._camera, stamp_s=stamp_s)
                self._newest.append(SeenHands(hands, stamp_s, time.monotonic()))
            else:
                self._error = HandPoseError("the camera or video has ended")
        except HandPoseError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it
            self._error = HandPoseError(f"reading hands failed: {type(error).__name__}: {error}")
        finally:
            self._source.close()
