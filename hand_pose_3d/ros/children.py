"""Nodes that a program starts in processes of their own, and the environment that they inherit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from hand_pose_3d.ros.share import find_share, log_somewhere, profile_environment

_INPUTS = frozenset({"/image", "/camera_info"})


class Children:
    """Processes that end with this one. stdout: where theirs goes, None for this one's."""

    def __init__(self, stdout: TextIO | None = None) -> None:
        self._stdout = stdout
        self._processes: list[subprocess.Popen[str]] = []

    def start(
        self, program: Sequence[str], parameters: Mapping[str, object] | None = None, **more: object
    ) -> subprocess.Popen[str]:
        """Start what Python runs with these ROS parameters; those that are "" keep their defaults."""
        command = [sys.executable, *program, "--ros-args"]
        for name, value in {**(parameters or {}), **more}.items():
            if value != "":
                command += ["-p", f"{name}:={json.dumps(value, ensure_ascii=False)}"]
        # A group of its own, so that Ctrl-C reaches the parent alone, which then ends the others in order.
        process = subprocess.Popen(command, stdout=self._stdout, text=True, start_new_session=True)
        self._processes.append(process)
        return process

    def stop(self) -> None:
        """End all of them, those that do not listen after five seconds."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self._processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def are_connected(node: Any, image_subscribers: int = 1) -> bool:
    """Whether so many subscribe to images, and every topic that `node` subscribes to, but the input's, has a publisher.

    A publisher drops what it sends to a subscription that discovery has not matched with it yet: the input begins
    after this.
    """
    outputs = [each for each in node.subscriptions if each.topic_name not in _INPUTS]
    return node.count_subscribers("/image") >= image_subscribers and all(each.get_publisher_count() for each in outputs)


def quiet_environment() -> None:
    """Give this process, and those it starts, room for images in shared memory, and a domain without other nodes."""
    log_somewhere()
    os.environ.update(profile_environment(find_share("config/fastdds.xml"), os.environ))
    if "ROS_DOMAIN_ID" not in os.environ:
        os.environ["ROS_DOMAIN_ID"] = str(random.randint(1, 100))
        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
