"""MarkerArray of hands for RViz: joints, bones and a label each, in the camera's frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hand_pose_3d.drawing import LOW_SCORE, keypoint_colour
from hand_pose_3d.hands import HandPose
from hand_pose_3d.skeleton import BONES, NUM_KEYPOINTS, WRIST

NAMESPACES = ("keypoints", "bones", "label")
_KEYPOINT_SIZE, _BONE_WIDTH = 0.2, 0.09
"""Sizes in reference bones, so that markers fit a child's hand, too; chosen by eye."""


class HandMarkers:
    """Builds the markers of each image and deletes those of lost hands.

    Namespaces are `keypoints` (SPHERE_LIST), `bones` (LINE_LIST) and `label` (TEXT_VIEW_FACING); the id is the hand's
    slot, which stays with it. Hands without metric placement get no markers, as RViz shows metres.
    """

    def __init__(self) -> None:
        self._shown: set[int] = set()

    def update(self, hands: Sequence[HandPose], slots: Sequence[int], header: Any, lifetime_s: float) -> Any:
        """MarkerArray for one image; slots as from HandSlots.numbers."""
        from visualization_msgs.msg import MarkerArray

        placed = {slot: hand for slot, hand in zip(slots, hands, strict=True) if hand.placed_m is not None}
        markers = self._deletions(self._shown - placed.keys(), header)
        for slot, hand in placed.items():
            markers.extend(_hand_markers(hand, slot, header, lifetime_s))
        self._shown = set(placed)
        return MarkerArray(markers=markers)

    def clear(self, header: Any) -> Any:
        """MarkerArray that deletes everything shown."""
        from visualization_msgs.msg import MarkerArray

        markers = self._deletions(self._shown, header)
        self._shown = set()
        return MarkerArray(markers=markers)

    @staticmethod
    def _deletions(slots: set[int], header: Any) -> list[Any]:
        from visualization_msgs.msg import Marker

        return [
            Marker(header=header, ns=namespace, id=slot, action=Marker.DELETE)
            for slot in sorted(slots)
            for namespace in NAMESPACES
        ]


def _hand_markers(hand: HandPose, slot: int, header: Any, lifetime_s: float) -> list[Any]:
    from builtin_interfaces.msg import Duration
    from geometry_msgs.msg import Point
    from std_msgs.msg import ColorRGBA
    from visualization_msgs.msg import Marker

    keypoints_m = np.asarray(hand.placed_m)
    points = [Point(x=x, y=y, z=z) for x, y, z in keypoints_m.tolist()]
    colours = []
    for k in range(NUM_KEYPOINTS):
        r, g, b = (c / 255.0 for c in keypoint_colour(k))
        colours.append(ColorRGBA(r=r, g=g, b=b, a=1.0 if hand.keypoint_scores[k] >= LOW_SCORE else 0.4))
    whole, fraction = divmod(lifetime_s, 1.0)
    lifetime = Duration(sec=int(whole), nanosec=int(fraction * 1e9))

    def marker(namespace: str, kind: int) -> Any:
        out = Marker(header=header, ns=namespace, id=slot, type=kind, action=Marker.ADD, lifetime=lifetime)
        out.pose.orientation.w = 1.0
        return out

    unit = float(hand.scale_m)
    spheres = marker("keypoints", Marker.SPHERE_LIST)
    spheres.scale.x = spheres.scale.y = spheres.scale.z = _KEYPOINT_SIZE * unit
    spheres.points, spheres.colors = points, colours

    lines = marker("bones", Marker.LINE_LIST)
    lines.scale.x = _BONE_WIDTH * unit
    for parent, child in BONES:
        lines.points.extend((points[parent], points[child]))
        lines.colors.extend((colours[child], colours[child]))

    label = marker("label", Marker.TEXT_VIEW_FACING)
    label.text = f"{hand.side.label} {hand.score:.2f}" + (f" #{hand.track_id}" if hand.track_id else "")
    label.scale.z = 0.5 * unit
    label.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    # Beside the wrist, away from the fingers.
    away = keypoints_m[WRIST] - keypoints_m.mean(axis=0)
    position = keypoints_m[WRIST] + 0.8 * unit * away / max(float(np.linalg.norm(away)), 1e-9)
    label.pose.position = Point(x=float(position[0]), y=float(position[1]), z=float(position[2]))
    return [spheres, lines, label]
