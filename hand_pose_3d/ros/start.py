"""Starting ROS in a process."""

from __future__ import annotations

import os
from collections.abc import Sequence

from hand_pose_3d import interrupts
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.ros.share import log_somewhere, ros_arguments


def init(arguments: Sequence[str] | None = None) -> None:
    """rclpy.init with a process's arguments, None for its own. Raises InvalidInputError, in words, for bad ones."""
    import rclpy

    log_somewhere()
    try:
        # UTF-8 whatever the locale says, as rcl takes them.
        rclpy.init(args=[os.fsencode(each).decode("utf-8") for each in ros_arguments(arguments)])
    except UnicodeError:
        raise InvalidInputError("parameters must be UTF-8: give the file's name as a file: URL") from None
    except RuntimeError as error:  # what rcl raises for parameter files and rules that it cannot read
        reason = str(error).partition(", at /")[0].splitlines()[0]
        raise InvalidInputError(f"cannot start ROS with these arguments: {reason}") from error


def end() -> None:
    """rclpy.try_shutdown at the end of a program, which a further interrupt does not disturb."""
    import rclpy

    interrupts.ignore()
    rclpy.try_shutdown()


def file_name(parameter: str) -> str:
    """The name of a file in this process's locale, as a parameter, which is UTF-8, states it."""
    return os.fsdecode(parameter.encode("utf-8"))


def what_to_install(error: ImportError) -> str:
    """What to do about a Python module that is missing, or that does not go with the NumPy that is there."""
    remedy = "run `sh config/install_python.sh` of this package in the workspace, and activate its venv"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"Python module {error.name} is missing: {remedy}"
    return f"Python packages do not go together ({error}): {remedy}"
