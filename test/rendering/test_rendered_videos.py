"""Rendered videos: their truth fits their pictures; hands come in, keep still, move and go."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from hand_pose_3d.cli import main
from hand_pose_3d.datasets.sequence import read_sequences
from hand_pose_3d.evaluation.sequences import appearances


def render(*arguments):
    return CliRunner().invoke(main, ["render", *map(str, arguments)])


@pytest.fixture(scope="module")
def clips(maker, tmp_path_factory):
    """The command of the documentation, shorter; maker: skips where nothing can be rendered."""
    out = tmp_path_factory.mktemp("clips")
    options = ("--count", 1, "--seconds", 1, "--split", "evaluation", "--seed", 4, "--people", 0)
    result = render("--out", out, *options)
    assert result.exit_code == 0, result.output
    return out, options


def test_truth_belongs_to_the_pictures(clips):
    sequences = read_sequences(clips[0])
    assert [s.path.name for s in sequences] == ["0000.mp4"]
    for sequence in sequences:
        images = list(sequence.images())
        assert images[0].shape == (480, 640, 3) and len(images) == 30
        assert not np.array_equal(images[8], images[9])
        for hand in (hand for frame in sequence.frames for hand in frame):
            np.testing.assert_allclose(sequence.camera.project(hand.keypoints_m), hand.keypoints_px, atol=0.1)


def test_hands_come_keep_still_move_and_go(clips):
    found = 0
    for sequence in read_sequences(clips[0]):
        assert not sequence.frames[0] and not sequence.frames[-1]
        for run in appearances(sequence, [()] * 30):
            found += 1
            steps = np.linalg.norm(np.diff(run.keypoints_px, axis=0), axis=-1).max(axis=-1) / run.size_px
            still = slice(8 - run.first, 14 - run.first)
            assert steps[still].max() < 2e-3 < steps[16 - run.first :].max()
    assert found


def test_again_renders_nothing_and_another_way_is_refused(clips):
    out, options = clips
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert render("--out", out, *options).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    result = render("--out", out, *options[:-2], "--people", 1)
    assert (
        result.exit_code == 1
        and "was made with other options or by another version; choose another folder" in result.output
    )
    assert json.loads((out / "0000.json").read_text())["made"]["seed"] == 4


def test_a_sequence_without_its_video_is_made_again_and_one_of_other_characters_is_another(clips, tmp_path):
    out, options = clips
    for name in ("0000.json", "0000.mp4"):
        (tmp_path / name).write_bytes((out / name).read_bytes())
    (tmp_path / "0000.mp4").unlink()
    truth = (tmp_path / "0000.json").read_text()
    (tmp_path / "0000.json").write_text(truth.replace('"fps":30', '"fps":29'))  # of another version, say
    assert render("--out", tmp_path, *options).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000.json", "0000.mp4"]
    assert (tmp_path / "0000.json").read_text() == truth
    result = render("--out", tmp_path, *options, "--characters", 1)
    assert result.exit_code == 1 and "was made with other options" in result.output
    few = tmp_path / "few"
    assert render("--out", few, *options, "--characters", 1).exit_code == 0
    assert (few / "0000.json").read_text() != (out / "0000.json").read_text()


def test_options_for_images_are_refused(tmp_path):
    result = render("--out", tmp_path / "c", "--seconds", 2, "--preview")
    assert result.exit_code == 1 and "--seconds makes videos with the rasteriser" in result.output
