"""Starting ROS in a process."""

from __future__ import annotations

from collections.abc import Sequence

from hand_pose_3d.errors import InvalidInputError


def init(arguments: Sequence[str] | None) -> None:
    """rclpy.init with a process's arguments, None for its own. Raises InvalidInputError, in words, for bad ones."""
    import rclpy

    try:
        rclpy.init(args=None if arguments is None else list(arguments))
    except RuntimeError as error:  # what rcl raises for parameter files and rules that it cannot read
        reason = str(error).partition(", at /")[0].splitlines()[0]
        raise InvalidInputError(f"cannot start ROS with these arguments: {reason}") from error


def what_to_install(error: ImportError) -> str:
    """What to do about a Python module that is missing, or that does not go with the NumPy that is there."""
    remedy = "run `sh config/install_python.sh` of this package in the workspace, and activate its venv"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"Python module {error.name} is missing: {remedy}"
    return f"Python packages do not go together ({error}): {remedy}"
