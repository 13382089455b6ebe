"""hand_pose_3d reproduce: the paper in one command."""

from __future__ import annotations

from pathlib import Path

import click

from hand_pose_3d.cli.options import FiniteRange, NamedPath

_FOLDER = NamedPath(exists=True, file_okay=False, path_type=Path)


@click.command("reproduce")
@click.option(
    "--out",
    required=True,
    type=NamedPath(file_okay=False, path_type=Path),
    help="Renders, checkpoints, weights and the report; a run that is found there is resumed.",
)
@click.option("--model", type=click.Choice(["paper", "lite"]), default="paper", help="Which family.")
@click.option(
    "--minutes",
    type=FiniteRange(0, min_open=True),
    help="Time for all of it, to which schedules are shortened; the paper's schedules in full by default.",
)
@click.option("--frames", type=click.IntRange(1), help="Training frames to render; the paper's 41,258 by default.")
@click.option(
    "--data",
    multiple=True,
    type=_FOLDER,
    help="Folder in RHD's layout, RHD itself or of `render`, to take instead of rendering; may be repeated. "
    "The first one's evaluation split is held out.",
)
@click.option("--assets", type=_FOLDER, help="Environment maps and skins for the renders, as `render` takes them.")
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Of renders and training.")
def command(
    out: Path,
    model: str,
    minutes: float | None,
    frames: int | None,
    data: tuple[Path, ...],
    assets: Path | None,
    device: str,
    seed: int,
) -> None:
    """Render the paper's data, train its networks by its recipe, evaluate them by its protocols, and report.

    \b
    --model paper: HandSegNet, PoseNet, all lifting approaches and their comparison, from random weights
    --model lite:  the shipped networks, trained further on renders

    OUT/REPORT.md and OUT/pck.png show the results beside the published ones; OUT/weights is for --weights of the other
    commands and for the node. An interrupted run resumes where it stopped. With --minutes the time that is left after
    each step is divided among the others, and a shortened schedule still ends with its decay. Packing, evaluation and
    one training step of each network are never left out: a few minutes are exceeded.
    `torchrun --nproc-per-node N -m hand_pose_3d.cli reproduce ...` trains on N GPUs, in batches N times as large.
    """
    from hand_pose_3d.reproduction import reproduce
    from hand_pose_3d.reproduction_config import ReproductionConfig

    config = ReproductionConfig(out, model, minutes, frames, data, assets, device, seed)
    click.echo(f"wrote {reproduce(config, click.echo)}")
