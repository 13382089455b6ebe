"""hand_pose_3d predict: its JSON is a public format."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from media import mjpeg

from hand_pose_3d.cli import main
from hand_pose_3d.hands import HandPose
from hand_pose_3d.images import CLIP, Video

HAND_FIELDS = {
    "side",
    "side_score",
    "score",
    "roi",
    "keypoints_2d",
    "keypoint_scores",
    "keypoints_relative",
    "keypoints",
    "scale_source",
    "scale",
    "position_stddev",
    "canonical",
    "viewpoint",
}
CAMERA = """image_width: 64
image_height: 48
camera_matrix: {rows: 3, cols: 3, data: [60, 0, 32, 0, 60, 24, 0, 0, 1]}
distortion_coefficients: {rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}
distortion_model: plumb_bob
"""


@pytest.fixture
def folder(tmp_path, fake_estimator):
    """A colour image, one without a hand, and two that cannot be used."""
    rng = np.random.default_rng(4)
    colour = rng.integers(1, 255, (48, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), colour)
    cv2.imwrite(str(tmp_path / "b.jpg"), np.zeros((48, 64, 3), np.uint8))
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "text.jpg").write_text("not an image")
    (bad / "empty.jpg").write_bytes(b"")
    return tmp_path


def predict(*arguments):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def test_json_is_the_documented_format(folder):
    result = predict(folder / "a.png", folder / "b.jpg", "--json", folder / "out" / "poses.json")
    assert result.exit_code == 0, result.output
    first, second = json.loads((folder / "out" / "poses.json").read_text())
    assert set(first) == {"image", "width", "height", "hands"}
    assert (first["image"], first["width"], first["height"]) == ("a.png", 64, 48)
    assert second == {"image": "b.jpg", "width": 64, "height": 48, "hands": []}
    (hand,) = first["hands"]
    assert set(hand) == HAND_FIELDS
    assert hand["side"] == "right" and hand["keypoints"] is None
    assert (hand["scale_source"], hand["scale"], hand["position_stddev"]) == ("none", 0.0, None)
    page = (Path(__file__).parents[2] / "docs/python.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in page.split("key of `--json`")[1].split("\n\n")[0].splitlines()[2:]]
    fields, keys = (re.findall(r"`(\w+)`", "".join(column)) for column in zip(*rows, strict=True))
    assert sorted(keys) == sorted({*hand, "track_id"})
    assert set(fields) == {*HandPose.__dataclass_fields__, "rotation_camera_wrist"}
    shapes = {"keypoints_2d": (21, 2), "keypoint_scores": (21,), "keypoints_relative": (21, 3), "viewpoint": (3, 3)}
    for name, shape in {**shapes, "canonical": (21, 3), "roi": (4,)}.items():
        assert np.array(hand[name]).shape == shape
    relative = np.array(hand["keypoints_relative"])
    np.testing.assert_array_equal(relative[0], 0)
    assert np.linalg.norm(relative[6] - relative[5]) == pytest.approx(1)
    np.testing.assert_allclose(np.array(hand["canonical"]) @ np.array(hand["viewpoint"]).T, relative, atol=1e-12)


def test_folders_and_patterns_and_the_terminal(folder):
    for source in (folder, folder / "*.*", folder / "[ab].*"):
        result = CliRunner().invoke(main, ["predict", str(source), "--json", "-"])
        assert [entry["image"] for entry in json.loads(result.stdout)] == ["a.png", "b.jpg"]
    lines = predict(folder).stdout.splitlines()
    assert lines[0].startswith("a.png: right 0.80 at") and lines[1] == "b.jpg: no hand"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bad/text.jpg", "not an image"),
        ("bad/empty.jpg", "not an image"),
        ("nowhere.png", "No such file"),
        ("*.gif", "no file matches"),
        ("nowhere.mp4", "No such file"),
    ],
)
def test_an_unusable_input_is_an_entry_a_line_and_status_1(folder, name, words):
    result = predict(folder / name, folder / "a.png", "--json", folder / "out.json")
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1 and words in result.stderr
    entries = json.loads((folder / "out.json").read_text())
    failed = [entry for entry in entries if "error" in entry]
    assert len(entries) == 2 and len(failed) == 1
    assert set(failed[0]) == {"image", "error"} and words in failed[0]["error"]


def test_an_empty_folder_and_a_broken_video_are_named(folder):
    (folder / "none").mkdir()
    (folder / "broken.mp4").write_bytes(b"0" * 100)
    assert "holds no image" in predict(folder / "none").stderr
    result = predict(folder / "broken.mp4")
    assert result.exit_code == 1 and "not a video" in result.stderr


def test_bad_options_end_with_one_sentence(folder):
    for arguments in (
        ["--json", folder / "a.png" / "out.json"],
        ["--device", "cuda:9"],
        ["--camera", folder / "a.png"],
        ["--camera", folder / "none.yaml"],
    ):
        result = predict(folder / "a.png", *arguments)
        assert result.exit_code == 1 and len(result.stderr.strip().splitlines()) == 1, result.output
        assert "Traceback" not in result.output
    result = predict(folder / "a.png", "--json", "")
    assert result.exit_code == 2 and "'--json': the name is empty" in result.stderr


def test_same_names_in_two_folders_stay_apart(folder):
    (folder / "more").mkdir()
    (folder / "more/a.png").write_bytes((folder / "a.png").read_bytes())
    paths = [folder / "a.png", folder / "more/a.png", folder / "a.png"]
    result = predict(*paths, "--json", folder / "o.json", "--overlay", folder / "o")
    assert result.exit_code == 0
    assert [entry["image"] for entry in json.loads((folder / "o.json").read_text())] == [str(p) for p in paths[:2]]
    assert len(list((folder / "o").iterdir())) == 2


def test_camera_side_and_options_reach_the_estimator(folder, fake_estimator):
    (folder / "k.yaml").write_text(CAMERA)
    out = folder / "o.json"
    result = predict(folder / "a.png", "--camera", folder / "k.yaml", "--side", "left", "--max-hands", 3, "--json", out)
    assert result.exit_code == 0, result.output
    (hand,) = json.loads(out.read_text())[0]["hands"]
    assert hand["side"] == "left" and np.array(hand["keypoints"]).shape == (21, 3)
    assert (hand["scale_source"], hand["scale"], hand["position_stddev"]) == ("assumed", 0.04, 0.05)
    (estimator,) = fake_estimator.made
    assert estimator.options["max_hands"] == 3 and not estimator.tracking
    assert estimator.calls[0][1].fx == 60


def test_a_camera_of_another_size_is_refused(folder):
    (folder / "k.yaml").write_text(CAMERA.replace("image_width: 64", "image_width: 640"))
    result = predict(folder / "a.png", "--camera", folder / "k.yaml")
    assert result.exit_code == 1 and "calibrated for 640x48" in result.stderr


def test_a_camera_of_another_size_and_the_same_shape_is_scaled(folder, fake_estimator):
    (folder / "k.yaml").write_text(CAMERA.replace("width: 64", "width: 128").replace("height: 48", "height: 96"))
    assert predict(folder / "a.png", "--camera", folder / "k.yaml").exit_code == 0


def test_no_overlay_takes_the_place_of_an_input_or_another_overlay(folder):
    before = (folder / "a.png").read_bytes()
    result = predict(folder / "a.png", "--overlay", folder)
    assert result.exit_code == 0 and "a-2.png" in result.stderr
    assert (folder / "a.png").read_bytes() == before
    (folder / "a.jpg").write_bytes((folder / "b.jpg").read_bytes())
    result = predict(folder / "a.png", folder / "a.jpg", "--overlay", folder / "o")
    assert sorted(p.name for p in (folder / "o").iterdir()) == ["a-2.png", "a.png"] and "a-2.png" in result.stderr
    again = predict(folder / "a.png", "--overlay", folder / "o")
    assert again.stderr == "" and len(list((folder / "o").iterdir())) == 2


def test_json_takes_the_place_of_its_earlier_self_only(folder):
    out = folder / "o.json"
    for _ in range(2):
        assert predict(folder / "a.png", "--json", out).exit_code == 0
    for target in (folder / "a.png", folder / "bad" / "text.jpg"):
        before = target.read_bytes()
        result = predict(folder / "a.png", "--json", target)
        assert result.exit_code == 1 and len(result.stderr.strip().splitlines()) == 1
        assert target.read_bytes() == before
    for more in ('"keypoints": []', '"width": 640, "height": 480, "labels": []'):  # the user's
        out.write_text(f'[{{"image": "a.png", {more}}}]')
        assert "not an earlier result" in predict(folder / "a.png", "--json", out).stderr


def test_overlays_that_cannot_be_written_are_refused_before_any_result(folder):
    result = predict(folder / "a.png", "--overlay", "/proc/new", "--json", folder / "o.json")
    assert result.exit_code == 1 and "cannot write into /proc" in result.stderr
    assert not list(folder.glob("o.json*"))


def test_a_bad_setting_is_said_once_before_any_result_is_touched(folder, monkeypatch):
    from hand_pose_3d.errors import DeviceError

    def refuse(**settings):
        raise DeviceError("precision 'float16' needs a GPU")

    earlier, overlay = folder / "poses.json", folder / "overlay"
    assert predict(folder / "a.png", "--json", earlier).exit_code == 0
    content = earlier.read_bytes()
    monkeypatch.setattr(sys.modules["hand_pose_3d.estimator"], "HandPoseEstimator", refuse)
    result = predict(folder / "a.png", folder / "b.jpg", "--json", earlier, "--overlay", overlay)
    assert result.exit_code == 1 and result.output.count("needs a GPU") == 1 and ".png" not in result.output
    assert earlier.read_bytes() == content and not overlay.exists()
    result = predict(folder / "a.png", "--json", earlier, "--score-threshold", "nan")
    assert result.exit_code == 2 and "nan is not a finite number" in result.output


def test_what_was_found_stays_when_the_user_interrupts(folder, fake_estimator, monkeypatch):
    def interrupted(self, image, **_):
        if self.calls:
            raise KeyboardInterrupt
        self.calls.append(image)
        return []

    monkeypatch.setattr(fake_estimator, "__call__", interrupted)
    result = predict(folder / "a.png", folder / "b.jpg", "--json", folder / "o.json")
    assert result.exit_code == 130 and "o.json.part" in result.stderr
    assert [e["image"] for e in json.loads((folder / "o.json.part").read_text())] == ["a.png"]
    assert not (folder / "o.json").exists()


def test_names_begin_with_home_wherever_they_stand(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    result = predict("~/a.pn[g]", "--overlay", "~/o", "--json", "~/o.json")
    assert result.exit_code == 0, result.output
    assert (folder / "o" / "a.png").is_file() and len(json.loads((folder / "o.json").read_text())) == 1


def test_names_that_are_not_utf_8_are_answered(folder):
    odd = folder / os.fsdecode(b"caf\xe9.png")
    odd.write_bytes((folder / "a.png").read_bytes())
    result = predict(odd, "--json", folder / "o.json", "--overlay", folder / "o")
    assert result.exit_code == 0, result.output
    (entry,) = json.loads((folder / "o.json").read_text())
    assert os.fsencode(entry["image"]) == b"caf\xe9.png"
    assert os.listdir(os.fsencode(folder / "o")) == [b"caf\xe9.png"]
    assert predict(odd).stdout.startswith("caf\\udce9.png: right")


def test_a_damaged_frame_is_an_entry_and_the_others_are_answered(folder):
    starts = mjpeg(folder / "a.avi", 8)
    data = bytearray((folder / "a.avi").read_bytes())
    data[starts[3] : starts[3] + 300] = bytes(300)
    (folder / "a.avi").write_bytes(data)
    result = predict(folder / "a.avi", "--json", folder / "o.json")
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1 and "1 damaged" in result.stderr
    entries = json.loads((folder / "o.json").read_text())
    assert [entry["frame"] for entry in entries] == list(range(8))
    # FFmpeg decodes several frames at once, so that it may notice an error a few frames early.
    assert len([entry for entry in entries if "error" in entry]) == 1


def test_a_video_that_ends_early_is_told(folder):
    starts = mjpeg(folder / "a.avi", 30)
    (folder / "a.avi").write_bytes((folder / "a.avi").read_bytes()[: starts[20]])
    result = predict(folder / "a.avi", "--json", folder / "o.json")
    assert result.exit_code == 1
    assert re.fullmatch(r"Error: .*a\.avi ends after \d+ of the 30 frames that it announces.*\n", result.stderr)
    entries = json.loads((folder / "o.json").read_text())
    assert entries[-1]["error"].startswith("ends after") and not any("error" in entry for entry in entries[:-1])


def test_overlays_of_small_images_are_enlarged(folder):
    assert predict(folder / "a.png", "--overlay", folder / "drawn").exit_code == 0
    drawn = cv2.imread(str(folder / "drawn/a.png"))
    assert drawn.shape == (384, 512, 3)
    plain = cv2.resize(cv2.imread(str(folder / "a.png")), None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    assert (drawn != plain).any(axis=-1).mean() > 0.02


def test_videos_are_followed_frame_by_frame(folder, fake_estimator):
    writer = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    assert writer.isOpened()
    for level in (50, 100, 150):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    result = predict(folder / "clip.avi", "--json", folder / "o.json", "--overlay", folder / "drawn")
    assert result.exit_code == 0, result.output
    entries = json.loads((folder / "o.json").read_text())
    assert [(entry["image"], entry["frame"]) for entry in entries] == [
        ("clip.avi", 0),
        ("clip.avi", 1),
        ("clip.avi", 2),
    ]
    assert all(hand["track_id"] == 1 for entry in entries for hand in entry["hands"])
    (estimator,) = fake_estimator.made
    assert estimator.tracking and estimator.resets == 1
    np.testing.assert_allclose([call[2] for call in estimator.calls], [0, 0.1, 0.2])
    capture = cv2.VideoCapture(str(folder / "drawn/clip.mp4"))
    assert capture.isOpened() and capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_where_metres_come_from_is_said_to_the_estimator(folder, fake_estimator):
    result = predict(folder / "a.png", "--scale-source", "calibrated", "--reference-length", "0.045")
    assert result.exit_code == 0
    (estimator,) = fake_estimator.made
    assert estimator.options["scale_source"] == "calibrated" and estimator.options["reference_length"] == 0.045
    for source in ("banana", "depth"):  # predict reads no depth images
        refused = predict(folder / "a.png", "--scale-source", source)
        assert refused.exit_code == 2 and "'auto', 'none', 'assumed', 'calibrated'." in refused.output


def test_what_was_written_is_said_but_not_into_it(folder):
    assert predict(folder / "a.png", "--json", folder / "o.json").output == f"wrote {folder / 'o.json'}\n"
    assert "wrote" not in predict(folder / "a.png", "--json", "/dev/null").output


def test_options_about_metres_without_a_camera_are_told(folder):
    (folder / "c.yaml").write_text(CAMERA)
    told = predict(folder / "a.png", "--reference-length", 0.05, "--scale-source", "calibrated", "--hand-side", "left")
    assert told.exit_code == 0
    assert "--scale-source and --reference-length: without a calibrated camera there are no metres" in told.stderr
    for more in ([], ["--reference-length", 0.05, "--camera", folder / "c.yaml"]):
        assert "metres" not in predict(folder / "a.png", *more).stderr


def test_a_terminated_command_closes_its_files(tmp_path):
    command = [sys.executable, "-m", "hand_pose_3d.cli", "predict", str(CLIP), "--overlay", "over", "--json", "a.json"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    part, begin = tmp_path / "a.json.part", time.monotonic()
    while not part.exists() or part.read_text().count("\n") < 5:
        assert process.poll() is None and time.monotonic() < begin + 60
        time.sleep(0.01)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143 and "so far is in" in said and "Traceback" not in said
    assert re.search(r"the overlay of .*clip.mp4 ends with its frame \d", said)
    assert os.listdir(tmp_path / "over") == [CLIP.name]
    assert sum(1 for _ in Video(tmp_path / "over" / CLIP.name)) >= 4 and len(json.loads(part.read_text())) >= 4
