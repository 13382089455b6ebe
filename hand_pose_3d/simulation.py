"""A robot arm with a gripper and a robot hand in MuJoCo, so that teleoperation can be tried without a robot.

    pip install 'hand_pose_3d[teleop-demo]'

The models are the Franka Panda and the Shadow hand that gymnasium-robotics carries; mink turns poses into joint angles.
Base frame of the arm: its first link on the table, x ahead, z up; metres, radians and seconds.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.errors import InvalidInputError

STEP_S = 0.002  # MuJoCo's own
OPENING_M = 0.08
"""Distance of the gripper's fingers when fully open (Franka Panda)."""
CUBE_M = 0.045  # edge of the cube
START = (0.0, -0.1284, 0.0, -2.4809, 0.0, 0.7825, 0.0)
"""Joint angles of the arm, radians, with the gripper pointing down 0.21 m above the table."""
_LAG_S = np.array([100 / 870] * 4 + [10 / 120] * 3)
"""Lag of each joint behind a moving command: damping over stiffness of the model's position controllers."""
_SKY = (0.78, 0.82, 0.87), (0.5, 0.56, 0.63)
"""RGB at the top and at the bottom of the background."""

_ARM = """
<mujoco>
  <include file="{assets}/assets.xml"/>
  <visual>
    <global offwidth="1280" offheight="1280"/>
    <quality shadowsize="2048"/>
    <headlight ambient="0.35 0.35 0.35"/>
  </visual>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" width="64" height="64"/>
    <material name="table" rgba="0.62 0.5 0.38 1" specular="0.1"/>
    <material name="cube" rgba="0.9 0.28 0.15 1" specular="0.2"/>
  </asset>
  <worldbody>
    <light pos="0.2 -0.8 2.2" dir="0.1 0.4 -1" diffuse="0.75 0.75 0.75" castshadow="true"/>
    <light pos="1.2 1.0 2.0" dir="-0.4 -0.4 -1" diffuse="0.25 0.25 0.25" castshadow="false"/>
    <geom name="table" type="box" size="0.6 0.6 0.05" pos="0.4 0 -0.05" material="table" friction="1 0.05 0.001"/>
    <include file="{assets}/chain.xml"/>
  </worldbody>
  <include file="{assets}/actuator.xml"/>
</mujoco>
"""

_HAND = """
<mujoco>
  <compiler angle="radian"/>
  <include file="{assets}/shared.xml"/>
  <visual>
    <global offwidth="1280" offheight="1280"/>
    <headlight ambient="0.25 0.25 0.25" diffuse="0.3 0.3 0.3" specular="0 0 0"/>
  </visual>
  <asset><include file="{assets}/shared_asset.xml"/></asset>
  <worldbody>
    <light pos="-0.6 -1.2 0.9" dir="0.5 1 -0.4" diffuse="0.5 0.5 0.5" castshadow="false"/>
    <include file="{assets}/robot.xml"/>
  </worldbody>
</mujoco>
"""


def _assets() -> Path:
    """The folder of models in gymnasium-robotics. It is located without importing the package."""
    found = find_spec("gymnasium_robotics")
    if (
        found is None
        or not found.submodule_search_locations
        or find_spec("mujoco") is None
        or find_spec("mink") is None
    ):
        raise InvalidInputError(
            "simulated robots need MuJoCo: pip install 'hand_pose_3d[teleop-demo]', or gymnasium-robotics, mink and "
            "mujoco beside colcon"
        )
    return Path(found.submodule_search_locations[0]) / "envs" / "assets"


def _find_meshes(spec: Any, included: Path, folder: Path) -> None:
    """Set absolute paths of meshes, which MuJoCo would look for beside the including file."""
    for mesh in spec.meshes:
        mesh.file = str(folder / Path(mesh.file).relative_to(included))


class _Simulated:
    """A compiled model and its state."""

    def __init__(self, spec: Any) -> None:
        import mujoco

        spec.option.timestep = STEP_S
        for texture in spec.textures:
            if texture.type == mujoco.mjtTexture.mjTEXTURE_SKYBOX:
                texture.rgb1, texture.rgb2 = _SKY
        self._mj, self.model = mujoco, spec.compile()
        self.data = mujoco.MjData(self.model)
        self.time_s = 0.0

    def _step(self, dt: float) -> None:
        count = round((self.time_s + dt - self.data.time) / STEP_S)
        self.time_s += dt
        if count > 0:
            self._mj.mj_step(self.model, self.data, count)


class SimulatedArm(_Simulated):
    """A Franka Panda on a table with a cube."""

    def __init__(self, cube_m: tuple[float, float] = (0.54, 0.105)) -> None:
        """cube_m: x and y of the cube on the table."""
        assets = _assets() / "kitchen_franka" / "franka_assets"
        import mink
        import mujoco

        spec = mujoco.MjSpec.from_string(_ARM.format(assets=assets))
        _find_meshes(spec, assets, assets / "meshes")
        for body in spec.bodies[1:]:
            body.gravcomp = 1
        tip = spec.body("panda0_link7").add_site()
        tip.name, tip.pos, tip.quat = "grip", (0, 0, 0.235), (np.cos(np.pi / 8), 0, 0, -np.sin(np.pi / 8))
        arm = spec.compile()  # without the cube, for inverse kinematics
        cube = spec.worldbody.add_body(name="cube", pos=(*cube_m, CUBE_M / 2))
        cube.add_freejoint()
        cube.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[CUBE_M / 2] * 3,
            mass=0.1,
            material="cube",
            friction=(1.2, 0.05, 0.001),
        )
        super().__init__(spec)
        self.data.qpos[:7], self.data.qpos[7:9] = START, OPENING_M / 2
        self.data.ctrl[:9] = self.data.qpos[:9]
        mujoco.mj_forward(self.model, self.data)
        self._mink, self._ik = mink, mink.Configuration(arm, self.data.qpos[:9].copy())
        self._reach = mink.FrameTask("grip", "site", position_cost=1.0, orientation_cost=0.3, lm_damping=1e-3)
        self._posture = mink.PostureTask(arm, cost=1e-3)
        self._posture.set_target(self._ik.q)
        self._limits = [mink.ConfigurationLimit(arm)]

    @property
    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) and rotation (3, 3) of the point between the fingertips; z points out of the gripper."""
        site = self.data.site("grip")
        return site.xpos.copy(), site.xmat.reshape(3, 3).copy()

    @property
    def cube_m(self) -> np.ndarray:
        """(3,) middle of the cube."""
        return self.data.body("cube").xpos.copy()

    def advance(self, dt: float, target: tuple[np.ndarray, np.ndarray] | None, opening_m: float | None) -> None:
        """Simulate `dt` seconds towards a target pose of the gripper and an opening. None keeps the last one."""
        velocity = np.zeros(7)
        if target is not None:
            rotation = self._mink.SO3.from_matrix(target[1])
            self._reach.set_target(self._mink.SE3.from_rotation_and_translation(rotation, target[0]))
            wanted = self._mink.solve_ik(
                self._ik, [self._reach, self._posture], dt, solver="daqp", damping=1e-6, limits=self._limits
            )
            velocity = np.clip(wanted[:7], -2.0, 2.0)
            self._ik.integrate_inplace(np.r_[velocity, 0, 0], dt)
        self.data.ctrl[:7] = self._ik.q[:7] + _LAG_S * velocity
        if opening_m is not None:
            self.data.ctrl[7:9] = np.clip(opening_m, 0, OPENING_M) / 2
        self._step(dt)


class SimulatedHand(_Simulated):
    """A right Shadow hand whose forearm is fixed."""

    def __init__(self) -> None:
        folder = _assets()
        import mujoco

        spec = mujoco.MjSpec.from_string(_HAND.format(assets=folder / "hand"))
        _find_meshes(spec, folder / "hand", folder / "stls" / "hand")
        mount = spec.body("robot0:hand mount")
        mount.pos, mount.alt.type, mount.quat = (0, 0, 0), mujoco.mjtOrientation.mjORIENTATION_QUAT, (1, 0, 0, 0)
        super().__init__(spec)
        names = [self.model.actuator(k).name for k in range(self.model.nu)]
        self._joints = {name.replace("A_", ""): k for k, name in enumerate(names)}
        mujoco.mj_forward(self.model, self.data)

    def advance(self, dt: float, angles: dict[str, float]) -> None:
        """Simulate `dt` seconds towards joint angles by name; those without a motor are left out."""
        for name, angle in angles.items():
            if name in self._joints:
                self.data.ctrl[self._joints[name]] = angle
        self._step(dt)

    def urdf(self) -> str:
        """The palm and its fingers, for dex-retargeting: x out of the palm, y to the thumb, z to the fingers."""
        from scipy.spatial.transform import Rotation

        moments = 'ixx="1e-6" iyy="1e-6" izz="1e-6" ixy="0" ixz="0" iyz="0"'
        inertial = f'<inertial><mass value="0.01"/><inertia {moments}/></inertial>'
        palm = self.model.body("robot0:palm").id
        out = [
            '<robot name="shadow_hand">',
            f'<link name="base">{inertial}</link>',
            f'<link name="palm">{inertial}</link>',
            _joint("base_palm", "base", "palm", (0, 0, 0), (0, 0, np.pi / 2)),
        ]
        links = {palm: "palm"}
        for k in range(palm + 1, self.model.nbody):
            body = self.model.body(k)
            parent = links.get(int(body.parentid[0]))
            if parent is None:
                continue
            links[k] = body.name
            w, x, y, z = body.quat
            rpy = Rotation.from_quat([x, y, z, w]).as_euler("xyz")
            (joint,) = (self.model.joint(j) for j in range(self.model.njnt) if self.model.jnt_bodyid[j] == k)
            out.append(f'<link name="{body.name}">{inertial}</link>')
            coupled = joint.name[-2:] == "J0" and "TH" not in joint.name  # the last joint is coupled to the one before
            follows = (joint.name.replace("J0", "J1"), _COUPLING) if coupled else None
            out.append(_joint(joint.name, parent, body.name, body.pos, rpy, joint.axis, joint.range, follows))
        for name, place in _TIPS.items():
            out.append(f'<link name="{name}tip">{inertial}</link>')
            out.append(_joint(f"{name}tip_fixed", f"robot0:{name}distal", f"{name}tip", (0, 0, place), (0, 0, 0)))
        return "\n".join([*out, "</robot>"])

    def retargeting(self, urdf_path: str) -> dict[str, Any]:
        """dex-retargeting's configuration of that URDF: vectors from the palm to fingertips and middle joints."""
        return {
            "retargeting": {
                "type": "vector",
                "urdf_path": urdf_path,
                "target_joint_names": [name for name in self._joints if "WRJ" not in name],
                "target_origin_link_names": ["base"] * 10,
                "target_task_link_names": [f"{name}tip" for name in _TIPS] + [f"robot0:{name}middle" for name in _TIPS],
                "target_link_human_indices": [[0] * 10, [4, 8, 12, 16, 20, 2, 6, 10, 14, 18]],
                "scaling_factor": 1.1,  # of this hand to a mean adult's
                "low_pass_alpha": 1.0,  # the hands are smooth already
            }
        }


_TIPS = {"th": 0.027, "ff": 0.026, "mf": 0.026, "rf": 0.026, "lf": 0.026}
"""Fingers of the Shadow hand from thumb to little finger, and distance of the tip from the last joint in metres, by the
model's geometry."""


_COUPLING = 0.00805 / 0.00705
"""Flexion of a finger's last joint per radian of the one before: ratio of the radii of their tendon's pulleys."""


def _joint(
    name: str, parent: str, child: str, xyz: Any, rpy: Any, axis: Any = None, limits: Any = None, follows: Any = None
) -> str:
    motion = ""
    if axis is not None:
        motion = f'<axis xyz="{_text(axis)}"/><limit lower="{limits[0]}" upper="{limits[1]}" effort="1" velocity="10"/>'
    if follows is not None:
        motion += f'<mimic joint="{follows[0]}" multiplier="{follows[1]:.9g}" offset="0"/>'
    return (
        f'<joint name="{name}" type="{"fixed" if axis is None else "revolute"}"><parent link="{parent}"/>'
        f'<child link="{child}"/><origin xyz="{_text(xyz)}" rpy="{_text(rpy)}"/>{motion}</joint>'
    )


def _text(numbers: Any) -> str:
    return " ".join(f"{float(x):.9g}" for x in numbers)


class View:
    """Pictures of a simulated robot in any state, rendered off screen."""

    def __init__(
        self, robot: _Simulated, size: tuple[int, int], look_at: Any, distance_m: float, turn: tuple[float, float]
    ):
        """size: width, height. turn: azimuth and elevation of the camera in degrees."""
        import mujoco

        self._mj, self._robot = mujoco, robot
        self._data = mujoco.MjData(robot.model)
        self._renderer = mujoco.Renderer(robot.model, size[1], size[0])
        self._options = mujoco.MjvOption()
        self._options.sitegroup[:] = 0
        self._camera = mujoco.MjvCamera()
        self._camera.lookat[:] = look_at
        self._camera.distance, (self._camera.azimuth, self._camera.elevation) = distance_m, turn

    def picture(self, qpos: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB of the robot at these generalised coordinates."""
        self._data.qpos[:] = qpos
        self._mj.mj_forward(self._robot.model, self._data)
        self._renderer.update_scene(self._data, self._camera, self._options)
        return self._renderer.render().copy()

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()
