"""How programs begin: whatever the locale, the arguments and the home are."""

import os

import pytest

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.ros import rerun_view, share, start
from hand_pose_3d.ros.examples import pinch_gripper, retarget_hand

rclpy = pytest.importorskip("rclpy")


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")
    yield
    rclpy.try_shutdown()


def test_ros_gets_its_own_arguments_only(monkeypatch):
    monkeypatch.setattr("sys.argv", ["demo", "--input", os.fsdecode(b"caf\xe9.png"), "--ros-args", "-p", "a:=手"])
    start.init()
    assert rclpy.create_node("test").declare_parameter("a", "").value == "手"


def test_ros_arguments_are_utf_8_in_any_locale(monkeypatch):
    with pytest.raises(InvalidInputError, match="file: URL"):
        start.init(["--ros-args", "-p", "input:=" + os.fsdecode(b"caf\xe9.png")])
    # As Python decodes arguments under a POSIX locale, and wants names of files.
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("ascii", "surrogateescape"))
    monkeypatch.setattr(os, "fsdecode", lambda data: data.decode("ascii", "surrogateescape"))
    given = "手.png".encode().decode("ascii", "surrogateescape")
    start.init(["--ros-args", "-p", f"input:={given}"])
    value = rclpy.create_node("test").declare_parameter("input", "").value
    assert value == "手.png" and start.file_name(value) == given


@pytest.mark.parametrize("home", [None, "", "/proc/nowhere"])
def test_logs_have_a_place_without_a_home(home, monkeypatch):
    for name in ("ROS_HOME", "ROS_LOG_DIR", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    share.log_somewhere()
    assert "ros_log" in os.environ["ROS_LOG_DIR"]
    monkeypatch.undo()


def test_logs_stay_at_home(tmp_path, monkeypatch):
    monkeypatch.delenv("ROS_LOG_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    share.log_somewhere()
    assert "ROS_LOG_DIR" not in os.environ and (tmp_path / ".ros" / "log").is_dir()


@pytest.mark.parametrize(
    ("main", "arguments", "words"),
    [
        (pinch_gripper.main, ["--speed", "nan"], "--speed must be a positive number, not nan"),
        (pinch_gripper.main, ["--max-opening", "-1"], "--max-opening must be a positive number"),
        (pinch_gripper.main, ["--hands", "a b"], "Invalid topic name"),
        (retarget_hand.main, ["--write-urdf", "/proc/hand.urdf"], "/proc/hand.urdf cannot be used"),
        (rerun_view.main, ["--bag", "/nowhere"], "there is no recording /nowhere"),
    ],
)
def test_programs_say_what_is_wrong_in_a_sentence(main, arguments, words, capfd):
    assert main(arguments) == 1
    said = [line for line in capfd.readouterr().err.splitlines() if "[rcl]" not in line]
    assert len(said) == 1 and words in said[0]
