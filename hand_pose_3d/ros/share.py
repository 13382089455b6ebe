"""Files of the package that are not Python: in the checkout, or where colcon or pip put them."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path


def find_share(name: str) -> Path | None:
    """Path of a file such as 'msg/HandPose3D.msg' or 'config/fastdds.xml', None when it is not installed."""
    folders = [Path(__file__).resolve().parents[2], Path(sys.prefix) / "share" / "hand_pose_3d"]
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    folders += [Path(prefix) / "share" / "hand_pose_3d" for prefix in prefixes if prefix]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def log_somewhere() -> None:
    """Give ROS a temporary folder for its logs where there is no home, or one that cannot be written; else it ends."""
    home = os.environ.get("ROS_HOME") or os.path.join(os.path.expanduser("~"), ".ros")
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
