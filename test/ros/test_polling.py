"""Messages reach a node that is served without an executor: soon, and none starve the others."""

from __future__ import annotations

import threading
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


def test_a_message_ends_the_sleep_and_silence_does_not(node):
    from std_msgs.msg import Float64

    from hand_pose_3d.ros.polling import Poller

    came: list[float] = []
    publisher = node.create_publisher(Float64, "soon", 5)
    node.create_subscription(Float64, "soon", lambda message: came.append(time.monotonic() - message.data), 5)
    poller = Poller(node)
    poller.wait(time.monotonic() + 0.3)
    end = time.monotonic() + 2.0
    thread = threading.Thread(
        target=lambda: [publisher.publish(Float64(data=time.monotonic())) or time.sleep(0.05) for _ in range(30)]
    )
    thread.start()
    poller.wait(end)
    assert time.monotonic() >= end
    thread.join()
    assert len(came) == 30 and sorted(came)[15] < 0.02
    poller.close()
