"""Statistics of a rendered data set, beside published ones of hands."""

from __future__ import annotations

from typing import Any

import numpy as np

from hand_pose_3d.datasets.rhd import PERSON_CLASS
from hand_pose_3d.geometry import folded_fingers
from hand_pose_3d.rendering import pose
from hand_pose_3d.rendering.rasteriser import RenderedFrame
from hand_pose_3d.rendering.scene import Scene


def frame_facts(scene: Scene, pictures: RenderedFrame, record: dict[str, Any]) -> dict[str, Any]:
    """One frame's contribution to the statistics."""
    import cv2

    hands = []
    for number, (hand, labelled) in enumerate(zip(scene.hands, record["hands"], strict=True), 1):
        own = (pictures.mesh == number) & (pictures.label > PERSON_CLASS)
        box = max(cv2.boundingRect(own.astype(np.uint8))[2:])
        points = labelled["xyz"].astype(float) @ hand.mirror
        towards = -hand.rotation_camera_hand[2, 2]
        hands.append(
            {
                "side": hand.side.label,
                "action": hand.action,
                "tone": hand.skin.tone,
                "size": float(box / len(own)),
                "visible": float(labelled["visible"].mean()),
                "back_towards_camera": float(towards),
                "fingers_up": float(-hand.rotation_camera_hand[1, 1]),
                "distance_m": float(hand.wrist_camera_m[2]),
                "sleeve": "long" if hand.clothing.sleeve < 0.2 else "short or none",
                "flexion_deg": np.degrees(pose.flexion(points)).round(1).tolist(),
                "folded": int(folded_fingers(points).sum()),
            }
        )
    environment = scene.environment or "procedural"
    return {"view": scene.view, "environment": environment, "tags": list(scene.tags), "hands": hands}


def summarise(facts: list[dict[str, Any]]) -> dict[str, Any]:
    """Distributions of view, scale, tone, pose and sides over frames, and over the hands that any pixel shows."""
    shown = [[h for h in f["hands"] if h["size"] > 0] for f in facts]
    hands = [h for each in shown for h in each]

    def shares(values: list[Any]) -> dict[str, float]:
        names, counts = np.unique(np.array(values, dtype=str), return_counts=True)
        return {str(n): round(float(c) / len(values), 4) for n, c in zip(names, counts, strict=True)}

    tags = [tag for f in facts for tag in f["tags"]]

    def spread(name: str) -> dict[str, float]:
        values = np.array([h[name] for h in hands])
        return {f"p{q}": round(float(np.percentile(values, q)), 3) for q in (5, 25, 50, 75, 95)} if hands else {}

    return {
        "frames": len(facts),
        "hands": len(hands),
        "hands_per_frame": shares([len(each) for each in shown]),
        "side": shares([h["side"] for h in hands]),
        "view": shares([f["view"] for f in facts]),
        "background": shares([f["environment"] for f in facts]),
        "frames_with": {tag: round(tags.count(tag) / len(facts), 4) for tag in sorted(set(tags))},
        "action": shares([h["action"] for h in hands]),
        "size_of_frame": spread("size"),
        "wrist_z_m": spread("distance_m"),
        "skin_tone_light_to_dark": spread("tone"),
        "visible_keypoints": spread("visible"),
        "back_towards_camera": spread("back_towards_camera"),
        "fingers_up": spread("fingers_up"),
        "sleeve": shares([h["sleeve"] for h in hands]),
        "flexion": flexion_statistics([h for h in hands if "flexion_deg" in h]),  # older data sets do not have it
    }


def in_words(statistics: dict[str, Any]) -> list[str]:
    """The distributions of :func:`summarise`, a line each; without actions, backgrounds and flexion."""

    def text(value: Any) -> str:
        if not isinstance(value, dict):
            return str(value)
        if "p50" in value:
            return f"{value['p50']:g} in the median, {value['p5']:g} to {value['p95']:g} for nine tenths"
        return ", ".join(f"{name} {share:.1%}" for name, share in value.items())

    lists = ("action", "background", "flexion")
    return [
        f"{name.replace('_', ' ')}: {text(value)}" for name, value in statistics.items() if name not in lists and value
    ]


PUBLISHED_FLEXION = {
    "0": "open: MCP 10 to 30 (rest 20 to 45, more towards the little finger), bent back rarely and 19 at most",
    "4": "tools and handles: MCP 45 to 75, PIP 45 to 90",
    "fist": "MCP 70 to 90, PIP 95 to 110, DIP 50 to 75",
    "all": "in daily tasks MCP 19 to 71, PIP 23 to 87, DIP 10 to 64",
}
"""Degrees of flexion by number of folded fingers; sources: :mod:`hand_pose_3d.rendering.actions`."""


def flexion_statistics(hands: list[dict[str, Any]]) -> dict[str, Any]:
    """Degrees of flexion by number of folded fingers: share of hands; 5th, 50th and 95th percentile a finger and joint.

    A fist has four folded fingers with PIP joints over 75 degrees and knuckles over 45; a hook has three or more folded
    fingers with knuckles under 25. bent_back: share of open hands' knuckles that are bent back by more than 5.
    """
    if not hands:
        return {}
    degrees = np.array([h["flexion_deg"] for h in hands])
    count = np.array([h["folded"] for h in hands])
    mcp, pip = degrees[..., 0], degrees[..., 1]
    groups = {str(n): count == n for n in range(5)}
    groups["fist"] = (count == 4) & (pip > 75).all(axis=1) & (mcp > 45).all(axis=1)
    groups["all"] = count >= 0
    out: dict[str, Any] = {}
    for name, chosen in groups.items():
        out[name] = {"share": round(float(chosen.mean()), 4)}
        if chosen.any():
            low, middle, high = np.percentile(degrees[chosen], (5, 50, 95), axis=0).round(1)
            for j, joint in enumerate(("mcp", "pip", "dip")):
                out[name][joint] = {
                    "p5": low[:, j].tolist(),
                    "p50": middle[:, j].tolist(),
                    "p95": high[:, j].tolist(),
                }
    open_hands = mcp[count == 0]
    out["bent_back"] = round(float((open_hands < -5).mean()), 4) if len(open_hands) else 0.0
    out["hook"] = round(float((((pip > 60) & (mcp < 25)).sum(axis=1) >= 3).mean()), 4)
    return out


def flexion_table(statistics: dict[str, Any]) -> str:
    """Markdown table of :func:`flexion_statistics` beside published ranges."""
    found = statistics.get("flexion")
    if not found:
        return ""
    rows = [
        "| folded fingers | share | MCP, index to little | PIP | DIP | published |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("0", "1", "2", "3", "4", "fist", "all"):
        group = found[name]
        cells = [", ".join(f"{x:.0f}" for x in group[j]["p50"]) if j in group else "" for j in ("mcp", "pip", "dip")]
        rows.append(f"| {name} | {group['share']:.3f} | {' | '.join(cells)} | {PUBLISHED_FLEXION.get(name, '')} |")
    rows.append(
        f"\nMedians in degrees. Open hands' knuckles bent back by more than 5: {found['bent_back']:.2%} "
        f"(published: rare); hooks: {found['hook']:.2%} of hands."
    )
    return "\n".join(rows)
