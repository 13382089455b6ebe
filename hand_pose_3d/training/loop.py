"""The one training loop: resumable, distributed, averaged weights, curves as a picture."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from hand_pose_3d import interrupts
from hand_pose_3d.device import memory_in_words
from hand_pose_3d.errors import HandPoseError, InvalidInputError, OutOfMemoryError, one_line
from hand_pose_3d.outputs import replacing
from hand_pose_3d.training.processes import average_gradients, largest, process_group

T = TypeVar("T")


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the loop. Counts are of training images over all processes."""

    images: int  # length of the whole schedule
    seconds: float = math.inf  # longest training time of all runs together, to which the schedule is shortened
    largest_rate: float = 0.0  # limit of the learning rate, raised by as much as time shortens the schedule
    batch: int = 32  # images a step and process
    learning_rate: float = 1e-3
    warm_up: int = 3_000  # images of linear warm-up
    decay: float = 0.3  # last share of the schedule, over which the rate falls linearly to 2 %
    steps: tuple[
        tuple[float, float], ...
    ] = ()  # instead of the decay: shares of the schedule, and the rate's factor from there on
    average: float = 0.998  # exponential moving average of the weights, a step
    clip: float = 5.0  # largest gradient norm
    weight_decay: float = 1e-3
    evaluate_every_s: float = 600.0
    save_every_s: float = 180.0
    precision: str = "float32"  # or bfloat16, float16 (a GPU's mixed precision)
    device: str = "cpu"
    workers: int | None = None  # processes that make batches; None: one a core with a GPU, none without
    seed: int = 0  # of batches and of what is random in the network, with the rank and the images seen before


class Mixture(Generic[T]):
    """Sources of training data, each drawn with its share.

    >>> mixture, rng = Mixture(["renders", "photographs"], [3.0, 1.0]), np.random.default_rng(0)
    >>> [mixture.draw(rng) for _ in range(5)].count("renders")
    4
    """

    def __init__(self, sources: Sequence[T], shares: Sequence[float] | None = None) -> None:
        """shares: of each source, in any unit; None for equal ones. Sources with a share of 0 are left out."""
        pairs = [(x, share) for x, share in zip(sources, shares or [1.0] * len(sources)) if share > 0]
        self.sources = [x for x, _ in pairs]
        total = np.cumsum([share for _, share in pairs])
        self._bounds = total / total[-1] if pairs else total

    def __len__(self) -> int:
        return len(self.sources)

    def draw(self, rng: np.random.Generator) -> T:
        """A random source."""
        return self.sources[int(np.searchsorted(self._bounds, rng.random()))]


class Stage(ABC):
    """One network's training: batches, loss and evaluation."""

    defaults: ClassVar[dict[str, Any]]  # LoopConfig fields for this stage
    seed: ClassVar[int]  # of its batches, together with the process's rank and the images seen before
    network: nn.Module  # the network that is trained

    def parameter_groups(self, learning_rate: float) -> list[dict]:
        """Parameters that are trained with their rates, as an optimiser takes them."""
        return [{"params": [p for p in self.network.parameters() if p.requires_grad], "lr": learning_rate}]

    def batches(self, size: int, rank: int, start: int, seed: int = 0) -> Iterator[tuple]:
        """Endless batches of CPU tensors; `start` (images seen before) gives a resumed run other batches."""
        rng = np.random.default_rng([rank, start, self.seed, seed])
        while True:
            yield self.draw(rng, size)

    def prepare(self) -> None:  # noqa: B027 - most stages have nothing to do
        """Work on the network that comes before the first batch, once in each training process."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, size: int) -> tuple:
        """A batch of `size` random, augmented examples as CPU tensors."""

    @abstractmethod
    def loss(self, batch: tuple) -> tuple[torch.Tensor, dict[str, float]]:
        """Scalar loss of a batch on the device, and its terms to log."""

    @abstractmethod
    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Metrics on held-out data."""


_RATE_IS_KNOWN = 0.01
"""Share of the schedule after which the number of images within the time limit is extrapolated; set by hand."""


def progress_of(seen: int, seconds: float, config: LoopConfig) -> float:
    """Share of the schedule that is done, by images or by time, whichever is further; from 1 on training ends."""
    return max(seen / config.images, seconds / max(config.seconds, 1e-9))


def rate_factor(seen: int, config: LoopConfig, seconds: float = 0.0) -> float:
    """Share of the learning rate after `seen` images and `seconds` of training.

    Warm-up, plateau, linear decay to 2 %, or the given steps; over 1 where LoopConfig.largest_rate raises it.
    """
    progress = progress_of(seen, seconds, config)
    if config.steps:
        fall = next((factor for share, factor in reversed(config.steps) if progress >= share), 1.0)
    else:
        fall = min(1.0, max(0.02, (1 - progress) / max(config.decay, 1e-9)))
    rise = 1.0
    if seen and progress > _RATE_IS_KNOWN:
        rise = max(1.0, min(progress * config.images / seen, config.largest_rate / config.learning_rate))
    return min(1.0, (seen + 1) / max(config.warm_up, 1)) * fall * rise


class _Batches(IterableDataset):
    """A stage's batches for a DataLoader, each of whose workers draws others."""

    def __init__(self, stage: Stage, size: int, rank: int, start: int, seed: int) -> None:
        self.stage, self.size, self.rank, self.start, self.seed = stage, size, rank, start, seed

    def __iter__(self) -> Iterator[tuple]:
        worker = get_worker_info()
        rank = self.rank if worker is None else self.rank * worker.num_workers + worker.id
        return self.stage.batches(self.size, rank, self.start, self.seed)


class Progress(NamedTuple):
    """Progress of a run: images seen, seconds of training, and whether its schedule is finished."""

    images: int
    seconds: float
    finished: bool


def read_progress(out: Path) -> Progress:
    """The progress of the run in a folder; zero without a checkpoint. Raises InvalidInputError for a damaged one."""
    path = out / "checkpoint.pt"
    if not path.exists():
        return Progress(0, 0.0, False)
    state = _read_checkpoint(path, mmap=True)
    return Progress(int(state["seen"]), float(state.get("seconds", 0.0)), bool(state.get("finished", False)))


def _read_checkpoint(path: Path, mmap: bool = False) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        if not isinstance(state, dict) or "seen" not in state:
            raise ValueError("it holds something else")
    except Exception as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # torch reads before the start of a short file
            raise
        raise InvalidInputError(
            f"{path} is damaged or not a checkpoint: choose another --out, or delete it to begin anew"
        ) from error
    return state


def check_run(out: Path, network: nn.Module) -> None:
    """Raise InvalidInputError where a run in this folder could not resume, or would write over what is not its own."""
    path = out / "checkpoint.pt"
    if path.exists():
        state, kind = _read_checkpoint(path, mmap=True), type(network).__name__
        found, own = (
            {k: v.shape for k, v in each.items()} for each in (state.get("network", {}), network.state_dict())
        )
        if found != own or state.get("kind", kind) != kind:  # older ones do not name it
            raise InvalidInputError(f"{path} is of another network; choose another --out")
    else:
        for name in ("log.jsonl", "curves.png"):
            if (out / name).exists():
                raise InvalidInputError(f"{out / name} is not of a run that can be resumed: choose another --out")


class Trainer:
    """Trains a stage. Its whole state is in its folder, from which an interrupted run resumes.

    Writes out/checkpoint.pt (network, average, optimiser), out/log.jsonl and out/curves.png, and resumes from them.
    Under `torchrun` gradients are averaged over the processes.
    """

    def __init__(self, stage: Stage, config: LoopConfig, out: Path) -> None:
        """Raises InvalidInputError if `out` holds a run of another network, or another's files."""
        check_run(out, stage.network)
        self.stage, self.config, self.out = stage, config, out
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.device = torch.device(config.device)
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        self.network = stage.network.to(self.device)
        self.average = deepcopy(self.network).eval().requires_grad_(False)
        groups = [{**group, "peak": group["lr"]} for group in stage.parameter_groups(config.learning_rate)]
        self.optimiser = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        self.parameters = [p for group in groups for p in group["params"]]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "float16")
        self.images_seen, self.seconds = 0, 0.0
        self.recent: dict[str, float] = {}  # moving averages of the loss's terms
        self.checkpoint = out / "checkpoint.pt"
        out.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self._resume()

    def _resume(self) -> None:
        peaks = [group["peak"] for group in self.optimiser.param_groups]
        state = _read_checkpoint(self.checkpoint)
        try:
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            groups = [len(group["params"]) for group in state["optimiser"]["param_groups"]]
            same_groups = groups == [len(group["params"]) for group in self.optimiser.param_groups]
            if same_groups:
                self.optimiser.load_state_dict(state["optimiser"])
            self.scaler.load_state_dict(state.get("scaler") or self.scaler.state_dict())  # older ones do not hold it
            self.images_seen, self.seconds = int(state["seen"]), float(state.get("seconds", 0.0))
        except (KeyError, RuntimeError, ValueError) as error:
            raise InvalidInputError(f"{self.checkpoint} is of another network; choose another --out") from error
        if not same_groups:
            raise InvalidInputError(
                f"the run in {self.out} trained other parts of its network: resume it with the same "
                "--frozen-blocks and --trunk-rate, or choose another --out"
            )
        for group, peak in zip(self.optimiser.param_groups, peaks):  # a new --learning-rate applies to a resumed run
            group["peak"] = peak

    def run(self) -> dict[str, float]:
        """Train to the end of the schedule and return the last metrics.

        SIGTERM and Ctrl-C write a checkpoint and raise KeyboardInterrupt.
        """
        import matplotlib  # noqa: F401 - if it is missing, say so before the long work

        with process_group(torch.device(self.config.device)):
            return self._run()

    def _run(self) -> dict[str, float]:
        import torch.distributed as dist
        from tqdm import tqdm

        if self.world > 1:  # processes that started later end at the same time
            self.config = replace(self.config, seconds=largest([self.config.seconds], self.world)[0])
            for tensor in self.network.state_dict().values():
                dist.broadcast(tensor, 0)
        self.stage.prepare()  # not in the processes that make batches
        config = self.config
        rng = np.random.default_rng([config.seed, self.rank, self.images_seen])
        torch.manual_seed(int(rng.integers(2**63)))  # of drop-out, say
        name = type(self.stage).__name__
        bar = tqdm(total=config.images, initial=self.images_seen, unit="image", desc=name, disable=self.rank != 0)
        saved = evaluated = time.monotonic()
        begin = saved - self.seconds
        with bar, interrupts.noted() as stopped, self._kept():
            for batch in self._until(stopped):
                if self.images_seen and self.finished:
                    break
                self.step(batch)
                bar.update(config.batch * self.world)
                bar.set_postfix({k: f"{v:.3f}" for k, v in self.recent.items()}, refresh=False)
                if time.monotonic() - saved > config.save_every_s:
                    self.save()
                    saved = time.monotonic()
                if time.monotonic() - evaluated > config.evaluate_every_s:
                    self.save()
                    self.evaluate()
                    evaluated = time.monotonic()
                stop, self.seconds = largest([float(bool(stopped)), time.monotonic() - begin], self.world)
                if stop:
                    break
            self.save()
            stop = largest([float(bool(stopped))], self.world)[0]
            metrics = {} if stop else self.evaluate()
            if stop or stopped:
                if self.rank == 0:
                    done = f"{self.images_seen} of {config.images} images"
                    tqdm.write(f"interrupted after {done}; the same command resumes it", file=sys.stderr)
                raise KeyboardInterrupt
            return metrics

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Write a checkpoint where the GPU's memory does not suffice any more, and say so in words."""
        try:
            with memory_in_words("or lower --batch; the same command then resumes"):
                yield
        except OutOfMemoryError:
            if self.images_seen and self.world == 1:
                self.save()
            raise

    def _until(self, stopped: list[int]) -> Iterator[tuple]:
        """Batches, until a signal ends the processes that make them."""
        try:
            yield from self._batches()
        except RuntimeError:  # SIGTERM to all processes ends DataLoader's first
            if not stopped:
                raise

    @property
    def finished(self) -> bool:
        """Whether the schedule, or the time for it, is at its end."""
        return progress_of(self.images_seen, self.seconds, self.config) >= 1

    def _batches(self) -> Iterable[tuple]:
        from hand_pose_3d.evaluation.benchmark.machine import cores

        source = _Batches(self.stage, self.config.batch, self.rank, self.images_seen, self.config.seed)
        on_gpu, workers = self.device.type == "cuda", self.config.workers
        if workers is None:
            workers = max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1) if on_gpu else 0
        if workers == 0:
            return source
        # Forked, so that they share the packs and take nothing of the network.
        return DataLoader(
            source,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=8,
            pin_memory=on_gpu,
            multiprocessing_context="fork",
        )

    def step(self, batch: tuple) -> None:
        """One step of training on a batch of CPU tensors."""
        config = self.config
        self.network.train()
        factor = rate_factor(self.images_seen, config, self.seconds)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        batch = tuple(x.to(self.device, non_blocking=True) for x in batch)
        dtype = None if config.precision == "float32" else getattr(torch, config.precision)
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            loss, terms = self.stage.loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.world > 1:  # before the scaler looks for what is not finite, so that all processes see the same
            average_gradients(self.parameters, self.world)
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.parameters, config.clip)
        if self.scaler.is_enabled() or torch.isfinite(norm):
            self.scaler.step(self.optimiser)
        self.scaler.update()
        images = config.batch * self.world
        self.images_seen += images
        decay = min(config.average, self.images_seen / (self.images_seen + 10 * images))
        with torch.no_grad():
            for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values()):
                if mean.dtype.is_floating_point:
                    mean.lerp_(value.float(), 1 - decay)
                else:
                    mean.copy_(value)
        for key, value in terms.items():
            self.recent[key] = 0.98 * self.recent.get(key, value) + 0.02 * value

    def save(self) -> None:
        """Write the checkpoint, in the first process; atomically, so that an interruption leaves no partial file.

        Raises HandPoseError, and leaves the last one as it is, where weights are not finite any more.
        """
        if not all(value.isfinite().all() for value in self.network.state_dict().values()):
            raise HandPoseError(
                f"training has diverged after {self.images_seen} images: some weights are not finite. Choose a lower "
                "learning rate; an earlier checkpoint is as it was"
            )
        if self.rank == 0:
            state: dict[str, Any] = {"network": self.network.state_dict(), "average": self.average.state_dict()}
            state |= {"optimiser": self.optimiser.state_dict(), "scaler": self.scaler.state_dict()}
            state |= {
                "seen": self.images_seen,
                "seconds": self.seconds,
                "finished": self.finished,
                "kind": type(self.network).__name__,
            }
            try:
                with replacing(self.checkpoint) as stream:
                    torch.save(state, stream)
            except (OSError, RuntimeError) as error:  # torch's own where the disk is full
                raise HandPoseError(
                    f"cannot write {self.checkpoint}: {one_line(error)}. Is the disk full? An earlier checkpoint is as "
                    "it was"
                ) from error

    def evaluate(self) -> dict[str, float]:
        """Measure the averaged network, log it and draw the curves; only in the first process."""
        from tqdm import tqdm

        if self.rank != 0:
            return {}
        metrics = self.stage.evaluate(self.average)
        row = {**self.recent, **metrics}
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as log:
            numbers = {key: value if math.isfinite(value) else None for key, value in row.items()}  # JSON has no NaN
            log.write(json.dumps({"images": self.images_seen, **numbers}) + "\n")
        plot_curves(self.out)
        tqdm.write(f"{self.images_seen} images: " + ", ".join(f"{k} {v:.4g}" for k, v in row.items()))
        return metrics


def run(stage: Stage, config: LoopConfig, out: Path) -> dict[str, float]:
    """Train a stage as :class:`Trainer` does and return its last metrics."""
    return Trainer(stage, config, out).run()


def plot_curves(out: Path) -> None:
    """Draw every number of out/log.jsonl against images seen into out/curves.png."""
    from matplotlib.figure import Figure

    rows = []
    for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):  # cut off by a crash
            rows.append(json.loads(line))
    keys = sorted({key for row in rows for key in row} - {"images"})
    columns = min(3, len(keys))
    lines = -(-len(keys) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.6 * lines), layout="constrained")
    for index, key in enumerate(keys):
        axes = figure.add_subplot(lines, columns, index + 1)
        points = [(row["images"], row[key]) for row in rows if row.get(key) is not None]
        axes.plot(*(np.array(points).reshape(-1, 2).T), marker=".")
        axes.set_title(key.replace("_", " "), fontsize=9)
        axes.set_xlabel("images seen", fontsize=8)
        axes.ticklabel_format(axis="x", scilimits=(3, 3), useMathText=True)
        axes.grid(alpha=0.3)
    figure.savefig(out / "curves.png", dpi=80)
