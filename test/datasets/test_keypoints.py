"""Folders with keypoints.json."""

import json

import numpy as np
import pytest

from hand_pose_3d.datasets.keypoints import read_keypoints
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.skeleton import Side


def entry(**changes):
    points = [[float(k), 2.0 * k] for k in range(21)]
    return {"image": "images/a.png", "width": 64, "height": 48, "side": "left", "keypoints_2d": points, **changes}


def write(folder, samples, **fields):
    (folder / "keypoints.json").write_text(json.dumps({"labels": "ground truth", "samples": samples, **fields}))
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / "a.png").touch()


def test_reads_all_fields(tmp_path):
    metric = np.random.default_rng(0).normal(size=(21, 3))
    camera = [[500, 0, 32], [0, 510, 24], [0, 0, 1]]
    write(tmp_path, [entry(keypoints=metric.tolist(), K=camera), entry(side="right", K=None, keypoints=None)])
    first, second = read_keypoints(tmp_path)
    assert first.side == Side.LEFT and second.side == Side.RIGHT
    assert first.image_path == tmp_path / "images/a.png"
    np.testing.assert_array_equal(first.keypoints_px[3], [3, 6])
    np.testing.assert_allclose(first.keypoints_m, metric)
    np.testing.assert_array_equal(first.camera.matrix, camera)
    assert (first.camera.width, first.camera.height) == (64, 48)
    assert second.keypoints_m is None and second.camera is None


def test_images_that_are_not_there_are_named_at_once(tmp_path):
    write(tmp_path, [entry(), entry(image="images/gone.png")])
    with pytest.raises(InvalidInputError, match="lacks images that keypoints.json lists: images/gone.png"):
        read_keypoints(tmp_path)


def test_points_without_a_number_are_not_visible(tmp_path):
    points = entry()["keypoints_2d"]
    points[4], points[7] = [float("nan"), 0.0], None
    write(tmp_path, [entry(keypoints_2d=points, visible=[True] * 20 + [False])])
    (sample,) = read_keypoints(tmp_path)
    assert list(np.flatnonzero(~sample.visible)) == [4, 7, 20]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (entry(keypoints_2d=[[0, 0]]), "not \\(21, 2\\)"),
        (entry(keypoints=[[0, 0, 0]]), "not \\(21, 3\\)"),
        ({"image": "b.png"}, "lacks 'keypoints_2d'"),
        (entry(side="middle"), "side must be left, right or unknown, not 'middle'"),
        (entry(image=5), "image is 5, not a path"),
        (entry(visible=[True] + [False] * 20), "two visible keypoints at different places"),
        (entry(keypoints_2d=[[3.0, 4.0]] * 21), "two visible keypoints at different places"),
        (entry(keypoints=[[0.0, 0.0, 0.0]] * 21), "all its keypoints are at one place"),
        (entry(visible=["false"] * 21), "visible must be a list of 21 true or false"),
        (entry(width=float("inf"), K=np.eye(3).tolist()), "malformed"),
        (entry(K=np.zeros((3, 3)).tolist()), "sample 0 .images/a.png. .* malformed: the camera matrix"),
        (3, "sample 0 .*it is of type int, not an object"),
    ],
)
def test_malformed_samples_are_named(tmp_path, broken, words):
    write(tmp_path, [broken])
    with pytest.raises(InvalidInputError, match=words):
        read_keypoints(tmp_path)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    write(tmp_path, [entry()])
    path = tmp_path / "keypoints.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_keypoints(tmp_path)) == 1


@pytest.mark.parametrize("text", [None, "{", "[]", '{"samples": 3}'])
def test_bad_file_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "keypoints.json").write_text(text)
    with pytest.raises(InvalidInputError, match=r"keypoints.json"):
        read_keypoints(tmp_path)
