"""The real node with the shipped networks on the built-in clip: the answer lies on the hands that were rendered."""

from __future__ import annotations

import array
import json

import numpy as np
import pytest

pytest.importorskip("rclpy")

from ros_client import Process

from hand_pose_3d.images import CLIP, Video


def image_of(frame: np.ndarray, second: int):
    from sensor_msgs.msg import Image

    message = Image(height=480, width=640, encoding="rgb8", step=1920)
    message.data = array.array("B", frame.tobytes())
    message.header.frame_id = "camera_optical"
    message.header.stamp.sec = second
    return message


@pytest.fixture
def node(request):
    model = getattr(request, "param", "auto")
    process = Process("-m", "hand_pose_3d.ros.node", "--ros-args", "-p", "device:=cpu", "-p", f"model:={model}")
    yield process
    process.stop()


@pytest.mark.parametrize("node", ["paper"], indirect=True)
def test_the_papers_networks_answer(client, node):
    (expected,) = json.loads(CLIP.with_suffix(".json").read_text(encoding="utf-8"))["frames"][20]["hands"]
    client.until(lambda: client.ros.count_subscribers("/image"), timeout=240, what="networks loaded")
    client.connect()
    frame = list(Video(CLIP))[20]
    seconds = iter(range(100, 200))

    def found() -> bool:  # a new hand may have to be confirmed
        return any(client.ask(image_of(frame, next(seconds)), timeout=120).hands for _ in range(2))

    client.until(found, timeout=240)
    hand = client.got["~/hands"][-1].hands[0] if client.got["~/hands"][-1].hands else client.got["~/hands"][-2].hands[0]
    pixels = np.array([[p.x, p.y] for p in hand.keypoints_2d])
    error = np.linalg.norm(pixels - expected["keypoints_2d"], axis=1)
    assert np.median(error) < 0.1 * np.ptp(expected["keypoints_2d"], axis=0).max()


def test_hands_of_the_clip(client, node):
    from sensor_msgs.msg import CameraInfo

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
        # Seconds apart, so that each image is looked at for itself.
        answer = client.ask(image_of(frames[index], 100 + 5 * index), timeout=120)
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
