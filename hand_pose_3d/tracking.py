"""Hands over time: identities, crops for the next frame, smoothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hand_pose_3d.errors import InvalidInputError, check_numbers, check_stamp
from hand_pose_3d.hands import HandPose
from hand_pose_3d.settings import check_types
from hand_pose_3d.skeleton import PALM, Side
from hand_pose_3d.smoothing import HandSmoother, SmoothingConfig

_LEAST_S = 1 / 120  # time between two frames that a speed is measured by, at least
_FRAME_S = 1 / 30
"""Time between frames without a stamp: 30 frames a second are assumed."""


@dataclass(frozen=True)
class TrackerConfig:
    """When a hand starts, continues and ends. Sizes are in hand sizes: the larger edge of the keypoints' box."""

    max_hands: int = 2
    """Hands that are followed at once."""
    start_score: float = 0.45
    """A hand below this score starts no track."""
    sure_score: float = 0.9
    """A new hand from this score on is reported at once."""
    confirm_score: float = 0.95
    """Another new hand is reported if it scores this in the next frame, and else forgotten."""
    keep_score: float = 0.1
    """A tracked hand below this score counts as hidden."""
    report_score: float = 0.3
    """A tracked hand below this score is not reported, and followed for hidden_s."""
    detect_every_s: float = 0.2
    """Time between two searches of the whole image while some of max_hands are followed, but not all."""
    hidden_s: float = 0.4
    """A hand unseen, or below report_score, for longer is lost and comes back with a new identity."""
    max_gap_s: float = 1.0
    """A longer time between two frames ends all tracks."""
    gate: float = 0.8
    """Mean distance of keypoints, in hand sizes, beyond which a hand is not the one that was followed."""
    side_penalty: float = 0.35
    """Added to that distance for a hand that is clearly of the other side."""
    duplicate: float = 0.5
    """Two hands of at least this similarity (0 to 1, as object keypoint similarity), as a whole or of their palms, are
    duplicates."""
    side_flip: float = 6.0
    """Sum of log odds against its side at which a hand changes it, and largest sum in favour: five clear frames."""
    smoothing: SmoothingConfig = field(default_factory=SmoothingConfig)

    def __post_init__(self) -> None:
        check_types(self)
        if not isinstance(self.smoothing, SmoothingConfig):
            raise InvalidInputError(f"smoothing must be a SmoothingConfig, not {self.smoothing!r}")
        if self.max_hands < 1:
            raise InvalidInputError(f"max_hands must be at least 1, not {self.max_hands}")
        for name in ("start_score", "sure_score", "confirm_score", "keep_score", "report_score", "duplicate"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInputError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        names = ("detect_every_s", "hidden_s", "max_gap_s", "gate", "side_penalty", "side_flip")
        check_numbers({name: getattr(self, name) for name in names})


@dataclass(frozen=True, eq=False)
class Window:
    """Expected place of a followed hand. keypoints_px: (21, 2) image pixels; side: of the hand so far, as which the
    window is to be read, with its probability as side_score.

    least_score: that a reading needs to continue this hand.
    """

    keypoints_px: np.ndarray
    side: Side
    track_id: int
    least_score: float


@dataclass(eq=False)
class _Track:
    track_id: int
    keypoints_px: np.ndarray
    stamp_s: float
    smoother: HandSmoother
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))
    visible: bool = True
    confirmed: bool = False
    started_s: float = 0.0
    reportable_s: float = 0.0  # when it last scored enough to be reported
    side: Side = Side.UNKNOWN
    evidence: float = 0.0

    def at(self, stamp_s: float) -> np.ndarray:
        """Keypoints extrapolated by the hand's velocity, by half a hand at most."""
        move = self.velocity * max(stamp_s - self.stamp_s, 0.0)
        reach = 0.5 * _size(self.keypoints_px)
        return self.keypoints_px + move * min(1.0, reach / max(float(np.hypot(*move)), 1e-9))


class HandTracker:
    """Follows hands from frame to frame, independent of images and networks.

    In each frame, :meth:`predict` gives windows and :meth:`needs_detection` tells whether to search the whole image,
    too; pass all hands that were found to :meth:`update`.
    """

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = config or TrackerConfig()
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        """Forget all hands; identities are not used again."""
        self._tracks: list[_Track] = []
        self._stamp_s: float | None = None
        self._image_size: tuple[int, int] | None = None
        self._searched_s: float | None = None
        self._detecting = False
        self._lost = False

    def configure(self, config: TrackerConfig) -> None:
        """Change the configuration; hands stay followed, as far as max_hands allows."""
        if config.smoothing != self.config.smoothing:
            for track in self._tracks:
                track.smoother = HandSmoother(config.smoothing)
        self.config = config
        self._tracks.sort(key=lambda track: (not track.visible, not track.confirmed))
        del self._tracks[config.max_hands :]

    def predict(self, stamp_s: float | None = None) -> list[Window]:
        """Windows in which to look for the followed hands at stamp_s, hidden ones included."""
        stamp_s = self._resolve(stamp_s)
        keep, confirm = self.config.keep_score, self.config.confirm_score
        alive = [t for t in self._tracks if self._alive(t, stamp_s)]
        return [Window(t.at(stamp_s), t.side, t.track_id, keep if t.confirmed else confirm) for t in alive]

    def needs_detection(self, stamp_s: float | None = None) -> bool:
        """Whether to search the whole image: at the start, after a loss, and regularly while hands are missing.

        If it returns True, the caller has to search.
        """
        stamp_s = self._resolve(stamp_s)
        following = sum(t.visible and t.confirmed and self._alive(t, stamp_s) for t in self._tracks)
        searched_s = stamp_s if self._searched_s is None else self._searched_s
        due = self._lost or stamp_s - searched_s > self.config.detect_every_s - _FRAME_S / 2
        self._detecting = following == 0 or (due and following < self.config.max_hands)
        return self._detecting

    def update(
        self, hands: Sequence[HandPose], stamp_s: float | None = None, image_size: tuple[int, int] | None = None
    ) -> list[HandPose]:
        """Follow the hands of the next frame.

        A stamp that goes back, a gap longer than max_gap_s and another image size end all tracks. Hands with values
        that are not finite are dropped.

        Args:
            hands: as they were read in the frame.
            stamp_s: acquisition time in seconds, None for a thirtieth after the last.
            image_size: (width, height) in pixels.

        Returns:
            Hands with identities, voted sides and smoothed poses, by falling score, without those that are unseen,
            not confirmed yet or below report_score.
        """
        stamp_s = self._resolve(stamp_s)
        if self._discontinuous(stamp_s, image_size):
            self.reset()
        self._stamp_s, self._image_size = stamp_s, image_size or self._image_size
        if self._detecting or self._searched_s is None:
            self._searched_s = stamp_s
        self._detecting = False

        before = len(self._tracks)
        self._tracks = [t for t in self._tracks if self._alive(t, stamp_s)]
        self._lost = len(self._tracks) < before
        seen = self._distinct([h for h in hands if _is_sound(h) and h.score >= self.config.keep_score])
        matches = self._match(seen, stamp_s)
        for track in self._tracks:
            self._lost |= track.visible and track.confirmed and track not in matches.values()
            track.visible = False
        followed = [(track, self._follow(track, seen[i], stamp_s)) for i, track in matches.items()]
        for i, hand in enumerate(seen):
            if i not in matches and hand.score >= self.config.start_score and len(followed) < self.config.max_hands:
                track = self._start(hand, stamp_s)
                followed.append((track, self._follow(track, hand, stamp_s)))
        # Unconfirmed hands may be false detections, such as faces, and are not kept.
        self._tracks = [t for t in self._tracks if t.confirmed or t.started_s == stamp_s]
        out = [hand for track, hand in followed if hand and track.confirmed and self._is_reportable(hand)]
        # Hidden hands are dropped for new ones, which bounds the number of windows.
        hidden = [t for t in self._tracks if not t.visible]
        for track in sorted(hidden, key=lambda t: t.stamp_s)[: max(0, len(self._tracks) - self.config.max_hands)]:
            self._tracks.remove(track)
        return sorted(out, key=lambda hand: -hand.score)

    def starts_anew(self, stamp_s: float, image_size: tuple[int, int] | None = None) -> bool:
        """Whether a frame starts a new video: time went back, the gap is too long, or images have another size."""
        return self._discontinuous(self._resolve(stamp_s), image_size)

    def _resolve(self, stamp_s: float | None) -> float:
        if stamp_s is None:
            return 0.0 if self._stamp_s is None else self._stamp_s + _FRAME_S
        return check_stamp(stamp_s)

    def _discontinuous(self, stamp_s: float, image_size: tuple[int, int] | None) -> bool:
        if self._stamp_s is not None and not 0 <= stamp_s - self._stamp_s <= self.config.max_gap_s:
            return True
        return None not in (image_size, self._image_size) and image_size != self._image_size

    def _alive(self, track: _Track, stamp_s: float) -> bool:
        if self._discontinuous(stamp_s, None):
            return False
        # A hand that was seen in the last frame is not missing, however low the frame rate. One that scored little then
        # would keep its place for ever, and no other hand would be looked for.
        seen = track.visible and track.reportable_s == track.stamp_s
        return seen or stamp_s - track.reportable_s <= self.config.hidden_s

    def _distinct(self, hands: list[HandPose]) -> list[HandPose]:
        """Hands without duplicates, best score first, those that look like the other side last.

        Where two followed hands meet, each one's window shows the other's hand, read as of the wrong side.
        """
        return distinct(sorted(hands, key=lambda h: (h.side_score < 0.5, -h.score)), self.config.duplicate)

    def _match(self, hands: list[HandPose], stamp_s: float) -> dict[int, _Track]:
        """The followed hand of each seen one, by the least total distance (index of the hand -> track)."""
        from scipy.optimize import linear_sum_assignment

        if not hands or not self._tracks:
            return {}
        never = 1e3
        cost = np.full((len(hands), len(self._tracks)), never)
        for j, track in enumerate(self._tracks):
            expected = track.at(stamp_s)
            for i, hand in enumerate(hands):
                size = max(_size(expected), _size(hand.keypoints_px))
                distance = float(np.linalg.norm(hand.keypoints_px - expected, axis=1).mean()) / size
                if distance < self.config.gate:
                    against = -_log_odds(hand, track.side) / _SURE
                    cost[i, j] = distance + self.config.side_penalty * max(against, 0.0)
        rows, columns = linear_sum_assignment(cost)
        return {int(i): self._tracks[j] for i, j in zip(rows, columns, strict=True) if cost[i, j] < never}

    def _start(self, hand: HandPose, stamp_s: float) -> _Track:
        track = _Track(self._next_id, hand.keypoints_px, stamp_s, HandSmoother(self.config.smoothing), side=hand.side)
        track.started_s = stamp_s
        self._next_id = self._next_id % 0xFFFFFFFF + 1  # uint32 in the message
        self._tracks.append(track)
        return track

    def _follow(self, track: _Track, hand: HandPose, stamp_s: float) -> HandPose | None:
        """The hand as the track's, smoothed. None for a pose of the other side, which is none of this hand: its next
        window is read as of this one."""
        dt = stamp_s - track.stamp_s
        seen_again = dt > 0 and hand.score >= self.config.confirm_score
        track.confirmed |= seen_again or hand.score >= self.config.sure_score
        if dt > 0:
            moved = hand.keypoints_px.mean(axis=0) - track.keypoints_px.mean(axis=0)
            # Stamps of arrival may lie close together: such a pair tells little about the speed.
            share = 0.5 * min(dt / _FRAME_S, 1)
            track.velocity = (1 - share) * track.velocity + share * moved / max(dt, _LEAST_S)
        track.keypoints_px, track.stamp_s, track.visible = np.array(hand.keypoints_px, dtype=float), stamp_s, True
        if self._is_reportable(hand):
            track.reportable_s = stamp_s
        side = hand.side if track.side == Side.UNKNOWN else track.side
        own = hand.side in (side, Side.UNKNOWN)
        smooth = track.smoother(hand, stamp_s) if own else hand
        self._vote(track, hand)
        if not own:
            return None
        evidence = track.evidence if side == track.side else -track.evidence
        score = hand.side_score if side == Side.UNKNOWN else 1 / (1 + math.exp(-evidence))
        return smooth.replace(track_id=track.track_id, side=side, side_score=score)

    def _is_reportable(self, hand: HandPose) -> bool:
        return hand.score >= min(self.config.report_score, self.config.start_score)

    def _vote(self, track: _Track, hand: HandPose) -> None:
        """Sum up evidence for the track's side; it changes only on clear evidence."""
        if track.side == Side.UNKNOWN:
            track.side, track.evidence = hand.side, 0.0
        track.evidence += _log_odds(hand, track.side)
        track.evidence = min(track.evidence, self.config.side_flip)
        if track.evidence < -self.config.side_flip:
            # From the next image on, which is read as of that side, with another pose that filters must not blend.
            track.side, track.evidence = track.side.other, -track.evidence
            track.smoother.reset()


_SURE = math.log(0.95 / 0.05)  # log odds of a clear side


def _log_odds(hand: HandPose, side: Side) -> float:
    """Evidence of one frame for a side, at most that of a score of 0.95."""
    if Side.UNKNOWN in (hand.side, side):
        return 0.0
    p = min(max(hand.side_score, 0.05), 0.95)
    odds = math.log(p / (1 - p))
    return odds if hand.side == side else -odds


def _size(keypoints_px: np.ndarray) -> float:
    return max(float(np.ptp(keypoints_px, axis=0).max()), 1.0)


def _is_sound(hand: HandPose) -> bool:
    return all(np.isfinite(value).all() for name, value in hand.numbers.items() if name != "position_stddev_m")


def distinct(
    hands: Sequence[HandPose], duplicate: float = 0.5, overlap: float = math.inf, known: Sequence[HandPose] = ()
) -> list[HandPose]:
    """Hands without duplicates, of which the first is kept, and without those that are known.

    A hand is dropped if its similarity to a kept one, or that of its palm, is at least `duplicate`, if the intersection
    of their boxes over their union is more than `overlap`, or if it is a part of one: less than half as large and
    mostly inside its box.
    """

    def same(hand: HandPose, other: HandPose) -> bool:
        return _is_same(hand, other, duplicate) or _is_piece(hand, other) or _overlap(hand, other) > overlap

    kept: list[HandPose] = []
    for hand in hands:
        if not any(same(hand, k) for k in (*known, *kept)):
            kept = [k for k in kept if not _is_piece(k, hand)] + [hand]
    return kept


def _shared(hand: HandPose, other: HandPose) -> float:
    """Area that two hands' boxes share, in pixels."""
    x, y, w, h = hand.roi_px
    u, v, width, height = other.roi_px
    return max(min(x + w, u + width) - max(x, u), 0) * max(min(y + h, v + height) - max(y, v), 0)


def _overlap(hand: HandPose, other: HandPose) -> float:
    shared = _shared(hand, other)
    both = hand.roi_px[2] * hand.roi_px[3] + other.roi_px[2] * other.roi_px[3] - shared
    return shared / both if both > 0 else 0.0


def _is_piece(part: HandPose, whole: HandPose) -> bool:
    smaller = max(part.roi_px[2:]) < 0.5 * max(whole.roi_px[2:])
    return smaller and _shared(part, whole) > 0.6 * part.roi_px[2] * part.roi_px[3]


def similarity(first_px: np.ndarray, second_px: np.ndarray) -> float:
    """Similarity of two hands, 1 where they coincide, 0 far apart: object keypoint similarity with a sigma of 0.15.

    first_px, second_px: (21, 2). Distances are measured by the smaller hand.
    """
    return float(_similarities(first_px, second_px).mean())


def _similarities(first_px: np.ndarray, second_px: np.ndarray) -> np.ndarray:
    squared = np.sum((first_px - second_px) ** 2, axis=1)
    scale = 0.15 * min(_size(first_px), _size(second_px))
    return np.exp(-squared / (2 * scale**2))


def _is_same(hand: HandPose, other: HandPose, duplicate: float) -> bool:
    """Two hands cannot have their palms at one place, however much their fingers differ."""
    similarities = _similarities(hand.keypoints_px, other.keypoints_px)
    return bool(max(similarities.mean(), similarities[PALM].mean()) >= duplicate)
