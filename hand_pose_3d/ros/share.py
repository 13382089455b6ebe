"""Shared by programs: the package's data files, environment and command lines."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def find_share(name: str) -> Path | None:
    """Path of a file such as 'msg/HandPose3D.msg' or 'config/fastdds.xml', None when it is not installed."""
    folders = [Path(__file__).resolve().parents[2], Path(sys.prefix) / "share" / "hand_pose_3d"]
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    folders += [Path(prefix) / "share" / "hand_pose_3d" for prefix in prefixes if prefix]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def profile_environment(profile: Path | None, environment: Mapping[str, str]) -> dict[str, str]:
    """The variable that sets our Fast DDS profile; empty if the user has configured transports already.

    With the default profile most best-effort images are lost, as its shared memory segment is too small. LARGE_DATA
    would help as well, but disconnects every process that does not set it, such as camera drivers.
    """
    # Up to Jazzy only the old one is read. From Kilted on every process that has it warns that it is deprecated, also
    # beside the new one: so one of them is set, by distribution, and never both.
    new, old = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"
    reads_old_only = environment.get("ROS_DISTRO") in ("humble", "iron", "jazzy")
    read = {old, "FASTDDS_BUILTIN_TRANSPORTS"} | (set() if reads_old_only else {new})
    if profile is None or any(name in environment for name in read):
        return {}
    return {old if reads_old_only else new: str(profile)}


class _Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = "default" in (action.help or "") or action.default in (None, "", False)
        return action.help if told else super()._get_help_string(action)


def options_of(program: str, text: str | None) -> argparse.ArgumentParser:
    """A command line whose help shows defaults. text: its first line says what the program does."""
    return argparse.ArgumentParser(program, description=(text or "").splitlines()[0], formatter_class=_Defaults)


def own_arguments(arguments: Sequence[str] | None) -> list[str]:
    """The arguments (None: this process's) that are not ROS's, which stand between --ros-args and -- or the end."""
    return _split(arguments)[0]


def ros_arguments(arguments: Sequence[str] | None) -> list[str]:
    """The arguments (None: this process's) that are ROS's, with --ros-args and -- about them."""
    return _split(arguments)[1]


def _split(arguments: Sequence[str] | None) -> tuple[list[str], list[str]]:
    own: list[str] = []
    ros: list[str] = []
    inside = False
    for argument in sys.argv[1:] if arguments is None else arguments:
        begins, ends = argument == "--ros-args", inside and argument == "--"
        (ros if begins or inside else own).append(argument)
        inside = begins or (inside and not ends)
    return own, ros


def log_somewhere() -> None:
    """Give ROS a temporary folder for its logs without a writable home, where rcl would fail."""
    # As rcl reads it: from the variable only, unlike Python, which asks the system as well.
    home = os.environ.get("ROS_HOME") or os.path.join(os.environ.get("HOME", ""), ".ros")
    folder = os.path.join(home, "log")
    if "ROS_LOG_DIR" in os.environ:
        return
    try:
        if os.path.isabs(folder):
            os.makedirs(folder, exist_ok=True)
        usable = os.path.isabs(folder) and os.access(folder, os.W_OK)
    except OSError:
        usable = False
    if not usable:
        os.environ["ROS_LOG_DIR"] = os.path.join(tempfile.gettempdir(), f"ros_log_{os.getuid()}")
