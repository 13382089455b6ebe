"""Settings of all tests: a slow machine is no failure, and the same examples are drawn in every run."""

import inspect
import os
import signal

import pytest
from click.testing import CliRunner, Result
from hypothesis import settings

settings.register_profile("hand_pose_3d", deadline=None, derandomize=True)
settings.load_profile("hand_pose_3d")

if not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")  # read when MuJoCo is imported, which is when the first test needs it

# Before 8.2 click's runner has either an output with stderr in it or a stderr; since then it has both.
if "mix_stderr" in inspect.signature(CliRunner).parameters:
    CliRunner.__init__.__defaults__ = (*CliRunner.__init__.__defaults__[:-1], False)
    Result.output = property(lambda result: result.stdout + result.stderr)  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def interrupts_stay_as_they_are():
    """Programs that end leave SIGINT ignored, which those that a later test starts would inherit."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)
