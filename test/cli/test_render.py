"""hand_pose_3d render, end to end: a small data set that the package's own reader takes."""

from importlib.util import find_spec

import pytest
from click.testing import CliRunner

from hand_pose_3d.cli.render import command
from hand_pose_3d.datasets.rhd import read_rhd
from hand_pose_3d.errors import DeviceError, HandPoseError

pytestmark = pytest.mark.skipif(
    find_spec("anny") is None or find_spec("moderngl") is None, reason="needs pip install hand_pose_3d[render]"
)


def render(out, *arguments):
    result = CliRunner().invoke(command, ["--out", str(out), *arguments])
    if isinstance(result.exception, DeviceError):
        pytest.skip(str(result.exception))
    return result


def test_a_data_set_is_rendered_described_and_gone_on_with(tmp_path):
    arguments = ("--count", "2", "--split", "evaluation", "--seed", "5", "--people", "0", "--preview")
    result = render(tmp_path, *arguments)
    assert result.exit_code == 0, result.output
    assert f"contact sheet: {tmp_path / 'preview_evaluation.png'}" in result.output
    assert "frames: 2" in result.output and "| folded fingers |" in result.output
    samples = read_rhd(tmp_path, "evaluation", "all")
    assert {s.name for s in samples} == {"evaluation/00000.png", "evaluation/00001.png"}
    first = tmp_path / "evaluation" / "color" / "00000.png"
    before = first.read_bytes(), first.stat().st_mtime_ns

    assert render(tmp_path, *arguments).exit_code == 0  # nothing is left to do
    assert (first.read_bytes(), first.stat().st_mtime_ns) == before
    other = render(tmp_path, "--count", "2", "--split", "evaluation", "--seed", "6", "--people", "0")
    assert isinstance(other.exception, HandPoseError) and "choose another folder" in str(other.exception)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--count", "0"), "0 is not in the range x>=1"),
        (("--people", "1.5"), "1.5 is not in the range 0<=x<=1"),
        (("--engine", "eevee"), "'eevee' is not one of"),
        (("--assets", "nowhere"), "'nowhere' does not exist"),
    ],
)
def test_bad_options_are_refused(tmp_path, arguments, says):
    result = render(tmp_path / "set", *arguments)
    assert result.exit_code == 2 and says in result.output
    assert not (tmp_path / "set").exists()
