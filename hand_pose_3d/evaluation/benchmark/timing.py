"""Time contenders on the same frames and summarise the measurements."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.interfaces import VideoEstimator

END_TO_END = "end_to_end"
OTHER = "other"
"""Time of an estimator outside the stages that it times itself."""

_LEAST_FRAMES = 5  # of a pass, even beyond its time limit


@dataclass(frozen=True)
class Setting:
    """The setting of a measurement.

    mode: 'detect' searches every image, 'track' follows hands from image to image; keypoints: fast, thorough or "".
    """

    family: str
    backend: str
    precision: str
    device: str
    mode: str
    keypoints: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Setting:
        """The setting that a row of a report was measured in."""
        return cls(**{field.name: row[field.name] for field in fields(cls)})

    @property
    def label(self) -> str:
        """In one line, for tables and plots."""
        thorough = ", thorough keypoints" if self.keypoints == "thorough" else ""
        return f"{self.family} {self.mode}, {self.backend} {self.precision}{thorough}"


@dataclass(frozen=True, eq=False)
class Contender:
    """An estimator with the call of :class:`hand_pose_3d.HandPoseEstimator`, and what it is."""

    setting: Setting
    estimator: VideoEstimator


@dataclass(frozen=True)
class Plan:
    """How to measure. limit_s: a pass over the frames ends after this time, with five frames at least."""

    rounds: int = 2
    warm_up: int = 10
    limit_s: float = 30.0
    rate_hz: float = 30.0


def summary(samples_ms: Sequence[float]) -> dict[str, float | int | None]:
    """Percentiles and mean of milliseconds, and how many a second that is.

    fps is None where no time was spent. Percentiles are interpolated linearly (NumPy's default).
    """
    values = np.asarray(samples_ms, dtype=float)
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    mean = float(values.mean())
    return {
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "mean_ms": mean,
        "fps": 1e3 / mean if mean > 0 else None,
        "frames": len(values),
    }


def measure(
    contenders: Sequence[Contender],
    frames: Sequence[np.ndarray],
    plan: Plan,
    camera: Camera | None = None,
    *,
    clock: Callable[[], float] = time.perf_counter,
    cpu_clock: Callable[[], float] = time.process_time,
    passed: Callable[[Setting], object] = lambda setting: None,
) -> list[dict[str, Any]]:
    """One row per contender and stage, from passes over all frames in an order that rotates from round to round.

    frames: (H, W, 3) uint8 RGB of one size. Each pass begins with plan.warm_up calls that do not count and a reset.
    passed: called after each pass. Returns rows with the fields of Setting, 'stage', those of :func:`summary`, 'width',
    'height' and 'hands', the mean number of hands that were found; end-to-end rows also
    have 'cpu_ms': the mean processor time of all threads, which depends less on other programs of a busy machine.
    """
    samples: list[dict[str, list[float]]] = [{END_TO_END: []} for _ in contenders]
    found: list[list[int]] = [[] for _ in contenders]
    worked_s = [0.0] * len(contenders)
    order = list(range(len(contenders)))
    for turn in range(plan.rounds):
        for index in order if turn % 2 == 0 else order[::-1]:
            worked_s[index] += _pass(
                contenders[index].estimator, frames, plan, camera, samples[index], found[index], clock, cpu_clock
            )
            passed(contenders[index].setting)
    height, width = frames[0].shape[:2]
    rows = []
    for contender, stages, hands, cpu_s in zip(contenders, samples, found, worked_s):
        about = asdict(contender.setting)
        size = {"width": width, "height": height, "hands": float(np.mean(hands))}
        own = [{**about, "stage": stage, **summary(values), **size} for stage, values in stages.items()]
        own[0]["cpu_ms"] = 1e3 * cpu_s / len(hands)
        rows += own
    return rows


def _pass(
    estimator: VideoEstimator,
    frames: Sequence[np.ndarray],
    plan: Plan,
    camera: Camera | None,
    samples: dict[str, list[float]],
    found: list[int],
    clock: Callable[[], float],
    cpu_clock: Callable[[], float],
) -> float:
    for i in range(plan.warm_up):
        estimator(frames[i % len(frames)], camera=camera, stamp_s=i / plan.rate_hz)
    estimator.reset()
    begin, cpu_begin = clock(), cpu_clock()
    for i, frame in enumerate(frames):
        start = clock()
        hands = estimator(frame, camera=camera, stamp_s=i / plan.rate_hz)
        end = clock()
        total = 1e3 * (end - start)
        samples[END_TO_END].append(total)
        found.append(len(hands))
        stages = getattr(estimator, "timings_ms", {})
        if stages:
            for stage, milliseconds in stages.items():
                samples.setdefault(stage, []).append(milliseconds)
            samples.setdefault(OTHER, []).append(max(total - sum(stages.values()), 0.0))
        if end - begin > plan.limit_s and i + 1 >= _LEAST_FRAMES:
            break
    return cpu_clock() - cpu_begin
