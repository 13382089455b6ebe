"""hand_pose_3d train: the stages of both families."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from hand_pose_3d.cli.options import FiniteRange, NamedPath

TRAINING_STAGES = ("handsegnet", "posenet", "fineposenet", "lifting")
APPROACHES_FILE = "approaches.json"
APPROACHES = ("proposed", "direct", "bottleneck", "local", "nearest-neighbour")

_USED_BY = {
    "approach": [("paper", "lifting")],
    "posenet": [("lite", "lifting"), ("paper", "lifting")],
    "trunk": [("lite", "handsegnet"), ("lite", "posenet"), ("lite", "fineposenet")],
    "trunk_rate": [("lite", "handsegnet"), ("lite", "posenet")],
    "frozen_blocks": [("lite", "posenet")],
    "real": [("lite", "posenet"), ("lite", "fineposenet")],
    "photographs": [("lite", stage) for stage in TRAINING_STAGES],
    "photograph_share": [("lite", "handsegnet"), ("lite", "posenet"), ("lite", "fineposenet")],
}
"""Family and stage that an option changes something of; elsewhere it is refused."""

_FOLDER = NamedPath(exists=True, file_okay=False, path_type=Path)
_NEW_FOLDER = NamedPath(file_okay=False, path_type=Path)
_FILE = NamedPath(exists=True, dir_okay=False, path_type=Path)


@click.command("train")
@click.argument("stage", type=click.Choice(TRAINING_STAGES))
@click.option(
    "--data",
    "roots",
    multiple=True,
    required=True,
    type=_FOLDER,
    help="Folder in RHD's layout, made by `render`; may be repeated. The first one's evaluation split is held out.",
)
@click.option(
    "--out",
    required=True,
    type=_NEW_FOLDER,
    help="Checkpoints, log and curves; a run found there is resumed, with the data and settings given now.",
)
@click.option("--model", "family", type=click.Choice(["lite", "paper"]), default="lite")
@click.option("--images", type=click.IntRange(1), help="Length of the schedule in images.")
@click.option("--batch", type=click.IntRange(1, 4096), help="Images a step and process.")
@click.option("--learning-rate", type=FiniteRange(0, 1, min_open=True), help="Peak learning rate.")
@click.option(
    "--approach",
    type=click.Choice([*APPROACHES, "all"]),
    default="proposed",
    help="Lifting of the paper's family: its own, one that it is compared with, or all of them and a table.",
)
@click.option(
    "--posenet",
    type=_FILE,
    help="Weights of the family's PoseNet; lifting is trained on its predictions on the renders.",
)
@click.option(
    "--from-weights", "start", type=_FILE, help="Weights, as --save-weights writes them, that a new run starts from."
)
@click.option(
    "--trunk",
    type=_FILE,
    help="Wheel of mediapipe 0.10.21 (Apache-2.0): lite stages with a trunk start from it, or from --from-weights.",
)
@click.option(
    "--photographs",
    multiple=True,
    type=_FOLDER,
    help="Pack of labelled photographs (training.photographs) to train on too; may be repeated.",
)
@click.option(
    "--photograph-share", type=FiniteRange(0, 1), default=0.4, help="Share of photographs among the sampled hands."
)
@click.option(
    "--frozen-blocks",
    type=click.IntRange(0, 15),
    help="Number of first blocks of PoseNet's trunk, of 15, that stay as they are.",
)
@click.option(
    "--trunk-rate", type=FiniteRange(0), help="Learning rate of a lite trunk over that of the rest; 0 freezes it."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="The same seed gives the same run on a CPU.")
@click.option("--threads", type=click.IntRange(1), default=1, help="CPU threads of each process.")
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
@click.option("--precision", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32")
@click.option(
    "--real", type=_FOLDER, help="Folder with keypoints.json, to measure on during training; never trained on."
)
@click.option("--save-weights", type=_NEW_FOLDER, help="Afterwards write float16 weights into this folder.")
@click.option("--mean-with", type=_FILE, help="Write the mean of these weights and the run's instead.")
def command(
    stage: str,
    roots: tuple[Path, ...],
    out: Path,
    family: str,
    approach: str,
    seed: int,
    threads: int,
    device: str,
    start: Path | None,
    save_weights: Path | None,
    mean_with: Path | None,
    **options: Any,
) -> None:
    """Train a STAGE on renders: handsegnet, posenet, fineposenet (lite) or lifting.

    Ends with the schedule, or on Ctrl-C, with a checkpoint to resume from and status 130.
    `torchrun -m hand_pose_3d.cli train ...` starts it on several processes. Defaults depend on the stage; for the
    paper's family they are the paper's.
    """
    import cv2
    import torch

    from hand_pose_3d.evaluation import report
    from hand_pose_3d.families import PEAK_SCORES
    from hand_pose_3d.networks.lifting import LIFTINGS
    from hand_pose_3d.outputs import check_target, replacing
    from hand_pose_3d.runtime import choose_device
    from hand_pose_3d.training.loop import LoopConfig, Stage, check_run, run
    from hand_pose_3d.training.processes import process_group
    from hand_pose_3d.training.stages import NETWORKS, build_lite_stage, build_paper_stage, save_stage, start_from
    from hand_pose_3d.weights import check_weights_target, read_weights

    def given(name: str) -> bool:
        return click.get_current_context().get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE

    if (family, stage) == ("paper", "fineposenet"):
        raise click.UsageError("fineposenet is a stage of --model lite: the paper has one PoseNet")
    on_a_trunk = family == "lite" and stage != "lifting"
    if on_a_trunk and options["trunk"] is None and start is None and not (out / "checkpoint.pt").exists():
        raise click.UsageError(
            f"{stage} of lite starts from a trunk: give --trunk or --from-weights. The wheel that --trunk takes: "
            "pip download --no-deps mediapipe==0.10.21"
        )
    if given("photograph_share") and not options["photographs"]:
        raise click.UsageError("--photograph-share is about --photographs, which are not given")
    for name, users in _USED_BY.items():
        if given(name) and (family, stage) not in users:
            choices = ", ".join(f"`train {b} --model {a}`" for a, b in users)
            raise click.UsageError(f"--{name.replace('_', '-')} is a choice of {choices} only")
    if approach == "nearest-neighbour":
        for name in filter(given, ("images", "batch", "learning_rate", "precision", "device", "seed")):
            raise click.UsageError(f"nearest-neighbour is not trained: leave --{name.replace('_', '-')} out")
    if options["trunk"] is not None and start is not None:
        raise click.UsageError("--trunk and --from-weights are two starts: give one")
    if approach != "proposed" and start is not None:
        raise click.UsageError(
            "--from-weights takes weights of the proposed lifting only; the others are for comparison"
        )
    if approach != "proposed" and save_weights is not None:
        raise click.UsageError("--save-weights writes the proposed lifting only; the others are for comparison")
    if mean_with is not None and save_weights is None:
        raise click.UsageError("--mean-with is about the weights that --save-weights writes")
    if save_weights is not None:
        target = save_weights / f"{family}-{stage}.safetensors"
        if target.exists() and any(path is not None and target.samefile(path) for path in (start, mean_with)):
            raise click.UsageError(f"{target} is an input and stays as it is: choose another --save-weights")
        check_weights_target(target)
        if target.exists() and "source_sha256" in read_weights(target)[1]:
            raise click.UsageError(
                f"{target} holds converted weights and stays as it is: choose another --save-weights"
            )
    # Before the data are packed, which may take long.
    device = str(choose_device(device))
    for path in (start, mean_with):
        if path is not None and approach == "proposed":
            start_from(NETWORKS[family][stage](), path)
    if options["posenet"] is not None:
        start_from(NETWORKS[family]["posenet"](), options["posenet"])
    if approach == "all":
        check_target(out / APPROACHES_FILE, rb'\{\s*"proposed": \{\s*"renders_')
    folders = {name: out / name for name in APPROACHES} if approach == "all" else {approach: out}
    for name, folder in folders.items():
        check_run(folder, (NETWORKS[family][stage] if name == "proposed" else LIFTINGS[name])())
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # holds for the whole thread, so it is undone below
    click.get_current_context().call_on_close(lambda: torch.set_flush_denormal(False))
    cv2.setNumThreads(1)

    def train(name: str, folder: Path) -> dict[str, float]:
        built: Stage
        torch.manual_seed(seed)  # of the weights that it begins with
        if family == "lite":
            names = ("trunk", "trunk_rate", "frozen_blocks", "posenet", "real", "photographs", "photograph_share")
            used = {k: options[k] for k in names}
            built = build_lite_stage(stage, roots, **used)
        else:
            built = build_paper_stage(stage, roots, approach=name, posenet=options["posenet"])
        if start is not None:
            start_from(built.network, start)
        if name == "nearest-neighbour":  # nothing to train
            return built.evaluate(built.network)
        chosen: dict[str, Any] = {
            k: options[k] for k in ("images", "batch", "learning_rate", "precision") if options[k] is not None
        }
        return run(built, LoopConfig(**{**built.defaults, **chosen, "device": device, "seed": seed}), folder)

    with process_group(torch.device(device)) as rank:
        rows = {name: train(name, folder) for name, folder in folders.items()}
    if rank != 0:  # only the first process has measured
        return
    if approach == "all":
        with replacing(out / APPROACHES_FILE) as stream:
            stream.write(json.dumps(rows, indent=1).encode())
        click.echo(report.liftings(rows).text())
        return
    (metrics,) = rows.values()
    for name, value in metrics.items():
        click.echo(f"{name} {value:.4g}")
    if save_weights is not None:
        click.echo(f"wrote {save_stage(stage, out, save_weights, metrics, family, roots[0], mean_with)}")
        if (family, stage) == ("paper", "posenet"):
            click.echo(PEAK_SCORES)
