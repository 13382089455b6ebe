"""hand_pose_3d predict: poses of the hands in images and videos."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hand_pose_3d.cli.options import estimator_options

if TYPE_CHECKING:
    import numpy as np

    from hand_pose_3d.camera import Camera
    from hand_pose_3d.hands import HandPose

OVERLAY_MIN_PX = 512
"""Overlays of smaller images are enlarged, so that the skeleton can be seen."""


@click.command("predict")
@click.argument("inputs", nargs=-1, required=True, metavar="IMAGE_OR_VIDEO...")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="Write the poses here; - is the terminal.")
@click.option("--overlay", type=click.Path(file_okay=False, path_type=Path), help="Write images with skeletons here.")
@click.option("--camera", "camera_path", type=click.Path(path_type=Path), help="Calibration (ROS camera_info YAML).")
@estimator_options
def command(
    inputs: tuple[str, ...], json_path: str | None, overlay: Path | None, camera_path: Path | None, **options: Any
) -> None:
    """Poses of the hands in images and videos: files, folders or patterns.

    Images stand alone; in a video hands are followed from frame to frame. Exit status 1 when an input could not be
    read, with a line about it; the others are answered.
    """
    from tqdm import tqdm

    from hand_pose_3d.camera import Camera
    from hand_pose_3d.errors import InvalidInputError
    from hand_pose_3d.images import find_files

    camera = Camera.from_yaml(camera_path) if camera_path else None
    entries: list[dict[str, Any]] = []
    paths: list[Path] = []
    for text in inputs:
        try:
            paths += [path for path in find_files([text]) if path not in paths]
        except InvalidInputError as error:
            entries.append(_failure(text, error))
    same_name = Counter(path.name for path in paths)
    predictor = _Predictor(options, camera, overlay)
    with tqdm(total=len(paths), desc="predict", unit="file", delay=2, disable=None, leave=False) as progress:
        for path in paths:
            name = path.name if same_name[path.name] == 1 else str(path)
            try:
                entries += predictor.file(path, name)
            except InvalidInputError as error:
                entries.append(_failure(name, error))
            progress.update()

    if json_path == "-":
        click.echo(json.dumps(entries))
    elif json_path:
        target = Path(json_path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(entries), encoding="utf-8")
    else:
        for entry in entries:
            if "error" not in entry:
                click.echo(_line(entry))
    if any("error" in entry for entry in entries):
        raise SystemExit(1)


def _failure(name: str, error: Exception) -> dict[str, Any]:
    click.echo(f"Error: {error}", err=True)
    return {"image": name, "error": str(error)}


def _line(entry: dict[str, Any]) -> str:
    hands = ", ".join(
        f"{hand['side']} {hand['score']:.2f} at ({', '.join(f'{value:.0f}' for value in hand['roi'])})"
        for hand in entry["hands"]
    )
    frame = f" frame {entry['frame']}" if "frame" in entry else ""
    return f"{entry['image']}{frame}: {hands or 'no hand'}"


class _Predictor:
    """Answers files one after another; builds an estimator for images and one for videos when first needed."""

    def __init__(self, options: dict[str, Any], camera: Camera | None, overlay: Path | None) -> None:
        self.options, self.camera, self.overlay = options, camera, overlay
        self._estimators: dict[bool, Any] = {}
        if overlay:
            overlay.mkdir(parents=True, exist_ok=True)

    def file(self, path: Path, name: str) -> Iterator[dict[str, Any]] | list[dict[str, Any]]:
        """Entries of one image, or of each frame of one video."""
        from hand_pose_3d.images import is_video, read_image

        if is_video(path):
            return list(self._video(path, name))
        image = read_image(path)
        entry, hands = self._answer(image, name, tracking=False)
        if self.overlay:
            _write_overlay(self.overlay / f"{_flat(name)}.png", image, hands)
        return [entry]

    def _video(self, path: Path, name: str) -> Iterator[dict[str, Any]]:
        import cv2
        from tqdm import tqdm

        from hand_pose_3d.drawing import draw_hands
        from hand_pose_3d.errors import InvalidInputError
        from hand_pose_3d.images import Video

        video = Video(path)
        self._estimator(tracking=True).reset()
        writer = None
        frames = tqdm(video, total=video.count or None, desc=name, unit="frame", delay=2, disable=None, leave=False)
        for index, image in enumerate(frames):
            time_s = index / video.fps
            entry, hands = self._answer(image, name, tracking=True, stamp_s=time_s)
            yield {**entry, "frame": index, "time_s": time_s}
            if self.overlay:
                if writer is None:
                    target = self.overlay / f"{_flat(name)}.mp4"
                    size = (image.shape[1], image.shape[0])
                    writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"mp4v"), video.fps, size)
                    if not writer.isOpened():
                        raise InvalidInputError(f"this OpenCV cannot write the video {target}")
                writer.write(cv2.cvtColor(draw_hands(image, hands), cv2.COLOR_RGB2BGR))
        if writer is not None:
            writer.release()

    def _answer(
        self, image: np.ndarray, name: str, tracking: bool, stamp_s: float | None = None
    ) -> tuple[dict[str, Any], list[HandPose]]:
        from hand_pose_3d.errors import InvalidInputError

        height, width = image.shape[:2]
        camera = self.camera
        if camera and camera.width and (camera.width, camera.height) != (width, height):
            raise InvalidInputError(
                f"{name} is {width}x{height}, but the camera was calibrated for {camera.width}x{camera.height}"
            )
        hands = self._estimator(tracking)(image, camera=camera, stamp_s=stamp_s)
        answer = {"image": name, "width": width, "height": height, "hands": [hand.to_dict() for hand in hands]}
        return answer, hands

    def _estimator(self, tracking: bool) -> Any:
        if tracking not in self._estimators:
            from hand_pose_3d.estimator import HandPoseEstimator

            self._estimators[tracking] = HandPoseEstimator(tracking=tracking, **self.options)
        return self._estimators[tracking]


def _flat(name: str) -> str:
    """A file name for an entry: its path with the folders written into it, without the suffix."""
    return "_".join(part for part in Path(name).with_suffix("").parts if part not in ("/", ".."))


def _write_overlay(target: Path, image: np.ndarray, hands: list[HandPose]) -> None:
    import cv2

    from hand_pose_3d.drawing import draw_hands, enlarge
    from hand_pose_3d.errors import InvalidInputError

    drawn = draw_hands(*enlarge(image, hands, OVERLAY_MIN_PX))
    if not cv2.imwrite(str(target), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)):
        raise InvalidInputError(f"cannot write {target}")
