"""The SROS2 policy allows what the node does, and nothing more."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from pathlib import Path

from ros_client import PATIENCE_S

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

    # Points only where sensor_msgs_py is installed; the second way of images, and simulated time, by parameters.
    wanted = {
        "publisher": (allowed("topics", "publish"), {"/hand_pose_3d/points"}),
        "subscriber": (allowed("topics", "subscribe"), {"/image/compressed", "/clock"}),
        "service": (allowed("services", "reply"), set()),
    }

    def found() -> dict[str, set[str]]:
        return {of: names(of) | optional for of, (_, optional) in wanted.items()}

    try:
        deadline = time.monotonic() + PATIENCE_S
        while found() != (every := {of: names for of, (names, _) in wanted.items()}) and time.monotonic() < deadline:
            time.sleep(0.05)  # the graph of names follows what the node made
        assert found() == every
    finally:
        node.close(30.0)
