"""The one training loop: resumable, distributed, averaged weights, curves as a picture."""

from __future__ import annotations

import json
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from hand_pose_3d.errors import InvalidInputError

T = TypeVar("T")


@dataclass(frozen=True)
class LoopConfig:
    """What the loop needs besides a stage. Counts are of training images over all processes."""

    images: int  # length of the whole schedule
    batch: int = 32  # images a step and process
    learning_rate: float = 1e-3
    warm_up: int = 3_000  # images of linear warm-up
    decay: float = 0.3  # last share of the schedule, over which the rate falls linearly to 2 %
    steps: tuple[tuple[float, float], ...] = ()  # instead of that: shares of the schedule, and the factor from there on
    average: float = 0.998  # exponential moving average of the weights, a step
    clip: float = 5.0  # largest gradient norm
    weight_decay: float = 1e-3
    evaluate_every_s: float = 600.0
    save_every_s: float = 180.0
    precision: str = "float32"  # or bfloat16, float16 (a GPU's mixed precision)
    device: str = "cpu"


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
        """One of the sources."""
        return self.sources[int(np.searchsorted(self._bounds, rng.random()))]


class Stage(ABC):
    """One network's training: batches, loss and evaluation."""

    defaults: ClassVar[dict[str, Any]]  # LoopConfig fields that suit it
    seed: ClassVar[int]  # of its batches, beside the process's rank and the images seen before
    network: nn.Module  # what is trained

    def parameter_groups(self, learning_rate: float) -> list[dict]:
        """Parameters with their rates, as an optimiser takes them."""
        return [{"params": list(self.network.parameters()), "lr": learning_rate}]

    def batches(self, size: int, rank: int, start: int) -> Iterator[tuple]:
        """Endless batches of CPU tensors; `start` (images seen before) makes a resumed run go on elsewhere."""
        rng = np.random.default_rng([rank, start, self.seed])
        while True:
            yield self.draw(rng, size)

    @abstractmethod
    def draw(self, rng: np.random.Generator, size: int) -> tuple:
        """A batch of `size` random, augmented examples as CPU tensors."""

    @abstractmethod
    def loss(self, batch: tuple) -> tuple[torch.Tensor, dict[str, float]]:
        """Scalar loss of a batch on the device, and its terms to log."""

    @abstractmethod
    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Metrics on held-out data."""


def rate_factor(seen: int, config: LoopConfig) -> float:
    """Share of the learning rate after `seen` images: warm-up, plateau, linear decay to 2 %; or the given steps."""
    progress = seen / config.images
    if config.steps:
        return next((factor for share, factor in reversed(config.steps) if progress >= share), 1.0)
    fall = min(1.0, max(0.02, (1 - progress) / max(config.decay, 1e-9)))
    return min(1.0, (seen + 1) / max(config.warm_up, 1)) * fall


class Trainer:
    """Trains a stage; everything it knows is in its folder, so that a run goes on where another one stopped.

    Writes out/checkpoint.pt (network, average, optimiser), out/log.jsonl and out/curves.png, and resumes from them.
    Under `torchrun` gradients are averaged over the processes.
    """

    def __init__(self, stage: Stage, config: LoopConfig, out: Path) -> None:
        """Raises InvalidInputError if `out` holds a run of another network."""
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
        self.images_seen = 0
        self.recent: dict[str, float] = {}  # moving averages of the loss's terms
        self.checkpoint = out / "checkpoint.pt"
        out.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self._resume()

    def _resume(self) -> None:
        peaks = [group["peak"] for group in self.optimiser.param_groups]
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        try:
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.images_seen = int(state["seen"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InvalidInputError(f"{self.checkpoint} is of another network; choose another --out") from error
        for group, peak in zip(self.optimiser.param_groups, peaks):  # a new --learning-rate holds for an old run
            group["peak"] = peak

    def run(self) -> dict[str, float]:
        """Train to the end of the schedule, or until SIGTERM or Ctrl-C, and return the last metrics."""
        import torch.distributed as dist
        from tqdm import tqdm

        config = self.config
        metrics: dict[str, float] = {}
        if self.world > 1:
            if not dist.is_initialized():
                dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            for tensor in self.network.state_dict().values():
                dist.broadcast(tensor, 0)
        name = type(self.stage).__name__
        bar = tqdm(total=config.images, initial=self.images_seen, unit="image", desc=name, disable=self.rank != 0)
        saved = evaluated = time.monotonic()
        try:
            with bar, _stop_signals() as stopped:
                for batch in self.stage.batches(config.batch, self.rank, self.images_seen):
                    if self.images_seen >= config.images:
                        break
                    self.step(batch)
                    bar.update(config.batch * self.world)
                    bar.set_postfix({k: f"{v:.3f}" for k, v in self.recent.items()}, refresh=False)
                    if time.monotonic() - saved > config.save_every_s:
                        self.save()
                        saved = time.monotonic()
                    if time.monotonic() - evaluated > config.evaluate_every_s:
                        metrics = self.evaluate()
                        evaluated = time.monotonic()
                    if _any_process(bool(stopped), self.world):
                        break
                self.save()
                metrics = self.evaluate()
        finally:
            if self.world > 1:
                dist.destroy_process_group()
        return metrics

    def step(self, batch: tuple) -> None:
        """Learn from one batch of CPU tensors."""
        config = self.config
        self.network.train()
        factor = rate_factor(self.images_seen, config)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        batch = tuple(x.to(self.device, non_blocking=True) for x in batch)
        dtype = None if config.precision == "float32" else getattr(torch, config.precision)
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            loss, terms = self.stage.loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        if self.world > 1:
            average_gradients(self.parameters, self.world)
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
        """Write the checkpoint, in the first process; a reader, or a power cut, never meets half of it."""
        if self.rank == 0:
            state = {"network": self.network.state_dict(), "average": self.average.state_dict()}
            temporary = self.checkpoint.with_suffix(".tmp")
            torch.save({**state, "optimiser": self.optimiser.state_dict(), "seen": self.images_seen}, temporary)
            temporary.replace(self.checkpoint)

    def evaluate(self) -> dict[str, float]:
        """Measure the averaged network, log it and draw the curves; in the first process, others return nothing."""
        from tqdm import tqdm

        if self.rank != 0:
            return {}
        metrics = self.stage.evaluate(self.average)
        row = {**self.recent, **metrics}
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({"images": self.images_seen, **row}) + "\n")
        plot_curves(self.out)
        tqdm.write(f"{self.images_seen} images: " + ", ".join(f"{k} {v:.4g}" for k, v in row.items()))
        return metrics


def run(stage: Stage, config: LoopConfig, out: Path) -> dict[str, float]:
    """Train a stage as :class:`Trainer` does and return its last metrics."""
    return Trainer(stage, config, out).run()


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that SIGTERM and Ctrl-C append their number to, instead of ending the process."""
    received: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    handlers = {number: signal.signal(number, lambda n, _: received.append(n)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def average_gradients(parameters: list[nn.Parameter], world: int) -> None:
    """Replace every gradient by its mean over the processes, in one message."""
    import torch.distributed as dist

    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= world
    for p, piece in zip(parameters, flat.split([p.numel() for p in parameters])):
        p.grad = piece.view_as(p).clone()


def _any_process(stop: bool, world: int) -> bool:
    """Whether any process was asked to stop, the same in all."""
    if world == 1:
        return stop
    import torch.distributed as dist

    flag = torch.tensor([float(stop)])
    if dist.get_backend() == "nccl":
        flag = flag.cuda()
    dist.all_reduce(flag)
    return bool(flag.item())


def plot_curves(out: Path) -> None:
    """Draw every number of out/log.jsonl against images seen into out/curves.png."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    keys = sorted({key for row in rows for key in row} - {"images"})
    columns = min(3, len(keys))
    lines = -(-len(keys) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.6 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    for index, key in enumerate(keys):
        axes = figure.add_subplot(lines, columns, index + 1)
        points = [(row["images"], row[key]) for row in rows if key in row]
        axes.plot(*zip(*points), marker=".")
        axes.set_title(key, fontsize=9)
        axes.grid(alpha=0.3)
    figure.savefig(out / "curves.png", dpi=80)
