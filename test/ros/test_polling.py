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


def test_transforms_that_come_too_fast_cost_no_time_of_what_is_due(node):
    from hand_pose_3d.ros.polling import Poller
    from hand_pose_3d.ros.tf import message_type

    kind, taken = message_type(), []

    def on_transforms(message) -> None:
        time.sleep(0.01)
        taken.append(message)

    node.create_subscription(kind, "/tf", on_transforms, 100)
    transforms = node.create_publisher(kind, "/tf", 100)
    poller = Poller(node)
    poller.wait(time.monotonic() + 0.3)
    for _ in range(100):
        transforms.publish(kind())
    begin, turns = time.monotonic(), 0
    while len(taken) < 100:
        poller.wait(time.monotonic() + 0.02)
        turns += 1
        assert time.monotonic() < begin + 20
    assert turns > 20  # not all in one
    poller.close()


def test_simulated_time_is_that_of_now_when_a_message_comes(node):
    from rosgraph_msgs.msg import Clock
    from std_msgs.msg import Bool

    from hand_pose_3d.ros.polling import Poller

    seconds, seen = [], []
    node.create_subscription(Bool, "news", lambda message: seen.append(seconds[-1]), 10)  # before that of the clock
    node.create_subscription(Clock, "/clock", lambda message: seconds.append(message.clock.sec), 10)
    news, clock = node.create_publisher(Bool, "news", 10), node.create_publisher(Clock, "/clock", 10)
    poller, message = Poller(node), Clock()
    poller.wait(time.monotonic() + 0.3)
    for second in range(1, 4):
        message.clock.sec = second
        clock.publish(message)
    time.sleep(0.1)
    news.publish(Bool())
    end = time.monotonic() + 20
    while not seen and time.monotonic() < end:
        poller.wait(time.monotonic() + 0.2)
    assert seen == [3]
    poller.close()


def test_a_request_is_served_when_it_comes_and_all_transforms_that_wait_are_taken(node, client, monkeypatch):
    from std_srvs.srv import SetBool

    from hand_pose_3d.ros import polling
    from hand_pose_3d.ros.tf import message_type

    asked, taken = [], []

    def on_request(request, response):
        asked.append(request.data)
        node.destroy_service(ended)
        return response

    node.create_service(SetBool, "stop", on_request)
    ended = node.create_service(SetBool, "ended_by_the_other", on_request)
    kind = message_type()
    node.create_subscription(kind, "/tf", taken.append, 150)
    transforms = node.create_publisher(kind, "/tf", 150)
    poller = polling.Poller(node)
    poller.wait(time.monotonic())
    monkeypatch.setattr(polling, "_TIMERS_EVERY_S", 1e9)  # no executor any more
    for _ in range(150):
        transforms.publish(kind())
    caller, answers, begin = client.ros.create_client(SetBool, "/stop"), [], time.monotonic()
    while not any(answer.done() for answer in answers):
        assert time.monotonic() < begin + 20
        if caller.service_is_ready():  # asked again: an answer to a client that the node has not found yet is lost
            answers.append(caller.call_async(SetBool.Request(data=True)))
        poller.wait(time.monotonic() + 0.05)
        client.spin(0.05)
    assert asked and all(asked) and len(taken) == 150
    poller.close()
