"""Settings of teleoperation: scales, workspace, limits, filters, the stop and the gripper."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.settings import check_settings, number, setting
from hand_pose_3d.skeleton import Side


@dataclass(frozen=True)
class TeleoperationConfig:
    """Everything that can be set. Lengths are metres in the robot's base frame."""

    hand_side: str = setting(
        "right", "The hand that is followed; the other one may be the clutch.", choices=("left", "right")
    )

    position_scale: float = number(
        1.0, "How far the target moves for each metre of the hand.", "scale.position", "", 0.01, 10.0
    )
    turn_scale: float = number(
        1.0,
        "How far the target turns for each radian of the hand; 0 keeps its orientation.",
        "scale.turn",
        "",
        0.0,
        2.0,
    )

    x_min_m: float = number(0.2, "Workspace box, lowest x.", "workspace.x_min", "m", -10.0, 10.0)
    x_max_m: float = number(0.7, "Workspace box, highest x.", "workspace.x_max", "m", -10.0, 10.0)
    y_min_m: float = number(-0.4, "Workspace box, lowest y.", "workspace.y_min", "m", -10.0, 10.0)
    y_max_m: float = number(0.4, "Workspace box, highest y.", "workspace.y_max", "m", -10.0, 10.0)
    z_min_m: float = number(0.05, "Workspace box, lowest z.", "workspace.z_min", "m", -10.0, 10.0)
    z_max_m: float = number(0.7, "Workspace box, highest z.", "workspace.z_max", "m", -10.0, 10.0)

    max_speed_m_s: float = number(0.25, "Most speed of the target.", "limits.speed", "m/s", 0.001, 3.0)
    max_acceleration_m_s2: float = number(
        2.0, "Most acceleration while it follows.", "limits.acceleration", "m/s^2", 0.01, 30.0
    )
    max_turn_rad_s: float = number(1.0, "Most angular speed of the target.", "limits.turn", "rad/s", 0.001, 10.0)
    max_turn_acceleration_rad_s2: float = number(
        8.0, "Most angular acceleration while it follows.", "limits.turn_acceleration", "rad/s^2", 0.01, 100.0
    )

    response_s: float = number(0.06, "Lag of the target behind the filtered hand.", "filter.response", "s", 0.0, 1.0)
    min_cutoff_hz: float = number(
        2.0,
        "Cutoff of the One Euro filter for a still hand, beside the tracker's own smoothing.",
        "filter.min_cutoff_hz",
        "Hz",
        0.01,
        100.0,
    )
    beta_position: float = number(
        20.0, "Hz of cutoff gained per metre a second.", "filter.beta_position", "", 0.0, 1000.0
    )
    beta_turn: float = number(2.0, "Hz of cutoff gained per radian a second.", "filter.beta_turn", "", 0.0, 1000.0)

    rate_hz: float = number(100.0, "Rate of the target.", "rate", "Hz", 60.0, 500.0)
    slow_after_s: float = number(
        0.045, "Without a good pose for this time the target slows down.", "stop.slow_after", "s", 0.01, 0.08
    )
    stop_within_s: float = number(
        0.09,
        "This long after the last good pose the target stands and the clutch is open.",
        "stop.within",
        "s",
        0.02,
        0.1,
    )
    max_image_age_s: float = number(
        0.25, "Images that are older when their hands arrive are stale.", "stop.max_image_age", "s", 0.01, 2.0
    )
    min_score: float = number(0.5, "Least score of a good pose.", "stop.min_score", "", 0.0, 1.0)
    min_side_score: float = number(0.6, "Least score of the hand's side.", "stop.min_side_score", "", 0.0, 1.0)
    max_stddev_m: float = number(
        0.15, "Most standard deviation of the hand's position.", "stop.max_stddev", "m", 0.001, 1.0
    )
    max_hand_speed_m_s: float = number(
        3.0, "A hand that moves faster has jumped.", "stop.max_hand_speed", "m/s", 0.1, 20.0
    )
    max_hand_turn_rad_s: float = number(
        15.0, "A hand that turns faster has jumped.", "stop.max_hand_turn", "rad/s", 0.5, 100.0
    )

    max_following_m: float = number(
        0.1,
        "A robot that is farther from its target does not follow: the clutch opens. Only where its pose is known.",
        "stop.max_following",
        "m",
        0.005,
        2.0,
    )
    max_following_rad: float = number(0.6, "The same for its orientation.", "stop.max_following_turn", "rad", 0.02, 3.2)

    pinch_closed_m: float = number(
        0.025, "Distance of the fingertips' keypoints that closes the gripper.", "gripper.pinch_closed", "m", 0.0, 0.2
    )
    pinch_opened_m: float = number(
        0.1, "Distance of the fingertips' keypoints that opens it wholly.", "gripper.pinch_opened", "m", 0.001, 0.3
    )
    gripper_opening_m: float = number(
        0.08, "Opening of the gripper when it is wholly open.", "gripper.opening", "m", 0.001, 1.0
    )
    gripper_speed_m_s: float = number(0.15, "Most speed of the gripper's opening.", "gripper.speed", "m/s", 0.001, 2.0)
    min_fingertip_score: float = number(
        0.3, "Fingertips that score less do not move the gripper.", "gripper.min_score", "", 0.0, 1.0
    )

    def __post_init__(self) -> None:
        check_settings(self)
        for axis, low, high in zip("xyz", self.box_m[0], self.box_m[1], strict=True):
            if low >= high:
                raise InvalidInputError(f"workspace.{axis}_min ({low:g} m) must be less than {axis}_max ({high:g} m)")
        if self.pinch_closed_m >= self.pinch_opened_m:
            raise InvalidInputError(
                f"gripper.pinch_closed ({self.pinch_closed_m:g} m) must be less than gripper.pinch_opened "
                f"({self.pinch_opened_m:g} m)"
            )
        if self.braking_s < 0.004:
            raise InvalidInputError(
                f"stop.within ({self.stop_within_s:g} s) leaves no time to brake after stop.slow_after "
                f"({self.slow_after_s:g} s) and two steps at {self.rate_hz:g} Hz: raise it, or lower slow_after"
            )

    @cached_property
    def box_m(self) -> np.ndarray:
        """(2, 3): lowest and highest corner of the workspace."""
        return np.array([[self.x_min_m, self.y_min_m, self.z_min_m], [self.x_max_m, self.y_max_m, self.z_max_m]])

    @property
    def braking_s(self) -> float:
        """Time that remains for braking when the end of good poses is noticed one step late and it ends within one."""
        return self.stop_within_s - self.slow_after_s - 2 / self.rate_hz

    @property
    def stop_acceleration_m_s2(self) -> float:
        """Deceleration of a stop, from full speed in time."""
        return self.max_acceleration_m_s2 + self.max_speed_m_s / self.braking_s

    @property
    def stop_turn_acceleration_rad_s2(self) -> float:
        """Angular deceleration of a stop, from full speed in time."""
        return self.max_turn_rad_s / self.braking_s

    @property
    def side(self) -> Side:
        """The hand that is followed."""
        return Side[self.hand_side.upper()]
