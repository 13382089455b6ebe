"""Real nodes in processes of their own, and a client that talks to them over DDS."""

from __future__ import annotations

import array
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


def _own_domain() -> int:
    """A domain that no test run beside this one has: its lock file is held until this process ends."""
    for number in range(os.getpid(), os.getpid() + 100):
        domain = 1 + number % 100
        try:
            file = os.open(f"{tempfile.gettempdir()}/hand_pose_3d_test_domain_{domain}", os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return domain
        except OSError:
            continue
    raise RuntimeError("a hundred test runs have all domains")


DOMAIN = _own_domain()

PATIENCE_S = 120.0
"""How long something is waited for that has to come: a busy computer takes minutes to start a node."""

os.environ["ROS_DOMAIN_ID"] = str(DOMAIN)
os.environ["ROS_LOCALHOST_ONLY"] = "1"
os.environ.setdefault("ROS_LOG_DIR", "/tmp/hand_pose_3d_test_log")


class Process:
    """A process of this interpreter; its output is kept."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {})},
        )

    def wait(self, timeout: float = PATIENCE_S) -> tuple[int, str]:
        """Wait for the end; (exit status, output)."""
        output, _ = self.popen.communicate(timeout=timeout)
        return self.popen.returncode, output

    def stop(self, number: int = signal.SIGINT, timeout: float = 60.0) -> tuple[int, str]:
        """Send a signal and wait; (exit status, output)."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            output, _ = self.popen.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            output, _ = self.popen.communicate()
            raise AssertionError(f"process did not stop:\n{output}") from None
        return self.popen.returncode, output


class Client:
    """Publishes images and keeps what the node answers."""

    def __init__(self, node: str = "/hand_pose_3d") -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import PoseStamped  # noqa: F401 - loads the type support that others share
        from hand_pose_3d.msg import HandPose3D, HandPose3DArray
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import CameraInfo, CompressedImage, Image
        from tf2_msgs.msg import TFMessage
        from visualization_msgs.msg import MarkerArray

        self.name = node
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.ros = rclpy.create_node("test_client", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.ros)
        self.image = self.ros.create_publisher(Image, "image", 10)
        self.compressed = self.ros.create_publisher(CompressedImage, "image/compressed", 10)
        self.info = self.ros.create_publisher(CameraInfo, "camera_info", 10)
        self.depth = self.ros.create_publisher(Image, "depth", 10)
        self.got: dict[str, list] = {}
        self._services: dict[str, object] = {}
        self._time = 1000
        for topic, kind in (
            ("~/hands", HandPose3DArray),
            ("~/hand", HandPose3D),
            ("~/markers", MarkerArray),
            ("/tf", TFMessage),
            ("/diagnostics", DiagnosticArray),
        ):
            self.listen(topic, kind)

    def listen(self, topic: str, kind: type) -> list:
        """Subscribe; the list of messages that grows."""
        messages = self.got.setdefault(topic, [])
        self.ros.create_subscription(kind, topic.replace("~", self.name), messages.append, 50)
        return messages

    def until(self, condition: Callable[[], object], timeout: float = PATIENCE_S, what: str = "") -> None:
        """Spin until the condition holds."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"did not happen: {what or condition}"
            self.executor.spin_once(timeout_sec=0.05)

    def spin(self, seconds: float) -> None:
        """Spin for a time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def connect(self) -> None:
        """Wait until node and client see each other."""
        self.until(lambda: self.ros.count_subscribers("image") + self.ros.count_subscribers("image/compressed"))
        self.until(lambda: self.ros.count_publishers("/tf") and self.ros.count_publishers(self.name + "/hands"))
        self.be_found()

    def be_found(self, node: str = "") -> None:
        """Wait until the node (the tracker if none is named) has found what was made here so far.

        It finds publishers and subscriptions in the order in which they were made, and the service's client, which it
        answers, is the last of them.
        """
        from rcl_interfaces.srv import GetParameters

        client = self.ros.create_client(GetParameters, f"{node or self.name}/get_parameters")
        self.until(client.service_is_ready, what="the node's services")
        answers: list = []
        while not any(answer.done() for answer in answers):
            assert len(answers) < PATIENCE_S, "the node answers no service"
            answers.append(client.call_async(GetParameters.Request()))
            end = time.monotonic() + 1.0
            while not answers[-1].done() and time.monotonic() < end:
                self.executor.spin_once(timeout_sec=0.05)
        self.ros.destroy_client(client)

    def make_image(self, value: int = 100, size: tuple[int, int] = (48, 64), **fields):
        """A plain grey rgb8 image with a stamp of its own."""
        from sensor_msgs.msg import Image

        height, width = size
        message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
        message.data = array.array("B", np.full((height, width, 3), value, np.uint8).tobytes())
        message.header.frame_id = "camera_optical"
        self.stamp(message)
        for name, content in fields.items():
            setattr(message, name, content)
        return message

    def stamp(self, message) -> None:
        """Give a message the next stamp, 0.1 s after the last."""
        self._time += 1
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(self._time * 100_000_000, 1_000_000_000)

    @staticmethod
    def info_message(size: tuple[int, int] = (48, 64)):
        """Intrinsics for images of a size."""
        from sensor_msgs.msg import CameraInfo

        message = CameraInfo(height=size[0], width=size[1], distortion_model="plumb_bob")
        message.k = [60.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0]
        message.d = [0.0] * 5
        return message

    def camera_info(self, size: tuple[int, int] = (48, 64)) -> None:
        """Publish intrinsics and let them arrive."""
        self.info.publish(self.info_message(size))
        self.spin(0.2)

    def ask(self, message, publisher=None, timeout: float = PATIENCE_S):
        """Publish an image and return the HandPose3DArray that answers it."""
        (publisher or self.image).publish(message)
        hands = self.got["~/hands"]
        wanted = message.header.stamp
        self.until(lambda: any(h.header.stamp == wanted for h in hands), timeout, "no answer to an image")
        return next(h for h in hands if h.header.stamp == wanted)

    def answered(self, value: int = 100):
        """The answer to one of several images: the first may be lost while the node subscribes anew."""
        hands = self.got["~/hands"]
        before = len(hands)

        def came() -> bool:
            self.image.publish(self.make_image(value))
            self.spin(0.2)
            return len(hands) > before

        self.until(came, what="no answer to any image")
        return hands[-1]

    def ask_until(self, condition: Callable[[], object], value: int = 100):
        """Ask images of one value until the condition holds; the last answer.

        For what the node does once it has found a subscription or a publisher of the client's.
        """
        for _ in range(200):
            answer = self.ask(self.make_image(value))
            self.spin(0.1)
            if condition():
                return answer
        raise AssertionError(f"did not happen: {condition}")

    def begin_call(self, kind: type, service: str, request):
        """Call a service of the node; the future of its answer.

        Clients are kept, and the node has found a new one before its first request: what it answers to one that it has
        not found is lost.
        """
        name = service.replace("~", self.name)
        if name not in self._services:
            client = self._services[name] = self.ros.create_client(kind, name)
            self.until(client.service_is_ready, what=f"service {service}")
            self.be_found(name.rpartition("/")[0])
        self.until(self._services[name].service_is_ready, what=f"service {service}")
        return self._services[name].call_async(request)

    def call(self, kind: type, service: str, request, timeout: float = PATIENCE_S):
        """Call a service of the node and wait for its answer."""
        future = self.begin_call(kind, service, request)
        self.until(future.done, timeout, f"answer of {service}")
        return future.result()

    def set_parameters(self, **values):
        """Set parameters (underscores that mean dots written as __); the list of results."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request()
        request.parameters = [Parameter(k.replace("__", "."), value=v).to_parameter_msg() for k, v in values.items()]
        return self.call(SetParameters, "~/set_parameters", request).results

    def diagnosis(self, condition: Callable[[object, dict[str, str]], object], timeout: float = PATIENCE_S):
        """Wait for a diagnostic status (status, its values) for which the condition holds."""
        found: list = []

        def look() -> bool:
            for array_message in self.got["/diagnostics"]:
                for status in array_message.status:
                    values = {entry.key: entry.value for entry in status.values}
                    if status.name.startswith(self.name.lstrip("/")) and condition(status, values):
                        found.append((status, values))
            self.got["/diagnostics"].clear()
            return bool(found)

        self.until(look, timeout, "no such diagnosis")
        return found[-1]

    def close(self) -> None:
        """Leave the domain."""
        self.executor.shutdown()
        self.ros.destroy_node()
        self.context.shutdown()
