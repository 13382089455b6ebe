"""The node in a process of its own, over DDS: what comes out belongs to what went in. One node takes all tests."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("rclpy")

from fake_estimator import SCALE_M, make_hand
from scipy.spatial.transform import Rotation

from hand_pose_3d.camera import Camera
from hand_pose_3d.skeleton import BONES, WRIST, Side


def xyz(points) -> np.ndarray:
    return np.array([[p.x, p.y, p.z] for p in points])


def matrix(q) -> np.ndarray:
    return Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()


@contextmanager
def patience(client):
    """The node waits for depth as long as a busy computer needs to bring it."""
    client.set_parameters(depth_wait=10)
    yield
    client.set_parameters(depth_wait=0.05)


def test_hands_frames_and_markers_agree(steady):
    from sensor_msgs.msg import Image, JointState

    client = steady
    overlays = client.listen("~/overlay", Image)
    states = client.listen("~/joint_states", JointState)
    client.be_found()
    client.camera_info()
    image = client.make_image(220)
    array = client.ask(image)

    assert array.header == image.header
    assert [hand.side for hand in array.hands] == [Side.RIGHT, Side.LEFT]
    expected = make_hand(Side.RIGHT, 220 / 255, Camera(60, 60, 31.5, 23.5))
    right = array.hands[0]
    np.testing.assert_allclose(xyz(right.keypoints), expected.keypoints_m, atol=1e-9)
    np.testing.assert_allclose(xyz(right.keypoints_2d)[:, :2], expected.keypoints_px, atol=1e-9)
    np.testing.assert_allclose(xyz(right.keypoints_canonical), expected.keypoints_canonical, atol=1e-9)
    np.testing.assert_allclose(matrix(right.viewpoint), expected.rotation_camera_canonical, atol=1e-9)
    np.testing.assert_allclose(matrix(right.wrist.orientation), expected.rotation_camera_wrist, atol=1e-9)
    assert (right.track_id, right.scale_source) == (1, right.SCALE_ASSUMED)
    assert right.scale == pytest.approx(SCALE_M)

    client.until(lambda: len(client.got["~/hand"]) == 2 and client.got["/tf"] and client.got["~/markers"])
    assert client.got["~/hand"] == list(array.hands)
    client.until(lambda: len(client.got["/tf"][0].transforms) == 2)
    frames = {t.child_frame_id: t for t in client.got["/tf"][0].transforms}
    assert set(frames) == {"hand_right", "hand_left"}
    for hand, name in zip(array.hands, ("hand_right", "hand_left"), strict=True):
        assert frames[name].header == image.header
        t = frames[name].transform
        translation = np.array([t.translation.x, t.translation.y, t.translation.z])
        np.testing.assert_allclose(translation, xyz(hand.keypoints)[WRIST], atol=1e-5)
        # The frame maps canonical coordinates, times the scale, onto the keypoints.
        points = hand.scale * xyz(hand.keypoints_canonical) @ matrix(t.rotation).T + translation
        np.testing.assert_allclose(points, xyz(hand.keypoints), atol=1e-5)

    markers = {(m.ns, m.id): m for m in client.got["~/markers"][0].markers}
    assert len(markers) == 6
    for slot, hand in enumerate(array.hands):
        spheres, lines = markers["keypoints", slot], markers["bones", slot]
        assert spheres.header == image.header and (spheres.type, lines.type) == (spheres.SPHERE_LIST, lines.LINE_LIST)
        np.testing.assert_allclose(xyz(spheres.points), xyz(hand.keypoints), atol=1e-5)
        np.testing.assert_allclose(xyz(lines.points), xyz(hand.keypoints)[np.array(BONES).ravel()], atol=1e-5)
        assert len(spheres.colors) == 21 and len(lines.colors) == 40
        assert spheres.lifetime.sec + 1e-9 * spheres.lifetime.nanosec == pytest.approx(0.5)

    client.until(lambda: overlays and states, what="overlay and joint states while somebody listens")
    assert overlays[0].header == image.header and (overlays[0].width, overlays[0].height) == (64, 48)
    assert states[0].header == image.header and any(name.startswith("left_index") for name in states[0].name)
    assert len(states[0].name) == len(states[0].position) == len(set(states[0].name))
    angles = dict(zip(states[0].name, states[0].position, strict=True))
    assert angles["right_little_dip_flexion"] == angles["left_little_dip_flexion"] == -np.radians(25)  # the limit


def test_hand_that_is_gone_is_taken_back(steady):
    client = steady
    client.camera_info()
    client.ask(client.make_image(220))
    client.until(lambda: client.got["~/markers"] and client.got["/tf"])
    client.spin(0.2)
    frames = len(client.got["/tf"])
    empty = client.ask(client.make_image(0))
    assert empty.header.frame_id == "camera_optical" and empty.hands == []
    client.until(lambda: len(client.got["~/markers"]) == 2)
    gone = client.got["~/markers"][1].markers
    assert {(m.ns, m.id) for m in gone} == {(n, i) for n in ("keypoints", "bones", "label") for i in (0, 1)}
    assert all(m.action == m.DELETE for m in gone)
    client.ask(client.make_image(0))
    client.until(lambda: len(client.got["~/markers"]) == 3)
    assert client.got["~/markers"][2].markers == []
    assert len(client.got["/tf"]) == frames


def test_every_image_is_answered_in_order(steady):
    client = steady
    sent = []
    for k in range(400):
        image = client.make_image(31 + 4 * (k % 40))
        client.image.publish(image)
        sent.append(image.header.stamp)
        client.spin(0.03)
        if k > 40 and len(client.got["~/hands"]) >= 20:  # more images only where a busy computer answers few of them
            break
    client.until(lambda: client.got["~/hands"] and client.got["~/hands"][-1].header.stamp == sent[-1])
    stamps = [h.header.stamp for h in client.got["~/hands"]]
    positions = [sent.index(stamp) for stamp in stamps]
    assert positions == sorted(set(positions))
    assert len(stamps) >= 20
    for array in client.got["~/hands"]:
        # The content belongs to the stamp.
        value = 31 + 4 * (sent.index(array.header.stamp) % 40)
        expected = make_hand(Side.RIGHT, value / 255).keypoints_px
        np.testing.assert_allclose(xyz(array.hands[0].keypoints_2d)[:, :2], expected, atol=1e-9)


def test_without_camera_info_nothing_metric_is_claimed(steady):
    client = steady
    hand = client.ask(client.make_image(100)).hands[0]
    assert hand.scale_source == hand.SCALE_NONE and hand.scale == 0.0 and hand.position_stddev == -1
    assert not xyz(hand.keypoints).any() and not xyz([hand.wrist.position]).any()
    assert np.isfinite(xyz(hand.keypoints_canonical)).all() and np.isfinite(matrix(hand.wrist.orientation)).all()
    client.spin(0.3)
    assert client.got["/tf"] == [] and all(m.markers == [] for m in client.got["~/markers"])
    _, values = client.diagnosis(lambda status, values: values["metric placement"])
    assert "camera_info" in values["metric placement"]


def test_depth_of_the_same_moment_places_the_hand(steady):
    client = steady
    client.camera_info()
    image = client.make_image(100)
    client.depth.publish(millimetres(client, image, 800))
    client.spin(0.3)
    with patience(client):
        hand = client.ask(image).hands[0]
    assert hand.scale_source == hand.SCALE_DEPTH and hand.keypoints[WRIST].z == pytest.approx(0.8)
    later = client.ask(client.make_image(100)).hands[0]
    assert later.scale_source == later.SCALE_ASSUMED


def millimetres(client, image, value, **fields):
    """A depth image of one value, of the moment of an image."""
    depth = client.make_image(0, encoding="16UC1", step=128, **{"header": image.header, **fields})
    depth.data = np.full(48 * 64, value, "<u2").tobytes()
    return depth


def test_depth_that_comes_after_its_image_is_waited_for(steady):
    client = steady
    client.camera_info()
    with patience(client):
        for k in range(5):
            image = client.make_image(100)
            client.image.publish(image)
            client.spin(0.03)
            client.depth.publish(millimetres(client, image, 700 + 10 * k))
            client.until(lambda k=k: len(client.got["~/hands"]) == k + 1)
            assert client.got["~/hands"][-1].header == image.header
            hand = client.got["~/hands"][-1].hands[0]
            assert hand.scale_source == hand.SCALE_DEPTH and hand.keypoints[WRIST].z == pytest.approx(0.7 + 0.01 * k)
    client.diagnosis(
        lambda status, values: (values["metric placement"], values["images with depth used"] != "0") == ("depth", True)
    )


def test_depth_that_cannot_be_used_is_said(steady):
    from std_msgs.msg import Header

    client = steady
    client.camera_info()
    for value, fields, says in (
        (800, {"header": None}, "not registered to images of frame 'camera_optical'"),
        (0, {}, "empty"),
    ):
        image = client.make_image(100)
        if "header" in fields:
            fields = {"header": Header(stamp=image.header.stamp, frame_id="depth_optical")}
        client.depth.publish(millimetres(client, image, value, **fields))
        client.spin(0.3)
        with patience(client):
            assert client.ask(image).hands[0].scale_source == 1
        status, values = client.diagnosis(lambda status, values: "depth not used" in values["metric placement"])
        assert says in values["metric placement"]
    client.ask(client.make_image(100))
    _, values = client.diagnosis(lambda status, values: "ms earlier" in values["metric placement"])
    assert values["metric placement"].startswith("reference length, assumed")


def test_images_without_a_frame_give_hands_but_no_frames_and_markers(steady):
    from std_msgs.msg import Header

    client = steady
    client.camera_info()
    client.ask(client.make_image(100))
    client.until(lambda: client.got["~/markers"] and client.got["/tf"])
    frames, markers = len(client.got["/tf"]), len(client.got["~/markers"])
    for _ in range(3):
        image = client.make_image(100)
        image.header = Header(stamp=image.header.stamp)
        assert client.ask(image).hands[0].scale_source == 1
    client.until(lambda: any(array.markers for array in client.got["~/markers"][markers:]), what="markers taken back")
    client.spin(0.3)
    assert len(client.got["/tf"]) == frames
    after = [marker for array in client.got["~/markers"][markers:] for marker in array.markers]
    assert {m.action for m in after} == {2} and {m.header.frame_id for m in after} == {"camera_optical"}  # taken back
    client.diagnosis(lambda status, values: status.level == b"\1" and "no frame_id" in status.message)
    client.ask(client.make_image(100))
    client.until(lambda: len(client.got["/tf"]) > frames)


def test_images_that_are_lost_on_the_way_are_seen(steady):
    client = steady
    for k in range(40):
        image = client.make_image(100)
        info = client.info_message()
        info.header = image.header
        client.info.publish(info)
        if k % 7 in (0, 1, 4):
            client.ask(image)
        client.spin(0.03)
    _, values = client.diagnosis(lambda status, values: "did not arrive" in status.message)
    lost, published = (int(n) for n in values["images lost on the way"].split(" of the last "))
    assert 0.4 < lost / published < 0.7


def image_frame(client) -> str:
    return client.make_image().header.frame_id


def test_malformed_camera_info_and_depth_are_survived(steady):
    from sensor_msgs.msg import CameraInfo

    client = steady
    info = CameraInfo(width=64, height=48, k=[float("nan")] * 9)
    client.info.publish(info)
    client.diagnosis(lambda status, values: "CameraInfo: the camera matrix" in status.message and status.level == b"\1")
    assert client.ask(client.make_image(100)).hands[0].scale_source == 0
    client.camera_info()
    client.spin(0.2)
    assert client.ask(client.make_image(100)).hands[0].scale_source == 1
    client.info.publish(info)  # sent once: what was known holds no longer, and that is said as long as it is so
    client.spin(0.2)
    assert client.ask(client.make_image(100)).hands[0].scale_source == 0
    client.spin(2.5)
    assert client.ask(client.make_image(100)).hands[0].scale_source == 0
    client.diagnosis(lambda status, values: "was refused" in status.message and status.level == b"\1")
    client.camera_info(size=(480, 480))  # of another shape; one of the images' shape would be scaled
    assert client.ask(client.make_image(100)).hands[0].scale_source == 0
    status, _ = client.diagnosis(lambda status, values: "480x480" in status.message)
    assert status.level == b"\1"
    slashed = client.info_message()
    slashed.header.frame_id = "/" + image_frame(client)
    client.info.publish(slashed)
    client.spin(0.2)
    _, before = client.diagnosis(lambda status, values: True)
    client.ask(client.make_image(100))
    answered = "images answered"
    status, _ = client.diagnosis(lambda status, values: int(values[answered]) > int(before[answered]))
    assert "camera_info of frame" not in status.message
    other = client.info_message()
    other.header.frame_id = "other_camera"
    client.info.publish(other)
    client.spin(0.2)
    assert client.ask(client.make_image(100)).hands[0].scale_source == 1
    status, _ = client.diagnosis(lambda status, values: "camera_info of frame other_camera" in status.message)
    assert status.level == b"\1"
    client.camera_info()
    image = client.make_image(100)
    client.depth.publish(client.make_image(0, encoding="bgr8", header=image.header))
    client.spin(0.3)
    with patience(client):
        assert client.ask(image).hands[0].scale_source == 1
    client.diagnosis(lambda status, values: "bgr8" in values["metric placement"])


def test_failure_inside_the_estimator_is_survived(steady):
    client = steady
    client.image.publish(client.make_image(255))
    status, _ = client.diagnosis(lambda status, values: values["images failed"] == "1")
    assert status.level == b"\2" and "white is too much" in status.message
    assert client.ask(client.make_image(100)).hands


def test_stream_that_changes_and_goes_back_in_time(steady):
    client = steady
    assert client.ask(client.make_image(100, size=(48, 64))).hands
    assert client.ask(client.make_image(100, size=(30, 20))).hands
    gray = client.make_image(100, encoding="mono8", step=64, data=bytes([100]) * 64 * 48)
    assert client.ask(gray).hands
    late, jumped = client.make_image(100), client.make_image(100)
    late.header.stamp.sec, late.header.stamp.nanosec = gray.header.stamp.sec, gray.header.stamp.nanosec - 50_000_000
    if late.header.stamp.nanosec < 0:
        late.header.stamp.sec, late.header.stamp.nanosec = late.header.stamp.sec - 1, late.header.stamp.nanosec + 10**9
    client.image.publish(late)
    client.diagnosis(lambda status, values: values["images out of order"] == "1")
    jumped.header.stamp.sec, jumped.header.stamp.nanosec = 5, 0
    assert client.ask(jumped).hands
    stamps = [array.header.stamp for array in client.got["~/hands"]]
    assert late.header.stamp not in stamps


def test_pause_keeps_the_networks(steady):
    from std_srvs.srv import SetBool

    client = steady
    client.camera_info()
    client.ask(client.make_image(100))
    assert client.call(SetBool, "~/enable", SetBool.Request(data=False)).success
    client.until(lambda: client.got["~/markers"] and client.got["~/markers"][-1].markers[0].action == 2)
    answers = len(client.got["~/hands"])
    client.image.publish(client.make_image(100))
    client.spin(0.5)
    assert len(client.got["~/hands"]) == answers
    client.diagnosis(lambda status, values: "paused" in status.message)
    assert client.call(SetBool, "~/enable", SetBool.Request(data=True)).success
    client.connect()
    assert client.ask(client.make_image(100)).hands[0].scale_source == 1  # the camera is not forgotten


def test_parameters_while_running(steady):
    client = steady
    client.camera_info()
    refused = {
        "score_threshold": (1.5, "range"),
        "device": ("gpu", "cuda:N"),
        "model": ("huge", "auto, lite, paper"),
        "max_hands": (0, "range"),
        "weights": ("/does/not/exist", "does not exist"),
        "autostart": (False, "read-only"),
    }
    for name, (value, reason) in refused.items():
        result = client.set_parameters(**{name: value})[0]
        assert not result.successful and reason in result.reason, (name, result.reason)
    assert all(r.successful for r in client.set_parameters(publish_tf=False, tf_prefix="robot/", score_threshold=0.7))
    client.ask(client.make_image(100))
    client.until(lambda: client.got["~/markers"])
    client.spin(0.2)
    assert client.got["/tf"] == []
    client.set_parameters(publish_tf=True)
    client.ask(client.make_image(100))
    client.until(lambda: client.got["/tf"])
    assert client.got["/tf"][0].transforms[0].child_frame_id == "robot/hand_right"
    client.set_parameters(reliability="best_effort", scale_source="none")
    client.connect()
    assert client.ask(client.make_image(100)).hands[0].scale_source == 0
    assert all(r.successful for r in client.set_parameters(score_threshold=1, tf_prefix=2))
    defaults = {"tf_prefix": "", "score_threshold": 0.5, "reliability": "auto", "scale_source": "auto"}
    assert all(r.successful for r in client.set_parameters(**defaults))
