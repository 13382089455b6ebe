"""How programs begin: whatever the locale, the arguments and the home are."""

import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest

from hand_pose_3d.errors import InvalidInputError, what_to_install
from hand_pose_3d.ros import image_source, latency, node, rerun_view, share, start, teleop
from hand_pose_3d.ros.examples import pinch_gripper, retarget_hand

rclpy = pytest.importorskip("rclpy")

ROOT = Path(__file__).parents[2]


def search_path(*first: Path) -> str:
    """PYTHONPATH with folders before those that it has, an installed ROS 2 among them."""
    return os.pathsep.join([*map(str, first), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)
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


@pytest.mark.parametrize("told", [KeyboardInterrupt, "ExternalShutdownException", "a failure after a signal"])
def test_executors_go_away_after_the_thread_that_wakes_them_up(told, monkeypatch):
    from rclpy import executors, signals

    order: list[str] = []
    monkeypatch.setattr(signals, "uninstall_signal_handlers", lambda: order.append("signals"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def spin() -> None:
        executor = executors.SingleThreadedExecutor()
        weakref.finalize(executor, order.append, "executor")
        if told == "a failure after a signal":
            rclpy.shutdown(uninstall_handlers=False)
            raise RuntimeError("publisher's context is invalid")
        raise getattr(executors, str(told), KeyboardInterrupt)

    with start.process([]):
        spin()
    assert order[0] == "signals" and order[-1] == "executor" and not rclpy.ok()


def test_an_interrupt_that_came_out_as_something_else_ends_in_peace_too():
    with start.process([]):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise RuntimeError("unable to convert call argument") from None


def test_a_program_fails_in_words_and_a_fault_of_its_own_is_not_hidden():
    with pytest.raises(InvalidInputError, match="topic name"), start.process([]):
        rclpy.create_node("test").create_subscription(object, "/a b", print, 1)
    with pytest.raises(ZeroDivisionError), start.process([]):
        1 / 0  # noqa: B018
    assert not rclpy.ok()


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
        (image_source.main, ["--ros-args", "-p", "rate:=-1"], "rate must lie between 0 and 1000 Hz, not -1.0"),
        (image_source.main, ["--ros-args", "-p", "duration:=.nan"], "duration must lie between 0 and 1e+09 s, not nan"),
        (image_source.main, ["--ros-args", "-p", "width:=0"], "width must lie between 1 and 65535 pixels, not 0"),
        (image_source.main, ["--ros-args", "-p", "source:=tv"], "source must be one of auto, camera, video, clip"),
        (image_source.main, ["--ros-args", "-p", "loop:=1"], "parameter loop must be true or false, not 1"),
        (image_source.main, ["--ros-args", "-p", "width:=1.5"], "parameter width must be a whole number, not 1.5"),
        (image_source.main, ["--ros-args", "-p", "frame_id:=true"], "parameter frame_id must be text, not True"),
        (
            image_source.main,
            ["--ros-args", "-p", "use_sim_time:=1"],
            "parameter 'use_sim_time' to '1' of type 'INTEGER'",
        ),
    ],
)
def test_programs_say_what_is_wrong_in_a_sentence(main, arguments, words, capfd):
    assert main(arguments) == 1
    said = [line for line in capfd.readouterr().err.splitlines() if "[rcl]" not in line]
    assert len(said) == 1 and words in said[0]


@pytest.mark.parametrize("main", [node.main, teleop.main, image_source.main])
def test_arguments_that_are_not_for_ros_are_not_passed_over(main, capfd):
    assert main(["-p", "limits.speed:=0.05"]) == 1
    assert "no argument '-p': parameters are given as --ros-args -p NAME:=VALUE" in capfd.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0 and "usage:" in capfd.readouterr().out and not rclpy.ok()


@pytest.mark.parametrize(
    ("program", "given", "meant"),
    [
        (["hand_pose_3d.ros.examples.pinch_gripper"], "side:=left", "--side"),
        (["hand_pose_3d.ros.rerun_view", "--save", "hands.rrd"], "imag:=/x", "--image"),
        (["hand_pose_3d.ros.image_source"], "inputs:=x.mp4", "input"),
        (["hand_pose_3d.ros.teleop"], "hand_sid:=left", "hand_side"),
    ],
)
def test_a_parameter_that_nobody_reads_is_told(program, given, meant, tmp_path):
    if "--save" in program:
        pytest.importorskip("rerun")
    command = [sys.executable, "-m", *program, "--ros-args", "-p", given]
    environment = {**os.environ, "PYTHONPATH": search_path(ROOT)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as started:
        told = next(line for line in started.stderr if "[rcl]" not in line)
        started.send_signal(signal.SIGINT)
    assert f"no parameter {given.partition(':=')[0]}," in told and f"did you mean {meant}" in told


@pytest.mark.parametrize("option", [["--size", "0x0"], ["--size", "64x"], ["--rate", "nan"], ["--seconds", "-1"]])
def test_latency_refuses_what_it_cannot_measure(option, capfd):
    with pytest.raises(SystemExit):
        latency.main(option)
    told = capfd.readouterr().err
    assert f"argument {option[0]}: " in told and f"not {option[1]!r}" in told or f"{option[1]!r} is not" in told


def test_a_node_that_does_not_start_is_not_waited_for(capfd):
    assert latency.main(["--model", "7", "--size", "640x480"]) == 1
    said = capfd.readouterr().err
    assert "model must be one of" in said and "the node did not start; its output is above" in said


@pytest.mark.parametrize(
    ("program", "module"), [("hand_teleop", "numpy"), ("image_source", "cv2"), ("demo", "cv2"), ("latency", "cv2")]
)
def test_a_program_without_its_modules_says_what_to_install(program, module, tmp_path):
    (tmp_path / f"{module}.py").write_text(f"raise ModuleNotFoundError('No module named {module}', name='{module}')")
    environment = {**os.environ, "PYTHONPATH": search_path(tmp_path, ROOT)}
    command = [sys.executable, str(ROOT / "hand_pose_3d" / "ros" / "bin" / program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert f"{program}: Python module {module} is missing" in done.stderr and "install_python.sh" in done.stderr


def test_a_demo_that_cannot_be_made_ends(tmp_path):
    (tmp_path / "rosbags.py").write_text("raise ModuleNotFoundError('No module named rosbags', name='rosbags')")
    environment = {**os.environ, "PYTHONPATH": search_path(tmp_path, ROOT)}
    command = [sys.executable, "-m", "hand_pose_3d.ros.demo", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1 and "needs the module rosbags: pip install" in done.stderr


@pytest.mark.parametrize(
    ("module", "remedy"),
    [
        ("rosbags.rosbag2", "hand_pose_3d[bag]', or rosbags beside colcon"),
        ("safetensors.numpy", "install_python.sh"),
        ("hand_pose_3d.msg", "source install/setup.sh"),
        ("rclpy", "source ROS 2's setup"),
        ("trajectory_msgs.msg", "rosdep install"),
        (None, "are not compatible"),
    ],
)
def test_a_missing_module_has_its_own_remedy(module, remedy):
    error = ModuleNotFoundError("none", name=module) if module else ImportError("numpy.core.multiarray")
    assert remedy in what_to_install(error)


@pytest.mark.parametrize("locale", ["POSIX", "C.UTF-8"])
def test_weights_of_any_name_in_any_locale(locale, tmp_path):
    (tmp_path / "手").mkdir()
    code = (
        "from hand_pose_3d.ros.parameters import NodeParameters; NodeParameters(weights='{}/\\u624b').check_weights()"
    )
    environment = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", code.format(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("program", "module"),
    [
        (["-m", "hand_pose_3d.ros.node"], "rclpy"),
        (["-m", "hand_pose_3d.ros.image_source"], "numpy"),
        ([str(ROOT / "hand_pose_3d/ros/bin/hand_teleop")], "rclpy"),
        (["-m", "hand_pose_3d.cli"], "click"),
    ],
)
def test_an_interrupt_while_a_program_is_imported_ends_it_quietly(program, module, tmp_path):
    (tmp_path / f"{module}.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)\n")
    environment = {**os.environ, "PYTHONPATH": search_path(tmp_path, ROOT)}
    done = subprocess.run([sys.executable, *program], env=environment, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")
