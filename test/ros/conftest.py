"""Fixtures: a client, and nodes in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from ros_client import DOMAIN, HERE, Client, Process


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What a program that runs in this process does to the environment, as to the ROS domain, ends with the test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def client() -> Iterator[Client]:
    pytest.importorskip("rclpy")
    made = Client()
    yield made
    made.close()


@pytest.fixture
def start_node() -> Iterator[Callable[..., Process]]:
    """Starts the node with the fake estimator; arguments are ROS parameters."""
    pytest.importorskip("rclpy")
    running: list[Process] = []

    def start(*remaps: str, **parameters: object) -> Process:
        arguments = ["--ros-args"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name.replace('__', '.')}:={value}"]
        for remap in remaps:
            arguments += ["-r", remap]
        running.append(Process(str(HERE / "fake_estimator.py"), *arguments))
        return running[-1]

    yield start
    for process in running:
        process.stop()


@pytest.fixture
def make_node() -> Iterator[Callable]:
    """Makes nodes in this process, of a class, with parameters by their ROS names."""
    rclpy = pytest.importorskip("rclpy")
    from rclpy.parameter import Parameter

    context, made = rclpy.Context(), []
    rclpy.init(context=context, domain_id=DOMAIN)

    def make(kind, *arguments, **parameters):
        overrides = [Parameter(name.replace("__", "."), value=value) for name, value in parameters.items()]
        node = kind(*arguments, context=context, parameter_overrides=overrides)
        made.append(node)
        return node

    yield make
    for node in made:
        node.destroy_node()
    context.shutdown()


@pytest.fixture(scope="module")
def shared_node() -> Iterator[Client]:
    """A client and one node for all tests of a module."""
    pytest.importorskip("rclpy")
    process, made = Process(str(HERE / "fake_estimator.py")), Client()
    made.connect()
    yield made
    made.close()
    process.stop()


@pytest.fixture
def steady(shared_node: Client) -> Client:
    """The shared node's client, with no hand in view, no camera known and nothing received yet."""
    from sensor_msgs.msg import CameraInfo

    shared_node.connect()
    shared_node.info.publish(CameraInfo(width=64, height=48))
    shared_node.ask(shared_node.make_image(0))
    shared_node.got["~/markers"].clear()
    shared_node.ask(shared_node.make_image(0))
    shared_node.until(lambda: shared_node.got["~/markers"], what="the last that is published about an image")
    shared_node.spin(0.1)
    for messages in shared_node.got.values():
        messages.clear()
    return shared_node
