"""Sources of random frames: characters, bodies, actions and, where given, environment maps and skins."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.datasets.rhd import SPLITS
from hand_pose_3d.rendering import actions
from hand_pose_3d.rendering.background import asset_files, environment_files
from hand_pose_3d.rendering.character import NUM_EVALUATION, NUM_TRAINING, Arm, Characters
from hand_pose_3d.rendering.people import People

_EVALUATION_ENVIRONMENTS = 5  # every fifth map is kept for evaluation


def asset_paths(assets: Path | None) -> tuple[list[Path], list[Path]]:
    """Environment maps and skin textures of an asset folder; none without one."""
    return environment_files(assets), asset_files(assets, "skins", "*_diffuse*")


def describe_assets(assets: Path | None) -> dict[str, Any]:
    """Numbers of 'hdri', environment maps, and 'skins', textures, in an asset folder, and 'names', a hash of theirs;
    empty without one."""
    if assets is None:
        return {}
    maps, skins = asset_paths(assets)
    names = "\n".join(path.name for path in (*maps, *skins))
    return {"hdri": len(maps), "skins": len(skins), "names": hashlib.sha256(names.encode()).hexdigest()[:16]}


def is_made_so(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether what a data set says of its making is what is wanted; older ones tell whether there were assets, or how
    many, and no version."""
    found = {"version": wanted["version"], **found}
    made, assets = found.get("assets"), wanted["assets"]
    if isinstance(made, bool):
        older = made == bool(assets)
    else:
        older = bool(made) and isinstance(made, dict) and made == {name: assets.get(name) for name in made}
    return found | ({"assets": assets} if older else {}) == wanted


def share_maps(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether splits of these assets may share an environment map: which are held out depends on all of them."""
    first, second = (each.get("assets") for each in (one, other))
    described = all(isinstance(each, dict) and "names" in each and each["hdri"] for each in (first, second))
    return described and first != second


@dataclass(frozen=True, eq=False)
class Source:
    """Source of random scenes: characters and, if given, a folder of assets.

    most: how many of a split's characters are used, None for all.
    """

    characters: Characters
    people: People
    assets: Path | None = None
    most: int | None = None

    def limited(self, most: int | None) -> Source:
        """The same source with at most so many characters of a split, None for all."""
        return self if most == self.most else replace(self, most=most)

    def identities(self, split: str) -> range:
        """Indices of a split's characters; the splits share none."""
        everyone = range(NUM_TRAINING + NUM_EVALUATION)
        return (everyone[:NUM_TRAINING] if split == "training" else everyone[NUM_TRAINING:])[: self.most]

    def environments(self, split: str) -> list[Path]:
        """A split's environment maps; the splits share none."""
        held_out = split == "evaluation"
        return [f for i, f in enumerate(self._maps) if (i % _EVALUATION_ENVIRONMENTS == 2) == held_out]

    def environment(self, name: str) -> Path:
        """The file of an environment map."""
        return next(f for f in self._maps if f.name == name)

    def skin(self, name: str) -> Path:
        """The file of a skin texture."""
        return next(f for f in self.skins if f.name == name)

    @cached_property
    def _maps(self) -> list[Path]:
        return asset_paths(self.assets)[0]

    @cached_property
    def skins(self) -> list[Path]:
        """Skin textures of the asset folder."""
        return asset_paths(self.assets)[1]


@dataclass(frozen=True, eq=False)
class FrameSource:
    """The random generator of one frame, and one split of a source. The splits share skins and nothing else."""

    rng: np.random.Generator
    source: Source
    split: str

    @classmethod
    def of_frame(cls, source: Source, split: str, seed: int, index: int, stream: int | None = None) -> FrameSource:
        """For frame `index` of data set `seed`, which alone determine it; stream: of an independent generator."""
        key = [seed, SPLITS.index(split), index]
        return cls(np.random.default_rng(key if stream is None else [*key, stream]), source, split)

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of the split's actions."""
        return actions.TRAINING if self.split == "training" else actions.EVALUATION

    def arm(self) -> Arm:
        """The arm of a random character of the split."""
        identities = self.source.identities(self.split)
        return self.source.characters.arm(int(identities[self.rng.integers(len(identities))]))

    def body(self) -> int:
        """Index of a random body of the split."""
        indices = self.source.people.indices(self.split)
        return int(indices[self.rng.integers(len(indices))])

    def environment(self) -> Path | None:
        """A random environment map of the split, sometimes none."""
        maps = self.source.environments(self.split)
        return maps[self.rng.integers(len(maps))] if maps and self.rng.random() < 0.72 else None
