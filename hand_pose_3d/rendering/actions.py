"""What hands do: named actions, 31 of them for training and 8 others for evaluation, sampled with variation.

Joint angles follow clinical and motor-control literature, never a labelled data set of photographs:

- At rest the knuckles (MCP) are flexed by 20 to 45 degrees, more towards the little finger; in the position of function
  by 45 to 60; daily tasks use 19 to 71 at the MCP, 23 to 87 at the PIP and 10 to 64 at the DIP joint (Bain et al.,
  J. Hand Surg. Eur. 40, 2015; Hume et al., J. Hand Surg. 15A, 1990: means 61, 60 and 39).
- A hand that is shown open is not stretched to its limit: its knuckles stay flexed by 10 to 30 degrees. Only fingers
  spread or pressed flat on purpose are nearly straight. Bending back, possible to 19 degrees (Bain), is rare.
- In a fist all three joints fold: 70 to 90, 95 to 110 and 50 to 75 degrees (AAOS norms). A hook grip, straight at the
  knuckles only, is held for carrying and climbing (Napier, J. Bone Joint Surg. 38B, 1956).
- Fingers move together: MCP and PIP flex in one synergy, trade off in a second (Santello, Flanders and Soechting,
  J. Neurosci. 18, 1998), neighbours follow a moving finger, ring and middle most (Haeger-Ross and Schieber,
  J. Neurosci. 20, 2000), and the DIP joint bends by two thirds of the PIP joint (Rijpkema and Girard, SIGGRAPH 1991).
- Hand shapes of letters are those of the American manual alphabet.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hand_pose_3d.rendering import pose
from hand_pose_3d.rendering.character import Arm

# mcp, pip, dip in degrees
_FINGER = {
    "S": (6, 4, 2),  # stretched: spread wide or pressed flat
    "E": (18, 9, 5),  # extended, as when shown
    "R": (32, 32, 16),  # relaxed
    "C": (44, 46, 28),  # curved, as around a bottle
    "G": (54, 56, 34),  # tighter grasp
    "H": (66, 86, 46),  # half closed
    "F": (80, 102, 62),  # fist
    "M": (82, 74, 22),  # over the thumb
    "K": (10, 92, 58),  # hook
    "B": (40, 84, 46),  # around the handle of a bag
    "V": (36, 98, 60),  # tips on the thumb, letter E
    "X": (18, 76, 42),  # hooked, letter X
    "T": (72, 12, 8),  # bent at the knuckle only
    "D": (52, 46, 24),  # towards the thumb's tip
}
_MORE_TO_THE_LITTLE_FINGER = {"R": 9, "C": 6, "G": 4}
"""Degrees by which the little finger's knuckle is bent more than the index finger's."""
# palmar, radial, mcp, ip, roll in degrees
_THUMB = {
    "side": (-38, -34, 2, 6, 0),
    "out": (-18, 6, 0, -4, 0),
    "up": (-22, 12, -4, -14, 0),
    "relaxed": (-6, -6, 14, 16, 4),
    "opposed": (18, -2, 22, 26, 14),
    "pinch": (14, -8, 28, 34, 14),
    "across": (30, -16, 34, 40, 14),
    "inside": (14, -30, 52, 30, 22),
    "under": (36, 10, 2, 4, 6),
    "round": (16, 4, 18, 22, 12),
    "beside": (-30, -20, 14, 18, 10),
}


class Contact(NamedTuple):
    """What the thumb's tip touches: finger 1 (index) to 4, and which side of it.

    where: 'pad', fingertip to fingertip; 'nail' and 'back', the backs of its last and middle bone, as when a thumb
    closes a grip or a fist; 'side', of the middle bone, towards the thumb; 'edge', the same of the first bone;
    'root', the palm's side of the first bone.
    """

    finger: int
    where: str


class Posture(NamedTuple):
    """Index, middle, ring and little finger as in _FINGER, the thumb as in _THUMB, spread factor, contact."""

    fingers: str
    thumb: str
    spread: float = 0.0
    contact: Contact | None = None


def _pad(finger: int) -> Contact:
    return Contact(finger, "pad")


def _back(finger: int) -> Contact:
    return Contact(finger, "back")


_BESIDE, _KEY, _NAIL = Contact(1, "edge"), Contact(1, "side"), Contact(2, "nail")
_LETTER_E = Posture("VVVV", "across", -0.2, _NAIL)
ACTIONS: dict[str, tuple[Posture, ...]] = {
    "open": (Posture("EEEE", "out", 0.6), Posture("EEEE", "relaxed", 0.4), Posture("EEEE", "out", 0.9)),
    "spread": (Posture("SSSS", "out", 2.2), Posture("EEEE", "out", 1.6)),
    "flat": (  # a salute, praying hands, letter B with its thumb beside or across
        Posture("EEEE", "side", -0.4),
        Posture("SSSS", "side", -0.4),
        Posture("EEEE", "beside", -0.4),
        Posture("EEEE", "inside", -0.4),
    ),
    "relaxed": (Posture("RRRR", "relaxed", 0.2),),
    "resting": (Posture("RRCC", "relaxed", 0.1), Posture("CCCC", "relaxed", 0.0)),
    "fist": (Posture("FFFF", "across", 0.0, _back(2)), Posture("FFFF", "across", 0.0, _back(1))),  # letter S
    "fist thumb beside": (Posture("FFFF", "beside", 0.0, _BESIDE), Posture("FFFF", "beside", 0.0, _KEY)),  # letter A
    "point": (  # letter D closes a ring of thumb and middle finger
        Posture("EFFF", "across", 0.0, _back(2)),
        Posture("EDDD", "pinch", 0.0, _pad(2)),
        Posture("EGGG", "pinch", 0.0, _pad(2)),
    ),
    "point thumb out": (Posture("EFFF", "up"), Posture("EFFF", "out"), Posture("EFFF", "side")),  # letters L, G and Q
    "point relaxed": (Posture("EHHH", "relaxed"), Posture("EGHH", "relaxed"), Posture("XFFF", "across", 0.0, _back(2))),
    "two": (  # letters V, U, H
        Posture("EEFF", "across", 4.5, _back(3)),
        Posture("EEFF", "across", 2.0, _back(3)),
        Posture("EEFF", "across", -0.5, _back(3)),
    ),
    "two and thumb": (Posture("EEFF", "up", 2.5), Posture("EDFF", "pinch", 0.5, Contact(2, "root"))),  # 3, K and P
    "three": (Posture("EEEF", "inside", 1.6, _back(4)), Posture("EEEF", "across", 0.3, _back(4))),
    "four": (Posture("EEEE", "inside", 1.0), Posture("EEEE", "inside", 0.3)),
    "thumb up": (Posture("FFFF", "up"),),
    "call": (Posture("FFFE", "up", 0.5),),  # shaka, letter Y
    "horns": (Posture("EFFE", "across", 0.6, _back(2)),),
    "pinch": (Posture("DRRC", "pinch", 0.3, _pad(1)), Posture("DCCC", "pinch", 0.1, _pad(1))),
    "ok": (Posture("DERE", "pinch", 0.8, _pad(1)), Posture("DEEE", "pinch", 0.8, _pad(1))),  # letter F
    "pinch closed": (Posture("DHFF", "pinch", 0.0, _pad(1)), Posture("GHFF", "pinch", 0.0, _KEY)),  # and a key's grip
    "three finger pinch": (Posture("DDHF", "pinch", 0.0, _pad(2)), Posture("DDDD", "pinch", 0.0, _pad(2))),  # letter O
    "grasp cylinder": (Posture("CCCC", "round", 0.1),),
    "grasp can": (Posture("GGGG", "under", 0.1), Posture("CCGG", "opposed", 0.1)),
    "grasp handle": (Posture("GHHF", "across", 0.0, _NAIL), Posture("GHHH", "across", 0.0, _NAIL)),
    "grasp ball": (Posture("CCCC", "round", 1.3),),
    "grasp plate": (Posture("TTTT", "under", 0.2),),
    "hook": (Posture("KKKK", "side"), Posture("BBBB", "side"), Posture("BBBB", "relaxed"), _LETTER_E),
    "letter C": (Posture("CCCC", "opposed", -0.2),),
    "little finger": (Posture("FFFE", "across", 0.0, _back(2)),),  # letter I
    "pen": (Posture("DCHF", "pinch", 0.0, _pad(1)),),
    "typing": (Posture("RRRR", "side", 0.4), Posture("CCCC", "relaxed", 0.4)),
    # evaluation only from here
    "one thumb inside": (Posture("EMMM", "inside", 0.0, Contact(2, "root")),),
    "letter W": (Posture("EEEH", "opposed", 2.0, _back(4)),),
    "love": (Posture("EFFE", "out", 0.8),),
    "claw": (Posture("KKKK", "out", 1.0),),
    "middle pinch": (Posture("EDEE", "pinch", 0.6, _pad(2)),),
    "grasp card": (Posture("CGHF", "pinch", 0.0, _pad(1)),),
    "tabletop": (Posture("TTTT", "side"),),
    "ring bent": (Posture("EERF", "round", 0.9),),
}
"""What each action looks like, the plainest posture first."""
TRAINING, EVALUATION = tuple(ACTIONS)[:31], tuple(ACTIONS)[31:]
_FREQUENT = {"open": 3.0, "relaxed": 3.0, "resting": 2.0, "flat": 2.0, "fist": 1.5, "point": 1.5}
"""How much more often than others an action is drawn: what idle and gesturing hands mostly do."""
RANDOM = "random"
"""Name of poses that are of no action but combinations of the hand's synergies."""

_TRIES = 8
_FAN = np.array([6.0, 1.0, -4.0, -9.0])


def posture_angles(posture: Posture) -> np.ndarray:
    """The plain pose vector of a posture, wrist and arm at rest."""
    out = np.zeros(pose.NUM_ANGLES)
    fingers = pose.fingers(out)
    fingers[:, 1:] = np.radians([_FINGER[s] for s in posture.fingers])
    more = [_MORE_TO_THE_LITTLE_FINGER.get(s, 0) for s in posture.fingers]
    fingers[:, 1] += np.radians(more) * np.arange(4) / 3
    straight = [s in "SE" for s in posture.fingers]
    fingers[:, 0] = np.radians(_FAN - _FAN[straight if any(straight) else slice(None)].mean()) * posture.spread
    out[pose.THUMB] = np.radians(_THUMB[posture.thumb])
    out[pose.CUP] = np.radians(12 if posture.fingers in ("FFFF", "CCCC", "GGGG") else 3)
    return out


def action_angles(name: str) -> np.ndarray:
    """The plain pose vector of an action's plainest posture, wrist and arm at rest."""
    return posture_angles(ACTIONS[name][0])


def sample_pose(rng: np.random.Generator, arm: Arm, names: tuple[str, ...]) -> tuple[str, np.ndarray, np.ndarray]:
    """A natural pose without interpenetration: its action's name, angles, keypoints (21, 3) in hand axes.

    Some are between two actions, some are random combinations of the hand's synergies; all vary from person to person.
    """
    best: tuple[float, str, np.ndarray, np.ndarray] = (np.inf, "", np.empty(0), np.empty(0))
    for attempt in range(4 * _TRIES):
        if attempt % _TRIES == 0:  # not before, as then the easily drawn actions would be the most frequent
            if best[0] < 0.002:
                break
            name, plain, contact = _draw(rng, names)
        angles = plain.copy()
        vary(rng, angles)
        angles = pose.respect_anatomy(angles)
        if contact is not None:
            angles = touch(arm, angles, contact)
        frames, keypoints = pose.phalanges(arm, angles)
        depth = float(pose.penetration(arm, keypoints))
        miss = 0.0 if contact is None else float(np.linalg.norm(_contact_gaps(arm, frames, keypoints, contact)))
        fault = max(depth, 0.3 * miss - 0.0005)
        if fault < best[0]:
            best = fault, name, angles, keypoints
        if fault < 0.001:
            break
    return best[1:]


def _choose(rng: np.random.Generator, names: tuple[str, ...]) -> tuple[str, Posture]:
    weights = np.array([_FREQUENT.get(name, 1.0) for name in names])
    name = names[rng.choice(len(names), p=weights / weights.sum())]
    return name, ACTIONS[name][rng.integers(len(ACTIONS[name]))]


def _draw(rng: np.random.Generator, names: tuple[str, ...]) -> tuple[str, np.ndarray, Contact | None]:
    """An action's name, its angles before they vary, and what the thumb touches."""
    name, posture = _choose(rng, names)
    kind = rng.random()
    if kind < 0.12:
        return RANDOM, _random_angles(rng, names), None
    angles, contact = posture_angles(posture), posture.contact
    if kind < 0.34:
        other = _choose(rng, names)[1]
        share = rng.uniform(0.15, 0.85)
        angles = (1 - share) * angles + share * posture_angles(other)
        contact = contact if share < 0.35 else None
    return name, angles, contact


_NEIGHBOURS = np.linalg.cholesky(0.6 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4))))
"""Of the fingers' own variation, index to little."""
_FOLLOW = np.array([0.04, 0.08, 0.12, 0.06])
"""How far each finger follows its neighbours: the index finger is the most independent, the ring finger the least."""


def vary(rng: np.random.Generator, angles: np.ndarray) -> None:
    """Vary a pose from person to person along the hand's synergies, in place; angles: (NUM_ANGLES,)."""
    fingers = pose.fingers(angles)
    follow = _FOLLOW[:, None] * (_beside(fingers[:, 1:3]) - fingers[:, 1:3])
    free = 0.5 + 0.5 * np.clip(fingers[:, 1] / np.radians(15), 0, 1)  # stretched joints have nowhere to go
    loose = 0.4 + 0.6 * np.clip(fingers[:, 2] / np.radians(35), 0, 1)
    closing, trade, ulnar = rng.normal(size=3)
    slope = ulnar * np.array([-1.2, -0.4, 0.4, 1.2])
    own = np.radians([3.5, 5.0, 4.0])[:, None] * (rng.normal(size=(3, 4)) @ _NEIGHBOURS.T)
    middle = loose * (np.radians(7 * closing - 6 * trade + 3 * slope) + own[1])
    fingers[:, 1] += follow[:, 0] + free * (np.radians(4.5 * closing + 4 * trade + 3 * slope) + own[0])
    fingers[:, 2] += follow[:, 1] + middle
    fingers[:, 3] += 2 / 3 * (follow[:, 1] + middle) + loose * own[2]
    fingers[:, 0] += rng.normal(0, 0.05, 4) + np.radians(_FAN) * rng.normal(0, 0.35)
    # The last joint bends less than it would by itself where the fingertip rests on the palm.
    closed = np.clip((fingers[:, 2] - 0.9) / 0.7, 0, 1)
    fingers[:, 3] *= 1 - max(rng.uniform(-0.5, 0.5), 0) * closed
    angles[pose.THUMB] += rng.normal(0, 1, 5) * np.radians([7, 6, 8, 11, 5])
    angles[pose.CUP] += abs(rng.normal(0, 0.08))


def _beside(values: np.ndarray) -> np.ndarray:
    """(4, N) mean of each finger's neighbours."""
    padded = np.concatenate([values[1:2], values, values[2:3]])
    return 0.5 * (padded[:-2] + padded[2:])


def _random_angles(rng: np.random.Generator, names: tuple[str, ...]) -> np.ndarray:
    """Fingers closed by amounts that neighbours share, traded between MCP and PIP; a thumb of some action."""
    from scipy.special import ndtr

    out = posture_angles(_choose(rng, names)[1])
    fingers = pose.fingers(out)
    closed = ndtr(1.3 * (_NEIGHBOURS @ rng.normal(size=4)))
    trade = rng.normal()
    fingers[:, 1] = np.radians(14 + 66 * closed + 9 * trade * (1 - np.abs(2 * closed - 1)))
    fingers[:, 2] = np.radians(6 + 98 * closed - 12 * trade * (1 - np.abs(2 * closed - 1)))
    fingers[:, 3] = 2 / 3 * fingers[:, 2] * rng.uniform(0.7, 1.1)
    fingers[:, 0] = np.radians(_FAN) * rng.normal(0.5, 0.6)
    return out


def touch(arm: Arm, angles: np.ndarray, contact: Contact) -> np.ndarray:
    """Bring the thumb to what it touches, staying near the given angles and, at the second attempt, out of the fingers.

    Where the hand cannot reach, the result is as near as it gets.
    """
    out = _reach(arm, angles, angles, contact, solid=False)
    if pose.penetration(arm, pose.phalanges(arm, out)[1], thumb_only=True) > 0.001:
        out = _reach(arm, angles, out, contact, solid=True)
    return out


def _reach(arm: Arm, angles: np.ndarray, start: np.ndarray, contact: Contact, solid: bool) -> np.ndarray:
    """Levenberg-Marquardt steps from `start` to a pose with this contact near `angles`."""
    finger = contact.finger
    thumb = np.arange(16, 21)
    free = np.r_[4 * (finger - 1) + np.arange(1, 4), thumb] if contact.where == "pad" else thumb
    low, high = pose.LIMITS[free].T
    step, stiff = 1e-4, 0.8
    stiffness = np.eye(len(free)) / stiff**2
    out = start.copy()
    for _ in range(12):
        trials = np.repeat(out[None], len(free) + 1, axis=0)
        trials[np.arange(len(free)), free] += step
        misfit = _misfit(arm, trials, contact, solid)
        if misfit[-1] @ misfit[-1] < 0.7**2:
            break
        slopes = ((misfit[:-1] - misfit[-1]) / step).T
        downhill = (angles[free] - out[free]) / stiff**2 - slopes.T @ misfit[-1]
        stuck = ((out[free] <= low) & (downhill < 0)) | ((out[free] >= high) & (downhill > 0))
        slopes, downhill = np.where(stuck, 0, slopes), np.where(stuck, 0, downhill)
        change = np.linalg.solve(slopes.T @ slopes + stiffness, downhill)
        out[free] += pose.within(change, -0.25, 0.25)
        out = pose.respect_anatomy(out)
        if np.abs(change).max() < 0.01:
            break
    return out


def _misfit(arm: Arm, angles: np.ndarray, contact: Contact, solid: bool) -> np.ndarray:
    """(N, 3) how far the thumb is from its contact in each of N poses, in units of what is too far.

    solid: (N, 4), with how deep the thumb runs into the hand.
    """
    frames, points = pose.phalanges(arm, angles)
    gaps = _contact_gaps(arm, frames, points, contact) / 0.002
    if not solid:
        return gaps
    depth = pose.penetration(arm, points, thumb_only=True)[..., None] / 0.001
    return np.concatenate([gaps, depth], axis=-1)


def _contact_gaps(arm: Arm, frames: np.ndarray, points: np.ndarray, contact: Contact) -> np.ndarray:
    """(..., 3) metres from where the thumb's pulp should be to where it is, of poses as phalanges() gives them."""
    finger = contact.finger
    bone = {"pad": 2, "nail": 2, "back": 1, "side": 1, "edge": 0, "root": 0}[contact.where]
    radii = arm.radii[0, 2] + arm.radii[finger, bone]
    pulps = pose.pulps(arm, points)
    across, dorsal = frames[..., finger, bone, :, 0], frames[..., finger, bone, :, 2]
    if contact.where == "pad":
        return pulps[..., 0, :] - pulps[..., finger, :] + 0.85 * radii * dorsal
    start = 1 + 4 * finger + bone
    share = 0.5 if bone else 0.8
    place = (1 - share) * points[..., start, :] + share * points[..., start + 1, :]
    out = across if contact.where in ("side", "edge") else -dorsal if contact.where == "root" else dorsal
    return pulps[..., 0, :] - place - 0.95 * radii * out


# Directions of the left hand's fingers and of its palm in camera axes (x right, y down, z away from the camera).
_UP, _DOWN, _LEFT, _RIGHT, _AWAY, _HERE = np.array(
    [[0, -1, 0], [0, 1, 0], [-1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, -1]], float
)
_VIEWS = {
    "palm": (_UP, _HERE),
    "back": (_UP, _AWAY),
    "thumb side": (_UP, _RIGHT),
    "little side": (_UP, _LEFT),
    "palm, thumb up": (_RIGHT, _HERE),
    "back, thumb up": (_LEFT, _AWAY),
    "at the camera, thumb up": (_HERE, _LEFT),
    "at the camera, palm down": (_HERE, _DOWN),
    "away, thumb up": (_AWAY + 1.1 * _UP, _RIGHT),
    "away, palm down": (_AWAY + 1.1 * _UP, _DOWN),
    "away, palm up": (_AWAY + 0.8 * _UP, _UP),
    "hanging, back": (_DOWN, _AWAY),
    "hanging, thumb": (_DOWN, _LEFT),
    "palm up": (_HERE + 0.3 * _RIGHT, _UP),
}
_SHOWN = ("palm", "palm", "palm", "back")
_FIST = ("palm", "back", "at the camera, palm down", "at the camera, thumb up", "thumb side", "back, thumb up")
_POINTING = (
    *("palm", "back", "thumb side", "at the camera, palm down", "at the camera, thumb up"),
    *("back, thumb up", "palm, thumb up"),
)
_THUMB_UP = ("palm, thumb up", "back, thumb up", "at the camera, thumb up", "at the camera, thumb up")
_AT_REST = ("hanging, back", "hanging, thumb", "at the camera, palm down", "back", "palm up", "thumb side")
_GRASP = ("at the camera, thumb up", "back, thumb up", "thumb side", "palm, thumb up", "palm", "palm up")
_SIGN = ("palm", "palm", "thumb side", "back", "palm, thumb up")
_TYPICAL_VIEWS = {
    **dict.fromkeys(("open", "spread", "four", "three", "two", "two and thumb", "ok", "love", "letter W"), _SHOWN),
    **dict.fromkeys(("horns", "call", "little finger", "middle pinch", "ring bent"), _SHOWN),
    "flat": ("palm", "back", "thumb side", "thumb side", "little side", "palm, thumb up", "back, thumb up", "palm up"),
    **dict.fromkeys(("relaxed", "resting"), _AT_REST),
    **dict.fromkeys(("fist", "fist thumb beside"), _FIST),
    **dict.fromkeys(("point", "point thumb out", "point relaxed", "one thumb inside"), _POINTING),
    "thumb up": _THUMB_UP,
    **dict.fromkeys(("letter C", "pinch", "pinch closed", "three finger pinch", "claw", "tabletop"), _SIGN),
    "typing": ("at the camera, palm down", "hanging, back", "back, thumb up"),
    "grasp plate": ("palm up", "thumb side"),
    "hook": ("hanging, back", "hanging, thumb", "palm", "thumb side"),
}
_FROM_BEHIND = ("away, thumb up", "away, palm down", "away, palm up", "palm", "back", "palm, thumb up")


def typical_view(rng: np.random.Generator, action: str, egocentric: bool = False) -> np.ndarray:
    """Rotation (3, 3) of the left hand frame into camera axes, as people hold a hand that does this action.

    Seen by somebody else, or egocentric: by the person whose hand it is. Scattered by about 25 degrees about each axis.
    """
    import cv2

    views = _FROM_BEHIND if egocentric else _TYPICAL_VIEWS.get(action, _GRASP)
    fingers, palm = _VIEWS[views[rng.integers(len(views))]]
    y = fingers / np.linalg.norm(fingers)
    z = y * (y @ palm) - palm
    z /= np.linalg.norm(z)
    return cv2.Rodrigues(rng.normal(0, 0.42, 3))[0] @ np.stack([np.cross(y, z), y, z], axis=1)
