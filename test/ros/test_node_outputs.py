"""What nobody listens to is neither built nor published; what is wrong with a hand is said all the same."""

import numpy as np
import pytest
from synthetic_hand import hand_from, keypoints_of

pytest.importorskip("rclpy")
from std_msgs.msg import Header

from hand_pose_3d.camera import Camera
from hand_pose_3d.placement import place
from hand_pose_3d.ros import outputs as module
from hand_pose_3d.ros.outputs import Outputs
from hand_pose_3d.ros.parameters import NodeParameters

IMAGE = np.zeros((480, 640, 3), np.uint8)


class Publisher:
    def __init__(self):
        self.listeners, self.sent = 0, []

    def get_subscription_count(self):
        return self.listeners

    def publish(self, message):
        self.sent.append(message)


class Node:
    def __init__(self):
        self.publishers = {}

    def create_lifecycle_publisher(self, kind, topic, profile, **_):
        return self.publishers.setdefault(topic, Publisher())


def hand():
    camera = Camera(560.0, 560.0, 319.5, 239.5, 640, 480)
    unplaced = hand_from(keypoints_of({}), np.zeros((21, 2)), score=0.95)
    pixels = camera.project(0.042 * (unplaced.keypoints_relative + [0, 0, 12]))
    return place(unplaced.replace(keypoints_px=pixels, roi_px=(300.0, 200.0, 60.0, 80.0)), camera)


def test_messages_that_nobody_listens_to_are_not_built(monkeypatch):
    node, header, seen = Node(), Header(frame_id="camera"), hand()
    outputs = Outputs(node)

    def never(*_, **__):
        raise AssertionError("built for nobody")

    with monkeypatch.context() as patch:
        for name in ("hand_message", "joint_state"):
            patch.setattr(module, name, never)
        patch.setattr(module.tf, "transforms", never)
        patch.setattr(module.HandMarkers, "update", never)
        assert outputs.publish([seen], header, IMAGE, NodeParameters()) == []
        (fault,) = outputs.publish([seen.replace(score=float("nan"))], header, IMAGE, NodeParameters())
        assert "score" in str(fault)
    assert not any(publisher.sent for publisher in node.publishers.values())

    for topic in ("~/hands", "/tf"):
        node.publishers[topic].listeners = 1
    assert outputs.publish([seen], header, IMAGE, NodeParameters()) == []
    sent = {topic: len(publisher.sent) for topic, publisher in node.publishers.items() if publisher.sent}
    assert sent == {"~/hands": 1, "/tf": 1}
    assert len(node.publishers["~/hands"].sent[0].hands) == 1
