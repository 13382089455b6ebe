"""Dexter+Object in its original layout."""

import numpy as np
import pytest

from hand_pose_3d.datasets.dexter import COLOUR_CAMERA, read_dexter
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.skeleton import FINGERTIPS, Side

LINE = "-10, 20, 400; -5, 21, 410; 0, 22, 420; 5, 23, 32001; 10, 24, 440; 1, 2, 500; 3, 4, 510; 0, 0, 32001;\n"


@pytest.fixture
def root(tmp_path):
    for kind in ("color", "depth", "annotations"):
        (tmp_path / "data/Grasp1" / kind).mkdir(parents=True)
    for frame in range(2):
        (tmp_path / f"data/Grasp1/color/image_{frame:05d}_color.png").write_bytes(b"")
        (tmp_path / f"data/Grasp1/depth/image_{frame:05d}_depth.png").write_bytes(b"")
    (tmp_path / "data/Grasp1/annotations/Grasp13D.txt").write_text(2 * LINE)
    return tmp_path


def test_fingertips_in_the_colour_camera(root):
    first = read_dexter(root, ("Grasp1",))[0]
    assert first.side == Side.LEFT
    # x and y change sign; then the first row of the colour camera's rotation, and its translation.
    x = 0.9999 * 10 + 0.0034 * -20 + 0.0161 * 400 + 19.0473
    assert first.keypoints_m[FINGERTIPS[0], 0] == pytest.approx(x / 1000)
    labelled = np.isfinite(first.keypoints_m).all(-1)
    assert list(np.flatnonzero(labelled)) == [4, 8, 12, 20]
    np.testing.assert_array_equal(first.visible, labelled)
    np.testing.assert_allclose(first.keypoints_px[8], COLOUR_CAMERA.project(first.keypoints_m[8]))


def test_tips_outside_the_image_are_not_visible(root):
    line = LINE.replace("-10, 20, 400", "-4000, 20, 400")
    (root / "data/Grasp1/annotations/Grasp13D.txt").write_text(line + LINE)
    assert not read_dexter(root, ("Grasp1",))[0].visible[4]


def test_what_is_missing_or_malformed_is_named(root):
    with pytest.raises(InvalidInputError, match=r"data/Grasp2/annotations/Grasp23D.txt.*handtracker"):
        read_dexter(root)
    labels = root / "data/Grasp1/annotations/Grasp13D.txt"
    labels.write_text(LINE + "1, 2; 3, x, 4;\n")
    with pytest.raises(InvalidInputError, match="line 2"):
        read_dexter(root, ("Grasp1",))
    labels.write_text("")
    with pytest.raises(InvalidInputError, match="no frames"):
        read_dexter(root, ("Grasp1",))
    labels.write_text(3 * LINE)
    with pytest.raises(InvalidInputError, match="color with 3 images"):
        read_dexter(root, ("Grasp1",))
