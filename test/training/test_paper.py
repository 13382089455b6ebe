"""The paper's recipe: its maps and losses by hand, and each stage overfitting one batch at a reduced size."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from overfit import losses
from scene_maker import packed, scene

from hand_pose_3d.cli import train
from hand_pose_3d.datasets.sample import Sample
from hand_pose_3d.errors import InvalidInputError, WeightsError
from hand_pose_3d.networks import DirectLifting, HandSegNet, Lifting, PoseNet
from hand_pose_3d.networks.lifting import LIFTINGS, NearestNeighbourLifting
from hand_pose_3d.skeleton import MIDDLE_MCP, Side
from hand_pose_3d.training import stages
from hand_pose_3d.training.loop import LoopConfig, rate_factor
from hand_pose_3d.training.paper import (
    NO_AUGMENTATION,
    HandCrops,
    PaperAugmentation,
    PaperLiftingStage,
    PaperPoseStage,
    PaperSegmentationStage,
    label_maps,
    pose_loss,
    training_crop,
)
from hand_pose_3d.training.scenes import HAND
from hand_pose_3d.weights import read_weights, save_weights


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Six open hands as dots of their own colours, each in a picture of 320 x 320."""
    folder, rng, made = tmp_path_factory.mktemp("images"), np.random.default_rng(0), []
    for index in range(6):
        xyz = [np.zeros(3)]
        for finger in range(5):
            angle = np.deg2rad(-40 + 20 * finger + rng.normal(0, 5)) + 0.4 * index
            direction = np.array([np.sin(angle), -np.cos(angle), 0.2 * rng.normal()])
            xyz += [direction * length for length in (0.08, 0.12, 0.145, 0.165)]
        xyz_m = np.array(xyz) + [0, 0, 0.5]
        uv = xyz_m[:, :2] / xyz_m[:, 2:] * 250 + 160
        image = np.full((320, 320, 3), 30, np.uint8)
        for k, (u, v) in enumerate(uv.round().astype(int).tolist()):
            cv2.circle(image, (u, v), 2, (10 * k, 255 - 10 * k, 128), -1)
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), image)
        made.append(Sample(str(index), path, Side(1 + index % 2), uv, np.ones(21, bool), xyz_m))
    return made


def test_noise_of_crops_is_cut_off_at_two_deviations_as_the_authors() -> None:
    rng, uv = np.random.default_rng(0), np.zeros((21, 2))
    noisy = PaperAugmentation(center_px=0.0, offset_px=10.0)
    away = np.array([training_crop(uv, np.ones(21, bool), 256, noisy, rng).center for _ in range(2000)])
    assert np.abs(away).max() <= 20 and away.std() == pytest.approx(8.80, abs=0.2)


def test_images_smaller_than_the_window_are_said(tmp_path: Path) -> None:
    pack = packed(tmp_path, scene())
    with pytest.raises(InvalidInputError, match="are too small: HandSegNet is trained on windows of 4096 x 4096"):
        PaperSegmentationStage(HandSegNet(), [pack], pack, window=4096).draw(np.random.default_rng(0), 1)


def test_handsegnet_overfits_one_batch(tmp_path: Path) -> None:
    half = scene(background=(30, 60, 40))
    half.rgbc[160:] = [220, 160, 130, HAND]
    pack = packed(tmp_path, half, half)
    torch.manual_seed(0)
    stage = PaperSegmentationStage(HandSegNet(), [pack], pack, window=32)
    found = losses(stage, 10, 4, 3e-4, train=False)
    assert found[-1] < 0.6 * found[0]


def test_posenet_learns(samples: list[Sample]) -> None:
    """31 layers without normalisation: the paper's 30,000 steps are not to be had here, but the way down is."""
    torch.manual_seed(0)
    stage = PaperPoseStage(PoseNet(), samples, samples, size=32)
    found = losses(stage, 30, 1, 3e-4, train=False)
    assert found[-1] < 0.8 * found[0]


@pytest.mark.parametrize("approach", [name for name in LIFTINGS if name != "nearest-neighbour"])
def test_lifting_overfits_one_batch(samples: list[Sample], approach: str) -> None:
    torch.manual_seed(0)
    stage = PaperLiftingStage(LIFTINGS[approach](), samples, samples)
    before = stage.evaluate(stage.network)
    found = losses(stage, 40, 4, 2e-3, train=False)
    assert found[-1] < 0.6 * found[0]
    assert stage.evaluate(stage.network)["renders_mean_mm"] < before["renders_mean_mm"]


def test_nearest_neighbour_knows_its_library(samples: list[Sample]) -> None:
    """Asked for hands of its library it gives their poses: what is left is the maps' resolution, not millimetres."""
    stage = PaperLiftingStage(NearestNeighbourLifting(), samples, samples)
    assert stage.evaluate(stage.network)["renders_median_mm"] < 1e-3


def test_lifting_may_learn_from_the_maps_of_a_posenet(samples: list[Sample]) -> None:
    class Maps(PoseNet):
        def forward(self, crop):
            assert crop.shape == (2, 3, 256, 256) and abs(crop).max() <= 0.5
            return (crop[:, :1, ::8, ::8].expand(-1, 21, -1, -1),) * 3

    torch.manual_seed(0)
    stage = PaperLiftingStage(LIFTINGS["proposed"](), samples[:2], samples[:2], Maps())
    loss, _ = stage.loss(next(stage.batches(2, 0, 0)))
    loss.backward()
    assert np.isfinite(loss.item())
    assert np.isfinite(stage.evaluate(stage.network)["renders_mean_mm"])


def test_label_maps_are_the_papers() -> None:
    uv = torch.tensor([[[100.9, 50.2], [10.0, 10.0], [255.0, 9.0]]])
    maps = label_maps(uv, torch.tensor([[1.0, 0.0, 1.0]]), 256, 256)
    assert maps[0, 0, 50, 100] == 1  # whole pixels
    assert maps[0, 0, 50, 125].item() == pytest.approx(np.exp(-1))  # d = 25: sigma squared, not twice that
    assert not maps[0, 1].any() and not maps[0, 2].any()  # hidden, and on the edge
    pooled = torch.nn.functional.avg_pool2d(maps, 8)
    assert torch.allclose(label_maps(uv, torch.tensor([[1.0, 0.0, 1.0]]), 256, 32), pooled, atol=1e-6)


def test_pose_loss_is_the_mean_over_visible_keypoints_of_the_root_mean_square_summed_over_stages() -> None:
    target, visible = torch.zeros(1, 3, 16, 16), torch.tensor([[1.0, 1.0, 0.0]])
    maps = torch.tensor([2.0, 4.0, 100.0])[None, :, None, None].expand(1, 3, 2, 2)
    assert pose_loss([maps], target, visible).item() == pytest.approx(6 / 2.001)
    assert pose_loss([maps, maps / 2], target, visible).item() == pytest.approx(9 / 2.001)


def test_crops_hold_the_hand_around_the_middle_fingers_base(samples: list[Sample]) -> None:
    rng, hand = np.random.default_rng(0), samples[0]
    exact = training_crop(hand.keypoints_px, hand.visible, 256, NO_AUGMENTATION, rng)
    assert np.allclose(exact.center, hand.keypoints_px[MIDDLE_MCP])
    for _ in range(20):
        crop = training_crop(hand.keypoints_px, hand.visible, 256, PaperAugmentation(), rng)
        inside = crop.to_crop(hand.keypoints_px)
        assert (inside > -1).all() and (inside < 257).all()
        assert 25.6 <= crop.side <= 256


def test_labels_lie_on_their_pixels(samples: list[Sample]) -> None:
    images, uv, _ = HandCrops(samples, NO_AUGMENTATION)([1], np.random.default_rng(0))
    for k, (u, v) in enumerate(uv[0].round().int().tolist()):
        if 2 < u < 253 and 2 < v < 253:
            red = (images[0, 2, v, u].item() + 0.5) * 255  # written as BGR
            assert red == pytest.approx(10 * k, abs=25), k


def test_rates_fall_in_the_papers_steps() -> None:
    config = LoopConfig(**{**PaperPoseStage.defaults, "images": 30_000})
    assert [rate_factor(n, config) for n in (0, 9_999, 10_000, 19_999, 20_000)] == [1, 1, 0.1, 0.1, 0.01]
    assert (config.learning_rate, config.batch, config.weight_decay) == (1e-4, 8, 0)


def test_one_command_compares_all_approaches(samples: list[Sample], tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("matplotlib")
    assert set(train.APPROACHES) == set(LIFTINGS)
    monkeypatch.setattr(stages, "dominant_hands", lambda roots, split: samples)
    arguments = ["lifting", "--model", "paper", "--data", str(tmp_path), "--out", str(tmp_path), "--device", "cpu"]
    result = CliRunner().invoke(train.command, [*arguments, "--approach", "all", "--images", "16"])
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split()[1:] for line in result.output.splitlines() if line.split()[:1]}
    assert [name for name in rows if name in LIFTINGS] == list(train.APPROACHES)
    measured = json.loads((tmp_path / "approaches.json").read_text())
    proposed = measured["proposed"]["renders_median_mm"]
    for name, figures in measured.items():
        median, mean = figures["renders_median_mm"], figures["renders_mean_mm"]
        assert rows[name][:3] == [f"{median:.1f}", f"{median / proposed:.0%}", f"{mean:.1f}"]
    assert rows["direct"][3:] == ["20.8", "111%"] and rows["proposed"][3:] == ["18.8", "100%"]
    assert rows["nearest-neighbour"][3:] == ["-", "-"]
    theirs = tmp_path / "theirs" / "approaches.json"
    theirs.parent.mkdir()
    theirs.write_text('{"mine": 1}')
    elsewhere = [*arguments[:-3], str(theirs.parent), *arguments[-2:], "--approach", "all", "--images", "16"]
    refused = CliRunner().invoke(train.command, elsewhere)
    assert "not an earlier result" in str(refused.exception) and theirs.read_text() == '{"mine": 1}'
    assert [path.name for path in theirs.parent.iterdir()] == ["approaches.json"]
    with monkeypatch.context() as patched:
        patched.setattr(stages, "dominant_hands", lambda roots, split: pytest.fail("data are read"))
        for more in (["--approach", "direct", "--out", str(tmp_path / "proposed")], ["--out", str(tmp_path / "local")]):
            refused = CliRunner().invoke(train.command, [*arguments, *more, "--images", "16"])
            assert "is of another network; choose another --out" in str(refused.exception)
    refused = CliRunner().invoke(train.command, [*arguments, "--approach", "nearest-neighbour", "--images", "16"])
    assert refused.exit_code == 2 and "nearest-neighbour is not trained: leave --images out" in refused.output
    result = CliRunner().invoke(train.command, [*arguments, "--save-weights", str(tmp_path / "w"), "--images", "16"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "w" / "paper-lifting.safetensors").is_file()
    first = tmp_path / "w" / "paper-lifting.safetensors"

    again = [*arguments[:-3], str(tmp_path / "again"), *arguments[-2:], "--images", "8", "--learning-rate", "1e-30"]
    again += ["--from-weights", str(first), "--save-weights", str(tmp_path / "w2")]
    result = CliRunner().invoke(train.command, again)
    assert result.exit_code == 0, result.output
    (one, _), (other, _) = (read_weights(tmp_path / w / first.name) for w in ("w", "w2"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    for tensor in one.values():
        tensor += 1 if tensor.is_floating_point() else 0
    network = Lifting()
    network.load_state_dict(one)
    save_weights(tmp_path / "more.safetensors", network, {"family": "paper", "version": "1", "licence": "Apache-2.0"})
    result = CliRunner().invoke(train.command, [*again, "--mean-with", str(tmp_path / "more.safetensors")])
    assert result.exit_code == 0, result.output
    mean, _ = read_weights(tmp_path / "w2" / first.name)
    assert all(torch.allclose(mean[name].float(), other[name].float() + 0.5, atol=1e-2) for name in mean)
    wrong = tmp_path / "wrong.safetensors"
    save_weights(wrong, DirectLifting(), {"family": "paper", "version": "1", "licence": "Apache-2.0"})
    with monkeypatch.context() as patch:
        patch.setattr("hand_pose_3d.training.loop.run", None)  # nothing is trained before they are refused
        refused = CliRunner().invoke(train.command, [*again, "--mean-with", str(wrong)])
        assert isinstance(refused.exception, WeightsError) and "not of Lifting" in str(refused.exception)
        (tmp_path / "w3").mkdir()
        (tmp_path / "w3" / first.name).write_text("theirs")
        refused = CliRunner().invoke(train.command, [*again[:-1], str(tmp_path / "w3")])
        assert isinstance(refused.exception, WeightsError) and "not an earlier result" in str(refused.exception)
    save_weights(tmp_path / "theirs.safetensors", network, {"family": "paper", "version": "1", "licence": "research"})
    again[again.index(str(first))] = str(tmp_path / "theirs.safetensors")
    refused = CliRunner().invoke(train.command, again)
    assert isinstance(refused.exception, WeightsError) and "'research'" in str(refused.exception)
    assert np.float32(1e-40) / np.float32(2) > 0  # training flushes numbers so small to zero, but only while it runs


def test_an_approach_is_for_the_papers_lifting_only(tmp_path: Path) -> None:
    arguments = ["lifting", "--data", str(tmp_path), "--out", str(tmp_path), "--approach", "direct"]
    result = CliRunner().invoke(train.command, arguments)
    assert result.exit_code == 2 and "--model paper" in result.output
