"""Parameters that take what a person writes: 1 where 1.0 is meant, 0 where "0" is meant, in YAML and at run time.

rclpy itself refuses a whole number for a float, and YAML makes a number of every text that looks like one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from hand_pose_3d.errors import one_line
from hand_pose_3d.settings import as_meant, in_type_of

_OF_RCLPY = ("use_sim_time", "start_type_description_service", "qos_overrides.")


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


def warn_of_unknown(node: Any, names: Collection[str]) -> None:
    """Warn of what a node was given as parameters and nobody reads, by command line or YAML.

    names: of its parameters, or of the options, such as --side, of a program that has these instead.
    """
    for name in node._parameter_overrides:  # rclpy has no other way to see what was not declared
        if name not in names and not name.startswith(_OF_RCLPY):
            close = get_close_matches(name, names, cutoff=0.5)
            hint = f": did you mean {' or '.join(close)}?" if close else ""
            node.get_logger().warning(one_line(f"there is no parameter {name}, and nothing is done with it{hint}"))


def option_names(options: Any) -> list[str]:
    """Names on the command line of what argparse has read."""
    return [f"--{name.replace('_', '-')}" for name in vars(options)]
