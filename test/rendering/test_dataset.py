import json
import math
import multiprocessing
import os
import pickle
import time

import cv2
import numpy as np
import pytest

from hand_pose_3d.datasets import rhd
from hand_pose_3d.errors import HandPoseError, InvalidInputError
from hand_pose_3d.outputs import replacing
from hand_pose_3d.rendering import dataset
from hand_pose_3d.rendering.dataset import RenderOptions, render_dataset
from hand_pose_3d.rendering.statistics import summarise
from hand_pose_3d.skeleton import Side

COUNT = 10


@pytest.fixture(scope="module")
def rendered(maker, tmp_path_factory):
    """A small data set made by two processes."""
    out = tmp_path_factory.mktemp("rendered")
    chunk, dataset._CHUNK = dataset._CHUNK, 4
    try:
        render_dataset(RenderOptions(out, COUNT, seed=3, workers=2), progress=False)
    finally:
        dataset._CHUNK = chunk
    return out


def read(folder, index):
    name = f"{index:05d}.png"
    mask = cv2.imread(str(folder / "mask" / name), cv2.IMREAD_GRAYSCALE)
    return cv2.imread(str(folder / "color" / name)), mask, rhd.read_depth(folder / "depth" / name)


def test_layout_is_rhds(rendered):
    folder = rendered / "training"
    with (folder / "anno_training.pickle").open("rb") as file:
        records = pickle.load(file)
    assert sorted(records) == list(range(COUNT))
    for index, record in records.items():
        assert record["uv_vis"].shape == (42, 3) and record["xyz"].shape == (42, 3) and record["K"].shape == (3, 3)
        colour, mask, depth = read(folder, index)
        assert colour.shape == (320, 320, 3) and mask.shape == depth.shape == (320, 320)
        assert mask.max() <= 33
        assert (depth[(mask == 0)] > 0).all()
    assert json.loads((folder / "statistics.json").read_text())["frames"] == COUNT
    card = (rendered / "DATA_CARD.md").read_text()
    assert "seed 3" in card and "MCP 70 to 90" in card
    flexion = json.loads((folder / "statistics.json").read_text())["flexion"]
    assert sum(flexion[str(n)]["share"] for n in range(5)) == pytest.approx(1, abs=0.001)
    assert len(flexion["all"]["mcp"]["p50"]) == 4


def test_points_project_to_their_pixels(rendered):
    with (rendered / "training" / "anno_training.pickle").open("rb") as file:
        for record in pickle.load(file).values():
            there = np.any(record["xyz"] != 0, axis=1)
            assert there.any()
            p = record["xyz"][there].astype(float) @ record["K"].astype(float).T
            np.testing.assert_allclose(p[:, :2] / p[:, 2:], record["uv_vis"][there, :2], atol=0.01)


def test_mask_and_keypoints_agree(rendered):
    """Visible keypoints lie on their own hand, behind its skin by no more than a hand's thickness."""
    folder = rendered / "training"
    with (folder / "anno_training.pickle").open("rb") as file:
        records = pickle.load(file)
    seen = 0
    for index, record in records.items():
        _, mask, depth = read(folder, index)
        for start, low, high in ((0, 2, 17), (21, 18, 33)):
            for k in range(1, 21):
                u, v, visible = record["uv_vis"][start + k]
                if not visible:
                    continue
                window = slice(max(round(v) - 1, 0), round(v) + 2), slice(max(round(u) - 1, 0), round(u) + 2)
                own = (mask[window] >= low) & (mask[window] <= high)
                assert own.any()
                behind = record["xyz"][start + k, 2] - depth[window][own]
                assert np.any((behind > -0.012) & (behind < 0.035))
                seen += 1
    assert seen > 5 * COUNT


def test_tip_keypoints_lie_on_tip_classes(rendered):
    """The classes run from tip to base like the keypoints: 2, 5, 8, 11, 14 are the left hand's tips."""
    folder = rendered / "training"
    with (folder / "anno_training.pickle").open("rb") as file:
        records = pickle.load(file)
    tips = right = 0
    for index, record in records.items():
        _, mask, _ = read(folder, index)
        for start, first in ((0, 2), (21, 18)):
            for finger in range(5):
                u, v, visible = record["uv_vis"][start + 1 + 4 * finger]
                if visible and 1 <= u < 318 and 1 <= v < 318:
                    tips += 1
                    right += int(
                        (mask[round(v) - 1 : round(v) + 2, round(u) - 1 : round(u) + 2] == first + 3 * finger).any()
                    )
    assert tips > 10 and right == tips


def test_frames_do_not_depend_on_the_number_of_workers(rendered, maker):
    folder = rendered / "training"
    with (folder / "anno_training.pickle").open("rb") as file:
        records = pickle.load(file)
    for index in (0, COUNT - 1):
        _, pictures, colour, record = maker.frame("training", 3, index)
        written, mask, _ = read(folder, index)
        np.testing.assert_array_equal(written[..., ::-1], colour)
        np.testing.assert_array_equal(mask, pictures.label)
        np.testing.assert_array_equal(records[index]["uv_vis"], record["uv_vis"])


def test_resuming_renders_only_what_is_missing(rendered, monkeypatch):
    folder = rendered / "training"
    before = (folder / "color" / "00000.png").stat().st_mtime_ns
    monkeypatch.setattr(dataset, "_CHUNK", 4)
    render_dataset(RenderOptions(rendered, COUNT, seed=3), progress=False)
    assert (folder / "color" / "00000.png").stat().st_mtime_ns == before
    with pytest.raises(HandPoseError, match="choose another folder"):
        render_dataset(RenderOptions(rendered, COUNT, seed=4), progress=False)


def test_fewer_frames_than_are_there_take_none_away_and_more_are_added(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "_CHUNK", 2)

    def render(count: int) -> int:
        frames = render_dataset(RenderOptions(tmp_path, count, seed=3), progress=False)["frames"]
        assert len(rhd.read_rhd(tmp_path, "training")) >= frames
        return frames

    assert [render(3), render(1), render(3)] == [3, 3, 3]
    made = (tmp_path / "training" / "color" / "00002.png").stat().st_mtime_ns
    assert render(6) == 6
    assert (tmp_path / "training" / "color" / "00002.png").stat().st_mtime_ns == made
    assert render(2) == 6
    assert "--count 6" in (tmp_path / "DATA_CARD.md").read_text()


def test_right_hands_mirror_left_hands(maker):
    """The same hand, drawn as its own mirror image, gives mirrored pixels, classes and keypoints."""
    from dataclasses import replace

    from hand_pose_3d.rendering.assemble import assemble
    from hand_pose_3d.rendering.sampling import sample_scene

    flip = np.diag([-1.0, 1, 1])
    scene = sample_scene(maker.source, "training", 0, 1)
    centred = np.array([[400.0, 0, 159.5], [0, 400, 159.5], [0, 0, 1]])
    left = replace(scene.hands[0], side=Side.LEFT, wrist_camera_m=np.array([0.02, 0.03, 0.5]))
    right = replace(
        left,
        side=Side.RIGHT,
        rotation_camera_hand=flip @ left.rotation_camera_hand @ flip,
        wrist_camera_m=flip @ left.wrist_camera_m,
    )
    views, points = [], []
    for hand in (left, right):
        assembly = assemble(replace(scene, hands=(hand,), props=(), people=(), intrinsics=centred), maker.source)
        views.append(maker.engine.render(assembly))
        points.append(assembly.keypoints_m[0][1])
    np.testing.assert_allclose(points[0] * [-1, 1, 1], points[1], atol=1e-9)
    mirrored = views[1].label[:, ::-1].astype(int)
    mirrored[mirrored > 1] -= 16
    assert (mirrored != views[0].label).mean() < 0.003  # rounding at edges only
    assert (views[0].label > 1).sum() > 1000


def test_a_full_disk_is_refused_in_words(tmp_path):
    with pytest.raises(HandPoseError, match="GB are free"):
        dataset.check_disk(tmp_path, 10**10)
    with pytest.raises(HandPoseError, match="GB are free"):
        render_dataset(RenderOptions(tmp_path, 10**15), progress=False)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    "wrong", [{"split": "test"}, {"count": 0}, {"workers": 0}, {"seed": -1}, {"people": 1.5}, {"characters": 81}]
)
def test_options_say_what_is_allowed(tmp_path, wrong):
    with pytest.raises(InvalidInputError):
        RenderOptions(**{"out": tmp_path, "count": 1, **wrong})


def test_assets_that_are_none_are_refused_and_others_are_another_data_set(tmp_path):
    assets = tmp_path / "assets"
    (assets / "skins").mkdir(parents=True)
    with pytest.raises(InvalidInputError, match="holds neither hdri/"):
        RenderOptions(tmp_path / "out", 1, assets=assets)
    (assets / "skins" / "._a_diffuse.png").touch()
    with pytest.raises(InvalidInputError, match="holds neither hdri/"):
        RenderOptions(tmp_path / "out", 1, assets=assets)
    (assets / "skins" / "a_diffuse.png").touch()
    folder = tmp_path / "out" / "training"
    (folder / "parts").mkdir(parents=True)
    (folder / "parts" / "000000-000001.pickle").touch()
    options = RenderOptions(tmp_path / "out", 1, assets=assets)
    dataset._check_same(folder, options)
    card = dataset.data_card(options, {"frames": 1, "flexion": {}, "action": {}, "background": {}})
    assert (
        "--assets assets`" in card
        and "0 environment maps, one in five of them for evaluation alone, and 1 skins of the" in card
    )
    (assets / "skins" / "a_diffuse.png").rename(assets / "skins" / "b_diffuse.png")  # as many, but others
    with pytest.raises(HandPoseError, match="holds a data set made with"):
        dataset._check_same(folder, options)
    identity = folder / dataset.RENDERED
    for older in (True, {"hdri": 0, "skins": 1}):
        identity.write_text(json.dumps({**json.loads(identity.read_text()), "assets": older}))
        dataset._check_same(folder, options)
    with pytest.raises(HandPoseError, match="holds a data set made with"):
        dataset._check_same(folder, RenderOptions(tmp_path / "out", 1))


def test_splits_do_not_share_environment_maps(tmp_path):
    maps = tmp_path / "assets" / "hdri"
    maps.mkdir(parents=True)
    for name in "abcde":
        (maps / f"{name}.hdr").touch()

    def check(split):
        options = RenderOptions(tmp_path, 1, split, assets=maps.parent)
        dataset._check_same(tmp_path / split, options)

    for split in rhd.SPLITS:
        (tmp_path / split / "parts").mkdir(parents=True)
    check("training")
    check("evaluation")
    (maps / "aa.hdr").touch()  # held out are others now
    with pytest.raises(HandPoseError, match="both splits may show the same environment"):
        check("evaluation")


def test_a_folder_without_frames_belongs_to_nobody(tmp_path):
    (tmp_path / "training" / "parts").mkdir(parents=True)
    for seed in (5, 6):
        dataset._check_same(tmp_path / "training", RenderOptions(tmp_path, 1, seed=seed))
    assert json.loads((tmp_path / "training" / dataset.RENDERED).read_text())["seed"] == 6


def test_assets_that_cannot_be_used_are_named_before_anything_is_rendered(tmp_path):
    for kind in ("hdri", "skins"):
        (tmp_path / "assets" / kind).mkdir(parents=True)
    grey, black, lamp = np.full((32, 64), 9, np.float32), np.zeros((32, 64, 3), np.float32), np.zeros((32, 64, 3))
    lamp[4, 5] = 90
    for name, pixels in {"grey": grey, "black": black, "lamp": lamp.astype(np.float32)}.items():
        suffix = ".png" if pixels.ndim == 2 else ".hdr"
        (tmp_path / "assets" / "hdri" / f"{name}.hdr").write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    (tmp_path / "assets" / "skins" / "a_diffuse.txt").write_text("skin")
    with pytest.raises(InvalidInputError) as error:
        render_dataset(RenderOptions(tmp_path / "out", 1, assets=tmp_path / "assets"), progress=False)
    faults = str(error.value).splitlines()
    assert ["black.hdr is black" in faults[0], "grey.hdr has no colours" in faults[1]] == [True, True]
    assert "a_diffuse.txt is not an image" in faults[2] and len(faults) == 4


def test_statistics_count_what_is_seen():
    hand = {"side": "left", "action": "fist", "tone": 0.5, "visible": 1.0, "distance_m": 1.0, "sleeve": True}
    hand |= {"back_towards_camera": 0.0, "fingers_up": 1.0, "size": 0.2}
    frame = {"view": "people", "environment": "procedural", "hands": [hand, hand | {"size": 0.0, "distance_m": 9.0}]}
    facts = [frame | {"tags": ["object", "person"]}, frame | {"tags": ["person"]}, frame | {"tags": []}]
    found = summarise(facts)
    assert found["frames_with"] == {"object": 0.3333, "person": 0.6667}
    assert found["hands"] == 3 and found["hands_per_frame"] == {"1": 1.0} and found["wrist_z_m"]["p95"] == 1.0
    assert summarise([frame | {"tags": [], "hands": []}])["size_of_frame"] == {}


@pytest.mark.parametrize("name", ["identity.json", "000000-000004.pickle"])
def test_a_damaged_file_of_an_earlier_run_is_named(tmp_path, name):
    parts = tmp_path / "training" / "parts"
    parts.mkdir(parents=True)
    options = RenderOptions(tmp_path, 4)
    dataset._check_same(tmp_path / "training", options)
    for damaged in (name, "000000-000004.pickle"):
        (parts / damaged).write_bytes(b"")
    with pytest.raises(HandPoseError, match=f"{name} is damaged: delete"):
        render_dataset(options, progress=False)


def test_the_card_has_the_commands_of_both_splits(tmp_path):
    out, facts = tmp_path / "my data", {"frames": 2, "flexion": {}, "action": {}, "background": {}}
    for split in rhd.SPLITS:
        (out / split / "parts").mkdir(parents=True)
        card = dataset.data_card(RenderOptions(out, 2, split), facts)
    for split in rhd.SPLITS:
        assert f"`hand_pose_3d render --out 'my data' --count 2 --split {split} " in card


def test_a_worker_that_dies_is_reported_in_words():
    assert sorted(dataset.in_processes(abs, [-3, 2, -1], 2)) == [1, 2, 3]
    with pytest.raises(HandPoseError, match="died"):
        list(dataset.in_processes(os._exit, [3, 3], 2))
    with pytest.raises(ValueError, match="factorial"):
        list(dataset.in_processes(math.factorial, [-1], 2))


def begin_file(path):
    with replacing(path):
        time.sleep(600 if path.name == "long" else 0)


def test_processes_that_are_ended_leave_no_unfinished_file(tmp_path):
    results, begin = dataset.in_processes(begin_file, [tmp_path / "short", tmp_path / "long"], 2), time.monotonic()
    next(results)
    while not list(tmp_path.glob(".*")):
        assert time.monotonic() < begin + 300
        time.sleep(0.05)
    results.close()
    while multiprocessing.active_children():
        assert time.monotonic() < begin + 300
        time.sleep(0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["short"]


def test_processes_end_with_who_waits_for_them():
    results, begin = dataset.in_processes(time.sleep, [0, 600], 2), time.monotonic()
    next(results)
    results.close()
    while multiprocessing.active_children():
        assert time.monotonic() < begin + 300
        time.sleep(0.05)
