"""The one family of errors that hand_pose_3d raises on purpose."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real

LARGEST = 1e6
"""Upper limit of pixels, metres and coefficients: those of real cameras, hands and robots are far smaller."""


EXTRAS = {
    "anny": "render",
    "fpng": "render",
    "matplotlib": "evaluate",
    "mediapipe": "benchmark",
    "moderngl": "render",
    "rerun": "viewer",
    "rosbags": "bag",
    "tflite": "train",
}
"""The extra of this package that installs a module."""


class HandPoseError(Exception):
    """Base of every error raised on purpose; its text is one sentence for the user."""


class InvalidInputError(HandPoseError, ValueError):
    """An argument, image, file or message does not have the required form."""


class WeightsError(HandPoseError):
    """A weights file is missing, damaged or does not belong to the network."""


class DeviceError(HandPoseError):
    """The requested compute device cannot be used."""


class OutOfMemoryError(DeviceError):
    """The device has no memory left for an image."""


def check_numbers(values: Mapping[str, float], *, positive: bool = False) -> None:
    """Raise InvalidInputError, by name, for a value that is not finite, is negative or, if `positive`, is zero."""
    for name, value in values.items():
        if not (isinstance(value, Real) and math.isfinite(value) and (value > 0 or (value == 0 and not positive))):
            allowed = "a positive number" if positive else "zero or a positive number"
            raise InvalidInputError(f"{name} must be {allowed}, not {value}")


def check_stamp(stamp_s: float) -> float:
    """The stamp as a float. Raises InvalidInputError unless it is a finite number."""
    if not (isinstance(stamp_s, Real) and math.isfinite(stamp_s)):
        raise InvalidInputError(f"stamp_s must be a finite number of seconds, not {stamp_s!r}")
    return float(stamp_s)


@contextmanager
def naming(what: object) -> Iterator[None]:
    """Begin an InvalidInputError with what it is about: an image of many, say."""
    try:
        yield
    except InvalidInputError as error:
        raise InvalidInputError(f"{what}: {error}") from error


@contextmanager
def in_words(program: str) -> Iterator[None]:
    """End the program with one line where something is wrong that its user can change."""
    try:
        yield
    except (HandPoseError, OSError) as error:
        sys.exit(one_line(f"{program}: {error}"))
    except ModuleNotFoundError as error:
        sys.exit(one_line(f"{program}: {extra_for(error) or error}"))


def extra_for(error: ModuleNotFoundError) -> str:
    """How to install a missing module that an extra of this package brings; empty for others."""
    name = (error.name or "").partition(".")[0]
    if name not in EXTRAS:
        return ""
    package = "rerun-sdk" if name == "rerun" else name
    apart = ", in a virtual environment of its own, as it needs NumPy 1" if name == "mediapipe" else ""
    return (
        f"this needs the module {name}: pip install 'hand_pose_3d[{EXTRAS[name]}]', or {package} beside colcon{apart}"
    )


def one_line(text: object) -> str:
    """Text for a line of a terminal: what cannot be printed, as in odd file names, is written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))


def what_to_install(error: ImportError) -> str:
    """How to install a Python module that is missing or not compatible with the installed NumPy."""
    if isinstance(error, ModuleNotFoundError) and (extra := extra_for(error)):
        return extra
    install = (
        "in a ROS workspace run `sh config/install_python.sh` of this package and activate its venv; elsewhere pip "
        "install this package"
    )
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return f"Python packages are not compatible with each other ({error}): {install}"
    package = error.name.partition(".")[0]
    if package == "hand_pose_3d":
        install = "build this package with colcon and source install/setup.sh, or pip install it"
    elif package == "rclpy" or package.endswith(("_msgs", "_interfaces", "_srvs")):
        install = "source ROS 2's setup file; `rosdep install` brings packages that it lacks"
    return f"Python module {error.name} is missing: {install}"
