"""Backgrounds and their light: environment maps where given, else procedural."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path

import numpy as np

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.images import read_pixels
from hand_pose_3d.rendering.colours import skin_tone

_CLAMP = 24.0  # largest radiance over the map's mean, chosen by eye; brighter pixels (the sun) become the key light


@dataclass(frozen=True, eq=False)
class Environment:
    """An equirectangular map (H, W, 3) of linear light of mean 1, its harmonics (9, 3) and its brightest direction.

    World axes: y up, the middle of the map at +z, its right half towards -x. harmonics are irradiance over pi, so
    that albedo times their sum is the reflected light.
    """

    pixels: np.ndarray
    harmonics: np.ndarray
    sun: np.ndarray
    sun_share: float

    @cached_property
    def bordered(self) -> np.ndarray:
        """The map with one more pixel at each edge: wrapped around horizontally, repeated at the poles."""
        import cv2

        around = cv2.copyMakeBorder(self.pixels, 0, 0, 1, 1, cv2.BORDER_WRAP)
        return cv2.copyMakeBorder(around, 1, 1, 0, 0, cv2.BORDER_REPLICATE)


def asset_files(assets: Path | None, kind: str, pattern: str) -> list[Path]:
    """The files of one kind in an asset folder, in order, without hidden ones; empty without a folder."""
    found = (assets / kind).glob(pattern) if assets else ()
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def environment_files(assets: Path | None) -> list[Path]:
    """The .hdr files of an asset folder, as :func:`asset_files`."""
    return asset_files(assets, "hdri", "*.hdr")


def _directions(height: int, width: int) -> np.ndarray:
    theta = (np.arange(height) + 0.5) / height * np.pi
    phi = (np.arange(width) + 0.5) / width * 2 * np.pi - np.pi
    y = np.repeat(np.cos(theta)[:, None], width, axis=1)
    return np.stack([-np.sin(theta)[:, None] * np.sin(phi), y, np.sin(theta)[:, None] * np.cos(phi)], axis=-1)


def harmonics_basis(d: np.ndarray) -> np.ndarray:
    """The nine functions of the shader at directions (..., 3), each times its cosine-lobe factor."""
    x, y, z = d[..., 0], d[..., 1], d[..., 2]
    return np.stack([np.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], axis=-1)


# Squared constants of real spherical harmonics, and cosine-lobe factors over pi (Ramamoorthi and Hanrahan, 2001).
_NORM = np.array([0.282095, 0.488603, 0.488603, 0.488603, 1.092548, 1.092548, 0.315392, 1.092548, 0.546274]) ** 2
_LOBE = np.array([1.0, 2 / 3, 2 / 3, 2 / 3, 0.25, 0.25, 0.25, 0.25, 0.25])


def project_harmonics(radiance: np.ndarray) -> np.ndarray:
    """Coefficients (9, 3) of irradiance / pi of an equirectangular map (H, W, 3).

    Source: Ramamoorthi and Hanrahan, 2001.
    """
    height, width = radiance.shape[:2]
    solid = np.sin((np.arange(height) + 0.5) / height * np.pi) * (np.pi / height) * (2 * np.pi / width)
    basis = harmonics_basis(_directions(height, width)) * solid[:, None, None]
    coefficients = np.einsum("hwk,hwc->kc", basis, radiance)
    return coefficients * (_NORM * _LOBE)[:, None]


@lru_cache(maxsize=64)
def load_environment(path: Path) -> Environment:
    """Read an .hdr file. Raises InvalidInputError for one without colours or light."""
    import cv2

    image = read_pixels(path, cv2.IMREAD_UNCHANGED)
    if image.ndim != 3 or image.shape[2] < 3:
        raise InvalidInputError(f"environment map {path} has no colours: it must hold red, green and blue")
    pixels = image[..., 2::-1].astype(np.float32)
    pixels = np.clip(pixels, 0, None)
    mean = np.clip(pixels, 0, np.percentile(pixels, 99)).mean() or pixels.mean()  # a lamp in the dark
    if not 0 < mean < np.inf:
        raise InvalidInputError(f"environment map {path} is black, or its light is no number")
    pixels /= mean
    small = cv2.resize(pixels, (64, 32), interpolation=cv2.INTER_AREA)
    brightness = small.mean(axis=-1)
    peak = np.unravel_index(np.argmax(cv2.GaussianBlur(brightness, (3, 3), 0)), brightness.shape)
    excess = np.clip(brightness - _CLAMP / 4, 0, None).sum() / brightness.sum()
    return Environment(
        np.clip(pixels, 0, _CLAMP),
        project_harmonics(np.clip(small, 0, _CLAMP / 4)),
        _directions(32, 64)[peak],
        float(excess),
    )


def perspective_view(env: Environment, rotation_world_camera: np.ndarray, focal: float, size: int) -> np.ndarray:
    """Linear light (size, size, 3) seen by a camera; rotation's columns are the camera's axes in world axes.

    focal: pixels of a view of this size.
    """
    import cv2

    grid = ((np.arange(size) - (size - 1) / 2) / focal).astype(np.float32)
    rotation = rotation_world_camera.astype(np.float32)
    x, y, z = (row[0] * grid + (row[1] * grid + row[2])[:, None] for row in rotation)
    height, width = env.pixels.shape[:2]
    # The map's middle is at +z. OpenCV wraps maps itself, but takes six times as long for it.
    u = cv2.phase(-z, x) * np.float32(0.5 * width / np.pi) + np.float32(0.5)
    v = cv2.phase(y, cv2.magnitude(x, z)) * np.float32(height / np.pi) + np.float32(0.5)
    return cv2.remap(env.bordered, u, v, cv2.INTER_LINEAR)


def procedural_environment(rng: np.random.Generator) -> Environment:
    """A procedural room or sky with smooth light."""
    height, width = 16, 32
    d = _directions(height, width)
    up = 0.5 + 0.5 * d[..., 1:2]
    tint = 1 + rng.normal(0, 0.12, (2, 3))
    light = tint[0] * rng.uniform(0.6, 1.6) * up + tint[1] * rng.uniform(0.15, 0.9) * (1 - up)
    for _ in range(rng.integers(1, 5)):
        centre = rng.normal(size=3) + [0, 0.5, 0]
        centre /= np.linalg.norm(centre)
        lamp = np.exp((d @ centre - 1) / rng.uniform(0.02, 0.3))[..., None]
        light = light + lamp * rng.uniform(0.5, 5) * (1 + rng.normal(0, 0.15, 3))
    light = np.clip(light, 0.02, None)
    light /= light.mean()
    peak = np.unravel_index(np.argmax(light.sum(axis=-1)), (height, width))
    return Environment(light.astype(np.float32), project_harmonics(light), d[peak], 0.2)


def noise_cells(rng: np.random.Generator, octaves: int, persistence: float = 0.6) -> np.ndarray:
    """Smooth noise (2^octaves + 1, the same) float32 in 0..1."""
    import cv2

    out, weight = rng.random((3, 3), dtype=np.float32), 1.0
    for octave in range(1, octaves):
        weight *= persistence
        cells = 2 ** (octave + 1) + 1
        out = cv2.resize(out, (cells, cells), interpolation=cv2.INTER_LINEAR)
        out += np.float32(weight) * rng.random((cells, cells), dtype=np.float32)
    low, high, _, _ = cv2.minMaxLoc(out)
    return (out - low) / np.float32(max(high - low, 1e-6))


@cache
def _grain_bank(octaves: int, persistence: float) -> np.ndarray:
    """Noise (1024, 1024) uint8 to cut pieces from."""
    import cv2

    noise = noise_cells(np.random.default_rng(octaves), octaves, persistence)
    return cv2.resize(np.round(255 * noise).astype(np.uint8), (1024, 1024), interpolation=cv2.INTER_CUBIC)


def _grain(rng: np.random.Generator, size: int, octaves: int, persistence: float = 0.6) -> np.ndarray:
    """A piece (size, size) uint8 of a bank of fine noise."""
    bank = _grain_bank(octaves, persistence)
    top, left = rng.integers(0, len(bank) - size + 1, 2)
    return bank[top : top + size, left : left + size]


CLUTTER_WHITE = 1.5
"""Linear light at value 255 of a clutter; chosen by eye."""


def clutter(rng: np.random.Generator, size: int) -> np.ndarray:
    """A procedural picture of walls, boards and other objects, some of them skin-coloured.

    (size, size, 3) uint8: square roots of linear light, 255 for CLUTTER_WHITE.
    """
    import cv2

    a, b = _code(_colour(rng)), _code(_colour(rng))
    field = noise_cells(rng, int(rng.integers(1, 7)))
    field = cv2.resize(field, (max(80, len(field)),) * 2, interpolation=cv2.INTER_CUBIC)[..., None]
    picture = cv2.resize(np.clip(field * (a - b) + b, 0, 255).astype(np.uint8), (size, size))
    for _ in range(int(rng.integers(0, 14))):
        tint = _code(_colour(rng))
        if rng.random() < 0.2:  # an object with its own noise
            where = np.zeros((size, size), np.uint8)
            _draw_shape(rng, where, [255.0])
            grain = _grain(rng, size, 8)
            grainy = cv2.merge([cv2.convertScaleAbs(grain, alpha=0.41 * t / 255, beta=0.77 * t) for t in tint])
            cv2.copyTo(grainy, where, picture)
        else:
            _draw_shape(rng, picture, tint.tolist())
    grain = cv2.convertScaleAbs(_grain(rng, size, 10, 0.9), alpha=0.1 / 1.05, beta=255 * 0.95 / 1.05)
    return cv2.multiply(picture, cv2.cvtColor(grain, cv2.COLOR_GRAY2RGB), scale=1.05 / 255)


def _code(light: np.ndarray) -> np.ndarray:
    """Linear light as in a clutter."""
    return 255 * np.sqrt(np.minimum(light / CLUTTER_WHITE, 1))


def _draw_shape(rng: np.random.Generator, picture: np.ndarray, tint: list[float]) -> None:
    """One board, ellipse, bar or grid of one colour into a picture (size, size) or (size, size, 3)."""
    import cv2

    size = len(picture)
    centre = rng.uniform(-0.1, 1.1, 2) * size
    extent = np.exp(rng.uniform(np.log(0.03), np.log(0.6), 2)) * size
    kind = rng.choice(4, p=[0.4, 0.35, 0.2, 0.05])
    if kind == 0:
        box = cv2.boxPoints((tuple(centre), tuple(extent), float(rng.uniform(0, 180))))
        cv2.fillPoly(picture, [box.astype(np.int32)], tint)
    elif kind == 1:
        axes = [int(e / 2) + 1 for e in extent]
        cv2.ellipse(picture, centre.astype(int).tolist(), axes, float(rng.uniform(0, 180)), 0, 360, tint, -1)
    elif kind == 2:
        end = centre + rng.normal(0, 0.4, 2) * size
        cv2.line(picture, centre.astype(int).tolist(), end.astype(int).tolist(), tint, int(rng.integers(1, 24)))
    else:
        for x in range(0, size, int(rng.integers(6, 40))):
            cv2.line(picture, (x, 0), (int(x + rng.normal(0, 2)), size), tint, int(rng.integers(1, 5)))


def _colour(rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.25:
        return skin_tone(rng.random()) * rng.uniform(0.5, 1.3)
    if rng.random() < 0.4:
        return np.full(3, rng.uniform(0.02, 0.9)) * (1 + rng.normal(0, 0.06, 3)).clip(0.5, 1.5)
    return rng.uniform(0, 1, 3) ** 2.2


def rotate_harmonics(harmonics: np.ndarray, rotation_world_camera: np.ndarray) -> np.ndarray:
    """Harmonics (9, 3) in world axes rotated into camera axes."""
    directions, inverse = _probes()
    return inverse @ (harmonics_basis(directions @ rotation_world_camera.T) @ harmonics)


@lru_cache(maxsize=1)
def _probes() -> tuple[np.ndarray, np.ndarray]:
    """Directions (48, 3) spread over the sphere and the (9, 48) map from values there to harmonics."""
    k = np.arange(48) + 0.5
    polar, turn = np.arccos(1 - 2 * k / 48), np.pi * (1 + 5**0.5) * k
    d = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=-1)
    return d, np.linalg.pinv(harmonics_basis(d))


def environment_or_procedural(path: Path | None, seed: int) -> Environment:
    """The environment of a map's file, or a procedural one of a seed where there is none."""
    return load_environment(path) if path else _procedural(seed)


@lru_cache(maxsize=4)
def _procedural(seed: int) -> Environment:
    """Cached while its frame is rendered."""
    return procedural_environment(np.random.default_rng(seed))
