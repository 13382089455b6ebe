"""Jitter of a still hand and lag of a moving one, without and with smoothing; a plot of both.

A hand with known motion gets a network's noise in each frame, is placed, and is smoothed as in the estimator. ``python
-m hand_pose_3d.evaluation.smoothness --out smoothness.png`` prints the metrics and draws them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import in_words
from hand_pose_3d.evaluation.plots import save_figure
from hand_pose_3d.geometry import from_canonical, normalise, to_canonical
from hand_pose_3d.hands import HandPose
from hand_pose_3d.outputs import check_plot
from hand_pose_3d.placement import place, reference_units
from hand_pose_3d.skeleton import LITTLE_MCP, MIDDLE_MCP, REFERENCE_BONE, WRIST, Side
from hand_pose_3d.smoothing import HandSmoother, SmoothingConfig

CAMERA = Camera(600, 600, 320, 240, 640, 480)  # a usual webcam

# An open left hand of mean size: lengths of each finger's bones from the wrist on, and directions from straight up.
_LENGTHS_MM = ((36, 37, 34, 27), (88, 42, 26, 23), (83, 49, 31, 23), (79, 45, 26, 24), (77.6, 34, 18, 16))
_DIRECTIONS_DEG = (48, 17, 3, -11, -25)


@dataclass(frozen=True)
class Noise:
    """Noise of a network's output on a still hand, standard deviation of each coordinate.

    pixels: share of the hand's size in the image; pose: reference bones, canonical frame; viewpoint: radians about each
    axis; correlation: with the frame before. The defaults are what `hand_pose_3d evaluate --dataset sequence` measures
    of the lite networks in 8 bits, the mean of two sets of rendered videos (docs/python.md).
    """

    pixels: float = 0.0130
    pose: float = 0.0355
    viewpoint: float = 0.0275
    correlation: float = 0.51


_SHARED_NOISE = 0.17
"""Share of the pixels' variance that all keypoints have in common, as the crop moves; measured with the noise."""
_NOISY = np.setdiff1d(np.arange(21), [WRIST, *REFERENCE_BONE, MIDDLE_MCP, LITTLE_MCP])
"""Keypoints with noise of their own in the canonical frame: the others define it."""


def noise_of(hands: Sequence[HandPose]) -> Noise:
    """The noise of a still hand in consecutive frames, T of them, not smoothed."""
    import cv2

    pixels = np.array([hand.keypoints_px for hand in hands])
    pixels = (pixels - pixels.mean(axis=0)) / np.ptp(pixels.mean(axis=0), axis=0).max()
    canonical = np.array([hand.keypoints_canonical for hand in hands])
    rotations = np.array([hand.rotation_camera_canonical for hand in hands])
    u, _, v = np.linalg.svd(rotations.mean(axis=0))
    turns = np.array([cv2.Rodrigues(r @ (u @ v).T)[0][:, 0] for r in rotations])
    return Noise(
        pixels=float(np.sqrt(np.mean(pixels**2))),
        pose=float(np.sqrt(np.mean((canonical - canonical.mean(axis=0)) ** 2))),
        viewpoint=float(np.sqrt(np.mean((turns - turns.mean(axis=0)) ** 2))),
        correlation=float(np.sum(pixels[1:] * pixels[:-1]) / max(np.sum(pixels[1:] ** 2), 1e-12)),
    )


@dataclass(frozen=True, eq=False)
class Track:
    """One simulated recording. stamps_s: (T,); truth_m, raw_m, smooth_m: (T, 21, 3); raw_px, smooth_px: (T, 21, 2)."""

    stamps_s: np.ndarray
    truth_m: np.ndarray
    raw_m: np.ndarray
    smooth_m: np.ndarray
    raw_px: np.ndarray
    smooth_px: np.ndarray


def open_hand() -> np.ndarray:
    """(21, 3) metres around the wrist: back of a left hand to the camera, fingers up."""
    points = [np.zeros(3)]
    for lengths, degrees in zip(_LENGTHS_MM, _DIRECTIONS_DEG, strict=True):
        direction = np.array([np.sin(np.radians(degrees)), -np.cos(np.radians(degrees)), 0])
        points += list(np.cumsum(lengths)[:, None] * 1e-3 * direction)
    return np.array(points)


def still(_: float) -> np.ndarray:
    """A hand at half a metre that does not move."""
    return open_hand() + [0, 0.08, 0.5]


def pushing(frequency_hz: float, amplitude_m: float = 0.1) -> Callable[[float], np.ndarray]:
    """Oscillation along the optical axis, half a metre away."""
    return lambda stamp_s: still(0) + [0, 0, amplitude_m * np.sin(2 * np.pi * frequency_hz * stamp_s)]


def waving(frequency_hz: float, amplitude_m: float = 0.1) -> Callable[[float], np.ndarray]:
    """Oscillation along x, with the accompanying rotation of the forearm."""
    from scipy.spatial.transform import Rotation

    def motion(stamp_s: float) -> np.ndarray:
        phase = np.sin(2 * np.pi * frequency_hz * stamp_s)
        turn = Rotation.from_euler("zy", [0.3 * phase, 0.3 * phase]).as_matrix()
        return open_hand() @ turn.T + [amplitude_m * phase, 0.08, 0.5]

    return motion


def simulate(
    motion: Callable[[float], np.ndarray],
    config: SmoothingConfig | None = None,
    noise: Noise | None = None,
    seconds: float = 6.0,
    rate_hz: float = 30.0,
    seed: int = 0,
) -> Track:
    """Record a hand that moves by `motion` (seconds -> (21, 3) metres), as networks with that noise estimate it."""
    from scipy.spatial.transform import Rotation

    noise = noise or Noise()
    rng = np.random.default_rng(seed)
    smoother = HandSmoother(config)
    shape, bone_m = normalise(open_hand())
    measured_m = float(bone_m) * reference_units(shape)  # by the palm, as a calibration measures it
    stamps = np.arange(int(seconds * rate_hz)) / rate_hz
    truth, raw, smooth = [], [], []
    errors = _errors(rng, noise, len(stamps))
    for stamp, (pixel_error, pose_error, turn) in zip(stamps, errors, strict=True):
        points = motion(float(stamp))
        pixels = CAMERA.project(points)
        size = np.ptp(pixels, axis=0).max()
        pixels = pixels + size * pixel_error
        canonical, rotation = to_canonical(normalise(points)[0])
        rotation = Rotation.from_rotvec(turn).as_matrix() @ rotation
        relative, _ = normalise(from_canonical(canonical + pose_error, rotation))
        seen = HandPose.from_keypoints(Side.LEFT, pixels, relative)
        truth.append(points)
        raw.append(place(seen, CAMERA, reference_length_m=measured_m))
        smooth.append(smoother(raw[-1], float(stamp)))
    return Track(
        stamps_s=stamps,
        truth_m=np.array(truth),
        raw_m=np.array([h.keypoints_m for h in raw]),
        smooth_m=np.array([h.keypoints_m for h in smooth]),
        raw_px=np.array([h.keypoints_px for h in raw]),
        smooth_px=np.array([h.keypoints_px for h in smooth]),
    )


def _errors(rng: np.random.Generator, noise: Noise, count: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Errors of pixels (21, 2), canonical pose (21, 3) and viewpoint (3,), a rotation vector, for `count` frames."""
    last, kept = [np.zeros(1)] * 3, 0.0
    for _ in range(count):
        pixels = np.sqrt(_SHARED_NOISE) * rng.normal(size=2) + np.sqrt(1 - _SHARED_NOISE) * rng.normal(size=(21, 2))
        pose = np.zeros((21, 3))
        pose[_NOISY] = np.sqrt(21 / len(_NOISY)) * rng.normal(size=(len(_NOISY), 3))
        fresh = noise.pixels * pixels, noise.pose * pose, noise.viewpoint * rng.normal(size=3)
        last = [kept * old + np.sqrt(1 - kept**2) * new for old, new in zip(last, fresh, strict=True)]
        kept = noise.correlation
        yield last[0], last[1], last[2]


def jitter(values: np.ndarray) -> float:
    """Standard deviation of a still hand's keypoints around their mean, all axes together. values: (T, 21, D)."""
    settled = values[len(values) // 3 :]
    return float(np.sqrt(np.mean(np.sum((settled - settled.mean(axis=0)) ** 2, axis=-1))))


def lag_s(truth: np.ndarray, values: np.ndarray, stamps_s: np.ndarray, frequency_hz: float) -> float:
    """Delay of a sinusoidal motion by the phase of its fundamental. truth, values: (T,)."""
    settled = slice(len(stamps_s) // 3, None)
    wave = np.exp(-2j * np.pi * frequency_hz * stamps_s[settled])
    phases = [np.angle(np.sum((x[settled] - x[settled].mean()) * wave)) for x in (truth, values)]
    return float(np.angle(np.exp(1j * (phases[0] - phases[1]))) / (2 * np.pi * frequency_hz))


def jitter_and_lag(config: SmoothingConfig | None = None, noise: Noise | None = None) -> dict[str, float]:
    """Jitter of a still hand without and with smoothing (pixels, millimetres), lag of a moving one."""
    track = simulate(still, config, noise)
    out = {
        "jitter raw [px]": jitter(track.raw_px),
        "jitter smooth [px]": jitter(track.smooth_px),
        "jitter raw [mm]": 1e3 * jitter(track.raw_m),
        "jitter smooth [mm]": 1e3 * jitter(track.smooth_m),
    }
    for frequency in (0.5, 1.0, 2.0):
        track = simulate(waving(frequency), config, noise, seconds=9.0)
        side, smooth = track.truth_m[:, 0, 0], track.smooth_m[:, 0, 0]
        out[f"lag at {frequency:g} Hz, sideways [ms]"] = 1e3 * lag_s(side, smooth, track.stamps_s, frequency)
    track = simulate(pushing(1.0), config, noise, seconds=9.0)
    out["lag at 1 Hz, in distance [ms]"] = 1e3 * lag_s(
        track.truth_m[:, 0, 2], track.smooth_m[:, 0, 2], track.stamps_s, 1.0
    )
    return out


def plot(
    path: str | Path, config: SmoothingConfig | None = None, noise: Noise | None = None, trade: bool = True
) -> None:
    """Draw a still hand, a moving one and, with `trade`, jitter over lag of other settings. Format by the suffix."""
    from matplotlib.figure import Figure

    config = config or SmoothingConfig()
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    track = simulate(still, config, noise)
    for axis, recorded, name in ((left, track, "still hand"), (middle, simulate(waving(1.0), config, noise), "1 Hz")):
        x = 1e3 * recorded.truth_m[:, 8, 0].mean()
        for values, label, style in (
            (recorded.raw_m, "as estimated", {"color": "#b8c0c8", "linewidth": 1}),
            (recorded.smooth_m, "smoothed", {"color": "#2a6fdb", "linewidth": 2}),
            (recorded.truth_m, "truth", {"color": "#222222", "linewidth": 1, "linestyle": "--"}),
        ):
            scale = recorded.truth_m[:, 0, 2].mean() / values[:, 0, 2].mean()
            axis.plot(recorded.stamps_s, 1e3 * scale * values[:, 8, 0] - x, label=label, **style)
        axis.set(title=f"index fingertip, {name}", xlabel="time [s]", ylabel="x [mm]", xlim=(1, 4))
        axis.grid(alpha=0.3)
    left.legend(fontsize=8)
    factors = ((0.0, "#9aa3ad"), (0.3, "#7fb2f0"), (1.0, "#2a6fdb"), (3.0, "#123a78"))
    for factor, colour in factors if trade else ():
        points = []
        for cutoff in (0.4, 0.8, 1.2, 2.0, 3.5, 6.0):
            one = replace(
                config,
                min_cutoff_hz=cutoff,
                beta_px=factor * config.beta_px,
                beta_pose=factor * config.beta_pose,
                beta_viewpoint=factor * config.beta_viewpoint,
                beta_position=factor * config.beta_position,
            )
            found = jitter_and_lag(one, noise)
            points.append((found["lag at 1 Hz, sideways [ms]"], found["jitter smooth [mm]"]))
        right.plot(*zip(*points, strict=True), "o-", color=colour, markersize=3, label=f"betas x {factor:g}")
    found = jitter_and_lag(config, noise)
    right.plot(found["lag at 1 Hz, sideways [ms]"], found["jitter smooth [mm]"], "*", color="#d9480f", markersize=14)
    right.axhline(found["jitter raw [mm]"], color="#b8c0c8", label="not smoothed")
    right.set(
        title="cut-offs 0.4 to 6 Hz; star: defaults", xlabel="lag of 1 Hz motion [ms]", ylabel="jitter when still [mm]"
    )
    right.legend(fontsize=8)
    right.grid(alpha=0.3)
    save_figure(figure, path)


def main() -> None:
    """Print the metrics and write the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("smoothness.png"), help="picture to write")
    out = parser.parse_args().out
    with in_words("smoothness"):
        check_plot(out)
        for name, value in jitter_and_lag().items():
            print(f"{name:32s} {value:7.2f}")
        plot(out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
