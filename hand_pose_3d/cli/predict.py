"""hand_pose_3d predict: poses of the hands in images and videos."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hand_pose_3d.cli.options import NamedPath, estimator_options, say_without_camera
from hand_pose_3d.errors import one_line

if TYPE_CHECKING:
    import numpy as np

    from hand_pose_3d.camera import Camera
    from hand_pose_3d.hands import HandPose

OVERLAY_MIN_PX = 512
"""Overlays of smaller images are enlarged, so that the skeleton can be seen."""

_OURS = rb'\[\s*(\]|\{"image": "([^"\\]|\\.)*", ("width": \d+, "height": \d+, "hands": \[|("frame": \d+, )?"error": "))'
"""Start of the JSON that this command writes."""


@click.command("predict")
@click.argument("inputs", nargs=-1, required=True, metavar="IMAGE_OR_VIDEO...")
@click.option("--json", "json_path", type=NamedPath(dir_okay=False), help="Write the poses here; - is the terminal.")
@click.option("--overlay", type=NamedPath(file_okay=False, path_type=Path), help="Write images with skeletons here.")
@click.option("--camera", "camera_path", type=NamedPath(path_type=Path), help="Calibration (ROS camera_info YAML).")
@estimator_options
def command(
    inputs: tuple[str, ...], json_path: str | None, overlay: Path | None, camera_path: Path | None, **options: Any
) -> None:
    """Poses of the hands in images and videos: files, folders (not what lies in folders of theirs) or patterns.

    Without --json, prints each hand's side, score and box (x, y, width, height in pixels). Images are independent
    of each other; in a video hands are followed from frame to frame. An input that cannot be read gives a line on
    standard error and exit status 1; the others are processed. A GIF is a video; of other files with several
    pictures, WebP, PNG and TIFF, the first is read.
    """
    from tqdm import tqdm

    from hand_pose_3d.camera import Camera
    from hand_pose_3d.errors import InvalidInputError
    from hand_pose_3d.images import find_files, is_video
    from hand_pose_3d.outputs import check_folder

    if overlay:
        check_folder(overlay)
    camera = Camera.from_yaml(camera_path) if camera_path else None
    say_without_camera(camera)
    failures: list[dict[str, Any]] = []
    paths: dict[Path, None] = {}
    for text in inputs:
        try:
            paths.update(dict.fromkeys(find_files([text])))
        except InvalidInputError as error:
            failures.append(_failure(text, error))
    same_name = Counter(path.name for path in paths)
    videos = set()
    for path in paths:
        with suppress(InvalidInputError):  # said in its turn
            videos.add(is_video(path))
    predictor = _Predictor(options, camera, overlay, videos)
    with _Results(json_path, [*paths, *([camera_path] if camera_path else [])]) as results:
        for entry in failures:
            results.add(entry)
        with tqdm(total=len(paths), desc="predict", unit="file", delay=2, disable=None, leave=False) as progress:
            for path in paths:
                name = path.name if same_name[path.name] == 1 else str(path)
                try:
                    for entry in predictor.file(path, name):
                        results.add(entry)
                except InvalidInputError as error:
                    results.add(_failure(name, error))
                progress.update()
    if results.failed:
        raise SystemExit(1)


class _Results:
    """Writes entries to the terminal or to a file as they come."""

    def __init__(self, json_path: str | None, inputs: list[Path]) -> None:
        from hand_pose_3d.outputs import JsonList, check_target

        self.failed, self._list, self._path = False, None, json_path
        if json_path is not None:
            if json_path == "-":
                self._list = JsonList(Path("/dev/stdout"), sys.stdout.buffer)
            else:
                self._list = JsonList(check_target(json_path, _OURS, inputs))

    def __enter__(self) -> _Results:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._list is None:
            return
        if kind is None:
            self._list.close()
            if self._path and os.path.isfile(self._path):  # not a pipe, or the terminal
                click.echo(f"wrote {one_line(self._path)}")
        elif part := self._list.abandon():
            click.echo(f"Not finished: what was found so far is in {one_line(part)}", err=True)

    def add(self, entry: dict[str, Any]) -> None:
        """Write an entry, or show it as a line."""
        from tqdm import tqdm

        self.failed |= "error" in entry
        if self._list is not None:
            self._list.add(entry)
        elif "error" not in entry:
            tqdm.write(_line(entry))


def _failure(name: str, error: Exception) -> dict[str, Any]:
    click.echo(f"Error: {one_line(error)}", err=True)
    return {"image": _text(name), "error": _text(str(error))}


def _text(name: str) -> str:
    """A file's name as UTF-8 has it, whatever the locale says."""
    try:
        return name.encode(sys.getfilesystemencoding(), "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # not only a name
        return name


def _line(entry: dict[str, Any]) -> str:
    hands = ", ".join(
        f"{hand['side']} {hand['score']:.2f} at ({', '.join(f'{value:.0f}' for value in hand['roi'])})"
        for hand in entry["hands"]
    )
    frame = f" frame {entry['frame']}" if "frame" in entry else ""
    return f"{one_line(entry['image'])}{frame}: {hands or 'no hand'}"


class _Predictor:
    """Processes files one after another, with an estimator for images and one for videos where there are such."""

    def __init__(
        self, options: dict[str, Any], camera: Camera | None, overlay: Path | None, videos: Iterable[bool]
    ) -> None:
        from hand_pose_3d.estimator import HandPoseEstimator

        self.camera, self.overlay = camera, overlay
        self._estimators = {video: HandPoseEstimator(tracking=video, **options) for video in videos}
        if overlay:
            overlay.mkdir(parents=True, exist_ok=True)

    def file(self, path: Path, name: str) -> Iterator[dict[str, Any]]:
        """Entries of one image, or of each frame of one video."""
        from hand_pose_3d.images import is_video, read_image
        from hand_pose_3d.outputs import flat

        if is_video(path):
            yield from self._video(path, name)
            return
        image = read_image(path)
        entry, hands = self._estimate(image, name, tracking=False)
        if self.overlay:
            self._say(_write_overlay(self.overlay / f"{flat(name)}.png", image, hands), name)
        yield entry

    def _video(self, path: Path, name: str) -> Iterator[dict[str, Any]]:
        from tqdm import tqdm

        from hand_pose_3d.drawing import draw_hands
        from hand_pose_3d.errors import HandPoseError
        from hand_pose_3d.images import Video
        from hand_pose_3d.outputs import VideoWriter, flat

        video = Video(path)
        self._estimators[True].reset()
        writer = VideoWriter(self.overlay / f"{flat(name)}.mp4", video.fps) if self.overlay else None
        said = 0
        frames = tqdm(
            video, total=video.count or None, desc=one_line(name), unit="frame", delay=2, disable=None, leave=False
        )
        try:
            for image in frames:
                for index in video.damaged[said:]:
                    yield {"image": _text(name), "frame": index, "error": "this frame is damaged"}
                said = len(video.damaged)
                entry, hands = self._estimate(image, name, tracking=True, stamp_s=video.time_s)
                yield {**entry, "frame": video.index, "time_s": video.time_s}
                if writer is not None:
                    writer.add(draw_hands(image, hands), video.time_s)
            if video.index + 1 < 0.95 * video.count - 1:  # containers may only estimate the number of frames
                fault = f"ends after {video.index + 1} of the {video.count} frames that it announces: it may be cut off"
                click.echo(f"Error: {one_line(path)} {fault}", err=True)
                yield {"image": _text(name), "error": fault}
        except HandPoseError:
            if writer is not None:
                writer.discard()
            raise
        except BaseException:  # interrupted: what is there is kept
            if writer is not None and video.index >= 0:
                click.echo(f"the overlay of {one_line(path)} ends with its frame {video.index}", err=True)
            raise
        finally:
            video.close()
            if said:
                click.echo(f"Error: {one_line(path)}: {said} damaged frames were left out", err=True)
            if writer is not None:
                self._say(writer.close(), name)

    def _say(self, written: Path | None, name: str) -> None:
        """Print the path of an overlay that is not named after its input."""
        from hand_pose_3d.outputs import flat

        if written is not None and written.stem != flat(name):
            click.echo(f"{one_line(name)}: the overlay is {one_line(written)}, beside what was there", err=True)

    def _estimate(
        self, image: np.ndarray, name: str, tracking: bool, stamp_s: float | None = None
    ) -> tuple[dict[str, Any], list[HandPose]]:
        from hand_pose_3d.errors import naming

        height, width = image.shape[:2]
        with naming(name):
            hands = self._estimators[tracking](image, camera=self.camera, stamp_s=stamp_s)
        entry = {"image": _text(name), "width": width, "height": height, "hands": [hand.to_dict() for hand in hands]}
        return entry, hands


def _write_overlay(target: Path, image: np.ndarray, hands: list[HandPose]) -> Path:
    from hand_pose_3d.drawing import draw_hands, enlarge
    from hand_pose_3d.outputs import encode_image, write_beside

    return write_beside(target, encode_image(draw_hands(*enlarge(image, hands, OVERLAY_MIN_PX))))
