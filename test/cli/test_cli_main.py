"""The command line's frame: its help, its laziness and how it ends when something is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from hand_pose_3d import __version__, cli
from hand_pose_3d.errors import HandPoseError


def with_command(monkeypatch, error):
    """`predict` becomes a command that raises the error."""

    @click.command()
    def command():
        raise error

    monkeypatch.setattr(cli, "import_module", lambda name: SimpleNamespace(command=command))
    return CliRunner().invoke(cli.main, ["predict"])


def test_help_lists_every_command_without_importing_any():
    code = (
        "import sys\n"
        "from hand_pose_3d.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name, help_line in cli.COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert help_line.split()[0] in done.stdout
    modules = set(done.stderr.split())
    assert {"hand_pose_3d", "hand_pose_3d.cli", "click"} <= modules
    assert not modules & {"numpy", "torch", "cv2", "scipy", "rclpy", "onnxruntime", "matplotlib", "moderngl"}
    assert not [m for m in modules if m.startswith("hand_pose_3d.cli.")]


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_listed_command_exists_and_explains_itself(name):
    result = CliRunner().invoke(cli.main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def test_version():
    assert __version__ in CliRunner().invoke(cli.main, ["--version"]).output


def test_unknown_command_is_refused_by_name():
    result = CliRunner().invoke(cli.main, ["predikt"])
    assert result.exit_code == 2
    assert "predikt" in result.output


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (HandPoseError("model is 'x'; allowed are 'lite' and 'paper'"), "allowed are 'lite' and 'paper'"),
        (FileNotFoundError(2, "No such file or directory", "a.jpg"), "a.jpg: No such file or directory"),
        (ModuleNotFoundError("No module named 'rerun'", name="rerun"), "hand_pose_3d[viewer]"),
    ],
)
def test_expected_errors_are_one_line_and_status_1(monkeypatch, error, says):
    result = with_command(monkeypatch, error)
    assert result.exit_code == 1
    assert says in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert "Traceback" not in result.output


def test_a_mistake_in_the_program_keeps_its_traceback(monkeypatch):
    assert isinstance(with_command(monkeypatch, ZeroDivisionError()).exception, ZeroDivisionError)
    missing = ModuleNotFoundError("No module named 'hand_pose_3d.typo'", name="hand_pose_3d.typo")
    assert isinstance(with_command(monkeypatch, missing).exception, ModuleNotFoundError)


def test_streams_that_are_closed_go_nowhere(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    command = f"exec '{sys.executable}' -m hand_pose_3d.cli predict a.png --json o.json >&- 2>&-"
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    done = subprocess.run(["sh", "-c", command], env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "not an image" in json.loads((tmp_path / "o.json").read_text())[0]["error"]


def test_interrupt_is_quiet(monkeypatch):
    result = with_command(monkeypatch, KeyboardInterrupt())
    assert (result.exit_code, result.output) == (130, "")
