"""Motion that keeps its limits: speed, acceleration and, for positions, walls that it can always stop before.

A step chooses the next velocity and moves by it, so that limits hold for what is published and at any step length.
"""

from __future__ import annotations

import math

import numpy as np


def wall_speed(distance: np.ndarray | float, brake: float, dt_s: float) -> np.ndarray:
    """Largest speed at which a step of dt_s still leaves room to brake before a wall at that distance.

    v with v dt + v^2 / (2 brake) = distance. Whoever keeps to it can, in the next step of any length, keep to it again
    by braking no harder than `brake`.
    """
    return brake * (np.sqrt(dt_s**2 + 2 * np.maximum(distance, 0) / brake) - dt_s)


def approach(error: np.ndarray, response_s: float, speed: float, acceleration: float, dt_s: float) -> np.ndarray:
    """Velocity (3,) towards a goal that lies `error` away: with lag response_s, and slow enough to stop on the goal."""
    distance = float(np.linalg.norm(error))
    if distance < 1e-12:
        return np.zeros(3)
    wanted = min(speed, distance / max(response_s, dt_s), float(wall_speed(distance, acceleration, dt_s)))
    return error * (wanted / distance)


def next_velocity(
    velocity: np.ndarray,
    wanted: np.ndarray,
    acceleration: float,
    dt_s: float,
    walls: tuple[np.ndarray, np.ndarray] | None = None,
    brake: float = 0.0,
) -> np.ndarray:
    """The velocity (3,) nearest to the wanted one that is allowed.

    It differs from `velocity` by no more than acceleration * dt_s, is no faster than the faster of the two, and each
    component lies within walls = (lowest, highest), if `velocity` kept to the walls of the step before. brake: of each
    component at a wall, at most acceleration / sqrt(3).
    """
    braked = velocity
    if walls is not None:
        wanted = np.clip(wanted, *walls)
        braked = np.sign(velocity) * np.maximum(np.abs(velocity) - brake * dt_s, 0)
    # Braked and wanted velocity both keep speed and walls, and so does all between them (both sets are convex).
    start, path, radius = braked - velocity, wanted - braked, acceleration * dt_s
    length2 = float(path @ path)
    if length2 < 1e-24:
        return wanted if np.linalg.norm(wanted - velocity) <= radius else braked
    along = float(start @ path)
    room = max(radius**2 - float(start @ start), 0.0)
    share = (math.sqrt(along**2 + length2 * room) - along) / length2
    return wanted.copy() if share >= 1 else braked + share * path
