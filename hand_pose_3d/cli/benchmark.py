"""hand_pose_3d benchmark: latency of every stage, memory and start-up, beside MediaPipe Hands if installed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hand_pose_3d.cli.options import FiniteRange, NamedPath

if TYPE_CHECKING:
    from hand_pose_3d.evaluation.benchmark.frames import Clip
    from hand_pose_3d.evaluation.benchmark.timing import Contender, Plan

CONTENDERS = ("lite", "paper", "mediapipe")
PARTS = ("stages", "cost", "start")
MODES = ("detect", "track")


@click.command("benchmark")
@click.option(
    "--model",
    "families",
    multiple=True,
    type=click.Choice(CONTENDERS),
    help="Repeatable; default: all that are installed.",
)
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    default=("auto",),
    help="Repeatable: auto, float32, float16, bfloat16, int8.",
)
@click.option("--threads", type=click.IntRange(0, 64), default=0, help="Processor threads; 0: as by default.")
@click.option(
    "--search",
    type=click.Choice(["auto", "fast", "thorough"]),
    default="auto",
    help="How new hands are searched for; auto: thorough in detect, fast in track.",
)
@click.option(
    "--keypoints",
    type=click.Choice(["auto", "fast", "thorough"]),
    default="auto",
    help="How keypoints are read: fast (by one network), thorough (lite: refined by a second one); auto: thorough in "
    "detect with a thorough search, if the weights have it.",
)
@click.option("--weights", type=NamedPath(path_type=Path), help="Folder with other weights.")
@click.option("--max-hands", type=click.IntRange(1, 16), default=1)
@click.option("--frames", type=click.IntRange(5), default=300, help="Frames of a pass, at most all of the clip's.")
@click.option("--rounds", type=click.IntRange(1), default=2, help="Passes, in turning order.")
@click.option("--warm-up", type=click.IntRange(0), default=10, help="Calls before each pass.")
@click.option("--limit", type=FiniteRange(0), default=30.0, help="Seconds of a pass at most.")
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Repeatable; default: all three.")
@click.option("--ros", is_flag=True, help="Measure image to HandPose3DArray between processes, too.")
@click.option("--ros-only", is_flag=True, help="Measure that alone.")
@click.option("--ros-seconds", type=FiniteRange(2), default=20.0, help="Of each rate and size.")
@click.option("--json", "json_path", type=NamedPath(dir_okay=False, path_type=Path), help="Write all metrics here.")
@click.option("--plot", type=NamedPath(dir_okay=False, path_type=Path), help="Write a picture here (PNG, PDF).")
def command(
    families: tuple[str, ...],
    device: str,
    precisions: tuple[str, ...],
    threads: int,
    search: str,
    keypoints: str,
    weights: Path | None,
    max_hands: int,
    frames: int,
    rounds: int,
    warm_up: int,
    limit: float,
    parts: tuple[str, ...],
    ros: bool,
    ros_only: bool,
    ros_seconds: float,
    json_path: Path | None,
    plot: Path | None,
) -> None:
    """Time every stage on the built-in clip and on noise, searching every image (detect) and following (track).

    All contenders run in this process on the same frames, pass by pass in alternating order.
    """
    from hand_pose_3d.outputs import check_plot, check_target, replacing

    if plot is not None:
        import matplotlib  # noqa: F401 - missing, that is better said before minutes of measuring

        check_plot(plot)
    if json_path is not None:
        check_target(json_path, rb'\{\s*"machine": \{\s*"cpu": ')

    from hand_pose_3d.evaluation.benchmark.frames import noise, read_clip
    from hand_pose_3d.evaluation.benchmark.machine import describe_machine
    from hand_pose_3d.evaluation.benchmark.timing import Plan

    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        click.echo(f"note: {text}", err=True)

    if ros_only and parts:
        raise click.UsageError("--ros-only measures that alone: leave --part out, or take --ros")
    if plot and not (ros or ros_only) and parts and not {"stages", "cost"} & set(parts):
        raise click.UsageError("--plot draws stages, cost and ROS latency: of --part start alone there is no picture")
    parts = () if ros_only else parts or PARTS
    settings = {"device": device, "weights": weights, "max_hands": max_hands, "threads": threads}
    settings |= {"search": search, "keypoints": keypoints}
    report: dict[str, Any] = {"machine": describe_machine(), "notes": notes, "results": []}
    machine = report["machine"]
    if machine["load_1min"] > 0.5 * machine["cores"]:
        note(f"the machine is busy (load {machine['load_1min']} on {machine['cores']} cores): times are too long")
    clip = read_clip(frames)
    if clip is None:
        note("the built-in clip is not installed: noise without hands is used instead")
        clip = noise(frames)
    plan = Plan(rounds, warm_up, limit)
    if parts:
        before = len(notes)
        chosen = available(families, precisions, settings, note)
        if not chosen:
            raise click.ClickException("nothing to measure: " + "; ".join(notes[before:]))
        if "stages" in parts:
            report["results"] = measure_stages(chosen, clip, frames, plan)
            _print_stages(report["results"])
        if "cost" in parts:
            usual = [each for each in chosen if each[1].get("precision", "auto") == "auto"]
            report["cost"] = measure_cost(usual or chosen, clip, plan)
            _print_cost(report["cost"])
        if "start" in parts:
            report["start"] = measure_starts(chosen, note)
    if ros or ros_only:
        report["ros"] = measure_ros(families, precisions, settings, ros_seconds, note)
    if ros_only and not report["ros"]:
        raise click.ClickException(f"nothing was measured: {notes[-1]}")
    if json_path is not None:
        with replacing(json_path) as stream:
            stream.write(json.dumps(report, indent=1, default=str).encode() + b"\n")
    if plot is not None:
        from hand_pose_3d.evaluation.benchmark.plot import plot_benchmark

        if not plot_benchmark(plot, report):
            note(f"{plot} was not written: nothing that was measured has a picture")


def available(
    families: tuple[str, ...], precisions: tuple[str, ...], settings: dict[str, Any], note: Any
) -> list[tuple[str, dict[str, Any]]]:
    """(family, settings) of all that can be measured here; `note` is called with what cannot, and why.

    A family that was requested by name and cannot be loaded with these settings is an error, except for the peer.
    """
    from hand_pose_3d.errors import HandPoseError
    from hand_pose_3d.evaluation.benchmark.process import make_estimator

    chosen: list[tuple[str, dict[str, Any]]] = []
    for family in families or CONTENDERS:
        if family == "mediapipe":
            if importlib.util.find_spec("mediapipe") is None:
                note("MediaPipe Hands is not installed: pip install 'hand_pose_3d[benchmark]' (it needs NumPy 1)")
            else:
                chosen.append((family, {"max_hands": settings["max_hands"]}))
            continue
        for precision in precisions:
            try:
                make_estimator(family, own := {**settings, "precision": precision})
            except HandPoseError as error:
                if families:
                    raise
                note(f"{family} is left out: {error}")
            else:
                chosen.append((family, own))
    return chosen


def contender(family: str, settings: dict[str, Any], mode: str) -> Contender:
    """An estimator that is ready to be measured."""
    from hand_pose_3d.evaluation.benchmark.process import make_estimator
    from hand_pose_3d.evaluation.benchmark.timing import Contender, Setting

    estimator = make_estimator(family, {**settings, "tracking": mode == "track"})
    keypoints = getattr(estimator, "keypoints", "")  # the peer has no choice
    setting = Setting(family, estimator.backend, estimator.precision, str(estimator.device), mode, keypoints)
    return Contender(setting, estimator)


def measure_stages(
    chosen: list[tuple[str, dict[str, Any]]], clip: Clip, frames: int, plan: Plan
) -> list[dict[str, Any]]:
    """Rows of every contender, mode and stage, on the clip and on noise; decoding the clip is a stage."""
    from tqdm import tqdm

    from hand_pose_3d.evaluation.benchmark.frames import noise
    from hand_pose_3d.evaluation.benchmark.timing import measure, summary

    contenders = [contender(*each, mode) for each in chosen for mode in MODES]
    inputs = [clip] if clip.name == "noise" else [clip, noise(frames)]
    rows = []
    if clip.decode_ms:
        # The same for all contenders, which get decoded frames.
        decode = {"stage": "decode", **summary(clip.decode_ms), "input": clip.name}
        rows += [{**asdict(each.setting), **decode} for each in contenders]
    with tqdm(total=len(inputs) * len(contenders) * plan.rounds, unit="pass", disable=None) as bar:
        for each in inputs:
            measured = measure(contenders, each.frames, plan, each.camera, passed=lambda setting: bar.update())
            rows += [{**row, "input": each.name} for row in measured]
    return rows


def measure_cost(chosen: list[tuple[str, dict[str, Any]]], clip: Clip, plan: Plan) -> list[dict[str, Any]]:
    """Rows of how time grows with hands ('shown', all to be found) and with image size ('megapixels')."""
    from dataclasses import replace

    from hand_pose_3d.evaluation.benchmark.frames import HANDS, SIZES, resized, tiled
    from hand_pose_3d.evaluation.benchmark.timing import END_TO_END, measure

    few = replace(clip, frames=clip.frames[: max(5, len(clip.frames) // 5)])
    plan = replace(plan, limit_s=plan.limit_s / 3)
    rows: list[dict[str, Any]] = []
    for hands in HANDS:
        contenders = [contender(f, {**s, "max_hands": hands}, mode) for f, s in chosen for mode in MODES]
        measured = measure(contenders, tiled(few.frames, hands), plan, few.camera)
        rows += [{**row, "shown": hands} for row in measured if row["stage"] == END_TO_END]
    contenders = [contender(f, {**s, "max_hands": 1}, mode) for f, s in chosen for mode in MODES]
    for size in SIZES:
        larger = resized(few, size)
        measured = measure(contenders, larger.frames, plan, larger.camera)
        rows += [{**row, "megapixels": size[0] * size[1] / 1e6} for row in measured if row["stage"] == END_TO_END]
    return rows


def measure_starts(chosen: list[tuple[str, dict[str, Any]]], note: Any) -> dict[str, Any]:
    """Start-up and memory of each family and precision in a process of its own, and the time of --help."""
    from hand_pose_3d.errors import HandPoseError
    from hand_pose_3d.evaluation.benchmark.process import measure_help, measure_start

    rows = []
    for family, own in chosen:
        try:
            rows.append({**measure_start(family, own), "precision": own.get("precision", "")})
        except HandPoseError as error:
            note(str(error))
    for row in rows:
        memory = "unknown" if row["rss_mb"] is None else f"{row['rss_mb']:.0f} MB, {row['peak_mb']:.0f} MB at its peak"
        name = f"{row['family']} {row['precision']}".rstrip()
        click.echo(f"{name}: first result {row['start_s']:.2f} s after the start; resident memory {memory}")
    seconds = measure_help()
    click.echo(f"hand_pose_3d --help: {seconds:.2f} s")
    return {"help_s": seconds, "processes": rows}


def measure_ros(
    families: tuple[str, ...], precisions: tuple[str, ...], settings: dict[str, Any], seconds: float, note: Any
) -> list[dict[str, Any]]:
    """Rows of hand_pose_3d.ros.latency, which runs in a process of its own; none where ROS 2 is missing."""
    if importlib.util.find_spec("rclpy") is None:
        note("ROS 2 (rclpy) is not installed here: the latency between processes was not measured")
        return []
    if "mediapipe" in families:
        note("MediaPipe Hands has no node here: its latency between processes was not measured")
    rows: list[dict[str, Any]] = []
    for family, precision in product([f for f in families or ("auto",) if f != "mediapipe"], precisions):
        command = [sys.executable, "-m", "hand_pose_3d.ros.latency", "--model", family, "--seconds", str(seconds)]
        command += ["--precision", precision]
        for name in ("device", "max_hands", "threads", "search", "keypoints"):
            command += [f"--{name.replace('_', '-')}", str(settings[name])]
        if settings["weights"] is not None:
            command += ["--weights", str(settings["weights"])]
        # A session of its own, so that an interrupt reaches it once, from here, and it ends its nodes.
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        try:
            output, _ = process.communicate()
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
        if process.returncode:
            note(f"ROS 2 latency of {family}, {precision}, could not be measured; its output is above")
        else:
            rows += json.loads(output)
    marks = ("p50_ms", "p95_ms", "p99_ms")
    for row in rows:
        click.echo(
            f"{row['model']}, {row['precision']}, {row['width']}x{row['height']} at {row['rate_hz']:g} Hz: "
            + "image to hands "
            + " / ".join(f"{key[:3]} {'-' if row[key] is None else round(row[key], 1)}" for key in marks)
            + f" ms, {row['dropped']} of {row['published']} images dropped; "
            f"node ready after {row['node_ready_s']:.1f} s, {row['node_rss_mb']} MB"
        )
    return rows


def _print_stages(rows: list[dict[str, Any]]) -> None:
    from hand_pose_3d.evaluation.benchmark.timing import Setting

    last = None
    for row in rows:
        setting = Setting.of(row)
        head = (setting, row["input"])
        if head != last:
            found = f", {row['hands']:.2f} hands an image" if "hands" in row else ""
            click.echo(f"\n{setting.label}, {setting.device}, {row['input']}{found}")
            last = head
        fps = "" if row["fps"] is None else f"{row['fps']:9.1f} fps"
        if "cpu_ms" in row:
            fps += f", {row['cpu_ms']:.2f} ms of processor time"
        click.echo(
            f"  {row['stage']:<13}p50 {row['p50_ms']:7.2f}  p95 {row['p95_ms']:7.2f}  p99 {row['p99_ms']:7.2f} ms{fps}"
        )
    click.echo()


def _print_cost(rows: list[dict[str, Any]]) -> None:
    from hand_pose_3d.evaluation.benchmark.timing import Setting

    for row in rows:
        label = Setting.of(row).label
        work = f"{row['shown']} hands" if "shown" in row else f"{row['width']}x{row['height']}"
        click.echo(f"{label}, {work} ({row['hands']:.2f} found): p50 {row['p50_ms']:.2f}  p95 {row['p95_ms']:.2f} ms")
    click.echo()
