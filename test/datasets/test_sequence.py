"""The reader of labelled videos."""

import json

import numpy as np
import pytest

from hand_pose_3d.datasets.sequence import read_sequences
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.outputs import VideoWriter
from hand_pose_3d.skeleton import Side

POINTS = (np.arange(42).reshape(21, 2) + 10.0).tolist()
CAMERA = {"fx": 60, "fy": 60, "cx": 31.5, "cy": 23.5, "width": 64, "height": 48}


@pytest.fixture
def folder(tmp_path):
    """A video a.mp4 of three frames, and a function that writes a.json beside it."""
    video = VideoWriter(tmp_path / "a.mp4", 30)
    for index in range(3):
        video.add(np.full((48, 64, 3), 60 * index, np.uint8), index / 30)
    video.close()

    def label(hands, **changes):
        data = {"fps": 30, "camera": CAMERA, "frames": [{"hands": h} for h in hands]} | changes
        (tmp_path / "a.json").write_text(json.dumps(data))
        return tmp_path

    return label


def test_hands_are_read(folder):
    hands = [{"side": "right", "keypoints_2d": POINTS}, {"id": 7, "box": [1, 2, 3, 4], "ignore": True}]
    (sequence,) = read_sequences(folder([hands, [], hands[:1]]))
    first, second = sequence.frames[0]
    assert (first.identity, first.side, first.ignore) == (int(Side.RIGHT), Side.RIGHT, False)
    np.testing.assert_array_equal(first.box_px, [10, 11, 40, 40])
    assert (second.identity, second.side, second.ignore, second.keypoints_px) == (7, Side.UNKNOWN, True, None)
    assert [len(frame) for frame in sequence.frames] == [2, 0, 1]
    assert sequence.camera.width == 64 and sequence.fps == 30
    assert [round(image.mean() / 60) for image in sequence.images()] == [0, 1, 2]


@pytest.mark.parametrize(
    "hands, changes, words",
    [
        ([[{"side": "up", "box": [0, 0, 1, 1]}], [], []], {}, "frame 0 .* side must be left, right or unknown"),
        ([[], [{"side": "left"}], []], {}, "frame 1 .* keypoints_2d or box"),
        ([[], [], [{"keypoints_2d": POINTS[:20]}]], {}, "frame 2 .* 21 points of 2"),
        ([[{"keypoints_2d": [[3, 4]] * 21}], [], []], {}, "must span an area"),
        ([[{"box": [10**400, 0, 1, 1]}], [], []], {}, "frame 0 .* malformed"),
        ([[{"box": [0, 0, 0, 1]}], [], []], {}, "positive sizes"),
        ([[{"box": [0, 0, 1, 1], "id": "a"}], [], []], {}, "whole number"),
        ([[{"box": [0, 0, 1, 1]}] * 2, [], []], {}, "two hands have one id"),
        ([[], [], []], {"fps": 0}, "fps"),
        ([[], [], []], {"camera": {"fx": 1}}, "camera of .*a.json"),
        ([], {}, "no list named frames"),
        ([[], [], []], {"frames": [[], [], []]}, "frame 0 .* malformed: it is not an object with a list named hands"),
        ([[], [], []], {"frames": [{"hands": None}]}, "frame 0 .* malformed: it is not an object with a list"),
        ([[{"keypoints_2d": [*POINTS[:20], None]}], [], []], {}, "21 points of 2 finite numbers"),
        ([[], [], []], {"camera": [1]}, "camera of .*a.json is malformed: it is not an object with fx"),
    ],
)
def test_malformed_labels_are_named(folder, hands, changes, words):
    with pytest.raises(InvalidInputError, match=words):
        read_sequences(folder(hands, **changes))


def test_labels_of_another_video_are_told(folder):
    (sequence,) = read_sequences(folder([[], []]))
    with pytest.raises(InvalidInputError, match="has 3 frames, the file beside it labels 2"):
        list(sequence.images())


def test_folders_without_labelled_videos_are_told(folder, tmp_path):
    with pytest.raises(InvalidInputError, match="holds no video"):
        read_sequences(tmp_path)
    with pytest.raises(InvalidInputError, match="cannot read the folder"):
        read_sequences(tmp_path / "none")
    folder([])
    for text in ("{", "[" * 100_000):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(InvalidInputError, match="is not JSON"):
            read_sequences(tmp_path)
