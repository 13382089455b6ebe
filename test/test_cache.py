"""Entries of the cache are made once, and nothing that happens to the folder reaches the caller."""

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from hand_pose_3d import cache, runtime
from hand_pose_3d.cache import KEPT, cache_folder, cached
from hand_pose_3d.rendering.body_model import cached_bodies
from hand_pose_3d.runtime import Recipe


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "hand_pose_3d"


class Maker:
    def __init__(self, data=b"graph"):
        self.data, self.calls = data, 0

    def __call__(self):
        self.calls += 1
        return self.data


def test_an_entry_is_made_once_for_each_name_and_key(folder):
    make = Maker()
    assert [cached("a", "1", make) for _ in range(3)] == [b"graph"] * 3
    assert make.calls == 1
    cached("a", "2", make)
    cached("b", "1", make)
    assert make.calls == 3
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:20], lambda data: data[:-1], lambda data: b"", lambda d: d + b"x"]
)
def test_a_damaged_entry_is_made_again(folder, spoil):
    make = Maker()
    cached("a", "1", make)
    (path,) = folder.iterdir()
    path.write_bytes(spoil(path.read_bytes()))
    assert cached("a", "1", make) == b"graph"
    assert cached("a", "1", make) == b"graph"
    assert make.calls == 2


def test_a_folder_that_cannot_be_made_costs_time_only(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cached("a", "1", Maker()) == b"graph"


def test_an_entry_of_another_user_is_used(folder, monkeypatch):
    make = Maker()
    cached("a", "1", make)

    def forbidden(*_):
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(cache.os, "utime", forbidden)
    assert cached("a", "1", make) == b"graph" and make.calls == 1


def test_a_write_that_fails_leaves_nothing(folder, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(cache.os, "replace", full)
    assert cached("a", "1", Maker()) == b"graph"
    assert list(folder.iterdir()) == []


def test_many_at_once_get_whole_answers(folder):
    data = os.urandom(200_000)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: cached("a", "1", lambda: data), range(32))) == {data}
    assert len(list(folder.iterdir())) == 1


def test_the_oldest_entries_are_dropped(folder):
    for key in range(KEPT + 3):
        cached("a", str(key), Maker())
        os.utime(max(folder.iterdir(), key=lambda path: path.stat().st_ctime_ns), (key, key))
    assert len(list(folder.iterdir())) == KEPT
    make = Maker()
    cached("a", str(KEPT + 2), make)
    assert make.calls == 0


def test_what_a_killed_process_left_goes_after_a_day(folder):
    folder.mkdir()
    for name, age_s in ((".hand_pose_3d-old.part", 90_000), (".hand_pose_3d-young.part", 60)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age_s,) * 2)
    cached("a", "1", Maker())
    assert not (folder / ".hand_pose_3d-old.part").exists() and (folder / ".hand_pose_3d-young.part").exists()


class Bodies:
    """Stands for a minute's work."""

    def __init__(self):
        self.paths = []

    def __call__(self, path, count):
        self.paths.append(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, heads=np.arange(count))


def test_the_renderers_bodies_stay(folder):
    extract = Bodies()
    assert cached_bodies("arms.npz", extract, 3)["heads"].tolist() == [0, 1, 2]
    (bodies,) = extract.paths
    os.utime(bodies, (0, 0))
    for key in range(KEPT + 1):
        cached("a", str(key), Maker())
    assert len(cached_bodies("arms.npz", extract, 3)["heads"]) == 3 and len(extract.paths) == 1
    assert folder in bodies.parents


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 and no more"])
def test_damaged_bodies_are_made_again(damage):
    extract = Bodies()
    cached_bodies("arms.npz", extract, 3)
    extract.paths[0].write_bytes(damage)
    assert len(cached_bodies("arms.npz", extract, 3)["heads"]) == 3 and len(extract.paths) == 2


def test_without_a_writable_cache_bodies_are_temporary_files(monkeypatch, tmp_path):
    extract = Bodies()
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for _ in range(2):
        assert len(cached_bodies("arms.npz", extract, 3)["heads"]) == 3
    (bodies,) = extract.paths
    assert tmp_path / "tmp" in bodies.parents


def test_the_folder_follows_the_xdg_rules(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "hand_pose_3d"
    monkeypatch.setenv("HOME", "/home/someone")
    for ignored in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert str(cache_folder()) == "/home/someone/.cache/hand_pose_3d"


def test_graphs_are_kept_for_the_same_weights_only(folder, tmp_path):
    class Line(torch.nn.Module):
        def __init__(self, slope):
            super().__init__()
            self.slope = torch.nn.Parameter(torch.tensor(slope))

        def forward(self, x):
            return self.slope * x

    built = []

    def double(slope):
        file = tmp_path / "slope"
        file.write_text(str(slope))

        def build():
            built.append(slope)
            return Line(float(file.read_text()))

        recipe = Recipe("Line", build, [file], [np.ones((1, 2), np.float32)], [{0: "n"}])
        return runtime.make_runner(recipe, "cpu", "float32")(np.full((3, 2), 2, np.float32))[0]

    np.testing.assert_array_equal(double(2.0), np.full((3, 2), 4))
    np.testing.assert_array_equal(double(2.0), np.full((3, 2), 4))
    assert len(list(folder.iterdir())) == 1 and built == [2.0]
    np.testing.assert_array_equal(double(3.0), np.full((3, 2), 6))
    assert len(list(folder.iterdir())) == 2 and built == [2.0, 3.0]
