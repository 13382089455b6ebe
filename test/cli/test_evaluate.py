"""hand_pose_3d evaluate, on a folder of photographs and on RHD's layout."""

import json
import pickle

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from hand_pose_3d.cli import main
from hand_pose_3d.errors import InvalidInputError


def evaluate(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


@pytest.fixture
def photographs(tmp_path, fake_estimator):
    """Three images; the fake estimator's own answer, moved by 2 px, is the label; it misses the black one."""
    truth = fake_estimator()(np.ones((100, 80, 3), np.uint8))[0]
    samples = []
    for index, level in enumerate((90, 160, 0)):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((100, 80, 3), level, np.uint8))
        points = (truth.keypoints_px + [2, 0]).tolist()
        metric = (0.04 * truth.keypoints_relative + [0, 0, 0.5]).tolist()
        samples.append({"image": f"{index}.png", "side": "right", "keypoints_2d": points, "keypoints": metric})
    (tmp_path / "keypoints.json").write_text(json.dumps({"samples": samples}))
    return tmp_path


def test_photographs(photographs):
    pytest.importorskip("matplotlib")
    out = photographs / "out"
    arguments = ["--json", out / "f.json", "--plot", out / "p.png", "--worst", out / "worst", "--upscale", 200]
    result = evaluate("--dataset", "keypoints", "--root", photographs, *arguments)
    assert result.exit_code == 0, result.output
    assert "side correct" in result.output and "AUC 0-50 mm" in result.output
    content = json.loads((out / "f.json").read_text())
    assert content["figures"]["detection"]["answered"] == pytest.approx(2 / 3)
    assert content["figures"]["2d"]["found_mean_px"] == pytest.approx(2, abs=0.3)
    assert content["figures"]["3d_root_scale"]["found_pooled_mean"] == pytest.approx(0, abs=1e-6)
    assert [entry["error_px"] is None for entry in content["images"]] == [False, False, True]
    assert cv2.imread(str(out / "p.png")) is not None
    worst = sorted(path.name for path in (out / "worst").iterdir())
    assert len(worst) == 3 and worst[0].startswith("00_missed_2")


def test_limit_counts_images_and_keeps_all_of_their_hands(photographs):
    content = json.loads((photographs / "keypoints.json").read_text())
    content["samples"][1] = {**content["samples"][0]}
    (photographs / "keypoints.json").write_text(json.dumps(content))
    out = photographs / "f.json"
    assert evaluate("--dataset", "keypoints", "--root", photographs, "--limit", 1, "--json", out).exit_code == 0
    report = json.loads(out.read_text())
    assert [item["image"] for item in report["images"]] == ["0.png", "0.png"]
    assert report["figures"]["detection"]["other_hands_per_image"] == 0


def test_the_json_says_how_it_was_made(photographs):
    out = photographs / "f.json"
    named = ("--limit", 2, "--search", "fast", "--precision", "float32", "--weights", photographs)
    assert evaluate("--dataset", "keypoints", "--root", photographs, *named, "--json", out).exit_code == 0
    options = json.loads(out.read_text())["options"]
    assert options["score_threshold"] == 0.1 and options["limit"] == 2 and options["weights"] == str(photographs)
    assert (options["search"], options["precision"], options["upscale_px"]) == ("fast", "float32", 0)
    assert (options["backend"], options["keypoints"]) == ("onnxruntime", "fast")  # what auto chose
    assert not {"split", "keypoint0", "json_path", "root"} & set(options)


def test_limit_spreads_over_the_set(photographs):
    result = evaluate("--dataset", "keypoints", "--root", photographs, "--limit", 1, "--json", photographs / "f.json")
    assert result.exit_code == 0, result.output
    assert len(json.loads((photographs / "f.json").read_text())["images"]) == 1


def test_errors_name_the_image(photographs, fake_estimator, monkeypatch):
    def refuse(*arguments, **more):
        raise InvalidInputError("it is too small")

    monkeypatch.setattr(fake_estimator, "__call__", refuse)
    result = evaluate("--dataset", "keypoints", "--root", photographs)
    assert result.exit_code == 1 and result.output == f"Error: {photographs / '0.png'}: it is too small\n"


def test_an_image_of_another_size_than_its_label_says_is_named(photographs):
    content = json.loads((photographs / "keypoints.json").read_text())
    content["samples"][1] |= {"width": 40, "height": 50}
    (photographs / "keypoints.json").write_text(json.dumps(content))
    result = evaluate("--dataset", "keypoints", "--root", photographs)
    assert result.exit_code == 1 and "1.png has 80x100 pixels, its label says 40x50" in result.output


def test_overlays_of_images_with_long_names(photographs):
    name = "x" * 240 + ".png"
    (photographs / "2.png").rename(photographs / name)
    content = json.loads((photographs / "keypoints.json").read_text())
    content["samples"][2]["image"] = name
    (photographs / "keypoints.json").write_text(json.dumps(content))
    result = evaluate("--dataset", "keypoints", "--root", photographs, "--worst", photographs / "worst")
    assert result.exit_code == 0 and len(list((photographs / "worst").iterdir())) == 3, result.output


class Family:
    """A pose network that always answers with the middle of the crop."""

    upright, crop_size, fine_size, crop_margin, border = True, 64, 64, 1.3, 0

    def read(self, crops, sides):
        from types import SimpleNamespace

        assert crops.shape[1:] == (64, 64, 3) or crops.shape[1:] == (256, 256, 3)
        return [SimpleNamespace(uv=np.full((21, 2), (crops.shape[1] - 1) / 2))] * len(crops)


def test_rhd_prints_the_papers_protocols(tmp_path, fake_estimator, monkeypatch):
    monkeypatch.setattr(fake_estimator, "family", Family(), raising=False)
    rng = np.random.default_rng(8)
    for kind in ("color", "mask"):
        (tmp_path / "evaluation" / kind).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / f"evaluation/{kind}/00000.png"), np.full((320, 320, 3), 20, np.uint8))
    k = np.array([[300.0, 0, 160], [0, 300, 160], [0, 0, 1]])
    xyz = rng.uniform([-0.1, -0.1, 0.5], [0.1, 0.1, 0.6], (42, 3))
    uv = (xyz @ k.T)[:, :2] / xyz[:, 2:]
    labels = {0: {"uv_vis": np.column_stack([uv, np.ones(42)]), "xyz": xyz, "K": k}}
    (tmp_path / "evaluation/anno_evaluation.pickle").write_bytes(pickle.dumps(labels))
    for keypoint0 in ("label", "palm", "mistake"):
        result = evaluate("--dataset", "rhd", "--root", tmp_path, "--keypoint-0", keypoint0)
        assert result.exit_code == 0, result.output
        expected = (
            "2D, true crops  ",
            "2D, true crops (authors)",
            "240x320",
            "0.724",
            "28.69",
            "given side",
            "camera frame",
            "one or two folded",
        )
        for text in expected:
            assert text in result.output
        own, authors = (part.splitlines() for part in result.output.split("2D, true crops")[1:3])
        assert len([line for line in own if "Zimmermann" in line]) == 0  # turned crops, which the paper has not
        assert any("Zimmermann" in line and "0.724" in line for line in authors[:4])
        given = evaluate("--dataset", "rhd", "--root", tmp_path, "--side", "left")
        assert given.exit_code == 0 and "given side" not in given.output


@pytest.mark.parametrize("dataset", ["rhd", "stb", "dexter", "freihand", "keypoints", "boxes"])
def test_an_empty_folder_says_what_is_missing(tmp_path, fake_estimator, dataset):
    result = evaluate("--dataset", dataset, "--root", tmp_path)
    assert result.exit_code == 1
    assert len(result.output.strip().splitlines()) == 1 and "Traceback" not in result.output
    assert not fake_estimator.made  # named before any network is loaded


@pytest.mark.parametrize("option", ["--json", "--plot", "--sheet", "--worst"])
def test_what_cannot_be_written_is_said_before_the_work(tmp_path, fake_estimator, option):
    target = "/proc/new/a" if option == "--worst" else f"/proc/new/a{'.json' if option == '--json' else '.png'}"
    result = evaluate("--dataset", "keypoints", "--root", tmp_path, option, target)
    assert result.exit_code == 1 and "cannot write into /proc" in result.output
    assert not fake_estimator.made
