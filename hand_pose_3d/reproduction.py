"""The paper in one go: render, train HandSegNet, PoseNet and the lifting approaches, evaluate, report.

Everything lies in one folder, from which an interrupted run goes on: `data` (renders), `runs` (checkpoints and curves),
`weights`, `reproduction.json` (what is done, and how long it took), `REPORT.md` and `pck.png`.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hand_pose_3d import __version__
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.evaluation.benchmark.machine import cores, describe_machine
from hand_pose_3d.outputs import replacing

if TYPE_CHECKING:
    from hand_pose_3d.evaluation.report import Report
    from hand_pose_3d.training.loop import Stage

TRAINING_FRAMES, EVALUATION_FRAMES = 41_258, 2_728
CHARACTERS = {"training": 16, "evaluation": 4}
"""Of the paper's data set; its 31 and 8 actions are also the renderer's."""

SHARES = {
    "paper": {
        "data": 30.0,
        "handsegnet": 22.0,
        "posenet": 28.0,
        "lifting/proposed": 4.0,
        "lifting/direct": 3.0,
        "lifting/bottleneck": 3.0,
        "lifting/local": 3.0,
        "lifting/nearest-neighbour": 0.5,
        "scores": 2.0,
        "evaluation": 6.0,
    },
    "lite": {"data": 30.0, "handsegnet": 22.0, "posenet": 28.0, "lifting": 12.0, "evaluation": 8.0},
}
"""Steps of each family in order, and their shares of the time; what one leaves over is shared by those after it."""

LARGEST_RATE = 3e-4
"""To which a learning rate of the paper's recipe is raised where its schedule is shortened."""
LEAST_HELD_OUT, LEAST_EVALUATED = 16, 4
"""Frames that are rendered for evaluation, and hands of them that are evaluated, however little time there is."""
_CALIBRATED = 500
"""Most held-out frames from which the scores of the paper's networks are calibrated: two numbers need no more."""
_STATE = "reproduction.json"
_LITE_TRUNK_RATE = 0.15  # of HandSegNet's trunk over the rest, as the shipped weights were trained
_CHECKPOINT_BYTES = {"paper": 1_500_000_000, "lite": 200_000_000}  # of all stages
_LEAST_SECONDS_A_FRAME = 0.02  # of a core
_PACKED_BYTES_PER_FRAME = {"paper": 0, "lite": 1_700_000}  # crops and scenes, twice while they are being packed


@dataclass(frozen=True)
class ReproductionConfig:
    """What to reproduce.

    minutes: time for all of it, by which schedules are shortened, None for the paper's schedules in full; frames: of
    the training split, None for the paper's number; data: folders in RHD's layout instead of renders, of which the
    first one's evaluation split is held out; assets: as `render` takes them; device: auto, cpu, cuda or cuda:N.
    """

    out: Path
    model: str = "paper"
    minutes: float | None = None
    frames: int | None = None
    data: tuple[Path, ...] = ()
    assets: Path | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.model not in SHARES:
            raise InvalidInputError(f"model must be one of {', '.join(SHARES)}, not {self.model!r}")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise InvalidInputError(f"minutes must be more than 0, not {self.minutes}")
        if self.frames is not None and self.frames < 1:
            raise InvalidInputError(f"frames must be at least 1, not {self.frames}")
        if self.data and self.frames is not None:
            raise InvalidInputError("frames is how many to render; data that are there already are taken as they are")


def reproduce(config: ReproductionConfig, say: Callable[[str], None] = print) -> Path:
    """Do all that is not done yet, and return the report's path.

    say: shows one line. Under `torchrun` the training runs on all processes. Raises InvalidInputError if the folder
    holds something else, HandPoseError if the disk would run full, KeyboardInterrupt when training was interrupted.
    """
    import cv2
    import torch

    from hand_pose_3d.runtime import choose_device
    from hand_pose_3d.training.loop import process_group

    device = choose_device(config.device)
    torch.set_num_threads(max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    torch.backends.cudnn.benchmark = True  # the shapes of a stage's batches are all the same
    cv2.setNumThreads(1)
    with process_group(torch.device(device)) as rank:
        run = _Reproduction(config, device, rank, say if rank == 0 else lambda line: None)
        for step in run.steps:
            if step not in run.results:
                run.do(step)
        if rank == 0:
            run.report()
    return config.out / "REPORT.md"


class _Reproduction:
    """One run, perhaps in several processes; the first writes the state that all read."""

    def __init__(self, config: ReproductionConfig, device: str, rank: int, say: Callable[[str], None]) -> None:
        self.config, self.device, self.rank, self.say = config, device, rank, say
        self.roots = [*config.data] or [config.out / "data"]
        self.steps = [step for step in SHARES[config.model] if step != "data" or not config.data]
        self.settings = {
            "model": config.model,
            "minutes": config.minutes,
            "frames": config.frames,
            "data": [str(root.resolve()) for root in config.data],
        }
        if rank == 0:
            self._begin()
        _barrier()
        self._read()

    def _begin(self) -> None:
        from hand_pose_3d.rendering.dataset import check_disk

        config, path = self.config, self.config.out / _STATE
        if not path.exists():
            if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
                raise InvalidInputError(f"{config.out} holds something else than a reproduction; choose another --out")
            import matplotlib  # noqa: F401 - missing, it is named before the long work

            config.out.mkdir(parents=True, exist_ok=True)
            frames = 0 if config.data else sum(self._frames())
            if config.minutes is not None:
                frames = min(frames, int(60 * config.minutes * cores() / _LEAST_SECONDS_A_FRAME) + 1)
            packed = frames * _PACKED_BYTES_PER_FRAME[config.model]
            check_disk(config.out, frames, packed + _CHECKPOINT_BYTES[config.model])
            self.state: dict[str, Any] = {"settings": self.settings, "limits": {}, "seconds": {}, "results": {}}
            self._write()
        self._read()
        if self.state["settings"] != self.settings:
            earlier = {k: v for k, v in self.state["settings"].items() if v != self.settings[k]}
            raise InvalidInputError(f"{config.out} holds a reproduction with {earlier}; choose another --out")

    def _read(self) -> None:
        try:
            self.state = json.loads((self.config.out / _STATE).read_text(encoding="utf-8"))
            self.results: dict[str, Any] = self.state["results"]
        except (ValueError, KeyError) as error:
            raise InvalidInputError(f"{self.config.out / _STATE} is damaged; choose another --out") from error

    def _write(self) -> None:
        if self.rank == 0:
            with replacing(self.config.out / _STATE) as stream:
                stream.write(json.dumps(self.state, indent=1).encode())

    def _frames(self) -> tuple[int, int]:
        """Frames of the training and of the evaluation split, in the paper's proportion."""
        training = self.config.frames or TRAINING_FRAMES
        return training, max(LEAST_HELD_OUT, round(training * EVALUATION_FRAMES / TRAINING_FRAMES))

    def do(self, step: str) -> None:
        """One step, within its share of what is left of the time."""
        with self._clock(step) as seconds:
            limit = "" if math.isinf(seconds) else f", {seconds / 60:.1f} minutes"
            self.say(f"\n{step}{limit}")
            if step == "data":
                result = self._render(seconds) if self.rank == 0 else {}
            elif step == "evaluation":
                result = self._evaluate(seconds) if self.rank == 0 else {}
            elif step == "scores":
                result = self._calibrate(seconds) if self.rank == 0 else {}
            else:
                result = self._train(step, seconds)
            self.results[step] = result
        _barrier()
        self._read()

    @contextmanager
    def _clock(self, step: str) -> Iterator[float]:
        """Yields the seconds that a step may take from now on, and books those that it took."""
        if self.config.minutes is not None and step not in self.state["limits"]:
            left = 60 * self.config.minutes - sum(self.state["seconds"].values())
            shares = {name: SHARES[self.config.model][name] for name in self.steps if name not in self.results}
            self.state["limits"][step] = max(left, 0) * shares[step] / sum(shares.values())
        before, begin = self.state["seconds"].get(step, 0.0), time.monotonic()
        try:
            yield max(self.state["limits"].get(step, math.inf) - before, 0.0)
        finally:
            self.state["seconds"][step] = before + time.monotonic() - begin
            self._write()

    def _render(self, seconds: float) -> dict[str, Any]:
        from hand_pose_3d.rendering.dataset import RenderOptions, render_dataset
        from hand_pose_3d.rendering.scene import PEOPLE_SHARE

        begin, result = time.monotonic(), {}
        training, evaluation = self._frames()
        # The paper's cameras are within 65 cm of the hand; people far away are for lite, which has to find them too.
        people = 0.0 if self.config.model == "paper" else PEOPLE_SHARE
        for split, count, limit in (("evaluation", evaluation, 0.1 * seconds), ("training", training, seconds)):
            left = limit - (time.monotonic() - begin) * (split == "training")
            options = RenderOptions(
                self.roots[0],
                count,
                split,
                workers=min(cores(), -(-count // 64)),
                assets=self.config.assets,
                people=people,
                characters=CHARACTERS[split],
                time_limit_s=left,
            )
            statistics = render_dataset(options)
            result[split] = {"frames": statistics["frames"], "actions": len(statistics["action"])}
        return result

    @cached_property
    def _held_out(self) -> list[Any]:
        from hand_pose_3d.datasets.rhd import read_rhd

        return read_rhd(self.roots[0], "evaluation")

    def _stage(self, step: str) -> Stage:
        from hand_pose_3d.training.stages import PREDICTIONS, build_lite_stage, build_paper_stage, start_from
        from hand_pose_3d.weights import default_weights

        name, _, approach = step.partition("/")
        minutes = self.config.minutes or math.inf
        if self.config.model == "paper":
            checked = int(min(max(minutes, LEAST_EVALUATED), 200))
            return build_paper_stage(name, self.roots, approach=approach or "proposed", most_held_out=checked)
        mined = int(min(30 * minutes, 5000))
        predictions = int(max(min(300 * minutes, PREDICTIONS), 64))
        pose = self.config.out / "weights" / "lite-posenet.safetensors" if name == "lifting" else None
        rate = _LITE_TRUNK_RATE if name == "handsegnet" else None
        stage = build_lite_stage(
            name, self.roots, trunk_rate=rate, posenet=pose, mined=mined, most_predictions=predictions
        )
        start_from(stage.network, default_weights(f"lite-{name}"))
        return stage

    def _train(self, step: str, seconds: float) -> dict[str, Any]:
        import torch

        from hand_pose_3d.training.loop import LoopConfig, read_progress, run
        from hand_pose_3d.training.stages import save_stage

        begin, folder = time.monotonic(), self.config.out / "runs" / step
        stage = self._stage(step)
        if step == "lifting/nearest-neighbour":  # a library, which holds all that it will know
            return {"images": 0, "figures": stage.evaluate(stage.network)}
        on_gpu = self.device.startswith("cuda")
        if on_gpu:
            stage.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        paper = self.config.model == "paper"
        loop = LoopConfig(
            **stage.defaults,
            seconds=read_progress(folder).seconds + max(seconds - (time.monotonic() - begin), 0.0),
            largest_rate=LARGEST_RATE if paper else 0.0,
            evaluate_every_s=min(600.0, max(60.0, seconds / 6)),
            precision="bfloat16" if on_gpu else "float32",
            device=self.device,
        )
        figures = run(stage, loop, folder)
        _barrier()  # the first process has written the checkpoint
        progress = read_progress(folder)
        if not progress.finished:
            self.say(f"{step} was interrupted; the same command goes on")
            raise KeyboardInterrupt
        name, _, approach = step.partition("/")
        if self.rank == 0 and approach in ("", "proposed"):
            held_out = self.roots[0] if not paper else None
            save_stage(name, folder, self.config.out / "weights", figures, self.config.model, held_out)
        return {"images": progress.images, "of": loop.images, "figures": figures}

    def _calibrate(self, seconds: float) -> dict[str, Any]:
        import numpy as np

        from hand_pose_3d.training.data import StoredScenes
        from hand_pose_3d.training.score_calibration import calibrate_peaks

        end = time.monotonic() + seconds
        held_out = StoredScenes(self.roots[0], "evaluation", most=_CALIBRATED)
        order = np.random.default_rng(0).permutation(len(held_out))
        scenes = (held_out[i] for n, i in enumerate(order) if n < LEAST_EVALUATED or time.monotonic() < end)
        return calibrate_peaks(self.config.out / "weights", scenes, self.device)

    def _evaluate(self, seconds: float) -> dict[str, Any]:
        from hand_pose_3d.estimator import HandPoseEstimator
        from hand_pose_3d.evaluation import matching, plots, report
        from hand_pose_3d.evaluation.matching import evenly_spread

        begin = time.monotonic()
        estimator = HandPoseEstimator(
            model=self.config.model,
            weights=self.config.out / "weights",
            device=self.device,
            score_threshold=matching.POSE_SCORE,
        )
        name = f"this run, {self.config.model}"

        def measure(samples: list[Any]) -> Report:
            return report.measure(estimator, "rhd", matching.run(estimator, samples), name=name)

        samples = self._held_out
        if math.isfinite(seconds):
            measure(evenly_spread(samples, 1))  # the first of all is slow
            middle = time.monotonic()
            measure(evenly_spread(samples, 2))
            now = time.monotonic()
            affordable = int((seconds - (now - begin)) / max((now - middle) / 2, 1e-6))
            samples = evenly_spread(samples, max(affordable, LEAST_EVALUATED))
        found = measure(samples)
        title = f"{self.config.model}: {len(samples)} held-out hands"
        plots.plot_pck(self.config.out / "pck.png", found.curves, title, name)
        tables = [asdict(table) for table in found.tables]
        return {"hands": len(samples), "figures": found.metrics, "tables": tables, "machine": describe_machine()}

    def report(self) -> None:
        """Write REPORT.md from what the steps left."""
        text = _report(self)
        with replacing(self.config.out / "REPORT.md") as stream:
            stream.write(text.encode())


def _barrier() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def _report(run: _Reproduction) -> str:
    """The report in Markdown."""
    from hand_pose_3d.evaluation.report import Table, liftings
    from hand_pose_3d.rendering.actions import EVALUATION, TRAINING

    config, results, seconds = run.config, run.results, run.state["seconds"]
    paper, machine, measured = config.model == "paper", results["evaluation"]["machine"], results["evaluation"]
    time_of = {step: f"{taken / 60:.1f}" for step, taken in seconds.items()}
    data = f"Data that were there: {', '.join(f'`{root}`' for root in run.roots)}."
    if "data" in results:
        frames = {split: f"{facts['frames']:,}" for split, facts in results["data"].items()}
        data = (
            f"Rendered: {frames['training']} frames for training and {frames['evaluation']} for evaluation (the paper: "
            f"{TRAINING_FRAMES:,} and {EVALUATION_FRAMES:,}), with {CHARACTERS['training']} and "
            f"{CHARACTERS['evaluation']} characters and {len(TRAINING)} and {len(EVALUATION)} actions, as in the "
            f"paper; the splits share none. {time_of['data']} minutes."
        )
    trained = Table("network", ("images seen", "of the schedule", "minutes", "on held-out images"))
    for step, row in results.items():
        if "images" in row:
            share = f"{row['images'] / row['of']:.1%}" if row["images"] else "-"
            figures = ", ".join(f"{name} {value:.4g}" for name, value in row["figures"].items())
            trained.rows.append((step, f"{row['images']:,}", share, time_of[step], figures))
    bounded = "by the whole schedules" if config.minutes is None else f"within {config.minutes:g} minutes"
    parts = [
        f"# {'The paper by its own recipe' if paper else 'The lite family on renders'}",
        f"`hand_pose_3d reproduce --model {config.model}`, version {__version__}, {bounded}, on "
        f"{machine['gpu'] or machine['cpu']} with {machine['cores']} cores; {sum(seconds.values()) / 60:.0f} minutes.",
        "## Data",
        data,
        "## Training",
        trained.markdown(),
        "Curves: "
        + ", ".join(f"[{step}](runs/{step}/curves.png)" for step, row in results.items() if row.get("images")),
        _PAPER_NOTES if paper else _LITE_NOTES,
        "## Evaluation",
        f"{measured['hands']} held-out hands, by the paper's protocols, beside what it and its code's README publish.",
        *(Table(t["title"], tuple(t["columns"]), t["rows"]).markdown() for t in measured["tables"]),
        "![PCK curves, and published AUCs](pck.png)",
    ]
    if paper:
        rows = {step.partition("/")[2]: row["figures"] for step, row in results.items() if "/" in step}
        parts += ["## Lifting approaches", "From maps of the true keypoints, as in the paper's Table 2."]
        parts += [liftings(rows).markdown()]
    if scores := results.get("scores"):
        parts += [
            "## Scores of hands",
            f"Calibrated on {scores['predictions']:.0f} predictions on held-out frames, {scores['right']:.0%} of them "
            f"right; expected calibration error {scores['hand_calibration_error']:.3f} on the half not fitted.",
        ]
    parts += [
        "## Weights",
        f"`weights/` holds the three networks, for `--weights` of every command, `HandPoseEstimator(model="
        f'"{config.model}", weights=...)` and the node\'s parameters `model` and `weights`:',
        f"```console\nhand_pose_3d predict photo.jpg --model {config.model} --weights weights --overlay out\n```",
    ]
    return "\n\n".join(parts) + "\n"


_PAPER_NOTES = (
    "Recipe: section 5 of the paper and its code. Differences: HandSegNet and PoseNet start from random weights (He et "
    "al., ICCV 2015), where the authors' start from those of Convolutional Pose Machines; keypoint 0 is the wrist and "
    "the unit the index finger's first bone. A schedule that time shortens has the steps of its learning rate at the "
    f"same shares, and the rate raised by as much as it is shortened, to at most {LARGEST_RATE:g}."
)

_LITE_NOTES = "The networks go on from the shipped weights, which photographs had a part in."
