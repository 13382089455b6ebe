"""hand_pose_3d export: the networks in a form that other runtimes take."""

from __future__ import annotations

from pathlib import Path

import click

from hand_pose_3d.cli.options import NamedPath


@click.command("export")
@click.option("--format", "form", type=click.Choice(["onnx"]), default="onnx")
@click.option("--out", required=True, type=NamedPath(path_type=Path, file_okay=False), help="Folder for the files.")
@click.option("--model", type=click.Choice(["lite", "paper"]), default="lite", help="Which family.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    help="What the graph computes in; inputs and outputs are float32.",
)
@click.option("--weights", type=NamedPath(path_type=Path, file_okay=False), help="Folder with other weights.")
def command(form: str, out: Path, model: str, precision: str, weights: Path | None) -> None:
    """Write the networks of a family as ONNX files with a dynamic batch, each checked under onnxruntime.

    \b
    handsegnet  image (N, 3, H, W)               -> lite: mask, centre, extent, direction, offset of cells of
                                                    4 x 4 pixels; paper: scores (N, 2, H, W)
    palmnet     image (N, 3, H, W), lite only    -> cells_8, cells_16 (N, 6, ., .): centre (a logit), extent,
                                                    direction, offset of cells of 8 x 8 and 16 x 16 pixels
    posenet     crop (N, 3, 160, 160), paper 256 -> score_maps (N, 21, ., .)
                                                    and for lite side_logit, presence_logit (N)
    fineposenet crop (N, 3, 224, 224), lite only -> score_maps (N, 21, 28, 28),
                                                    points (N, 21, 2) in 0..1 over the crop
    lifting     maps (N, 21, 40, 40), paper 32,
                hand_side (N, 2): left, right    -> relative, canonical (N, 21, 3), rotation (N, 3, 3)
    pose-prior, viewpoint: the two streams of the paper's lifting by themselves

    Images are RGB, value / 255 - 0.5. Sides of an image of lite are multiples of 32; the paper's handsegnet takes
    240 x 320 alone. Score maps of lite are logits; a keypoint is their mean, weighted by their softmax. Those of the
    paper are Gaussians; a keypoint is where its map, enlarged 8 times, is largest. How lite's two PoseNets' keypoints
    are joined is in hand_pose_3d/networks/lite_runtime.py; no file holds it, nor the numbers that make scores of
    presence and spreads, which are in the weights (docs/training.md, "Scores"). Without --weights the files are of the
    weights that ship. A folder may lack lite-fineposenet and lite-palmnet, which then are not written.

    TensorRT builds an engine from each file, here in float16 for one to four hands; TensorRT 10 also wants
    --stronglyTyped:

    \b
    hand_pose_3d export --precision float16 --out onnx
    trtexec --onnx=onnx/lite-posenet.onnx --saveEngine=lite-posenet.plan \\
        --minShapes=crop:1x3x160x160 --optShapes=crop:2x3x160x160 --maxShapes=crop:4x3x160x160

    onnxruntime takes the files as they are, with its TensorrtExecutionProvider too.
    """
    from hand_pose_3d.networks.onnx_export import export_family

    for path, difference in export_family(model, out, weights, half=precision == "float16"):
        click.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB, equal to PyTorch to {difference:.0e}")
