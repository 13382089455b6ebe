"""Tracking on labelled videos: jitter, lag, identities, sides, false hands, and the time until a hand is followed.

Predictions are matched with labelled hands in every frame as :mod:`hand_pose_3d.evaluation.boxes` does. An appearance
is an uninterrupted time in which a labelled hand has to be found. Sizes are the longer edge of a hand's box.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from hand_pose_3d.datasets.boxes import BoxImage, HandBox
from hand_pose_3d.datasets.sequence import Sequence, SequenceHand
from hand_pose_3d.errors import naming
from hand_pose_3d.evaluation.boxes import Outcome, match, share
from hand_pose_3d.evaluation.metrics import box_iou, box_of
from hand_pose_3d.evaluation.smoothness import Noise, jitter, noise_of
from hand_pose_3d.hands import HandPose
from hand_pose_3d.interfaces import VideoEstimator
from hand_pose_3d.skeleton import Side
from hand_pose_3d.smoothing import HandSmoother

SMALL = 0.075
"""Share of the picture's longer side; hands below it are small."""
_LEAST_S = 0.5
"""Shorter appearances, and shorter times of rest or motion, are not evaluated."""
_STILL = 2e-3
"""Largest motion of a keypoint of a still hand from frame to frame, as a share of its size: labels are rounded."""
_MOVING = 0.7
"""Least mean speed of a moving hand over half a second, hand sizes a second; set by hand."""
_LEAST_CORRELATION = 0.5
"""Of values with a motion, at the best delay, below which they do not follow it; set by hand."""
_LAGS_S = np.arange(-0.06, 0.2501, 0.002)  # delays that are tried


@dataclass(frozen=True, eq=False)
class Sighting:
    """A hand that was reported. raw: as estimated, hand: as smoothed; identity: of the labelled hand of a hit."""

    raw: HandPose
    hand: HandPose
    outcome: Outcome
    identity: int | None


@dataclass(frozen=True, eq=False)
class Run:
    """A labelled hand over consecutive frames. first: number of the first frame; labels, sightings: (T,)."""

    sequence: Sequence
    first: int
    labels: list[SequenceHand]
    sightings: list[Sighting | None]

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.labels) / self.sequence.fps

    @property
    def size_px(self) -> float:
        """Median size."""
        return float(np.median([label.box_px[2:].max() for label in self.labels]))

    @property
    def keypoints_px(self) -> np.ndarray | None:
        """Labelled keypoints (T, 21, 2); None if a frame has none."""
        points = [label.keypoints_px for label in self.labels]
        return None if any(p is None for p in points) else np.array(points)

    def part(self, frames: slice) -> Run:
        """The part from one frame to another."""
        return Run(self.sequence, self.first + frames.start, self.labels[frames], self.sightings[frames])

    def found(self) -> Iterator[Run]:
        """Longest parts in which one prediction follows the hand."""
        same = itertools.groupby(range(len(self.labels)), lambda i: _key(self.sightings[i]))
        for key, group in same:
            frames = list(group)
            if key is not None and len(frames) >= _LEAST_S * self.sequence.fps:
                yield self.part(slice(frames[0], frames[-1] + 1))


def _key(sighting: Sighting | None) -> tuple[int, Side] | None:
    return None if sighting is None else (sighting.hand.track_id, sighting.hand.side)


def follow(estimator: VideoEstimator, sequence: Sequence) -> list[list[Sighting]]:
    """Hands reported in each frame.

    estimator: tracks without smoothing, which is applied here with the default settings, so that both results are
    known; hands of a peer, without track_id, are not smoothed.
    """
    estimator.reset()
    smoothers: dict[tuple[int, Side], HandSmoother] = defaultdict(HandSmoother)
    out = []
    for index, (image, labels) in enumerate(zip(sequence.images(), sequence.frames, strict=False)):
        stamp_s = index / sequence.fps
        with naming(sequence.path):
            raw = estimator(image, camera=sequence.camera, stamp_s=stamp_s)
        keys = [(hand.track_id, hand.side) for hand in raw]
        hands = [smoothers[key](hand, stamp_s) if key[0] else hand for key, hand in zip(keys, raw)]
        size = image.shape[1], image.shape[0]
        boxes = BoxImage("", sequence.path, *size, tuple(HandBox(h.box_px, h.side, h.ignore) for h in labels))
        raw_of = {id(hand): one for hand, one in zip(hands, raw, strict=True)}
        out.append([
            Sighting(
                raw_of[id(p.hand)], p.hand, p.outcome, None if p.label is None else labels[p.label].identity
            )
            for p in match(boxes, hands)
        ])  # fmt: skip
    return out


def run(
    estimator: VideoEstimator, sequences: Iterable[Sequence], description: str = "sequences"
) -> list[list[list[Sighting]]]:
    """Sightings of all sequences; shows progress."""
    from tqdm import tqdm

    progress = tqdm(sequences, desc=description, unit="sequence", delay=2, disable=None, leave=False)
    return [follow(estimator, sequence) for sequence in progress]


def appearances(sequence: Sequence, sightings: Items[Items[Sighting]]) -> list[Run]:
    """All appearances of labelled hands that are long enough."""
    found = [{s.identity: s for s in frame if s.identity is not None} for frame in sightings]
    labels = [{h.identity: h for h in frame if not h.ignore} for frame in sequence.frames]
    out = []
    for identity in sorted({i for frame in labels for i in frame}):
        for frames in _runs([identity in frame for frame in labels]):
            if len(frames) >= _LEAST_S * sequence.fps:
                seen = [found[i].get(identity) for i in frames]
                out.append(Run(sequence, frames[0], [labels[i][identity] for i in frames], seen))
    return out


def _while(run: Run, moving: bool) -> list[Run]:
    """Parts of an appearance in which the hand moves, or keeps still, and is followed."""
    points = run.keypoints_px
    if points is None or len(points) < 2:
        return []
    step = np.linalg.norm(np.diff(points, axis=0), axis=-1) / run.size_px
    if moving:  # averaged over time, so that a reversal of direction is not a stop
        window = np.ones(min(max(round(_LEAST_S * run.sequence.fps), 1), len(step)))
        speed = np.convolve(step.mean(axis=-1), window / len(window), "same") * run.sequence.fps
    chosen = speed > _MOVING if moving else step.max(axis=-1) < _STILL
    out: list[Run] = []
    for frames in _runs(chosen):
        out += run.part(slice(frames[0], frames[-1] + 2)).found()
    return out


def _runs(chosen: Iterable[Any]) -> Iterator[list[int]]:
    """Ranges of consecutive chosen numbers."""
    for here, group in itertools.groupby(enumerate(chosen), lambda item: bool(item[1])):
        if here:
            yield [index for index, _ in group]


def lag_of(truth: np.ndarray, truth_s: np.ndarray, values: np.ndarray, stamps_s: np.ndarray) -> float | None:
    """Seconds by which values lag behind the truth: the delay with the highest correlation.

    truth: (T', D) at truth_s, values: (T, D) at stamps_s. None where the truth is not known for all delays, or the
    values do not follow it.
    """
    known = (stamps_s - _LAGS_S[-1] >= truth_s[0]) & (stamps_s - _LAGS_S[0] <= truth_s[-1])
    if known.sum() < 8:
        return None
    values = values[known] - values[known].mean(axis=0)
    best = []
    for lag in _LAGS_S:
        late = np.stack([np.interp(stamps_s[known] - lag, truth_s, column) for column in truth.T], axis=1)
        late -= late.mean(axis=0)
        best.append((late * values).sum() / max(float(np.linalg.norm(late) * np.linalg.norm(values)), 1e-12))
    index = int(np.argmax(best))
    return float(_LAGS_S[index]) if best[index] >= _LEAST_CORRELATION else None


def _lags(whole: Run, part: Run) -> tuple[float | None, float | None]:
    """Lag of a moving hand in the picture as estimated and as smoothed, seconds."""
    fps = part.sequence.fps
    truth = cast(np.ndarray, whole.keypoints_px)
    truth_s = (whole.first + np.arange(len(truth))) / fps
    stamps_s = (part.first + np.arange(len(part.labels))) / fps
    sightings = cast("list[Sighting]", part.sightings)
    raw, smooth = (np.array([hand.keypoints_px for hand in _hands(sightings, s)]) for s in (False, True))
    return tuple(lag_of(truth.reshape(len(truth), -1), truth_s, v.reshape(len(v), -1), stamps_s) for v in (raw, smooth))  # type: ignore[return-value]


def _hands(sightings: Iterable[Sighting], smooth: bool) -> list[HandPose]:
    return [s.hand if smooth else s.raw for s in sightings]


def _jitters(part: Run, smooth: bool) -> tuple[float, float | None]:
    """Jitter of a still hand: pixels and millimetres."""
    hands = _hands(cast("list[Sighting]", part.sightings), smooth)
    metres = [hand.keypoints_m for hand in hands]
    in_mm = None if any(m is None for m in metres) else 1e3 * jitter(np.array(metres))
    return jitter(np.array([hand.keypoints_px for hand in hands])), in_mm


def metrics(sequences: Items[Sequence], found: Items[Items[Items[Sighting]]]) -> dict[str, Any]:
    """Plain metrics for JSON; times in seconds, jitter in pixels, millimetres and shares of the hand.

    Values of hands are lists, one entry a hand and time; shares are {"share", "count", "of"} as in boxes.
    """
    runs = [run for sequence, frames in zip(sequences, found, strict=True) for run in appearances(sequence, frames)]
    counted = [s for frames in found for frame in frames for s in frame]
    minutes = sum(len(sequence.frames) / sequence.fps for sequence in sequences) / 60
    hits = sum(s.outcome is Outcome.HIT for s in counted)
    labelled = sum(not hand.ignore for sequence in sequences for frame in sequence.frames for hand in frame)
    false = sum(s.outcome.is_false for s in counted)
    known = any(s.hand.track_id for s in counted)  # a peer may have no identities
    switches = [_switches(run) for run in runs]
    followed = sum(sum(s is not None for s in run.sightings) / run.sequence.fps for run in runs) / 60
    sides = [
        s.hand.side == label.side
        for run in runs
        for s, label in zip(run.sightings, run.labels, strict=True)
        if s and label.side != Side.UNKNOWN
    ]
    still = [part for run in runs for part in _while(run, False)]
    lags = [_lags(run, part) for run in runs for part in _while(run, True)]
    return {
        "minutes": minutes,
        "followed_minutes": followed,
        "hands": len(runs),
        "recall": share(hits, labelled),
        "precision": share(hits, hits + false),
        "false_hands": _false_hands(found),
        "identity_switches": sum(s[0] for s in switches) if known else None,
        "side_switches": sum(s[1] for s in switches),
        "side": share(sum(sides), len(sides)),
        "until_followed_s": [
            {"size": _share_of_picture(run), "small": _share_of_picture(run) < SMALL, "seconds": _delay(run)}
            for run in runs
        ],
        "jitter": [_jitter_entry(part) for part in still],
        "lag_s": [{"raw": raw, "smooth": smooth} for raw, smooth in lags if raw is not None and smooth is not None],
        "noise": _noise(still),
    }


def _share_of_picture(run: Run) -> float:
    return run.size_px / run.sequence.longer_side_px


def _delay(run: Run) -> float | None:
    """Seconds from a hand's appearance until it is first found; None if it never is."""
    seen = [index for index, sighting in enumerate(run.sightings) if sighting is not None]
    return seen[0] / run.sequence.fps if seen else None


def _switches(run: Run) -> tuple[int, int]:
    """Numbers of changes of identity and of side while a hand is in view."""
    hands = [sighting.hand for sighting in run.sightings if sighting is not None]
    pairs = list(itertools.pairwise(hands))
    return sum(a.track_id != b.track_id for a, b in pairs), sum(a.side != b.side for a, b in pairs)


def _false_hands(found: Items[Items[Items[Sighting]]]) -> dict[str, int]:
    """Times at which a false hand begins, and those of them on no hand; frames with a false hand."""
    begun = nowhere = frames = 0
    for sequence in found:
        before: list[Sighting] = []
        for sightings in sequence:
            now = [s for s in sightings if s.outcome.is_false]
            new = [s for s in now if not any(_goes_on(old.hand, s.hand) for old in before)]
            begun, nowhere = begun + len(new), nowhere + sum(s.outcome is Outcome.FALSE for s in new)
            frames += bool(now)
            before = now
    return {"times": begun, "on_no_hand": nowhere, "frames": frames}


def _goes_on(before: HandPose, now: HandPose) -> bool:
    """Whether a hand is that of the frame before: by its identity, where a peer has none by its place."""
    if now.track_id or before.track_id:
        return now.track_id == before.track_id
    return box_iou(box_of(before.keypoints_px), box_of(now.keypoints_px)) > 0


def _jitter_entry(part: Run) -> dict[str, Any]:
    (raw_px, raw_mm), (smooth_px, smooth_mm) = _jitters(part, False), _jitters(part, True)
    return {
        "size_px": part.size_px,
        "raw_px": raw_px,
        "smooth_px": smooth_px,
        "raw_mm": raw_mm,
        "smooth_mm": smooth_mm,
    }


def _noise(still: Items[Run]) -> dict[str, float] | None:
    """Median over still hands of the change from frame to frame, before smoothing."""
    if not still:
        return None
    one = [noise_of(_hands(cast("list[Sighting]", part.sightings), False)) for part in still]
    return {name: float(np.median([getattr(n, name) for n in one])) for name in vars(Noise())}
