"""Random appearance of people: skin, sleeves, trousers and hair."""

from __future__ import annotations

import numpy as np

from hand_pose_3d.rendering.colours import skin_tone, unlike_skin
from hand_pose_3d.rendering.scene import Clothing, HandInstance, Person, Skin
from hand_pose_3d.rendering.source import Source


def dress(
    rng: np.random.Generator,
    body: int,
    rotation: np.ndarray,
    origin: np.ndarray,
    hand: HandInstance,
    seated: bool = False,
    arm_directions: np.ndarray | None = None,
) -> Person:
    """A person with the clothes and skin of one of their hands. Arguments: as of :class:`Person`."""
    grey = rng.uniform(0.01, 0.5)
    hair = np.array([0.02, 0.014, 0.01]) if rng.random() < 0.5 else rng.uniform(0.02, 0.45) * np.array([1, 0.62, 0.35])
    return Person(
        body=body,
        rotation=rotation,
        origin_m=origin,
        skin=hand.skin,
        colours=hand.clothing.colours,
        stripes=hand.clothing.stripes * 0.4,
        short_sleeves=hand.clothing.sleeve > 0.2,
        trouser_colour=unlike_skin(rng.uniform(0.01, 0.5, 3) ** 1.5),
        hair_colour=np.full(3, grey) if rng.random() < 0.2 else hair,
        hair_m=float(rng.uniform(0.002, 0.02)) if rng.random() < 0.9 else 0.0,
        seated=seated,
        arm_directions=arm_directions,
    )


def sample_skin(rng: np.random.Generator, source: Source) -> Skin:
    tone = float(rng.random())
    base = skin_tone(tone) * np.exp(rng.normal(0, 0.05, 3))
    textures = source.skins
    texture = textures[rng.integers(len(textures))].name if textures and rng.random() < 0.65 else None
    painted = rng.random() < 0.14
    nail = (
        rng.uniform(0.02, 1, 3) ** 1.6
        if painted
        else base * [1.02, 0.9, 0.92] * 0.75 + 0.25 * np.array([0.8, 0.55, 0.5])
    )
    return Skin(
        tone=tone,
        base=base,
        texture=texture,
        texture_share=float(rng.uniform(0.5, 1)) if texture else 0.0,
        roughness=float(rng.uniform(0.42, 0.8)),
        bump=float(rng.uniform(0.08, 0.6)),
        blotch=float(rng.uniform(0.04, 0.3)),
        veins=float(max(rng.uniform(-0.6, 0.8), 0)),
        hair=float(max(rng.uniform(-0.6, 0.5), 0)),
        palm_light=float(rng.uniform(0.25, 0.8)),
        creases=float(rng.uniform(0.15, 1)),
        nail_colour=nail,
        seed=float(rng.uniform(0, 90)),
    )


def sample_clothing(rng: np.random.Generator) -> Clothing:
    sleeved = rng.random() < 0.6
    sleeve = (
        float(rng.uniform(0.005, 0.05) if rng.random() < 0.6 else rng.uniform(0.05, 0.3))
        if sleeved
        else rng.uniform(0.28, 0.4)
    )
    ring = (int(rng.integers(1, 5)), float(rng.uniform(0.3, 0.6))) if rng.random() < 0.14 else None
    watch = (float(rng.uniform(0.02, 0.05)), float(rng.uniform(0.004, 0.014)), float(rng.random() < 0.4))
    metal = np.array([[0.95, 0.75, 0.4], [0.85, 0.85, 0.83], [0.9, 0.6, 0.5]])[rng.integers(3)]
    return Clothing(
        sleeve=sleeve,
        thickness=float(rng.uniform(0.002, 0.012)),
        colours=unlike_skin(
            rng.uniform(0.02, 0.95, (2, 3)) ** 1.8
            if rng.random() < 0.6
            else rng.uniform(0.02, 0.9, (2, 1)).repeat(3, 1) ** 1.8
        ),
        stripes=float(rng.choice([0, 0, 0, 40, 90, 160])),
        along=bool(rng.random() < 0.5),
        glove=bool(rng.random() < 0.06),
        ring=ring,
        watch=watch if rng.random() < 0.12 else (0.0, 0.0, 0.0),
        metal=metal,
    )
