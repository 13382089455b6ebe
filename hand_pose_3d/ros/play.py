"""Shared by the demos: an input that plays through nodes in processes of their own, and a folder of results."""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

from hand_pose_3d.errors import HandPoseError, one_line
from hand_pose_3d.outputs import write_beside
from hand_pose_3d.ros import start
from hand_pose_3d.ros.children import Children, are_connected, quiet_environment
from hand_pose_3d.ros.pictures import Pictures, open_pictures
from hand_pose_3d.ros.polling import Poller
from hand_pose_3d.ros.share import options_of
from hand_pose_3d.ros.typed_parameters import option_names, warn_of_unknown

NODE = ("-m", "hand_pose_3d.ros.node")
"""Arguments of Python that start the tracker."""
NODE_NAME = "/hand_pose_3d"  # of the tracker, with its namespace
START_TIMEOUT_S = 300.0  # for networks that load on a busy computer
_LIST = ".hand_pose_3d_demo.json"
"""File in the folder of results that lists those of the last run."""


def seconds_option(text: str) -> float:
    """A time of the command line, 0 for the default."""
    seconds = float(text)
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is no time from 0 to 1e9 seconds")
    return seconds


def options_parser(
    name: str, text: str, *, inputs: str, times: str, default: str = "", out: str
) -> argparse.ArgumentParser:
    """The command-line options of both demos. inputs: what the input may be; times: how long it plays by default."""
    parser = options_of(f"hand_pose_3d.ros.{name}", text)
    parser.add_argument("--input", default=default, help=f"{inputs} or /dev/videoN; default: a built-in clip")
    parser.add_argument("--out", type=Path, default=Path(out), help="folder for the results")
    parser.add_argument("--seconds", type=seconds_option, default=0.0, help=f"how long to run; {times}")
    parser.add_argument("--camera-file", default="", help="YAML calibration of the camera, for metres")
    return parser


class Player:
    """One run: starts the nodes, plays the input to them and listens. `written` lists the files that it writes.

    listeners: numbers of subscribers to images and to camera_info for which the input waits.
    """

    listeners = 2, 2

    def __init__(self, name: str, options: argparse.Namespace, pictures: Pictures) -> None:
        import rclpy

        self.options, self.pictures = options, pictures
        self.written: list[Path] = []
        self.children = Children()
        self._nodes: list[Popen[str]] = []
        self._received: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._fault: Exception | None = None  # of the thread that writes
        start.init()  # before a thread is started, which would wait forever after a failure
        self.ros = rclpy.create_node(name)
        warn_of_unknown(self.ros, option_names(options))
        self._poller = Poller(self.ros)
        # A daemon, as somebody who has not been made is not closed either.
        self._writer = threading.Thread(target=self._write_down, name="writer", daemon=True)
        self._writer.start()

    def later(self, handle: Callable[[bytes, int], None]) -> Callable[[bytes], None]:
        """A callback that records the arrival of raw messages in ns, and has another thread handle them."""
        return lambda data: self._received.put((handle, data, self.ros.get_clock().now().nanoseconds))

    def _write_down(self) -> None:
        while (entry := self._received.get()) is not None:
            handle, data, received_ns = entry
            try:
                if self._fault is None:
                    handle(data, received_ns)
            except Exception as error:  # noqa: BLE001 - raised where somebody waits for the results
                self._fault = error

    def start(self, *nodes: Popen[str], ready: Callable[[], bool]) -> None:
        """Wait until these nodes are ready for images. Raises HandPoseError when they are not."""
        self._nodes += nodes
        end = time.monotonic() + START_TIMEOUT_S
        while not (ready() and are_connected(self.ros, self.listeners[0])):
            if any(node.poll() is not None for node in nodes):
                raise HandPoseError("a node did not start; its output is above")
            if time.monotonic() > end:
                raise HandPoseError(f"the nodes were not ready after {START_TIMEOUT_S:.0f} s")
            self.spin(0.1)

    def play(self, seconds: float, *, loop: bool) -> None:
        """Play the input for this time, 0: to its end. Raises HandPoseError where it fails."""
        source = self.children.start(
            ("-m", "hand_pose_3d.ros.image_source"),
            input=as_parameter(self.options.input),
            camera_file=as_parameter(self.options.camera_file),
            duration=float(self.options.seconds or seconds),
            loop=loop,
            wait_for=self.listeners[0],
            wait_for_info=self.listeners[1],
        )
        while source.poll() is None:
            if any(node.poll() is not None for node in self._nodes):
                raise HandPoseError("a node ended before its input did; its output is above")
            self.spin(0.1)
        if source.returncode:
            raise HandPoseError("the image source failed; its output is above")
        self.spin(1.5)

    def spin(self, seconds: float) -> None:
        """Receive messages for this time."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s and self._fault is None:
            self._poller.wait(end_s)
        self.check()

    def check(self) -> None:
        """Raise HandPoseError where a result could not be written."""
        if isinstance(self._fault, HandPoseError):
            raise self._fault
        if self._fault is not None:
            raise HandPoseError(f"the results cannot be written: {one_line(self._fault)}") from self._fault

    def close(self) -> None:
        """Stop the processes."""
        import rclpy

        self.children.stop()
        self._received.put(None)
        self._writer.join()
        start.release_signals()  # a further interrupt ends the writing of results
        self._poller.close()
        self.ros.destroy_node()
        rclpy.try_shutdown()

    def run(self) -> None:
        """Play the input through the nodes. Raises HandPoseError if they do not start or publish nothing."""
        raise NotImplementedError

    def finish(self) -> str:
        """Write slow results after the run; returns the table of metrics."""
        raise NotImplementedError


def run(
    name: str,
    options: argparse.Namespace,
    results: Sequence[str],
    make: Callable[[Pictures], Player],
    photographs: bool = True,
) -> int:
    """A demo's main: checks the input, runs, writes, and reports errors in one sentence. Returns the exit status."""
    try:
        # Opened here, too, so that bad input is reported once and before anything starts.
        pictures = open_pictures(options.input, camera_file=options.camera_file)
        if pictures.kind == "photo" and not photographs:
            raise HandPoseError(f"{options.input} is a photograph: nothing moves in it; give a video or a camera")
        if pictures.live:
            pictures.close()  # for the process that publishes it
        prepare(options.out, [options.input, options.camera_file], results)
        quiet_environment()
        print(f"{name}: {one_line(options.input) or 'built-in clip'}, ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']}")
        player = make(pictures)
        try:
            try:
                player.run()
            finally:
                player.close()
            player.check()
            table = player.finish()
            player.written.append(write_beside(options.out / "figures.txt", f"{table}\n".encode()))
        finally:
            remember(options.out, player.written)
    except HandPoseError as error:
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"\n{table}\n")
    for path in player.written:
        print(one_line(path))
    return 0


def aligned(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values as a table."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def as_parameter(name: str) -> str:
    """A file's name as a ROS parameter, which is UTF-8: as a file: URL unless it is ASCII."""
    return name if name.isascii() else Path(os.path.abspath(os.path.expanduser(name))).as_uri()


def prepare(out: Path, inputs: Sequence[str], results: Sequence[str]) -> None:
    """Create the folder for the results and delete those that an earlier run has listed.

    Raises HandPoseError, and changes nothing, if other files have their names.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        there = [path for name in results for path in _tree(out / name)]
        earlier = _listed(out)
        for path in there:
            if any(os.path.exists(each) and path.samefile(each) for each in inputs):
                raise HandPoseError(f"{path} is the input and lies where a result belongs: choose another --out")
            if not path.is_dir() and _state(path) != earlier.get(str(path.relative_to(out))):
                raise HandPoseError(
                    f"{path} is not a result of an earlier demo, or was changed since: move it away, or choose another "
                    "folder with --out (make demo OUT=FOLDER)"
                )
        for path in reversed(there):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise HandPoseError(f"cannot write to the folder {out}: {error.strerror}") from error


def _tree(path: Path) -> list[Path]:
    """A file, or a folder and its content; empty if it does not exist."""
    if not os.path.lexists(path):
        return []
    return [path, *(sorted(path.rglob("*")) if path.is_dir() and not path.is_symlink() else ())]


def _state(path: Path) -> list[int]:
    found = path.lstat()
    return [found.st_size, found.st_mtime_ns]


def _listed(out: Path) -> dict[str, list[int]]:
    """Results of an earlier run, with size and modification time."""
    try:
        listed = json.loads((out / _LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return listed if isinstance(listed, dict) else {}


def remember(out: Path, written: Sequence[Path]) -> None:
    """List the results for the next run, which deletes them."""
    files = [path for each in written for path in _tree(each) if path.is_file()]
    (out / _LIST).write_text(json.dumps({str(path.relative_to(out)): _state(path) for path in files}))
