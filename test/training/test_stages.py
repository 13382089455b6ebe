"""Each stage overfits one batch, and a run goes on where it stopped."""

from __future__ import annotations

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from overfit import losses

from hand_pose_3d.camera import Crop
from hand_pose_3d.cli import train
from hand_pose_3d.datasets.sample import Sample
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.estimator import HandPoseEstimator
from hand_pose_3d.hands import HandPose
from hand_pose_3d.images import CLIP, Video
from hand_pose_3d.networks import DirectLifting, Lifting, PoseNet
from hand_pose_3d.networks.lite import (
    LiteFinePoseNet,
    LiteHandSegNet,
    LiteLifting,
    LitePalmNet,
    LitePose,
    LitePoseNet,
    lifting_maps,
    soft_argmax,
)
from hand_pose_3d.networks.lite_runtime import CropReader
from hand_pose_3d.skeleton import Side
from hand_pose_3d.training import augment, data, fineposenet, score_calibration, stages
from hand_pose_3d.training.crops import PACK_SIZE, CropPack, flip, load_pack, pack
from hand_pose_3d.training.fineposenet import LiteFinePoseStage, points_of, towards
from hand_pose_3d.training.lifting import LiftingSampler, LiftingStage
from hand_pose_3d.training.loop import LoopConfig, Mixture, rate_factor, run
from hand_pose_3d.training.posenet import (
    CROP_MARGIN,
    CROP_SIZE,
    LitePoseStage,
    PoseAugmentation,
    PoseSampler,
    ideal_sample,
    mix_style,
    target_maps,
)
from hand_pose_3d.training.predictions import PredictionSampler, posenet_predictions, target
from hand_pose_3d.training.scenes import BACKGROUND, UNKNOWN, LabelledScene
from hand_pose_3d.training.score_calibration import Predictions, calibrate, calibrate_hands, judged, spreads_and_errors
from hand_pose_3d.weights import default_weights, load_weights, read_metadata, save_weights
from hand_pose_3d.windows import crop_from_pose


def _hand(rng: np.random.Generator) -> np.ndarray:
    """An open hand of a plausible shape, metres, camera axes, fingers up."""
    points = [np.zeros(3)]
    for finger in range(5):
        angle = np.deg2rad(-40 + 20 * finger + rng.normal(0, 3))
        direction = np.array([np.sin(angle), -np.cos(angle), 0.2 * rng.normal()])
        points += [direction * length for length in np.array([0.08, 0.12, 0.145, 0.165]) * (0.7 if finger == 0 else 1)]
    return np.array(points)


@pytest.fixture(scope="module")
def crops() -> CropPack:
    rng = np.random.default_rng(0)
    rgba, uv, xyz = [], [], []
    for _ in range(6):
        hand = _hand(rng)
        pixels = hand[:, :2] * 700 + [PACK_SIZE / 2, PACK_SIZE * 0.75]
        image = np.zeros((PACK_SIZE, PACK_SIZE, 4), np.uint8)
        image[..., :3] = rng.integers(0, 80, 3)
        for k, (u, v) in enumerate(pixels.astype(int)):
            image[v - 4 : v + 4, u - 4 : u + 4] = [40 + 10 * k, 255 - 10 * k, 128, 255]
        rgba.append(image)
        uv.append(pixels)
        xyz.append(hand + [0, 0, 0.5])
    backgrounds = rng.integers(0, 255, (3, PACK_SIZE, PACK_SIZE, 3), dtype=np.uint8)
    sides = np.array([1, 2, 1, 2, 1, 2])
    return CropPack(np.stack(rgba), backgrounds, np.stack(uv), np.stack(xyz), np.ones((6, 21), bool), sides)


def test_posenet_overfits_one_batch(crops: CropPack) -> None:
    torch.manual_seed(0)
    stage = LitePoseStage(LitePoseNet(), [crops], crops, frozen_blocks=3)
    found = losses(stage, 32, 4, 2e-3)
    assert found[-1] < 0.6 * found[0]


def test_fineposenet_overfits_one_batch_and_keeps_its_trunk_and_points(crops: CropPack) -> None:
    torch.manual_seed(0)
    network = LiteFinePoseNet()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = losses(LiteFinePoseStage(network, [crops], crops), 32, 4, 2e-3)
    assert found[-1] < 0.7 * found[0]
    kept = {name for name, value in network.state_dict().items() if torch.equal(value, before[name])}
    assert kept == {name for name in before if name.startswith(("trunk.", "points."))}


@pytest.mark.parametrize("stage", ["handsegnet", "posenet", "fineposenet"])
def test_a_trunk_that_stays_as_it_is_is_not_a_random_one(stage: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(train.command, [stage, "--data", str(tmp_path), "--out", str(tmp_path / "run")])
    assert result.exit_code == 2 and "give --trunk or --from-weights" in result.output
    arguments = [stage, "--model", "paper", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    assert "give --trunk" not in CliRunner().invoke(train.command, arguments).output


def test_the_commands_seed_makes_the_run(crops: CropPack, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(stages, "crop_pack", lambda root, split, mined: crops)

    def trained(name: str, seed: int) -> torch.Tensor:
        arguments = ["posenet", "--data", str(tmp_path), "--out", str(tmp_path / name), "--images", "4", "--batch", "4"]
        arguments += ["--from-weights", str(default_weights("lite-posenet")), "--device", "cpu", "--seed", str(seed)]
        result = CliRunner().invoke(train.command, arguments)
        assert result.exit_code == 0, result.output
        state = torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["network"]
        return torch.cat([value.flatten().float() for value in state.values()])

    first = trained("a", 1)
    assert torch.equal(first, trained("b", 1)) and not torch.equal(first, trained("c", 2))
    result = CliRunner().invoke(train.command, ["posenet", "--data", str(tmp_path), "--out", "x", "--seed", str(2**70)])
    assert result.exit_code == 2 and "--seed" in result.output


def test_posenet_goes_on_from_what_ships_and_resumes_with_the_same_parts(
    crops: CropPack, tmp_path: Path, monkeypatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(stages, "crop_pack", lambda root, split, mined: crops)
    arguments = ["posenet", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--images", "8", "--batch", "4"]
    result = CliRunner().invoke(train.command, [*arguments, "--from-weights", str(default_weights("lite-posenet"))])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(train.command, [*arguments, "--frozen-blocks", "6"])
    assert result.exit_code == 1 and "resume it with the same --frozen-blocks and --trunk-rate" in str(result.exception)
    assert CliRunner().invoke(train.command, arguments).exit_code == 0
    result = CliRunner().invoke(train.command, [*arguments, "--photograph-share", "0.5"])
    assert result.exit_code == 2 and "--photograph-share is about --photographs" in result.output


def test_weights_of_others_are_neither_written_over_nor_learned_from(tmp_path: Path) -> None:
    converted = {"family": "paper", "version": "0", "licence": "research only", "source_sha256": "0"}
    save_weights(tmp_path / "paper-lifting.safetensors", Lifting(), converted)
    save_weights(tmp_path / "pose.safetensors", PoseNet(), converted)
    arguments = ["lifting", "--model", "paper", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(train.command, [*arguments, "--save-weights", str(tmp_path)])
    assert result.exit_code == 2 and "holds converted weights and stays as it is" in " ".join(result.output.split())
    result = CliRunner().invoke(train.command, [*arguments, "--posenet", str(tmp_path / "pose.safetensors")])
    assert result.exit_code == 1 and "its licence is 'research only'" in str(result.exception)


@pytest.mark.parametrize("split", ["training", "evaluation"])
@pytest.mark.parametrize("stage", ["posenet", "lifting"])
@pytest.mark.parametrize("build", [stages.build_lite_stage, stages.build_paper_stage])
def test_data_without_a_hand_are_said(build, stage: str, split: str, tmp_path: Path, monkeypatch) -> None:
    if (build, stage) == (stages.build_lite_stage, "posenet"):
        pytest.skip("it packs crops, and learns windows without a hand, too")
    xyz_m = np.random.default_rng(0).normal(0, 0.05, (21, 3)) + [0, 0, 0.5]
    hand = Sample("a", tmp_path / "a.png", Side.LEFT, np.zeros((21, 2)), np.ones(21, bool), xyz_m)
    monkeypatch.setattr(data, "read_rhd", lambda root, of, which: [] if of == split else [hand])
    with pytest.raises(InvalidInputError, match=f"no image of the {split} split of .* shows a hand"):
        build(stage, [tmp_path])
    data._dominant.cache_clear()


def test_scenes_are_packed_from_all_over_a_split(tmp_path: Path, monkeypatch) -> None:
    packed: list[int] = []
    monkeypatch.setattr(data, "StoredScenes", lambda root, split: range(10))
    monkeypatch.setattr(data, "pack_scenes", lambda scenes, folder: packed.extend(scene for _, scene in scenes))
    monkeypatch.setattr(data, "_current", lambda root, name, split, enough, make: make(root))
    monkeypatch.setattr(data, "ScenePack", lambda folder: None)
    data.scene_pack(tmp_path, "training", 4)
    assert packed == [0, 3, 6, 9]


def test_fineposenet_is_trained_and_written_by_the_command(crops: CropPack, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(stages, "crop_pack", lambda root, split, mined: crops)
    arguments = ["fineposenet", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--device", "cpu"]
    arguments += ["--images", "8", "--batch", "4", "--save-weights", str(tmp_path / "new")]
    start = tmp_path / "start.safetensors"
    save_weights(start, LiteFinePoseNet(), {"family": "lite", "version": "0", "licence": "Apache-2.0"})
    arguments += ["--from-weights", str(start)]
    result = CliRunner().invoke(train.command, arguments)
    assert result.exit_code == 0, result.output
    load_weights(LiteFinePoseNet(), tmp_path / "new" / "lite-fineposenet.safetensors")
    result = CliRunner().invoke(train.command, [*arguments, "--model", "paper"])
    assert result.exit_code == 2 and "--model lite" in result.output
    result = CliRunner().invoke(train.command, [*arguments, "--batch", "100000"])
    assert result.exit_code == 2 and "1<=x<=4096" in result.output
    result = CliRunner().invoke(train.command, [*arguments, "--trunk", str(start)])
    assert result.exit_code == 2 and "--trunk and --from-weights are two starts" in result.output
    result = CliRunner().invoke(train.command, [*arguments, "--trunk-rate", "0.1"])
    assert result.exit_code == 2 and "--trunk-rate is a choice of `train handsegnet --model lite`" in result.output


def test_points_are_read_once_and_not_where_batches_are_made(crops: CropPack, tmp_path: Path, monkeypatch) -> None:
    def noted(network: LiteFinePoseNet, pack: CropPack) -> np.ndarray:
        with (tmp_path / "pids").open("a") as file:
            print(os.getpid(), file=file)
        return pack.uv

    monkeypatch.setattr(fineposenet, "points_of", noted)
    stage = LiteFinePoseStage(LiteFinePoseNet(), [crops], crops)
    run(stage, LoopConfig(images=8, batch=4, workers=2), tmp_path / "run")
    assert (tmp_path / "pids").read_text().split() == [str(os.getpid())]


def test_labels_move_towards_points_that_are_near_on_hands_whose_points_are_near() -> None:
    uv = np.tile(np.stack([np.arange(21.0) * 5, np.zeros(21)], 1), (2, 1, 1))  # 100 pixels
    points = uv.copy()
    points[0, :2, 1] = 10, 20
    points[1, :, 1] = 10
    moved = towards(uv, points)
    assert moved[0, :3, 1].tolist() == pytest.approx([7, 0, 0])
    np.testing.assert_array_equal(moved[1], uv[1])
    np.testing.assert_array_equal(moved[..., 0], uv[..., 0])


def test_points_of_a_pack_are_those_of_its_windows_and_their_mirror_images(crops: CropPack) -> None:
    torch.manual_seed(0)
    network = LiteFinePoseNet()
    with torch.no_grad():
        network.points.weight.zero_()
        network.points.bias.copy_(torch.tensor([0.3, 0.6]).repeat(21))
    found = points_of(network, crops, batch=4)
    for uv, points in zip(crops.uv, found, strict=True):
        window = crop_from_pose(uv, 224, CROP_MARGIN)
        expected = window.to_image(np.array([[0.5, 0.6]]) * 224 - 0.5)  # 0.3, and 0.7 in the mirror image
        np.testing.assert_allclose(points, expected.repeat(21, 0), atol=1e-3)


def test_mix_style_exchanges_statistics_and_keeps_what_is_where() -> None:
    torch.manual_seed(3)
    scale = torch.linspace(1, 4, 6).view(6, 1, 1, 1)
    maps = [torch.randn(6, 3, 8, 8) * scale + scale, torch.randn(6, 5, 4, 4) * scale - scale]
    assert all(torch.equal(a, b) for a, b in zip(mix_style(maps, chance=0.0), maps, strict=True))
    mixed = mix_style(maps, chance=1.0)
    for old, new in zip(maps, mixed, strict=True):
        assert not torch.allclose(old, new, atol=1e-2)
        for x, like in ((new.mean((2, 3)), old.mean((2, 3))), (new.std((2, 3)), old.std((2, 3)))):
            assert (x >= like.min(0).values - 1e-4).all() and (x <= like.max(0).values + 1e-4).all()
        centred = [(x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True) for x in (old, new)]
        torch.testing.assert_close(*centred, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("network", [LiteLifting, Lifting, DirectLifting])
def test_lifting_overfits_one_batch(crops: CropPack, network: type) -> None:
    sampler = LiftingSampler(crops.xyz_m, crops.side)
    torch.manual_seed(0)
    stage = LiftingStage(network(), [sampler], sampler)
    found = losses(stage, 60, 8, 1e-3)
    assert found[-1] < 0.6 * found[0]


def test_run_resumes_where_it_stopped_and_draws_curves(crops: CropPack, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    def stage() -> LiftingStage:
        sampler = LiftingSampler(crops.xyz_m, crops.side)
        return LiftingStage(LiteLifting(), [sampler], sampler)

    run(stage(), LoopConfig(images=32, batch=16), tmp_path)
    run(stage(), LoopConfig(images=64, batch=16), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["images"] for row in rows] == [32, 64]
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_a_mixture_draws_each_source_with_its_share() -> None:
    mixture, rng = Mixture("abc", [1.0, 0.0, 3.0]), np.random.default_rng(0)
    drawn = [mixture.draw(rng) for _ in range(4000)]
    assert set(drawn) == {"a", "c"} and len(mixture) == 2
    assert drawn.count("c") / 4000 == pytest.approx(0.75, abs=0.03)
    equal = [Mixture([1, 2]).draw(rng) for _ in range(1000)]
    assert equal.count(1) / 1000 == pytest.approx(0.5, abs=0.06)
    assert len(Mixture([], [])) == 0


def test_rate_warms_up_and_falls() -> None:
    config = LoopConfig(images=100_000, warm_up=1000, decay=0.5)
    assert rate_factor(0, config) < 0.01
    assert rate_factor(50_000, config) == 1
    assert rate_factor(75_000, config) == pytest.approx(0.5)
    assert rate_factor(100_000, config) == pytest.approx(0.02)


def test_soft_argmax_finds_the_centre_of_target_maps() -> None:
    uv = torch.tensor([[[10.3, 20.8], [31.0, 5.5]]])
    maps = torch.log(target_maps(uv, 40) + 1e-12)
    found, spread = soft_argmax(maps)
    assert torch.allclose(found, uv, atol=0.02)
    assert torch.allclose(spread, torch.full((1, 2), 1.3 * 2**0.5), atol=0.02)


def test_lifting_maps_peak_where_the_keypoint_is() -> None:
    uv = (torch.tensor([[[7.0, 20.0]]]) + 0.5) / 32
    maps = lifting_maps(uv, torch.full((1, 1), 0.03))
    assert maps.shape == (1, 1, 32, 32)
    assert maps[0, 0].argmax() == 20 * 32 + 7
    assert maps.max() == pytest.approx(1.0)


def test_augmented_keypoints_follow_their_pixels(crops: CropPack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the rotation, scale, shift and mirroring, the coloured squares lie under the labels."""
    for change in ("recolour", "degrade"):
        monkeypatch.setattr(augment, change, lambda image, rng: image)
    sampler, sides, seen = PoseSampler([crops], PoseAugmentation(swap=0.0, occlude=0.0, empty=0.0, cut=0.0)), set(), 0
    for seed in range(20):
        sample, crop, _ = sampler.draw(np.random.default_rng(seed))
        sides.add((sample.side, crop.angle > 0.5))
        for k, (u, v) in enumerate(sample.uv.round().astype(int)):
            if 3 < u < CROP_SIZE - 4 and 3 < v < CROP_SIZE - 4:
                around = sample.image[v - 1 : v + 2, u - 1 : u + 2].astype(int)
                assert np.abs(around - [40 + 10 * k, 255 - 10 * k, 128]).max(-1).min() < 60, (seed, k)
                seen += 1
    assert len(sides) > 2 and seen > 300


def test_a_flipped_hand_is_one_of_the_other_side(crops: CropPack) -> None:
    uv, xyz, side = flip(crops.uv[0], crops.xyz_m[0], Side.LEFT, PACK_SIZE)
    assert side == Side.RIGHT
    back = flip(uv, xyz, side, PACK_SIZE)
    assert np.allclose(back[0], crops.uv[0]) and np.allclose(back[1], crops.xyz_m[0]) and back[2] == Side.LEFT


def test_samples_depend_on_the_seed_alone(crops: CropPack) -> None:
    sampler = PoseSampler([crops])
    first, again = (sampler(np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.uv, again.uv)
    assert first.image.shape == (CROP_SIZE, CROP_SIZE, 3)


def test_a_pack_is_made_by_one_process_while_others_wait(tmp_path: Path, monkeypatch) -> None:
    made = []

    def slow(samples: object, folder: Path, windows: object) -> None:
        made.append(folder)
        time.sleep(0.3)
        folder.mkdir(parents=True)
        (folder / "labels.npz").touch()

    (tmp_path / "training" / "color").mkdir(parents=True)
    (tmp_path / "training" / "anno_training.pickle").touch()
    monkeypatch.setattr(data, "pack", slow)
    monkeypatch.setattr(data, "load_pack", lambda folder: (folder / "labels.npz").exists())
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: data.crop_pack(tmp_path, "training"), range(2))) == [True, True]
    assert len(made) == 1


def test_a_pack_is_made_again_for_another_annotation_or_more_searched_images(tmp_path: Path, monkeypatch) -> None:
    made: list[str] = []

    def noted(samples: object, folder: Path, windows: object) -> None:
        folder.mkdir(parents=True)
        made.append(annotation.read_text())
        (folder / "labels.npz").write_text(made[-1])

    (tmp_path / "training").mkdir()
    annotation = tmp_path / "training" / "anno_training.pickle"
    annotation.write_text("twelve frames")
    monkeypatch.setattr(data, "pack", noted)
    monkeypatch.setattr(data, "load_pack", lambda folder: (folder / "labels.npz").open())
    with data.crop_pack(tmp_path, "training", 30) as opened:
        for enough in (30, 0, 12):
            data.crop_pack(tmp_path, "training", enough)
        assert made == ["twelve frames"]
        annotation.write_text("more frames")
        assert data.crop_pack(tmp_path, "training", 30).read() == "more frames" and len(made) == 2
        assert opened.read() == "twelve frames"  # who trains on it goes on
    data.crop_pack(tmp_path, "training", 40)
    data.crop_pack(tmp_path, "training")
    data.crop_pack(tmp_path, "training", 10**6)
    assert len(made) == 4
    assert sorted(path.name for path in (tmp_path / "packs").iterdir()) == ["crops_training"]
    with pytest.raises(InvalidInputError, match="it lacks evaluation/anno_evaluation.pickle"):
        data.crop_pack(tmp_path, "evaluation")


class Knowing(torch.nn.Module):
    """Answers with the middle of every crop and a right hand."""

    def __init__(self) -> None:
        super().__init__()
        self.number = torch.nn.Parameter(torch.zeros(1))

    def forward(self, crop: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(keypoints=torch.full((len(crop), 21, 2), 0.5), side_logit=torch.ones(len(crop)))


def test_on_true_crops_what_is_visible_and_sides_that_are_known_count(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64, 3), np.uint8))
    points = [[float(20 + k), float(40 - k)] for k in range(21)]
    entry = {"image": "a.png", "keypoints_2d": points}
    short = {**entry, "keypoints_2d": [[None, None], *points[1:]]}
    samples = [{**entry, "side": "right", "visible": [True] * 20 + [False]}, {**entry, "side": "unknown"}, short]

    def measured() -> dict[str, float]:
        (tmp_path / "keypoints.json").write_text(json.dumps({"labels": "true", "samples": samples}))
        return stages.TrueCrops(tmp_path, every=1)(Knowing())

    found = measured()
    distances = [np.hypot(k - 10, k - 10) for k in (*range(20), *range(21))]
    assert found[f"{tmp_path.name}_true_crops_mean_px"] == pytest.approx(np.mean(distances), abs=0.1)
    assert found[f"{tmp_path.name}_true_crops_side"] == 1
    del samples[0]
    assert f"{tmp_path.name}_true_crops_side" not in measured()
    del samples[0]
    with pytest.raises(InvalidInputError, match="no hand with all 21 keypoints"):
        measured()


def test_pack_keeps_labels_on_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hand = _hand(rng)
    pixels = hand[:, :2] * 600 + [160, 230]
    image = np.zeros((320, 320, 3), np.uint8)
    for u, v in pixels.astype(int):
        image[v - 2 : v + 3, u - 2 : u + 3] = 255
    hands = [(Side.LEFT, pixels, hand + [0, 0, 0.4], np.ones(21, bool))]
    empty = np.zeros((320, 320), bool)
    pack([(image, image[..., 0] > 0, empty, hands)], tmp_path)
    opened = load_pack(tmp_path)
    assert len(opened) == 1 and len(opened.backgrounds) == 1
    for u, v in opened.uv[0].round().astype(int):
        assert opened.rgba[0, v, u, 0] > 100


def test_what_a_detector_takes_for_hands_is_learned_as_none(tmp_path: Path) -> None:
    image = np.full((320, 320, 3), 40, np.uint8)
    image[100:180, 100:180] = 200  # no hand
    image[250:300, 20:70] = 90  # one
    hand_mask = image[..., 0] == 90
    pixels = np.stack([np.linspace(25, 65, 21), np.linspace(255, 295, 21)], axis=1)
    hands = [(Side.LEFT, pixels, _hand(np.random.default_rng(0)) + [0, 0, 0.4], np.ones(21, bool))]
    looks = [Crop((139.5, 139.5), 80.0, 160), Crop((45.0, 275.0), 60.0, 160)]
    pack([(image, hand_mask, hand_mask, hands)], tmp_path, windows=lambda seen: looks)
    opened = load_pack(tmp_path)
    assert opened.hard_negatives.shape == (1, PACK_SIZE, PACK_SIZE, 3)
    middle, corner = opened.hard_negatives[0, PACK_SIZE // 2, PACK_SIZE // 2], opened.hard_negatives[0, 5, 5]
    assert (middle == 200).all() and (corner == 40).all()

    sampler = PoseSampler([opened], PoseAugmentation(empty=1.0, hard_negative=1.0, beside=0.0))
    shares = []
    for seed in range(20):
        seen = sampler.hard_negative(np.random.default_rng(seed))
        shares.append((seen[..., 0] > 120).mean())
        assert sampler(np.random.default_rng(seed)).presence == 0
    assert 0.3 < min(shares) < 0.5 and max(shares) > 0.75  # from about the window to one and a half of it


def test_packs_of_boxes_alone_are_sampled(crops: CropPack) -> None:
    """Nothing in them could be drawn as a sign."""
    boxes = replace(crops, visible=np.zeros((6, 21), bool), spread=np.zeros((6, 21)))
    sampler = PoseSampler([boxes], PoseAugmentation(empty=1.0, beside=0.0, drawn=1.0))
    sample = sampler(np.random.default_rng(0))
    assert sample.presence == 0 and np.ptp(sample.image) > 0


def test_predictions_carry_the_pose_that_the_crop_shows(crops: CropPack) -> None:
    """Seen from straight ahead, the target is the labels' own shape in the crop, turned as the crop is."""

    class Truthful(LitePoseNet):
        """Predicts the coloured squares: keypoint k is where the colour of square k is."""

        def forward(self, crop: torch.Tensor) -> LitePose:
            colours = torch.stack([torch.tensor([40.0 + 10 * k, 255 - 10 * k, 128]) / 255 - 0.5 for k in range(21)])
            near = (crop[:, None] - colours[None, :, :, None, None]).abs().sum(2)
            return LitePose((near[..., ::4, ::4] * -60,), torch.zeros(len(crop)), torch.zeros(len(crop)))

    plain = PoseAugmentation(any_turn=0.0, swap=0.0, occlude=0.0, empty=0.0, cut=0.0)
    sample, crop, xyz = PoseSampler([crops], plain).draw(np.random.default_rng(2))
    predictions = posenet_predictions(Truthful(), [crops], 12, seed=5)
    assert predictions.uv.shape == (12, 21, 2) and np.isfinite(predictions.uv).all()
    assert np.allclose(predictions.rotation @ predictions.rotation.transpose(0, 2, 1), np.eye(3), atol=1e-5)
    assert set(predictions.side.tolist()) == {0, 1}
    canonical, rotation, _ = target(sample, crop, xyz)
    shape = (canonical @ rotation.T)[:, :2]
    seen = sample.uv - sample.uv.mean(0)
    shape = shape - shape.mean(0)
    scale = (shape * seen).sum() / (shape**2).sum()
    assert scale > 0
    assert np.abs(scale * shape - seen).max() < 0.04 * np.ptp(seen)
    batch = PredictionSampler(predictions)(np.random.default_rng(0), 5)
    assert batch.uv.shape == (5, 21, 2) and batch.canonical.shape == (5, 21, 3)


def test_scores_are_calibrated_on_errors(crops: CropPack) -> None:
    """A network whose maps are mostly sharp where it is right, wide where it is wrong: high and low scores."""
    rng = np.random.default_rng(0)
    samples = [ideal_sample(crops, int(i)) for i in rng.integers(len(crops), size=80)]
    truth = iter(torch.from_numpy(np.stack([s.uv for s in samples[a:b]])) for a, b in ((0, 50), (50, 80)))

    class Knowing(LitePoseNet):
        def forward(self, crop: torch.Tensor) -> LitePose:
            uv = (next(truth) + 0.5) / 4 - 0.5
            wrong = torch.from_numpy(rng.random(uv.shape[:2]) < 0.4)
            uv = torch.where(wrong[..., None], (uv + 16) % 39, uv)
            wide = wrong ^ torch.from_numpy(rng.random(uv.shape[:2]) < 0.1)
            maps = torch.where(wide[..., None, None], target_maps(uv, 40, 5.0), target_maps(uv, 40, 1.3))
            return LitePose(((maps + 1e-12).log(),), torch.zeros(len(crop)), torch.zeros(len(crop)))

    network = Knowing()
    figures = calibrate(network, samples)
    a, b, c = network.score_calibration.tolist()
    assert c == 0 and figures["calibration_error"] < 0.1
    assert 0.5 < figures["right"] < 0.75
    assert 1 / (1 + np.exp(b * 0.046 - a)) > 0.8 and 1 / (1 + np.exp(b * 0.17 - a)) < 0.3


def test_keypoints_that_do_not_count_leave_the_others_with_their_hands(crops: CropPack) -> None:
    rng = np.random.default_rng(0)
    samples = [replace(ideal_sample(crops, n % len(crops)), weight=rng.integers(0, 2, 21)) for n in range(60)]
    spread, error, hand = spreads_and_errors(LitePoseNet().eval(), samples)
    assert len(spread) == len(error) == len(hand)
    np.testing.assert_array_equal(np.bincount(hand, minlength=60), [s.weight.sum() for s in samples])


def test_scores_of_hands_are_calibrated_on_predictions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Predictions whose chance to be right is known: all fits find it, and the network's reader applies the first."""
    rng = np.random.default_rng(0)
    logit, odds = rng.normal(3, 2, 8000), rng.normal(0, 1, 8000)
    facts = np.column_stack([logit, np.ones(8000), logit, odds, *np.abs(rng.normal(0, 0.3, (3, 8000)))])
    right = (rng.random(8000) < 1 / (1 + np.exp(2 - 0.5 * logit))).astype(float)
    spread, size = rng.uniform(0.02, 0.2, 20_000), -np.abs(rng.normal(0, 1, 20_000))
    near = rng.random(20_000) < 1 / (1 + np.exp(40 * spread - 5 - 1.2 * size))
    none = Predictions(np.zeros((0, 7)), np.zeros(0), np.zeros((0, 3)))
    found = iter([none, Predictions(facts, right, np.column_stack([spread, size, near]))])
    monkeypatch.setattr(score_calibration, "_predictions", lambda *_: next(found))
    segmentation, network = LiteHandSegNet(), LitePoseNet()
    figures = calibrate_hands(segmentation, network, tmp_path, [], [])
    np.testing.assert_allclose(network.presence_calibration, [-2, 0.5], rtol=0.12)
    np.testing.assert_allclose(network.score_calibration, [5, 40, 1.2], rtol=0.1)
    assert figures["keypoint_calibration_error"] < 0.03
    np.testing.assert_allclose(segmentation.confirmation, [0, 1, 0, 0, 0, 0], atol=0.45)  # three standard errors
    assert figures["hand_calibration_error"] < 0.05 and figures["predictions"] == 8000

    network.eval()
    crops, side = torch.zeros(1, 160, 160, 3, dtype=torch.uint8), torch.full((1,), -1.0)
    with torch.inference_mode():
        reading = CropReader(network, LiteLifting())(crops, side)
        raw = network(crops.permute(0, 3, 1, 2) / 255 - 0.5).presence_logit
        weight = network.presence_calibration
        expected = torch.sigmoid(weight @ torch.stack([torch.ones(1), raw])[:, 0])
    torch.testing.assert_close(reading.presence[0], expected)


def test_scores_of_hands_with_palms_are_fitted_on_predictions_with_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The chance to be right depends on what PoseNet says, with palms on the palm's score, too."""
    rng, asked = np.random.default_rng(0), []

    def known(networks: list[Any], *_: Any) -> Predictions:
        asked.append(([type(network).__name__ for network in networks], networks[1].presence_calibration[1].item()))
        logit, palm = rng.normal(0, 2, 8000), rng.normal(0, 2, 8000) * (len(networks) == 3)
        facts = np.column_stack([logit, np.ones(8000), logit, *np.zeros((4, 8000)), palm])
        right = (rng.random(8000) < 1 / (1 + np.exp(-0.5 * logit - 1.5 * palm))).astype(float)
        return Predictions(facts[:, : 5 + len(networks)], right, np.zeros((0, 3)))

    monkeypatch.setattr(score_calibration, "_predictions", known)
    segmentation, pose, palms = LiteHandSegNet(), LitePoseNet(), LitePalmNet()
    figures = calibrate_hands(segmentation, pose, tmp_path, [], [], palms)
    alone, both = ["LiteHandSegNet", "LitePoseNet"], ["LiteHandSegNet", "LitePoseNet", "LitePalmNet"]
    assert [names for names, _ in asked] == [alone, alone, both, both]
    assert [factor for _, factor in asked] == pytest.approx([1, 1, 0.5, 0.5], abs=0.1)  # PoseNet's are set by then
    np.testing.assert_allclose(pose.presence_calibration, [0, 0.5], atol=0.1)
    np.testing.assert_allclose(segmentation.confirmation, [0, 1, 0, 0, 0, 0], atol=0.1)
    np.testing.assert_allclose(palms.confirmation, [0, 0.5, 0, 0, 0, 0, 1.5], atol=0.15)
    assert figures["palm_confirmation_6"] == pytest.approx(1.5, abs=0.15) and figures["hand_calibration_error"] < 0.05


def test_ten_renders_count_in_the_scores_of_hands_as_one_photograph(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On photographs the network's logit is true, renders are right or wrong by chance: which of them decides?"""
    rng = np.random.default_rng(0)

    def known(count: int, truth: float) -> Predictions:
        logit = rng.normal(0, 2, count)
        facts = np.column_stack([logit, np.ones(count), logit, *np.zeros((4, count))])
        right = (rng.random(count) < 1 / (1 + np.exp(-truth * logit))).astype(float)
        return Predictions(facts, right, np.zeros((0, 3)))

    def fitted(renders: int, photographs: int) -> float:
        found = iter([known(renders, 0.0), known(photographs, 1.0)])
        monkeypatch.setattr(score_calibration, "_predictions", lambda *_: next(found))
        network = LitePoseNet()
        calibrate_hands(LiteHandSegNet(), network, tmp_path, [], [])
        return float(network.presence_calibration[1])

    assert fitted(1000, 1000) > 0.7
    assert 0.3 < fitted(10_000, 1000) < 0.5  # half each
    assert fitted(10_000, 100) < 0.15


def test_scores_of_the_papers_hands_are_calibrated_on_peaks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hands whose chance to be right is known from their peaks; the weights' metadata then hold it."""
    rng, hand = np.random.default_rng(0), np.column_stack([np.linspace(60, 100, 21), np.linspace(50, 110, 21)])
    scene = LabelledScene(
        np.zeros((240, 320, 4), np.uint8), hand[None], np.array([True]), np.array([np.nan]), np.zeros((1, 21))
    )

    class Estimator:
        def __init__(self, **settings: Any) -> None:
            self.family = SimpleNamespace(presence_calibration=[1.0, 1.0])

        def __call__(self, image: np.ndarray) -> list[SimpleNamespace]:
            assert self.family.presence_calibration is None
            peak = rng.uniform(0.05, 0.95)
            right = rng.random() < 1 / (1 + np.exp(-1 - 2 * np.log(peak / (1 - peak))))
            return [SimpleNamespace(score=peak, keypoints_px=hand if right else hand + 60)]

    monkeypatch.setattr(score_calibration, "HandPoseEstimator", Estimator)
    path = tmp_path / "paper-posenet.safetensors"
    save_weights(path, PoseNet(), {"family": "paper", "version": "0", "licence": "none"}, half=True)
    figures = score_calibration.calibrate_peaks(tmp_path, [scene] * 4000)
    written = json.loads(read_metadata(path)["presence_calibration"])
    np.testing.assert_allclose(written, [1, 2], atol=0.2)
    assert figures["hand_calibration_error"] < 0.05
    with pytest.raises(InvalidInputError, match="right and wrong predictions"):
        score_calibration.calibrate_peaks(tmp_path, [])
    assert json.loads(read_metadata(path)["presence_calibration"]) == written


def test_a_folder_with_the_papers_weights_has_its_peaks_calibrated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "paper-posenet.safetensors").touch()
    called: list[Path] = []
    monkeypatch.setattr(score_calibration, "calibrate_peaks", lambda weights, scenes, device: called.append(weights))
    monkeypatch.setattr(score_calibration, "ScenePack", lambda folder: [])
    monkeypatch.setattr("sys.argv", ["score_calibration", str(tmp_path), "--photographs", str(tmp_path)])
    score_calibration.main()
    assert called == [tmp_path]


def test_score_calibration_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def said(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["score_calibration", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            score_calibration.main()
        text = capsys.readouterr().err or str(ended.value.code)
        assert ended.value.code and "Traceback" not in text
        return text.splitlines()[-1]

    assert "give --data or --photographs" in said(tmp_path)
    assert "is not a pack of scenes" in said(tmp_path, "--photographs", tmp_path)
    for family in ("lite", "paper"):
        (tmp_path / f"{family}-posenet.safetensors").touch()
    assert "holds both families" in said(tmp_path, "--photographs", tmp_path)


def test_scores_that_cannot_be_fitted_leave_the_weights_as_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("handsegnet", "posenet", "lifting"):
        shutil.copy(default_weights(f"lite-{name}"), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    few = Predictions(np.ones((24, 7)), np.arange(24.0) % 3 // 2, np.zeros((0, 3)))
    monkeypatch.setattr(score_calibration, "_predictions", lambda *_: few)
    monkeypatch.setattr(score_calibration, "ScenePack", lambda folder: [])
    monkeypatch.setattr("sys.argv", ["score_calibration", str(tmp_path), "--photographs", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        score_calibration.main()
    assert "20 right and 20 wrong predictions" in capsys.readouterr().err + str(ended.value.code)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_weights_keep_the_precision_of_their_file(tmp_path: Path) -> None:
    path = tmp_path / "lite-palmnet.safetensors"
    metadata = {"family": "lite", "version": "0", "licence": "none"}
    for half in (False, True):
        save_weights(path, LitePalmNet(), metadata, half=half)
        size = path.stat().st_size
        score_calibration._rewrite(path, LitePalmNet(), metadata)
        assert path.stat().st_size == pytest.approx(size, rel=0.01)


def test_a_prediction_is_right_wrong_or_not_to_be_judged() -> None:
    hand = np.column_stack([np.linspace(60, 100, 21), np.linspace(50, 110, 21)])
    classes = np.full((240, 320), UNKNOWN, np.uint8)
    classes[150:, 200:] = BACKGROUND
    rgbc = np.dstack([np.zeros((240, 320, 3), np.uint8), classes])
    nan = np.array([np.nan])
    scene = LabelledScene(rgbc, hand[None], np.array([True]), nan, np.zeros((1, 21)), complete=False)

    def is_right(scene: LabelledScene, uv: np.ndarray) -> bool | None:
        verdicts = [best is not None for _, best in judged(scene, [hand_at(uv, 0.5)])]
        return verdicts[0] if verdicts else None

    elsewhere, on_background = hand + [120, 0], hand + [150, 115]
    assert is_right(scene, hand + 4) is True
    assert is_right(scene, hand + [16, 0]) is True  # IoU 0.43: as `evaluate --dataset boxes` counts
    assert is_right(scene, hand + [18, 0]) is False  # 0.38
    assert is_right(scene, hand + 30) is False  # beside a known hand
    assert is_right(scene, on_background) is False  # where none was seen
    assert is_right(scene, elsewhere) is None and is_right(replace(scene, complete=True), elsewhere) is False
    assert is_right(replace(scene, sure=np.array([False])), hand + 4) is None
    assert is_right(scene, hand - [61, 0]) is None  # reaches out of the picture
    better, worse = hand_at(hand + 2, 0.9), hand_at(hand - 2, 0.7)
    assert [(one.score, best) for one, best in judged(scene, [worse, better])] == [(0.9, 0), (0.7, None)]  # twice
    two = replace(scene, keypoints_px=np.stack([hand, hand + [8, 0]]), sure=np.array([True, True]))
    two = replace(two, right=np.full(2, np.nan), spread=np.zeros((2, 21)))
    assert [best for _, best in judged(two, [worse, better])] == [0, 1]


def hand_at(uv: np.ndarray, score: float) -> HandPose:
    xyz = np.column_stack([uv, np.linspace(0, 9, 21) ** 2])
    xyz[17] += [5, 0, 0]
    return HandPose.from_keypoints(Side.LEFT, uv, xyz, score=score)


def test_keypoints_of_labelled_hands_are_recorded_with_spread_and_size() -> None:
    """On the built-in clip, labelled by what the networks read there, but for one finger."""
    networks = [LiteHandSegNet(), LitePoseNet()]
    for network, name in zip(networks, ("handsegnet", "posenet")):
        load_weights(network, default_weights(f"lite-{name}"))
    lifting = default_weights("lite-lifting")
    image = next(iter(Video(CLIP)))
    (hand,) = HandPoseEstimator(keypoints="fast", device="cpu")(image)
    label, size = hand.keypoints_px.copy(), float(np.ptp(hand.keypoints_px, axis=0).max())
    label[9:13] += 0.15 * size * np.array([1, 0])
    rgbc = np.dstack([image, np.full(image.shape[:2], UNKNOWN, np.uint8)])
    scene = LabelledScene(rgbc, label[None], np.array([True]), np.array([np.nan]), np.zeros((1, 21)))
    found = score_calibration._predictions(networks, lifting, [scene])
    assert found.right.sum() == 1 and found.facts.shape[1] == 7 and found.keypoints.shape == (21, 3)
    spread, odds, near = found.keypoints.T
    assert near.tolist() == [*[1.0] * 9, *[0.0] * 4, *[1.0] * 8]
    np.testing.assert_allclose(odds, min(0, np.log(size / 128)), atol=0.05)
    a, b, c = networks[1].score_calibration.tolist()
    np.testing.assert_allclose(1 / (1 + np.exp(b * spread - a - c * odds)), hand.keypoint_scores, atol=0.02)
    boxed = replace(scene, boxed=np.array([True]))
    assert len(score_calibration._predictions(networks, lifting, [boxed]).keypoints) == 0


def test_nothing_is_calibrated_on_predictions_of_one_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    segmentation, network = LiteHandSegNet(), LitePoseNet()
    for facts in (np.zeros((0, 7)), np.tile([0.9, 1, 0, 0, 0, 0, 0], (50, 1))):
        same = Predictions(facts, np.ones(len(facts)), np.zeros((0, 3)))
        monkeypatch.setattr(score_calibration, "_predictions", lambda *_, same=same: same)
        assert calibrate_hands(segmentation, network, tmp_path, [], []) == {}
        assert network.presence_calibration.tolist() == [0, 1]
        assert segmentation.confirmation.tolist() == [0, 1, 0, 0, 0, 0]
