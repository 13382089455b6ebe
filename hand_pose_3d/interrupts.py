"""Ctrl-C in a program that is still importing, or that is ending already: no traceback."""

from __future__ import annotations

import signal
import sys
import threading
from types import TracebackType


def end_quietly() -> None:
    """From now on an interrupt that nobody catches ends the process without a traceback, as SIGINT ends programs."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            before(kind, error, trace)

    sys.excepthook = hook


def ignore() -> None:
    """A terminal and `ros2 launch` both send SIGINT: the second one must not disturb the end of a program."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
