"""What nobody listens to is neither built nor published; what is wrong with a hand is said all the same."""

from types import SimpleNamespace

import numpy as np
import pytest
from synthetic_hand import hand_from, keypoints_of

pytest.importorskip("rclpy")
from builtin_interfaces.msg import Time
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
    def __init__(self, *refused):
        self.publishers, self.refused = {}, refused

    def create_lifecycle_publisher(self, kind, topic, profile, **_):
        if topic in self.refused:
            raise RuntimeError(f"cannot publish {topic}")
        return self.publishers.setdefault(topic, Publisher())

    def destroy_lifecycle_publisher(self, publisher):
        self.publishers = {topic: each for topic, each in self.publishers.items() if each is not publisher}

    def get_clock(self):
        return self

    def now(self):
        return SimpleNamespace(to_msg=lambda: Time(sec=77))


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


def test_frames_of_images_without_a_stamp_have_the_present_time():
    """Of stamp 0 tf2 would keep the first pose for ever; messages keep the image's header."""
    node = Node()
    outputs = Outputs(node)
    for topic in ("~/hands", "/tf"):
        node.publishers[topic].listeners = 1
    outputs.publish([hand()], Header(frame_id="camera"), IMAGE, NodeParameters())
    assert node.publishers["/tf"].sent[0].transforms[0].header == Header(stamp=Time(sec=77), frame_id="camera")
    assert node.publishers["~/hands"].sent[0].header == Header(frame_id="camera")


def test_markers_that_are_switched_off_rename_no_hand():
    node, seen = Node(), [hand().replace(track_id=each) for each in (1, 2)]
    outputs = Outputs(node)
    node.publishers["~/joint_states"].listeners = 1

    def names(hands, second):
        outputs.publish(hands, Header(frame_id="camera", stamp=Time(sec=second)), IMAGE, NodeParameters())
        return {
            name.partition("_thumb")[0] for name in node.publishers["~/joint_states"].sent[-1].name if "_thumb" in name
        }

    both, alone = names(seen, 1), names(seen[1:], 2)
    assert len(both) == 2
    outputs.clear_markers()
    assert names(seen[1:], 3) == alone


def test_a_hand_without_joint_angles_leaves_the_others_theirs(monkeypatch):
    node, seen = Node(), [hand().replace(track_id=each) for each in (1, 2)]
    outputs = Outputs(node)
    node.publishers["~/joint_states"].listeners = 1
    flat = np.zeros((21, 3))
    flat[5] = [1.0, 0.0, 0.0]
    (fault,) = outputs.publish(
        [seen[0].replace(keypoints_relative=flat), seen[1]], Header(frame_id="camera"), IMAGE, NodeParameters()
    )
    assert "no length" in str(fault) and node.publishers["~/joint_states"].sent[0].name


def test_a_publisher_that_is_refused_leaves_none_behind():
    node = Node("~/overlay")
    with pytest.raises(RuntimeError, match="overlay"):
        Outputs(node)
    assert not node.publishers
