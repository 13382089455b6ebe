"""No file of the user's is replaced, and results are whole or not there."""

import json
import os

import numpy as np
import pytest
from media import scene, video

from hand_pose_3d.errors import HandPoseError, InvalidInputError
from hand_pose_3d.images import Video
from hand_pose_3d.outputs import JsonList, VideoWriter, check_plot, check_target, replacing, write_beside


def test_files_are_written_beside_others(tmp_path):
    (tmp_path / "a.png").write_bytes(b"mine")
    assert write_beside(tmp_path / "a.png", b"result").name == "a-2.png"
    assert write_beside(tmp_path / "a.png", b"another").name == "a-3.png"
    assert write_beside(tmp_path / "a.png", b"result").name == "a-2.png"  # the same again
    assert write_beside(tmp_path / "new" / "b.png", b"result").name == "b.png"
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere")
    assert write_beside(tmp_path / "link.png", b"x").name == "link-2.png"
    assert (tmp_path / "a.png").read_bytes() == b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a-2.png",
        "a-3.png",
        "a.png",
        "link-2.png",
        "link.png",
        "new",
    ]


def test_a_target_is_new_empty_or_an_earlier_result(tmp_path):
    ours = rb'\{"dataset": '
    path = tmp_path / "a.json"
    assert check_target(path, ours) == path
    path.touch()
    assert check_target(path, ours) == path
    path.write_text('{"dataset": "rhd"}')
    assert check_target(path, ours) == path
    with pytest.raises(InvalidInputError, match="input"):
        check_target(path, ours, [tmp_path / "b", path])
    (tmp_path / "same.json").hardlink_to(path)
    with pytest.raises(InvalidInputError, match="input"):
        check_target(tmp_path / "same.json", ours, [path])
    path.write_text('[{"dataset": "mine"}]')
    with pytest.raises(InvalidInputError, match="not an earlier result"):
        check_target(path, ours)
    with pytest.raises(InvalidInputError, match="folder"):
        check_target(tmp_path, ours)
    with pytest.raises(InvalidInputError, match="- is no file"):
        check_target("-", ours)
    assert str(check_target("/dev/null")) == "/dev/null"
    assert check_target(tmp_path / "new" / "folder" / "a.json", ours) and not (tmp_path / "new").exists()
    with pytest.raises(InvalidInputError, match="cannot write into /proc"):  # not even root can
        check_target("/proc/new/a.json", ours)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_plot_takes_the_place_of_its_earlier_self_and_of_no_other(tmp_path, suffix):
    from matplotlib.figure import Figure

    from hand_pose_3d.evaluation.plots import save_figure

    ours, theirs = tmp_path / f"ours.{suffix}", tmp_path / f"theirs.{suffix}"
    figure = Figure()
    figure.text(0, 0, "hand_pose_3d beside ours")
    save_figure(figure, ours)
    figure.savefig(theirs, metadata={"Title": "hand_pose_3d beside ours"})
    assert check_plot(ours) == ours
    with pytest.raises(InvalidInputError, match="not an earlier result"):
        check_plot(theirs)


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("before")
    with pytest.raises(KeyError), replacing(path) as stream:
        stream.write(b"half")
        raise KeyError
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["a.json"]
    link = tmp_path / "link.json"
    link.symlink_to(path)
    with replacing(link) as stream:
        stream.write(b"after")
    assert path.read_text() == "after" and link.is_symlink()


def test_a_list_grows_in_a_part_and_takes_its_place_at_the_end(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[]")
    (tmp_path / "a.json.part").write_text("mine")
    entries = JsonList(path)
    for number in range(3):
        entries.add({"number": number})
        assert path.read_text() == "[]"
        text = (tmp_path / "a.json.part-2").read_text()
        assert len(json.loads(text + "]")) == number + 1  # what came so far is there
    entries.close()
    assert [entry["number"] for entry in json.loads(path.read_text())] == [0, 1, 2]
    assert (tmp_path / "a.json.part").read_text() == "mine" and len(os.listdir(tmp_path)) == 2


def test_an_abandoned_list_stays_as_a_part(tmp_path):
    entries = JsonList(tmp_path / "a.json")
    entries.add({"number": 1})
    assert json.loads(entries.abandon().read_text()) == [{"number": 1}]
    assert JsonList(tmp_path / "b.json").abandon() is None
    assert os.listdir(tmp_path) == ["a.json.part"]
    entries = JsonList(tmp_path / "c.json")
    entries.close()
    assert json.loads((tmp_path / "c.json").read_text()) == []


def test_videos_keep_time_and_other_files(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"mine")
    writer = VideoWriter(path, 10)
    for time_s in (0.0, 0.1, 0.5):
        writer.add(scene(), time_s)
    written = writer.close()
    assert written.name == "a-2.mp4" and path.read_bytes() == b"mine"
    assert sum(1 for _ in Video(written)) == 6
    writer = VideoWriter(path, 10)
    writer.add(scene(), 0)
    writer.discard()
    assert VideoWriter(path, 10).close() is None
    assert len(os.listdir(tmp_path)) == 2
    assert video(tmp_path / "b.mp4") == video(tmp_path / "b.mp4")


@pytest.mark.parametrize("fps", [0.02, 0.3])
def test_a_slow_video_keeps_every_frame(tmp_path, fps):
    writer = VideoWriter(tmp_path / "a.mp4", fps)
    for number in range(4):
        writer.add(scene(), number / fps)
    assert sum(1 for _ in Video(writer.close())) == 4


def test_a_full_disk_is_said_with_the_file_and_leaves_no_half_of_it(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer, entries = VideoWriter(tmp_path / "a.mp4", 10), JsonList(tmp_path / "a.json")
    random = np.random.default_rng(0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        for number in range(20):
            writer.add(random.integers(0, 256, (240, 320, 3), np.uint8), number / 10)
        with pytest.raises(HandPoseError, match=r"a\.mp4 could not be written whole"):
            writer.close()
        with pytest.raises(OSError, match=r"a\.json"):
            for _ in range(200):
                entries.add("x" * 1000)
        part = entries.abandon()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == [part.name] and part.read_text().startswith("[")
