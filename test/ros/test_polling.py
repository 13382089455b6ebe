"""A node that is served without an executor: no topic starves the others."""

from __future__ import annotations

import time

import pytest


@pytest.fixture
def node(client):
    import rclpy

    made = rclpy.create_node("polled", context=client.context)
    yield made
    made.destroy_node()


def test_a_flooded_subscription_starves_no_other_and_the_time_is_kept(node):
    from std_msgs.msg import Bool, Float64

    from hand_pose_3d.ros.polling import Poller

    begin, quiet = time.monotonic(), []
    flood, rare = node.create_publisher(Float64, "flood", 5), node.create_publisher(Bool, "rare", 5)

    def on_flood(message) -> None:
        assert time.monotonic() < begin + 20, "never came back"
        time.sleep(0.001)
        flood.publish(Float64())
        flood.publish(Float64())
        if not rare_sent:
            rare.publish(Bool())
            rare_sent.append(True)

    rare_sent: list[bool] = []
    node.create_subscription(Float64, "flood", on_flood, 5)
    node.create_subscription(Bool, "rare", quiet.append, 5)
    poller = Poller(node)
    flood.publish(Float64())
    while not quiet:
        poller.wait(time.monotonic() + 0.2)
    assert rare_sent
    poller.close()
