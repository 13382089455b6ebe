"""Starting ROS in a process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hand_pose_3d import interrupts
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.ros.share import log_somewhere, own_arguments, ros_arguments

_PARAMETERS = "--ros-args -p NAME:=VALUE"
_USAGE = f"""usage: {{}} [{_PARAMETERS} ...] [--ros-args --params-file FILE] [--ros-args -r FROM:=TO ...]

All parameters stand in the package's folder config with default and range, as `ros2 param describe` tells them."""


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
        raise InvalidInputError(f"cannot start ROS with these arguments: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What rclpy or rcl says, without the places in their code."""
    return (str(error).partition(", at /")[0].splitlines() or [type(error).__name__])[0]


@contextmanager
def process(arguments: Sequence[str] | None = None) -> Iterator[None]:
    """ROS for the length of a program, which leaves the block in peace when it is told to end.

    arguments: the process's, None for its own; a program with options of its own passes ROS's alone. Raises
    InvalidInputError, in words, for bad ones, for bad names and for what else rclpy refuses, SystemExit for --help.
    """
    from rclpy.exceptions import NameValidationException, ParameterException
    from rclpy.executors import ExternalShutdownException
    from rclpy.impl.implementation_singleton import rclpy_implementation

    _check_own(own_arguments(arguments))
    told = interrupts.remembered()
    init(arguments)
    # Each clause ends ROS before it lets go of the exception, whose frames keep the executors.
    try:
        yield
    except (KeyboardInterrupt, ExternalShutdownException):
        end()
    except (NameValidationException, ParameterException, rclpy_implementation.RCLError) as error:
        if not (end() or told):
            raise InvalidInputError(reason(error)) from error
    except Exception:
        # A signal takes rclpy's context away, and whatever was under way at that moment fails in its own way.
        if not (end() or told):
            raise
    else:
        end()


def _check_own(arguments: Sequence[str]) -> None:
    """A limit that is given without --ros-args must not be passed over in silence."""
    if {"-h", "--help"}.intersection(arguments):
        print(_USAGE.format(os.path.basename(sys.argv[0])))
        raise SystemExit(0)
    if arguments:
        raise InvalidInputError(f"there is no argument {arguments[0]!r}: parameters are given as {_PARAMETERS}")


def release_signals() -> None:
    """Give signals back to Python, before executors are let go of.

    rclpy's own thread for signals, which wakes them up, must have ended by then: an executor that goes away meanwhile
    crashes the process.
    """
    from rclpy.signals import uninstall_signal_handlers

    uninstall_signal_handlers()  # waits for the thread


def quiet() -> None:
    """From now on no interrupt disturbs what is being taken down."""
    interrupts.ignore()
    release_signals()
    interrupts.ignore()


def end() -> bool:
    """The end of ROS in this process. Whether a signal had ended it before."""
    import rclpy

    quiet()
    ended = not rclpy.ok()
    rclpy.try_shutdown()
    return ended


def file_name(parameter: str) -> str:
    """The name of a file in this process's locale, as a parameter, which is UTF-8, states it."""
    return os.fsdecode(parameter.encode("utf-8"))
