"""The SROS2 policy allows what the node does, and nothing more."""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

POLICY = Path(__file__).resolve().parents[2] / "config" / "sros2" / "hand_pose_3d.policy.xml"


def allowed(kind: str, right: str) -> set[str]:
    entries = ET.parse(POLICY).getroot().findall(f".//profile/{kind}[@{right}='ALLOW']/{kind.removesuffix('s')}")
    return {(entry.text or "").strip() for entry in entries}


def test_policy_covers_the_node(client, start_node):
    pytest.importorskip("rclpy")
    start_node()
    client.connect()

    def names(method: str) -> set[str]:
        return {name for name, _ in getattr(client.ros, method)("hand_pose_3d", "/")}

    def of_the_node() -> tuple[set[str], set[str]]:
        # Points only where sensor_msgs_py is installed; the second way of images, and simulated time, by parameters.
        publishes = names("get_publisher_names_and_types_by_node") | {"/hand_pose_3d/points"}
        return publishes, names("get_subscriber_names_and_types_by_node") | {"/image/compressed", "/clock"}

    expected = allowed("topics", "publish"), allowed("topics", "subscribe")
    # DDS finds a node, and the parts of it, one after the other.
    with contextlib.suppress(AssertionError):
        client.until(lambda: "hand_pose_3d" in client.ros.get_node_names() and of_the_node() == expected)
    assert of_the_node() == expected
    assert names("get_service_names_and_types_by_node") <= allowed("services", "reply")
