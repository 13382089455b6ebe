"""The demo from end to end with a light estimator, the image source, and what they say about bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from ros_client import HERE, Process

DEMO = f"""
import sys
from hand_pose_3d.ros.demo import main
sys.exit(main(sys.argv[1:], ({str(HERE / "fake_estimator.py")!r},)))
"""


@pytest.fixture
def video(tmp_path) -> Path:
    """Two seconds that grow brighter."""
    path = tmp_path / "bright.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20.0, (64, 48))
    for k in range(40):
        writer.write(np.full((48, 64, 3), 40 + 3 * k, np.uint8))
    writer.release()
    return path


def run_demo(*arguments: object, program: str = DEMO) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=HERE.parents[1])


def check_foxglove_layout(reader) -> None:
    """Every topic that the layout shows is recorded, with a type that its panel takes, and every field is there."""
    layout = json.loads((HERE.parents[1] / "config" / "foxglove.json").read_text(encoding="utf-8"))
    panels = {name.partition("!")[0]: config for name, config in layout["configById"].items()}
    assert set(panels) == {"Image", "3D", "Plot", "DiagnosticSummary"}
    assert set(re.findall(r'"(\w+)!hands"', json.dumps(layout["layout"]))) == set(panels)
    types = {c.topic: c.msgtype for c in reader.connections}
    image = panels["Image"]["imageMode"]
    assert types[image["imageTopic"]] == "sensor_msgs/msg/Image"
    assert types[image["calibrationTopic"]] == "sensor_msgs/msg/CameraInfo"
    for panel in ("Image", "3D"):
        assert {types[topic] for topic in panels[panel]["topics"]} == {"visualization_msgs/msg/MarkerArray"}
    assert panels["3D"]["scene"]["transforms"]["showLabel"]
    assert types[panels["DiagnosticSummary"]["topicToRender"]] == "diagnostic_msgs/msg/DiagnosticArray"
    angles = [c for c in reader.connections if c.topic == "/hand_pose_3d/joint_states"]
    _, _, data = next(reader.messages(angles))
    message = reader.deserialize(data, angles[0].msgtype)
    for path in panels["Plot"]["paths"]:
        topic, number = re.fullmatch(r"(.+)\.position\[(\d+)\]", path["value"]).groups()
        assert topic == angles[0].topic
        assert message.name[int(number)].partition("_")[2] == path["label"].replace(" ", "_")


def test_demo_leaves_video_recording_and_figures(video, tmp_path):
    rosbags = pytest.importorskip("rosbags.highlevel")
    out = tmp_path / "out"
    done = run_demo("--input", video, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "latency, image stamp to message" in done.stdout and "images with a hand" in done.stdout

    frames = cv2.VideoCapture(str(out / "overlay.mp4"))
    assert frames.get(cv2.CAP_PROP_FRAME_COUNT) > 10 and frames.read()[0]
    assert cv2.imread(str(out / "overlay.png")).shape == (48, 64, 3)
    with rosbags.AnyReader([out / "recording"]) as reader:
        topics = {c.topic: c.msgtype for c in reader.connections}
        assert topics["/hand_pose_3d/hands"] == "hand_pose_3d/msg/HandPose3DArray"
        assert {"/image", "/camera_info", "/diagnostics", "/hand_pose_3d/hand"} <= set(topics)
        check_foxglove_layout(reader)
        stamps: dict[str, list] = {"/image": [], "/hand_pose_3d/hands": []}
        for connection, _, data in reader.messages():
            if connection.topic in stamps:
                header = reader.deserialize(data, connection.msgtype).header
                stamps[connection.topic].append((header.stamp.sec, header.stamp.nanosec))
    assert len(stamps["/hand_pose_3d/hands"]) > 10
    assert set(stamps["/hand_pose_3d/hands"]) <= set(stamps["/image"])


def bad_inputs(tmp_path: Path):
    (tmp_path / "cut.png").write_bytes(cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes()[:60])
    (tmp_path / "text.mp4").write_text("not a video")
    return {
        "missing.jpg": "No such file",
        "cut.png": "cut off",
        "text.mp4": "not a video",
        "/dev/video99": "no camera",
        "gopher://hands/1": "URLs may begin with",
    }


@pytest.mark.parametrize("program", ["demo", "image_source"])
def test_bad_input_is_one_sentence(program, tmp_path):
    for name, says in bad_inputs(tmp_path).items():
        target = name if name.startswith(("/dev", "gopher")) else str(tmp_path / name)
        ros = ["--ros-args", "-p", f'input:="{target}"']
        arguments = ["--input", target, "--out", str(tmp_path / "out")] if program == "demo" else ros
        code, output = Process("-m", f"hand_pose_3d.ros.{program}", *arguments).wait()
        lines = [line for line in output.splitlines() if not line.startswith("[")]
        assert code == 1 and len(lines) == 1 and says in lines[0], (name, output)


def test_node_that_does_not_start_ends_the_demo(video, tmp_path):
    done = run_demo("--input", video, "--out", tmp_path / "out", "--device", "gpu")
    assert done.returncode == 1 and "cuda:N" in done.stderr and "Traceback" not in done.stderr


def test_output_folder_that_cannot_be_made(video, tmp_path):
    (tmp_path / "file").touch()
    done = run_demo("--input", video, "--out", tmp_path / "file")
    assert done.returncode == 1 and "cannot write" in done.stderr and "Traceback" not in done.stderr


FULL_DISK = f"""
from hand_pose_3d.ros import recording
def full(*_):
    raise OSError(28, "No space left on device")
recording.OverlayVideo.add = full
{DEMO}
"""


def test_results_that_cannot_be_written_end_the_demo(video, tmp_path):
    done = run_demo("--input", video, "--out", tmp_path / "out", program=FULL_DISK)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "the results cannot be written" in done.stderr and "No space left on device" in done.stderr


def test_source_publishes_a_photograph_with_its_camera(client, tmp_path):
    from sensor_msgs.msg import CameraInfo, Image

    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), picture[..., ::-1])
    (tmp_path / "camera.yaml").write_text(
        "image_width: 64\nimage_height: 48\ncamera_matrix: {rows: 3, cols: 3, data: [60, 0, 31, 0, 61, 23, 0, 0, 1]}\n"
        "distortion_model: plumb_bob\ndistortion_coefficients: {rows: 1, cols: 5, data: [0.1, 0, 0, 0, 0]}\n"
    )
    images, infos = client.listen("/image", Image), client.listen("/camera_info", CameraInfo)
    arguments = [f"input:={tmp_path / 'photo.png'}", f"camera_file:={tmp_path / 'camera.yaml'}", "wait_for:=1"]
    flags = [part for argument in arguments for part in ("-p", argument)]
    process = Process("-m", "hand_pose_3d.ros.image_source", "--ros-args", *flags)
    client.until(lambda: len(images) > 5 and len(infos) > 5)
    code, _ = process.stop()
    assert code == 0
    np.testing.assert_array_equal(np.frombuffer(images[0].data, np.uint8).reshape(48, 64, 3), picture)
    assert images[0].header.frame_id == "camera_optical_frame"
    stamps = [message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec for message in images]
    assert all(later > earlier for earlier, later in zip(stamps, stamps[1:], strict=False))
    assert list(infos[0].k) == [60, 0, 31, 0, 61, 23, 0, 0, 1] and infos[0].d[0] == 0.1
    assert {i.header.stamp.nanosec for i in infos} & {i.header.stamp.nanosec for i in images}
