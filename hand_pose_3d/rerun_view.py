"""Everything about followed hands in rerun: image, skeletons in the image and in space, viewpoints, scores, angles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hand_pose_3d.drawing import FINGER_COLOURS, keypoint_colour
from hand_pose_3d.errors import HandPoseError, InvalidInputError
from hand_pose_3d.hands import HandPose
from hand_pose_3d.joints import JOINT_NAMES, joint_angles
from hand_pose_3d.skeleton import BONES, NUM_KEYPOINTS

RECORDING = rb"RRF"
"""Start of rerun's files."""
_BONES = np.array(BONES)
_BONE_COLOURS = [keypoint_colour(child) for _, child in BONES]
_POINT_COLOURS = [keypoint_colour(k) for k in range(NUM_KEYPOINTS)]
_AXIS_COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]  # RGB of x, y and z
_SCORES = ("hand", "side", "keypoints, mean", "keypoints, lowest")
_A_YEAR_S = 3.2e7  # smaller stamps are simulated time
_MOST_S = 9.2e9  # rerun counts nanoseconds in 64 bits
_PLACES = ("camera", "pose", "scores", "angles")


class RerunView:
    """Shows images and hands in rerun's viewer, or writes them to a file that it opens. Needs the package rerun-sdk."""

    def __init__(self, save: str | Path | None = None) -> None:
        """save: an .rrd file to write; None opens a viewer."""
        import rerun as rr
        import rerun.blueprint as rrb

        rr.init("hand_pose_3d", spawn=save is None)
        if save is not None:
            Path(save).parent.mkdir(parents=True, exist_ok=True)
            rr.save(str(save))
        no_legend = rrb.PlotLegend(visible=False)  # it would cover the lines, whose names show under the mouse
        plots = (
            rrb.TimeSeriesView(origin="scores", plot_legend=no_legend),
            rrb.TimeSeriesView(origin="angles", name="angles [rad]", plot_legend=no_legend),
        )
        views = rrb.Spatial2DView(origin="camera"), rrb.Spatial3DView(origin="pose")
        columns = (rrb.Vertical(view, plot, row_shares=[2, 1]) for view, plot in zip(views, plots))
        rr.send_blueprint(rrb.Blueprint(rrb.Horizontal(*columns), collapse_panels=True))
        # Camera axes: x right, y down, z forward.
        rr.log("pose", rr.ViewCoordinates.RDF, static=True)
        self._shown: set[str] = set()

    def image(self, image_rgb: np.ndarray, stamp_s: float, text: str = "") -> None:
        """Show an image (H, W, 3) uint8 RGB of that time, and a line of text in the log."""
        import rerun as rr

        _set_time(stamp_s)
        rr.log("camera", rr.Image(image_rgb).compress(jpeg_quality=85))
        if text:
            rr.log("log", rr.TextLog(text))

    def hands(self, hands: Sequence[HandPose], stamp_s: float) -> None:
        """Show the hands of an image and remove all others. Hands without metres are drawn around their wrist."""
        import rerun as rr

        _set_time(stamp_s)
        present = {f"hand_{hand.track_id or index}": hand for index, hand in enumerate(hands)}
        for name, hand in present.items():
            if name not in self._shown:
                rr.log(f"scores/{name}", rr.SeriesLines(names=[f"{name} {what}" for what in _SCORES]), static=True)
                rr.log(f"angles/{name}", rr.SeriesLines(names=[f"{name} {what}" for what in JOINT_NAMES]), static=True)
            self._draw(name, hand)
        for name in self._shown - present.keys():
            for place in _PLACES:
                rr.log(f"{place}/{name}", rr.Clear(recursive=True))
        self._shown = set(present)

    def _draw(self, name: str, hand: HandPose) -> None:
        import rerun as rr

        points, unit = (hand.keypoints_relative, 1.0) if hand.keypoints_m is None else (hand.keypoints_m, hand.scale_m)
        pixels, label = hand.keypoints_px, f"{hand.side.label} {hand.score:.2f}"
        rr.log(f"camera/{name}", rr.LineStrips2D(pixels[_BONES], colors=_BONE_COLOURS, radii=1.5))
        rr.log(f"camera/{name}/points", rr.Points2D(pixels, colors=_POINT_COLOURS, radii=3))
        rr.log(f"pose/{name}", rr.LineStrips3D(points[_BONES], colors=_BONE_COLOURS, radii=0.024 * unit))
        rr.log(f"pose/{name}/points", rr.Points3D(points, colors=_POINT_COLOURS, radii=0.04 * unit))
        rr.log(f"pose/{name}/label", rr.Points3D(points[:1], labels=[label], colors=[FINGER_COLOURS[3]]))
        axes = unit * hand.rotation_camera_canonical.T
        arrows = rr.Arrows3D(origins=points[[0, 0, 0]], vectors=axes, colors=_AXIS_COLOURS, radii=0.03 * unit)
        rr.log(f"pose/{name}/viewpoint", arrows)
        scores = hand.keypoint_scores
        rr.log(f"scores/{name}", rr.Scalars([hand.score, hand.side_score, scores.mean(), scores.min()]))
        try:
            angles = joint_angles(hand)
        except HandPoseError:
            return
        rr.log(f"angles/{name}", rr.Scalars([angles[joint] for joint in JOINT_NAMES]))


def _set_time(stamp_s: float) -> None:
    """Stamps since 1970 are shown as time of day, small ones as simulated time."""
    import rerun as rr

    if not abs(stamp_s) < _MOST_S:
        raise InvalidInputError(f"a stamp must be a number of seconds, not {stamp_s}")
    rr.set_time("time", **{"duration" if stamp_s < _A_YEAR_S else "timestamp": stamp_s})
