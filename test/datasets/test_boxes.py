"""Folders with boxes.json."""

import json

import cv2
import numpy as np
import pytest

from hand_pose_3d.datasets.boxes import read_boxes
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.skeleton import Side


def hand(**changes):
    return {"box": [10, 20, 30.5, 12], **changes}


def entry(*hands, **changes):
    return {"file": "images/a.png", "width": 64, "height": 48, "hands": list(hands), **changes}


@pytest.fixture
def write(tmp_path):
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.full((48, 64, 3), (0, 0, 200), np.uint8))

    def write(*images, **fields):
        (tmp_path / "boxes.json").write_text(json.dumps({"images": list(images), **fields}))
        return tmp_path

    return write


def test_reads_all_fields_and_tolerates_others(write):
    full = hand(side="left", ignore=True, holding=True, touching=False, gloved=True, observer="me")
    first, second = read_boxes(write(entry(full, hand(), source="a camera"), entry(), version=2))
    assert first.name == "images/a.png" and (first.width, first.height) == (64, 48)
    assert second.hands == ()
    labelled, plain = first.hands
    np.testing.assert_array_equal(labelled.box_px, [10, 20, 30.5, 12])
    assert (labelled.side, labelled.ignore, labelled.kinds) == (Side.LEFT, True, {"holding", "gloved"})
    assert (plain.side, plain.ignore, plain.kinds) == (Side.UNKNOWN, False, set())
    assert first.relative_size(plain) == 30.5 / 64
    assert tuple(first.image()[0, 0]) == (200, 0, 0)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (3, "image 1 of .*not an object"),
        ({"file": "images/a.png"}, r"image 1 \(images/a.png\).*lacks 'width'"),
        (entry(file=7), "file is not a name"),
        (entry(width=0), "positive whole numbers"),
        (entry(hands=None), "hands is not a list"),
        (entry(hand(), 5), "hand 1: it is not an object"),
        (entry({}), "hand 0 lacks 'box'"),
        (entry(hand(box=[1, 2, 3])), r"not \[1, 2, 3\]"),
        (entry(hand(box=[1, 2, 0, 4])), "positive sizes"),
        (entry(hand(box=[1, 2, float("nan"), 4])), "positive sizes"),
        (entry(hand(box=[64, 2, 3, 4])), "shows nothing of 64x48 pixels"),
        (entry(hand(box=[0.2, 0.3, 0.4, 0.5])), "shows nothing of 64x48 pixels"),
        (entry(hand(box="wide")), "not 'wide'"),
        (entry(hand(box=[10**400, 1, 2, 3])), "positive sizes"),
        (entry(width=10**400), "width and height must be positive whole numbers up to 1000000"),
        (entry(hand(box=[1, 2, 3, [4]])), "positive sizes"),
        (entry(hand(side="middle")), "side must be left, right or unknown, not 'middle'"),
        (entry(hand(ignore=1)), "ignore must be true or false, not 1"),
    ],
)
def test_malformed_entries_are_named(write, broken, words):
    with pytest.raises(InvalidInputError, match=words):
        read_boxes(write(entry(), broken))


@pytest.mark.parametrize("text", [None, "{", "[]", '{"images": 3}', '{"images": []}'])
def test_bad_file_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(InvalidInputError, match=r"boxes.json"):
        read_boxes(tmp_path)


def test_missing_images_are_named(write):
    names = [entry(file=f"images/{index}.png") for index in range(6)]
    with pytest.raises(InvalidInputError, match=r"images/0.png, .*images/3.png and 2 more"):
        read_boxes(write(entry(), *names))


def test_an_image_of_another_size_is_named(write):
    (image,) = read_boxes(write(entry(width=48, height=64)))
    with pytest.raises(InvalidInputError, match=r"64x48 pixels, boxes.json says 48x64"):
        image.image()
