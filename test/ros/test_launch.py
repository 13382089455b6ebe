"""What the launch file starts: plain functions decide; a stand-in for launch runs the file where launch is missing."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import yaml
from fake_estimator import make_hand

from hand_pose_3d.camera import Camera
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.ros.launching import ARGUMENTS, plan
from hand_pose_3d.ros.rviz import framed
from hand_pose_3d.ros.share import own_arguments, profile_environment
from hand_pose_3d.skeleton import Side

ROOT = Path(__file__).resolve().parents[2]
FILE, TELEOP_FILE = (ROOT / "launch" / f"{name}.launch.py" for name in ("hand", "teleop"))
CONTRACT = {"image", "camera_info", "depth", "params_file", "rviz", "namespace", "source", "device"}


def planned(environment=None, rviz_installed=True, **given):
    values = {name: default for name, (default, _) in ARGUMENTS.items()}
    assert set(given) <= set(values)
    return plan({**values, **given}, ROOT, environment or {}, rviz_installed)


def programs(**given):
    return {program.executable: program for program in planned(**given).programs}


def test_every_argument_is_there_and_described():
    assert set(ARGUMENTS) >= CONTRACT
    assert all(text.endswith(".") for _, text in ARGUMENTS.values())


def test_robot_with_its_own_camera():
    (node,) = planned(image="/front/image_raw", namespace="arm").programs
    assert (node.executable, node.namespace, node.needed) == ("hand_pose_3d_node", "arm", True)
    assert dict(node.remappings) == {
        "image": "/front/image_raw",
        "camera_info": "/front/camera_info",
        "depth": "depth",
    }
    assert node.parameters == (str(ROOT / "config" / "hand_pose_3d.yaml"), {})


def test_what_these_files_publish_is_raw_whatever_the_parameters_say():
    assert programs(source="clip")["hand_pose_3d_node"].parameters[1]["image_transport"] == "raw"


def test_compressed_images_by_the_name_of_their_topic():
    node = programs(image="/front/image_raw/compressed")["hand_pose_3d_node"]
    assert dict(node.remappings)["camera_info"] == "/front/camera_info"
    assert node.parameters[1] == {"image_transport": "compressed"}


@pytest.mark.parametrize("image", ["/image_raw", "/image_raw/compressed"])
def test_camera_info_beside_an_image_at_the_root(image):
    node = programs(image=image, namespace="robot")["hand_pose_3d_node"]
    assert dict(node.remappings)["camera_info"] == "/camera_info"


@pytest.mark.parametrize(
    ("key", "namespace", "fits"),
    [
        ("/**", "arm", True),
        ("hand_pose_3d", "", True),
        ("/hand_pose_3d", "/", True),
        ("hand_pose_3d", "arm", False),
        ("/arm/hand_pose_3d", "arm", True),
        ("/arm/hand_pose_3d", "/arm", True),
        ("/*/hand_pose_3d", "arm", True),
        ("/*/hand_pose_3d", "arm/left", False),
        ("/**/hand_pose_3d", "arm/left", True),
        ("arm:\n  hand_pose_3d", "arm", True),
        ("hand_pose", "", False),
    ],
)
def test_a_parameter_file_must_name_the_node(tmp_path, key, namespace, fits):
    file, indent = tmp_path / "mine.yaml", "  " * (1 + key.count("\n"))
    file.write_text(f"{key}:\n{indent}ros__parameters:\n{indent}  max_hands: 7\n")
    if fits:
        assert programs(params_file=str(file), namespace=namespace)
    else:
        with pytest.raises(InvalidInputError, match="but not of .*/hand_pose_3d: name the node, or /\\*\\*"):
            programs(params_file=str(file), namespace=namespace)


@pytest.mark.parametrize("source", ["camera", "video", "clip"])
def test_own_source_of_images(source):
    started = programs(source=source, input="0", rviz="True")
    assert set(started) == {"hand_pose_3d_node", "image_source", "rviz_hands"}
    images, node, viewer = started["image_source"], started["hand_pose_3d_node"], started["rviz_hands"]
    assert set(images.remappings) < set(node.remappings)
    assert images.parameters[0]["input"] == "0" and images.parameters[0]["frame_id"] == "camera_optical_frame"
    assert images.needed and not viewer.needed


def test_what_is_given_stands_above_the_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("/**:\n  ros__parameters:\n    model: paper\n")
    node = programs(params_file=str(file), model="lite", device="cpu", autostart="False", tf_prefix="7")
    assert node["hand_pose_3d_node"].parameters == (
        str(file),
        {"model": "lite", "device": "cpu", "tf_prefix": "7", "autostart": False},
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"params_file": "/no/such.yaml"}, "params_file '/no/such.yaml' is not a file"),
        ({"params_file": str(ROOT / "config")}, "is not a file"),
        ({"params_file": str(ROOT / "LICENSE")}, "YAML|parameters"),
        ({"autostart": "yes"}, "autostart must be true or false, not 'yes'"),
        ({"rviz": "on"}, "rviz must be true or false"),
        ({"source": "radio"}, "source must be one of topic, camera, video, clip"),
        ({"source": "video"}, "input:=FILE"),
        ({"source": "clip", "camera_file": "nowhere.yaml"}, "camera_file"),
        ({"model": "huge"}, "model must be one of"),
        ({"device": "gpu"}, "cuda:N"),
        ({"image_transport": "theora"}, "raw, compressed"),
        ({"tf_prefix": "a b"}, "tf_prefix"),
        ({"image": ""}, "image must be a topic's name, not empty"),
        ({"depth": ""}, "depth must be a topic's name, not empty"),
        ({"image": "my camera"}, "image 'my camera' is not a topic's name: topic name must not contain"),
        ({"camera_info": "/c/"}, "camera_info '/c/' is not a topic's name"),
        ({"image": "/c/image", "camera_info": "/c/image"}, "must be different topics"),
        ({"namespace": "bad ns"}, "namespace 'bad ns' is not one: namespace must not contain"),
        ({"source": "clip", "image_transport": "compressed"}, "source:=topic"),
        ({"source": "camera", "image": "/c/image/compressed"}, "source:=topic"),
    ],
)
def test_what_is_not_allowed_is_refused_in_words(given, says):
    with pytest.raises(InvalidInputError, match=says):
        planned(**given)


def test_fast_dds_gets_its_profile_on_every_distribution():
    new, old, profile = (
        "FASTDDS_DEFAULT_PROFILES_FILE",
        "FASTRTPS_DEFAULT_PROFILES_FILE",
        ROOT / "config" / "fastdds.xml",
    )
    for distribution, name in (("humble", old), ("jazzy", old), ("kilted", new), ("lyrical", new)):
        assert planned(environment={"ROS_DISTRO": distribution}).environment == {name: str(profile)}
    assert planned().environment == {new: str(profile)}  # the wheels are Kilted's
    for chosen in (new, old, "FASTDDS_BUILTIN_TRANSPORTS"):
        assert planned(environment={chosen: "theirs"}).environment == {}
    # Not a choice where it is not read.
    assert planned(environment={"ROS_DISTRO": "jazzy", new: "theirs"}).environment == {old: str(profile)}
    assert profile_environment(None, {}) == {}


def test_rviz_that_is_not_installed_is_said():
    found = planned(rviz="true", rviz_installed=False)
    assert len(found.programs) == 1 and "rviz2 is not installed" in found.notes[0]


def test_arguments_that_change_nothing_are_noted():
    found = planned(input="/dev/video0", frame_id="eye", camera_file="mine.yaml")
    assert [note.partition(" ")[0] for note in found.notes] == [
        "input:=/dev/video0",
        "camera_file:=mine.yaml",
        "frame_id:=eye",
    ]
    found = planned(source="clip", input="a.mp4", frame_id="eye")
    assert found.notes == ("input:=a.mp4 changes nothing with source:=clip",)
    assert not planned(source="camera", input="1").notes
    found = planned(source="video", input="a.mp4", size="320x240")
    assert found.notes == ("size:=320x240 changes nothing with source:=video",)


def test_what_is_published_has_a_size_and_a_rate():
    (settings,) = planned(source="camera", size="1280x720", rate="15").programs[1].parameters
    assert (settings["width"], settings["height"], settings["rate"]) == (1280, 720, 15.0)
    (settings,) = planned(source="camera").programs[1].parameters
    assert not {"width", "height", "rate"} & set(settings)
    for wrong, says in (
        ({"size": "large"}, "WIDTHxHEIGHT"),
        ({"rate": "fast"}, "a number"),
        ({"rate": "0"}, "a number"),
    ):
        with pytest.raises(InvalidInputError, match=says):
            planned(source="camera", **wrong)


def test_programs_that_are_started_are_installed():
    for executable in programs(source="clip", rviz="true"):
        assert os.access(ROOT / "hand_pose_3d" / "ros" / "bin" / executable, os.X_OK)


# RViz


def rviz_config():
    return yaml.safe_load((ROOT / "config" / "hand_pose_3d.rviz").read_text(encoding="utf-8"))


def test_rviz_shows_image_skeleton_and_frames():
    displays = {d["Class"].rpartition("/")[2]: d for d in rviz_config()["Visualization Manager"]["Displays"]}
    assert {"MarkerArray", "TF", "Image", "Grid"} <= set(displays)
    assert all(display["Enabled"] for display in displays.values())
    assert displays["MarkerArray"]["Topic"]["Value"] == "/hand_pose_3d/markers"
    assert displays["Image"]["Topic"]["Value"] == "/hand_pose_3d/overlay"


def in_view(config, points) -> np.ndarray:
    """Points (N, 2) in RViz's picture, upwards and to the right, whose height goes from -1 to 1, by its Orbit view."""
    view = config["Visualization Manager"]["Views"]["Current"]
    assert view["Class"] == "rviz_default_plugins/Orbit"
    yaw, pitch = view["Yaw"], view["Pitch"]
    focal = np.array([view["Focal Point"][axis] for axis in "XYZ"])
    away = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.cross([0, 0, 1], away)
    right /= np.linalg.norm(right)
    seen = points - (focal + view["Distance"] * away)
    depth = seen @ -away
    assert (depth > view["Near Clip Distance"]).all()
    return np.column_stack([seen @ right, seen @ np.cross(away, right)]) / (depth * np.tan(np.pi / 8))[:, None]


@pytest.mark.parametrize("distance", [0.3, 0.6, 2.0])
def test_the_first_view_frames_the_hands(distance):
    camera = Camera(500, 500, 320, 240)
    hands = [make_hand(side, 0.4, camera, np.full((4, 4), distance)).keypoints_m for side in (Side.LEFT, Side.RIGHT)]
    points = np.concatenate(hands)
    config = framed(rviz_config(), "head_camera", points)
    assert config["Visualization Manager"]["Global Options"]["Fixed Frame"] == "head_camera"
    picture = in_view(config, points)
    assert (np.abs(picture) < 0.9).all() and np.ptp(picture, axis=0).max() > 0.4
    # As in the image: x to the right, fingers (negative y) up.
    assert picture[np.argmax(points[:, 0]), 0] > picture[np.argmin(points[:, 0]), 0]
    assert picture[np.argmin(points[:, 1]), 1] > picture[np.argmax(points[:, 1]), 1]


def test_without_a_hand_the_view_is_where_hands_are_wont_to_be():
    config = framed(rviz_config(), "", np.empty((0, 3)))
    assert config == rviz_config()
    picture = in_view(config, make_hand(Side.RIGHT, 0.4, Camera(500, 500, 320, 240)).keypoints_m)
    assert (np.abs(picture) < 1).all() and np.ptp(picture, axis=0).max() > 0.4


def test_foxglove_shows_hands_in_space_as_the_image_does():
    layout = json.loads((ROOT / "config" / "foxglove.json").read_text(encoding="utf-8"))
    camera = layout["configById"]["3D!hands"]["cameraState"]
    assert camera["perspective"] and camera["thetaOffset"] == 0
    sine, cosine = np.sin(np.radians(camera["phi"])), np.cos(np.radians(camera["phi"]))
    # Foxglove's camera at phi = 0 looks along -z, with y up; phi turns it about x.
    away, up = np.array([0, -sine, cosine]), np.array([0, cosine, sine])
    points = make_hand(Side.RIGHT, 0.4, Camera(500, 500, 320, 240)).keypoints_m
    seen = points - (np.array(camera["targetOffset"]) + camera["distance"] * away)
    depth = seen @ -away
    picture = np.column_stack([seen[:, 0], seen @ up]) / (depth * np.tan(np.radians(camera["fovy"]) / 2))[:, None]
    assert (depth > camera["near"]).all() and (np.abs(picture) < 1).all()
    assert np.corrcoef(picture[:, 1], -points[:, 1])[0, 1] > 0.9 and np.ptp(picture, axis=0).max() > 0.4


def test_arguments_of_ros_are_left_to_ros():
    assert own_arguments(["-a", "--ros-args", "-r", "x:=y", "--", "b"]) == ["-a", "b"]
    assert own_arguments(["-a", "--ros-args", "-p", "x:=1"]) == ["-a"]


# The launch file itself


class Recorded:
    """Stands in for an action or substitution of launch: keeps what it was given, as launch's own constructors do."""

    def __init__(self, *arguments, **named):
        self.arguments, self.named = arguments, named


class LaunchConfiguration(Recorded):
    def perform(self, context):
        return context.launch_configurations[self.arguments[0]]


class FindPackageShare(Recorded):
    def perform(self, context):
        return str(ROOT)


def stand_in(monkeypatch):
    """Modules launch and launch_ros, with the names that the launch file imports."""
    names = {
        "launch": {"LaunchDescription": Recorded},
        "launch.actions": dict.fromkeys(("DeclareLaunchArgument", "LogInfo", "OpaqueFunction", "Shutdown"), None),
        "launch.substitutions": {"LaunchConfiguration": LaunchConfiguration},
        "launch_ros": {},
        "launch_ros.actions": {"Node": None},
        "launch_ros.parameter_descriptions": {"ParameterValue": None},
        "launch_ros.substitutions": {"FindPackageShare": FindPackageShare},
        "ament_index_python": {},
        "ament_index_python.packages": {
            "PackageNotFoundError": LookupError,
            "get_package_prefix": lambda package: str(ROOT),
        },
    }
    for name, content in names.items():
        module = ModuleType(name)
        for key, value in content.items():
            setattr(module, key, value or type(key, (Recorded,), {}))
        monkeypatch.setitem(sys.modules, name, module)
    importer = "hand_pose_3d.ros.launch_file"  # is imported anew, and is gone afterwards
    monkeypatch.setitem(sys.modules, importer, module)
    del sys.modules[importer]


def launched(monkeypatch, file=FILE, **given):
    """The actions of the launch file with these arguments."""
    stand_in(monkeypatch)
    loader = SourceFileLoader("hand_launch", str(file))
    module = module_from_spec(spec_from_loader("hand_launch", loader))
    loader.exec_module(module)
    (entities,) = module.generate_launch_description().arguments
    *declared, function = entities
    values = {action.arguments[0]: action.named["default_value"] for action in declared}
    assert all(action.named["description"] for action in declared)
    context = SimpleNamespace(launch_configurations={**values, **given})
    return function.named["function"](context)


def test_the_launch_file_starts_what_was_planned(monkeypatch):
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS"):
        monkeypatch.delenv(name, raising=False)
    actions = launched(monkeypatch, source="camera", input="0", rviz="true", namespace="arm")
    nodes = {a.named["executable"]: a.named for a in actions if type(a).__name__ == "Node"}
    assert set(nodes) == {"hand_pose_3d_node", "image_source", "rviz_hands"}
    assert all(list(node["additional_env"].values()) == [str(ROOT / "config/fastdds.xml")] for node in nodes.values())
    node, images, viewer = nodes.values()
    assert node["namespace"] == "arm" and ("image", "image") in node["remappings"]
    assert type(node["on_exit"]).__name__ == "Shutdown" and viewer["on_exit"] is None
    number = images["parameters"][0]["input"]  # a text, which launch must not make a number of
    assert (number.arguments, number.named) == (("0",), {"value_type": str})


def test_the_launch_file_of_teleoperation_starts_what_was_planned(monkeypatch):
    actions = launched(monkeypatch, TELEOP_FILE, source="clip", namespace="arm", base_frame="7", target="/servo/pose")
    nodes = {a.named["executable"]: a.named for a in actions if type(a).__name__ == "Node"}
    assert set(nodes) == {"hand_pose_3d_node", "image_source", "hand_teleop"}
    teleop = nodes["hand_teleop"]
    assert teleop["namespace"] == "arm" and ("~/target_pose", "/servo/pose") in teleop["remappings"]
    assert all(type(node["on_exit"]).__name__ == "Shutdown" for node in nodes.values())
    file, given = teleop["parameters"]
    assert Path(file).name == "hand_teleop.yaml" and given["base_frame"].arguments == ("7",)  # stays a text


@pytest.mark.parametrize("file", [FILE, TELEOP_FILE], ids=lambda file: file.name)
def test_the_launch_files_refuse_in_words(file, monkeypatch):
    with pytest.raises(InvalidInputError, match="autostart must be true or false"):
        launched(monkeypatch, file, autostart="yes")


@pytest.mark.skipif(importlib.util.find_spec("launch_ros") is None, reason="launch is not installed")
@pytest.mark.parametrize(("file", "more"), [(FILE, []), (TELEOP_FILE, ["hand_teleop"])], ids=["hand", "teleop"])
def test_the_launch_files_with_the_real_launch(file, more):
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    from launch import LaunchContext

    description = get_launch_description_from_python_launch_file(str(file))
    context = LaunchContext()
    context.launch_configurations.update({"source": "clip", "image": "/cam/image_raw", "namespace": "arm"})
    made = []
    for entity in description.entities:
        made += entity.execute(context) or []
    nodes = [action for action in made if hasattr(action, "node_executable")]
    assert [node.node_executable for node in nodes] == ["hand_pose_3d_node", "image_source", *more]
