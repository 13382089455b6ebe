"""A cache of slow results in the user's cache folder; without a usable folder they are computed each time."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hand_pose_3d.outputs import replacing

KEPT = 32
"""Number of entries kept; the least recently used ones are deleted."""
_DAY_S = 86_400


def cache_folder() -> Path | None:
    """$XDG_CACHE_HOME/hand_pose_3d, or ~/.cache/hand_pose_3d; None where there is no home."""
    # The XDG specification has a path that is not absolute ignored.
    for base in (os.environ.get("XDG_CACHE_HOME", ""), os.path.join(os.path.expanduser("~"), ".cache")):
        if os.path.isabs(base):
            return Path(base) / "hand_pose_3d"
    return None


def cached(name: str, key: str, make: Callable[[], bytes]) -> bytes:
    """The result of `make`, from the cache if it was computed before under the same name and key.

    key: everything that the result depends on. Damaged entries are computed again. Safe with several processes.
    """
    folder = cache_folder()
    if folder is None:
        return make()
    path = folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    data = _read(path)
    if data is None:
        data = make()
        _write(path, data)
    return data


def _read(path: Path) -> bytes | None:
    """An entry, None if it is missing or damaged: its first 32 bytes are the SHA-256 of the rest."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    with suppress(OSError):  # an entry of another user's keeps its age
        os.utime(path)
    return data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else None


def _write(path: Path, data: bytes) -> None:
    """Write an entry atomically, and delete the least recently used ones."""
    with suppress(OSError):
        with replacing(path) as stream:
            stream.write(hashlib.sha256(data).digest() + data)
        for left in path.parent.glob(".hand_pose_3d-*.part"):  # by a process that was killed
            if time.time() - left.stat().st_mtime > _DAY_S:
                left.unlink(missing_ok=True)
        entries = [entry for entry in path.parent.iterdir() if entry.is_file() and not entry.name.startswith(".")]
        for old in sorted(entries, key=lambda entry: -entry.stat().st_mtime)[KEPT:]:
            old.unlink(missing_ok=True)
