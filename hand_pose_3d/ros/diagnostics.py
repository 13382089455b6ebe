"""The node's health: counts, latencies, and the status for /diagnostics."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

OK, WARN, ERROR, STALE = 0, 1, 2, 3
"""Values of diagnostic_msgs/DiagnosticStatus.level."""

_TIMED_IMAGES = 300  # last images from which percentiles are computed: ten seconds at 30 Hz
_PERCENTILES = " p50 / p95 (ms)"
"""Suffix of a stage's name; the value is two numbers separated by " / "."""

_REPLACED, _PLACEMENT = "images replaced by newer ones", "metric placement"

_LOST_SHARE = 0.2
"""Share of lost images from which on to warn: a busy computer loses some. Set by hand."""

_WITHOUT_DEPTH = 0.25
"""Images that should have had depth, over those that had it, from which on it is reported; set by hand."""

_AHEAD_S = 0.5
"""Time in the future from which on a stamp is of another clock; set by hand."""

_UNORDERED_SHARE = 0.3
"""Share of images with stamps no newer than the last one's, or in the future, from which on to warn: a few come late.
Set by hand."""

LOST_REMEDY = (
    "start the camera's process with FASTDDS_DEFAULT_PROFILES_FILE (FASTRTPS_DEFAULT_PROFILES_FILE up to Jazzy) naming "
    "config/fastdds.xml of this package, let it publish reliable, or set image_transport to compressed; "
    "a busy computer loses some, too"
)


@dataclass(frozen=True)
class Situation:
    """State of the node at the time of a report, beside the counts."""

    state: str = "active"
    failure: str = ""
    """Why the last attempt to configure failed."""
    enabled: bool = True
    device: str = ""
    model: str = ""
    precision: str = ""
    keypoints: str = ""
    image_topic: str = "image"
    publishers: int = 0
    silence: str = ""
    """Why no image comes although something is published."""
    lost: tuple[int, int] = (0, 0)
    """Number of the last images that did not arrive, and number of published ones."""
    image_timeout_s: float = 2.0
    qos_mismatch: str = ""
    metric: str = ""
    hand_size: str = ""
    loading: bool = False
    notes: tuple[str, ...] = ()


@dataclass
class _Window:
    """Counts since the last report."""

    start: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    last_reason: dict[str, str] = field(default_factory=dict)


class Health:
    """Counts what happens to images. Methods may be called from any thread; times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._lock = threading.Lock()
        self._total: Counter[str] = Counter()
        self._window = _Window(start=now)
        self._started = now
        self._last_image: float | None = None
        self._working_since: float | None = None
        self._samples: dict[str, deque[float]] = {}
        self._last_age: float | None = None
        self._judged: tuple[int, str] | None = None  # the last time that images had come

    def restart(self, now: float) -> None:
        """Wait for images again (activation, end of a pause)."""
        with self._lock:
            self._started, self._last_image, self._judged = now, None, None
            self._window = _Window(start=now)
            self._samples.clear()

    def image_arrived(self, now: float, age_s: float | None) -> None:
        """An image message arrived; age_s: seconds since its stamp, None without a stamp."""
        with self._lock:
            self._last_image, self._last_age = now, age_s
            self._count("received")
            if age_s is not None and age_s < -_AHEAD_S:
                self._count("ahead")
                self._window.last_reason["ahead"] = f"images are stamped {-age_s:.1f} s in the future"

    def count(self, what: str, reason: str = "") -> None:
        """One more of: replaced, stale, failed, failed_load, answered, hands, rejected_<message>; late, repeated,
        jumped (stamps are not newer); used_depth, unused_depth (not used), missing_depth (only other images had it)."""
        with self._lock:
            self._count(what)
            if reason:
                self._window.last_reason[what] = reason

    def _count(self, what: str, by: int = 1) -> None:
        self._total[what] += by
        self._window.counts[what] += by

    def work_begins(self, now: float) -> None:
        """The estimator starts on an image."""
        with self._lock:
            self._working_since = now

    def work_ends(self) -> None:
        """The estimator has finished with an image, with or without result."""
        with self._lock:
            self._working_since = None

    def answered(self, stages_ms: Mapping[str, float], hands: int) -> None:
        """The hands of an image were published; stages_ms: milliseconds by stage."""
        with self._lock:
            self._count("answered")
            self._count("hands", hands)
            for stage, milliseconds in stages_ms.items():
                self._samples.setdefault(stage, deque(maxlen=_TIMED_IMAGES)).append(milliseconds)

    def report(self, now: float, situation: Situation) -> tuple[int, str, dict[str, str]]:
        """(level, sentence, values) for the time since the last report, and begin the next window."""
        with self._lock:
            window, self._window = self._window, _Window(start=now)
            seconds = max(now - window.start, 1e-3)
            level, sentence = self._judge(now, window, situation)
            self._judged = (level, sentence) if window.counts else self._judged
            values = {
                "state": situation.state if situation.enabled else f"{situation.state}, paused",
                "device": situation.device,
                "model": situation.model,
                "precision": situation.precision,
                "keypoints": situation.keypoints,
                "other networks": "loading" if situation.loading else "",
                _PLACEMENT: situation.metric,
                "hand size": situation.hand_size,
                "image rate (Hz)": f"{window.counts['received'] / seconds:.1f}",
                "answer rate (Hz)": f"{window.counts['answered'] / seconds:.1f}",
                "hands": str(self._total["hands"]),
                "images received": str(self._total["received"]),
                "images answered": str(self._total["answered"]),
                _REPLACED: str(self._total["replaced"]),
                "images out of order": str(self._total["late"]),
                "images with a repeated stamp": str(self._total["repeated"]),
                "times that stamps went back": str(self._total["jumped"]),
                "images too old": str(self._total["stale"]),
                "images failed": str(self._total["failed"]),
                "networks failed to load": str(self._total["failed_load"]),
                "hands not finite": str(self._total["rejected_hand"]),
            }
            if situation.lost[1]:
                values["images lost on the way"] = "{} of the last {}".format(*situation.lost)
            for name in ("used", "unused", "missing"):
                values[f"images with depth {name}"] = str(self._total[f"{name}_depth"])
            for name in ("image", "camera_info", "depth"):
                values[f"{name} messages rejected"] = str(self._total[f"rejected_{name}"])
            if self._last_image is not None:
                values["time since last image (s)"] = f"{now - self._last_image:.2f}"
            if self._last_age is not None:
                values["image age on arrival (ms)"] = f"{1e3 * self._last_age:.1f}"
            for stage, samples in self._samples.items():
                p50, p95 = np.percentile(np.fromiter(samples, float), [50, 95])
                values[f"{stage}{_PERCENTILES}"] = f"{p50:.1f} / {p95:.1f}"
        return level, sentence, values

    def _judge(self, now: float, window: _Window, situation: Situation) -> tuple[int, str]:
        if situation.state == "configuring":
            return OK, "loading the networks"
        if situation.failure:
            return ERROR, f"{situation.state}: {situation.failure}"
        if situation.state != "active":
            return OK, f"{situation.state}: no images are processed"
        if not situation.enabled:
            return OK, "paused by ~/enable"
        counts, reasons = window.counts, window.last_reason
        timeout = situation.image_timeout_s
        if counts["failed_load"]:
            return WARN, reasons["failed_load"]
        if self._working_since is not None and now - self._working_since > max(5.0, timeout):
            return ERROR, f"no result for {now - self._working_since:.0f} s: the networks hang or are far too slow"
        if self._last_image is None:
            if situation.qos_mismatch:
                return WARN, situation.qos_mismatch
            if now - self._started < timeout:
                return OK, "waiting for the first image"
            if situation.silence:
                return WARN, f"no image on {situation.image_topic} yet: {situation.silence}"
            if situation.lost[0]:
                return WARN, f"no image on {situation.image_topic} yet, but CameraInfo arrives: {LOST_REMEDY}"
            publishers = {0: "nobody publishes it", 1: "its publisher is silent"}.get(
                situation.publishers, f"its {situation.publishers} publishers are silent"
            )
            return WARN, f"no image on {situation.image_topic} yet: {publishers}"
        if now - self._last_image > timeout:
            why = situation.qos_mismatch if situation.publishers else "its publisher is gone"
            sentence = f"no image on {situation.image_topic} for {now - self._last_image:.1f} s"
            return STALE, f"{sentence}: {why}" if why else sentence
        if counts["failed"]:
            return ERROR, f"{counts['failed']} images failed: {reasons.get('failed', '')}"
        if counts["rejected_image"]:
            level = WARN if counts["answered"] else ERROR
            return level, f"{counts['rejected_image']} images rejected: {reasons.get('rejected_image', '')}"
        if counts["stale"]:
            level = WARN if counts["answered"] else ERROR
            return level, f"{counts['stale']} images were too old on arrival: {reasons.get('stale', '')}"
        if counts["ahead"] > _UNORDERED_SHARE * counts["received"]:
            return WARN, f"{reasons['ahead']}: clocks differ, or use_sim_time is set and nobody publishes /clock"
        for name in ("camera_info", "depth", "hand"):
            if counts[f"rejected_{name}"]:
                return WARN, reasons.get(f"rejected_{name}", f"{name} rejected")
        unordered = counts["jumped"] + counts["late"] + counts["repeated"]
        if unordered > max(1, _UNORDERED_SHARE * counts["received"]):
            several = situation.publishers > 1
            cause = f"there are {situation.publishers} publishers" if several else "the camera must stamp each one anew"
            return WARN, (
                f"stamps of {unordered} of {counts['received']} images on {situation.image_topic} repeat the last "
                f"one's or go back, so that motion is not known: {cause}"
            )
        if situation.publishers > 1:
            return WARN, (
                f"{situation.publishers} publishers of images on {situation.image_topic}: a hand of one would be "
                "followed in the other's"
            )
        if situation.notes:
            return WARN, situation.notes[0]
        for name in ("unused", "missing"):
            if counts[f"{name}_depth"] > _WITHOUT_DEPTH * counts["used_depth"]:
                return WARN, reasons[f"{name}_depth"]
        lost, published = situation.lost
        if lost > _LOST_SHARE * published:
            return WARN, f"{lost} of the last {published} images did not arrive: {LOST_REMEDY}"
        if counts["received"] > 5 and counts["answered"] < 0.5 * counts["received"]:
            return WARN, (
                f"{counts['answered']} of {counts['received']} images processed: images arrive faster than this "
                "computer can process them, or out of order"
            )
        if not counts and self._judged is not None:  # between two images of a slow camera
            return self._judged
        return OK, "tracking hands" if counts["hands"] else "running, no hand in view"


def status_message(name: str, hardware: str, level: int, sentence: str, values: Mapping[str, str]) -> Any:
    """A diagnostic_msgs/DiagnosticStatus."""
    from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

    return DiagnosticStatus(
        level=bytes([level]),
        name=name,
        hardware_id=hardware,
        message=sentence,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


@dataclass(frozen=True)
class Diagnosis:
    """Values that a program reads back from a node's diagnostics."""

    state: str
    device: str
    model: str
    placement: str
    replaced: int
    """Images that newer ones replaced before they were processed."""
    stages_ms: dict[str, tuple[float, float]]
    """50th and 95th percentile of each stage's time."""


def values_of(message: Any, node: str) -> dict[str, str]:
    """All values of a node, given by its full name, in a diagnostic_msgs/DiagnosticArray; empty if it has none."""
    for status in message.status:
        if status.name.partition(":")[0] == node.lstrip("/"):
            return {entry.key: entry.value for entry in status.values}
    return {}


def parse(message: Any, node: str) -> Diagnosis | None:
    """The values of one of our nodes, by full name, in a diagnostic_msgs/DiagnosticArray; None if it has none."""
    values = values_of(message, node)
    if not values:
        return None
    stages = {
        key.removesuffix(_PERCENTILES): tuple(float(x) for x in value.split(" / "))
        for key, value in values.items()
        if key.endswith(_PERCENTILES)
    }
    return Diagnosis(
        state=values["state"],
        device=values["device"],
        model=values["model"],
        placement=values[_PLACEMENT],
        replaced=int(values[_REPLACED]),
        stages_ms=stages,  # type: ignore[arg-type]
    )
