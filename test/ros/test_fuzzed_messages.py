"""Whatever arrives on its topics, a node lives, and what it publishes is finite; FUZZ_CASES=10000 tries more of it.

The nodes run in this process, and their subscriptions' callbacks are called as the middleware would.
"""

from __future__ import annotations

import copy
import math
import os
import random
import time
from collections import defaultdict

import numpy as np
import pytest
from fake_estimator import FakeEstimator, make_hand
from media import damaged, encoded, scene
from ros_client import DOMAIN, HERE

from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import LARGEST, InvalidInputError
from hand_pose_3d.placement import place
from hand_pose_3d.skeleton import Side

rclpy = pytest.importorskip("rclpy")

# Numbers that overflow have come through a door that should have refused them.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

CASES = int(os.environ.get("FUZZ_CASES", 1000))
NUMBERS = (0.0, -0.0, 1.0, -1.0, 0.5, 32.0, 60.0, 1e-9, 1e-300, 1e9, 1e300, math.nan, math.inf, -math.inf)
FRAMES = ("", "/", " ", "camera", "/camera", "camera/", "手", "a b", "x" * 300)
ENCODINGS = (
    *("rgb8", "bgr8", "rgba8", "mono8", "mono16", "rgb16", "yuv422", "yuyv", "nv12", "bayer_rggb8", "bayer_grbg16"),
    *("8UC1", "16UC1", "32FC1", "64FC3", "RGB8", "jpeg", "", "手", "x" * 300),
)
FORMATS = (
    *("jpeg", "png", "tiff", "", "rgb8; jpeg compressed bgr8", "bgr8; png compressed ", "mono16; png compressed "),
    *("bayer_rggb8; png compressed ", "bayer_x; jpeg", ";", ";;", "16UC1; compressedDepth png", "手" * 100),
)


class PlacingEstimator(FakeEstimator):
    """Finds the same hand in every image, and places it as the real one does."""

    def __call__(self, image_rgb, camera=None, depth_m=None, stamp_s=None):
        assert image_rgb.dtype == np.uint8 and image_rgb.ndim == 3 and image_rgb.shape[2] == 3
        height, width = image_rgb.shape[:2]
        assert depth_m is None or depth_m.shape == (height, width)
        hand = make_hand(Side.RIGHT, 0.4)
        hand = hand.replace(keypoints_px=hand.keypoints_px * [width / 640, height / 480])
        return [place(hand, camera and camera.fitted_to(width, height), depth_m)]


def listen(node):
    """What the node publishes from now on by the topic's last name, as though somebody listened to everything."""
    told = defaultdict(list)
    for publisher in node.publishers:
        messages, publish = told[publisher.topic_name.rpartition("/")[2]], publisher.publish

        def keep(message, messages=messages, publish=publish):
            publish(message)
            messages.append(copy.deepcopy(message))  # the node may publish the same object again

        publisher.publish, publisher.get_subscription_count = keep, lambda: 1
    return told


def deliver(node, topic, message):
    """Hand a message to the node's subscriptions to a topic."""
    callbacks = [s.callback for s in node.subscriptions if s.topic_name == topic]
    assert callbacks
    for callback in callbacks:
        callback(message)


def numbers(message):
    """All floating-point numbers of a message, or of a list of them."""
    if isinstance(message, (float, np.floating)):
        yield message
    elif hasattr(message, "get_fields_and_field_types"):
        for name, kind in message.get_fields_and_field_types().items():
            if not kind.startswith(("sequence<uint8", "string", "sequence<string")):
                yield from numbers(getattr(message, name))
    elif hasattr(message, "__iter__"):
        for entry in message:
            yield from numbers(entry)


def stamped(message, rng, at):
    """Give a header: in order mostly."""
    message.header.frame_id = rng.choice((*FRAMES, *["camera"] * 20))
    message.header.stamp.sec = rng.choice((*[at] * 20, 0, -5, 2**31 - 1, at - 1))
    message.header.stamp.nanosec = rng.choice((*[0] * 20, 999_999_999, 2**32 - 1))
    return message


def image(rng, encoding, value):
    """An image of one value, which may be contradictory and damaged."""
    from sensor_msgs.msg import Image

    height, width = rng.choice((*[(48, 64)] * 12, (24, 32), (rng.randrange(71), rng.randrange(71))))
    channels = {"rgb": 3, "bgr": 3, "rgba": 4, "yuv422": 2, "yuyv": 2}.get(encoding.rstrip("0123456789"), 1)
    dtype = np.float32 if encoding == "32FC1" else np.uint16 if "16" in encoding else np.uint8
    rows = height * 3 // 2 if encoding == "nv12" else height
    row = channels * width * np.dtype(dtype).itemsize
    message = Image(height=height, width=width, encoding=encoding, step=row)
    data = np.full(rows * channels * width, value, dtype).tobytes()
    message.data = damaged(data, rng) if rng.random() < 0.3 else data
    message.is_bigendian = rng.choice((0, 0, 0, 0, 1, 255))
    for name in rng.choice((*[()] * 8, ("height",), ("width",), ("step",), ("height", "step"))):
        setattr(message, name, rng.choice((0, 1, 47, 49, 64, 10**6, 2**32 - 1)))
    return message


def depth(rng):
    """A depth image, of the hand's distance mostly."""
    encoding = rng.choice((*("16UC1", "32FC1") * 2, rng.choice(ENCODINGS)))
    if encoding == "32FC1":
        return image(rng, encoding, rng.choice((*[0.5] * 8, 0.0, 7.0, -1.0, 1e30, math.nan, math.inf)))
    return image(rng, encoding, rng.choice((*[500] * 6, 0, 7, 65535)) if "16" in encoding else 100)


def compressed(rng, seeds):
    from sensor_msgs.msg import CompressedImage

    return CompressedImage(format=rng.choice(FORMATS), data=damaged(rng.choice(seeds), rng))


def camera_info(rng):
    from sensor_msgs.msg import CameraInfo, RegionOfInterest

    size = rng.choice(((64, 48), (64, 48), (64, 48), (128, 96), (0, 0), (47, 2**32 - 1)))
    message = CameraInfo(width=size[0], height=size[1], distortion_model=rng.choice(("plumb_bob", "", "none", "x")))
    message.k = [60.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0]
    message.p = [60.0, 0.0, 31.5, 0.0, 0.0, 60.0, 23.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    message.d = [
        rng.choice((0.0, 0.0, 0.1, -0.3)) for _ in range(rng.choice((0, 4, 5, 5, 8, 12, 14, rng.randrange(16))))
    ]
    if rng.random() < 0.2:
        message.distortion_model = rng.choice(("rational_polynomial", "thin_prism", "equidistant", "fisheye", "手"))
    for values in rng.choice(((), (), (message.k,), (message.p,), (message.d,), (message.k, message.d))):
        for _ in range(rng.choice((1, 1, 9))):
            if len(values):
                values[rng.randrange(len(values))] = rng.choice(NUMBERS)
    if rng.random() < 0.1:
        message.binning_x, message.binning_y = rng.choice(((2, 2), (0, 1), (2**32 - 1, 3)))
        message.roi = RegionOfInterest(width=rng.choice((0, 32, 2**32 - 1)), x_offset=rng.choice((0, 16, 2**32 - 1)))
    return message


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_images_cameras_and_depth_of_any_content(make_node, transport):
    from hand_pose_3d.ros.node import HandPoseNode

    rng, at = random.Random(transport), 100
    seeds = [encoded(scene(), suffix) for suffix in (".jpg", ".png", ".tiff", ".bmp")]
    seeds += [encoded(scene()[..., 0], ".png"), encoded(scene(), ".jpg"), encoded(scene(), ".png")]
    node = make_node(HandPoseNode, lambda parameters: PlacingEstimator(), image_transport=transport, device="cpu")
    node.trigger_configure()
    node.trigger_activate()
    health, reasons = node._health, []
    count = health.count

    def counted(what, reason=""):
        reasons.append(reason)
        count(what, reason)

    health.count = counted
    told, topic = listen(node), "/image" if transport == "raw" else "/image/compressed"
    try:
        for number in range(CASES):
            at += 1
            picture = (
                image(rng, rng.choice(ENCODINGS), rng.randrange(256)) if transport == "raw" else compressed(rng, seeds)
            )
            shot, distances = stamped(picture, rng, at), stamped(depth(rng), rng, at)
            if rng.random() < 0.8:
                distances.header = shot.header
            for name, chance, message in (
                ("/camera_info", 0.3, camera_info(rng)),
                ("/depth", 0.8, distances),
                (topic, 1.0, shot),
            ):
                if rng.random() < chance:
                    deliver(node, name, message)
            until = time.monotonic() + 60
            while (totals := dict(health._total))["received"] != sum(
                totals.get(what, 0) for what in ("answered", "rejected_image", "replaced", "late", "stale", "failed")
            ):
                assert time.monotonic() < until, (number, shot, totals)
                time.sleep(0.0005)
            assert not totals.get("failed") and not totals.get("rejected_hand"), (number, shot, reasons[-1])
        node._report()
    finally:
        node.close(30.0)
    assert not any("\n" in reason for reason in reasons)
    for name, messages in told.items():
        assert np.isfinite(list(numbers(messages))).all(), name
    placed = [hand for answer in told["hands"] for hand in answer.hands if hand.scale_source]
    assert len(placed) > CASES / 20 and {1, 3} <= {hand.scale_source for hand in placed}
    assert totals["answered"] > CASES / 5 and min(totals["rejected_image"], totals["rejected_camera_info"]) > CASES / 50


def spoiled(message, rng):
    """Put numbers that are none, and others, into some fields of a message."""
    for _ in range(rng.choice((1, 1, 3, 30))):
        inner = message
        while True:
            fields = inner.get_fields_and_field_types()
            name = rng.choice(list(fields))
            value = getattr(inner, name)
            if hasattr(value, "get_fields_and_field_types"):
                inner = value
            elif isinstance(value, float):
                setattr(inner, name, rng.choice(NUMBERS if fields[name] == "double" else (*NUMBERS[:8], *NUMBERS[-3:])))
                break
            elif isinstance(value, int):
                setattr(inner, name, rng.choice((0, 1, 2, 3, 127)))
                break
            elif isinstance(value, str):
                setattr(inner, name, rng.choice(FRAMES))
                break
            elif len(value) and hasattr(value[0], "get_fields_and_field_types"):
                inner = rng.choice(value)
            elif len(value):
                some = (*NUMBERS[:8], *NUMBERS[-3:]) if isinstance(value[0], (float, np.floating)) else (-1, 0, 2)
                value[rng.randrange(len(value))] = rng.choice(some)
                break
            else:
                break
    return message


def test_hands_frames_and_buttons_of_any_content(make_node, monkeypatch, capsys):
    """The clutch is closed whenever it can be, so that what is published would move a robot."""
    pytest.importorskip("trajectory_msgs")
    from geometry_msgs.msg import TransformStamped
    from hand_pose_3d.msg import HandPose3DArray
    from sensor_msgs.msg import Joy
    from std_msgs.msg import Header
    from std_srvs.srv import SetBool
    from tf2_msgs.msg import TFMessage

    from hand_pose_3d.ros import teleop, teleop_outputs
    from hand_pose_3d.ros.messages import hand_message
    from hand_pose_3d.ros.rerun_view import TopicView

    def bend(keypoints):
        assert np.isfinite(keypoints).all()
        return {"finger": float(keypoints[8, 1])}

    class View:
        def hands(self, hands, stamp_s):
            shown.extend(hands)

    view, shown = TopicView(View()), []
    rng, now = random.Random("hands"), time.monotonic()
    monkeypatch.setattr(teleop, "time", type("Clock", (), {"monotonic": staticmethod(lambda: now)}))
    monkeypatch.setattr(teleop_outputs, "_robot_hand", lambda parameters: bend)
    node = make_node(teleop.HandTeleopNode, base_frame="base", clutch__joy_button=0, max_transform_age=10.0)
    told, engage = listen(node), next(s for s in node.services if s.srv_name.endswith("engage"))
    camera, engaged, steps = Camera(500, 500, 320, 240, 640, 480), 0, 0
    mount = TransformStamped(header=Header(frame_id="base"), child_frame_id="camera")
    begin = node.get_clock().now().nanoseconds - CASES * 20_000_000
    # Images come every 20 ms by stamps and arrival, however fast they are tried here.
    monkeypatch.setattr(node.get_clock(), "now", lambda: rclpy.time.Time(nanoseconds=begin + steps * 20_000_000))
    for number in range(CASES):
        steps, now = steps + 1, now + 0.02
        header = Header(frame_id="camera", stamp=node.get_clock().now().to_msg())
        shift = 0.4 + 0.3 * math.sin(number / 10)
        hands = [
            hand_message(make_hand(side, shift, camera, track_id=side + 1), header, (480, 640))
            for side in (Side.RIGHT, *([Side.LEFT] if rng.random() < 0.2 else []))
        ]
        message = HandPose3DArray(header=header, hands=hands)
        good = rng.random() < 0.7
        message = message if good else spoiled(message, rng)
        deliver(node, "/hand_pose_3d/hands", message)
        view.show(message)
        joy = Joy(buttons=[rng.choice((0, 1, 1, 1, -1)) for _ in range(rng.randrange(3))])
        deliver(node, "/joy", spoiled(joy, rng))
        frames = [mount] if number % 10 == 0 else [spoiled(TransformStamped(header=header, child_frame_id="tool"), rng)]
        deliver(node, rng.choice(("/tf", "/tf_static")), TFMessage(transforms=frames))
        if good and rng.random() < 0.5:
            answer = engage.callback(SetBool.Request(data=rng.random() < 0.9), SetBool.Response())
            assert len(answer.message.splitlines()) == 1
        engaged += node._core.engaged
        if number % 20 == 0:
            node._report()
    for name, messages in told.items():
        assert np.isfinite(list(numbers(messages))).all(), name
    assert len(shown) > CASES / 2 and max(np.abs(hand.keypoints_px).max() for hand in shown) <= LARGEST
    assert max(len(line) for line in capsys.readouterr().err.splitlines()) < 300
    low, high = node.parameters.box_m
    targets = np.array([(p.x, p.y, p.z) for p in (m.pose.position for m in told["target_pose"])])
    assert engaged > CASES / 10 and np.ptp(targets, axis=0).max() > 0.005
    assert (targets >= low - 1e-9).all() and (targets <= high + 1e-9).all()


PARAMETERS = b"""/**:
  ros__parameters:
    max_hands: 3
    reference_length: 0.042
    smoothing:
      beta_px: 1
    device: cpu
    tf_prefix: 7
"""


def test_parameter_files_of_any_content(tmp_path, monkeypatch):
    from hand_pose_3d.ros import parameters, start

    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    rng, path, read = random.Random(24), tmp_path / "p.yaml", 0
    whole = (HERE.parents[1] / "config" / "hand_pose_3d.yaml").read_bytes()
    for number in range(CASES):
        path.write_bytes(damaged(whole if number % 10 == 0 else PARAMETERS, rng))
        try:
            start.init(["--ros-args", "--params-file", str(path)])
            read += parameters.declare(rclpy.create_node("hand_pose_3d")).max_hands > 0
        except InvalidInputError as error:
            assert len(str(error).splitlines()) == 1, (number, error)
        finally:
            rclpy.try_shutdown()
    assert read > CASES / 10
