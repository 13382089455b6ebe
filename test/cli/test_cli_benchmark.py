"""The command benchmark with a light estimator: JSON, notes, plot."""

import importlib.util
import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import hand_pose_3d.cli.benchmark as benchmark
from hand_pose_3d.cli import main
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.estimator_config import EstimatorConfig


@pytest.fixture
def light(fake_estimator, monkeypatch):
    """A fake without networks, no MediaPipe, no weights of the paper's networks."""
    from hand_pose_3d.errors import WeightsError

    def make(family, settings):
        if family == "paper":
            raise WeightsError("the weights 'paper-posenet' are not installed")
        settings = {name: value for name, value in settings.items() if name not in ("weights", "precision")}
        made = fake_estimator(model=family, **settings)
        made.timings_ms = {"detection": 0.0, "keypoints": 0.0}
        return made

    monkeypatch.setattr("hand_pose_3d.evaluation.benchmark.process.make_estimator", make)
    real = importlib.util.find_spec
    absent = {"mediapipe", "rclpy"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in absent else real(name, *rest))


def run(*arguments):
    return CliRunner().invoke(main, ["benchmark", "--frames", "6", "--warm-up", "1", *map(str, arguments)])


def test_json_holds_every_mode_and_stage(light, tmp_path):
    out = tmp_path / "deep" / "figures.json"
    result = run("--part", "stages", "--json", out)
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())
    assert report["machine"]["cores"] >= 1
    rows = report["results"]
    fields = {"family", "backend", "precision", "device", "mode", "keypoints", "stage", "p50_ms", "p95_ms", "p99_ms"}
    fields.add("fps")
    assert all(fields <= row.keys() for row in rows)
    seen = {(row["mode"], row["stage"], row["input"]) for row in rows if row["family"] == "lite"}
    stages, modes = ("end_to_end", "detection", "keypoints", "other"), ("detect", "track")
    assert seen == {(m, s, i) for m in modes for s in stages for i in ("clip", "noise")} | {
        (m, "decode", "clip") for m in modes
    }
    assert {(row["mode"], row["input"]) for row in rows if row["stage"] == "decode"} == {(m, "clip") for m in modes}
    assert all(row["family"] == "lite" and row["mode"] in modes for row in rows)
    assert "lite track, onnxruntime float32" in result.output
    assert run("--part", "stages", "--json", out).exit_code == 0  # over its earlier result
    out.write_text('{"machine": "lathe 3"}')
    assert "not an earlier result" in run("--part", "stages", "--json", out).output


def test_keypoints_are_read_as_asked(light, monkeypatch, tmp_path):
    from hand_pose_3d.evaluation.benchmark import process

    asked, make = [], process.make_estimator

    def recorded(name, settings):
        asked.append(settings)
        return make(name, settings)

    monkeypatch.setattr(process, "make_estimator", recorded)
    out = tmp_path / "figures.json"
    result = run("--part", "stages", "--search", "fast", "--keypoints", "thorough", "--json", out)
    assert result.exit_code == 0, result.output
    assert asked and all(settings["keypoints"] == "thorough" for settings in asked)
    assert {row["keypoints"] for row in json.loads(out.read_text())["results"]} == {"thorough"}
    assert "lite track, onnxruntime float32, thorough keypoints" in result.output


@pytest.mark.parametrize(
    ("settings", "says"), [(("--keypoints", "thorough"), "one PoseNet"), (("--precision", "int8"), "int8")]
)
def test_the_paper_is_left_out_of_what_it_does_not_have(light, monkeypatch, settings, says):
    from hand_pose_3d.evaluation.benchmark import process

    make = process.make_estimator

    def strict(name, settings):
        if name == "paper" and settings["precision"] == "int8":
            raise InvalidInputError("precision int8 is for lite")
        if name == "paper":
            EstimatorConfig(model=name, keypoints=settings["keypoints"])
        return make("lite", settings)

    monkeypatch.setattr(process, "make_estimator", strict)
    result = run("--part", "stages", *settings)
    assert result.exit_code == 0, result.output
    assert "paper is left out" in result.output and says in result.output and "lite track" in result.output
    result = run("--part", "stages", "--model", "paper", *settings)
    assert result.exit_code == 1 and says in result.output


def test_what_is_missing_is_said(light, tmp_path):
    out = tmp_path / "figures.json"
    result = run("--part", "stages", "--ros", "--json", out)
    assert result.exit_code == 0, result.output
    notes = " ".join(json.loads(out.read_text())["notes"])
    assert "MediaPipe Hands is not installed" in notes
    assert "rclpy" in notes
    assert "paper is left out: the weights 'paper-posenet' are not installed" in notes
    before = out.read_bytes()
    result = run("--ros-only", "--json", out)
    assert result.exit_code == 1 and "nothing was measured: ROS 2 (rclpy) is not installed here" in result.output
    assert out.read_bytes() == before  # earlier results are kept
    result = run("--part", "start", "--plot", tmp_path / "p.png")
    assert result.exit_code == 2 and "of --part start alone there is no picture" in result.output
    result = run("--ros-only", "--part", "start")
    assert result.exit_code == 2 and "leave --part out" in result.output


def test_family_that_was_asked_for_must_be_there(light):
    result = run("--part", "stages", "--model", "paper")
    assert result.exit_code == 1 and "paper-posenet" in result.output
    for part in ("stages", "start"):
        result = run("--part", part, "--model", "mediapipe")
        assert result.exit_code == 1 and "MediaPipe Hands is not installed" in result.output


def test_without_the_clip_noise_stands_in_and_that_is_said(light, monkeypatch, tmp_path):
    monkeypatch.setattr("hand_pose_3d.evaluation.benchmark.frames.read_clip", lambda count: None)
    out = tmp_path / "figures.json"
    assert run("--part", "stages", "--json", out).exit_code == 0
    report = json.loads(out.read_text())
    assert {row["input"] for row in report["results"]} == {"noise"}
    assert any("clip is not installed" in note for note in report["notes"])


def test_cost_against_hands_and_size_and_the_plot(light, tmp_path):
    pytest.importorskip("matplotlib")
    import cv2

    out, plot = tmp_path / "figures.json", tmp_path / "plots" / "figures.png"
    result = run("--part", "stages", "--part", "cost", "--json", out, "--plot", plot)
    assert result.exit_code == 0, result.output
    cost = json.loads(out.read_text())["cost"]
    assert {row["shown"] for row in cost if "shown" in row} == {1, 2, 3, 4}
    sizes = {(row["width"], row["height"]) for row in cost if "megapixels" in row}
    assert sizes == {(320, 240), (640, 480), (1280, 720), (1920, 1080)}
    assert cv2.imread(str(plot)).std() > 1


def test_start_and_ros_rows_are_kept(light, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(
        "hand_pose_3d.evaluation.benchmark.process.measure_start",
        lambda family, settings: {"family": family, "start_s": 1.5, "rss_mb": None, "peak_mb": None},
    )
    monkeypatch.setattr("hand_pose_3d.evaluation.benchmark.process.measure_help", lambda: 0.2)
    row = {
        "model": "auto",
        "precision": "auto",
        "width": 640,
        "height": 480,
        "rate_hz": 30.0,
        "published": 9,
        "dropped": 9,
    }
    row |= {"p50_ms": None, "p95_ms": None, "p99_ms": None, "node_ready_s": 2.0, "node_rss_mb": None}
    monkeypatch.setattr(benchmark, "measure_ros", lambda *arguments: [row])
    out, plot = tmp_path / "figures.json", tmp_path / "figures.png"
    assert run("--part", "start", "--ros", "--json", out, "--plot", plot).exit_code == 0
    report = json.loads(out.read_text())
    assert report["start"] == {
        "help_s": 0.2,
        "processes": [{"family": "lite", "start_s": 1.5, "rss_mb": None, "peak_mb": None, "precision": "auto"}],
    }
    assert report["ros"] == [row] and plot.is_file()


def test_start_and_ros_are_measured_with_the_precisions_and_families_that_were_asked_for(light, monkeypatch):
    started, commands = [], []

    def start(family, settings):
        started.append(settings["precision"])
        return {"family": family, "start_s": 1, "rss_mb": None}

    monkeypatch.setattr("hand_pose_3d.evaluation.benchmark.process.measure_start", start)
    monkeypatch.setattr("hand_pose_3d.evaluation.benchmark.process.measure_help", lambda: 0.2)
    result = run("--model", "lite", "--precision", "float32", "--precision", "auto", "--part", "start")
    assert result.exit_code == 0 and started == ["float32", "auto"]
    assert "lite float32: first result 1.00 s" in result.output

    ended = []

    def measured(command, start_new_session, **_):
        assert start_new_session  # an interrupt reaches it once
        commands.append(command)
        ending = {"terminate": lambda: ended.append("terminate"), "wait": lambda timeout: ended.append("wait")}
        return SimpleNamespace(returncode=0, communicate=lambda: ("[]", None), **ending)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: object())
    monkeypatch.setattr(benchmark.subprocess, "Popen", measured)
    settings = {"device": "cpu", "max_hands": 1, "threads": 0, "search": "fast", "keypoints": "fast", "weights": None}
    notes = []
    assert benchmark.measure_ros(("mediapipe",), ("float32",), settings, 1.0, notes.append) == [] and not commands
    assert "MediaPipe" in notes[0]
    benchmark.measure_ros(("lite", "mediapipe"), ("float32", "int8"), settings, 1.0, notes.append)
    assert [command[command.index("--model") + 1] for command in commands] == ["lite", "lite"]
    assert [command[command.index("--precision") + 1] for command in commands] == ["float32", "int8"]
    del ended[:]

    def interrupted(command, **options):
        process = measured(command, **options)
        process.communicate = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
        return process

    monkeypatch.setattr(benchmark.subprocess, "Popen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        benchmark.measure_ros(("lite",), ("float32",), settings, 1.0, notes.append)
    assert ended == ["terminate", "wait"]
