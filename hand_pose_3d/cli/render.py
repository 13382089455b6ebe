"""`hand_pose_3d render`: a labelled data set of our own, in RHD's layout."""

from __future__ import annotations

from pathlib import Path

import click

from hand_pose_3d.cli.options import FiniteRange, NamedPath


@click.command()
@click.option("--out", required=True, type=NamedPath(file_okay=False, path_type=Path), help="Folder of the data set.")
@click.option("--count", default=1000, type=click.IntRange(1), help="Frames of the split.")
@click.option(
    "--split",
    default="training",
    type=click.Choice(["training", "evaluation"]),
    help="They share no character or environment; skin textures and random poses are in both.",
)
@click.option("--seed", default=0, type=click.IntRange(0), help="The same seed gives the same frames.")
@click.option("--workers", default=1, type=click.IntRange(1), help="Processes that render.")
@click.option(
    "--assets",
    type=NamedPath(exists=True, file_okay=False, path_type=Path),
    help="Folder with hdri/*.hdr (polyhaven.com, CC0) and skins/*_diffuse* (MakeHuman, CC0); all optional.",
)
@click.option(
    "--engine",
    default="rasteriser",
    type=click.Choice(["rasteriser", "cycles"]),
    help="cycles traces paths: closer to photographs, about two seconds a frame, needs hand_pose_3d[cycles].",
)
@click.option(
    "--people",
    default=0.35,
    type=FiniteRange(0, 1),
    help="Share of frames with one to four whole people, whose hands are all labelled (key 'hands').",
)
@click.option(
    "--characters",
    type=click.IntRange(1),
    help="Use the arms of so many of the split's characters, of 80 or 20; of all by default.",
)
@click.option(
    "--seconds",
    type=FiniteRange(1, 60),
    help="Make COUNT videos of this length with truth, 640x480, in place of images: for evaluate --dataset sequence.",
)
@click.option("--preview", is_flag=True, help="Also write a contact sheet of the first 48 frames, and of their labels.")
def command(
    out: Path,
    count: int,
    split: str,
    seed: int,
    workers: int,
    assets: Path | None,
    engine: str,
    people: float,
    characters: int | None,
    seconds: float | None,
    preview: bool,
) -> None:
    """Render a labelled data set in RHD's layout, or labelled videos; an interrupted run resumes."""
    from hand_pose_3d.rendering.dataset import RenderOptions, render_dataset
    from hand_pose_3d.rendering.preview import write_preview
    from hand_pose_3d.rendering.statistics import flexion_table, in_words

    options = RenderOptions(out, count, split, seed, workers, assets, engine, people, characters)
    if seconds is not None:
        from hand_pose_3d.errors import InvalidInputError
        from hand_pose_3d.rendering.sequences import render_sequences

        if preview or engine != "rasteriser":
            raise InvalidInputError("--seconds makes videos with the rasteriser and has no --preview")
        click.echo(f"{len(render_sequences(options, seconds))} videos in {out}")
        return
    statistics = render_dataset(options)
    if preview:
        click.echo(f"contact sheet: {write_preview(out, split)}")
    for line in in_words(statistics):
        click.echo(line)
    if assets is None:
        click.echo("backgrounds and lights are procedural, for want of --assets")
    click.echo(flexion_table(statistics))
    click.echo(f"wrote {out / 'DATA_CARD.md'}")
