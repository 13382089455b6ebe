"""Starting ROS in a process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hand_pose_3d import interrupts
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.ros.share import log_somewhere, own_arguments, ros_arguments

_PARAMETERS = "--ros-args -p NAME:=VALUE"
_USAGE = f"""usage: {{}} [{_PARAMETERS} ...] [--ros-args --params-file FILE] [--ros-args -r FROM:=TO ...]

All parameters, with default and range, are in `ros2 param describe`; those of hand_pose_3d and hand_teleop are in the
package's folder config, too."""


def init(arguments: Sequence[str] | None = None) -> None:
    """rclpy.init with a process's arguments, None for its own. Raises InvalidInputError for bad ones."""
    import rclpy

    log_somewhere()
    try:
        # UTF-8, which rcl expects whatever the locale.
        rclpy.init(args=[os.fsencode(each).decode("utf-8") for each in ros_arguments(arguments)])
    except UnicodeError:
        raise InvalidInputError("parameters must be UTF-8: give the file's name as a file: URL") from None
    except RuntimeError as error:  # what rcl raises for parameter files and rules that it cannot read
        raise InvalidInputError(f"cannot start ROS with these arguments: {reason(error)}") from error


def reason(error: Exception) -> str:
    """The message of an error of rclpy or rcl, without its place in their code."""
    return (str(error).partition(", at /")[0].splitlines() or [type(error).__name__])[0]


@contextmanager
def process(arguments: Sequence[str] | None = None) -> Iterator[None]:
    """Run ROS during a program's block, which ends without an error when the program is interrupted.

    arguments: the process's, None for its own; a program with its own options passes only ROS's. Raises
    InvalidInputError for bad arguments or names and other errors of rclpy, SystemExit for --help.
    """
    from rclpy.exceptions import NameValidationException, ParameterException
    from rclpy.executors import ExternalShutdownException
    from rclpy.impl.implementation_singleton import rclpy_implementation

    _check_own(own_arguments(arguments))
    interrupted = interrupts.remembered()
    init(arguments)
    # Each clause ends ROS before the exception, whose frames refer to the executors, is freed.
    try:
        yield
    except (KeyboardInterrupt, ExternalShutdownException):
        end()
    except (NameValidationException, ParameterException, rclpy_implementation.RCLError) as error:
        if not (end() or interrupted):
            raise InvalidInputError(reason(error)) from error
    except Exception:
        # A signal shuts rclpy's context down, so that any running call may raise any error.
        if not (end() or interrupted):
            raise
    else:
        end()


def _check_own(arguments: Sequence[str]) -> None:
    """Refuse arguments outside of --ros-args: a limit must not be ignored silently."""
    if {"-h", "--help"}.intersection(arguments):
        print(_USAGE.format(os.path.basename(sys.argv[0])))
        raise SystemExit(0)
    if arguments:
        raise InvalidInputError(f"there is no argument {arguments[0]!r}: parameters are given as {_PARAMETERS}")


def executor(node: Any) -> Any:
    """An executor that serves a node.

    Raises ExternalShutdownException if a signal has ended ROS meanwhile, when rclpy's would complain on being freed.
    """
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    if not node.context.ok():
        raise ExternalShutdownException
    made = SingleThreadedExecutor(context=node.context)
    made.add_node(node)
    return made


def release_signals() -> None:
    """Restore Python's signal handling, before executors are destroyed.

    rclpy's signal thread, which wakes executors, must have ended by then: otherwise their destruction may crash the
    process.
    """
    from rclpy.signals import uninstall_signal_handlers

    uninstall_signal_handlers()  # waits for the thread


def quiet() -> None:
    """From now on no interrupt disturbs the shutdown."""
    interrupts.ignore()
    release_signals()
    interrupts.ignore()


def end() -> bool:
    """End ROS in this process. Returns whether a signal had ended it before."""
    import rclpy

    quiet()
    ended = not rclpy.ok()
    rclpy.try_shutdown()
    return ended


def file_name(parameter: str) -> str:
    """A file name in this process's locale, from a parameter, which is UTF-8."""
    return os.fsdecode(parameter.encode("utf-8"))
