"""Files that commands write: atomically, and never over a file of the user's."""

from __future__ import annotations

import filecmp
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from hand_pose_3d.errors import HandPoseError, InvalidInputError

PLOT = rb"\x89PNG.*Software\0hand_pose_3d|%PDF.*/Creator \(hand_pose_3d\)|<\?xml.*<dc:title>hand_pose_3d</dc:title>"
"""Start of plots, in which matplotlib writes the program's name."""

_MARK_BYTES = 1 << 16
"""Number of bytes at either end of a file in which an earlier result is recognised."""


def check_target(path: str | Path, ours: bytes | None = None, inputs: Iterable[str | Path] = ()) -> Path:
    """A path that a user has named for a result, if nothing of theirs is lost by writing there.

    That is the case for a new or empty file, for a pipe or device such as /dev/null, and for an earlier result, whose
    first and last bytes together match the regular expression `ours`. Raises InvalidInputError for another file
    and for an input.
    """
    path = Path(os.path.expanduser(path))
    if str(path) == "-":
        raise InvalidInputError("- is no file: name one, or /dev/stdout")
    try:
        found = path.stat()
    except FileNotFoundError:
        check_folder(path.parent)
        return path
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"cannot write {path}: {error}") from error
    if stat.S_ISDIR(found.st_mode):
        raise InvalidInputError(f"cannot write {path}: it is a folder")
    if any(os.path.exists(each) and os.path.samefile(path, each) for each in inputs):
        raise InvalidInputError(f"{path} is an input and stays as it is: name another file for the result")
    if stat.S_ISREG(found.st_mode) and found.st_size:
        with path.open("rb") as stream:
            ends = stream.read(_MARK_BYTES)
            stream.seek(max(0, found.st_size - _MARK_BYTES))
            ends += stream.read()
        if ours is None or not re.match(ours, ends, re.DOTALL):
            raise InvalidInputError(f"{path} exists and is not an earlier result: name another file, or move it away")
    return path


def check_folder(path: Path) -> None:
    """Raise InvalidInputError where no file can be made in a folder, or in the one that it will be made in."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        with _temporary(path):
            pass
    except OSError as error:
        raise InvalidInputError(f"cannot write into {path}: {error.strerror}") from error


def check_plot(path: str | Path) -> Path:
    """A path for a plot, if it can be drawn there: check_target, and the kind of file."""
    if Path(path).suffix.lower() not in ("", ".png", ".pdf", ".svg"):
        raise InvalidInputError(f"a plot can be a PNG, PDF or SVG file, not {Path(path).name}")
    return check_target(path, PLOT)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose content becomes the file at the end of the block, unless an error is raised in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # a pipe or /dev/stdout
        with path.open("wb") as stream:
            yield stream
        return
    path = path.resolve()  # a symbolic link is kept
    with _temporary(path.parent) as (stream, temporary):
        yield stream
        stream.flush()
        os.replace(temporary, path)


def write_beside(path: Path, data: bytes) -> Path:
    """Write a file; if another one is there already, beside it as NAME-2, and so on. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path.parent) as (stream, temporary):
        stream.write(data)
        stream.flush()
        return _place(temporary, path)


@contextmanager
def _temporary(folder: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """An open temporary file, deleted at the end unless it was moved."""
    path = folder / f".hand_pose_3d-{secrets.token_hex(8)}.part"
    try:
        with path.open("xb") as stream:
            yield stream, path
    finally:
        path.unlink(missing_ok=True)


def _place(temporary: Path, path: Path) -> Path:
    """Move a finished file to a free name, or keep an identical file that exists already."""
    number = 1
    while True:
        target = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            if target.is_file() and filecmp.cmp(temporary, target, shallow=False):
                return target
            number += 1
        else:
            os.replace(temporary, target)
            return target


def encode_image(image_rgb: np.ndarray, suffix: str = ".png") -> bytes:
    """An image (H, W, 3) uint8 RGB as the bytes of a file of that suffix. Raises InvalidInputError for no picture's."""
    import cv2

    try:
        return cv2.imencode(suffix, cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))[1].tobytes()
    except cv2.error:
        raise InvalidInputError(f"cannot write the picture as {suffix or 'a file without suffix'}: use .png") from None


class VideoWriter:
    """An MP4 that gets its name when it is closed, without replacing an existing file.

    Frames (H, W, 3) uint8 RGB are shown from their time to that of the next one; all have the size of the first.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self._fps = path, fps
        self._writer: Any = None
        self._size: tuple[int, int] = (0, 0)
        self._last: np.ndarray | None = None
        self._start_s, self._written = 0.0, 0

    def add(self, image_rgb: np.ndarray, time_s: float) -> None:
        """Add a frame of that time in seconds. Raises HandPoseError where OpenCV cannot write videos."""
        import cv2

        frame = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR)
        if self._writer is None:
            self._start_s = time_s
            self._open((frame.shape[1], frame.shape[0]))
        elif self._last is not None:
            due = round((time_s - self._start_s) * self._fps)
            # Every frame at least once, and never more than a limit for a gap in time.
            for _ in range(max(1, min(due - self._written, int(10 * self._fps)))):
                self._write(self._last)
        self._last = frame if frame.shape[1::-1] == self._size else cv2.resize(frame, self._size)

    def close(self) -> Path | None:
        """Finish the file and return its path; None if there was no frame. Raises HandPoseError for a full disk."""
        if self._writer is None:
            return None
        if self._last is not None:
            self._write(self._last)
        self._release()
        try:
            self._check()
            return _place(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete the unfinished file."""
        if self._writer is not None:
            self._release()
            self._temporary.unlink(missing_ok=True)

    def _check(self) -> None:
        """OpenCV says nothing of a file that it could not finish."""
        from hand_pose_3d.images import Video

        try:
            Video(self._temporary).close()
        except InvalidInputError:
            raise HandPoseError(f"the video {self.path} could not be written whole: is the disk full?") from None

    def _write(self, frame: np.ndarray) -> None:
        self._writer.write(frame)
        self._written += 1

    def _open(self, size: tuple[int, int]) -> None:
        import cv2

        self._size = size
        self.path.parent.mkdir(parents=True, exist_ok=True)
        name = f".hand_pose_3d-{secrets.token_hex(8)}.mp4"
        self._temporary = self.path.parent / name
        # The folder by its file descriptor, because OpenCV accepts ASCII names only.
        self._folder = os.open(self.path.parent, os.O_RDONLY)
        by_number = f"/proc/self/fd/{self._folder}"
        target = f"{by_number}/{name}" if os.path.exists(by_number) else os.path.abspath(self._temporary)
        if not target.isascii():
            raise HandPoseError(f"this system writes videos to folders with ASCII names only, not to {self.path}")
        self._writer = cv2.VideoWriter(target, cv2.VideoWriter.fourcc(*"mp4v"), self._fps, size)
        if not self._writer.isOpened():
            self.discard()
            raise HandPoseError(f"OpenCV cannot write the video {self.path}")

    def _release(self) -> None:
        self._writer.release()
        self._writer = None
        os.close(self._folder)


class JsonList:
    """A JSON list that is written entry by entry and gets its name at the end.

    Until then it is NAME.part (or NAME.part-2, ...), one entry a line, which remains if the program is stopped.
    """

    def __init__(self, path: Path, stream: IO[bytes] | None = None) -> None:
        """stream: written to directly instead of the file."""
        self.path = path.resolve()
        self.part: Path | None = None
        if stream is None and path.exists() and not path.is_file():
            stream = path.open("wb")
        if stream is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.part = _unused(self.path.with_name(self.path.name + ".part"))
            stream = self.part.open("xb")
        self._stream, self._begin = stream, b"["

    def add(self, entry: Any) -> None:
        """Write one entry."""
        self._write(self._begin + b"\n" + json.dumps(entry).encode())
        self._begin = b","

    def close(self) -> None:
        """End the list and move the file to its name."""
        self._end()
        if self.part is not None:
            os.replace(self.part, self.path)

    def abandon(self) -> Path | None:
        """End the list early; returns the partial file, None if it is empty."""
        empty = self._begin == b"["
        with suppress(OSError):  # on a full disk the last entry may be cut off
            self._end()
        if empty and self.part is not None:
            self.part.unlink(missing_ok=True)
        return None if empty else self.part

    def _end(self) -> None:
        self._write(b"[]\n" if self._begin == b"[" else b"\n]\n")
        if self.part is not None:
            self._stream.close()

    def _write(self, data: bytes) -> None:
        try:
            self._stream.write(data)
            self._stream.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error


def _unused(path: Path) -> Path:
    number, target = 2, path
    while os.path.lexists(target):
        target = path.with_name(f"{path.name}-{number}")
        number += 1
    return target


def flat(name: str) -> str:
    """A file name for an entry: its path without the suffix, with folder separators replaced."""
    flat = "_".join(part for part in Path(name).with_suffix("").parts if part not in ("/", ".."))
    return os.fsdecode(os.fsencode(flat)[-200:])  # names have at most 255 bytes
