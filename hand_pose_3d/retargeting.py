"""Joints of a robot hand from a person's, by dex-retargeting (pip install dex-retargeting six)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.geometry import wrist_rotation
from hand_pose_3d.joints import JOINT_LIMITS, THUMB_ROLL
from hand_pose_3d.placement import REFERENCE_LENGTH_M
from hand_pose_3d.skeleton import FINGERS, JOINTS, NUM_KEYPOINTS, Side

# Palm of the plain model: where the fingers begin (to the fingertips, to the thumb), and its bones, metres.
_BASES_M = {
    "thumb": (0.025, 0.025),
    "index": (0.083, 0.024),
    "middle": (0.081, 0.004),
    "ring": (0.076, -0.015),
    "little": (0.070, -0.032),
}
_LENGTHS_M = {
    "thumb": (0.038, 0.034, 0.027),
    "index": (0.042, 0.026, 0.023),
    "middle": (0.049, 0.031, 0.023),
    "ring": (0.045, 0.026, 0.024),
    "little": (0.034, 0.017, 0.016),
}


def plain_hand_urdf(side: Side) -> str:
    """URDF of a five-fingered hand with the joints of JOINT_NAMES: x out of the palm, z to the fingers."""
    hand = -1 if side == Side.LEFT else 1  # y points towards the thumb of a right hand and away from that of a left one
    out = ['<robot name="plain_hand">', '<link name="palm"/>']

    def add(name: str, parent: str, xyz: Sequence[float], yaw: float = 0.0, axis: str = "", length: float = 0.0) -> str:
        cylinder = f'<geometry><cylinder radius="0.006" length="{length}"/></geometry>'
        visual = f'<visual><origin xyz="0 0 {length / 2}"/>{cylinder}</visual>' if length else ""
        moments = 'ixx="1e-6" iyy="1e-6" izz="1e-6" ixy="0" ixz="0" iyz="0"'
        inertia = f'<inertial><mass value="0.01"/><inertia {moments}/></inertial>'
        kind, motion = "fixed", ""
        if axis:
            low, high = JOINT_LIMITS[name]
            kind = "revolute"
            motion = f'<axis xyz="{axis}"/><limit lower="{low}" upper="{high}" effort="1" velocity="10"/>'
        x, y, z = xyz
        out.append(f'<link name="{name}_link">{visual}{inertia}</link>')
        out.append(
            f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{name}_link"/>'
            f'<origin xyz="{x} {y} {z}" rpy="0 0 {yaw}"/>{motion}</joint>'
        )
        return f"{name}_link"

    for finger in FINGERS:
        first, *hinges = JOINTS[finger][:3]
        base = (0.0, hand * _BASES_M[finger][1], _BASES_M[finger][0])
        if finger == "thumb":
            link = add(f"{finger}_{first}_flexion", "palm", base, axis=f"{hand} 0 0")
            link = add(f"{finger}_{first}_abduction", link, (0, 0, 0), axis="0 1 0", length=_LENGTHS_M[finger][0])
        else:
            aside = -hand if finger in ("index", "middle") else hand
            link = add(f"{finger}_{first}_flexion", "palm", base, axis="0 1 0")
            link = add(
                f"{finger}_{first}_abduction", link, (0, 0, 0), axis=f"{aside} 0 0", length=_LENGTHS_M[finger][0]
            )
        yaw = -hand * THUMB_ROLL if finger == "thumb" else 0.0
        for joint, before, length in zip(hinges, _LENGTHS_M[finger], _LENGTHS_M[finger][1:], strict=False):
            link = add(f"{finger}_{joint}_flexion", link, (0, 0, before), yaw, axis="0 1 0", length=length)
            yaw = 0.0
        add(f"{finger}_tip", link, (0, 0, _LENGTHS_M[finger][-1]))
    return "\n".join([*out, "</robot>"])


def plain_hand_config(urdf_path: str) -> dict[str, Any]:
    """dex-retargeting's configuration of that model: vectors from the palm to fingertips and second joints."""
    tips = [f"{finger}_tip_link" for finger in FINGERS]
    middles = [f"{finger}_{JOINTS[finger][2]}_flexion_link" for finger in FINGERS]
    middle_indices = [1 + 4 * k + 2 for k in range(5)]
    return {
        "type": "vector",
        "urdf_path": urdf_path,
        "target_origin_link_names": ["palm"] * 10,
        "target_task_link_names": tips + middles,
        "target_link_human_indices": [[0] * 10, [1 + 4 * k + 3 for k in range(5)] + middle_indices],
        "scaling_factor": 1.0,
        "low_pass_alpha": 1.0,  # hands are smoothed already
    }


def in_robot_frame(keypoints_canonical: np.ndarray, side: Side) -> np.ndarray:
    """(21, 3) metres around the wrist in the frame of dex-retargeting's hands: x out of the palm, z to the fingers.

    keypoints_canonical: (21, 3). The hand is scaled to a mean adult's size, as the robot's does not change.
    """
    wrist = (keypoints_canonical - keypoints_canonical[0]) @ wrist_rotation(keypoints_canonical, side)
    return REFERENCE_LENGTH_M * wrist[:, [2, 1, 0]] * [-1, 1, 1]


def named_config(name: str, side: Side) -> Path:
    """dex-retargeting's configuration of a robot hand that it knows, such as 'allegro', or a file's path."""
    from dex_retargeting.constants import HandType, RetargetingType, RobotName, get_default_config_path

    if name in RobotName.__members__:
        hand = HandType.left if side == Side.LEFT else HandType.right
        # Vectors from the palm, which suffice and exist for grippers, too.
        return Path(get_default_config_path(RobotName[name], RetargetingType.vector, hand))
    path = Path(name).expanduser()
    if not path.is_file():
        raise InvalidInputError(
            f"robot_hand {name!r} is neither a file nor one of plain, {', '.join(RobotName.__members__)}"
        )
    return path


class HandRetargeter:
    """Joint positions of a robot hand from a person's keypoints."""

    def __init__(self, side: Side, config: Path | None = None, urdf_folder: Path | None = None) -> None:
        """config: a configuration file of dex-retargeting, None for the plain model; urdf_folder: where its URDF is.

        Raises InvalidInputError for files that dex-retargeting cannot use, ImportError without dex-retargeting.
        """
        import dex_retargeting.retargeting_config  # noqa: F401

        self.side = side
        try:
            self._prepare(config, urdf_folder)
        except Exception as error:  # dex-retargeting raises many types of exceptions
            why = " ".join(str(error).split()) or "it is incomplete"
            kind = type(error).__name__
            what = f"{config} is not a usable configuration of dex-retargeting" if config else "the plain model fails"
            raise InvalidInputError(f"{what}: {why} ({kind})") from error

    def _prepare(self, config: Path | None, urdf_folder: Path | None) -> None:
        from dex_retargeting.retargeting_config import RetargetingConfig

        if config is not None:
            if urdf_folder is not None:
                RetargetingConfig.set_default_urdf_dir(str(urdf_folder))
            self._solver = RetargetingConfig.load_from_file(config).build()
        else:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "plain_hand.urdf"
                path.write_text(plain_hand_urdf(self.side), encoding="utf-8")
                self._solver = RetargetingConfig.from_dict(plain_hand_config(str(path))).build()
        self._indices = np.asarray(self._solver.optimizer.target_link_human_indices)
        if self._indices.min() < 0 or self._indices.max() > 20:
            raise InvalidInputError("target_link_human_indices must be keypoints, 0 to 20")
        self._vectors = self._solver.optimizer.retargeting_type != "POSITION"
        # The first solution takes a hundred times as long as later ones, so it is computed before a robot waits for it.
        rest = self._solver.last_qpos.copy()
        self._solver.retarget(np.full((self._indices.shape[-1], 3), 0.1))
        self._solver.last_qpos = rest
        if self._solver.filter is not None:
            self._solver.filter.reset()

    def __call__(self, keypoints_canonical: np.ndarray) -> dict[str, float]:
        """Radians by the robot's joint names. keypoints_canonical: (21, 3) of a hand of this side.

        Raises InvalidInputError for others.
        """
        if np.shape(keypoints_canonical) != (NUM_KEYPOINTS, 3) or not np.isfinite(keypoints_canonical).all():
            raise InvalidInputError("a robot hand needs 21 finite keypoints (21, 3)")
        found = in_robot_frame(keypoints_canonical, self.side)
        wanted = found[self._indices[1]] - found[self._indices[0]] if self._vectors else found[self._indices]
        return dict(zip(self._solver.joint_names, map(float, self._solver.retarget(wanted)), strict=True))
