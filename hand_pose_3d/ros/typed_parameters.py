"""Parameters that take what a person writes: 1 where 1.0 is meant, 0 where "0" is meant, in YAML and at run time.

rclpy itself refuses a whole number for a float, and YAML makes a number of every text that looks like one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hand_pose_3d.settings import as_meant, in_type_of


def declare(
    node: Any, name: str, default: Any, descriptor: Any, check: Callable[[Any], Any] = lambda value: value
) -> Any:
    """Declare a parameter on a node and return the value it was started with, in the default's type.

    check: raises InvalidInputError for what its descriptor does not allow, which rclpy would say less well. Raises
    InvalidInputError, in one sentence, for such a value and for one of another type.
    """
    from rcl_interfaces.msg import ParameterDescriptor

    # Twice, because rclpy checks the type before anybody can convert the value.
    given = node.declare_parameter(name, default, ParameterDescriptor(dynamic_typing=True)).value
    node.undeclare_parameter(name)
    value = check(in_type_of(default, f"parameter {name}", given))
    # Humble has no callback that could convert what is set later: its parameters take any type.
    descriptor.dynamic_typing = not hasattr(node, "add_pre_set_parameters_callback")
    return node.declare_parameter(name, value, descriptor, ignore_override=True).value


def convert_what_is_set(node: Any, defaults: Mapping[str, Any]) -> None:
    """From now on, values that are set on the node are converted first; defaults: by parameter name."""
    if not hasattr(node, "add_pre_set_parameters_callback"):  # Humble
        return
    from rclpy.parameter import Parameter

    def convert(parameters: Iterable[Any]) -> list[Any]:
        out = []
        for parameter in parameters:
            value = as_meant(parameter.value, defaults.get(parameter.name))
            out.append(parameter if value is parameter.value else Parameter(parameter.name, value=value))
        return out

    node.add_pre_set_parameters_callback(convert)
