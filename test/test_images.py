"""What a file is, whatever it is called; damaged pictures and videos; cameras that fail for a while."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import encoded, mjpeg, scene, slow_second_half, video

from hand_pose_3d import images
from hand_pose_3d.encoded_images import decode_image
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.images import LiveCamera, Video, find_files, is_video, local_path, read_image

NAMES = [b"caf\xe9", "café".encode(), "手.jpg".encode(), b"a%03d.png", b"12:30.mp4", b"-x", b"new\nline", b" ", b"[1]"]
GREY = scene()[..., 0]
PICTURES = {
    "colour": (encoded(scene(), ".png"), scene()),
    "grey": (encoded(GREY, ".png"), np.dstack([GREY] * 3)),
    "alpha": (encoded(np.dstack([scene(), GREY]), ".png"), scene()),
    "16 bits": (encoded(scene().astype(np.uint16) * 257, ".png"), scene()),
    "grey of 16 bits": (encoded(GREY.astype(np.uint16) * 256 + 255, ".png"), np.dstack([GREY] * 3)),
    "alpha of 16 bits": (encoded(np.dstack([scene(), GREY]).astype(np.uint16) * 257, ".png"), scene()),
    "bmp": (encoded(scene(), ".bmp"), scene()),
    "tiff": (encoded(scene(), ".tiff"), scene()),
    "tiff of 16 bits": (encoded(scene().astype(np.uint16) * 257, ".tiff"), scene()),
    "webp": (encoded(scene(), ".webp", cv2.IMWRITE_WEBP_QUALITY, 101), scene()),
    "ppm": (encoded(scene(), ".ppm"), scene()),
}


def named(folder, name):
    return folder / os.fsdecode(name)


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_of_all_kinds_are_the_same_picture_under_any_suffix(kind, tmp_path):
    data, expected = PICTURES[kind]
    for name in ("a.png", "a.jpg", "a.mp4", "a"):
        (tmp_path / name).write_bytes(data)
        assert not is_video(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name), expected)


@pytest.mark.parametrize("name", NAMES)
def test_any_name_that_the_system_allows(name, tmp_path):
    folder = named(tmp_path, b"f\xe9 " + name)
    folder.mkdir()
    picture, film = named(folder, name), named(folder, name + b"2")
    picture.write_bytes(encoded(scene(), ".png"))
    np.testing.assert_array_equal(read_image(picture), scene())
    assert video(film, range(40, 100, 20)) == film
    assert is_video(film) and sum(1 for _ in Video(film)) == 3
    assert sorted(find_files([str(folder)])) == sorted([picture, film])


def test_exif_turns_a_photograph():
    jpeg = encoded(scene(), ".jpg")
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    assert decode_image(turned).shape == (64, 48, 3)
    assert decode_image(turned, from_camera=True).shape == (48, 64, 3)


def test_a_jpeg_without_its_end_marker_is_whole_and_a_shorter_one_is_not():
    jpeg = encoded(scene(), ".jpg")
    np.testing.assert_array_equal(decode_image(jpeg[:-2]), decode_image(jpeg))
    np.testing.assert_array_equal(decode_image(jpeg[:-2] + bytes(100)), decode_image(jpeg))
    for end in (-40, -200, len(jpeg) // 2):
        with pytest.raises(InvalidInputError, match="cut off"):
            decode_image(jpeg[:end])
    np.testing.assert_array_equal(decode_image(jpeg[:-2], from_camera=True), decode_image(jpeg))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not an image"),
        (b"BMW is a car", "not an image"),
        (encoded(scene(), ".png")[:-20], "PNG that is cut off"),
        (encoded(scene(), ".tiff")[:100], "TIFF"),
        (encoded(scene().astype(np.float32), ".tiff"), "TIFF"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "convert it to JPEG"),
        (b"BM" + bytes(16) + (1 << 30).to_bytes(4, "little") * 2 + bytes(60), "1073741824"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(data, words, tmp_path):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(InvalidInputError, match=words) as caught:
        read_image(tmp_path / "a.jpg")
    assert "a.jpg is" in str(caught.value) and "\n" not in str(caught.value)


def test_folders_go_by_content_and_keep_what_pretends(tmp_path):
    video(tmp_path / "film", range(40, 100, 20))
    (tmp_path / "photo.txt").write_bytes(encoded(scene(), ".jpg"))
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "notes").write_text("P5 is not meant as a picture here, or is it")
    (tmp_path / "notes.md").write_text("hands")
    (tmp_path / "._photo.jpg").write_bytes(b"of another system")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    found = [path.name for path in find_files([str(tmp_path)])]
    assert found == ["empty.jpg", "film", "notes", "photo.txt"]
    with pytest.raises(InvalidInputError, match="not an image and not a video"):
        is_video(tmp_path / "notes.md")
    with pytest.raises(InvalidInputError, match="device"):
        read_image("/dev/zero")


def test_urls_are_files_streams_or_refused(tmp_path):
    name = named(tmp_path, b"caf\xe9 1.png")
    assert local_path(name.as_uri()) == name
    assert local_path("rtsp://camera/1") is None and local_path("~") == Path.home()
    with pytest.raises(InvalidInputError, match="URLs may begin with file, rtsp"):
        local_path("gopher://hands")
    with pytest.raises(InvalidInputError, match="live"):
        find_files(["http://host/a.mp4"])
    with pytest.raises(InvalidInputError, match="empty"):
        find_files([""])
    with pytest.raises(InvalidInputError, match="nobody answers there"):
        LiveCamera("http://127.0.0.1:1/a.mp4")
    with pytest.raises(InvalidInputError, match="%XX"):
        LiveCamera("rtsp://caf\udce9/1")
    (tmp_path / "a:").mkdir()
    assert local_path(f"{tmp_path}/a://b") == tmp_path / "a:" / "b"


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


def test_a_recording_of_a_server_ends(cameras):
    cameras.append(Capture(lost=5))
    assert sum(1 for _ in LiveCamera("http://host/a.mp4")) == 4
