"""One frame as plain values, whatever draws it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hand_pose_3d.rendering import pose
from hand_pose_3d.rendering.character import Arm
from hand_pose_3d.skeleton import Side

IMAGE_SIZE = 320  # pixels, as RHD's images
PEOPLE_SHARE = 0.35
"""Share of frames that show whole people, unless another one is given."""


@dataclass(frozen=True, eq=False)
class Skin:
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
    arm: Arm
    action: str
    angles: np.ndarray
    rotation_camera_hand: np.ndarray
    wrist_camera_m: np.ndarray
    skin: Skin
    clothing: Clothing
    attached: bool = False
    background: bool = False

    @cached_property
    def posed(self) -> tuple[np.ndarray, np.ndarray]:
        """Motions (B, 3, 4) of its arm's bones and keypoints (21, 3), as :func:`pose.bone_motions` gives them."""
        return pose.bone_motions(self.arm, self.angles)

    @property
    def mirror(self) -> np.ndarray:
        """See :func:`pose.mirror_of`."""
        return pose.mirror_of(self.side)

    @property
    def rotation_camera_pose(self) -> np.ndarray:
        """(3, 3) from the axes of :attr:`posed`, a left hand's, to camera axes; a reflection for a right hand."""
        return self.rotation_camera_hand @ self.mirror


@dataclass(frozen=True, eq=False)
class Person:
    """Somebody clothed, without arms: who, where (body axes to camera axes) and look.

    arm_directions: (2, 3) in body axes where the upper arms point that shoulders follow, or None. background: as of a
    hand.
    """

    body: int
    rotation: np.ndarray
    origin_m: np.ndarray
    skin: Skin
    colours: np.ndarray
    stripes: float
    short_sleeves: bool
    trouser_colour: np.ndarray
    hair_colour: np.ndarray
    hair_m: float
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
class CameraEffects:
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
class Prop:
    """A primitive of unit size, scaled by size (3,) metres, then rotated and moved into camera axes.

    cylinder: axis y, diameter and height 1. box: side 1. ball: diameter 1.
    """

    kind: str
    size: np.ndarray
    rotation: np.ndarray
    centre_m: np.ndarray
    colours: np.ndarray
    stripes: float
    along: bool
    blotch: float
    metal: float
    roughness: float
    seed: float


@dataclass(frozen=True, eq=False)
class Scene:
    """One frame. intrinsics: (3, 3) of a IMAGE_SIZE square picture."""

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
    camera_effects: CameraEffects
    props: tuple[Prop, ...] = ()
    people: tuple[Person, ...] = ()
    tags: tuple[str, ...] = ()
