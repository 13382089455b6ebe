"""Settings of a reproduction of the paper, the sizes of the paper's data set, and each step's share of the time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from hand_pose_3d.errors import InvalidInputError

TRAINING_FRAMES, EVALUATION_FRAMES = 41_258, 2_728
CHARACTERS = {"training": 16, "evaluation": 4}
"""Frames and characters of the paper's data set (section 5.1); its 31 and 8 actions are also the renderer's."""

SHARES = {
    "paper": {
        "data": 30.0,
        "handsegnet": 22.0,
        "posenet": 28.0,
        "lifting/proposed": 4.0,
        "lifting/direct": 3.0,
        "lifting/bottleneck": 3.0,
        "lifting/local": 3.0,
        "lifting/nearest-neighbour": 0.5,
        "scores": 2.0,
        "evaluation": 6.0,
    },
    "lite": {"data": 30.0, "handsegnet": 22.0, "posenet": 28.0, "lifting": 12.0, "scores": 4.0, "evaluation": 8.0},
}
"""Steps of each family in order, with their relative shares of the time, chosen by hand.

Time that a step leaves over is shared by those after it.
"""

LARGEST_RATE = 3e-4
"""Upper limit of the learning rate, which rises where a schedule of the paper's recipe is shortened, or several
processes make its batches larger; chosen by hand."""
LEAST_HELD_OUT, LEAST_EVALUATED = 16, 4
"""Fewest frames rendered for evaluation, and fewest hands evaluated, however little time there is."""


@dataclass(frozen=True)
class ReproductionConfig:
    """What to reproduce.

    minutes: time for the whole run, to which schedules are shortened, None for the paper's schedules in full; frames:
    of the training split, None for the paper's number; data: folders in RHD's layout to use instead of renders, of
    which the first one's evaluation split is held out; assets: as `render` takes them; device: auto, cpu, cuda or
    cuda:N; seed: of renders and training.
    """

    out: Path
    model: str = "paper"
    minutes: float | None = None
    frames: int | None = None
    data: tuple[Path, ...] = ()
    assets: Path | None = None
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.model not in SHARES:
            raise InvalidInputError(f"model must be one of {', '.join(SHARES)}, not {self.model!r}")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise InvalidInputError(f"minutes must be more than 0, not {self.minutes}")
        if self.frames is not None and self.frames < 1:
            raise InvalidInputError(f"frames must be at least 1, not {self.frames}")
        if self.seed < 0:
            raise InvalidInputError(f"seed must be at least 0, not {self.seed}")
        if self.data and self.frames is not None:
            raise InvalidInputError("frames is how many to render; data that are there already are taken as they are")
        if self.data and self.assets is not None:
            raise InvalidInputError("assets are for renders; data that are there already are taken as they are")
