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
