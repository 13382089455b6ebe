"""Arrows between modules point one way, and special imports stay in their folders."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "hand_pose_3d"

FOUNDATION = {"__init__", "conventions", "errors", "skeleton", "geometry", "camera", "hands"}
TOP = {"estimator", "training", "evaluation"}
SHELLS = {"cli", "lerobot", "ros"}


def rank(component):
    """0 foundation, 1 everything between, 2 what joins it together, 3 what uses all of that, 4 the shells."""
    if component in FOUNDATION:
        return 0
    if component.startswith("reproduction"):
        return 3
    return 4 if component in SHELLS else 2 if component in TOP else 1


def component_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def resolve(node, path):
    """Absolute names that an import statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parents = ("hand_pose_3d", *path.relative_to(ROOT).parent.parts)
        base = ".".join((*parents[: len(parents) - node.level + 1], *([base] if base else [])))
    return [f"{base}.{alias.name}" for alias in node.names]


def imports():
    """(file, absolute imported name) for every import in the package, those inside functions too."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for name in resolve(node, path):
                    yield path, name


IMPORTS = list(imports())


def inner_edges():
    for path, name in IMPORTS:
        parts = name.split(".")
        if parts[0] == "hand_pose_3d" and len(parts) > 1 and parts[1] != "msg":
            source, target = component_of(path), parts[1]
            is_module = (ROOT / target).is_dir() or (ROOT / f"{target}.py").is_file()
            if is_module and source not in (target, "__init__"):
                yield source, target, path


def test_the_check_sees_the_package():
    assert ("hands", "geometry") in {(source, target) for source, target, _ in inner_edges()}


def test_only_files_that_python_opened_reach_opencv():
    """A str path crashes OpenCV where it is not UTF-8; two places know how to name a file so that it never is."""
    places = {"VideoCapture": "images.py", "VideoWriter": "outputs.py"}
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cv2":
                opens = node.attr.startswith(("imread", "imwrite", "haveImage", "FileStorage", "VideoC", "VideoW"))
                if opens and node.attr != "VideoWriter_fourcc" and places.get(node.attr) != path.name:
                    found.append(f"{path.relative_to(ROOT)}: cv2.{node.attr}")
    assert not found


def test_arrows_point_from_shells_to_foundation():
    wrong = [
        f"{path.relative_to(ROOT)} imports {target}"
        for source, target, path in inner_edges()
        if rank(target) > rank(source)
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("source", "forbidden"),
    [
        ("networks", {"rendering", "datasets", "tracking", "placement", "drawing"}),
        ("rendering", {"networks"}),
        ("datasets", {"networks", "rendering"}),
        ("ros", {"cli", "lerobot", "training", "rendering"}),
        ("cli", {"lerobot", "ros"}),
        ("lerobot", {"cli", "ros", "training", "rendering"}),
    ],
)
def test_neighbours_do_not_reach_across(source, forbidden):
    assert not {target for origin, target, _ in inner_edges() if origin == source} & forbidden


def test_no_component_depends_on_itself_by_a_detour():
    edges = {}
    for source, target, _ in inner_edges():
        edges.setdefault(source, set()).add(target)

    def visit(component, trail):
        assert component not in trail, " -> ".join([*trail, component])
        for target in edges.get(component, ()):
            visit(target, [*trail, component])

    for component in edges:
        visit(component, [])


@pytest.mark.parametrize(
    ("modules", "home"),
    [
        ({"rclpy", "launch", "launch_ros", "cv_bridge", "rosbags", "tf2_ros", "tf_transformations"}, "ros"),
        ({"moderngl", "anny", "bpy"}, "rendering"),
        ({"click"}, "cli"),
        ({"lerobot"}, "lerobot"),
        ({"mujoco", "mink"}, "simulation"),
    ],
)
def test_special_imports_stay_in_their_folder(modules, home):
    strays = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, name in IMPORTS
        if name.split(".")[0] in modules and component_of(path) != home
    ]
    assert not strays


def test_the_foundation_needs_arrays_and_files_only():
    allowed = {"hand_pose_3d", "numpy", "cv2", "scipy", "yaml", *sys.stdlib_module_names}
    strays = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, name in IMPORTS
        if component_of(path) in FOUNDATION and name.split(".")[0] not in allowed
    ]
    assert not strays


def test_ros_messages_are_imported_in_ros_only():
    strays = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, name in IMPORTS
        if ("_msgs." in name or name.startswith("hand_pose_3d.msg")) and component_of(path) != "ros"
    ]
    assert not strays
