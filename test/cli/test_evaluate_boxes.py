"""hand_pose_3d evaluate --dataset boxes."""

import json
import sys
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from hand_pose_3d.cli import main


def evaluate(*arguments):
    return CliRunner().invoke(main, ["evaluate", "--dataset", "boxes", *map(str, arguments)])


@pytest.fixture
def root(tmp_path, fake_estimator):
    """Four images of 100x80, all but the last not black; the fake's box is that of the first image's hand.

    The second image's hand is in a corner, the third and the black one have none.
    """
    (tmp_path / "images").mkdir()
    images = []
    hit, corner = {"box": [20, 24, 60, 48], "side": "right"}, {"box": [0, 0, 8, 8], "gloved": True}
    for index, (level, hands) in enumerate(((90, [hit]), (160, [corner]), (60, []), (0, []))):
        cv2.imwrite(str(tmp_path / f"images/{index}.png"), np.full((80, 100, 3), level, np.uint8))
        images.append({"file": f"images/{index}.png", "width": 100, "height": 80, "hands": hands})
    (tmp_path / "boxes.json").write_text(json.dumps({"images": images}))
    return tmp_path


@pytest.mark.parametrize("option, name", [("--plot", "p.jpg"), ("--plot", "p.xyz"), ("--sheet", "s.xyz")])
def test_a_picture_that_cannot_be_written_is_refused_before_the_work(tmp_path, option, name):
    pytest.importorskip("matplotlib")
    result = evaluate("--root", tmp_path, option, tmp_path / name)  # there is nothing to evaluate
    assert result.exit_code == 1 and name.partition(".")[2] in result.output
    assert "boxes.json" not in result.output and not list(tmp_path.iterdir())


def test_metrics_curve_and_sheet(root, fake_estimator):
    pytest.importorskip("matplotlib")
    out = root / "out"
    result = evaluate(
        *("--root", root, "--score-threshold", 0.3, "--max-hands", 8, "--json", out / "f.json"),
        *("--plot", out / "p.png", "--sheet", out / "s.png"),
    )
    assert result.exit_code == 0, result.output
    (estimator,) = fake_estimator.made
    assert not estimator.tracking and estimator.options["score_threshold"] == 0.05
    assert "4 images, 2 hands" in result.output and "MediaPipe" not in result.output
    assert "50.0% (1/2)" in result.output and "33.3% (1/3)" in result.output and "100.0% (1/1)" in result.output
    content = json.loads((out / "f.json").read_text())
    # One score for all: precision 1/3 at recall 1/2.
    assert content["figures"]["average_precision"] == pytest.approx(1 / 6)
    assert content["figures"]["false_hands"]["without_hands"] == {"share": 0.5, "count": 1, "of": 2}
    assert [[p["outcome"] for p in entry["predictions"]] for entry in content["images"]] == [
        ["hit"],
        ["false"],
        ["false"],
        [],
    ]
    assert content["peer"] is None
    assert cv2.imread(str(out / "p.png")) is not None and cv2.imread(str(out / "s.png")) is not None


def test_the_threshold_is_that_of_the_metrics(root):
    result = evaluate("--root", root, "--score-threshold", 0.85, "--json", root / "f.json")
    assert result.exit_code == 0, result.output
    figures = json.loads((root / "f.json").read_text())["figures"]
    assert figures["recall"]["count"] == 0 and figures["average_precision"] == pytest.approx(1 / 6)


def test_a_peer_has_a_column_beside(root, fake_estimator, monkeypatch):
    pytest.importorskip("matplotlib")

    class Peer:
        model, device = "MediaPipe Hands", "cpu"

        def __init__(self, max_hands):
            self.hands = fake_estimator()

        def __call__(self, image, camera=None):
            return [hand.replace(score=0.01) for hand in self.hands(image)] if image.max() == 90 else []

    module: Any = ModuleType("hand_pose_3d.evaluation.mediapipe_hands")
    module.MediaPipeHands = Peer
    monkeypatch.setitem(sys.modules, module.__name__, module)
    result = evaluate(
        "--root",
        root,
        "--score-threshold",
        0.3,
        "--peer",
        "mediapipe",
        "--json",
        root / "f.json",
        "--plot",
        root / "p.png",
    )
    assert result.exit_code == 0, result.output
    rows = {line.split("  ")[0]: line.split() for line in result.output.splitlines() if line}
    assert rows["precision"] == ["precision", "33.3%", "(1/3)", "100.0%", "(1/1)"]
    assert rows["average precision"][-2:] == ["0.167", "-"]
    assert json.loads((root / "f.json").read_text())["peer"]["name"] == "MediaPipe Hands"


def test_hands_beyond_max_hands_are_told(root):
    assert "more than --max-hands" not in evaluate("--root", root).output
    content = json.loads((root / "boxes.json").read_text())
    content["images"][0]["hands"] *= 4
    (root / "boxes.json").write_text(json.dumps(content))
    assert "2 of the hands are more than --max-hands 2" in evaluate("--root", root).output


@pytest.mark.parametrize("option", [("--upscale", 320), ("--split", "training"), ("--worst", "x")])
def test_options_for_poses_are_refused(root, fake_estimator, option):
    result = evaluate("--root", root, *option)
    assert result.exit_code == 1 and result.output.splitlines() == [
        f"Error: {option[0]} has no meaning for --dataset boxes"
    ]
    assert not fake_estimator.made


@pytest.mark.parametrize("option", [("--split", "training"), ("--keypoint-0", "palm")])
def test_options_that_photographs_know_not_are_refused(root, fake_estimator, option):
    arguments = ["evaluate", "--dataset", "keypoints", "--root", str(root), *option]
    assert CliRunner().invoke(main, arguments).output == f"Error: {option[0]} has no meaning for --dataset keypoints\n"
    assert not fake_estimator.made


@pytest.mark.parametrize("dataset", ["stb", "dexter"])
def test_keypoint_0_has_one_meaning_where_palms_are_labelled(root, fake_estimator, dataset):
    arguments = ["evaluate", "--dataset", dataset, "--root", str(root), "--keypoint-0", "palm"]
    assert CliRunner().invoke(main, arguments).output == f"Error: --keypoint-0 has no meaning for --dataset {dataset}\n"
    assert not fake_estimator.made


def test_without_any_hand_there_is_no_average_precision(root):
    content = json.loads((root / "boxes.json").read_text())
    for image in content["images"]:
        image["hands"] = []
    (root / "boxes.json").write_text(json.dumps(content))
    result = evaluate("--root", root, "--json", root / "f.json", "--plot", root / "f.png")
    assert result.exit_code == 0, result.output
    assert json.loads((root / "f.json").read_text())["figures"]["average_precision"] is None


def test_a_sheet_is_for_boxes_only(root):
    arguments = ["evaluate", "--dataset", "keypoints", "--root", str(root), "--sheet", str(root / "s.png")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1 and "--sheet has no meaning for --dataset keypoints" in result.output


def test_a_sheet_that_cannot_be_written_is_one_line(root):
    result = evaluate("--root", root, "--sheet", root / "s.png", "--plot", root / "s.png")
    assert result.exit_code == 1 and "need a file each" in result.output
    result = evaluate("--root", root, "--sheet", root / "s.nothing")
    assert result.exit_code == 1 and result.output.splitlines()[-1].startswith("Error: cannot write the picture")


def test_help_states_the_format():
    output = CliRunner().invoke(main, ["evaluate", "--help"]).output
    assert '"box": [x, y, width, height]' in output and "boxes.json" in output
