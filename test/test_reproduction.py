"""hand_pose_3d reproduce from renders to report, with networks of a sixteenth of their width."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from hand_pose_3d import reproduction
from hand_pose_3d.cli import main
from hand_pose_3d.datasets.rhd import SPLITS, annotation_name
from hand_pose_3d.errors import HandPoseError, InvalidInputError
from hand_pose_3d.estimator import HandPoseEstimator
from hand_pose_3d.networks import hand_seg_net, pose_net
from hand_pose_3d.networks.layers import Conv
from hand_pose_3d.networks.lifting import LIFTINGS
from hand_pose_3d.reproduction import reproduce
from hand_pose_3d.reproduction_config import LEAST_HELD_OUT, SHARES, ReproductionConfig
from hand_pose_3d.training import handsegnet, lifting, paper, posenet, stages
from hand_pose_3d.weights import default_weights, read_weights

pytest.importorskip("anny")
pytest.importorskip("matplotlib")


def thin(table):
    """A layer table with a sixteenth of the channels; outputs stay."""
    return tuple(
        row._replace(channels=row.channels // 16) if isinstance(row, Conv) and row.relu else row for row in table
    )


@pytest.fixture
def toy(monkeypatch):
    """Networks, windows and batches so small that a CPU trains each in a few seconds."""
    monkeypatch.setattr(hand_seg_net, "LAYERS", thin(hand_seg_net.LAYERS))
    for name in ("ENCODING", "STAGE_0", "STAGE_1", "STAGE_2"):
        monkeypatch.setattr(pose_net, name, thin(getattr(pose_net, name)))
    for stage in (paper.PaperSegmentationStage, paper.PaperPoseStage, paper.PaperLiftingStage):
        monkeypatch.setitem(stage.defaults, "batch", 2)
    monkeypatch.setattr(stages, "PaperSegmentationStage", partial(paper.PaperSegmentationStage, window=64))
    monkeypatch.setattr(stages, "PaperPoseStage", partial(paper.PaperPoseStage, size=64))


def command(*arguments):
    return CliRunner().invoke(main, ["reproduce", *map(str, arguments)], catch_exceptions=False)


def test_one_command_from_renders_to_report(tmp_path, toy, monkeypatch):
    out = tmp_path / "all"
    arguments = ("--out", out, "--frames", 8, "--minutes", 0.2, "--device", "cpu", "--seed", 3)
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    state = json.loads((out / "reproduction.json").read_text())
    assert state["settings"]["seed"] == 3
    assert list(state["results"]) == list(SHARES["paper"])
    assert {split: facts["frames"] for split, facts in state["results"]["data"].items()} == {
        "training": 8,
        "evaluation": LEAST_HELD_OUT,
    }
    text = (out / "REPORT.md").read_text()
    made = {split: facts["actions"] for split, facts in state["results"]["data"].items()}
    assert made["training"] <= 31 and made["evaluation"] <= 8
    actions = f"in {made['training']} and {made['evaluation']} actions (the paper: 31 and 8)"
    for expected in (
        actions,
        "41,258",
        "2D, true crops",
        "240x320",
        "0.724",
        "3D, true root and scale",
        "28.69",
        "0.424",
    ):
        assert expected in text
    assert all(f"| {name} |" in text for name in LIFTINGS)
    assert (out / "pck.png").read_bytes().startswith(b"\x89PNG")
    weights = sorted(path.name for path in (out / "weights").iterdir())
    assert weights == ["paper-handsegnet.safetensors", "paper-lifting.safetensors", "paper-posenet.safetensors"]
    estimator = HandPoseEstimator(model="paper", weights=out / "weights", device="cpu")
    assert isinstance(estimator(np.zeros((240, 320, 3), np.uint8)), list)
    exported = CliRunner().invoke(
        main, ["export", "--model", "paper", "--weights", str(out / "weights"), "--out", str(tmp_path / "onnx")]
    )
    assert exported.exit_code == 0 and exported.output.count("equal to PyTorch") == 5, exported.output

    (out / "REPORT.md").unlink()
    monkeypatch.setattr(reproduction._Reproduction, "do", None)  # everything is done, so that nothing is again
    assert command(*arguments).exit_code == 0
    assert (out / "REPORT.md").read_text() == text
    state["results"]["scores"] = {"predictions": 412.0, "right": 0.58, "hand_calibration_error": 0.021}
    (out / "reproduction.json").write_text(json.dumps(state))
    assert command(*arguments).exit_code == 0
    assert "412 predictions on held-out frames, 58% of them right" in (out / "REPORT.md").read_text()
    refused = command(*arguments, "--assets", tmp_path)
    assert refused.exit_code == 1 and "'assets': None" in refused.output
    refused = command(*arguments[:4], "--minutes", 5)
    assert refused.exit_code == 1 and "'minutes': 0.2" in refused.output and "--out" in refused.output


def test_the_lite_family_goes_on_from_the_shipped_weights(tmp_path, monkeypatch):
    for stage in (handsegnet.LiteSegmentationStage, posenet.LitePoseStage, lifting.LiftingStage):
        monkeypatch.setitem(stage.defaults, "batch", 2)
    out = tmp_path / "lite"
    arguments = ("--out", out, "--model", "lite", "--frames", 16, "--minutes", 0.2, "--device", "cpu")
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    text = (out / "REPORT.md").read_text()
    assert "shipped weights" in text and "## Scores of hands" in text
    assert "Images a step, highest learning rate, and arithmetic: handsegnet 2 at " in text
    for name in ("handsegnet", "posenet", "lifting"):
        trained, metadata = read_weights(out / "weights" / f"lite-{name}.safetensors")
        shipped, _ = read_weights(default_weights(f"lite-{name}"))
        assert int(metadata["images_seen"]) >= 2 and metadata["licence"] == "Apache-2.0"
        assert any(not torch.equal(trained[key], shipped[key]) for key in shipped)
        change = max(
            float((trained[key].float() - shipped[key].float()).abs().max()) for key in shipped if "calib" not in key
        )
        assert change < 0.3  # some steps away


def test_it_goes_on_where_training_was_interrupted(tmp_path, toy, monkeypatch):
    """With data that are there, taken as they are; the interrupted stage keeps its images."""
    done = []

    class Interrupted(reproduction._Reproduction):
        def _train(self, step, seconds):
            done.append(step)
            if len(done) == 2:
                raise KeyboardInterrupt
            return {"images": 2, "of": 4, "figures": {"renders_median_mm": 1.0, "renders_mean_mm": 1.0}}

        def _calibrate(self, seconds):
            return {}

        def _evaluate(self, seconds):
            return {"hands": 1, "figures": {}, "tables": [], "machine": {"gpu": None, "cpu": "a CPU", "cores": 2}}

    monkeypatch.setattr(reproduction, "_Reproduction", Interrupted)
    data = tmp_path / "rhd"
    for split in SPLITS:
        (data / split).mkdir(parents=True)
        (data / split / annotation_name(split)).touch()
    config = ReproductionConfig(tmp_path / "out", data=(data,), device="cpu", minutes=60)
    with pytest.raises(KeyboardInterrupt):
        reproduce(config, print)
    reproduce(config, print)
    names = list(SHARES["paper"])[1:-2]
    assert done == [names[0], names[1], *names[1:]]
    state = json.loads((tmp_path / "out" / "reproduction.json").read_text())
    assert state["limits"]["handsegnet"] == pytest.approx(3600 * 22 / 71.5)  # its share of all but the rendering
    assert state["limits"]["posenet"] == pytest.approx(3600 * 28 / 49.5, rel=1e-3)  # what was left over is shared
    assert str(data) in (tmp_path / "out" / "REPORT.md").read_text()


def test_time_of_a_process_that_was_killed_counts(tmp_path):
    data = tmp_path / "rhd"
    for split in SPLITS:
        (data / split).mkdir(parents=True)
        (data / split / annotation_name(split)).touch()
    config = ReproductionConfig(tmp_path / "out", data=(data,), device="cpu", minutes=60)
    begun = reproduction._Reproduction(config, "cpu", 0, print)
    with begun._clock("handsegnet") as seconds:
        limit = json.loads((config.out / "reproduction.json").read_text())["limits"]["handsegnet"]
        assert limit == pytest.approx(seconds)
        run = config.out / "runs" / "handsegnet"
        run.mkdir(parents=True)
        torch.save({"seen": 8, "seconds": 0.9 * limit}, run / "checkpoint.pt")
        killed = reproduction._Reproduction(config, "cpu", 0, print)  # reads what is there at this moment
    with killed._clock("handsegnet") as left:
        assert left == pytest.approx(0.1 * limit)
    assert killed.state["seconds"]["handsegnet"] >= 0.9 * limit


def test_nothing_is_begun_that_would_not_fit(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(HandPoseError, match="GB are free"):
        reproduce(ReproductionConfig(tmp_path / "out", device="cpu"), print)
    assert not any((tmp_path / "out").iterdir())

    data = tmp_path / "data"  # packs of existing images lie beside them
    for split in ("training", "evaluation"):
        (data / split / "color").mkdir(parents=True)
        (data / split / f"anno_{split}.pickle").touch()
    for number in range(700):
        (data / "training" / "color" / f"{number}.png").touch()
    with pytest.raises(HandPoseError, match=f"^packs of the images need about .* GB are free at {data}"):
        reproduce(ReproductionConfig(tmp_path / "out", "lite", data=(data,), device="cpu"), print)
    assert not any((tmp_path / "out").iterdir())


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InvalidInputError, match="something other"):
        reproduce(ReproductionConfig(tmp_path, device="cpu"), print)


def test_data_that_are_not_there_leave_the_folder_as_it_was(tmp_path):
    with pytest.raises(InvalidInputError, match="not a complete RHD"):
        reproduce(ReproductionConfig(tmp_path / "out", data=(tmp_path / "none",), device="cpu"), print)
    assert not (tmp_path / "out" / "reproduction.json").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "heavy"},
        {"minutes": 0},
        {"frames": 0},
        {"frames": 3, "data": (Path("x"),)},
        {"assets": Path("y"), "data": (Path("x"),)},
    ],
)
def test_settings_say_what_is_allowed(tmp_path, wrong):
    with pytest.raises(InvalidInputError):
        ReproductionConfig(tmp_path, **wrong)
