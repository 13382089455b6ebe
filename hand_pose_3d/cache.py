"""Results that are slow to make, kept in the user's cache folder; a folder that cannot be used costs only time."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

KEPT = 12
"""Entries that stay; the ones that were used longest ago are dropped."""


def cache_folder() -> Path | None:
    """$XDG_CACHE_HOME/hand_pose_3d, or ~/.cache/hand_pose_3d; None where there is no home."""
    # The XDG specification has a path that is not absolute ignored.
    for base in (os.environ.get("XDG_CACHE_HOME", ""), os.path.join(os.path.expanduser("~"), ".cache")):
        if os.path.isabs(base):
            return Path(base) / "hand_pose_3d"
    return None


def cached(name: str, key: str, make: Callable[[], bytes]) -> bytes:
    """What `make` gives, from the cache where it was made before with the same name and key.

    key: everything that the result depends on. Damaged entries are made again; several processes may ask at once.
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
    """An entry, if it is there and whole: its first 32 bytes are the SHA-256 of the rest."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    with suppress(OSError):  # an entry of another user's keeps its age
        os.utime(path)
    return data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else None


def _write(path: Path, data: bytes) -> None:
    """Write an entry so that no reader meets half of it, and drop the oldest ones."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(hashlib.sha256(data).digest() + data)
        os.replace(temporary, path)
        entries = [entry for entry in path.parent.iterdir() if entry.is_file() and not entry.name.startswith(".")]
        for old in sorted(entries, key=lambda entry: -entry.stat().st_mtime)[KEPT:]:
            old.unlink(missing_ok=True)
    except OSError:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
