"""The one training loop: resumable, distributed, averaged weights, curves as a picture."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from hand_pose_3d.errors import InvalidInputError


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


Evaluation = Callable[[nn.Module], "dict[str, float]"]
"""Measures a network on further data during training."""


class Stage(Protocol):
    """One network's training: batches, loss and evaluation."""

    defaults: dict[str, Any]  # LoopConfig fields that suit it

    @property
    def network(self) -> nn.Module:
        """What is trained."""

    def parameter_groups(self, learning_rate: float) -> list[dict]:
        """Parameters with their rates, as an optimiser takes them."""

    def batches(self, batch: int, rank: int, start: int) -> Iterator[tuple]:
        """Endless batches of CPU tensors; `start` (images seen before) makes a resumed run go on elsewhere."""

    def loss(self, batch: tuple) -> tuple[torch.Tensor, dict[str, float]]:
        """Scalar loss of a batch on the device, and figures to log."""

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Figures on held-out data."""


def rate_factor(seen: int, config: LoopConfig) -> float:
    """Share of the learning rate after `seen` images: warm-up, plateau, linear decay to 2 %; or the given steps."""
    progress = seen / config.images
    if config.steps:
        return next((factor for share, factor in reversed(config.steps) if progress >= share), 1.0)
    fall = min(1.0, max(0.02, (1 - progress) / max(config.decay, 1e-9)))
    return min(1.0, (seen + 1) / max(config.warm_up, 1)) * fall


def save_atomically(state: dict, path: Path) -> None:
    """Write a checkpoint so that a reader, or a power cut, never meets half of it."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def run(stage: Stage, config: LoopConfig, out: Path) -> dict[str, float]:
    """Train a stage and return its last figures.

    Writes out/checkpoint.pt (network, average, optimiser), out/log.jsonl and out/curves.png, and resumes from
    them. Under `torchrun` gradients are averaged over the processes. SIGTERM and Ctrl-C save before they end.
    """
    import torch.distributed as dist
    from tqdm import tqdm

    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    device = torch.device(config.device)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    out.mkdir(parents=True, exist_ok=True)
    network = stage.network.to(device)
    optimiser = torch.optim.AdamW(stage.parameter_groups(config.learning_rate), weight_decay=config.weight_decay)
    for group in optimiser.param_groups:
        group["peak"] = group["lr"]
    average = deepcopy(network).eval().requires_grad_(False)
    seen = 0
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        try:
            network.load_state_dict(state["network"])
            average.load_state_dict(state["average"])
            optimiser.load_state_dict(state["optimiser"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InvalidInputError(f"{checkpoint} is of another network; choose another --out") from error
        for group, fresh in zip(optimiser.param_groups, stage.parameter_groups(config.learning_rate)):
            group["peak"] = fresh["lr"]
        seen = int(state["seen"])
    if world > 1:
        for tensor in network.state_dict().values():
            dist.broadcast(tensor, 0)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
    dtype = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[config.precision]

    stop = False

    def ask_to_stop(*_: object) -> None:
        nonlocal stop
        stop = True

    handlers = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    bar = tqdm(total=config.images, initial=seen, unit="image", desc=type(stage).__name__, disable=rank != 0)
    figures: dict[str, float] = {}
    recent: dict[str, float] = {}
    saved = evaluated = time.monotonic()

    def save() -> None:
        if rank == 0:
            state = {"network": network.state_dict(), "average": average.state_dict()}
            save_atomically({**state, "optimiser": optimiser.state_dict(), "seen": seen}, checkpoint)

    def assess() -> dict[str, float]:
        result = stage.evaluate(average)
        with (out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({"images": seen, **recent, **result}) + "\n")
        plot_curves(out)
        tqdm.write(f"{seen} images: " + ", ".join(f"{k} {v:.4g}" for k, v in {**recent, **result}.items()))
        return result

    try:
        for batch in stage.batches(config.batch, rank, seen):
            if seen >= config.images:
                break
            network.train()
            factor = rate_factor(seen, config)
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * factor
            batch = tuple(x.to(device, non_blocking=True) for x in batch)
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                loss, terms = stage.loss(batch)
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.unscale_(optimiser)
            if world > 1:
                average_gradients(parameters, world)
            norm = nn.utils.clip_grad_norm_(parameters, config.clip)
            if scaler.is_enabled() or torch.isfinite(norm):
                scaler.step(optimiser)
            scaler.update()
            seen += config.batch * world
            decay = min(config.average, seen / (seen + 10 * config.batch * world))
            with torch.no_grad():
                for mean, value in zip(average.state_dict().values(), network.state_dict().values()):
                    if mean.dtype.is_floating_point:
                        mean.lerp_(value.float(), 1 - decay)
                    else:
                        mean.copy_(value)
            for key, value in terms.items():
                recent[key] = 0.98 * recent.get(key, value) + 0.02 * value
            bar.update(config.batch * world)
            bar.set_postfix({k: f"{v:.3f}" for k, v in recent.items()}, refresh=False)
            now = time.monotonic()
            if now - saved > config.save_every_s:
                save()
                saved = now
            if rank == 0 and now - evaluated > config.evaluate_every_s:
                figures = assess()
                evaluated = time.monotonic()
            if agree(stop, world):
                break
        save()
        if rank == 0:
            figures = assess()
    finally:
        bar.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if world > 1:
            dist.destroy_process_group()
    return figures


def average_gradients(parameters: list[nn.Parameter], world: int) -> None:
    """Replace every gradient by its mean over the processes, in one message."""
    import torch.distributed as dist

    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= world
    for p, piece in zip(parameters, flat.split([p.numel() for p in parameters])):
        p.grad = piece.view_as(p).clone()


def agree(stop: bool, world: int) -> bool:
    """Whether any process was asked to stop, known to all alike."""
    if world == 1:
        return stop
    import torch.distributed as dist

    flag = torch.tensor([float(stop)])
    if dist.get_backend() == "nccl":
        flag = flag.cuda()
    dist.all_reduce(flag)
    return bool(flag.item())


def plot_curves(out: Path) -> None:
    """Draw every figure of out/log.jsonl against images seen into out/curves.png."""
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
