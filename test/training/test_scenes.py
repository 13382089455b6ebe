"""Packs of scenes give back what was put in."""

from pathlib import Path

import numpy as np
import pytest
from scene_maker import find_dots, keypoints, packed, scene

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.training.crops import ArrayWriter
from hand_pose_3d.training.scenes import HAND, LARGEST_SIDE, UNKNOWN, ScenePack, pack_scenes


def test_a_pack_gives_back_every_scene_with_its_hands(tmp_path: Path) -> None:
    one, two = keypoints((80, 90), 60), keypoints((230, 150), 90, 1.0)
    scenes = [
        scene(size=(60, 40)),
        scene(one, two, sure=(True, False), complete=False),
        scene(size=(32, 64), complete=False),
        scene(two, size=(300, 220)),
        scene(size=(50, 50)),
    ]
    scenes[1].right[:] = [np.nan, 1]
    scenes[1].spread[:] = 0.03
    made = pack_scenes([(f"source {k}", s) for k, s in enumerate(scenes)], tmp_path)
    for pack in (made, ScenePack(tmp_path)):
        assert len(pack) == 5 and pack.num_sure.tolist() == [0, 1, 0, 1, 0]
        assert pack.source.tolist() == [f"source {k}" for k in range(5)]
        for k, before in enumerate(scenes):
            after = pack[k]
            np.testing.assert_array_equal(after.rgbc, before.rgbc)
            np.testing.assert_allclose(after.keypoints_px, before.keypoints_px, atol=1e-4)
            np.testing.assert_array_equal(after.sure, before.sure)
            np.testing.assert_array_equal(after.right, before.right)
            np.testing.assert_allclose(after.spread, before.spread)
            assert after.complete == before.complete and after.sure.dtype == bool


def test_large_images_are_made_smaller_with_their_labels(tmp_path: Path) -> None:
    big = scene(keypoints((700, 400), 400), size=(1200, 800), radius=15)
    big.rgbc[:100, :, 3] = UNKNOWN
    small = packed(tmp_path, big)[0]
    height, width = small.rgbc.shape[:2]
    assert (width, height) == (LARGEST_SIDE, LARGEST_SIDE * 2 // 3)
    np.testing.assert_allclose(find_dots(small.rgbc[..., :3]), small.keypoints_px[0], atol=0.6)
    assert set(np.unique(small.rgbc[..., 3])) == {0, HAND, UNKNOWN}  # classes are not mixed
    assert (small.rgbc[:39, :, 3] == UNKNOWN).all() and (small.rgbc[41:, :, 3] != UNKNOWN).all()


def test_what_is_no_pack_and_what_was_never_finished_are_refused(tmp_path: Path) -> None:
    def breaks():
        yield "one", scene()
        raise RuntimeError("the disk is full")

    with pytest.raises(InvalidInputError, match="not a pack of scenes"):
        ScenePack(tmp_path)
    with pytest.raises(RuntimeError):
        pack_scenes(breaks(), tmp_path)
    with pytest.raises(InvalidInputError, match="not a pack of scenes"):
        ScenePack(tmp_path)
    with pytest.raises(InvalidInputError, match="no scene to pack"):
        pack_scenes([], tmp_path / "none")
    assert len(packed(tmp_path, scene())) == 1  # and can be made again in the same place
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/labels.npz").write_text("precious")
    with pytest.raises(InvalidInputError, match="other than a pack"):
        packed(tmp_path / "mine", scene())
    assert (tmp_path / "mine/labels.npz").read_text() == "precious"


def test_rows_are_written_as_they_come_and_a_full_disk_is_an_error(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (1100, 3, 2), dtype=np.uint8)
    with ArrayWriter(tmp_path / "rows.npy", (3, 2)) as writer:
        writer.append(rows[:7])
        writer.append(rows[7:])
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy", "r"), rows)
    with ArrayWriter(tmp_path / "none.npy", (3, 2)):
        pass
    assert np.load(tmp_path / "none.npy").shape == (0, 3, 2)
    if Path("/dev/full").exists():
        with pytest.raises(OSError, match="No space"), ArrayWriter(Path("/dev/full"), (3, 2)) as writer:
            writer.append(rows)
