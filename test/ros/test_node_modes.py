"""The node started in other ways: parameters, transports, lifecycle, signals, namespaces."""

from __future__ import annotations

import os
import signal
import time

import cv2
import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")

from fake_estimator import FakeEstimator, make_hand
from ros_client import HERE, Process

from hand_pose_3d.skeleton import Side


def xyz(points) -> np.ndarray:
    return np.array([[p.x, p.y, p.z] for p in points])


def malformed(client):
    yield "step", client.make_image(step=63)
    yield "data", client.make_image(data=b"\0" * 100)
    yield "sides", client.make_image(width=0, height=0, step=0, data=b"")
    yield "encoding", client.make_image(encoding="klingon8")
    yield "depth as colour", client.make_image(encoding="16UC1")
    yield "huge", client.make_image(width=2**31, height=2**31)


def test_malformed_images_are_counted_and_survived(client, start_node):
    process = start_node()
    client.connect()
    bad = list(malformed(client))

    def all_rejected() -> bool:
        for _, message in bad:
            client.image.publish(message)
            client.spin(0.1)
        found.append(client.diagnosis(lambda status, values: values["image messages rejected"] != "0"))
        return int(found[-1][1]["image messages rejected"]) >= len(bad)

    found: list = []
    client.until(all_rejected, what="as many rejected; a busy node gets only the newest")
    assert found[-1][0].level in (b"\1", b"\2")
    assert client.got["~/hands"] == []
    assert client.ask(client.make_image(100)).hands
    client.diagnosis(lambda status, values: status.level == b"\0" and values["images answered"] == "1")
    code, output = process.stop()
    assert code == 0 and "image rejected" in output and "Traceback" not in output


def test_silent_camera_is_stale(client, start_node):
    start_node(image_timeout=0.5)
    client.connect()
    client.diagnosis(lambda status, values: status.level == b"\1" and "no image on /image" in status.message)
    client.ask(client.make_image(100))
    client.diagnosis(lambda status, values: status.level == b"\3")

    def recovered() -> bool:
        client.image.publish(client.make_image(100))
        client.spin(0.05)
        return any(status.level == b"\0" for m in client.got["/diagnostics"][-1:] for status in m.status)

    client.until(recovered)


def test_old_images_are_refused_when_asked_for(client, start_node):
    start_node(max_image_age=1.0)
    client.connect()

    def refused() -> bool:
        client.image.publish(client.make_image(100))
        client.spin(0.1)
        told = [status for message in client.got["/diagnostics"] for status in message.status]
        return any(status.level == b"\2" and "too old on arrival" in status.message for status in told)

    client.until(refused)

    def answered() -> bool:
        fresh = client.make_image(100)
        fresh.header.stamp = client.ros.get_clock().now().to_msg()
        client.image.publish(fresh)
        client.spin(0.1)
        return any(answer.hands for answer in client.got["~/hands"])

    client.until(answered)


def test_depth_that_cannot_be_heard_is_named(client, start_node):
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    client.ros.destroy_publisher(client.depth)
    unheard = client.ros.create_publisher(
        Image, "depth", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    ignored = "qos_overrides./image.subscription.reliability"
    process = start_node(reliability="reliable", **{ignored: "best_effort"})
    client.connect()
    unheard.publish(client.make_image(0))
    client.ask(client.make_image(100))
    client.diagnosis(
        lambda status, values: status.level == b"\1" and "publisher of depth offers a QoS" in status.message
    )
    _, output = process.stop()
    assert f"{ignored} is ignored" in output and "set parameter reliability" in output


def test_another_transport_is_waited_for_anew(client, start_node):
    start_node(image_timeout=0.5)
    client.connect()
    client.ask(client.make_image(100))
    assert client.set_parameters(image_transport="compressed")[0].successful
    client.diagnosis(
        lambda status, values: "no image on /image/compressed yet: its publisher is silent" in status.message
    )


def test_another_transport_leaves_no_subscription_behind(active_node):
    from rclpy.parameter import Parameter

    def heard():
        return sorted(
            s.topic_name for s in active_node.subscriptions if "image" in s.topic_name or "depth" in s.topic_name
        )

    assert heard() == ["/depth", "/image"]
    for transport, topic in (("compressed", "/image/compressed"), ("raw", "/image")):
        changes = [Parameter("image_transport", value=transport)]
        assert active_node.set_parameters_atomically(changes).successful
        assert heard() == ["/depth", topic] and active_node.parameters.image_transport == transport
    active_node.trigger_deactivate()
    assert heard() == []


def test_enable_says_when_images_will_be_processed(client, start_node):
    from std_srvs.srv import SetBool

    start_node(autostart=False)
    for wanted, says in ((True, "once the node is active; it is unconfigured"), (False, "paused")):
        answer = client.call(SetBool, "~/enable", SetBool.Request(data=wanted))
        assert answer.success and says in answer.message


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_compressed_images(client, start_node, suffix):
    from sensor_msgs.msg import CompressedImage

    start_node(image_transport="compressed")
    client.connect()
    message = CompressedImage(format="jpeg" if suffix == ".jpg" else "png")
    message.header = client.make_image().header
    message.data = cv2.imencode(suffix, np.full((48, 64, 3), 100, np.uint8))[1].tobytes()
    hand = client.ask(message, client.compressed).hands[0]
    expected = make_hand(Side.RIGHT, 100 / 255).keypoints_px
    np.testing.assert_allclose(xyz(hand.keypoints_2d)[:, :2], expected, atol=1e-9)
    message.data = message.data[:20]

    def rejected() -> bool:  # one that comes while the node subscribes anew is lost
        client.stamp(message)
        client.compressed.publish(message)
        client.spin(0.1)
        told = [status for each in client.got["/diagnostics"] for status in each.status]
        return any("images rejected: " in status.message for status in told)

    client.until(rejected)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("device", "gpu", "cuda:N"),
        ("max_hands", "99", "max_hands"),
        ("mirrored", "maybe", "mirrored"),
        ("use_sim_time", "1", "use_sim_time"),
        ("qos_overrides./image.subscription.depth", "deep", "expecting type 'INTEGER'"),
        ("qos_overrides./camera_info.subscription.depth", "-3", "queue size"),
    ],
)
def test_bad_parameter_at_the_start_is_one_sentence(start_node, name, value, says):
    code, output = start_node(**{name: value}).wait()
    assert code == 1 and says in output and "Traceback" not in output


def test_a_failed_configure_under_a_manager_is_an_error_in_diagnostics(make_node):
    from fake_estimator import build
    from rclpy.lifecycle import TransitionCallbackReturn

    from hand_pose_3d.errors import WeightsError
    from hand_pose_3d.ros.node import HandPoseNode

    faults, told = [WeightsError("there are no such weights")], []

    def factory(parameters):
        if faults:
            raise faults.pop()
        return build(parameters)

    node = make_node(HandPoseNode, factory, device="cpu", autostart=False)
    node._diagnostics.publish = lambda message: told.append(message.status[0])
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
        node._report()
        assert told[-1].level == b"\2" and told[-1].message == "unconfigured: there are no such weights"
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        node._report()
        assert told[-1].level == b"\0"
    finally:
        node.close(30.0)


def test_an_override_that_rcl_refuses_ends_nothing_at_run_time(make_node):
    from fake_estimator import build
    from rclpy.lifecycle import TransitionCallbackReturn
    from rclpy.parameter import Parameter
    from std_srvs.srv import SetBool

    from hand_pose_3d.ros.node import HandPoseNode

    def made(topic):
        node = make_node(HandPoseNode, build, device="cpu", **{f"qos_overrides.{topic}.subscription.history": "bogus"})
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        return node

    node = made("/image/compressed")
    node.trigger_activate()
    changes = {"image_transport": "compressed", "precision": "bfloat16"}
    result = node.set_parameters_atomically([Parameter(name, value=value) for name, value in changes.items()])
    assert not result.successful and "cannot listen to images" in result.reason and not node._networks.loading
    assert node.parameters.image_transport == "raw" and "/image" in {each.topic_name for each in node.subscriptions}
    node.close(30.0)

    node = made("/image")
    node._on_enable(SetBool.Request(data=False), SetBool.Response())
    node.trigger_activate()
    response = node._on_enable(SetBool.Request(data=True), SetBool.Response())
    assert not response.success and "cannot listen to images" in response.message
    node.close(30.0)


def test_networks_that_a_gpu_has_no_memory_for_are_loaded_on_the_cpu(make_node):
    from rclpy.lifecycle import TransitionCallbackReturn

    from hand_pose_3d.errors import OutOfMemoryError
    from hand_pose_3d.ros.node import HandPoseNode

    def build(parameters):
        if parameters.device != "cpu":
            raise OutOfMemoryError("the GPU has no memory left")
        return FakeEstimator("cpu")

    node = make_node(HandPoseNode, build)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node._networks.estimator.device == "cpu"
    node.close(30.0)


def picture(stamp_s=5.0):
    from sensor_msgs.msg import Image

    image = Image(height=48, width=64, encoding="rgb8", step=192, data=bytes([100]) * (64 * 48 * 3))
    image.header.stamp.sec, image.header.stamp.nanosec = int(stamp_s), round(stamp_s % 1 * 1e9)
    return image


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def active_node(make_node):
    """An active node in this process."""
    from fake_estimator import build

    from hand_pose_3d.ros.node import HandPoseNode

    node = make_node(HandPoseNode, build, device="cpu", threads=2)
    node.trigger_configure()
    node.trigger_activate()
    yield node
    node.close(30.0)


def deliver(node, topic, message):
    next(each.callback for each in node.subscriptions if each.topic_name == topic)(message)


def test_an_image_from_before_a_pause_is_not_answered_after_it(active_node):
    node, answered = active_node, []

    def publish(hands, header, *_):
        answered.append(header.stamp.sec)
        return []

    node._outputs.publish = publish
    with node._networks.lock:
        deliver(node, "/image", picture(5))
        wait_for(lambda: node._mailbox._item is None)  # the worker has it, and waits
        node._inputs.close()
        node._listen()
    deliver(node, "/image", picture(6))
    wait_for(lambda: answered)
    assert answered == [6]


def test_the_number_of_threads_reaches_conversions_at_once(active_node, monkeypatch):
    from rclpy.parameter import Parameter

    from hand_pose_3d.ros import node as module

    seen, convert = [], module.image_to_rgb

    def counted(message):
        seen.append(cv2.getNumThreads())
        return convert(message)

    monkeypatch.setattr(module, "image_to_rgb", counted)
    for stamp, threads in enumerate((2, 1, 2), 5):
        assert active_node.set_parameters_atomically([Parameter("threads", value=threads)]).successful
        deliver(active_node, "/image", picture(stamp))
        wait_for(lambda count=stamp - 4: len(seen) == count)
    assert seen == [2, 1, 2]


def test_values_of_another_type_are_refused_by_what_is_allowed(active_node):
    from rclpy.parameter import Parameter

    before = active_node.parameters
    for name, value, says in (
        ("max_hands", "x", "max_hands must be a whole number, not 'x'"),
        ("max_hands", 2.5, "max_hands must be a whole number, not 2.5"),
        ("score_threshold", "0.5", "score_threshold must be a number, not '0.5'"),
        ("mirrored", 1, "mirrored must be true or false, not 1"),
        ("max_hands", None, "max_hands must be a whole number, not None"),
        ("weights", __file__, "is no folder: name a folder"),
    ):
        result = active_node.set_parameters_atomically([Parameter(name, value=value)])
        assert not result.successful and says in result.reason, result.reason
    assert active_node.parameters is before and active_node.get_parameter("max_hands").value == before.max_hands


def test_images_in_which_no_hand_could_be_seen_are_rejected(active_node):
    image = picture()
    image.height, image.width, image.step, image.data = 8, 8, 24, bytes(192)
    deliver(active_node, "/image", image)
    wait_for(lambda: active_node._health._total["rejected_image"])
    assert not active_node._health._total["failed"]


@pytest.mark.parametrize("rectified", [False, True])
def test_raw_images_of_a_stereo_pair_are_told_from_rectified_ones(active_node, rectified):
    from rclpy.parameter import Parameter
    from sensor_msgs.msg import CameraInfo

    node, told = active_node, []
    node._diagnostics.publish = lambda message: told.append(message.status[0])
    assert node.set_parameters_atomically([Parameter("rectified", value=rectified)]).successful
    k = [60.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0]
    turn = cv2.Rodrigues(np.array([0, 0.02, 0]))[0].ravel().tolist()
    p = [60.0, 0.0, 31.5, 0.0, 0.0, 60.0, 23.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    deliver(node, "/camera_info", CameraInfo(width=64, height=48, k=k, p=p, r=turn))
    deliver(node, "/image", picture())
    wait_for(lambda: node._health._total["answered"])
    node._report()
    assert ("raw ones of a stereo pair" in told[-1].message) == (not rectified)


def test_another_transport_does_not_turn_back_time(active_node):
    from rclpy.parameter import Parameter
    from sensor_msgs.msg import CompressedImage

    deliver(active_node, "/image", picture(5.0))
    assert active_node.set_parameters_atomically([Parameter("image_transport", value="compressed")]).successful
    late = CompressedImage(format="png")
    late.header.stamp = picture(4.9).header.stamp
    deliver(active_node, "/image/compressed", late)
    assert active_node._health._total["late"] == 1


@pytest.mark.parametrize(
    ("source", "camera", "says"), [("depth", True, "nobody publishes /depth"), ("calibrated", False, "no calibrated")]
)
def test_metres_that_were_asked_for_and_are_missing_are_a_warning(make_node, source, camera, says):
    from fake_estimator import build
    from sensor_msgs.msg import CameraInfo

    from hand_pose_3d.ros.node import HandPoseNode

    node, told = make_node(HandPoseNode, build, device="cpu", scale_source=source), []
    node._diagnostics.publish = lambda message: told.append(message.status[0])
    node.trigger_configure()
    node.trigger_activate()
    if camera:
        info = CameraInfo(width=64, height=48, k=[60.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0])
        deliver(node, "/camera_info", info)
    deliver(node, "/image", picture())
    wait_for(lambda: node._health._total["answered"])
    node._report()
    node.close(30.0)
    assert told[-1].level == b"\1" and says in told[-1].message


def told_by(make_node, image="/image", info=None, **parameters):
    """The node's diagnosis after one image of a topic."""
    from fake_estimator import build

    from hand_pose_3d.ros.node import HandPoseNode

    arguments = ["--ros-args", "-r", f"image:={image}"]
    node, told = make_node(lambda *a, **k: HandPoseNode(*a, cli_args=arguments, **k), build, **parameters), []
    node._diagnostics.publish = lambda message: told.append(message.status[0])
    node.trigger_configure()
    node.trigger_activate()
    if info is not None:
        deliver(node, "/camera_info", info)
    message = picture(1e-9 * node.get_clock().now().nanoseconds)
    message.header.frame_id = "camera"
    deliver(node, image, message)
    wait_for(lambda: node._health._total["answered"])
    node._report()
    node.close(30.0)
    return told[-1]


@pytest.mark.parametrize(
    ("topic", "rectified", "distortion", "says"),
    [
        ("/cam/image_rect_color", False, 0.3, "seem to be rectified: set parameter rectified"),
        ("/cam/image_rect_color", True, 0.3, ""),
        ("/cam/image_rect", False, 0.0, ""),
        ("/cam/image_raw", True, 0.3, "seem to be raw ones"),
        ("/cam/image_raw", False, 0.3, ""),
        ("/direct/image", False, 0.3, ""),
        ("/raw_cam/image_rect", True, 0.3, ""),
        ("/infra/image_rect_raw", True, 0.3, ""),
    ],
)
def test_rectified_images_that_are_taken_for_raw_ones_are_said(make_node, topic, rectified, distortion, says):
    from sensor_msgs.msg import CameraInfo

    k = [60.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0]
    p = [60.0, 0.0, 31.5, 0.0, 0.0, 60.0, 23.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    info = CameraInfo(width=64, height=48, k=k, p=p, distortion_model="plumb_bob", d=[distortion, 0.0, 0.0, 0.0, 0.0])
    status = told_by(make_node, topic, info, rectified=rectified, device="cpu")
    assert (says in status.message and status.level == b"\1") if says else status.level == b"\0", status.message


def test_a_size_that_nobody_measured_is_said(make_node):
    from sensor_msgs.msg import CameraInfo

    info = CameraInfo(width=64, height=48, k=[60.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0])
    status = told_by(make_node, info=info, scale_source="calibrated", device="cpu")
    assert status.level == b"\1" and "people's mean" in status.message
    status = told_by(make_node, info=info, scale_source="calibrated", reference_length=0.0435, device="cpu")
    assert status.level == b"\0"


def test_images_that_cannot_be_listened_to_are_an_error_in_diagnostics(make_node, monkeypatch):
    from fake_estimator import build

    from hand_pose_3d.ros.node import HandPoseNode

    def refuse(*_):
        raise RuntimeError("no such QoS")

    node, told = make_node(HandPoseNode, build, device="cpu"), []
    node._diagnostics.publish = lambda message: told.append(message.status[0])
    node.trigger_configure()
    monkeypatch.setattr(node, "_listen", refuse)
    node.trigger_activate()
    node._report()
    node.close(30.0)
    assert told[-1].level == b"\2" and "cannot listen to images: no such QoS" in told[-1].message


def model(client, name):
    """Wait until /diagnostics names this model; the other values."""
    return client.diagnosis(lambda status, values: values["model"] == name)[1]


def test_old_networks_answer_until_others_are_loaded(client, start_node, tmp_path):
    start_node()
    client.connect()
    (tmp_path / "slow").touch()
    assert client.set_parameters(weights=str(tmp_path))[0].successful
    client.diagnosis(lambda status, values: values["other networks"] == "loading")
    assert model(client, "fake")
    assert client.ask(client.make_image(100)).hands
    (tmp_path / "slow").unlink()
    assert model(client, "other")["other networks"] == ""
    tmp_path.rmdir()  # what is loaded goes on
    assert client.set_parameters(score_threshold=0.4)[0].successful
    assert not client.set_parameters(max_hands=1, device="auto", weights="/nowhere")[2].successful
    assert client.ask(client.make_image(100)).hands


def test_single_images_get_other_networks_than_a_video(client, start_node):
    start_node()
    client.connect()
    client.diagnosis(lambda status, values: values["keypoints"] == "fast")
    assert client.set_parameters(tracking=False)[0].successful
    client.diagnosis(lambda status, values: values["keypoints"] == "thorough")
    assert client.ask(client.make_image(100)).hands


def test_networks_that_do_not_load_are_reported_and_the_old_ones_stay(client, start_node, tmp_path):
    from rcl_interfaces.srv import GetParameters

    process = start_node()
    client.connect()
    (tmp_path / "bad").touch()
    assert client.set_parameters(weights=str(tmp_path))[0].successful
    _, values = client.diagnosis(lambda status, values: status.level == b"\1" and "no fake weights" in status.message)
    assert values["networks failed to load"] == "1"
    assert client.ask(client.make_image(100)).hands
    assert model(client, "fake")["other networks"] == ""
    request = GetParameters.Request(names=["weights"])
    assert client.call(GetParameters, "~/get_parameters", request).values[0].string_value == ""  # the truth
    _, output = process.stop()
    assert "keeping the current ones" in output and "Traceback" not in output


def test_networks_that_are_not_wanted_any_more_are_not_used(client, start_node, tmp_path):
    process = start_node()
    client.connect()
    (tmp_path / "slow").touch()
    client.set_parameters(weights=str(tmp_path))
    client.set_parameters(weights="")
    (tmp_path / "slow").unlink()
    client.spin(1.5)
    client.got["/diagnostics"].clear()
    _, values = client.diagnosis(lambda status, values: True)
    assert (values["model"], values["other networks"]) == ("fake", "")
    (tmp_path / "slow").touch()
    client.set_parameters(weights=str(tmp_path))
    code, output = process.stop()  # in the middle of loading, which would take for ever
    assert code == 0 and "Traceback" not in output


def test_lifecycle_by_an_external_manager(client, start_node):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState, GetState

    start_node(autostart=False)

    def change(transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return client.call(ChangeState, "~/change_state", request).success

    def state() -> str:
        return client.call(GetState, "~/get_state", GetState.Request()).current_state.label

    assert state() == "unconfigured"
    for _ in range(3):
        assert change(Transition.TRANSITION_CONFIGURE) and state() == "inactive"
        for _ in range(2):
            assert change(Transition.TRANSITION_ACTIVATE) and state() == "active"
            client.connect()
            assert client.answered().hands
            assert change(Transition.TRANSITION_DEACTIVATE) and state() == "inactive"
            client.until(lambda: client.ros.count_subscribers("image") == 0)
        assert change(Transition.TRANSITION_CLEANUP) and state() == "unconfigured"
        client.until(lambda: client.ros.count_publishers("/hand_pose_3d/hands") == 0)
    assert change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN) and state() == "finalized"


def test_rviz_opens_in_the_frame_of_the_images_that_arrive(client, start_node, tmp_path, monkeypatch):
    rviz = tmp_path / "rviz2"
    rviz.write_text("#!/bin/sh\necho CALLED $*; cat $2\n")
    rviz.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    start_node()
    client.connect()
    viewer = Process("-m", "hand_pose_3d.ros.rviz", "--ros-args", "-r", "/hand_pose_3d/markers:=/arm/markers")
    client.camera_info()
    while viewer.popen.poll() is None:  # the first answers may come before the node has found the viewer
        hand = client.ask(client.make_image(100)).hands[0]
    code, output = viewer.wait()
    assert code == 0 and "--ros-args -r /hand_pose_3d/markers:=/arm/markers" in output
    config = yaml.safe_load(output.partition("CALLED")[2].partition("\n")[2])["Visualization Manager"]
    assert config["Global Options"]["Fixed Frame"] == "camera_optical"
    points = xyz(hand.keypoints)
    focal = [config["Views"]["Current"]["Focal Point"][axis] for axis in "XYZ"]
    np.testing.assert_allclose(focal, (points.min(0) + points.max(0)) / 2, atol=1e-6)


def test_points_are_all_keypoints_of_placed_hands(client, monkeypatch, start_node):
    from sensor_msgs.msg import PointCloud2

    monkeypatch.setenv("PYTHONPATH", str(HERE / "stand_ins"), prepend=os.pathsep)
    start_node()
    client.connect()
    client.camera_info()
    clouds = client.listen("~/points", PointCloud2)
    client.until(lambda: client.ros.count_publishers("/hand_pose_3d/points"))
    client.be_found()
    hands = client.ask(client.make_image(220)).hands
    client.until(lambda: clouds)
    assert [field.name for field in clouds[0].fields] == ["x", "y", "z", "keypoint", "track_id", "score"]
    points = np.frombuffer(clouds[0].data, np.float32).reshape(42, 6)
    assert clouds[0].header.frame_id == "camera_optical" and clouds[0].width == 42
    np.testing.assert_allclose(points[:, :3], np.concatenate([xyz(hand.keypoints) for hand in hands]), atol=1e-6)
    np.testing.assert_array_equal(points[:, 3], [*range(21), *range(21)])
    np.testing.assert_array_equal(points[:, 4], [1] * 21 + [2] * 21)
    np.testing.assert_allclose(points[:, 5], np.concatenate([hand.keypoint_scores for hand in hands]), atol=1e-6)
    client.ask(client.make_image(0))
    client.until(lambda: len(clouds) == 2)
    assert clouds[1].width == 0 and len(clouds[1].data) == 0


def test_camera_info_that_was_latched_before_the_node_came(client, start_node):
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from sensor_msgs.msg import CameraInfo

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    client.ros.destroy_publisher(client.info)
    publisher = client.ros.create_publisher(CameraInfo, "camera_info", latched)
    publisher.publish(client.info_message())
    start_node()
    client.connect()
    client.ask_until(lambda: client.got["~/hands"][-1].hands[0].scale_source == 1)


def test_camera_info_that_came_once_is_kept_through_the_lifecycle(client, start_node):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    start_node(autostart=False)
    client.until(lambda: client.ros.count_subscribers("camera_info"))
    client.be_found()
    client.camera_info()  # once, and before the node is even configured

    def change(*names: str) -> None:
        for name in names:
            request = ChangeState.Request(transition=Transition(id=getattr(Transition, f"TRANSITION_{name}")))
            assert client.call(ChangeState, "~/change_state", request).success

    def scale_source() -> int:
        client.connect()
        return client.ask(client.make_image(100)).hands[0].scale_source

    change("CONFIGURE", "ACTIVATE")
    assert scale_source() == 1
    change("DEACTIVATE", "CLEANUP", "CONFIGURE", "ACTIVATE")
    assert scale_source() == 1
    assert client.set_parameters(reliability="best_effort")[0].successful
    assert scale_source() == 1


def test_images_of_another_type_are_named_with_the_parameter(client, start_node):
    from sensor_msgs.msg import CompressedImage

    publisher = client.ros.create_publisher(CompressedImage, "/front/compressed", 5)
    client.ros.create_publisher(CompressedImage, "/front/points", 5)
    process = start_node("image:=/front/compressed", "depth:=/front/points", image_timeout=0.5)
    status, _ = client.diagnosis(lambda status, values: "image_transport" in status.message)
    assert status.level == b"\1" and "sensor_msgs/msg/CompressedImage" in status.message
    answers = client.set_parameters(image_transport="compressed", image_timeout=300.0)
    assert all(answer.successful for answer in answers)
    client.until(publisher.get_subscription_count)
    client.be_found()
    message = CompressedImage(format="png", header=client.make_image().header)
    message.data = cv2.imencode(".png", np.full((48, 64, 3), 100, np.uint8))[1].tobytes()
    assert client.ask(message, publisher).hands
    client.diagnosis(lambda status, values: "takes sensor_msgs/msg/Image there" in status.message)  # the depth
    _, output = process.stop()
    assert output.count("set image_transport to compressed") == 1


def test_a_missing_module_says_what_to_install(monkeypatch, tmp_path):
    (tmp_path / "cv2.py").write_text("raise ModuleNotFoundError(\"No module named 'cv2'\", name='cv2')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    code, output = Process(str(HERE / "fake_estimator.py")).wait()
    assert code == 1 and "module cv2 is missing" in output and "install_python.sh" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("module", ["node", "image_source"])
def test_parameter_files_that_cannot_be_read_are_one_sentence(tmp_path, module):
    bad = tmp_path / "bad.yaml"
    bad.write_text("/**:\n  ros__parameters:\n    model: [1, a]\n")
    for file in (bad, tmp_path / "missing.yaml"):
        code, output = Process("-m", f"hand_pose_3d.ros.{module}", "--ros-args", "--params-file", str(file)).wait()
        assert code == 1 and file.name in output and "Traceback" not in output and output.count("\n") < 3


@pytest.mark.parametrize("topics", [("image:=/x", "camera_info:=/x"), ("image:=/x", "depth:=/x/compressed")])
def test_one_topic_for_two_types_is_refused(start_node, topics):
    process = start_node(*topics, **({"image_transport": "compressed"} if "/compressed" in topics[1] else {}))
    code, output = process.wait()
    assert code == 1 and "one topic" in output and "Traceback" not in output


def test_whole_numbers_are_taken_for_floats_at_the_start(client, start_node):
    from rcl_interfaces.srv import GetParameters

    start_node(score_threshold=0, marker_lifetime=2, tf_prefix=7)
    client.connect()
    request = GetParameters.Request(names=["score_threshold", "marker_lifetime", "tf_prefix"])
    values = client.call(GetParameters, "~/get_parameters", request).values
    assert [value.type for value in values] == [3, 3, 4]
    assert (values[0].double_value, values[1].double_value, values[2].string_value) == (0.0, 2.0, "7")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node(client, start_node, number):
    process = start_node()
    client.connect()
    client.ask(client.make_image(100))
    code, output = process.stop(number)
    assert code == 0 and "Traceback" not in output


def test_two_nodes_in_two_namespaces(client, start_node):
    from hand_pose_3d.msg import HandPose3DArray

    start_node("__ns:=/left_arm", "image:=/image")
    start_node("__ns:=/right_arm", "image:=/image")
    answers = [client.listen(f"/{name}/hand_pose_3d/hands", HandPose3DArray) for name in ("left_arm", "right_arm")]
    client.until(lambda: client.ros.count_subscribers("/image") == 2)

    def same_image() -> bool:
        client.image.publish(client.make_image(100))
        client.spin(0.2)
        return any(left.header == right.header for left in answers[0] for right in answers[1])

    client.until(same_image)
    assert {len(answer.hands) for side in answers for answer in side} == {1}


def test_fake_estimator_answers_by_brightness():
    estimator = FakeEstimator()
    counts = [len(estimator(np.full((4, 4, 3), value, np.uint8))) for value in (0, 100, 220)]
    assert counts == [0, 1, 2]
