"""What README, docs and model card show exists: commands, options, programs, launch arguments, links and pictures."""

import ast
import json
import re
import shlex
import shutil
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from hand_pose_3d.cli import main
from hand_pose_3d.ros.launching import ARGUMENTS, TELEOP_ARGUMENTS

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "hand_pose_3d" / "weights" / "MODEL_CARD.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
}


def shown(text):
    """Command lines in console blocks and in inline code, each as a list of words."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for kind, block in blocks if kind in ("console", "sh", "bash") for line in block.splitlines()]
    lines += [code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", prose)]
    for line in lines:
        try:
            words = shlex.split(re.sub(r"\{\{\w+\}\}", "1", line), comments=True)
        except ValueError:  # prose with an apostrophe
            continue
        part = []
        for word in [*words, "&&"]:
            if word in ("&&", ";", "|"):
                if part:
                    yield part
                part = []
            else:
                part.append(word)


def commands(*start):
    """(page, words after `start`) of every command line shown that starts so."""
    found = {
        (page, tuple(words[len(start) :]))
        for page, text in PAGES.items()
        for words in shown(text)
        if tuple(words[: len(start)]) == start
    }
    return sorted(found)


def command_lines():
    """Command lines of `hand_pose_3d`, also those that torchrun and make start."""
    both = [*commands("hand_pose_3d"), *commands("torchrun", "-m", "hand_pose_3d.cli")]
    recipes = re.findall(r"^\t\$\(BIN\)/hand_pose_3d (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    both += [("Makefile", tuple(shlex.split(re.sub(r"\$\(\w+\)", "1", line)))) for line in recipes]
    return [(page, words) for page, words in both if words and words[0] not in ("COMMAND", "--help")]


@pytest.mark.parametrize("page, words", command_lines())
def test_commands_and_their_options_exist(page, words):
    context = click.Context(main)
    command = main.get_command(context, words[0])
    assert command is not None, f"{page}: there is no command {words[0]}"
    if words[1:] == ("--help",):
        return
    context = click.Context(command, info_name=words[0], parent=context)
    # Raises for an unknown option and for an option without its value.
    values, left, _ = command.make_parser(context).parse_args(list(words[1:]))
    assert not left, f"{page}: {words[0]} takes no {left}"
    for parameter in command.params:
        given = values.get(parameter.name)
        for value in given if isinstance(given, list | tuple) else [given]:
            if isinstance(parameter.type, click.Choice) and isinstance(value, str):
                parameter.type.convert(value, parameter, context)


@pytest.mark.parametrize("command", sorted(main.list_commands(click.Context(main))))
def test_every_command_is_in_the_readme(command):
    assert command in {words[0] for page, words in command_lines() if page == "README.md"}


@cache
def options_of(module):
    """Option strings of a module's own argument parser, from its source."""
    spec = find_spec(module)
    assert spec and spec.origin, f"there is no module {module}"
    calls = (node for node in ast.walk(ast.parse(Path(spec.origin).read_text())) if isinstance(node, ast.Call))
    added = [call for call in calls if getattr(call.func, "attr", "") == "add_argument"]
    return {arg.value for call in added for arg in call.args if isinstance(arg, ast.Constant)}


@pytest.mark.parametrize("page, words", [c for c in commands("python", "-m") if c[1][0].startswith("hand_pose_3d")])
def test_modules_that_are_run_take_the_options_shown(page, words):
    module, *arguments = words
    assert {word for word in arguments if word.startswith("--")} <= options_of(module), page


@pytest.mark.parametrize("page, words", commands("ros2", "run", "hand_pose_3d"))
def test_programs_for_ros2_run_are_installed(page, words):
    assert (ROOT / "hand_pose_3d" / "ros" / "bin" / words[0]).is_file(), page


@pytest.mark.parametrize("page, words", commands("ros2", "launch", "hand_pose_3d"))
def test_launch_files_and_their_arguments_exist(page, words):
    launch_file, *arguments = words
    assert (ROOT / "launch" / launch_file).is_file(), page
    named = {word.partition(":=")[0] for word in arguments if word != "--show-args"}
    allowed = {"hand.launch.py": ARGUMENTS, "teleop.launch.py": TELEOP_ARGUMENTS}[launch_file]
    assert named <= set(allowed), page


def test_the_workflow_launches_what_there_is_and_waits_for_topics_by_type():
    """`ros2 topic echo` without a type ends at once where nobody publishes yet."""
    text = (ROOT / ".github" / "workflows" / "test.yaml").read_text(encoding="utf-8")
    launched = re.findall(r"ros2 launch hand_pose_3d (\S+)((?: \S+:=\S+)*)", text)
    assert {file for file, _ in launched} == {path.name for path in (ROOT / "launch").glob("*.py")}
    for _, arguments in launched:
        assert {word.partition(":=")[0] for word in arguments.split()} <= set(TELEOP_ARGUMENTS)
    echoes = re.findall(r"ros2 topic echo (.+)", text)
    assert echoes and all(re.fullmatch(r"--once /\S+ \w+/msg/\w+", words) for words in echoes)


def test_options_of_the_install_script_exist():
    script = (ROOT / "config" / "install_python.sh").read_text()
    lines = commands("sh", "src/hand_pose_3d/config/install_python.sh")
    assert lines
    for page, words in lines:
        assert all(f"{word})" in script for word in words if word.startswith("--")), page


@pytest.mark.parametrize("page, words", commands("make"))
def test_make_targets_exist(page, words):
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        name, assigns, _ = word.partition("=")
        assert re.search(rf"^{name} \?=" if assigns else rf"^{name}:", makefile, re.MULTILINE), page


def anchors(text):
    """Names that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


LINKS = sorted({(page, link) for page, text in PAGES.items() for link in re.findall(r"\]\(([^)\s]+)\)", text)})


@pytest.mark.parametrize("page, link", [item for item in LINKS if "://" not in item[1]])
def test_relative_links_and_pictures_exist(page, link):
    name, _, fragment = link.partition("#")
    path = (ROOT / page).parent / name if name else ROOT / page
    assert path.exists()
    if fragment:
        assert fragment in anchors(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_python_that_is_shown_can_be_imported(page):
    for block in re.findall(r"^```python\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_python_that_is_shown_runs_with_what_ships(page, tmp_path, monkeypatch, capsys):
    from hand_pose_3d.images import CLIP, Video
    from hand_pose_3d.outputs import encode_image

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    shutil.copy(CLIP, "video.mp4")
    Path("photo.jpg").write_bytes(encode_image(next(iter(Video(CLIP))), ".jpg"))
    camera = json.loads(CLIP.with_suffix(".json").read_text())["camera"]
    matrix = [camera["fx"], 0, camera["cx"], 0, camera["fy"], camera["cy"], 0, 0, 1]
    size = f"image_width: {camera['width']}\nimage_height: {camera['height']}\n"
    Path("camera.yaml").write_text(f"{size}camera_matrix: {{rows: 3, cols: 3, data: {matrix}}}\n")
    for block in re.findall(r"^```python\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL):
        exec(block, {})
    assert "right 0.99" in capsys.readouterr().out
    assert page == "README.md" or Path("hands.png").stat().st_size > 10_000


def test_documentation_is_linked_from_the_readme():
    linked = {link.partition("#")[0] for page, link in LINKS if page == "README.md"}
    assert set(PAGES) - {"README.md"} <= linked


def test_launch_arguments_are_all_explained():
    assert all(f"`{name}`" in PAGES["docs/ros.md"] for name in ARGUMENTS)
    text = PAGES["docs/teleoperation.md"]
    assert all(f"{name}:=" in text or f"`{name}`" in text for name in set(TELEOP_ARGUMENTS) - set(ARGUMENTS))
