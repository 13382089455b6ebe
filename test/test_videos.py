"""Times and damaged frames of videos; cameras that fail for a while."""

import threading

import numpy as np
import pytest
from media import encoded, mjpeg, scene, slow_second_half, video

from hand_pose_3d import images
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.images import LiveCamera, Video, is_video


def test_jpegs_one_behind_another_are_a_video_and_a_photograph_with_more_in_it_is_none(tmp_path):
    jpegs = [encoded(np.roll(scene(), number, axis=1), ".jpg") for number in range(4)]
    path = tmp_path / "camera.mjpeg"
    path.write_bytes(b"".join(jpegs))
    assert is_video(path) and sum(1 for _ in Video(path)) == 4
    views = jpegs[0][:2] + b"\xff\xe2\0\x06MPF\0" + jpegs[0][2:] + jpegs[1]
    gain_map = jpegs[0] + encoded(scene(24, 32), ".jpg")
    for data in (jpegs[0], jpegs[0] + bytes(50), views, gain_map, jpegs[0] + b"\xff\xd8\xff"):
        path.write_bytes(data)
        assert not is_video(path)


def test_videos_have_the_times_of_their_container(tmp_path):
    path = video(tmp_path / "a.mp4")
    film = Video(path)
    times = [film.time_s for _ in film]
    np.testing.assert_allclose(times, np.arange(30) / 30, atol=1e-3)
    slow_second_half(path)
    film = Video(path)
    times = [film.time_s for _ in film]
    expected = np.cumsum([0, *[1 / 30] * 15, *[3 / 30] * 14])
    np.testing.assert_allclose(times, expected, atol=2e-3)


@pytest.mark.parametrize("bad", [[9], [1, 5, 6], list(range(8, 25)), [28]])
def test_damaged_frames_are_counted_and_left_out(bad, tmp_path):
    path = tmp_path / "a.avi"
    starts = mjpeg(path)
    data = bytearray(path.read_bytes())
    for number in bad:
        data[starts[number] : starts[number] + 300] = bytes(300)
    path.write_bytes(data)
    film = Video(path)
    seen = [(film.index, film.time_s) for _ in film]
    assert len(seen) == 30 - len(bad) and len(film.damaged) == len(bad)
    assert set(film.damaged) | {index for index, _ in seen} == set(range(30))
    times = [time_s for _, time_s in seen]
    assert times == sorted(set(times)) and times[-1] == pytest.approx(29 / 30, abs=0.1)


def test_a_video_that_is_cut_off_ends_there(tmp_path):
    path = tmp_path / "a.avi"
    mjpeg(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert 5 < sum(1 for _ in Video(path)) < 30
    path = video(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InvalidInputError, match="not a video"):
        Video(path)


class Capture:
    """A camera whose reads fail at the given numbers, or all after `lost`."""

    def __init__(self, fails=(), lost=10**9):
        self.fails, self.lost, self.number, self.released = set(fails), lost, 0, False

    def read(self):
        self.number += 1
        ok = self.number not in self.fails and self.number < self.lost
        return ok, scene() if ok else None

    def get(self, what):
        return 30.0

    def release(self):
        self.released = True


@pytest.fixture
def cameras(monkeypatch):
    """Cameras that are opened one after another; an error in the list is raised."""
    waiting = []

    def opened(*_):
        camera = waiting.pop(0)
        if isinstance(camera, Exception):
            raise camera
        return camera

    monkeypatch.setattr(images, "open_camera", opened)
    monkeypatch.setattr(images.time, "sleep", lambda seconds: None)
    return waiting


def test_a_camera_that_fails_a_read_is_read_again(cameras):
    cameras.append(Capture(fails=(1, 5, 6, 7)))
    said = []
    assert sum(1 for _, picture in zip(range(20), LiveCamera("0", say=said.append)) if picture.any()) == 20
    assert not said


def test_a_lost_camera_is_opened_again(cameras):
    first, silent = Capture(lost=5), Capture(lost=1)
    cameras += [first, InvalidInputError("there is no camera 0"), silent, Capture()]
    said = []
    assert sum(1 for _ in zip(range(20), LiveCamera("0", say=said.append))) == 20
    assert first.released and silent.released
    assert "again" in said[0] and "back" in said[1]


def test_a_camera_that_stays_lost_is_named(cameras, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(images.time, "monotonic", lambda: 5.0 * next(clock))
    cameras += [Capture(lost=3), *[InvalidInputError("there is no camera /dev/video0")] * 20]
    with pytest.raises(InvalidInputError, match="lost: there is no camera /dev/video0"):
        list(LiveCamera("0"))


class Stream:
    """A live stream of numbered pictures that come however fast they are read."""

    number = 0

    def read(self):
        threading.Event().wait(0.002)
        self.number += 1
        return True, np.full((48, 64, 3), self.number % 250, np.uint8)

    def get(self, what):
        return 0.0

    def release(self):
        self.released = True


def test_of_a_stream_a_slow_reader_gets_the_newest_picture(cameras):
    stream = Stream()
    cameras.append(stream)
    camera = LiveCamera("rtsp://host/1")
    next(camera)
    for _ in range(10):
        threading.Event().wait(0.05)
        before = stream.number
        picture = next(camera)
        assert (int(picture[0, 0, 0]) - before) % 250 in (249, *range(100))  # 249: it was on its way
    camera.close()
    threading.Event().wait(0.2)
    assert stream.released


def test_a_recording_of_a_server_ends(cameras):
    cameras.append(Capture(lost=5))
    assert sum(1 for _ in LiveCamera("http://host/a.mp4")) == 4


def test_streams_that_cannot_be_opened_are_refused():
    with pytest.raises(InvalidInputError, match="there is no server"):
        LiveCamera("http://127.0.0.1:1/a.mp4")
    with pytest.raises(InvalidInputError, match="%XX"):
        LiveCamera("rtsp://caf\udce9/1")
