"""Starts the node, and with it a source of images and RViz where they are asked for.

ros2 launch hand_pose_3d hand.launch.py image:=/camera/image_raw
ros2 launch hand_pose_3d hand.launch.py source:=clip rviz:=true
"""

import os
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

SHARE = FindPackageShare("hand_pose_3d")
PROFILES = f"{'FASTRTPS' if os.environ.get('ROS_DISTRO') == 'humble' else 'FASTDDS'}_DEFAULT_PROFILES_FILE"

ARGUMENTS = {
    "source": ("topic", "topic: a camera driver publishes; camera, video, clip: this file starts a publisher."),
    "input": ("", "For source camera: /dev/videoN or number; for source video: a video or photograph."),
    "image": ("image", "Topic of the images."),
    "camera_info": ("", "Topic of the CameraInfo; empty: camera_info beside the image, as drivers have it."),
    "depth": ("depth", "Topic of depth images that are registered to the colour images."),
    "image_transport": ("", "raw or compressed; empty: as in params_file."),
    "params_file": ("", "YAML file of parameters; empty: config/hand_pose_3d.yaml of this package."),
    "model": ("", "lite or paper; empty: as in params_file."),
    "device": ("", "auto, cpu, cuda or cuda:N; empty: as in params_file."),
    "tf_prefix": ("", "Put before the names of the hands' frames."),
    "namespace": ("", "Namespace of all nodes."),
    "camera_file": ("", "Calibration of a camera or video that this file publishes (YAML of camera_calibration)."),
    "frame_id": ("camera_optical_frame", "Frame of images that this file publishes, and RViz's fixed frame."),
    "rviz": ("false", "true: show image, skeleton and frames in RViz."),
    "autostart": ("", "false: wait for a lifecycle manager; empty: as in params_file."),
}

_CHOICES = {"source": ["topic", "camera", "video", "clip"], "rviz": ["true", "false"]}


def _nodes(context):
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    share = Path(SHARE.perform(context))
    actions = []
    if PROFILES not in os.environ and "FASTDDS_BUILTIN_TRANSPORTS" not in os.environ:
        # Fast DDS's default loses most images when they go best effort: its shared memory segment is too small.
        # Its LARGE_DATA would help as well, but cuts off every process that does not set it, cameras among them.
        actions.append(SetEnvironmentVariable(PROFILES, str(share / "config" / "fastdds.xml")))

    folder, _, _ = value["image"].rpartition("/")
    camera_info = value["camera_info"] or (f"{folder}/camera_info" if folder else "camera_info")
    # The last one wins: what is given here stands above the file.
    given = {name: value[name] for name in ("model", "device", "image_transport", "tf_prefix") if value[name]}
    if value["autostart"]:
        given["autostart"] = value["autostart"].lower() == "true"
    actions.append(
        Node(
            package="hand_pose_3d",
            executable="hand_pose_3d_node",
            name="hand_pose_3d",
            namespace=value["namespace"],
            parameters=[value["params_file"] or str(share / "config" / "hand_pose_3d.yaml"), given],
            remappings=[("image", value["image"]), ("camera_info", camera_info), ("depth", value["depth"])],
            output="screen",
        )
    )
    if value["source"] != "topic":
        actions.append(
            Node(
                package="hand_pose_3d",
                executable="image_source",
                name="image_source",
                namespace=value["namespace"],
                parameters=[
                    {
                        "source": value["source"],
                        "input": value["input"],
                        "camera_file": value["camera_file"],
                        "frame_id": value["frame_id"],
                    }
                ],
                remappings=[("image", value["image"]), ("camera_info", camera_info)],
                output="screen",
            )
        )
    if value["rviz"] == "true":
        actions.append(_rviz(value, share))
    return actions


def _rviz(value, share):
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        return LogInfo(msg="rviz:=true, but rviz2 is not installed: going on without it")
    space = value["namespace"].strip("/")
    node = f"/{space}/hand_pose_3d" if space else "/hand_pose_3d"
    topics = [(f"/hand_pose_3d/{name}", f"{node}/{name}") for name in ("markers", "overlay")]
    return Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        namespace=value["namespace"],
        arguments=["-d", str(share / "config" / "hand_pose_3d.rviz"), "-f", value["frame_id"]],
        remappings=topics,
        output="log",
    )


def generate_launch_description():
    """The launch description, with every argument described."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=_CHOICES.get(name))
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_nodes)])
