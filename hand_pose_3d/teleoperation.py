"""From a hand to a target for a robot: clutch, relative motion, limits, and the stop. Nothing here imports ROS.

:class:`Teleoperation` is told of every image's hands (`see`) and asked for the target at a steady rate (`step`). While
the clutch is closed the target moves as the hand has moved since then, scaled, within the workspace box and the limits.
The clutch opens by itself on every fault; the target then stops and stays until the clutch is closed anew, which starts
from where the target is, so that nothing jumps.

A pose of the followed hand is good when the image is newer than the last and not stale, the hand is found with enough
score, sure of its side and place, and nothing is NaN. Without a good pose the target slows down after `slow_after` and
stands before `stop_within` seconds, when the clutch opens. What cannot be the same hand going on (another identity or
side, a jump, NaN, a clock that goes back) opens it at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.grasping import pinch_score, placed_keypoints
from hand_pose_3d.hands import HandPose, ScaleSource
from hand_pose_3d.motion_limits import approach, next_velocity, wall_speed
from hand_pose_3d.skeleton import INDEX_TIP, THUMB_TIP, WRIST, Side
from hand_pose_3d.smoothing import OneEuro, OneEuroRotation
from hand_pose_3d.teleoperation_config import TeleoperationConfig
from hand_pose_3d.turns import Rows, turn_between, turned


@dataclass(frozen=True, eq=False)
class Observation:
    """What teleoperation needs of one hand in one image: its wrist in the robot's base frame.

    fault: what is wrong with the numbers, in words; such a hand is never followed. pinch_m: distance of the fingertips,
    None while one is hidden. scale_source: where metres come from; another one puts a still hand elsewhere on its ray
    from camera_m, where the camera is.
    """

    side: Side
    side_score: float
    track_id: int
    score: float
    position_m: np.ndarray
    rotation: np.ndarray
    position_stddev_m: float
    pinch_m: float | None = None
    fault: str = ""
    scale_source: ScaleSource = ScaleSource.NONE
    camera_m: np.ndarray | None = None


def broken(track_id: int, side: Side, fault: str) -> Observation:
    """An observation that says only that there was something."""
    return Observation(side, 0.0, track_id, 0.0, np.zeros(3), np.eye(3), 0.0, fault=fault)


def observe(
    hand: HandPose, rotation_base_camera: np.ndarray, translation_m: np.ndarray, min_fingertip_score: float = 0.3
) -> Observation:
    """A hand as teleoperation sees it. rotation_base_camera, translation_m: pose of the camera in the base frame."""
    try:
        points = placed_keypoints(hand)
        rotation = rotation_base_camera @ hand.rotation_camera_wrist
    except InvalidInputError as error:
        return broken(hand.track_id, hand.side, str(error))
    return Observation(
        side=hand.side,
        side_score=float(hand.side_score),
        track_id=hand.track_id,
        score=float(hand.score),
        position_m=rotation_base_camera @ points[WRIST] + translation_m,
        rotation=rotation,
        position_stddev_m=float(hand.position_stddev_m),
        pinch_m=math.dist(points[THUMB_TIP], points[INDEX_TIP]) if pinch_score(hand) >= min_fingertip_score else None,
        scale_source=hand.scale_source,
        camera_m=translation_m,
    )


def _farther(position_m: np.ndarray, hand: Observation) -> float:
    """How many times as far from the camera that is as the hand; 1 where the camera's place is not known."""
    if hand.camera_m is None:
        return 1.0
    near = max(math.dist(hand.position_m, hand.camera_m), 1e-3)
    return min(max(math.dist(position_m, hand.camera_m) / near, 1 / _MOST_FARTHER), _MOST_FARTHER)


def _moved_out(hand: Observation, factor: float) -> np.ndarray:
    """The hand's position, so many times as far from the camera."""
    if hand.camera_m is None:
        return hand.position_m
    return hand.camera_m + factor * (hand.position_m - hand.camera_m)


@dataclass(frozen=True, eq=False)
class Target:
    """Where the robot is to be now, in its base frame.

    velocity_m_s, turn_rad_s: (3,) about the base frame's axes, those that led here. gripper_opening_m: None until a
    pinch was seen. engaged: the clutch is closed.
    """

    position_m: np.ndarray
    rotation: np.ndarray
    velocity_m_s: np.ndarray
    turn_rad_s: np.ndarray
    gripper_opening_m: float | None
    engaged: bool

    @property
    def moving(self) -> bool:
        """Whether it follows or has not come to a stop yet."""
        return bool(self.engaged or self.velocity_m_s.any() or self.turn_rad_s.any())


_JUMP_SLACK_M, _TURN_SLACK_RAD = 0.04, 0.5
"""Noise of a pose that is no motion: at short intervals it would look like speed."""
_FUTURE_S = 0.05
"""Clocks of camera and robot may differ by this."""
_SOURCE_KEPT_S = 0.5
"""How long it is remembered where a source of metres puts the hand beside the others; set by hand."""
_MOST_LARGER = 1.4
"""Largest factor between two sources' sizes of one pinch; set by hand."""
_MOST_FARTHER = 1.8
"""Largest factor between two sources' distances of one hand, as far as depth may be from an assumed length."""
_SMALL_PINCH_M = 0.01
"""Smallest pinch by which two sources of metres are compared: below, noise decides; set by hand."""
_MOST_TURN_RAD = 2.8  # at pi a turn has no direction
_GRIPPER_MATCH_M = 0.004  # opening of fingers and gripper that counts as the same


class Teleoperation:
    """Times `now_s` are steady seconds of this computer; stamps are the images' own."""

    def __init__(self, config: TeleoperationConfig | None = None) -> None:
        self.config = c = config or TeleoperationConfig()
        self._filter_position = OneEuro(c.min_cutoff_hz, c.beta_position, max_gap_s=c.stop_within_s)
        self._filter_turn = OneEuroRotation(c.min_cutoff_hz, c.beta_turn, max_gap_s=c.stop_within_s)
        self._box: list[list[float]] = c.box_m.T.tolist()
        self.engaged = False
        self.why_stopped = "the clutch has not been closed yet"
        """Why the clutch opened last."""
        self.why_not_good = "no hands have arrived"
        """What was wrong with the last image's hands; "" when nothing was."""
        self.stops = 0
        """How often the clutch opened by itself."""
        self._target: Target | None = None
        self._stepped_s = -math.inf
        self._stamp_s = -math.inf
        self._good_s = -math.inf
        self._good: Observation | None = None
        self._good_stamp_s = 0.0
        self._raw: Observation | None = None
        # By source of metres: its last stamp, factor and rest that make its positions go on from the others' while
        # these come, too, and a factor of its pinch, which stays.
        self._offsets: dict[ScaleSource, tuple[float, float, np.ndarray, float | None]] = {}
        self._from_hand: Observation
        self._turn = [0.0] * 3
        self._rivals = 0
        self._pinch_m: float | None = None
        self._gripper_m: float | None = None
        self._goal_m, self._goal_rotation = [0.0] * 3, np.eye(3).tolist()
        self._gripper_follows = True
        self._gripper_rest_m: float | None = None

    @property
    def followed_id(self) -> int | None:
        """Identity of the hand that counted last, which a closed clutch follows."""
        return None if self._good is None else self._good.track_id

    # What is seen

    def see(self, hands: Sequence[Observation], stamp_s: float, age_s: float, now_s: float) -> bool:
        """All hands of one image. age_s: how old the image is by the clock of its stamps.

        Returns whether it showed a good pose.
        """
        if now_s < self._good_s:
            self._fault("the computer's clock went back")
        if now_s - self._good_s > self.config.stop_within_s:  # this program stood still: no step has told
            self.stop(self.why_not_good or "hands stopped coming")
        if not (math.isfinite(stamp_s) and math.isfinite(age_s)):
            self._fault("the image has no stamp, or one that is not a time")
            return False
        if stamp_s < self._stamp_s:
            self._stamp_s = stamp_s
            self._fault("the images' stamps went back")
            return False
        if stamp_s == self._stamp_s:
            return False  # seen already, and no news
        self._stamp_s = stamp_s
        if age_s < -_FUTURE_S:
            self._fault(f"the image's stamp lies {-age_s:.2f} s ahead of the clock")
            return False
        hand = self._followed(hands)
        if hand is None:
            return False
        self.why_not_good = self._what_is_wrong(hand, age_s)
        if not self.why_not_good:
            self._take(hand, stamp_s, now_s)
        return not self.why_not_good

    def _followed(self, hands: Sequence[Observation]) -> Observation | None:
        """The hand that counts in this image; None, with a reason, when there is none or it is another one."""
        side = self.config.side
        fitting = [hand for hand in hands if hand.side == side]
        sure = [hand for hand in hands if hand.score >= self.config.min_score]
        # A hand that is hardly of the other side may be one of this, too.
        self._rivals = sum(hand.side == side or not hand.side_score >= 0.5 for hand in sure) - 1
        if not self.engaged or self._good is None:
            if not fitting:
                self.why_not_good = f"no {side.label} hand in view"
                return None
            best = max(fitting, key=lambda hand: hand.score if math.isfinite(hand.score) else -1.0)
            if self._good is not None and best.track_id != self._good.track_id:
                self._forget()
            return best
        same = [hand for hand in hands if hand.track_id == self._good.track_id]
        if len(same) > 1:
            self._fault("two hands have the followed hand's identity")
        elif same and same[0].side != side:
            self._fault(f"the followed hand is now taken for a {same[0].side.label} one")
        elif same:
            return same[0]
        elif fitting:
            self._fault(f"the followed hand is gone and there is another {side.label} one")
        else:
            self.why_not_good = "the followed hand is not in view"
        return None

    def _what_is_wrong(self, hand: Observation, age_s: float) -> str:
        c = self.config
        numbers = (hand.score, hand.side_score, hand.position_stddev_m)
        finite = all(map(math.isfinite, (*numbers, *hand.position_m.tolist(), *hand.rotation.ravel().tolist())))
        if hand.fault or not finite:
            return self._fault(hand.fault or "a number of the hand's pose is not finite")
        if not hand.track_id:
            return "the hand has no identity: the tracker must run with tracking"
        if age_s > c.max_image_age_s:
            return f"the image is {age_s:.2f} s old"
        if hand.score < c.min_score:
            return f"the hand's score is {hand.score:.2f}"
        if hand.side_score < c.min_side_score:
            return f"the score of the hand's side is {hand.side_score:.2f}"
        if not 0 <= hand.position_stddev_m <= c.max_stddev_m:
            return f"the deviation of the hand's position is {hand.position_stddev_m:.3f} m"
        return ""

    def _take(self, hand: Observation, stamp_s: float, now_s: float) -> None:
        """A good pose."""
        c, raw = self.config, self._raw
        unknown = (-math.inf, 1.0, np.zeros(3), None)
        last_s, factor, rest_m, larger = self._offsets.get(hand.scale_source, unknown)
        shifted = raw is not None and hand.scale_source != raw.scale_source and stamp_s - last_s > _SOURCE_KEPT_S
        if shifted and raw is not None:  # no motion of the hand: it counts from there now
            factor = _farther(raw.position_m - self._offsets[raw.scale_source][2], hand)
            rest_m = raw.position_m - _moved_out(hand, factor)
        moved_out = _moved_out(hand, factor) + rest_m
        known = [last for source, (last, *_) in self._offsets.items() if source != hand.scale_source]
        if not any(stamp_s - last <= _SOURCE_KEPT_S for last in known):  # alone it may say how far the hand moves
            factor, rest_m = 1.0, moved_out - hand.position_m
        if larger is None and raw is not None and hand.scale_source != raw.scale_source:
            before, now = self._pinch_m or 0.0, hand.pinch_m or 0.0
            if before > _SMALL_PINCH_M and now > _SMALL_PINCH_M:  # neither is NaN
                larger = min(max(before / now, 1 / _MOST_LARGER), _MOST_LARGER)
        pinch_m = None if hand.pinch_m is None else (larger or 1.0) * hand.pinch_m
        hand = replace(hand, position_m=moved_out, pinch_m=pinch_m)
        if raw is not None:
            elapsed = stamp_s - self._good_stamp_s
            moved = math.dist(hand.position_m, raw.position_m)
            angle = math.hypot(*turn_between(raw.rotation.tolist(), hand.rotation.tolist()))
            if elapsed > now_s - self._good_s + c.max_image_age_s + _FUTURE_S:
                self._fault(f"the image's stamp leapt by {elapsed:.1f} s ahead of its arrival")
            elif not shifted and moved > c.max_hand_speed_m_s * elapsed + _JUMP_SLACK_M:
                self._fault(f"the hand jumped by {moved:.2f} m in {elapsed:.3f} s")
            elif angle > c.max_hand_turn_rad_s * elapsed + _TURN_SLACK_RAD:
                self._fault(f"the hand turned by {angle:.1f} rad in {elapsed:.3f} s")
        position = self._filter_position(hand.position_m, stamp_s)
        rotation = self._filter_turn(hand.rotation, stamp_s)
        self._offsets[hand.scale_source] = stamp_s, factor, rest_m, larger
        self._raw, self._good_stamp_s, self._good_s = hand, stamp_s, now_s
        self._good = replace(hand, position_m=position, rotation=rotation)
        self._pinch_m = hand.pinch_m
        if self.engaged:
            self._aim(self._good)

    def _aim(self, hand: Observation) -> None:
        """Where the hand wants the target."""
        c, start = self.config, self._from_hand
        position, rotation = self._from_target
        turn = turn_between(start.rotation.tolist(), hand.rotation.tolist())
        passed = math.dist(turn, self._turn) > math.pi  # half a turn, between two images
        self._turn = turn
        if c.turn_scale not in (0, 1) and (passed or math.hypot(*turn) > _MOST_TURN_RAD):
            self._fault("the hand has turned too far for scale.turn: beyond 180 degrees its turn has no direction")
        goal = position + c.position_scale * (hand.position_m - start.position_m)
        goal_rotation = turned(rotation.tolist(), [c.turn_scale * each for each in turn])
        if self.engaged and self._target is not None:
            behind = turn_between(self._target.rotation.tolist(), self._goal_rotation)
            more = turn_between(self._goal_rotation, goal_rotation)
            if math.hypot(*(a + b for a, b in zip(behind, more))) > _MOST_TURN_RAD:
                self._fault("the target is too far behind the hand's turn: beyond 180 degrees it has no direction")
        self._goal_m = [min(max(at, low), high) for at, (low, high) in zip(goal.tolist(), self._box)]
        self._goal_rotation = goal_rotation

    def _fault(self, reason: str) -> str:
        """What no hand does that simply goes on: open the clutch and start to look anew."""
        self.stop(reason)
        self._forget()
        self.why_not_good = reason
        return reason

    def _forget(self) -> None:
        self._good, self._raw, self._good_s, self._pinch_m = None, None, -math.inf, None
        self._offsets.clear()
        self._filter_position.reset()
        self._filter_turn.reset()

    # Clutch

    def engage(self, now_s: float, position_m: np.ndarray | None = None, rotation: np.ndarray | None = None) -> str:
        """Close the clutch. Returns why that is not possible, in words, or "".

        position_m (3,), rotation (3, 3): where the robot is now; without one the target goes on as it stands.
        """
        c = self.config
        if self.engaged:
            return "the clutch is closed already"
        if self._target is not None and self._target.moving:
            return "the target has not come to a stop yet"
        if self._good is None or not 0 <= now_s - self._good_s < c.stop_within_s - 1 / c.rate_hz:
            return f"there is no good pose of the {c.hand_side} hand: {self.why_not_good or 'hands stopped coming'}"
        if self._rivals > 0:
            return f"{self._rivals + 1} {c.hand_side} hands are in view: only one may be when the clutch closes"
        if self._target is None and (position_m is None or rotation is None):
            return "it is not known where the robot is"
        if self._target is not None:
            position_m = self._target.position_m if position_m is None else position_m
            rotation = self._target.rotation if rotation is None else rotation
        position_m, rotation = np.asarray(position_m, float), np.asarray(rotation, float)
        low, high = c.box_m
        if not (np.isfinite(position_m).all() and np.isfinite(rotation).all()):
            return "the robot's pose is not finite"
        if position_m.shape != (3,) or rotation.shape != (3, 3):
            return (
                f"the robot's pose is a position (3,) and a rotation (3, 3), not {position_m.shape}, {rotation.shape}"
            )
        if not np.allclose(rotation.T @ rotation, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
            return "the robot's rotation is none: its columns must be a right-handed set of unit vectors"
        if ((position_m < low - 1e-9) | (position_m > high + 1e-9)).any():
            x, y, z = position_m
            return f"the robot's effector at ({x:.3f}, {y:.3f}, {z:.3f}) m lies outside the workspace box"
        self._from_hand, self._from_target = self._good, (np.array(position_m), np.array(rotation))
        self._turn = [0.0] * 3
        self._aim(self._good)
        self._target = Target(*self._from_target, np.zeros(3), np.zeros(3), self._gripper_m, True)
        self._gripper_follows, self._gripper_rest_m = self._gripper_m is None, None
        self._stepped_s, self.engaged, self.why_stopped = now_s, True, ""
        return ""

    def robot_at(self, position_m: np.ndarray, rotation: np.ndarray) -> None:
        """Where the robot is now, (3,) and (3, 3): too far from the target the clutch opens, for then the robot does
        not follow, and the box and limits of the target are not the robot's."""
        c, target = self.config, self._target
        if not self.engaged or target is None:
            return
        away_m = math.dist(position_m, target.position_m)
        turned_rad = math.hypot(*turn_between(rotation.tolist(), target.rotation.tolist()))
        if not away_m <= c.max_following_m:
            self.stop(f"the robot is {away_m:.2f} m from its target")
        elif not turned_rad <= c.max_following_rad:
            self.stop(f"the robot is turned by {turned_rad:.1f} rad from its target")

    def disengage(self, reason: str) -> None:
        """Open the clutch on somebody's wish."""
        if self.engaged:
            self.engaged, self.why_stopped = False, reason

    def stop(self, reason: str) -> None:
        """Open the clutch on a fault."""
        if self.engaged:
            self.stops += 1
            self.disengage(reason)

    # The target

    @property
    def target(self) -> Target | None:
        """As the last step left it; None before the clutch was closed for the first time."""
        return self._target

    def step(self, now_s: float) -> Target | None:
        """The target at this time.

        A step that comes late moves no farther than two and a half steps in time; what it had to brake, it has braked.
        """
        c, last = self.config, self._target
        if last is None:
            return None
        if not now_s >= self._stepped_s:
            self._fault("the computer's clock went back")
            if math.isnan(now_s):
                self._target = replace(last, engaged=False)
                return self._target
            self._stepped_s = now_s
        elapsed_s = now_s - self._stepped_s
        dt = min(elapsed_s, 2.5 / c.rate_hz)
        silence = now_s - self._good_s
        if self.engaged and silence > c.stop_within_s - 0.5 / c.rate_hz:
            self.stop(self.why_not_good or "hands stopped coming")
        if dt <= 0:
            self._target = replace(last, engaged=self.engaged)
            return self._target
        self._stepped_s = now_s
        follow = self.engaged and silence <= c.slow_after_s
        change_s = dt if follow else elapsed_s
        position, rotation, box = last.position_m.tolist(), last.rotation.tolist(), self._box
        velocity, turn = self._wanted(position, rotation, dt) if follow else ([0.0] * 3, [0.0] * 3)
        brake = c.max_acceleration_m_s2 / math.sqrt(3)
        walls = (
            [-wall_speed(at - low, brake, dt) for at, (low, _) in zip(position, box)],
            [wall_speed(high - at, brake, dt) for at, (_, high) in zip(position, box)],
        )
        velocity = next_velocity(
            last.velocity_m_s.tolist(),
            velocity,
            c.max_acceleration_m_s2 if follow else c.stop_acceleration_m_s2,
            change_s,
            walls,
            brake,
        )
        turn = next_velocity(
            last.turn_rad_s.tolist(),
            turn,
            c.max_turn_acceleration_rad_s2
            if follow
            else max(c.max_turn_acceleration_rad_s2, c.stop_turn_acceleration_rad_s2),
            change_s,
        )
        if follow:
            self._move_gripper(dt)
        self._target = Target(
            position_m=np.array(
                [min(max(at + dt * v, low), high) for at, v, (low, high) in zip(position, velocity, box)]
            ),
            rotation=np.array(turned(rotation, [dt * each for each in turn])) if any(turn) else last.rotation,
            velocity_m_s=np.array(velocity),
            turn_rad_s=np.array(turn),
            gripper_opening_m=self._gripper_m,
            engaged=self.engaged,
        )
        return self._target

    def _wanted(self, position: list[float], rotation: Rows, dt: float) -> tuple[list[float], list[float]]:
        """Velocity and angular velocity from there towards where the hand wants the target."""
        c = self.config
        way = [goal - at for goal, at in zip(self._goal_m, position)]
        rest = turn_between(rotation, self._goal_rotation)
        return (
            approach(way, c.response_s, c.max_speed_m_s, c.max_acceleration_m_s2, dt),
            approach(rest, c.response_s, c.max_turn_rad_s, c.max_turn_acceleration_rad_s2, dt),
        )

    def _move_gripper(self, dt: float) -> None:
        """Towards the pinch; after re-engagement only once the fingers have come to where the gripper is."""
        c = self.config
        if self._pinch_m is None or not math.isfinite(self._pinch_m):
            self._gripper_rest_m = None
            return
        share = (self._pinch_m - c.pinch_closed_m) / (c.pinch_opened_m - c.pinch_closed_m)
        wanted = c.gripper_opening_m * min(max(share, 0.0), 1.0)
        if self._gripper_m is None:
            self._gripper_m = wanted
        rest, before = wanted - self._gripper_m, self._gripper_rest_m
        passed = before is not None and before * rest < 0  # between two images
        if abs(rest) <= _GRIPPER_MATCH_M or passed:
            self._gripper_follows = True
        self._gripper_rest_m = rest
        if self._gripper_follows:
            reach = c.gripper_speed_m_s * dt
            self._gripper_m += min(max(rest, -reach), reach)
