"""hand_pose_3d evaluate: errors on a data set by the paper's protocols and today's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from hand_pose_3d.cli.options import NamedPath, estimator_options

if TYPE_CHECKING:
    from hand_pose_3d.datasets.boxes import BoxImage
    from hand_pose_3d.datasets.sample import Sample
    from hand_pose_3d.evaluation.boxes import Prediction
    from hand_pose_3d.evaluation.matching import Keypoint0, Match

_OURS = rb'\{"dataset": "[a-z]+", "root": '
"""Start of the JSON that this command writes."""

DATASETS = ("rhd", "stb", "dexter", "freihand", "keypoints", "boxes", "sequence")

_POSES_ONLY = ("split", "worst", "upscale_px", "keypoint0")
MEANINGLESS = {
    "boxes": _POSES_ONLY,
    "sequence": (*_POSES_ONLY, "sheet"),
    "keypoints": ("split", "keypoint0", "sheet"),
    "dexter": ("split", "keypoint0", "sheet"),  # labels the palm, as STB does
    "stb": ("keypoint0", "sheet"),
    "rhd": ("sheet",),
    "freihand": ("sheet",),
}
"""Parameters without a meaning for a data set."""


@click.command("evaluate")
@click.option("--dataset", type=click.Choice(DATASETS), required=True, help="Layout; our renders have RHD's.")
@click.option("--root", type=NamedPath(path_type=Path), required=True, help="The data set's folder.")
@click.option("--split", type=click.Choice(["evaluation", "training"]), default="evaluation")
@click.option("--json", "json_path", type=NamedPath(dir_okay=False, path_type=Path), help="Write all metrics here.")
@click.option(
    "--plot",
    type=NamedPath(dir_okay=False, path_type=Path),
    help="Write the PCK curves, for boxes precision over recall, for sequences tracking, here (PNG, PDF).",
)
@click.option(
    "--sheet",
    type=NamedPath(dir_okay=False, path_type=Path),
    help="Write a contact sheet of missed and false hands here (PNG); boxes only.",
)
@click.option(
    "--worst",
    type=NamedPath(file_okay=False, path_type=Path),
    help="Write the worst 32 here, labels in white; of boxes, --sheet.",
)
@click.option("--limit", type=click.IntRange(1), help="Use this many images or sequences, evenly spread.")
@click.option(
    "--upscale",
    "upscale_px",
    type=click.IntRange(0, 8192),
    default=0,
    help="Enlarge smaller images to this longer side.",
)
@click.option(
    "--keypoint-0",
    "keypoint0",
    type=click.Choice(["label", "palm", "mistake"]),
    default="label",
    help="Compare keypoint 0 as labelled, as the palm's centre, or palm with wrist as the paper's Table 1 did.",
)
@click.option(
    "--peer",
    type=click.Choice(["mediapipe"]),
    help="Measure this peer, with its own settings but --max-hands, instead of us; boxes, sequence: beside us.",
)
@estimator_options
def command(
    dataset: str,
    root: Path,
    split: str,
    json_path: Path | None,
    plot: Path | None,
    sheet: Path | None,
    worst: Path | None,
    limit: int | None,
    upscale_px: int,
    keypoint0: Keypoint0,
    peer: str | None,
    **options: Any,
) -> None:
    """Errors of the whole pipeline on a data set, printed beside published results.

    Missed hands count with infinite error in medians, PCK and AUC; means are over the hands that were found.

    Poses are compared from a score of 0.1 on, boxes from the estimator's own; --score-threshold changes both.

    \b
    With --dataset boxes, detection on whole scenes with a box around every hand.
    ROOT/boxes.json: {"images": [{"file": "images/a.jpg", "width": 640, "height": 480,
      "hands": [{"box": [x, y, width, height], "side": "left", "ignore": false,
                 "holding": false, "touching": false, "gloved": false}]}]}
    Only "box" is required of a hand; an ignored one need not be found.
    A prediction, the box of its keypoints, is right from IoU 0.4 on.

    \b
    With --dataset sequence, tracking in videos: jitter of still hands, lag of moving ones, false hands, switches
    of identity and side, and the time until a hand that comes in is followed. `render --seconds` makes such folders.
    ROOT/NAME.mp4 and ROOT/NAME.json: {"fps": 30, "camera": {"fx", "fy", "cx", "cy", "width", "height"},
      "frames": [{"hands": [{"id": 1, "side": "left", "keypoints_2d": 21 x [u, v],
                             "keypoints": 21 x [x, y, z], "ignore": false}]}]}
    "camera", "id", "keypoints" (metres) and "ignore" are optional; a "box" may stand for "keypoints_2d".
    """
    from hand_pose_3d.errors import InvalidInputError
    from hand_pose_3d.evaluation import matching, plots, report
    from hand_pose_3d.outputs import check_folder, check_plot, check_target, encode_image

    if plot:
        import matplotlib  # noqa: F401 - if it is missing, say so before the long work

        check_plot(plot)
    if json_path:
        check_target(json_path, _OURS)
    if worst:
        check_folder(worst)
    if sheet:
        import numpy as np

        encode_image(np.zeros((1, 1, 3), np.uint8), sheet.suffix)  # a kind that can be written
        check_folder(sheet.parent)
    _refuse_options(dataset)
    targets = [path.resolve() for path in (json_path, plot, sheet) if path]
    if len(set(targets)) < len(targets):
        raise InvalidInputError("--json, --plot and --sheet need a file each")
    if dataset == "boxes":
        _boxes(root, limit, peer, options, json_path, plot, sheet)
        return
    if dataset == "sequence":
        _sequences(root, limit, peer, options, json_path, plot)
        return
    context = click.get_current_context()
    if context.get_parameter_source("score_threshold") != ParameterSource.COMMANDLINE:
        options["score_threshold"] = matching.POSE_SCORE
    samples = _images(_read(dataset, root, split), limit)
    if not samples:
        raise InvalidInputError(f"{root} holds no labelled hand")
    estimator = _estimator(peer, options)
    matches = matching.run(estimator, samples, upscale_px=upscale_px)
    if not matches:
        raise InvalidInputError(f"{root} holds no hand of which a keypoint is labelled")
    name = str(estimator.model) if peer else f"this work, {estimator.model}"
    if dataset == "keypoints":
        result = report.photographs(matches, name)
    elif peer:
        height, width = samples[0].image().shape[:2]
        result = report.paper(dataset, matches, keypoint0, image_size=(width, height), name=name)
    else:
        result = report.measure(estimator, dataset, matches, keypoint0, upscale_px, name)

    click.echo(f"{dataset} {root}: {len(matches)} hands, {estimator.model} on {estimator.device}\n")
    click.echo(result.text())
    if json_path:
        content = {
            "split": split,
            "hands": len(matches),
            "upscale": upscale_px,
            "keypoint_0": keypoint0,
            "figures": result.metrics,
            "images": [_image_entry(item, keypoint0) for item in matches],
        }
        _write_json(json_path, dataset, root, estimator, options, content)
    if plot:
        plots.plot_pck(plot, result.curves, f"{root.resolve().name}: {len(matches)} hands", name)
        click.echo(f"wrote {plot}")
    if worst:
        _write_worst(worst, matches, keypoint0)
        click.echo(f"wrote pictures into {worst}")


def _estimator(peer: str | None, options: dict[str, Any], tracking: bool = False) -> Any:
    from hand_pose_3d.evaluation.benchmark.process import make_estimator

    settings = {**options, "tracking": True} if tracking else dict(options)
    family = settings.pop("model")
    return make_estimator(peer or family, settings)


def _read(dataset: str, root: Path, split: str) -> list[Sample]:
    from hand_pose_3d.datasets import dexter, freihand, keypoints, rhd, stb

    if dataset == "rhd":
        return rhd.read_rhd(root, split)
    if dataset == "stb":
        samples = stb.read_stb(root, split)
    elif dataset == "freihand":
        samples = freihand.read_freihand(root, split)
    else:
        samples = dexter.read_dexter(root) if dataset == "dexter" else keypoints.read_keypoints(root)
    return [sample for sample in samples if sample.visible.any()]


def _images(samples: list[Sample], limit: int | None) -> list[Sample]:
    """The hands of at most so many images, evenly spread."""
    from hand_pose_3d.evaluation.matching import evenly_spread

    kept = set(evenly_spread(list(dict.fromkeys(sample.image_path for sample in samples)), limit))
    return [sample for sample in samples if sample.image_path in kept]


def _boxes(
    root: Path,
    limit: int | None,
    peer: str | None,
    options: dict[str, Any],
    json_path: Path | None,
    plot: Path | None,
    sheet: Path | None,
) -> None:
    """Prediction on a folder with boxes.json."""
    from hand_pose_3d.datasets.boxes import read_boxes
    from hand_pose_3d.evaluation import boxes, matching, plots, report

    images = matching.evenly_spread(read_boxes(root), limit)
    threshold = options["score_threshold"]
    # The estimator keeps low scores for the curve; the metrics are those at the threshold.
    estimator = _estimator(None, {**options, "score_threshold": min(threshold, boxes.CURVE_SCORE)})
    other = _estimator(peer, options) if peer else None  # if missing, say so before the long work
    name = f"this work, {estimator.model}"
    found = boxes.run(estimator, images)
    measured = {name: boxes.detection_metrics(images, found, threshold)}
    if other:
        found_by_peer = boxes.run(other, images, str(other.model))
        measured[str(other.model)] = boxes.detection_metrics(images, found_by_peer, None)
    result = report.boxes(measured)

    hands = measured[name]["recall"]["of"]
    click.echo(
        f"boxes {root}: {len(images)} images, {hands} hands, {estimator.model} on {estimator.device}, "
        f"at most {options['max_hands']} hands an image\n"
    )
    click.echo(result.text())
    beyond = sum(max(sum(not h.ignore for h in image.hands) - options["max_hands"], 0) for image in images)
    if beyond:
        click.echo(f"\n{beyond} of the hands are more than --max-hands {options['max_hands']} in their image.")
    if json_path:
        content = {
            "hands": hands,
            "max_hands": options["max_hands"],
            "figures": result.metrics,
            "peer": {"name": str(other.model), "figures": measured[str(other.model)]} if other else None,
            "images": [_detections_entry(image, items) for image, items in zip(images, found)],
        }
        _write_json(json_path, "boxes", root, estimator, options, content)
    if plot:
        points = [
            (
                key if index else f"score {threshold:g}",
                metrics["recall"]["share"] or 0.0,
                metrics["precision"]["share"] or 0.0,
            )
            for index, (key, metrics) in enumerate(measured.items())
        ]
        curve, title = result.metrics["curve"], f"{root.resolve().name}: {len(images)} images, {hands} hands"
        if result.metrics["average_precision"] is not None:
            title += f", average precision {result.metrics['average_precision']:.3f}"
        plots.plot_precision_recall(plot, curve["recall"], curve["precision"], points, title, name)
        click.echo(f"wrote {plot}")
    if sheet:
        from hand_pose_3d.evaluation.contact_sheet import write_contact_sheet

        click.echo(f"wrote {write_contact_sheet(sheet, images, found, threshold)}")


def _refuse_options(dataset: str) -> None:
    """Raise InvalidInputError for an option that the user has named and that changes nothing for a data set."""
    from hand_pose_3d.errors import InvalidInputError

    context = click.get_current_context()
    for option in context.command.params:
        named = context.get_parameter_source(str(option.name)) == ParameterSource.COMMANDLINE
        if named and option.name in MEANINGLESS.get(dataset, ()):
            raise InvalidInputError(f"{option.opts[0]} has no meaning for --dataset {dataset}")


def _settings(dataset: str, options: dict[str, Any], estimator: Any) -> dict[str, Any]:
    """All options that the metrics depend on, by name, and what `auto` chose. options: those of the estimator."""
    others = {"dataset", "root", "json_path", "plot", "sheet", "worst", *MEANINGLESS.get(dataset, ())}
    chosen = {
        name: getattr(estimator, name) for name in ("precision", "backend", "keypoints") if hasattr(estimator, name)
    }
    used = {**click.get_current_context().params, **options, **chosen}
    return {name: str(v) if isinstance(v, Path) else v for name, v in used.items() if name not in others}


def _sequences(
    root: Path,
    limit: int | None,
    peer: str | None,
    options: dict[str, Any],
    json_path: Path | None,
    plot: Path | None,
) -> None:
    """Tracking in a folder with labelled videos."""
    from hand_pose_3d.datasets.sequence import read_sequences
    from hand_pose_3d.evaluation import matching, plots, report, sequences
    from hand_pose_3d.smoothing import SmoothingConfig
    from hand_pose_3d.tracking import TrackerConfig

    videos = matching.evenly_spread(read_sequences(root), limit)
    # Smoothing comes after tracking and is done where both are measured, without and with it.
    tracker = TrackerConfig(smoothing=SmoothingConfig(enabled=False))
    estimator = _estimator(None, {**options, "tracker": tracker}, tracking=True)
    other = _estimator(peer, options, tracking=True) if peer else None  # if missing, say so before the long work
    names = [f"this work, {estimator.model}", *([str(other.model)] if other else [])]
    measured = {
        name: sequences.metrics(videos, sequences.run(each, videos, name))
        for name, each in zip(names, (estimator, other), strict=False)
    }
    result = report.sequences(measured)
    hands, frames = result.metrics["hands"], sum(len(video.frames) for video in videos)
    click.echo(
        f"sequence {root}: videos {len(videos)}, frames {frames}, hands that stay long enough to be followed {hands}, "
        f"{estimator.model} on {estimator.device}, most hands an image {options['max_hands']}\n"
    )
    click.echo(result.text())
    if json_path:
        content = {
            "videos": len(videos),
            "frames": frames,
            "max_hands": options["max_hands"],
            "figures": result.metrics,
            "peer": {"name": names[1], "figures": measured[names[1]]} if other else None,
        }
        _write_json(json_path, "sequence", root, estimator, options, content)
    if plot:
        title = f"{root.resolve().name}: videos {len(videos)}, hands that stay long enough {hands}"
        plots.plot_sequences(plot, measured, title)
        click.echo(f"wrote {plot}")


def _write_json(
    path: Path, dataset: str, root: Path, estimator: Any, options: dict[str, Any], content: dict[str, Any]
) -> None:
    """Write the content behind what all JSON begins with: of what it is, and how it was made."""
    from hand_pose_3d.outputs import replacing

    about: dict[str, Any] = {"dataset": dataset, "root": root.resolve().name}
    about |= {"model": str(estimator.model), "device": str(estimator.device)}
    about["options"] = _settings(dataset, options, estimator)
    with replacing(path) as stream:
        stream.write(json.dumps(about | content).encode())
    click.echo(f"wrote {path}")


def _detections_entry(image: BoxImage, detections: list[Prediction]) -> dict[str, Any]:
    return {
        "image": image.name,
        "predictions": [
            {
                "score": float(item.hand.score),
                "side": item.hand.side.label,
                "box": item.box_px.tolist(),
                "outcome": item.outcome.value,
                "hand": item.label,
            }
            for item in detections
        ],
    }


def _image_entry(item: Match, keypoint0: Keypoint0) -> dict[str, Any]:
    import numpy as np

    from hand_pose_3d.evaluation.protocols import errors_px, per_image

    error = float(per_image(errors_px([item], keypoint0))[0])
    return {
        "image": item.sample.name,
        "error_px": error if np.isfinite(error) else None,
        "iou": item.iou if np.isfinite(item.iou) else None,
        "side": item.hand.side.label if item.hand else None,
        "score": float(item.hand.score) if item.hand else None,
    }


def _write_worst(folder: Path, matches: list[Match], keypoint0: Keypoint0, count: int = 32) -> None:
    import numpy as np

    from hand_pose_3d.conventions import rescale_pixels
    from hand_pose_3d.drawing import draw_hands, draw_label, enlarge
    from hand_pose_3d.evaluation.protocols import distances, errors_px
    from hand_pose_3d.outputs import encode_image, flat, write_beside

    shares = []
    matches = [item for item in matches if item.sample.visible.any()]
    for item in matches:
        share = distances(errors_px([item], keypoint0), [item])["median_share_of_hand"]
        shares.append(np.inf if item.hand is None else -np.inf if share is None else share)  # last: a single keypoint
    for rank, index in enumerate(np.argsort(shares)[::-1][:count]):
        item = matches[index]
        image = item.sample.image()
        larger, hands = enlarge(image, [item.hand] if item.hand else [], 512)
        drawn = draw_hands(larger, hands)
        draw_label(drawn, rescale_pixels(item.sample.keypoints_px, larger.shape[0] / image.shape[0]))
        name = flat(item.sample.name)
        label = "missed" if item.hand is None else f"{shares[index]:.1%}" if shares[index] >= 0 else "unknown"
        write_beside(folder / f"{rank:02d}_{label}_{name}.jpg", encode_image(drawn, ".jpg"))
