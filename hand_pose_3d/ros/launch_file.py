"""Shared by the launch files: turns a plan of hand_pose_3d.ros.launching into launch's actions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from hand_pose_3d.ros.launching import LaunchPlan, Program
from launch import LaunchDescription  # type: ignore[attr-defined]  # mypy takes the folder launch/ for it


def description(arguments: Mapping[str, tuple[str, str]], plan: Callable[..., LaunchPlan]) -> Any:
    """The launch description of a plan, with every argument (default and description by name) described."""

    def actions(context: Any) -> list[Any]:
        values = {name: LaunchConfiguration(name).perform(context) for name in arguments}
        share = Path(FindPackageShare("hand_pose_3d").perform(context))
        wanted = plan(values, share, os.environ, _installed("rviz2"))
        return [
            *(LogInfo(msg=note) for note in wanted.notes),
            *(_node(program, wanted.environment) for program in wanted.programs),
        ]

    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in arguments.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=actions)])


def _node(program: Program, environment: Mapping[str, str]) -> Any:
    return Node(
        package="hand_pose_3d",
        executable=program.executable,
        name=program.name,
        namespace=program.namespace,
        parameters=[entry if isinstance(entry, str) else _exact(entry) for entry in program.parameters],
        remappings=list(program.remappings),
        arguments=list(program.arguments),
        additional_env=dict(environment),  # of these alone, not of what is started after them
        output="screen",
        on_exit=Shutdown(reason=f"{program.name} has ended") if program.needed else None,
    )


def _exact(parameters: dict[str, Any]) -> dict[str, Any]:
    """Keep strings as strings: launch would turn a camera's "0" into a number."""
    return {k: ParameterValue(v, value_type=str) if isinstance(v, str) else v for k, v in parameters.items()}


def _installed(package: str) -> bool:
    try:
        return bool(get_package_prefix(package))
    except PackageNotFoundError:
        return False
