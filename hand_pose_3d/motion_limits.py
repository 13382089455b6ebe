"""Motion that keeps its limits: speed, acceleration and, for positions, walls that it can always stop before.

A step chooses the next velocity and moves by it, so that limits hold for what is published and at any step length.
Plain numbers, for the reason that turns.py gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def wall_speed(distance: float, brake: float, dt_s: float) -> float:
    """Largest speed at which a step of dt_s still leaves room to brake before a wall at that distance.

    v with v dt + v^2 / (2 brake) = distance. Whoever keeps to it can, in the next step of any length, keep to it again
    by braking no harder than `brake`.
    """
    return brake * (math.sqrt(dt_s**2 + 2 * max(distance, 0.0) / brake) - dt_s)


def approach(error: list[float], response_s: float, speed: float, acceleration: float, dt_s: float) -> list[float]:
    """Velocity (3,) towards a goal that lies `error` away: with lag response_s, and slow enough to stop on the goal."""
    distance = math.hypot(*error)
    if distance < 1e-12:
        return [0.0, 0.0, 0.0]
    wanted = min(speed, distance / max(response_s, dt_s), wall_speed(distance, acceleration, dt_s))
    return [wanted / distance * each for each in error]


def next_velocity(
    velocity: list[float],
    wanted: list[float],
    acceleration: float,
    dt_s: float,
    walls: tuple[Sequence[float], Sequence[float]] | None = None,
    brake: float = 0.0,
) -> list[float]:
    """The velocity (3,) nearest to the wanted one that is allowed.

    It differs from `velocity` by no more than acceleration * dt_s, is no faster than the faster of the two, and each
    component lies within walls = (lowest, highest), if `velocity` kept to the walls of the step before. brake: of each
    component at a wall, at most acceleration / sqrt(3).
    """
    now, goal, braked = velocity, wanted, velocity
    if walls is not None:
        goal = [min(max(v, low), high) for v, low, high in zip(goal, *walls, strict=True)]
        braked = [math.copysign(max(abs(v) - brake * dt_s, 0.0), v) for v in now]
    # Braked and wanted velocity both keep speed and walls, and so does all between them (both sets are convex).
    start, path = [b - v for b, v in zip(braked, now)], [g - b for g, b in zip(goal, braked)]
    radius, length2 = acceleration * dt_s, _dot(path, path)
    if length2 < 1e-24:
        return goal if math.dist(goal, now) <= radius else braked
    along = _dot(start, path)
    room = max(radius**2 - _dot(start, start), 0.0)
    share = (math.sqrt(along**2 + length2 * room) - along) / length2
    return goal if share >= 1 else [b + share * p for b, p in zip(braked, path)]


def _dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b))
