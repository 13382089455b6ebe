"""The paper in one command: render, train HandSegNet, PoseNet and the lifting approaches, evaluate, report.

Everything lies in one folder, from which an interrupted run resumes: `data` (renders), `runs` (checkpoints and curves),
`weights`, `reproduction.json` (what is done, and how long it took), `REPORT.md` and `pck.png`.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hand_pose_3d.datasets.rhd import FOLDERS, SPLITS, annotation_path
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.evaluation.benchmark.machine import cores, describe_machine
from hand_pose_3d.outputs import replacing
from hand_pose_3d.reproduction_config import (
    CHARACTERS,
    EVALUATION_FRAMES,
    LARGEST_RATE,
    LEAST_EVALUATED,
    LEAST_HELD_OUT,
    SHARES,
    TRAINING_FRAMES,
    ReproductionConfig,
)

if TYPE_CHECKING:
    from hand_pose_3d.evaluation.report import Report
    from hand_pose_3d.training.loop import Stage

_CALIBRATION_FRAMES = 500
"""Most held-out frames on which the scores of the paper's networks are calibrated: enough to fit two numbers."""
_STATE = "reproduction.json"
_LITE_TRUNK_RATE = 0.15
"""Learning rate of HandSegNet's trunk over that of the rest, as the shipped weights were trained."""
_CHECKPOINT_BYTES = {"paper": 1_500_000_000, "lite": 200_000_000}  # of all stages together, rounded up
_LEAST_SECONDS_A_FRAME = 0.02  # one core never renders a frame in less: half of what docs/training.md reports
_PACKED_BYTES_PER_FRAME = {"paper": 0, "lite": 900_000}  # crops and scenes


def reproduce(config: ReproductionConfig, say: Callable[[str], None] = print) -> Path:
    """Run all steps that are not done yet, and return the report's path.

    say: prints one line. Under `torchrun` the training runs on all processes. Raises InvalidInputError if the folder
    holds something else, HandPoseError if the disk would run full, KeyboardInterrupt when training was interrupted.
    """
    import cv2
    import torch

    from hand_pose_3d.runtime import choose_device
    from hand_pose_3d.training.processes import process_group

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
    """One run, perhaps in several processes, of which the first writes the state and all read it."""

    def __init__(self, config: ReproductionConfig, device: str, rank: int, say: Callable[[str], None]) -> None:
        self.config, self.device, self.rank, self.say = config, device, rank, say
        self.roots = [*config.data] or [config.out / "data"]
        self.steps = [step for step in SHARES[config.model] if step != "data" or not config.data]
        self.settings = {
            "model": config.model,
            "minutes": config.minutes,
            "frames": config.frames,
            "data": [str(root.resolve()) for root in config.data],
            "assets": None if config.assets is None else str(config.assets.resolve()),
            "seed": config.seed,
        }
        if rank == 0:
            self._begin()
        self._agree()

    def _begin(self) -> None:
        from hand_pose_3d.rendering.dataset import check_disk

        config, path = self.config, self.config.out / _STATE
        if not path.exists():
            if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
                raise InvalidInputError(f"{config.out} holds something other than a reproduction; choose another --out")
            import matplotlib  # noqa: F401 - if it is missing, say so before the long work

            for number, root in enumerate(config.data):
                for split in ("training", *(("evaluation",) if number == 0 else ())):
                    annotation_path(root, split)

            config.out.mkdir(parents=True, exist_ok=True)
            frames = 0 if config.data else sum(self._frames())
            if config.minutes is not None:
                frames = min(frames, int(60 * config.minutes * cores() / _LEAST_SECONDS_A_FRAME) + 1)
            packed = frames * _PACKED_BYTES_PER_FRAME[config.model]
            check_disk(config.out, frames, packed + _CHECKPOINT_BYTES[config.model])
            for root in config.data:  # each for itself; packs that are there already are taken
                bare = [split for split in SPLITS if not (root / "packs" / f"crops_{split}").exists()]
                images = sum(1 for split in bare for _ in (root / split / FOLDERS[0]).glob("*.png"))
                check_disk(root, 0, images * _PACKED_BYTES_PER_FRAME[config.model])
            self.state: dict[str, Any] = {"settings": self.settings, "limits": {}, "seconds": {}, "results": {}}
            self._write()
        self._read()
        older = {"assets": self.settings["assets"], "seed": 0}  # which older runs do not name
        stored = older | self.state["settings"]
        if stored != self.settings:
            earlier = {k: v for k, v in stored.items() if v != self.settings.get(k)}
            raise InvalidInputError(f"{config.out} holds a reproduction with {earlier}; choose another --out")

    def _agree(self) -> None:
        """All processes read what the first has written, before it goes on and writes more."""
        _barrier()
        self._read()
        _barrier()

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
        """Run one step within its share of the remaining time."""
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
        self._agree()

    @contextmanager
    def _clock(self, step: str) -> Iterator[float]:
        """Yields the seconds that a step may still take, and records those that it took."""
        if self.config.minutes is not None and step not in self.state["limits"]:
            left = 60 * self.config.minutes - sum(self.state["seconds"].values())
            shares = {name: SHARES[self.config.model][name] for name in self.steps if name not in self.results}
            self.state["limits"][step] = max(left, 0) * shares[step] / sum(shares.values())
            self._write()
        from hand_pose_3d.training.loop import read_progress

        # A process that was killed has written nothing but checkpoints.
        trained = read_progress(self.config.out / "runs" / step).seconds
        before, begin = max(self.state["seconds"].get(step, 0.0), trained), time.monotonic()
        try:
            yield max(self.state["limits"].get(step, math.inf) - before, 0.0)
        finally:
            self.state["seconds"][step] = before + time.monotonic() - begin
            self._write()

    def _render(self, seconds: float) -> dict[str, Any]:
        from hand_pose_3d.rendering.actions import RANDOM
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
                self.config.seed,
                workers=min(cores(), -(-count // 64)),
                assets=self.config.assets,
                people=people,
                characters=CHARACTERS[split],
                time_limit_s=left,
            )
            statistics = render_dataset(options)
            named = set(statistics["action"]) - {RANDOM}  # which is none of the split's actions
            result[split] = {"frames": statistics["frames"], "actions": len(named)}
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
        torch.manual_seed(self.config.seed)
        stage = self._stage(step)
        if step == "lifting/nearest-neighbour":  # nothing to train
            return {"images": 0, "figures": stage.evaluate(stage.network)}
        on_gpu = self.device.startswith("cuda")
        if on_gpu:
            stage.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        paper, world = self.config.model == "paper", int(os.environ.get("WORLD_SIZE", "1"))
        rate = stage.defaults["learning_rate"]
        # Before Ampere there is no bfloat16.
        half = "bfloat16" if on_gpu and torch.cuda.get_device_capability()[0] >= 8 else "float16"
        if paper:  # as much as the batch of all processes is larger than the recipe's (Goyal et al., 2017)
            rate = max(rate, min(world * rate, LARGEST_RATE))
        loop = LoopConfig(
            **{**stage.defaults, "learning_rate": rate},
            seconds=read_progress(folder).seconds + max(seconds - (time.monotonic() - begin), 0.0),
            largest_rate=LARGEST_RATE if paper else 0.0,
            evaluate_every_s=min(600.0, max(60.0, seconds / 6)),
            precision=half if on_gpu else "float32",
            device=self.device,
            seed=self.config.seed,
        )
        metrics = run(stage, loop, folder)
        _barrier()  # the first process has written the checkpoint
        progress = read_progress(folder)
        name, _, approach = step.partition("/")
        if self.rank == 0 and approach in ("", "proposed"):
            held_out = self.roots[0] if not paper else None
            save_stage(name, folder, self.config.out / "weights", metrics, self.config.model, held_out)
        # As rate_factor raises it where time shortens the schedule.
        rise = max(1.0, min(loop.images / max(progress.images, 1), loop.largest_rate / rate))
        how = {"batch": loop.batch * world, "rate": rise * rate, "precision": loop.precision}
        return {"images": progress.images, "of": loop.images, **how, "figures": metrics}

    def _calibrate(self, seconds: float) -> dict[str, Any]:
        import numpy as np

        from hand_pose_3d.training.data import StoredScenes
        from hand_pose_3d.training.score_calibration import calibrate_files

        end = time.monotonic() + seconds
        held_out = StoredScenes(self.roots[0], "evaluation", most=_CALIBRATION_FRAMES)
        order = np.random.default_rng(0).permutation(len(held_out))
        scenes = (held_out[i] for n, i in enumerate(order) if n < LEAST_EVALUATED or time.monotonic() < end)
        try:
            return calibrate_files(self.config.out / "weights", scenes, device=self.device)
        except InvalidInputError as error:
            return {"why_not": str(error)}

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
            matching.run(estimator, evenly_spread(samples, 1))  # the first of all is slow
            middle = time.monotonic()
            matching.run(estimator, evenly_spread(samples, 2))
            now = time.monotonic()
            affordable = int((seconds - (now - begin)) / max((now - middle) / 2, 1e-6))
            samples = evenly_spread(samples, max(affordable, LEAST_EVALUATED))
        found = measure(samples)
        title = f"{self.config.model}: {len(samples)} held-out hands"
        plots.plot_pck(self.config.out / "pck.png", found.curves, title, name)
        tables = [asdict(table) for table in found.tables]
        return {"hands": len(samples), "figures": found.metrics, "tables": tables, "machine": describe_machine()}

    def report(self) -> None:
        """Write REPORT.md from the results of the steps."""
        from hand_pose_3d.reproduction_report import report_markdown

        text = report_markdown(self.config, self.roots, self.results, self.state["seconds"])
        with replacing(self.config.out / "REPORT.md") as stream:
            stream.write(text.encode())


def _barrier() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()
