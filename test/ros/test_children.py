"""When the nodes that a program has started can be given images."""

from __future__ import annotations

import os
import time

import pytest

pytest.importorskip("rclpy")

import rclpy
from sensor_msgs.msg import Image
from std_msgs.msg import Bool

from hand_pose_3d.ros.children import are_connected, quiet_environment


def test_demonstrations_never_publish_where_a_robot_listens(monkeypatch):
    monkeypatch.setattr(os, "environ", {**os.environ, "ROS_DOMAIN_ID": "7", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"})
    for _ in range(300):
        os.environ["ROS_DOMAIN_ID"] = "7"
        quiet_environment()
        assert os.environ["ROS_DOMAIN_ID"] not in ("0", "7")
    assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


def test_images_wait_for_the_publisher_of_every_topic_that_is_heard():
    rclpy.init()
    try:
        listener, tracker = rclpy.create_node("listener"), rclpy.create_node("tracker")
        listener.create_subscription(Bool, "/tracker/answer", lambda message: None, 1)
        listener.create_subscription(Image, "/image", lambda message: None, 1)  # nobody publishes it yet
        assert not are_connected(listener)
        tracker.create_publisher(Bool, "/tracker/answer", 1)
        end = time.monotonic() + 10
        while not are_connected(listener) and time.monotonic() < end:
            time.sleep(0.02)
        assert are_connected(listener) and not are_connected(listener, image_subscribers=2)
        tracker.create_subscription(Image, "/image", lambda message: None, 1)
        while not are_connected(listener, image_subscribers=2) and time.monotonic() < end:
            time.sleep(0.02)
        assert are_connected(listener, image_subscribers=2)
    finally:
        rclpy.shutdown()
