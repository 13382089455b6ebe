"""Labelled videos: sampled scenes whose hands appear, keep still, move and leave.

NAME.mp4 and, beside it, NAME.json as :mod:`hand_pose_3d.datasets.sequence` reads it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d import __version__
from hand_pose_3d.errors import HandPoseError
from hand_pose_3d.outputs import VideoWriter, write_beside
from hand_pose_3d.rendering import rhd_writer
from hand_pose_3d.rendering.dataset import RenderOptions, in_processes, prepare
from hand_pose_3d.rendering.scene import IMAGE_SIZE, Scene
from hand_pose_3d.rendering.source import Source, describe_assets, is_made_so

FPS = 30
WIDTH, HEIGHT = 640, 480  # pixels
IN, STILL, MOVING, OUT, GONE = 0.05, 0.2, 0.5, 0.8, 0.95
"""Times at which hands begin to appear, to keep still, to move and to leave, and are gone, as shares of a sequence."""
_REACH_M = 1.0
"""Longest sideways way, metres, by which hands enter the picture; those of a farther group appear at once."""
_SWING_M = np.array([0.1, 0.03, 0.04])
_SWING_HZ = np.array([1.0, 0.7, 0.5])
_TURN_RAD, _TURN_HZ = 0.25, 0.8
_OPENING_HZ = 0.6
"""Amplitude (camera axes) and frequency of a moving hand's translation and rotation, and frequency of its opening and
closing: the pace of everyday gestures, chosen by eye."""
_RAMP_S = 0.3
"""Time in which motion reaches its full amplitude."""
_LEAST_NOISE = 1.0
"""Standard deviation of sensor noise in every video, grey levels; chosen by eye."""
_LEAST_SEEN, _LEAST_SIZE = 0.4, 0.03
"""Hands with a smaller share of visible keypoints, or smaller than this share of the picture, need not be found.
Set by hand."""


def enlarged(scene: Scene) -> Scene:
    """The scene with intrinsics of a picture WIDTH pixels square, of which the middle HEIGHT rows are kept."""
    scale = WIDTH / IMAGE_SIZE
    intrinsics = scene.intrinsics * [[scale], [scale], [1]]
    intrinsics[:2, 2] += (scale - 1) / 2
    return dataclasses.replace(scene, intrinsics=intrinsics)


def camera_of(intrinsics: np.ndarray) -> dict[str, float]:
    """Fields of the camera that takes the kept rows."""
    return {
        "fx": float(intrinsics[0, 0]),
        "fy": float(intrinsics[1, 1]),
        "cx": float(intrinsics[0, 2]),
        "cy": float(intrinsics[1, 2]) - (WIDTH - HEIGHT) // 2,
        "width": WIDTH,
        "height": HEIGHT,
    }


def film(scenes: Iterable[Scene], source: Source, rasteriser: Any) -> Iterator[tuple[np.ndarray, list[dict[str, Any]]]]:
    """(RGB picture (HEIGHT, WIDTH, 3) uint8, truth) of each scene.

    scenes: with intrinsics of a WIDTH square picture. rasteriser: a Rasteriser of that size.
    """
    import cv2

    from hand_pose_3d.rendering.assemble import assemble

    cut = (WIDTH - HEIGHT) // 2
    rows = slice(cut, cut + HEIGHT)
    for scene in scenes:
        assembly = assemble(scene, source)
        assembly.background = cv2.resize(assembly.background, (WIDTH, WIDTH), interpolation=cv2.INTER_CUBIC)
        pictures = rasteriser.render(assembly)
        record = rhd_writer.annotation(assembly.keypoints_m, scene.intrinsics, *pictures[1:])
        truth = (_truth(number, hand, cut) for number, hand in enumerate(record["hands"], 1))
        yield pictures.colour[rows], [hand for hand in truth if hand]


def _truth(number: int, hand: dict[str, Any], cut: int) -> dict[str, Any] | None:
    """A hand's entry, None if it is outside the picture."""
    points = hand["uv"].astype(float) - [0, cut]
    inside = (points >= -0.5).all(-1) & (points[:, 0] < WIDTH - 0.5) & (points[:, 1] < HEIGHT - 0.5)
    if hand["xyz"][:, 2].min() <= 0 or not inside.any():
        return None
    seen = (inside & hand["visible"]).mean()
    small = np.ptp(points, axis=0).max() < _LEAST_SIZE * WIDTH
    entry = {
        "id": number,
        "side": hand["side"],
        "keypoints_2d": np.round(points, 2).tolist(),
        "keypoints": np.round(hand["xyz"].astype(float), 5).tolist(),
    }
    return entry | ({"ignore": True} if seen < _LEAST_SEEN or inside.mean() < 0.5 or small else {})


def write_sequence(
    path: Path, frames: Iterable[tuple[np.ndarray, list[dict[str, Any]]]], camera: dict[str, float], **facts: Any
) -> Path | None:
    """Write PATH.mp4 and PATH.json; facts: further entries of the latter. Returns the video's path."""
    video = VideoWriter(path.with_suffix(".mp4"), FPS)
    record = []
    try:
        for index, (picture, truth) in enumerate(frames):
            video.add(picture, index / FPS)
            record.append({"hands": truth})
    except BaseException:
        video.discard()
        raise
    text = json.dumps({**facts, "camera": camera, "fps": FPS, "frames": record}, separators=(",", ":"))
    write_beside(path.with_suffix(".json"), text.encode())
    return video.close()  # last: without its video a sequence is made again


def moved(scene: Scene, time_s: float, seconds: float, away_m: float, other_angles: list[np.ndarray] | None) -> Scene:
    """A scene's hands, people and props at a time, moved as one.

    away_m: sideways to where no hand is seen. other_angles: pose of each hand that it opens or closes to while it
    moves.
    """
    from scipy.spatial.transform import Rotation

    share = time_s / seconds
    gone = 1 - gentle((share - IN) / (STILL - IN)) + gentle((share - OUT) / (GONE - OUT))
    if abs(away_m) > _REACH_M:
        gone = float(not IN <= share < OUT)
    since = min(time_s, OUT * seconds) - MOVING * seconds
    ramp = gentle(since / _RAMP_S) * (1 - gentle((share - OUT) / (GONE - OUT)))
    shift = ramp * _SWING_M * np.sin(2 * np.pi * _SWING_HZ * since) + [away_m * gone, 0, 0]
    turn = ramp * _TURN_RAD * math.sin(2 * np.pi * _TURN_HZ * since)
    rotation = Rotation.from_euler("z", turn).as_matrix()
    centre = np.mean([hand.wrist_camera_m for hand in scene.hands], axis=0)

    def place(point: np.ndarray) -> np.ndarray:
        return rotation @ (point - centre) + centre + shift

    hands = []
    for k, hand in enumerate(scene.hands):
        angles = hand.angles
        if other_angles:
            opened = 0.5 * ramp * (1 - math.cos(2 * np.pi * _OPENING_HZ * since))
            angles = (1 - opened) * angles + opened * other_angles[k]
        turned = rotation @ hand.rotation_camera_hand
        where = place(hand.wrist_camera_m)
        hands.append(
            dataclasses.replace(hand, angles=angles, rotation_camera_hand=turned, wrist_camera_m=where)
        )  # fmt: skip
    return dataclasses.replace(
        scene,
        hands=tuple(hands),
        people=tuple(
            dataclasses.replace(p, rotation=rotation @ p.rotation, origin_m=place(p.origin_m)) for p in scene.people
        ),
        props=tuple(
            dataclasses.replace(p, rotation=rotation @ p.rotation, centre_m=place(p.centre_m)) for p in scene.props
        ),
    )


def gentle(share: float) -> float:
    """A share of a way by the share of its time, with smooth start and end."""
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _way_out(scene: Scene) -> float:
    """Metres along x after which no hand of a scene is in the picture, to the nearer side."""
    focal, middle = scene.intrinsics[0, 0], scene.intrinsics[0, 2]
    ways = []
    for hand in scene.hands:
        points = hand.posed[1] @ hand.rotation_camera_pose.T
        x, _, z = (points + hand.wrist_camera_m).T
        ways.append(((x + middle / focal * z).max(), ((WIDTH - middle) / focal * z - x).max()))
    left, right = np.max(ways, axis=0)
    return float(right if right < left else -left) * 1.1


class SequenceMaker:
    """Makes any sequence of a seed; owns the renderer of its process."""

    def __init__(self, assets: Path | None) -> None:
        from hand_pose_3d.rendering.character import Characters
        from hand_pose_3d.rendering.people import People
        from hand_pose_3d.rendering.rasteriser import Rasteriser

        self.source = Source(Characters(), People(), assets)
        self.rasteriser = Rasteriser(WIDTH)

    def sequence(
        self, split: str, seed: int, index: int, people: float, seconds: float, characters: int | None = None
    ) -> tuple[Iterator[tuple[np.ndarray, list[dict[str, Any]]]], dict[str, float]]:
        """Frames, as :func:`film` gives them but taken with a camera's faults, and the camera.

        Arguments: as of RenderOptions and :func:`render_sequences`.
        """
        import cv2

        from hand_pose_3d.rendering import actions, pose
        from hand_pose_3d.rendering.camera_effects import apply_camera_effects
        from hand_pose_3d.rendering.sampling import sample_scene

        scene = enlarged(sample_scene(self.source.limited(characters), split, seed, index, people))
        rng = np.random.default_rng([seed, index, 3])
        other = None
        if not scene.props and not scene.people:  # moving hands would pass through held objects and bodies
            names = actions.TRAINING if split == "training" else actions.EVALUATION
            other = []
            for hand in scene.hands:
                angles = actions.sample_pose(rng, hand.arm, names)[1]
                for part in (pose.WRIST_ANGLES, pose.TWIST, pose.ELBOW):
                    angles[part] = hand.angles[part]
                other.append(angles)
        away = _way_out(scene)
        # Noise differs in each frame; other effects stay the same, and the video itself is compressed.
        noise = max(255 * scene.camera_effects.noise, _LEAST_NOISE)
        effects = dataclasses.replace(scene.camera_effects, noise=0.0, jpeg_quality=0, motion_px=0.0)
        scenes = (moved(scene, k / FPS, seconds, away, other) for k in range(round(seconds * FPS)))

        def frames() -> Iterator[tuple[np.ndarray, list[dict[str, Any]]]]:
            cv2.setRNGSeed(index)
            grain = np.zeros((HEIGHT, WIDTH, 3), np.int16)
            for picture, truth in film(scenes, self.source, self.rasteriser):
                cv2.randn(grain, 0.0, noise)
                yield cv2.add(apply_camera_effects(picture, effects, rng), grain, dtype=cv2.CV_8U), truth

        return frames(), camera_of(scene.intrinsics)


def render_sequences(options: RenderOptions, seconds: float) -> list[Path]:
    """Render what is not there yet: NUMBER.mp4 and NUMBER.json into options.out. Returns the paths of the videos.

    Raises HandPoseError when the folder holds a sequence that was made with other options, and for assets that cannot
    be used.
    """
    from tqdm import tqdm

    options.out.mkdir(parents=True, exist_ok=True)
    todo = [index for index in range(options.count) if not _is_there(options, seconds, index)]
    tasks = [(options, seconds, index) for index in todo]
    if tasks:
        prepare(options.assets)
    done = map(_render, tasks) if options.workers == 1 else in_processes(_render, tasks, options.workers)
    for _ in tqdm(done, total=len(tasks), unit="sequence", disable=not tasks):
        pass
    return [options.out / f"{index:04d}.mp4" for index in range(options.count)]


def _facts(options: RenderOptions, seconds: float, index: int) -> dict[str, Any]:
    names = ("split", "seed", "people", *(["characters"] if options.characters else []))
    facts = {name: getattr(options, name) for name in names}
    facts |= {"index": index, "assets": describe_assets(options.assets), "seconds": seconds, "version": __version__}
    return {"made": facts}


def _is_there(options: RenderOptions, seconds: float, index: int) -> bool:
    """Whether both files of a sequence are there. Raises HandPoseError for those of others."""
    path = options.out / f"{index:04d}.json"
    if not path.exists():
        if path.with_suffix(".mp4").exists():
            raise HandPoseError(f"{path.with_suffix('.mp4')} has no {path.name} beside it; move it away")
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["made"]
        made = is_made_so(found, _facts(options, seconds, index)["made"])
    except (ValueError, KeyError, TypeError, AttributeError):
        made = False
    if not made:
        raise HandPoseError(f"{path} was made with other options or by another version; choose another folder")
    return path.with_suffix(".mp4").exists()


_makers: dict[Path | None, SequenceMaker] = {}


def _render(task: tuple[RenderOptions, float, int]) -> int:
    import cv2

    options, seconds, index = task
    if options.assets not in _makers:
        cv2.setNumThreads(1)
        _makers[options.assets] = SequenceMaker(options.assets)
    frames, camera = _makers[options.assets].sequence(
        options.split, options.seed, index, options.people, seconds, options.characters
    )
    path = options.out / f"{index:04d}"
    path.with_suffix(".json").unlink(missing_ok=True)  # ours, of a video that is not there any more
    write_sequence(path, frames, camera, **_facts(options, seconds, index))
    return index
