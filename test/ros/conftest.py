"""Fixtures: a client, and nodes in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from ros_client import HERE, Client, Process


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
