"""One frame as plain values, whatever draws it, and what frames are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from hand_pose_3d.rendering.background import environment_files
from hand_pose_3d.rendering.character import NUM_EVALUATION, NUM_TRAINING, Characters
from hand_pose_3d.rendering.objects import Thing
from hand_pose_3d.rendering.people import People
from hand_pose_3d.skeleton import Side

IMAGE_SIZE = 320
PEOPLE_SHARE = 0.35
"""Of frames that show whole people, unless another share is required."""
SPLITS = ("training", "evaluation")
_EVALUATION_ENVIRONMENTS = 5  # every fifth map is kept for evaluation


@dataclass(frozen=True, eq=False)
class SkinLook:
    """Albedo (3,) and everything else that makes one person's skin."""

    tone: float
    base: np.ndarray
    texture: str | None
    texture_share: float
    roughness: float
    bump: float
    blotch: float
    veins: float
    hair: float
    palm_light: float
    creases: float
    nail_colour: np.ndarray
    seed: float


@dataclass(frozen=True, eq=False)
class Clothing:
    """Where the sleeve starts (metres up the arm; large = none), its colours and pattern, glove, ring and watch.

    ring: (finger, share along its first bone) or None.
    """

    sleeve: float
    thickness: float
    colours: np.ndarray
    stripes: float
    along: bool
    glove: bool
    ring: tuple[int, float] | None
    watch: tuple[float, float, float]
    metal: np.ndarray


@dataclass(frozen=True, eq=False)
class HandInstance:
    """One hand: whose, in what pose, and where: rotation_camera_hand (3, 3), wrist_camera_m (3,).

    attached: the arm ends in the shoulder of a body. background: too far behind other hands to cast a shadow on them.
    """

    side: Side
    character: int
    action: str
    angles: np.ndarray
    rotation_camera_hand: np.ndarray
    wrist_camera_m: np.ndarray
    skin: SkinLook
    clothing: Clothing
    attached: bool = False
    background: bool = False


@dataclass(frozen=True, eq=False)
class Person:
    """Somebody clothed, without hands: who, where (body axes to camera axes), look and which arm is not theirs here.

    missing_arm: 0 left, 1 right, 2 both, None when both hang down. arm_directions: (2, 3) in body axes where the upper
    arms point that shoulders follow, or None. background: as of a hand.
    """

    body: int
    rotation: np.ndarray
    origin_m: np.ndarray
    skin: SkinLook
    colours: np.ndarray
    stripes: float
    along: bool
    short_sleeves: bool
    trouser_colour: np.ndarray
    hair_colour: np.ndarray
    hair_m: float
    missing_arm: int | None
    seated: bool = False
    arm_directions: np.ndarray | None = None
    background: bool = False


@dataclass(frozen=True, eq=False)
class Lighting:
    """Harmonics (9, 3) and key light (direction to it, colour) in camera axes; exposure multiplies all."""

    harmonics: np.ndarray
    key_direction: np.ndarray
    key: np.ndarray
    fill_direction: np.ndarray
    fill: np.ndarray
    exposure: float


@dataclass(frozen=True, eq=False)
class Photo:
    """What the camera does to the picture; zero means nothing."""

    motion_px: float
    motion_angle: float
    defocus_px: float
    noise: float
    shrink: float
    jpeg_quality: int
    gain: np.ndarray
    gamma: float
    saturation: float


@dataclass(frozen=True, eq=False)
class Scene:
    """One frame. intrinsics: (3, 3) of a IMAGE_SIZE square picture."""

    split: str
    seed: int
    index: int
    intrinsics: np.ndarray
    hands: tuple[HandInstance, ...]
    lighting: Lighting
    environment: str | None
    rotation_world_camera: np.ndarray
    background_seed: int
    background_exposure: float
    background_blur: float
    clutter: bool
    view: str
    photo: Photo
    things: tuple[Thing, ...] = ()
    people: tuple[Person, ...] = ()
    tags: tuple[str, ...] = field(default=())


@dataclass(frozen=True, eq=False)
class Source:
    """What scenes are sampled from: characters and, where there is one, a folder of assets."""

    characters: Characters
    people: People
    assets: Path | None = None

    def identities(self, split: str) -> range:
        """Indices of a split's characters; the splits share none."""
        return range(NUM_TRAINING) if split == "training" else range(NUM_TRAINING, NUM_TRAINING + NUM_EVALUATION)

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
        return environment_files(self.assets)

    @cached_property
    def skins(self) -> list[Path]:
        """Skin textures of the asset folder."""
        return sorted((self.assets / "skins").glob("*_diffuse*")) if self.assets else []
