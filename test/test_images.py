"""What a file is, whatever it is called; damaged images; names that are URLs."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import encoded, scene, video

from hand_pose_3d.encoded_images import decode_image
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.images import Video, find_files, is_video, local_path, read_image

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
    for end in (100, len(jpeg) // 2, 7 * len(jpeg) // 8):
        with pytest.raises(InvalidInputError, match="cut off"):
            decode_image(jpeg[:end], from_camera=True)
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


def test_what_is_no_file_is_said_by_its_name(tmp_path):
    with pytest.raises(InvalidInputError, match=f"^{tmp_path} is a folder, not an image$"):
        read_image(tmp_path)
    with pytest.raises(InvalidInputError, match="^/dev/null is a device"):
        read_image("/dev/null")


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
    (tmp_path / "a:").mkdir()
    assert local_path(f"{tmp_path}/a://b") == tmp_path / "a:" / "b"
