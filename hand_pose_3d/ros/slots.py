"""Numbers and names that a hand keeps while it is followed: slots for markers, frame names for TF."""

from __future__ import annotations

from collections.abc import Sequence

from hand_pose_3d.hands import HandPose
from hand_pose_3d.skeleton import Side

FRAME_NAMES = {side: f"hand_{side.label}" for side in Side}


class HandSlots:
    """Gives each hand the lowest free number of its group and keeps it there until the hand is lost.

    A hand with track_id 0 is not followed: it gets a number for one image only.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], int] = {}

    def assign(self, keys: Sequence[tuple[str, int]]) -> list[int]:
        """Numbers from 0, unique within a group, for the (group, track_id) of every hand in an image."""
        self._held = {key: slot for key, slot in self._held.items() if key in keys}
        taken = {(key[0], slot) for key, slot in self._held.items()}
        out = []
        for group, track in keys:
            slot = self._held.get((group, track))
            if slot is None:
                slot = next(n for n in range(len(taken) + 1) if (group, n) not in taken)
                taken.add((group, slot))
                if track:
                    self._held[group, track] = slot
            out.append(slot)
        return out

    def numbers(self, hands: Sequence[HandPose]) -> list[int]:
        """A number for each hand, whatever its side."""
        return self.assign([("", hand.track_id) for hand in hands])

    def frame_names(self, hands: Sequence[HandPose]) -> list[str]:
        """hand_left or hand_right for the first hand of a side, hand_left_2 and so on for more."""
        numbers = self.assign([(FRAME_NAMES[hand.side], hand.track_id) for hand in hands])
        return [
            FRAME_NAMES[hand.side] + (f"_{number + 1}" if number else "")
            for hand, number in zip(hands, numbers, strict=True)
        ]
