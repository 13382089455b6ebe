"""hand_pose_3d convert-weights: the authors' published pickles as files that this package loads."""

from __future__ import annotations

from pathlib import Path

import click

from hand_pose_3d.cli.options import NamedPath

_OURS = rb'.{8}\{"__metadata__":\{.{,20000}?"source_sha256":'
"""Start of files that this command writes."""


@click.command("convert-weights")
@click.argument("files", nargs=-1, required=True, metavar="FILE.pickle...", type=NamedPath(path_type=Path))
@click.option("--out", required=True, type=NamedPath(path_type=Path, file_okay=False), help="Folder for the results.")
@click.option(
    "--lifting",
    type=click.Choice(["auto", "direct", "local"]),
    default="auto",
    help="Approach of a lifting file without viewpoint; auto: from the file's name.",
)
def command(files: tuple[Path, ...], out: Path, lifting: str) -> None:
    """Convert the authors' published weights (handsegnet-rhd.pickle, posenet3d-*.pickle, lifting-*.pickle).

    Nothing in a pickle is run: only numpy arrays are accepted, and their names, shapes and number must be those of
    the networks. Writes paper-handsegnet, paper-posenet and paper-lifting[-APPROACH].safetensors to --out; use the
    first two and paper-lifting, the proposed approach, with model "paper" and the folder as weights. The palm centre as
    keypoint 0 and the middle finger as reference bone, which these weights were trained with, are recorded in the files
    and are converted to the package's own at run time.
    """
    from hand_pose_3d.errors import WeightsError
    from hand_pose_3d.families import PEAK_SCORES
    from hand_pose_3d.networks.authors_weights import CONVENTIONS, PUBLISHED_SHA256, networks_in, read_pickle
    from hand_pose_3d.outputs import check_target
    from hand_pose_3d.weights import file_sha256, save_weights

    sources: dict[str, Path] = {}
    converted = []  # all of them, before anything is written
    for path in files:
        arrays = read_pickle(path)
        sha256 = file_sha256(path)
        published = next((name for name, known in PUBLISHED_SHA256.items() if known == sha256), None)
        click.echo(f"{path}: {f'the published {published}' if published else 'not a published file (SHA-256 unknown)'}")
        approach = ("local" if "local" in path.name else "direct") if lifting == "auto" else lifting
        try:
            networks = networks_in(arrays, approach)
        except WeightsError as error:
            raise WeightsError(f"{path} is refused: {error}") from None
        for role, module in networks.items():
            if role in sources:
                raise WeightsError(f"{sources[role]} and {path} both hold a {role}: convert them to separate folders")
            sources[role] = path
            metadata = {
                "family": "paper",
                "version": published or path.name,
                "licence": "none stated by the authors; trained on data for research only",
                "source": path.name,
                "source_sha256": sha256,
                "published": "yes" if published else "no",
                **({} if role == "handsegnet" else CONVENTIONS.metadata),
            }
            converted.append((check_target(out / f"paper-{role}.safetensors", _OURS, files), module, metadata))
    for target, module, metadata in converted:
        save_weights(target, module, metadata)
        count = sum(parameter.numel() for parameter in module.parameters())
        click.echo(f"{target}: {type(module).__name__}, {count:,} parameters")
    if "posenet" in sources:
        click.echo(PEAK_SCORES)
