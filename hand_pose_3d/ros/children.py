"""Nodes as child processes of a program, and the environment that they inherit."""

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
    """Child processes, which end with this one. stdout: of the children, None for this one's."""

    def __init__(self, stdout: TextIO | None = None) -> None:
        self._stdout = stdout
        self._processes: list[subprocess.Popen[str]] = []

    def start(
        self, program: Sequence[str], parameters: Mapping[str, object] | None = None, **more: object
    ) -> subprocess.Popen[str]:
        """Start Python with these arguments and ROS parameters; parameters of "" keep their defaults."""
        command = [sys.executable, *program, "--ros-args"]
        for name, value in {**(parameters or {}), **more}.items():
            if value != "":
                command += ["-p", f"{name}:={json.dumps(value, ensure_ascii=False)}"]
        # A session of its own, so that Ctrl-C reaches only the parent, which then ends the children in order.
        process = subprocess.Popen(command, stdout=self._stdout, text=True, start_new_session=True)
        self._processes.append(process)
        return process

    def stop(self) -> None:
        """Interrupt all of them, and kill those that are still running after five seconds."""
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
    """Whether images have so many subscribers, and all of `node`'s subscriptions but those to the input a publisher.

    Messages to a subscription that discovery has not matched with its publisher yet are lost, so that the input has to
    wait for this.
    """
    outputs = [each for each in node.subscriptions if each.topic_name not in _INPUTS]
    return node.count_subscribers("/image") >= image_subscribers and all(each.get_publisher_count() for each in outputs)


def quiet_environment() -> None:
    """Give this process and its children a large shared memory segment and a ROS domain of their own.

    Never that of the environment: demonstrations publish hands, and a robot may be listening there.
    """
    log_somewhere()
    os.environ.update(profile_environment(find_share("config/fastdds.xml"), os.environ))
    taken = os.environ.get("ROS_DOMAIN_ID", "0")
    os.environ["ROS_DOMAIN_ID"] = random.choice([domain for domain in map(str, range(1, 101)) if domain != taken])
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if os.environ.get("ROS_DISTRO") == "humble":  # which does not know it
        os.environ["ROS_LOCALHOST_ONLY"] = "1"
