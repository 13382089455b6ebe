"""hand_teleop over real topics: hands that a test publishes, and what a robot would get."""

from __future__ import annotations

import signal
import time
from typing import Any

import numpy as np
import pytest
from fake_estimator import make_hand
from ros_client import Process

from hand_pose_3d.camera import Camera
from hand_pose_3d.skeleton import Side

PERIOD_S = 1 / 30


class Robot:
    """Publishes hands like the tracker, and keeps the targets with their stamps."""

    def __init__(self, client) -> None:
        from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped, TwistStamped
        from hand_pose_3d.msg import HandPose3DArray
        from std_msgs.msg import Bool, Float64
        from trajectory_msgs.msg import JointTrajectory

        self.client, self.ros = client, client.ros
        self.hands = self.ros.create_publisher(HandPose3DArray, "/hand_pose_3d/hands", 10)
        self.poses: list[tuple[float, np.ndarray]] = []
        self.ros.create_subscription(PoseStamped, "/hand_teleop/target_pose", self._on_pose, 50)
        self.twists = client.listen("/hand_teleop/target_twist", TwistStamped)
        self.openings = client.listen("/hand_teleop/gripper/opening", Float64)
        self.trajectories = client.listen("/hand_teleop/gripper/trajectory", JointTrajectory)
        self.pinches = client.listen("/hand_teleop/pinch_base", PoseWithCovarianceStamped)
        self.stddevs = client.listen("/hand_teleop/pinch_opening_stddev", Float64)
        self.engaged = client.listen("/hand_teleop/engaged", Bool)
        self.sent_s = 0.0
        client.until(self.hands.get_subscription_count, what="the node's subscription")
        client.until(lambda: self.ros.count_publishers("/hand_teleop/target_pose"))
        client.spin(0.5)

    def _on_pose(self, message) -> None:
        p = message.pose.position
        assert message.header.frame_id == "base_link"
        stamp = message.header.stamp
        self.poses.append((stamp.sec + 1e-9 * stamp.nanosec, np.array([p.x, p.y, p.z])))

    def send(self, *hands, age_s: float = 0.02, stamp_ns: int | None = None, nan: bool = False) -> None:
        """One hands message, now."""
        from hand_pose_3d.msg import HandPose3DArray
        from std_msgs.msg import Header

        from hand_pose_3d.ros.messages import hand_message

        now_ns = self.ros.get_clock().now().nanoseconds - int(age_s * 1e9)
        self.stamp_ns = now_ns if stamp_ns is None else stamp_ns
        header = Header(frame_id="camera_optical")
        header.stamp.sec, header.stamp.nanosec = divmod(self.stamp_ns, 1_000_000_000)
        made = [hand_message(hand, header, (480, 640)) for hand in hands]
        for message in made if nan else ():
            message.keypoints[0].x = float("nan")
        self.hands.publish(HandPose3DArray(header=header, hands=made))
        self.sent_s = time.time()

    def stream(self, seconds: float, hands_at, until=lambda: False, **how) -> None:
        """Hands at 30 Hz; hands_at: their list for a time since the beginning; until: ends it sooner."""
        begin = time.monotonic()
        count = 0
        while (elapsed := time.monotonic() - begin) < seconds and not until():
            if elapsed >= count * PERIOD_S:
                count = int(elapsed / PERIOD_S) + 1
                self.send(*hands_at(elapsed), **how)
            self.client.executor.spin_once(timeout_sec=0.002)

    def engage(self, on: bool = True):
        from std_srvs.srv import SetBool

        future = self.client.begin_call(SetBool, "/hand_teleop/engage", SetBool.Request(data=on))
        begin = time.monotonic()
        while not future.done():
            assert time.monotonic() < begin + 30
            self.send(a_hand(0.0))
            self.client.spin(PERIOD_S)
        return future.result()

    def follow(self, seconds: float, hands_at, least_m: float = 0.02) -> None:
        """Close the clutch and move the hand, as often as a busy computer asks for: until the target has come along."""
        for _ in range(40):
            self.stream(0.2, lambda t: [a_hand(0.0)])
            if not self.engage().success:
                continue
            first = len(self.poses)

            def came(first: int = first) -> bool:
                moved = len(self.poses) > first and np.linalg.norm(self.poses[-1][1] - self.poses[first][1]) > least_m
                return bool(moved and self.engaged[-1].data)

            self.stream(seconds, hands_at, until=came)
            if came():
                return
        raise AssertionError("the target never followed without a stop")

    def check_stop(self, good_s: float) -> None:
        """The target stands 100 ms after the last good hands, but for the time in which the node was not let run."""
        after = [(t, p) for t, p in self.poses if t > good_s - 0.02]
        last = max((t for (_, a), (t, b) in zip(after, after[1:]) if not np.array_equal(a, b)), default=good_s)
        times = np.array([good_s, *(t for t, _ in after if t <= last)])
        idle_s = np.maximum(np.diff(times) - 0.012, 0).sum()
        assert last - good_s < 0.1 + idle_s


CAMERA = Camera(500, 500, 320, 240)


def a_hand(moved: float, side: Side = Side.RIGHT, pinch: bool = False, **fields):
    """A hand in front of the camera, moved to the right by so many metres."""
    hand = make_hand(side, 0.0, CAMERA, track_id=int(side))
    metres = hand.keypoints_m + [moved, 0, 0]
    if pinch:
        metres[4] = metres[8] + [0.01, 0, 0]
    values = {"keypoints_m": metres, "keypoint_scores": np.full(21, 0.9), **fields}
    return hand.replace(**values)


@pytest.fixture
def robot(client):
    pytest.importorskip("trajectory_msgs")
    running = []

    def start(*arguments: str) -> Robot:
        stated = ["-p", "camera_from:=stated"]
        running.append(Process("-m", "hand_pose_3d.ros.teleop", "--ros-args", *stated, *arguments))
        made = Robot(client)
        made.process = running[-1]
        return made

    yield start
    for process in running:
        if process.popen.poll() is None:
            status, output = process.stop()
            assert status == 0, output


def test_off_then_follows_then_stops_when_hands_stop_and_stays_stopped(robot):
    made = robot("-p", "start.yaw:=1.57")
    while not made.stddevs:
        made.stream(0.5, lambda t: [a_hand(0.1 * t)])
    assert not made.poses and made.pinches  # silent to the robot, not to grasping nodes
    made.follow(0.6, lambda t: [a_hand(0.2 * t)])
    good_s = made.sent_s
    made.client.spin(1.5)  # the tracker hangs
    made.check_stop(good_s)
    times, positions = np.array([t for t, _ in made.poses]), np.array([p for _, p in made.poses])
    assert positions[0] == pytest.approx([0.45, 0, 0.3], abs=1e-3)  # the very first ones may be lost
    assert np.linalg.norm(np.diff(positions, axis=0), axis=1).max() <= 0.25 * 0.025 + 1e-9  # 2.5 steps at full speed
    assert np.median(np.diff(times)) < 0.015
    assert made.twists and made.openings and made.trajectories[-1].joint_names == ["gripper"]
    twist = made.twists[-1].twist
    assert (twist.linear.x, twist.linear.y, twist.linear.z, twist.angular.z) == (0.0, 0.0, 0.0, 0.0)
    count, held = len(made.poses), positions[-1]
    made.stream(0.5, lambda t: [a_hand(0.1 + 0.2 * t)])
    assert len(made.poses) == count  # only the clutch goes on
    made.follow(0.6, lambda t: [a_hand(0.2 * t)])
    made.client.spin(0.2)
    assert made.poses[count][1] == pytest.approx(held, abs=1e-3)


MAX_AGE_S = 0.25

BAD_HANDS = {
    "not in view": lambda hand: [],
    "another right one": lambda hand: [hand.replace(track_id=77)],
    "taken for a left one": lambda hand: [hand.replace(side=Side.LEFT)],
    "score is 0.10": lambda hand: [hand.replace(score=0.1)],
    "position is 0.500 m": lambda hand: [hand.replace(position_stddev_m=0.5)],
}
BAD_MESSAGES: dict[str, dict[str, Any]] = {"stamps went back": {"age_s": 5.0}, "holds no hand": {"nan": True}}
FAULTS = [*BAD_HANDS, *BAD_MESSAGES, "s old", "stopped coming"]
"""Words of the reasons that the node gives; the last two are images that come late, and a network that hiccups."""


def spoil(made: Robot, fault: str, hand: Any, seconds: float) -> float:
    """Let hands go wrong for some time. Returns when the last good ones were sent."""
    good_s = made.sent_s
    if fault == "s old":  # images that come later and later
        begin = time.monotonic()
        while time.monotonic() - begin < MAX_AGE_S + seconds:
            made.send(hand, stamp_ns=made.stamp_ns + 1_000_000)
            if made.sent_s - made.stamp_ns * 1e-9 <= MAX_AGE_S:
                good_s = made.sent_s
            made.client.spin(PERIOD_S)
    elif fault == "stopped coming":
        stamp = made.stamp_ns
        made.client.spin(max(seconds, 0.15))
        for k in range(1, 4):
            made.send(hand, stamp_ns=stamp + int(k * PERIOD_S * 1e9))
    elif fault in BAD_MESSAGES:
        made.stream(seconds, lambda t: [hand], **BAD_MESSAGES[fault])
    else:
        made.stream(seconds, lambda t: BAD_HANDS[fault](hand))
    return good_s


def test_a_random_stream_of_faults_never_jumps_stops_in_time_and_goes_on_by_the_clutch_alone(robot):
    from diagnostic_msgs.msg import DiagnosticArray

    seed = time.time_ns() % 2**32
    print("seed", seed)  # shown when it fails
    random = np.random.default_rng(seed)
    made = robot("-p", f"stop.max_image_age:={MAX_AGE_S}")
    diagnostics = made.client.listen("/diagnostics", DiagnosticArray)
    seen: list = []
    for k, fault in enumerate(random.permutation(FAULTS)):
        speed = (-1) ** k * random.uniform(0.1, 0.2)

        def moving(t: float, speed: float = speed) -> list:
            seen[:] = [a_hand(speed * t)]
            return seen

        reason = ""

        def is_open() -> bool:
            nonlocal reason
            values = {v.key: v.value for v in diagnostics[-1].status[0].values} if diagnostics else {}
            reason = values.get("last stop", "")
            return values.get("clutch") == "open"

        for _ in range(5):  # a busy computer may keep hands from coming before that
            made.follow(0.6, moving)
            good_s = spoil(made, fault, seen[0], random.uniform(0.2, 0.5))
            made.stream(random.uniform(0.1, 0.7), lambda t: seen)  # as if nothing had been
            made.check_stop(good_s)
            diagnostics.clear()
            made.client.until(is_open, what=f"the word that the clutch is open: {fault}")
            if fault in reason:
                break
            assert "stopped coming" in reason or "s old" in reason, reason
        assert fault in reason
    times, positions = np.array([t for t, _ in made.poses]), np.array([p for _, p in made.poses])
    moved = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    assert (moved <= 0.25 * np.maximum(np.diff(times) + 0.005, 0.025) + 1e-9).all()  # 2.5 steps at full speed
    assert ((positions >= [0.2, -0.4, 0.05]) & (positions <= [0.7, 0.4, 0.7])).all()
    status, output = made.process.stop()
    stops = [line for line in output.splitlines() if "stopped: " in line]
    assert status == 0 and not [fault for fault in FAULTS if not any(fault in line for line in stops)], output


def test_a_joystick_without_the_button_and_a_second_tracker_are_reported(robot):
    from diagnostic_msgs.msg import DiagnosticArray
    from hand_pose_3d.msg import HandPose3DArray
    from sensor_msgs.msg import Joy

    made = robot("-p", "clutch.joy_button:=12")
    diagnostics = made.client.listen("/diagnostics", DiagnosticArray)
    joy = made.ros.create_publisher(Joy, "/joy", 5)

    def with_joystick(buttons: int):
        def hands_at(t: float):
            joy.publish(Joy(buttons=[1] * buttons))
            return [a_hand(0.0)]

        return hands_at

    def said(words: str):
        return lambda: any(words in status.message for array in diagnostics for status in array.status)

    made.stream(6.0, with_joystick(8), until=said("clutch.joy_button is 12, but the joystick has 8 buttons"))
    assert said("the joystick has 8 buttons")()
    diagnostics.clear()
    second = made.ros.create_publisher(HandPose3DArray, "/hand_pose_3d/hands", 5)
    made.stream(6.0, with_joystick(13), until=said("2 publishers of hands on /hand_pose_3d/hands"))
    assert said("2 publishers of hands")()
    made.ros.destroy_publisher(second)


def test_a_joysticks_button_is_the_clutch_and_frames_come_from_tf(robot):
    from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from sensor_msgs.msg import Joy

    tf2_msgs = pytest.importorskip("tf2_msgs.msg")
    made = robot("-p", "camera_from:=tf", "-p", "effector_frame:=tool", "-p", "clutch.joy_button:=1")
    joy = made.ros.create_publisher(Joy, "/joy", 5)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    frames = made.ros.create_publisher(tf2_msgs.TFMessage, "/tf_static", latched)
    camera, tool = TransformStamped(child_frame_id="camera_optical"), TransformStamped(child_frame_id="tool")
    camera.header.frame_id = tool.header.frame_id = "base_link"
    camera.transform.rotation.z = camera.transform.rotation.w = 0.5**0.5  # the camera's x is the base's y
    tool.transform.translation.x, tool.transform.translation.z = 0.4, 0.3
    frames.publish(tf2_msgs.TFMessage(transforms=[camera, tool]))

    def held(button: int, at_m: float = 0.0, speed: float = 0.0):
        def hands_at(t: float):
            joy.publish(Joy(buttons=[0, button]))
            return [a_hand(at_m + speed * t)]

        return hands_at

    closed = lambda: bool(made.engaged and made.engaged[-1].data)  # noqa: E731
    in_camera = made.client.listen("/hand_teleop/pinch", PoseWithCovarianceStamped)
    made.stream(0.6, held(1))
    assert not closed()  # it was not seen open
    for _ in range(20):
        made.stream(0.3, held(0))
        assert not closed()
        first = len(made.poses)
        made.stream(1.0, held(1), until=closed)
        made.stream(0.6, held(1, 0.0, 0.15))
        if closed():
            break
    assert closed()
    assert made.poses[first][1] == pytest.approx([0.4, 0.0, 0.3], abs=5e-3)
    x, y, z = made.poses[-1][1] - [0.4, 0.0, 0.3]
    assert y > 0.03 and abs(x) < 0.01 and abs(z) < 0.01
    seen, based = in_camera[-1], made.pinches[-1]
    assert (seen.header.frame_id, based.header.frame_id) == ("camera_optical", "base_link")
    (c, b), covariance = (m.pose.pose.position for m in (seen, based)), np.reshape(based.pose.covariance, (6, 6))
    assert (b.x, b.y, b.z) == pytest.approx((-c.y, c.x, c.z), abs=0.02)
    assert covariance == pytest.approx(covariance.T) and np.linalg.eigvalsh(covariance).min() > 0
    made.stream(5.0, held(0, 0.09), until=lambda: not closed())
    assert not closed()


@pytest.mark.parametrize("moving", [True, False])
def test_a_robot_whose_transforms_end_opens_the_clutch(robot, moving):
    """Unless its frame is static, which says nothing of where it is."""
    from geometry_msgs.msg import TransformStamped
    from rclpy.qos import DurabilityPolicy, QoSProfile

    tf2_msgs = pytest.importorskip("tf2_msgs.msg")
    made = robot("-p", "effector_frame:=tool")
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    frames = made.ros.create_publisher(tf2_msgs.TFMessage, *(("/tf", 5) if moving else ("/tf_static", latched)))
    tool = TransformStamped(child_frame_id="tool")
    tool.header.frame_id = "base_link"
    tool.transform.rotation.w, tool.transform.translation.x, tool.transform.translation.z = 1.0, 0.45, 0.3

    def hands_at(t: float):
        frames.publish(tf2_msgs.TFMessage(transforms=[tool]))
        return [a_hand(0.0)]

    for _ in range(20):
        made.stream(0.4, hands_at)
        made.stream(0.1, lambda t: [a_hand(0.0)])
        if not made.engage().success:
            continue
        begin = len(made.engaged)
        made.stream(1.5, lambda t: [a_hand(min(0.1 * t, 0.15))], until=lambda: not made.engaged[-1].data)
        stopped = not all(message.data for message in made.engaged[begin:])
        if stopped == moving:
            break
    assert stopped == moving


def test_a_robot_that_stays_behind_opens_the_clutch(robot):
    from diagnostic_msgs.msg import DiagnosticArray
    from geometry_msgs.msg import TransformStamped

    tf2_msgs = pytest.importorskip("tf2_msgs.msg")
    made = robot("-p", "effector_frame:=tool")
    frames = made.ros.create_publisher(tf2_msgs.TFMessage, "/tf", 5)
    reports = made.client.listen("/diagnostics", DiagnosticArray)
    tool = TransformStamped(child_frame_id="tool")
    tool.header.frame_id = "base_link"
    tool.transform.rotation.w, tool.transform.translation.x, tool.transform.translation.z = 1.0, 0.45, 0.3

    def hands_at(t: float):
        frames.publish(tf2_msgs.TFMessage(transforms=[tool]))  # it does not move
        return [a_hand(min(0.15 * t, 0.3))]

    def said() -> bool:
        words = [entry.value for report in reports for status in report.status for entry in status.values]
        return any("m from its target" in word for word in words)

    for _ in range(20):
        made.stream(0.3, lambda t: hands_at(0.0))
        made.engage()
        made.stream(4.0, hands_at, until=said)
        if said():
            break
    assert said() and not made.engaged[-1].data
    assert np.abs([place for _, place in made.poses] - np.array([0.45, 0, 0.3])).max() < 0.13


def test_images_without_a_stamp_are_refused_in_words(robot):
    from diagnostic_msgs.msg import DiagnosticArray

    made = robot()
    reports = made.client.listen("/diagnostics", DiagnosticArray)

    def said() -> bool:
        return any("has no stamp" in e.value for report in reports for s in report.status for e in s.values)

    made.stream(10.0, lambda t: [a_hand(0.0)], until=said, stamp_ns=0)
    assert said()


def test_a_killed_node_is_silent_and_a_new_one_is_off(robot):
    made = robot()
    made.follow(0.4, lambda t: [a_hand(0.2 * t)], least_m=0.01)
    made.process.popen.send_signal(signal.SIGKILL)
    made.process.popen.wait()
    made.client.spin(0.3)
    count = len(made.poses)
    again = robot()
    made.client.until(lambda: not made.engaged[-1].data, what="the new node's first word")
    again.stream(0.5, lambda t: [a_hand(0.1 * t)])
    assert len(made.poses) == count and not again.poses


def test_a_node_that_was_halted_does_not_go_on_by_itself(robot):
    made = robot()
    made.follow(0.6, lambda t: [a_hand(0.2 * t)])
    made.process.popen.send_signal(signal.SIGSTOP)
    made.stream(0.2, lambda t: [a_hand(0.1)])  # within stop.max_image_age: what has queued is not stale
    made.process.popen.send_signal(signal.SIGCONT)
    made.stream(5.0, lambda t: [a_hand(0.1)], until=lambda: not made.engaged[-1].data)
    assert not made.engaged[-1].data
    count = len(made.poses)
    made.stream(0.7, lambda t: [a_hand(0.1 + 0.1 * t)])
    assert all((position == made.poses[-1][1]).all() for _, position in made.poses[count:])


def test_the_other_hands_pinch_is_the_clutch(robot):
    made = robot()
    closed = lambda: bool(made.engaged and made.engaged[-1].data)  # noqa: E731
    for _ in range(20):
        made.stream(0.4, lambda t: [a_hand(0.0), a_hand(0.2, Side.LEFT)])
        assert not closed()
        made.stream(1.0, lambda t: [a_hand(0.0), a_hand(0.2, Side.LEFT, pinch=True)], until=closed)
        if closed():
            break
    assert closed()
    made.stream(5.0, lambda t: [a_hand(0.05), a_hand(0.2, Side.LEFT)], until=lambda: not closed())
    assert not closed()


def test_a_robot_hand_gets_trajectories_and_joint_states_while_the_clutch_is_closed(robot):
    pytest.importorskip("dex_retargeting")
    from sensor_msgs.msg import JointState
    from trajectory_msgs.msg import JointTrajectory

    made = robot("-p", "robot_hand:=plain")
    states = made.client.listen("/hand_teleop/robot_hand/joint_states", JointState)
    trajectories = made.client.listen("/hand_teleop/robot_hand/trajectory", JointTrajectory)
    made.stream(0.5, lambda t: [a_hand(0.1 * t)])
    assert not states and not trajectories  # the clutch is open
    for _ in range(5):
        made.follow(0.6, lambda t: [a_hand(0.2 * t)])
        if len(states) > 3 and len(trajectories) > 3:
            break
    state, trajectory = states[-1], trajectories[-1]
    assert {"index_mcp_flexion", "thumb_cmc_abduction"} <= set(state.name) and np.isfinite(state.position).all()
    assert trajectory.joint_names == list(state.name) and len(trajectory.points) == 1
    assert trajectory.points[0].positions == pytest.approx(state.position)
    assert (trajectory.points[0].time_from_start.sec, trajectory.points[0].time_from_start.nanosec) == (0, 50_000_000)


def test_a_rival_with_a_higher_score_does_not_move_the_pinch(robot):
    made = robot()
    for _ in range(10):
        made.follow(0.6, lambda t: [a_hand(0.2 * t)])
        made.pinches.clear()
        made.stream(0.5, lambda t: [a_hand(0.4, score=0.99).replace(track_id=7), a_hand(0.05)])
        if made.engaged[-1].data and len(made.pinches) > 5:
            break
    assert made.engaged[-1].data
    places = np.array([[p.x, p.y, p.z] for p in (message.pose.pose.position for message in made.pinches)])
    assert np.ptp(places, axis=0).max() < 0.2  # the rival is 0.35 m away


def test_numbers_that_are_none_do_not_end_the_node(robot):
    from hand_pose_3d.msg import HandPose3D, HandPose3DArray

    made = robot()
    for hand in (HandPose3D(side=9), HandPose3D(side=2, score=float("nan")), HandPose3D(side=2, scale_source=3)):
        made.hands.publish(HandPose3DArray(hands=[hand]))
        made.client.spin(0.1)
    answer = made.engage()
    assert made.process.popen.poll() is None and (answer.success or "good pose" in answer.message)


def test_parameters_are_refused_in_words():
    pytest.importorskip("rclpy")
    pytest.importorskip("trajectory_msgs")
    arguments = ("-m", "hand_pose_3d.ros.teleop", "--ros-args", "-p")
    status, output = Process(*arguments, "workspace.x_min:=0.9").wait()
    assert status == 1 and "workspace.x_min (0.9 m) must be less than x_max" in output
    status, output = Process(*arguments, "stop.within:=0.5").wait()
    assert status == 1 and "stop.within" in output and "Traceback" not in output
