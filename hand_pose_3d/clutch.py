"""Clutches that somebody holds: closed while held, open as soon as they are let go of or not seen any more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hand_pose_3d.skeleton import Side
from hand_pose_3d.teleoperation import Observation

LOST_AFTER_S = 0.1
"""A clutch that is not seen for this long has been let go of."""


class HeldClutch:
    """Says when it is closed and when let go. It closes when held for `hold_s`, after it was seen open."""

    def __init__(self, hold_s: float = 0.0) -> None:
        self.hold_s = hold_s
        self.closed = False
        self._armed = False
        self._held_since_s: float | None = None
        self._seen_s = -math.inf

    def update(self, held: bool | None, now_s: float) -> bool | None:
        """True when it closes now, False when it opens now, None otherwise. held: None where it cannot be seen."""
        if now_s < self._seen_s:
            self._seen_s = now_s
            return self._let_go()
        lost = now_s - self._seen_s > LOST_AFTER_S  # whether or not anybody looked meanwhile
        if held is None:
            return self._let_go() if lost else None
        self._seen_s = now_s
        if lost and self._let_go() is False:
            return False
        if not held:
            was = self._let_go()
            self._armed = True
            return was
        if self._held_since_s is None:
            self._held_since_s = now_s
        if self._armed and not self.closed and now_s - self._held_since_s >= self.hold_s:
            self.closed = True
            return True
        return None

    def _let_go(self) -> bool | None:
        """Open; it closes again only after it was seen open."""
        was, self.closed, self._armed, self._held_since_s = self.closed, False, False, None
        return False if was else None


@dataclass
class PinchClutch:
    """The other hand's thumb and index finger. Distances between their keypoints in metres."""

    side: Side
    min_score: float = 0.5
    min_side_score: float = 0.6
    closes_m: float = 0.03
    opens_m: float = 0.045

    def __post_init__(self) -> None:
        self._clutch = HeldClutch(hold_s=0.1)
        self._track_id: int | None = None
        self._pinched = False

    def update(self, hands: Sequence[Observation], now_s: float) -> bool | None:
        """As HeldClutch.update, with all hands of an image; call with none of them when no image comes."""
        found = [
            hand
            for hand in hands
            if hand.side == self.side
            and not hand.fault
            and hand.score >= self.min_score
            and hand.side_score >= self.min_side_score
            and hand.pinch_m is not None
        ]
        if len(found) != 1:
            return self._clutch.update(None, now_s)
        (hand,) = found
        if hand.track_id != self._track_id:  # somebody else's pinch does not go on with this one
            self._track_id, self._pinched = hand.track_id, False
            opened = self._clutch.closed
            self._clutch = HeldClutch(self._clutch.hold_s)
            if opened:
                return False
        assert hand.pinch_m is not None
        if not math.isfinite(hand.pinch_m):
            return self._clutch.update(None, now_s)
        self._pinched = hand.pinch_m < (self.opens_m if self._pinched else self.closes_m)
        return self._clutch.update(self._pinched, now_s)
