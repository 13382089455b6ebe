"""Start-up time and resident memory of a fresh process.

    python -m hand_pose_3d.evaluation.benchmark.process '{"family": "lite", "settings": {}, "frames": 60}'

is the process that is measured; it prints one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from hand_pose_3d.errors import HandPoseError

if TYPE_CHECKING:
    from hand_pose_3d.estimator import HandPoseEstimator
    from hand_pose_3d.evaluation.mediapipe_hands import MediaPipeHands

_TIMEOUT_S = 600.0  # of a measured process, set by hand


def memory_mb(pid: int | str = "self") -> dict[str, float | None]:
    """Resident memory of a process now and at its peak, in MB of 10**6 bytes; None where there is no /proc."""
    status = Path(f"/proc/{pid}/status")
    kilobytes: dict[str, int] = {}
    if status.is_file():
        lines = (line.split() for line in status.read_text(encoding="utf-8").splitlines())
        kilobytes = {line[0]: int(line[1]) for line in lines if line and line[0] in ("VmRSS:", "VmHWM:")}
    return {
        name: round(kilobytes[key] * 1.024e-3, 1) if key in kilobytes else None
        for name, key in (("rss_mb", "VmRSS:"), ("peak_mb", "VmHWM:"))
    }


def make_estimator(family: str, settings: dict[str, Any]) -> HandPoseEstimator | MediaPipeHands:
    """The estimator of a family: 'lite', 'paper' or 'mediapipe', which takes max_hands and tracking only."""
    if family == "mediapipe":
        from hand_pose_3d.evaluation.mediapipe_hands import MediaPipeHands

        return MediaPipeHands(**{name: settings[name] for name in ("max_hands", "tracking") if name in settings})
    from hand_pose_3d.estimator import HandPoseEstimator

    return HandPoseEstimator(model=family, **settings)


def measure_start(
    family: str, settings: dict[str, Any], frames: int = 60, *, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Start a process that estimates some frames: 'start_s' from its start to its first result, and its memory.

    Raises HandPoseError with the process's last line of output when it fails.
    """
    request = json.dumps({"family": family, "settings": settings, "frames": frames}, default=str)
    command = [sys.executable, "-m", "hand_pose_3d.evaluation.benchmark.process", request]
    begin = clock()
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        start_s = clock() - begin
        try:
            rest, said = process.communicate(timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise HandPoseError(f"{family}: the process did not end within {_TIMEOUT_S:.0f} s") from error
    if process.returncode or ready.strip() != "ready":
        raise HandPoseError(f"{family}: the process failed: {(said.strip().splitlines() or ['no output'])[-1]}")
    return {"family": family, "mode": "track", "start_s": start_s, **json.loads(rest)}


def measure_help(
    arguments: Sequence[str] = ("-m", "hand_pose_3d.cli", "--help"),
    repeat: int = 5,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Median time in seconds that `hand_pose_3d --help` takes in a process of its own."""
    times = []
    for _ in range(repeat):
        start = clock()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, timeout=_TIMEOUT_S)
        times.append(clock() - start)
    return median(times)


def _serve(request: dict[str, Any]) -> None:
    from hand_pose_3d.evaluation.benchmark.frames import noise, read_clip

    estimator = make_estimator(request["family"], {**request["settings"], "tracking": True})
    clip = read_clip(2) or noise(2)
    estimator(clip.frames[0], camera=clip.camera, stamp_s=0.0)
    # The first line is the sign that it is ready; libraries may write to standard error as they like.
    print("ready", flush=True)
    for i in range(1, request["frames"]):
        estimator(clip.frames[i % len(clip.frames)], camera=clip.camera, stamp_s=i / 30)
    print(json.dumps(memory_mb()))


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
