"""The SROS2 policy allows what the node does, and nothing more."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

POLICY = Path(__file__).resolve().parents[2] / "config" / "sros2" / "hand_pose_3d.policy.xml"


def allowed(kind: str, right: str) -> set[str]:
    entries = ET.parse(POLICY).getroot().findall(f".//profile/{kind}[@{right}='ALLOW']/{kind.removesuffix('s')}")
    return {(entry.text or "").strip() for entry in entries}


def test_policy_covers_the_node(make_node):
    from fake_estimator import build

    from hand_pose_3d.ros.node import HandPoseNode

    node = make_node(HandPoseNode, build, device="cpu")
    node.trigger_configure()
    node.trigger_activate()

    def names(of: str) -> set[str]:
        return {name for name, _ in getattr(node, f"get_{of}_names_and_types_by_node")("hand_pose_3d", "/")}

    try:
        # Points only where sensor_msgs_py is installed; the second way of images, and simulated time, by parameters.
        assert names("publisher") | {"/hand_pose_3d/points"} == allowed("topics", "publish")
        assert names("subscriber") | {"/image/compressed", "/clock"} == allowed("topics", "subscribe")
        assert names("service") == allowed("services", "reply")
    finally:
        node.close(30.0)
