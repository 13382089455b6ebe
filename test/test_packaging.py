"""What pip, colcon and rosdep read agrees with the code."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import hand_pose_3d
from hand_pose_3d.hands import ScaleSource
from hand_pose_3d.skeleton import KEYPOINT_NAMES, NUM_KEYPOINTS, Side

ROOT = Path(__file__).resolve().parents[1]


def constants_of_message():
    text = (ROOT / "msg" / "HandPose3D.msg").read_text()
    return {name: int(value) for name, value in re.findall(r"^uint8 ([A-Z0-9_]+)=(\d+)", text, re.MULTILINE)}


def package_xml():
    return ElementTree.parse(ROOT / "package.xml").getroot()


def test_one_version():
    assert package_xml().findtext("version") == hand_pose_3d.__version__


def test_message_indices_are_the_skeleton():
    constants = constants_of_message()
    assert constants["NUM_KEYPOINTS"] == NUM_KEYPOINTS
    assert {name: constants[name.upper()] for name in KEYPOINT_NAMES} == {
        name: index for index, name in enumerate(KEYPOINT_NAMES)
    }


def test_message_sides_and_scale_sources_are_those_of_the_library():
    constants = constants_of_message()
    assert {k: v for k, v in constants.items() if k.startswith("SIDE_")} == {f"SIDE_{s.name}": s for s in Side}
    assert {k: v for k, v in constants.items() if k.startswith("SCALE_")} == {f"SCALE_{s.name}": s for s in ScaleSource}


def test_array_sizes_in_the_message_are_the_number_of_keypoints():
    text = (ROOT / "msg" / "HandPose3D.msg").read_text()
    assert set(re.findall(r"^\S+\[(\d+)\]", text, re.MULTILINE)) == {str(NUM_KEYPOINTS)}


def test_every_package_that_cmake_looks_for_is_declared():
    looked_for = set(re.findall(r"find_package\((\w+)", (ROOT / "CMakeLists.txt").read_text()))
    declared = {element.text for element in package_xml() if element.tag.endswith("depend")}
    assert looked_for <= declared


def imported():
    """Top names of everything that the package and the launch files import, wherever they do."""
    files = [*(ROOT / "hand_pose_3d").rglob("*.py"), *(ROOT / "launch").glob("*.py")]
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


ROSDEP_KEYS = {
    "click": "python3-click",
    "cv2": "python3-opencv",
    "numpy": "python3-numpy",
    "onnxruntime": "python3-onnxruntime-pip",
    "rosbags": "python3-rosbags-pip",
    "scipy": "python3-scipy",
    "torch": "python3-pytorch-pip",
    "tqdm": "python3-tqdm",
    "yaml": "python3-yaml",
}
WITHOUT_KEY = {"onnx", "safetensors"}
"""config/install_python.sh installs these."""
OPTIONAL = {
    *("anny", "bpy", "mathutils", "moderngl", "fpng", "PIL", "trimesh", "matplotlib", "tflite", "mediapipe"),
    *("dex_retargeting", "rerun", "mujoco", "mink", "lerobot"),
}
"""For training, rendering and viewing: extras of pip."""
NOT_IMPORTED = {"rosidl_default_runtime": "what the messages link", "rviz2": "a program"}


def test_package_xml_declares_what_is_imported_and_nothing_else():
    packages = {e.text for e in package_xml() if e.tag in ("depend", "exec_depend")}
    packages -= {e.text for e in package_xml() if e.tag.startswith("buildtool")}
    foreign = set(imported()) - set(sys.stdlib_module_names) - {"hand_pose_3d"} - WITHOUT_KEY - OPTIONAL
    needed = {ROSDEP_KEYS.get(name, name) for name in foreign}
    assert needed | set(NOT_IMPORTED) == packages | {"python3-rosbags-pip"}


def test_install_script_asks_for_what_pip_asks_for():
    tree = ast.parse((ROOT / "setup.py").read_text())
    (dependencies,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "DEPENDENCIES"
    )
    script = ROOT / "config" / "install_python.sh"
    assert subprocess.run(["sh", "-n", script]).returncode == 0
    text = script.read_text()
    listed = re.findall(r"^\S+ (\S+)$", text.partition("<<LIST\n")[2].partition("\nLIST\n")[0], re.MULTILINE)
    (recordings,) = re.findall(r'^bag = \["(.*)"\]$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert sorted([*listed, "torch>=2.3"]) == sorted([*dependencies, recordings]) and '"torch>=2.3"' in text
    skipped = re.search(r'--skip-keys "([^"]+)"', text)[1].split()
    assert set(skipped) == {e.text for e in package_xml() if (e.text or "").endswith("-pip")}


def test_install_script_says_what_it_does():
    command = ["sh", str(ROOT / "config" / "install_python.sh")]
    helped = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert helped.stdout.startswith("Installs what hand_pose_3d needs") and helped.stdout.count("\n") > 8
    assert {"1.", "2.", "3."} <= set(helped.stdout.split()) and "set -eu" not in helped.stdout
    refused = subprocess.run([*command, "--gpu"], capture_output=True, text=True)
    assert refused.returncode == 2 and "unknown option --gpu" in refused.stderr


UBUNTU = {"numpy": "1.26.4", "cv2": "4.6.0", "scipy": "1.11.4", "yaml": "6.0.1", "click": "8.1.6", "tqdm": "4.66.2"}
FROM_PIP = {"safetensors": "0.8.0", "onnx": "1.23.2", "onnxruntime": "1.32.0", "torch": "2.13.0", "rosbags": "0.11.9"}


@pytest.mark.parametrize(
    ("versions", "installed"),
    [
        (UBUNTU | FROM_PIP, []),
        (UBUNTU, ["numpy<2: safetensors>=0.4 onnx>=1.16 onnxruntime>=1.21 rosbags~=0.11.9", "numpy<2: torch>=2.3"]),
        (UBUNTU | FROM_PIP | {"onnx": "1.12.0", "torch": "1.13.1"}, ["numpy<2: onnx>=1.16", "numpy<2: torch>=2.3"]),
        (UBUNTU | FROM_PIP | {"numpy": "1.21.5", "scipy": "1.8.0"}, ["numpy<1.25: numpy>=1.23.2"]),
        (UBUNTU | FROM_PIP | {"numpy": "2.3.0"}, []),
    ],
)
def test_install_script_asks_pip_for_what_is_missing_or_too_old(versions, installed, tmp_path):
    """With modules that have only a version, and a Python that writes down what it would install."""
    for name, version in versions.items():
        (tmp_path / "modules" / name).mkdir(parents=True)
        (tmp_path / "modules" / name / "__init__.py").write_text(f"__version__ = '{version}'")
    (tmp_path / "modules" / "scipy" / "spatial.py").touch()
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *"-m pip"*) shift 5; known=$(cat $1); shift; echo "$known: $*" >>{tmp_path}/pip;; '
        f'*) PYTHONPATH={tmp_path}/modules exec {sys.executable} -S "$@";; esac\n'
    )
    python.chmod(0o755)
    (python.parent / "activate").touch()
    (tmp_path / "venv" / "pyvenv.cfg").write_text("include-system-site-packages = true")
    command = ["sh", str(ROOT / "config" / "install_python.sh"), "--no-rosdep"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    lines = (tmp_path / "pip").read_text().splitlines() if installed else []
    assert lines == installed and (tmp_path / "venv" / "COLCON_IGNORE").exists()
    assert (done.returncode == 0) == (versions.keys() >= FROM_PIP.keys()), done.stderr


def test_install_script_makes_an_interrupted_environment_again_and_removes_nothing(tmp_path):
    (tmp_path / "mine" / "bin").mkdir(parents=True)
    (tmp_path / "mine" / "bin" / "python").symlink_to(sys.executable)  # so far did the first run come
    (tmp_path / "mine" / "notes").touch()
    failing = tmp_path / "python3"
    failing.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\nexit 1\n')
    failing.chmod(0o755)
    command = ["sh", str(ROOT / "config" / "install_python.sh"), "--no-rosdep", "mine"]
    environment = {**os.environ, "PYTHON": str(failing)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "sudo apt install python3-venv" in done.stderr
    assert (tmp_path / "asked").read_text() == "-m venv --system-site-packages mine\n"
    assert (tmp_path / "mine" / "notes").exists()


def test_oldest_versions_are_those_that_are_declared():
    command = ["make", "-n", "VENV_OLDEST=new", "test-oldest"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    dependencies = re.search(r"^DEPENDENCIES = (\[.*?\])", (ROOT / "setup.py").read_text(), re.DOTALL | re.MULTILINE)
    declared = ast.literal_eval(dependencies[1])
    extras = re.search(r"pip install .*\[(.*)\]", done.stdout)[1].split(",")
    text = (ROOT / "pyproject.toml").read_text()
    for extra in (*extras, "bag"):
        listed = ast.literal_eval(re.search(rf"^{extra} = (\[.*\])$", text, re.MULTILINE)[1])
        declared += [each for each in listed if "[" not in each]
    pinned = re.search(r"^printf '%s\\n' (.*) >", done.stdout, re.MULTILINE)[1].split()
    assert len(declared) > 12 and set(pinned) == {re.sub("[>~]=", "==", each) for each in declared}


def test_a_source_distribution_holds_what_builds_it(tmp_path):
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path]
    command += ["sdist", "--formats", "tar", "--dist-dir", tmp_path]
    environment = {**os.environ, "HAND_POSE_3D_ROS": "off"}
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    with tarfile.open(next(tmp_path.glob("*.tar"))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    needed = {
        path
        for path in tracked
        if path.startswith(("hand_pose_3d/", "msg/", "launch/", "config/")) or path in ("CMakeLists.txt", "package.xml")
    }
    assert len(needed) > 150 and needed <= held, sorted(needed - held)


def test_pre_commit_lints_by_the_lowest_version_that_pip_may_take():
    """Which rules there are and what they find changes with ruff's versions: `make lint` takes the newest."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    (revision,) = re.findall(r"ruff-pre-commit\n +rev: v(\d+\.\d+)\.0\n", hooks)
    assert f'"ruff>={revision},<1"' in (ROOT / "pyproject.toml").read_text()


def test_messages_package_is_a_member_of_the_group_that_ros_asks_for():
    assert package_xml().findtext("member_of_group") == "rosidl_interface_packages"
    assert package_xml().findtext("export/build_type") == "ament_cmake"


PROGRAMS = sorted((ROOT / "hand_pose_3d" / "ros" / "bin").iterdir())


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_programs_for_ros2_run_are_executable_and_start_a_main(program):
    assert program.stat().st_mode & 0o111
    module = re.search(r"^ *from (\S+) import main$", program.read_text(), re.MULTILINE)[1]
    source = (ROOT / Path(*module.split("."))).with_suffix(".py")
    source = source if source.is_file() else source.with_suffix("") / "__init__.py"
    assert "\ndef main(" in source.read_text()


def test_programs_for_ros2_run_are_installed():
    names = {"hand_pose_3d_node", "image_source", "rviz_hands", "latency", "demo", "rerun_view", "pinch_gripper"}
    assert names < {program.name for program in PROGRAMS}
    assert "hand_pose_3d/ros/bin/*" in (ROOT / "CMakeLists.txt").read_text()


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, hand_pose_3d; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not set(done.stdout.split()) & {"numpy", "torch", "cv2", "scipy", "rclpy", "onnxruntime"}


def test_messages_from_the_build_join_the_checkout():
    msg = pytest.importorskip("hand_pose_3d.msg")
    hand = msg.HandPose3D()
    assert len(hand.keypoints) == len(hand.keypoints_2d) == len(hand.keypoints_canonical) == NUM_KEYPOINTS
    assert msg.HandPose3D.LITTLE_TIP == 20
    assert list(msg.HandPose3DArray(hands=[hand]).hands) == [hand]


def test_package_is_in_the_ament_index():
    packages = pytest.importorskip("ament_index_python.packages")
    try:
        share = Path(packages.get_package_share_directory("hand_pose_3d"))
    except (packages.PackageNotFoundError, LookupError, OSError):
        pytest.skip("hand_pose_3d is not installed in AMENT_PREFIX_PATH")
    assert (share / "package.xml").is_file()
    assert (share / "launch").is_dir()
    assert (share / "config").is_dir()
    assert (share / "msg" / "HandPose3D.msg").is_file()
