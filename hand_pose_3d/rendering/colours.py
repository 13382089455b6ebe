"""Colours of skin, and of cloth that does not resemble it; linear light."""

from __future__ import annotations

from functools import cache

import numpy as np

_TONES = np.array(  # sRGB of skin, lightest to darkest, chosen by eye
    [
        [0.95, 0.80, 0.71],
        [0.90, 0.71, 0.59],
        [0.84, 0.63, 0.50],
        [0.76, 0.54, 0.41],
        [0.65, 0.44, 0.31],
        [0.52, 0.34, 0.23],
        [0.39, 0.25, 0.17],
        [0.28, 0.18, 0.13],
    ]
)
_SKIN_LIKE = 0.5
"""Distance of the logarithms of two linear colours of equal brightness below which they look alike; chosen by eye."""


def skin_tone(t: float) -> np.ndarray:
    """Linear albedo (3,) of skin, t = 0 lightest to 1 darkest."""
    position = np.clip(t, 0, 1) * (len(_TONES) - 1)
    lower = min(int(position), len(_TONES) - 2)
    srgb = _TONES[lower] + (position - lower) * (_TONES[lower + 1] - _TONES[lower])
    return srgb**2.2


def unlike_skin(colours: np.ndarray) -> np.ndarray:
    """The same linear colours (..., 3), red and blue exchanged where cloth of them would look like bare skin."""
    exchanged = colours[..., ::-1]
    distance = _from_skin(colours)
    near = (distance < _SKIN_LIKE) & (_from_skin(exchanged) > distance)  # greys stay equally near
    return np.where(near[..., None], exchanged, colours)


def _from_skin(colours: np.ndarray) -> np.ndarray:
    hue = np.log(colours / colours.mean(-1, keepdims=True))
    return np.linalg.norm(hue[..., None, :] - _skin_hues(), axis=-1).min(-1)


@cache
def _skin_hues() -> np.ndarray:
    """Logarithms (9, 3) of linear skin colours, normalised to brightness 1."""
    tones = np.stack([skin_tone(t) for t in np.linspace(0, 1, 9)])
    return np.log(tones / tones.mean(-1, keepdims=True))
