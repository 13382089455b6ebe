"""The launch files' logic as plain functions: programs to start, with their parameters, topics and environment.

launch/hand.launch.py and launch/teleop.launch.py only turn the result into launch's actions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.ros.parameters import NodeParameters, from_mapping
from hand_pose_3d.ros.share import profile_environment
from hand_pose_3d.ros.teleop_parameters import TeleopParameters
from hand_pose_3d.settings import parse_size

ARGUMENTS = {
    "source": ("topic", "topic: a camera driver publishes; camera, video, clip: this file starts a publisher."),
    "input": ("", "For source camera: /dev/videoN or number; for source video: a video or photograph."),
    "image": ("image", "Topic of the images; one that ends in /compressed is taken as compressed."),
    "camera_info": ("", "Topic of the CameraInfo; empty: camera_info beside the image, as drivers have it."),
    "depth": ("depth", "Topic of depth images that are registered to the colour images."),
    "image_transport": ("", "raw or compressed; empty: as in params_file."),
    "params_file": ("", "YAML file of parameters; empty: config/hand_pose_3d.yaml of this package."),
    "model": ("", "lite or paper; empty: as in params_file."),
    "device": ("", "auto, cpu, cuda or cuda:N; empty: as in params_file."),
    "tf_prefix": ("", "Put before the names of the hands' frames."),
    "namespace": ("", "Namespace of all nodes."),
    "camera_file": ("", "Calibration of a camera or video that this file publishes (YAML of camera_calibration)."),
    "size": ("", "Width and height requested of a camera that this file opens; empty: 640x480."),
    "rate": ("", "Images a second that this file publishes; empty: the input's own."),
    "frame_id": ("", "Frame of images that this file publishes (empty: camera_optical_frame)."),
    "rviz": (
        "false",
        "true: show image, skeleton and frames in RViz, which opens when the first image has been processed.",
    ),
    "autostart": ("", "false: wait for a lifecycle manager; empty: as in params_file."),
}
"""Default and description of every argument."""

TELEOP_ARGUMENTS = {
    **ARGUMENTS,
    "target": ("", "Topic of the target pose (PoseStamped); empty: hand_teleop/target_pose."),
    "twist": ("", "Topic of the target twist (TwistStamped, for MoveIt Servo); empty: hand_teleop/target_twist."),
    "base_frame": ("", "The robot's base frame; empty: as in teleop_params_file."),
    "effector_frame": ("", "The robot's effector on TF, where the target starts; empty: as in teleop_params_file."),
    "camera_from": ("", "tf or stated: where the camera's pose comes from; empty: as in teleop_params_file."),
    "hand_side": ("", "left or right: the hand that is followed; empty: as in teleop_params_file."),
    "robot_hand": (
        "",
        "plain, a robot hand that dex-retargeting knows, or a configuration file; empty: as in teleop_params_file.",
    ),
    "joy": ("joy", "Topic of the joystick whose button is the clutch."),
    "teleop_params_file": ("", "YAML file of parameters; empty: config/hand_teleop.yaml of this package."),
}
"""The same for teleop.launch.py, which takes all of hand.launch.py's."""

_SOURCES = ("topic", "camera", "video", "clip")


@dataclass(frozen=True)
class Program:
    """A node to start."""

    executable: str
    name: str
    namespace: str
    parameters: tuple[str | dict[str, Any], ...] = ()
    """Paths of YAML files and values by name; later ones win."""
    remappings: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ()
    needed: bool = True
    """Whether the launch ends when this program does."""


@dataclass(frozen=True)
class LaunchPlan:
    """Nodes to start."""

    programs: tuple[Program, ...]
    environment: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """Messages to the user."""


def plan(values: Mapping[str, str], share: Path, environment: Mapping[str, str], rviz_installed: bool) -> LaunchPlan:
    """The plan for these launch arguments.

    values: of every name in ARGUMENTS; share: folder of the package's config; environment: of this process.
    Raises InvalidInputError, in one sentence, for what is not allowed and for files that do not exist.
    """
    if values["source"] not in _SOURCES:
        raise InvalidInputError(f"source must be one of {', '.join(_SOURCES)}, not {values['source']!r}")
    if values["source"] == "video" and not values["input"]:
        raise InvalidInputError("source:=video needs a file: input:=FILE")
    show = _true_or_false("rviz", values["rviz"])
    parameters = _file("params_file", values["params_file"]) or share / "config" / "hand_pose_3d.yaml"
    _check_yaml(parameters, "params_file", "hand_pose_3d", values["namespace"])

    base = values["image"].removesuffix("/compressed")
    camera_info = values["camera_info"] or base[: base.rfind("/") + 1] + "camera_info"
    # Arguments override the file.
    given: dict[str, Any] = {n: values[n] for n in ("model", "device", "image_transport", "tf_prefix") if values[n]}
    if base != values["image"]:
        given.setdefault("image_transport", "compressed")
    if values["autostart"]:
        given["autostart"] = _true_or_false("autostart", values["autostart"])
    NodeParameters.from_mapping(given)

    inputs = {"image": values["image"], "camera_info": camera_info, "depth": values["depth"]}
    _check_topics(inputs)
    if len(set(inputs.values())) < len(inputs):
        found = ", ".join(inputs.values())
        raise InvalidInputError(f"image, camera_info and depth must be different topics, not {found}")
    _check_namespace(values["namespace"])
    if values["source"] != "topic" and given.get("image_transport") == "compressed":
        raise InvalidInputError("compressed images are for source:=topic: what this file starts publishes raw ones")
    if values["source"] != "topic":
        given["image_transport"] = "raw"  # whatever params_file says

    topics = (("image", values["image"]), ("camera_info", camera_info))
    space = values["namespace"]
    programs = [
        Program(
            "hand_pose_3d_node",
            "hand_pose_3d",
            space,
            parameters=(str(parameters), given),
            remappings=(*topics, ("depth", values["depth"])),
        )
    ]
    if values["source"] != "topic":
        camera_file = _file("camera_file", values["camera_file"])
        settings: dict[str, Any] = {
            "source": values["source"],
            "input": values["input"],
            "camera_file": str(camera_file or ""),
            "frame_id": values["frame_id"] or "camera_optical_frame",
        }
        if values["size"]:
            settings["width"], settings["height"] = parse_size(values["size"])
        if values["rate"]:
            settings["rate"] = _rate(values["rate"])
        programs.append(Program("image_source", "image_source", space, parameters=(settings,), remappings=topics))
    unused = {
        "topic": ("input", "camera_file", "frame_id", "size", "rate"),
        "clip": ("input", "size"),
        "video": ("size",),
    }.get(values["source"], ())
    notes = [
        f"{name}:={values[name]} changes nothing with source:={values['source']}" for name in unused if values[name]
    ]
    if show and rviz_installed:
        programs.append(_rviz(space, share))
    elif show:
        notes.append("rviz:=true, but rviz2 is not installed: continuing without it")
    return LaunchPlan(tuple(programs), profile_environment(share / "config" / "fastdds.xml", environment), tuple(notes))


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate <= 1000:
        raise InvalidInputError(f"rate must be a number of images a second up to 1000, not {text!r}")
    return rate


def _check_topics(names: Mapping[str, str]) -> None:
    """Refuse what rcl would refuse in its own words. names: topics by argument."""
    from rclpy.exceptions import InvalidTopicNameException
    from rclpy.validate_topic_name import validate_topic_name

    for name, topic in names.items():
        if not topic:
            raise InvalidInputError(f"{name} must be a topic's name, not empty: leave it out for the default")
        try:
            validate_topic_name(topic)
        except InvalidTopicNameException as error:
            raise InvalidInputError(f"{name} {topic!r} is not a topic's name: {_cause(error)}") from None


def _check_namespace(namespace: str) -> None:
    from rclpy.exceptions import InvalidNamespaceException
    from rclpy.validate_namespace import validate_namespace

    try:
        validate_namespace("/" + namespace.removeprefix("/"))
    except InvalidNamespaceException as error:
        raise InvalidInputError(f"namespace {namespace!r} is not one: {_cause(error)}") from None


def _cause(error: Exception) -> str:
    """What rcl says of a name: "Invalid topic name: CAUSE", then lines that point at the place."""
    return str(error).partition(": ")[2].partition(":\n")[0]


def plan_teleop(
    values: Mapping[str, str], share: Path, environment: Mapping[str, str], rviz_installed: bool
) -> LaunchPlan:
    """The plan for the arguments of teleop.launch.py; as `plan`, with values of every name in TELEOP_ARGUMENTS."""
    tracker = plan(values, share, environment, rviz_installed)
    file = "teleop_params_file"
    parameters = _file(file, values[file]) or share / "config" / "hand_teleop.yaml"
    _check_yaml(parameters, file, "hand_teleop", values["namespace"])
    names = ("base_frame", "effector_frame", "camera_from", "hand_side", "robot_hand")
    given: dict[str, Any] = {name: values[name] for name in names if values[name]}
    from_mapping(TeleopParameters, given)
    _check_topics({name: values[name] for name in ("target", "twist", "joy") if values[name]})
    topics = {"~/target_pose": values["target"], "~/target_twist": values["twist"], "joy": values["joy"]}
    teleop = Program(
        "hand_teleop",
        "hand_teleop",
        values["namespace"],
        parameters=(str(parameters), given),
        remappings=tuple((name, topic) for name, topic in topics.items() if topic),
    )
    return replace(tracker, programs=(*tracker.programs, teleop))


def _rviz(namespace: str, share: Path) -> Program:
    space = namespace.strip("/")
    node = f"/{space}/hand_pose_3d" if space else "/hand_pose_3d"
    return Program(
        "rviz_hands",
        "rviz2",
        namespace,
        remappings=tuple((f"/hand_pose_3d/{name}", f"{node}/{name}") for name in ("hands", "markers", "overlay")),
        arguments=("--config", str(share / "config" / "hand_pose_3d.rviz")),
        needed=False,
    )


def _true_or_false(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise InvalidInputError(f"{name} must be true or false, not {value!r}")
    return value.lower() == "true"


def _file(name: str, value: str) -> Path | None:
    """The file that an argument names, None for an empty one."""
    if not value:
        return None
    path = Path(value).expanduser()
    if not path.is_file():
        raise InvalidInputError(f"{name} {value!r} is not a file")
    return path


def _check_yaml(path: Path, name: str, node: str, namespace: str) -> None:
    """Refuse a file that cannot be read as parameters, or holds none of a node's, of which rcl would not say a word."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInputError(f"{name} {str(path)!r} cannot be read as YAML: {error}") from error
    if content is not None and not isinstance(content, dict):
        raise InvalidInputError(f"{name} {str(path)!r} holds no parameters: start it with /**: ros__parameters:")
    full = "/".join(["", *filter(None, namespace.split("/")), node])
    others = _nodes_in(content or {})
    if others and not any(re.fullmatch(_as_pattern(other), full) for other in others):
        raise InvalidInputError(
            f"{name} {str(path)!r} has parameters of {', '.join(others[:4])}, but not of {full}: name the node, or /**"
        )


def _nodes_in(content: Mapping[Any, Any], above: str = "") -> list[str]:
    """Full names of the nodes, with wildcards, of which a parameter file holds parameters."""
    found = []
    for key, value in content.items():
        if key == "ros__parameters":
            found.append(above or "/")
        elif isinstance(value, dict):
            found += _nodes_in(value, f"{above}/{str(key).strip('/')}")
    return found


def _as_pattern(name: str) -> str:
    """A regular expression for a node's name with rcl's wildcards: * is one part of it, ** are any."""
    parts = {"**": "(/[^/]+)*", "*": "/[^/]+"}
    return "".join(parts.get(part, "/" + re.escape(part)) for part in name.strip("/").split("/"))
