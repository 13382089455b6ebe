"""The real node with the shipped networks on the built-in clip: the answer lies on the hands that were rendered."""

from __future__ import annotations

import array
import json

import numpy as np
import pytest

pytest.importorskip("rclpy")

from ros_client import Process

from hand_pose_3d.images import CLIP, Video


@pytest.fixture
def node():
    process = Process("-m", "hand_pose_3d.ros.node", "--ros-args", "-p", "device:=cpu")
    yield process
    process.stop()


def test_hands_of_the_clip(client, node):
    from sensor_msgs.msg import CameraInfo, Image

    truth = json.loads(CLIP.with_suffix(".json").read_text(encoding="utf-8"))
    camera = truth["camera"]
    frames = list(Video(CLIP))
    client.until(lambda: client.ros.count_subscribers("/image"), timeout=240, what="networks loaded")
    client.connect()
    info = CameraInfo(width=camera["width"], height=camera["height"], distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [camera["fx"], 0.0, camera["cx"], 0.0, camera["fy"], camera["cy"], 0.0, 0.0, 1.0]
    client.info.publish(info)
    client.spin(0.5)
    for index in (20, 22, 24, 72, 74):
        message = Image(height=480, width=640, encoding="rgb8", step=1920)
        message.data = array.array("B", frames[index].tobytes())
        message.header.frame_id = "camera_optical"
        # Seconds apart, so that each image is looked at for itself.
        message.header.stamp.sec = 100 + 5 * index
        answer = client.ask(message, timeout=120)
        expected = {hand["side"]: hand for hand in truth["frames"][index]["hands"]}
        found = {("unknown", "left", "right")[hand.side]: hand for hand in answer.hands}
        assert set(found) == set(expected), index
        for side, hand in found.items():
            pixels = np.array([[p.x, p.y] for p in hand.keypoints_2d])
            error = np.linalg.norm(pixels - expected[side]["keypoints_2d"], axis=1)
            assert np.median(error) < 0.2 * np.ptp(expected[side]["keypoints_2d"], axis=0).max(), (index, side)
            metres = np.array([[p.x, p.y, p.z] for p in hand.keypoints])
            distance = np.linalg.norm(metres[0] - expected[side]["keypoints"][0])
            assert hand.scale_source == hand.SCALE_ASSUMED and 0 < hand.position_stddev < 0.3
            assert distance < 4 * hand.position_stddev
    assert client.got["/tf"] and client.got["~/markers"]
