"""Parameters that accept 1 for 1.0 and 0 for "0", in YAML and at run time.

rclpy itself refuses a whole number for a float, and YAML turns text that looks like a number into one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from hand_pose_3d.errors import InvalidInputError, one_line
from hand_pose_3d.settings import as_meant, in_type_of

_QOS = "qos_overrides."
_OF_RCLPY = ("use_sim_time", "start_type_description_service", _QOS)


def declare(
    node: Any, name: str, default: Any, descriptor: Any, check: Callable[[Any], Any] = lambda value: value
) -> Any:
    """Declare a parameter on a node and return the value it was started with, in the default's type.

    check: raises InvalidInputError for what its descriptor does not allow, with a clearer message than rclpy's. Raises
    InvalidInputError, in one sentence, for such a value and for one of another type.
    """
    from rcl_interfaces.msg import ParameterDescriptor

    # Declared twice, because rclpy checks the type before the value can be converted.
    given = node.declare_parameter(name, default, ParameterDescriptor(dynamic_typing=True)).value
    node.undeclare_parameter(name)
    value = check(in_type_of(default, f"parameter {name}", given))
    # Of another type rclpy itself would only say numbers; convert_what_is_set says what is allowed.
    descriptor.dynamic_typing = True
    return node.declare_parameter(name, value, descriptor, ignore_override=True).value


def convert_what_is_set(node: Any, defaults: Mapping[str, Any]) -> None:
    """From now on, values that are set on the node are converted first, and those of another type refused in words.

    defaults: by parameter name.
    """
    from rcl_interfaces.msg import SetParametersResult
    from rclpy.parameter import Parameter

    def refuse(parameters: Iterable[Any]) -> Any:
        try:
            for parameter in parameters:
                if parameter.name in defaults:
                    in_type_of(defaults[parameter.name], parameter.name, parameter.value)
        except InvalidInputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(refuse)
    if not hasattr(node, "add_pre_set_parameters_callback"):  # Humble
        return

    def convert(parameters: Iterable[Any]) -> list[Any]:
        out = []
        for parameter in parameters:
            value = as_meant(parameter.value, defaults.get(parameter.name))
            out.append(parameter if value is parameter.value else Parameter(parameter.name, value=value))
        return out

    node.add_pre_set_parameters_callback(convert)


def warn_of_unknown(node: Any, names: Collection[str]) -> None:
    """Warn of parameters on the command line or in YAML that the node does not have.

    names: of its parameters, or of the options, such as --side, of a program that has these instead.
    """
    for name in node._parameter_overrides:  # rclpy has no public way to list undeclared ones
        if name not in names and not name.startswith(_OF_RCLPY):
            close = get_close_matches(name, names, cutoff=0.5)
            hint = f": did you mean {' or '.join(close)}?" if close else ""
            node.get_logger().warning(one_line(f"there is no parameter {name}, and it is ignored{hint}"))


def warn_of_unused_qos(node: Any, remedy: str) -> None:
    """Warn of QoS overrides that no publisher or subscription of the node has taken; call it once all are there."""
    for name in node._parameter_overrides:
        if name.startswith(_QOS) and not node.has_parameter(name):
            node.get_logger().warning(one_line(f"{name} is ignored: {remedy}"))


def option_names(options: Any) -> list[str]:
    """Names on the command line of what argparse has read."""
    return [f"--{name.replace('_', '-')}" for name in vars(options)]
