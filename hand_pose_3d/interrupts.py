"""Ctrl-C and SIGTERM: programs end where they choose to, and without a traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from hand_pose_3d.errors import what_to_install


def end_quietly() -> None:
    """From now on an uncaught interrupt ends the process without a traceback, as SIGINT ends other programs.

    A missing module is reported in one sentence.
    """
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt | ModuleNotFoundError):
            before(kind, error, trace)
        if isinstance(error, ImportError):
            print(f"{os.path.basename(sys.argv[0])}: {what_to_install(error)}", file=sys.stderr)

    sys.excepthook = hook


def ignore() -> None:
    """Ignore SIGINT, which a terminal and `ros2 launch` both send: the second must not disturb a shutdown."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def remembered() -> list[int]:
    """A list to which Ctrl-C appends its signal number before it interrupts as usual.

    C code that is interrupted may turn the KeyboardInterrupt into another exception.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.default_int_handler(number, frame)

    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    return received


@contextmanager
def ending() -> Iterator[None]:
    """SIGTERM, or a closed terminal, ends the block as an exception does, with its usual status.

    So files are closed and removed.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    in_main = threading.current_thread() is threading.main_thread()
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if in_main and hasattr(signal, name)]
    handled = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
    before = {number: signal.signal(number, end) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def noted() -> Iterator[list[int]]:
    """A list to which SIGTERM and Ctrl-C append their signal number instead of ending the process."""
    received: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    handlers = {number: signal.signal(number, lambda n, _: received.append(n)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
