"""Why no message arrives on a topic although something is published, in words. Nothing here imports ROS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"

_SUFFIX = "/compressed"


def compressed_topic(base: str) -> str:
    """The topic of image_transport's compressed images of a base topic; unchanged if it is one already."""
    return base if base.endswith(_SUFFIX) else base + _SUFFIX


def why_silent(topic: str, wanted: str, there: Mapping[str, Sequence[str]]) -> str:
    """Why no image of a type arrives on a topic, with the remedy; "" if types are not the reason.

    topic: full name; wanted: its type, such as sensor_msgs/msg/Image; there: types that others publish, by topic.
    """
    types = there.get(topic, ())
    if types:
        return wrong_type(topic, wanted, types, _remedy(topic, wanted, types))
    base = topic.removesuffix(_SUFFIX)
    if wanted == IMAGE and COMPRESSED in there.get(topic + _SUFFIX, ()):
        return f"nobody publishes {topic}, but {topic + _SUFFIX} is there: set image_transport to compressed"
    if wanted == COMPRESSED and IMAGE in there.get(base, ()):
        return f"nobody publishes {topic}, but {base} is there: set image_transport to raw"
    others = [name for name, kinds in there.items() if wanted in kinds and _may_be_colour(name)]
    if others:
        names = ", ".join(sorted(others, key=_colour_first)[:4])
        return f"nobody publishes {topic}; there are images on {names}: remap image to one of them"
    return ""


def _may_be_colour(name: str) -> bool:
    """False for what drivers call their depth images, and for pictures with hands drawn in."""
    return "depth" not in name and not name.removesuffix(_SUFFIX).endswith("/overlay")


def _colour_first(name: str) -> tuple[bool, str]:
    return not any(word in name for word in ("color", "colour", "rgb", "image_raw")), name


def wrong_type(topic: str, wanted: str, types: Sequence[str], remedy: str = "") -> str:
    """Message that a topic has other types than the wanted one; "" if it has that type, or none."""
    if not types or wanted in types:
        return ""
    remedy = remedy or f"remap to a topic of type {wanted}"
    return f"{topic} carries {' and '.join(types)}, and the node takes {wanted} there: {remedy}"


def _remedy(topic: str, wanted: str, types: Sequence[str]) -> str:
    if wanted == IMAGE and COMPRESSED in types:
        if topic.endswith(_SUFFIX):
            return "set image_transport to compressed"
        return f"set image_transport to compressed and remap image/compressed to {topic}"
    if wanted == COMPRESSED and IMAGE in types:
        return "set image_transport to raw"
    if any("image_transport" in kind for kind in types):
        return "have it published as Image or CompressedImage (ros2 run image_transport republish)"
    return ""
