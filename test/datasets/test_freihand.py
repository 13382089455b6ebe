"""FreiHAND in its original layout."""

import json

import numpy as np
import pytest

from hand_pose_3d.datasets.freihand import read_freihand
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.skeleton import Side

K = [[480.0, 0, 112], [0, 490.0, 112], [0, 0, 1]]


@pytest.fixture
def root(tmp_path):
    xyz = np.random.default_rng(3).uniform([-0.1, -0.1, 0.5], [0.1, 0.1, 0.9], (3, 21, 3))
    for split, pictures in (("training", 12), ("evaluation", 3)):
        (tmp_path / split / "rgb").mkdir(parents=True)
        for index in range(pictures):
            (tmp_path / f"{split}/rgb/{index:08d}.jpg").write_bytes(b"")
        (tmp_path / f"{split}_xyz.json").write_text(json.dumps(xyz.tolist()))
        (tmp_path / f"{split}_K.json").write_text(json.dumps([K] * 3))
    return tmp_path


def test_labels_in_public_order(root):
    samples = read_freihand(root)
    xyz = np.array(json.loads((root / "evaluation_xyz.json").read_text()))
    assert [sample.side for sample in samples] == [Side.RIGHT] * 3
    for sample, points in zip(samples, xyz, strict=True):
        np.testing.assert_array_equal(sample.keypoints_m, points)
        projected = points @ np.array(K).T
        np.testing.assert_allclose(sample.keypoints_px, projected[:, :2] / projected[:, 2:])


def test_what_has_no_label_is_not_visible(root):
    xyz = json.loads((root / "evaluation_xyz.json").read_text())
    xyz[0], xyz[1][3] = [[None] * 3] * 21, [0.0, 0.0, -1.0]
    (root / "evaluation_xyz.json").write_text(json.dumps(xyz))
    without, partly, whole = (sample.visible for sample in read_freihand(root))
    assert not without.any() and np.flatnonzero(~partly).tolist() == [3] and whole.all()


def test_of_the_versions_of_a_training_picture_the_first_is_taken(root):
    assert [s.image_path.name for s in read_freihand(root, "training")] == [f"{index:08d}.jpg" for index in range(3)]


def test_what_is_missing_or_malformed_is_named(root):
    (root / "training/rgb/00000002.jpg").unlink()
    with pytest.raises(InvalidInputError, match=r"training/rgb/00000002.jpg.*lmb.informatik"):
        read_freihand(root, "training")
    (root / "evaluation_K.json").write_text(json.dumps([K] * 2))
    with pytest.raises(InvalidInputError, match="do not belong together"):
        read_freihand(root)
    (root / "evaluation_K.json").write_text(json.dumps([K, np.zeros((3, 3)).tolist(), K]))
    with pytest.raises(InvalidInputError, match=r"evaluation_K.json, 00000001.jpg: the camera matrix"):
        read_freihand(root)
    for text in ("{}", "[1]", f"[[[{10**400}]]]"):
        (root / "evaluation_K.json").write_text(text)
        with pytest.raises(InvalidInputError, match="not a FreiHAND label file"):
            read_freihand(root)
    (root / "evaluation_xyz.json").unlink()
    with pytest.raises(InvalidInputError, match=r"evaluation_xyz.json"):
        read_freihand(root)
