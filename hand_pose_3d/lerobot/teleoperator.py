"""LeRobot's teleoperator "hand_pose_3d": one hand moves the robot's effector, a pinch of the other is the clutch.

Its actions are those that LeRobot's processor step EEReferenceAndDelta takes, as its phone's are after
MapPhoneActionToRobotAction: a displacement from where the effector was when the clutch closed.
"""

import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig
from lerobot.utils.decorators import check_if_already_connected, check_if_not_connected
from scipy.spatial.transform import Rotation

from hand_pose_3d.camera import Camera
from hand_pose_3d.clutch import PinchClutch
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.estimator import HandPoseEstimator
from hand_pose_3d.images import open_source
from hand_pose_3d.lerobot.hand_reader import HandReader
from hand_pose_3d.teleoperation import Target, Teleoperation, observe
from hand_pose_3d.teleoperation_config import TeleoperationConfig

_log = logging.getLogger(__name__)

ACTION_KEYS = (
    "enabled",
    *("target_x", "target_y", "target_z"),
    *("target_wx", "target_wy", "target_wz"),
    "gripper_vel",
)

_GRIPPER_STEP = 0.2
"""Share of the opening by which gripper_vel 1 moves the gripper: speed_factor of GripperVelocityToJoint, 20 of 100."""
_GRIPPER_END = 0.01
"""Share of the opening from either end in which the gripper is told to go on to that end."""


@TeleoperatorConfig.register_subclass("hand_pose_3d")
@dataclass(kw_only=True)
class HandPose3DTeleoperatorConfig(TeleoperatorConfig):
    """Settings. Roll, pitch and yaw are radians about the base frame's x, y and z, in this order.

    camera_calibration: YAML file of ROS's camera_calibration or of OpenCV; without it there are no metres.
    camera: number, device, URL or video file. width, height: asked of the camera, pixels.
    camera_rpy_rad: orientation of its optical frame (x right, y down, z forward) in the robot's base frame; the default
    looks along -x, at a person who faces along x. effector_rpy_rad: that of the effector's frame when the clutch
    closes for the first time, since LeRobot turns the effector about its own axes.
    teleoperation: of its workspace box only the size counts: the effector moves half of it in either direction.
    """

    camera_calibration: Path
    camera: str = "0"
    width: int = 640
    height: int = 480
    device: str = "auto"
    camera_rpy_rad: tuple[float, float, float] = (-math.pi / 2, 0.0, math.pi / 2)
    effector_rpy_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    teleoperation: TeleoperationConfig = field(default_factory=TeleoperationConfig)


class HandPose3DTeleoperator(Teleoperator):
    """Off at the start. It follows while the other hand holds its pinch, and stops as :class:`Teleoperation` says."""

    config_class = HandPose3DTeleoperatorConfig
    name = "hand_pose_3d"

    def __init__(self, config: HandPose3DTeleoperatorConfig) -> None:
        super().__init__(config)
        self.config = config
        if not np.isfinite([*config.camera_rpy_rad, *config.effector_rpy_rad]).all():
            raise InvalidInputError("camera_rpy_rad and effector_rpy_rad must be finite angles")
        if min(config.width, config.height) < 1:
            raise InvalidInputError(f"width and height must be positive, not {config.width} and {config.height}")
        self._camera_rotation = Rotation.from_euler("xyz", config.camera_rpy_rad).as_matrix()
        self._effector_rotation = Rotation.from_euler("xyz", config.effector_rpy_rad).as_matrix()
        self._start_m = config.teleoperation.box_m.mean(axis=0)
        self._reader: HandReader | None = None

    @property
    def action_features(self) -> dict[str, type]:
        """All are floats: enabled 0 or 1; target_x, y, z metres; target_wx, wy, wz a rotation vector, radians."""
        return dict.fromkeys(ACTION_KEYS, float)

    @property
    def feedback_features(self) -> dict[str, type]:
        """None."""
        return {}

    @property
    def is_connected(self) -> bool:
        """Whether the camera is open."""
        return self._reader is not None

    @property
    def is_calibrated(self) -> bool:
        """Always: the camera's calibration is a file."""
        return True

    def calibrate(self) -> None:
        """Nothing to do."""

    def configure(self) -> None:
        """Nothing to do."""

    @check_if_already_connected
    def connect(self, calibrate: bool = True) -> None:
        """Load the networks and open the camera. Raises HandPoseError."""
        c = self.config
        camera = Camera.from_yaml(c.camera_calibration)
        estimator = HandPoseEstimator(tracking=True, device=c.device)
        estimator.warm_up()
        self._core = Teleoperation(c.teleoperation)
        self._pinch = PinchClutch(c.teleoperation.side.other, min_side_score=c.teleoperation.min_side_score)
        self._opening_m: float | None = None
        self._effector, self._moved = self._effector_rotation, False
        source = open_source(c.camera, (c.width, c.height), _log.warning)
        self._reader = HandReader(source, estimator, camera)

    @check_if_not_connected
    def get_action(self) -> dict[str, float]:
        """What the hands ask for now, without waiting for an image. Raises HandPoseError if the camera is lost.

        target_x, y, z: displacement along the base frame's axes since the clutch closed; target_wx, wy, wz: rotation
        since then about the axes that the effector had; gripper_vel: -1 (close) to 1 (open). All are 0 while not
        enabled, but for the gripper's that was told to close or open all the way: it goes on, and holds what it holds.
        """
        assert self._reader is not None
        seen, core = self._reader.take(), self._core
        now_s, engaged = time.monotonic(), core.engaged
        if seen is not None:
            score = core.config.min_fingertip_score
            hands = [observe(hand, self._camera_rotation, np.zeros(3), score) for hand in seen.hands]
            core.see(hands, seen.stamp_s, seen.found_s - seen.stamp_s, seen.found_s)
            self._clutch(self._pinch.update(hands, seen.found_s), now_s)
        self._clutch(self._pinch.update((), now_s), now_s)
        target = core.step(now_s)
        if engaged and not core.engaged:
            _log.warning("stopped: %s", core.why_stopped)
        return self._action(target)

    def _clutch(self, closes: bool | None, now_s: float) -> None:
        if closes:
            refusal = self._core.engage(now_s, self._start_m, np.eye(3))
            _log.info("%s", f"the pinch did not close the clutch: {refusal}" if refusal else "clutch closed")
        elif closes is False:
            self._core.disengage("the pinch was let go of")

    def _action(self, target: Target | None) -> dict[str, float]:
        """Enabled until the target stands. The clutch closes only in a later call, as a new reference needs."""
        if target is None or not target.moving:
            if self._moved and target is not None:  # the next turn is about the axes that the effector has now
                self._effector = target.rotation @ self._effector
            self._opening_m, self._moved = None, False
            return {**dict.fromkeys(ACTION_KEYS, 0.0), "gripper_vel": self._gripper_end(target)}
        self._moved = True
        turn = self._effector.T @ Rotation.from_matrix(target.rotation).as_rotvec()
        values = (1.0, *(target.position_m - self._start_m), *turn, self._gripper(target))
        return {key: float(value) for key, value in zip(ACTION_KEYS, values, strict=True)}

    def _gripper(self, target: Target) -> float:
        """The step from the last opening to this one, as GripperVelocityToJoint takes it."""
        opening_m, before_m, end = target.gripper_opening_m, self._opening_m, self._gripper_end(target)
        self._opening_m = opening_m
        if opening_m is None or before_m is None or end:
            return end
        step_m = _GRIPPER_STEP * self.config.teleoperation.gripper_opening_m
        part = max(-1.0, min((opening_m - before_m) / step_m, 1.0))
        self._opening_m = before_m + part * step_m  # what is left comes with the next action
        return part

    def _gripper_end(self, target: Target | None) -> float:
        """-1 where the gripper is to be closed all the way, 1 where it is to be open, else 0."""
        if target is None or target.gripper_opening_m is None:
            return 0.0
        share = target.gripper_opening_m / self.config.teleoperation.gripper_opening_m
        return 0.0 if _GRIPPER_END < share < 1 - _GRIPPER_END else -1.0 if share < 0.5 else 1.0

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        """Not possible."""
        raise NotImplementedError("a hand before a camera feels no feedback")

    @check_if_not_connected
    def disconnect(self) -> None:
        """Let go of the camera and the networks."""
        assert self._reader is not None
        self._reader.close()
        self._reader = None
