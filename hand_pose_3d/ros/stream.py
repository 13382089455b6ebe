"""Counts published images that did not arrive, by CameraInfo of the same stamps or gaps in the stamps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

_HISTORY = 120  # last images that count: four seconds at 30 Hz
_MIN_EXPECTED = 10  # images before anything is reported
_PAUSE = 4
"""A gap of more ticks than this is a pause of the camera, as of one that is triggered, and no loss; set by hand."""
_MANY = 20  # gaps in which a pattern shows, set by hand
_WAIT_S = 1.0
"""An image arrives at most this long after its CameraInfo; set by hand."""


class StreamWatch:
    """Call it with every stamp; `lost` counts missing images among the last ones. Not thread-safe."""

    def __init__(self) -> None:
        self._images: deque[float] = deque(maxlen=_HISTORY)
        self._infos: dict[float, float] = {}  # arrival by stamp, of those whose image may still arrive
        self._came: deque[bool] = deque(maxlen=_HISTORY)  # whether the image came, by CameraInfo

    def image(self, stamp_s: float | None) -> None:
        """An image arrived."""
        if stamp_s is not None:
            self._images.append(stamp_s)

    def camera_info(self, stamp_s: float | None, now: float) -> None:
        """A CameraInfo arrived; now: monotonic seconds."""
        if stamp_s is not None:
            self._infos.setdefault(stamp_s, now)

    def time_jumped(self) -> None:
        """Forget earlier stamps, because time was set back."""
        self._images.clear()
        self._infos.clear()
        self._came.clear()

    def lost(self, now: float) -> tuple[int, int]:
        """(lost, published) of the last images; (0, 0) if unknown."""
        images, newest = set(self._images), max(self._images, default=float("-inf"))
        first = min(self._images, default=float("-inf"))  # before it, the subscription may not have been there
        for stamp, arrival in sorted(self._infos.items()):
            if stamp <= newest or now - arrival > _WAIT_S:
                del self._infos[stamp]
                if stamp >= first:
                    self._came.append(stamp in images)
        if any(self._came) or not self._images:
            return _missing(self._came)
        return _missing(_steps(self._images))


def _missing(came: Sequence[bool]) -> tuple[int, int]:
    """Counts of lost and published images. If about every n-th arrives, or so many of each n, none are lost: that is
    throttling."""
    places = [place for place, there in enumerate(came) if there]
    gaps = [b - a for a, b in zip(places, places[1:], strict=False)]
    thinned = len(gaps) >= 3 and max(gaps) - min(gaps) <= 1 and median(gaps) > 1
    thinned |= len(gaps) >= _MANY and any(_repeats(gaps, n) for n in (2, 3, 4))
    if len(came) < _MIN_EXPECTED or thinned:
        return 0, 0
    return len(came) - len(places), len(came)


def _repeats(gaps: Sequence[int], period: int) -> bool:
    """Whether gaps, one of each `period` or more larger than 1, come again in the same order, but for one in ten."""
    same = [a == b for a, b in zip(gaps, gaps[period:], strict=False)]
    return sum(same) >= 0.9 * len(same) and sum(gap > 1 for gap in gaps) >= 0.9 * len(gaps) / period


def _steps(stamps: Sequence[float]) -> list[bool]:
    """Which ticks of a camera's clock have an image, if its stamps are regular; else empty."""
    stamps = sorted(set(stamps))
    gaps = [b - a for a, b in zip(stamps, stamps[1:], strict=False)]
    if len(gaps) < 5:
        return []
    period = min(gaps)
    ticks = [gap / period for gap in gaps]
    whole = [max(1, round(tick)) for tick in ticks]
    steady = sum(abs(tick - n) < 0.2 for tick, n in zip(ticks, whole)) > 0.9 * len(ticks)
    whole = [n for n in whole if n <= _PAUSE]
    changes = sum(a != b for a, b in zip(whole, whole[1:], strict=False))
    # A long regular part with larger steps is a slower stream, or one that changed its rate.
    if not steady or changes < 0.25 * len(whole):
        return []
    return [True, *(tick == n for n in whole for tick in range(1, n + 1))]  # an image at the end of each gap
