"""Dataclass fields that describe themselves: text, unit, range or choices, checked in one place.

Options of commands (:mod:`hand_pose_3d.cli.options`), ROS descriptors and parameter files
(:mod:`hand_pose_3d.ros.parameters`) come from the same fields.
"""

from __future__ import annotations

import dataclasses
import re
from contextlib import suppress
from numbers import Integral, Real
from typing import Any

import numpy as np

from hand_pose_3d.errors import InvalidInputError

_IN_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def setting(
    default: Any,
    text: str,
    *,
    name: str = "",
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    fixed: bool = False,
) -> Any:
    """A dataclass field with what a ROS descriptor says about it. fixed: only read when the node starts."""
    metadata = {"text": text, "unit": unit, "low": low, "high": high, "choices": choices, "fixed": fixed}
    return dataclasses.field(default=default, metadata={**metadata, **({"name": name} if name else {})})


def number(default: float, text: str, name: str, unit: str, low: float, high: float) -> Any:
    """A field for a number within a range, under a name of its own; unit: "" where it has none."""
    return setting(default, text, name=name, unit=unit, low=low, high=high)


def same_setting(record: Any, field_name: str, **changes: Any) -> Any:
    """A field for the same setting as a field of another dataclass, but for changes: arguments of :func:`setting`."""
    (entry,) = (each for each in dataclasses.fields(record) if each.name == field_name)
    return setting(**{"default": entry.default, **entry.metadata, **changes})


def setting_name(entry: dataclasses.Field) -> str:
    """The public name of a field: its own, or one with a dot."""
    return entry.metadata.get("name", entry.name)


def described(entry: dataclasses.Field) -> str:
    """What the setting is, with its unit, as help shows it."""
    text, unit = entry.metadata["text"], entry.metadata["unit"]
    return f"{text.rstrip('.')} [{unit}]." if unit else text


def parse_size(text: str) -> tuple[int, int]:
    """Width and height from WIDTHxHEIGHT. Raises InvalidInputError for other text."""
    found = re.fullmatch("([1-9][0-9]{0,4})[xX]([1-9][0-9]{0,4})", text)
    if found is None:
        raise InvalidInputError(f"a size is WIDTHxHEIGHT, like 640x480, not {text!r}")
    return int(found[1]), int(found[2])


def as_meant(value: Any, default: Any) -> Any:
    """The value converted to the default's type if that is unambiguous, else unchanged."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if isinstance(default, bool) and isinstance(value, np.bool_):
        return bool(value)
    if isinstance(default, float) and number:
        with suppress(OverflowError):  # a whole number of hundreds of digits
            return float(value)
    if type(default) is int and number and isinstance(value, Integral):
        return int(value)
    if isinstance(default, str) and (number or isinstance(value, str)):
        return str(value)  # of NumPy's text, too
    return value


def in_type_of(default: Any, name: str, value: Any) -> Any:
    """The value in the default's type. Raises InvalidInputError, by name, if it cannot be converted."""
    value = as_meant(value, default)
    if type(value) is not type(default):
        raise InvalidInputError(f"{name} must be {_IN_WORDS[type(default)]}, not {value!r}")
    return value


def check_types(record: Any) -> None:
    """Check the type of every field of a frozen dataclass that has a default, in place. Raises InvalidInputError."""
    for entry in dataclasses.fields(record):
        if entry.default is not dataclasses.MISSING:
            value = in_type_of(entry.default, entry.name, getattr(record, entry.name))
            object.__setattr__(record, entry.name, value)


def check_settings(record: Any) -> None:
    """Check every field of a frozen dataclass that is a :func:`setting` with a default other than None, in place.

    Whole numbers become floats in fields of floats. Raises InvalidInputError, by name, for a value of another type,
    outside its range or not among its choices.
    """
    for entry in dataclasses.fields(record):
        if entry.metadata and entry.default is not None:
            object.__setattr__(record, entry.name, checked(entry, getattr(record, entry.name)))


def checked(entry: dataclasses.Field, value: Any) -> Any:
    """The value of a field in the field's type.

    Raises InvalidInputError, by name, for one of another type, outside its range or not among its choices.
    """
    name, metadata = setting_name(entry), entry.metadata
    value = as_meant(value, entry.default)
    if metadata["choices"] and not (isinstance(value, str) and value in metadata["choices"]):
        raise InvalidInputError(f"{name} must be one of {', '.join(metadata['choices'])}, not {value!r}")
    value = in_type_of(entry.default, name, value)
    low, high = metadata["low"], metadata["high"]
    # Written so that NaN is refused, too.
    if low is not None and not low <= value <= high:
        unit = f" {metadata['unit']}" if metadata["unit"] else ""
        raise InvalidInputError(f"{name} must lie between {low:g} and {high:g}{unit}, not {value!r}")
    return value
