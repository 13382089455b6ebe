"""Postures of arms: where a person holds their hands, and how they are oriented, standing and seated.

Everything is for a left arm in body axes (x to the person's left, y back, z up; metres); right arms are mirrored.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_RELAXED = ("relaxed", "resting", "flat", "open")
_HOLDING = ("grasp cylinder", "grasp can", "grasp ball", "grasp handle", "pen", "pinch", "hook", "grasp card")


class ArmPosture(NamedTuple):
    """Position and orientation of one hand.

    anchor: the landmark that `at` is measured from: shoulder, eyes or hips (at the height of the hips, below the
    shoulder). at, spread: (3,) mean and half range of the wrist, metres for a person with an arm of 0.5 m. elbow: (3,)
    where it points. palm, fingers: (3,) directions they face, zero for any direction. touches: the hand rests on
    the body. enters: the hand may be inside, as in a pocket. actions: of the hand; () is any.
    """

    anchor: str
    at: tuple[float, float, float]
    spread: tuple[float, float, float]
    elbow: tuple[float, float, float]
    palm: tuple[float, float, float]
    fingers: tuple[float, float, float]
    touches: bool = False
    enters: bool = False
    actions: tuple[str, ...] = _RELAXED
    symmetric: bool = False


POSTURES = {
    "hanging": ArmPosture("shoulder", (0.09, 0, -0.5), (0.05, 0.06, 0.02), (0.4, 1, 0), (-1, 0, 0), (0, -0.1, -1)),
    "holding low": ArmPosture(
        "shoulder", (0.1, -0.08, -0.47), (0.05, 0.08, 0.03), (0.5, 1, 0), (-1, 0, 0), (0, -0.2, -1), actions=_HOLDING
    ),
    "on the hip": ArmPosture(
        "hips", (0.05, -0.04, 0.1), (0.05, 0.05, 0.05), (1, 0.4, 0), (-0.8, 0, -0.4), (-0.4, -0.8, -0.3), True
    ),
    "in a pocket": ArmPosture(
        "hips", (0.01, -0.03, 0.03), (0.03, 0.04, 0.04), (0.6, 1, 0), (-1, 0, 0), (-0.1, -0.3, -1), enters=True
    ),
    "gesturing": ArmPosture(
        "shoulder", (-0.02, -0.3, -0.2), (0.14, 0.1, 0.14), (0.6, 0.4, -1), (0, 0, 0), (-0.2, -0.7, 0.5), actions=()
    ),
    "explaining": ArmPosture(
        "shoulder", (0.05, -0.28, -0.26), (0.12, 0.1, 0.08), (0.5, 0.5, -1), (-0.5, 0, 1), (-0.1, -1, 0.2)
    ),
    "waving": ArmPosture(
        "shoulder", (0.14, -0.14, 0.14), (0.1, 0.08, 0.14), (1, 0, -0.8), (0, -1, 0), (0, 0, 1), actions=()
    ),
    "arm up": ArmPosture(
        "shoulder", (0.12, -0.06, 0.42), (0.1, 0.08, 0.06), (1, 0, 0.3), (0, -1, 0), (0, 0, 1), actions=()
    ),
    "pointing": ArmPosture(
        "shoulder",
        (0.06, -0.42, -0.04),
        (0.2, 0.06, 0.16),
        (0.6, 0.2, -1),
        (-0.7, 0, -0.5),
        (0, -1, 0),
        actions=("point", "point thumb out", "point relaxed", "thumb up", "two", "flat"),
    ),
    "chin": ArmPosture(
        "eyes",
        (0.05, -0.12, -0.2),
        (0.05, 0.04, 0.05),
        (0.4, -0.2, -1),
        (-0.3, 1, 0.2),
        (-0.2, 0.4, 1),
        True,
        actions=("fist", "relaxed", "point", "pinch", "resting", "fist thumb beside"),
    ),
    "cheek": ArmPosture(
        "eyes", (0.12, 0, -0.16), (0.03, 0.05, 0.05), (0.5, -0.3, -1), (-1, 0.3, 0), (-0.2, 0.2, 1), True
    ),
    "face": ArmPosture(
        "eyes", (0.09, -0.13, -0.1), (0.06, 0.03, 0.06), (0.7, -0.2, -1), (-0.2, 1, 0), (-0.6, 0.1, 0.8), True
    ),
    "ear": ArmPosture(
        "eyes",
        (0.16, 0.05, -0.08),
        (0.03, 0.05, 0.05),
        (0.7, -0.2, -1),
        (-1, 0, 0),
        (-0.2, 0.2, 1),
        True,
        actions=(*_RELAXED, "grasp card", "grasp can"),
    ),
    "hair": ArmPosture(
        "eyes", (0.17, 0.05, 0.1), (0.04, 0.06, 0.06), (1, -0.2, 0.1), (-0.8, 0, -0.6), (-0.6, 0.5, 0.5), True
    ),
    "behind the head": ArmPosture(
        "eyes", (0.15, 0.2, 0), (0.04, 0.04, 0.05), (1, -0.1, 0.1), (0, -1, 0), (-1, 0.1, 0.2), True
    ),
    "on the chest": ArmPosture(
        "shoulder", (-0.08, -0.16, -0.18), (0.06, 0.04, 0.1), (0.8, 0, -0.8), (0, 1, 0), (-1, 0, 0.3), True
    ),
    "on the belly": ArmPosture(
        "hips", (-0.06, -0.16, 0.16), (0.06, 0.05, 0.06), (1, 0.4, -0.4), (0, 1, 0), (-1, 0, -0.1), True
    ),
    "behind the back": ArmPosture(
        "hips", (-0.08, 0.16, 0.12), (0.05, 0.04, 0.05), (1, 0.7, 0), (0, 1, 0), (-1, 0, -0.2), True
    ),
    "reaching": ArmPosture(
        "shoulder", (0, -0.42, -0.18), (0.2, 0.06, 0.16), (0.8, 0.4, -1), (-0.5, 0, -1), (0, -1, 0), actions=()
    ),
    "holding": ArmPosture(
        "shoulder",
        (-0.05, -0.28, -0.2),
        (0.12, 0.08, 0.12),
        (0.6, 0.4, -1),
        (-1, 0.2, 0.2),
        (-0.3, -0.8, 0.4),
        actions=_HOLDING,
    ),
    "drinking": ArmPosture(
        "eyes",
        (0.1, -0.2, -0.17),
        (0.05, 0.04, 0.05),
        (0.8, -0.2, -0.8),
        (-1, 0.2, 0),
        (-0.3, -0.2, 0.8),
        actions=("grasp cylinder", "grasp can", "pinch", "grasp card"),
    ),
    "lap": ArmPosture(
        "hips", (-0.04, -0.28, 0.12), (0.08, 0.1, 0.06), (1, 0.5, -0.2), (0, 0, -1), (-0.4, -0.9, 0), True
    ),
    "knee": ArmPosture(
        "hips", (-0.04, -0.42, 0.1), (0.05, 0.06, 0.06), (1, 0.5, -0.2), (0, 0, -1), (-0.1, -0.9, -0.3), True
    ),
    "typing": ArmPosture(
        "shoulder", (-0.06, -0.34, -0.32), (0.06, 0.06, 0.04), (0.8, 0.4, -0.8), (0, 0, -1), (-0.2, -1, 0)
    ),
}
"""Postures of one hand."""

PAIRS = {
    "praying": ArmPosture(
        "shoulder",
        (-0.12, -0.26, -0.14),
        (0.03, 0.05, 0.08),
        (0.9, 0.2, -0.8),
        (-1, 0, 0),
        (0, -0.4, 0.9),
        symmetric=True,
        actions=("flat", "open"),
    ),
    "clasped": ArmPosture(
        "shoulder",
        (-0.1, -0.26, -0.24),
        (0.04, 0.05, 0.08),
        (0.9, 0.2, -0.8),
        (-0.9, 0.3, 0),
        (-0.5, -0.7, 0.4),
        symmetric=True,
        actions=("relaxed", "resting", "grasp ball", "claw", "fist"),
    ),
    "clasped low": ArmPosture(
        "hips",
        (-0.08, -0.2, 0.06),
        (0.04, 0.05, 0.06),
        (1, 0.4, -0.4),
        (-0.6, 0.8, 0),
        (-0.6, -0.2, -0.7),
        symmetric=True,
        actions=("relaxed", "resting", "flat"),
    ),
    "steepled": ArmPosture(
        "shoulder",
        (-0.09, -0.28, -0.2),
        (0.04, 0.05, 0.08),
        (0.9, 0.2, -0.8),
        (-0.9, 0.2, -0.2),
        (-0.5, -0.5, 0.6),
        symmetric=True,
        actions=("spread", "open", "claw"),
    ),
    "before the face": ArmPosture(
        "eyes",
        (0.05, -0.16, -0.17),
        (0.03, 0.04, 0.05),
        (0.6, -0.2, -1),
        (-0.4, 1, 0),
        (-0.3, 0.2, 1),
        True,
        actions=("flat", "open", "relaxed"),
    ),
    "folded": ArmPosture(
        "shoulder",
        (-0.24, -0.16, -0.22),
        (0.03, 0.03, 0.05),
        (0.9, 0, -0.8),
        (0, 1, 0.1),
        (-1, 0.1, 0.1),
        actions=("flat", "relaxed", "resting", "fist"),
    ),
    "carrying": ArmPosture(
        "shoulder",
        (-0.03, -0.3, -0.22),
        (0.06, 0.06, 0.1),
        (0.8, 0.4, -0.8),
        (-1, 0, 0.1),
        (-0.2, -1, 0.1),
        symmetric=True,
        actions=("flat", "open", "relaxed"),
    ),
    "gripping": ArmPosture(
        "shoulder",
        (-0.14, -0.42, -0.02),
        (0.05, 0.12, 0.16),
        (0.7, 0.3, -0.9),
        (-1, 0.2, 0),
        (-0.1, -1, -0.2),
        symmetric=True,
        actions=("grasp handle", "grasp can", "grasp cylinder", "fist", "hook"),
    ),
    "in the lap": ArmPosture(
        "hips",
        (-0.1, -0.24, 0.13),
        (0.04, 0.06, 0.04),
        (1, 0.5, -0.3),
        (-0.3, 0, -1),
        (-0.8, -0.5, 0),
        True,
        actions=("relaxed", "resting", "flat"),
    ),
}
"""Postures of both hands of a person."""

_STANDING_ONLY = ("on the hip", "in a pocket", "hanging", "holding low", "behind the back", "clasped low")
_SEATED_ONLY = ("lap", "knee", "in the lap")
_COMMON = {"hanging": 4.0, "gesturing": 2.0, "lap": 3.0, "knee": 2.0, "in the lap": 3.0, "holding": 2.0}
"""Relative frequency of common postures, of others 1; chosen by eye."""
TOUCHING_PAIRS = ("praying", "clasped", "clasped low", "steepled", "gripping")


def choose(rng: np.random.Generator, seated: bool) -> tuple[str, str]:
    """Names of the postures of a person's left and right hand."""

    if rng.random() < 0.3:
        pair = choose_one(rng, seated, PAIRS)
        return pair, pair
    left = choose_one(rng, seated)
    return left, left if rng.random() < 0.3 else choose_one(rng, seated)


def choose_one(rng: np.random.Generator, seated: bool, postures: dict[str, ArmPosture] = POSTURES) -> str:
    """Name of a random posture, of the given ones, that a standing or seated person may take."""
    allowed = [n for n in postures if n not in (_STANDING_ONLY if seated else _SEATED_ONLY)]
    chance = np.array([_COMMON.get(n, 1.0) for n in allowed])
    return str(rng.choice(allowed, p=chance / chance.sum()))
