"""Files of the package that are not Python: in the checkout, or where colcon or pip put them."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def find_share(name: str) -> Path | None:
    """Path of a file such as 'msg/HandPose3D.msg' or 'config/fastdds.xml', None when it is not installed."""
    folders = [Path(__file__).resolve().parents[2], Path(sys.prefix) / "share" / "hand_pose_3d"]
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    folders += [Path(prefix) / "share" / "hand_pose_3d" for prefix in prefixes if prefix]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)
