"""MediaPipe Hands (Apache-2.0, `mediapipe==0.10.21`) with our estimator's interface, to measure it by our protocols."""

from __future__ import annotations

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.hands import HandPose
from hand_pose_3d.skeleton import Side


class MediaPipeHands:
    """MediaPipe Hands, called like :class:`hand_pose_3d.HandPoseEstimator`.

    tracking: follow hands from call to call, otherwise search every image. Its world landmarks become
    keypoints_relative. It assumes mirrored images and has no keypoint scores: sides are swapped here, and keypoint
    scores are 1.
    """

    model, device, precision, backend = "MediaPipe Hands", "cpu", "float32", "tflite"

    def __init__(self, max_hands: int = 2, tracking: bool = False) -> None:
        from mediapipe.python.solutions.hands import Hands

        self._hands = Hands(static_image_mode=not tracking, max_num_hands=max_hands)

    def reset(self) -> None:
        """Forget all followed hands."""
        self._hands.reset()

    def __call__(
        self,
        image: np.ndarray,
        camera: Camera | None = None,
        depth_m: np.ndarray | None = None,
        stamp_s: float | None = None,
    ) -> list[HandPose]:
        """Hands in one image (H, W, 3) uint8 RGB, by falling score; never metres."""
        height, width = image.shape[:2]
        result = self._hands.process(np.ascontiguousarray(image))
        hands = []
        for landmarks, world, handedness in zip(
            result.multi_hand_landmarks or (),
            result.multi_hand_world_landmarks or (),
            result.multi_handedness or (),
            strict=True,
        ):
            pixels = np.array([[point.x * width, point.y * height] for point in landmarks.landmark])
            points = np.array([[point.x, point.y, point.z] for point in world.landmark])
            side_class = handedness.classification[0]
            side, score = Side.LEFT if side_class.label == "Right" else Side.RIGHT, float(side_class.score)
            hands.append(HandPose.from_keypoints(side, pixels, points, side_score=score, score=score))
        return sorted(hands, key=lambda hand: -hand.score)
