"""STB in its original layout, with two frames a sequence."""

import numpy as np
import pytest
from scipy.io import savemat

from hand_pose_3d.datasets.stb import BASELINE_M, CAMERA, read_stb
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.skeleton import KEYPOINT_NAMES, Side


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(2)
    (tmp_path / "labels").mkdir()
    for sequence in ("B1Counting", "B1Random"):
        points = rng.uniform([-100, -100, 400], [100, 100, 700], (2, 21, 3))
        savemat(str(tmp_path / f"labels/{sequence}_BB.mat"), {"handPara": points.transpose(2, 1, 0)})
        (tmp_path / "images" / sequence).mkdir(parents=True)
        for camera in ("left", "right"):
            for frame in range(2):
                (tmp_path / f"images/{sequence}/BB_{camera}_{frame}.png").write_bytes(b"")
    return tmp_path


def raw(root, sequence="B1Counting"):
    from scipy.io import loadmat

    return loadmat(str(root / f"labels/{sequence}_BB.mat"))["handPara"].transpose(2, 1, 0) / 1000


def test_order_unit_and_side(root):
    samples = read_stb(root)
    assert len(samples) == 8 and {sample.side for sample in samples} == {Side.LEFT}
    first = samples[0]
    assert first.palm and first.image_path.name == "BB_left_0.png"
    stb = ["wrist"] + [f"{f}_{j}" for f in ("little", "ring", "middle", "index") for j in ("mcp", "pip", "dip", "tip")]
    stb += ["thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip"]
    for index, name in enumerate(stb):
        np.testing.assert_allclose(first.keypoints_m[KEYPOINT_NAMES.index(name)], raw(root)[0, index])


def test_what_lies_behind_the_camera_is_not_visible(root):
    damaged = raw(root) * 1000
    damaged[0], damaged[1, 0, 2] = 0.0, -400.0
    savemat(str(root / "labels/B1Counting_BB.mat"), {"handPara": damaged.transpose(2, 1, 0)})
    first, second = read_stb(root)[:2]
    assert not first.visible.any() and second.visible.sum() == 20


def test_right_camera_sees_the_hand_a_baseline_further_left(root):
    left, right = read_stb(root)[1:4:2]
    assert [sample.image_path.name for sample in (left, right)] == ["BB_left_1.png", "BB_right_1.png"]
    np.testing.assert_allclose(left.keypoints_m - right.keypoints_m, np.tile([BASELINE_M, 0, 0], (21, 1)), atol=1e-12)
    disparity = left.keypoints_px - right.keypoints_px
    np.testing.assert_allclose(disparity[:, 0], CAMERA.fx * BASELINE_M / left.keypoints_m[:, 2])
    np.testing.assert_allclose(disparity[:, 1], 0, atol=1e-9)


def test_sequences_in_the_root_are_found_too(root):
    for sequence in ("B1Counting", "B1Random"):
        (root / "images" / sequence).rename(root / sequence)
    assert len(read_stb(root)) == 8


def test_what_is_missing_is_named(root):
    (root / "images/B1Random/BB_right_1.png").unlink()
    with pytest.raises(InvalidInputError, match=r"images/B1Random/BB_right_1.png.*zhjwustc"):
        read_stb(root)
    with pytest.raises(InvalidInputError, match=r"B2Counting_BB.mat"):
        read_stb(root, "training")
    (root / "labels/B1Counting_BB.mat").write_bytes(b"not a matrix")
    with pytest.raises(InvalidInputError, match="not an STB label file"):
        read_stb(root)
    savemat(str(root / "labels/B1Counting_BB.mat"), {"handPara": np.zeros((3, 20, 2))})
    with pytest.raises(InvalidInputError, match="\\(3, 20, 2\\)"):
        read_stb(root)
