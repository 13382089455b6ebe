"""Contact sheets show each frame plain and, below, with its labels drawn."""

import cv2
import numpy as np
import pytest

from hand_pose_3d.rendering.preview import write_preview
from hand_pose_3d.rendering.rhd_writer import write_annotation, write_frame

TILE = 160


@pytest.fixture
def root(tmp_path):
    """Three frames in three greys; the last has two right hands, an area of their class under an open skeleton."""
    folder = tmp_path / "training"
    for name in ("color", "mask", "depth"):
        (folder / name).mkdir(parents=True)
    records = {}
    for index, grey in enumerate((40, 120, 200)):
        label = np.zeros((320, 320), np.uint8)
        hands = []
        if index == 2:
            label[80:240, 80:240] = 18
            line = np.stack([np.linspace(100, 220, 21), np.linspace(220, 100, 21)], axis=1)
            hands = [{"uv": uv, "visible": np.ones(21, bool)} for uv in (line, line + [40, 40])]
            hands.append({"uv": line - 60, "visible": np.zeros(21, bool)})  # behind something
        write_frame(folder, index, np.full((320, 320, 3), grey, np.uint8), label, np.ones((320, 320), np.float32))
        records[index] = {"hands": hands}
    write_annotation(folder, records)
    return tmp_path


def test_plain_and_drawn_pictures_lie_below_one_another(root):
    path = write_preview(root, "training", columns=2)
    assert path == root / "preview_training.png"
    sheet = cv2.imread(str(path))
    assert sheet.shape == (4 * TILE, 2 * TILE, 3)
    tiles = sheet.reshape(4, TILE, 2, TILE, 3).swapaxes(1, 2)
    assert (tiles[0, 0] == 40).all() and (tiles[0, 1] == 120).all() and (tiles[2, 0] == 200).all()
    assert (tiles[1] == tiles[0]).all()  # nothing is labelled there
    assert not tiles[2:, 1].any()  # there is no fourth frame
    drawn = tiles[3, 0].astype(int)
    assert (drawn[:40] == 200).all()  # outside the hand
    blue, green, red = drawn[45, 45]
    assert red > green > blue  # orange, as right hands are
    for shift in (0, 20):  # both skeletons
        along = drawn[np.arange(52, 98) + shift, np.arange(107, 61, -1) + shift]
        assert (np.abs(along - drawn[45, 45]).max(axis=1) > 20).mean() > 0.8
