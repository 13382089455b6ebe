"""Images that were published and never arrived, told from CameraInfo of the same stamps or from gaps in the stamps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

_HISTORY = 120
_MIN_EXPECTED = 10
_WAIT_S = 1.0
"""An image comes at most this much after its CameraInfo."""


class StreamWatch:
    """Told of every stamp that comes; `lost` tells how many of the last images are missing. Not for several threads."""

    def __init__(self) -> None:
        self._images: deque[float] = deque(maxlen=_HISTORY)
        self._infos: dict[float, float] = {}  # arrival by stamp, of those not judged yet
        self._came: deque[bool] = deque(maxlen=_HISTORY)  # whether the image came, by CameraInfo

    def image(self, stamp_s: float | None) -> None:
        """An image came."""
        if stamp_s is not None:
            self._images.append(stamp_s)

    def camera_info(self, stamp_s: float | None, now: float) -> None:
        """A CameraInfo came; now: monotonic seconds."""
        if stamp_s is not None:
            self._infos.setdefault(stamp_s, now)

    def time_jumped(self) -> None:
        """Stamps begin anew."""
        self._images.clear()
        self._infos.clear()
        self._came.clear()

    def lost(self, now: float) -> tuple[int, int]:
        """(lost, published) of the last images, as far as it is known; (0, 0) if it is not."""
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
    """Counts of what came and what did not, unless every n-th came: that is somebody's intention."""
    places = [place for place, there in enumerate(came) if there]
    gaps = [b - a for a, b in zip(places, places[1:], strict=False)]
    thinned = len(gaps) >= 3 and len(set(gaps)) == 1 and gaps[0] > 1
    if len(came) < _MIN_EXPECTED or thinned:
        return 0, 0
    return len(came) - len(places), len(came)


def _steps(stamps: Sequence[float]) -> list[bool]:
    """Which ticks of a camera's clock have an image, if its stamps are those of a steady clock; else nothing."""
    stamps = sorted(set(stamps))
    gaps = [b - a for a, b in zip(stamps, stamps[1:], strict=False)]
    if len(gaps) < 5:
        return []
    period = min(gaps)
    ticks = [gap / period for gap in gaps]
    whole = [max(1, round(tick)) for tick in ticks]
    steady = sum(abs(tick - n) < 0.2 for tick, n in zip(ticks, whole)) > 0.9 * len(ticks)
    changes = sum(a != b for a, b in zip(whole, whole[1:], strict=False))
    # A stream that goes in equal steps for long is a slower one, or one that changed its rate.
    if not steady or changes < 0.25 * len(whole):
        return []
    out = [True]
    for n in whole:
        out += [False] * min(n - 1, _HISTORY) + [True]
    return out
