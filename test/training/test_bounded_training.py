"""Training within a time, with other processes that make the batches."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hand_pose_3d.errors import HandPoseError, InvalidInputError, OutOfMemoryError
from hand_pose_3d.networks.lite import LiteLifting
from hand_pose_3d.training.lifting import LiftingSampler, LiftingStage
from hand_pose_3d.training.loop import LoopConfig, Trainer, check_run, rate_factor, read_progress, run


def stage() -> LiftingStage:
    torch.manual_seed(0)
    sampler = LiftingSampler(np.random.default_rng(0).normal(0, 0.05, (8, 21, 3)), np.array([1, 2] * 4))
    return LiftingStage(LiteLifting(width=32, depth=1), [sampler], sampler)


def test_training_ends_with_its_time_and_a_resumed_run_knows(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run(stage(), LoopConfig(images=10**9, batch=8, seconds=0.2), tmp_path)
    images, seconds, finished = read_progress(tmp_path)
    assert 8 <= images < 10**9 and seconds >= 0.2 and finished
    run(stage(), LoopConfig(images=10**9, batch=8, seconds=0.2), tmp_path)
    assert read_progress(tmp_path) == (images, seconds, True)  # its time was over
    run(stage(), LoopConfig(images=images + 8, batch=8), tmp_path)
    assert read_progress(tmp_path).images == images + 8 and read_progress(tmp_path).seconds > seconds


def test_without_time_there_is_still_a_step(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run(stage(), LoopConfig(images=100, batch=8, seconds=0.0), tmp_path)
    assert read_progress(tmp_path)[::2] == (8, True)


def test_an_interrupted_run_is_not_finished(tmp_path: Path) -> None:
    assert read_progress(tmp_path) == (0, 0.0, False)
    trainer = Trainer(stage(), LoopConfig(images=100, batch=8), tmp_path)
    trainer.step(next(trainer.stage.batches(8, 0, 0)))
    trainer.save()
    assert read_progress(tmp_path) == (8, 0.0, False)


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    def weights(name: str, seed: int) -> torch.Tensor:
        built = stage()
        run(built, LoopConfig(images=32, batch=8, seed=seed), tmp_path / name)
        return torch.cat([value.flatten() for value in built.network.state_dict().values()])

    first, again, other = weights("a", 1), weights("b", 1), weights("c", 2)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_run_of_another_approach_is_not_resumed(tmp_path: Path) -> None:
    trainer = Trainer(stage(), LoopConfig(images=100, batch=8), tmp_path)
    trainer.step(next(trainer.stage.batches(8, 0, 0)))
    trainer.save()
    check_run(tmp_path, LiteLifting(width=32, depth=1))

    class Another(LiteLifting):
        """The same tensors, with another meaning."""

    with pytest.raises(InvalidInputError, match="of another network"):
        check_run(tmp_path, Another(width=32, depth=1))


def test_a_gpu_without_memory_leaves_a_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    trainer = Trainer(stage(), LoopConfig(images=100, batch=8), tmp_path)
    usual = trainer.step

    def step(batch: tuple) -> None:
        if trainer.images_seen >= 16:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        usual(batch)

    trainer.step = step  # type: ignore[method-assign]
    with pytest.raises(OutOfMemoryError, match="lower --batch"):
        trainer.run()
    assert read_progress(tmp_path).images == 16


def test_frozen_parameters_are_not_trained(tmp_path: Path) -> None:
    built = stage()
    frozen, *free = built.network.parameters()
    frozen.requires_grad_(False)
    (group,) = built.parameter_groups(1e-3)
    assert [id(p) for p in group["params"]] == [id(p) for p in free]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["step", "evaluate"])  # in the end, too
def test_a_signal_leaves_a_checkpoint_and_interrupts(number: int, moment: str, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib")
    trainer = Trainer(stage(), LoopConfig(images=16, batch=8), tmp_path)
    usual = getattr(trainer, moment)

    def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), number)
        return usual(*arguments)

    setattr(trainer, moment, interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    done = 8 if moment == "step" else 16
    assert f"interrupted after {done} of 16 images; the same command resumes it" in capsys.readouterr().err
    assert read_progress(tmp_path)[::2] == (done, done == 16)
    run(stage(), LoopConfig(images=16, batch=8), tmp_path)
    assert read_progress(tmp_path)[::2] == (16, True)


@pytest.mark.parametrize("name", ["log.jsonl", "curves.png"])
def test_what_is_not_of_a_run_stays_as_it_is(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(InvalidInputError, match=f"{name} is not of a run"):
        Trainer(stage(), LoopConfig(images=8, batch=8), tmp_path)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4cut off"])
def test_a_damaged_checkpoint_is_said(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(InvalidInputError, match="checkpoint.pt is damaged"):
        read_progress(tmp_path)


def test_a_checkpoint_that_is_cut_short_or_changed_is_said(tmp_path: Path) -> None:
    trainer = Trainer(stage(), LoopConfig(images=100, batch=8), tmp_path)
    trainer.save()
    path, rng = tmp_path / "checkpoint.pt", np.random.default_rng(0)
    whole = path.read_bytes()
    assert read_progress(tmp_path) == (0, 0.0, False)
    for length in np.linspace(1, len(whole) - 1, 200).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidInputError, match="checkpoint.pt is damaged"):
            read_progress(tmp_path)
    start = whole.index(b"data.pkl")
    for at in rng.integers(start, start + 3000, 300):
        path.write_bytes(whole[:at] + bytes([int(rng.integers(256))]) + whole[at + 1 :])
        with suppress(InvalidInputError):
            read_progress(tmp_path)


def test_a_signal_to_all_processes_leaves_a_checkpoint(tmp_path: Path) -> None:
    """As service managers and torchrun send it: the processes that make batches end first."""
    program = """
import os, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_bounded_training import LoopConfig, Trainer, stage
trainer = Trainer(stage(), LoopConfig(images=10**9, batch=8, workers=2), Path(sys.argv[1]))
step, draw = trainer.step, trainer.stage.draw
def slow(rng, size):
    time.sleep(0.5)
    return draw(rng, size)
def interrupted(batch):
    step(batch)
    if trainer.images_seen == 16:
        threading.Timer(0.1, os.killpg, (0, signal.SIGTERM)).start()  # while batches are waited for
trainer.step, trainer.stage.draw = interrupted, slow
trainer.run()
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, start_new_session=True)
    assert "KeyboardInterrupt" in done.stderr and "worker exited" not in done.stderr.splitlines()[-1]
    assert read_progress(tmp_path).images >= 16


def test_a_full_disk_leaves_the_last_checkpoint_and_no_other_file(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_bounded_training import LoopConfig, Trainer, stage
trainer = Trainer(stage(), LoopConfig(images=100, batch=8), Path(sys.argv[1]))
trainer.save()
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
trainer.images_seen = 8
trainer.save()
"""
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), here], capture_output=True, text=True, env=environment
    )
    assert f"HandPoseError: cannot write {tmp_path / 'checkpoint.pt'}: " in done.stderr and "disk full?" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert read_progress(tmp_path).images == 0


def test_the_log_is_json_and_survives_a_crash(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run(stage(), LoopConfig(images=8, batch=8), tmp_path)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"images": 8, "cut o\n')
    trainer = Trainer(stage(), LoopConfig(images=16, batch=8), tmp_path)
    trainer.recent = {"endless": float("nan")}
    trainer.evaluate()
    last = (tmp_path / "log.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["endless"] is None and "NaN" not in last


def test_weights_that_are_not_finite_are_said_and_replace_no_checkpoint(tmp_path: Path) -> None:
    trainer = Trainer(stage(), LoopConfig(images=100, batch=8), tmp_path)
    trainer.step(next(trainer.stage.batches(8, 0, 0)))
    trainer.save()
    next(trainer.network.parameters()).data[0] = torch.nan
    trainer.step(next(trainer.stage.batches(8, 0, 0)))
    with pytest.raises(HandPoseError, match="diverged after 16 images"):
        trainer.save()
    assert read_progress(tmp_path) == (8, 0.0, False)


def test_rates_follow_the_time_and_rise_as_it_shortens_the_schedule() -> None:
    paper: dict[str, Any] = {"images": 1000, "learning_rate": 1e-4, "warm_up": 0, "steps": ((0.5, 0.1),)}
    config = LoopConfig(**paper, seconds=100, largest_rate=3e-4)
    assert rate_factor(100, config, 10) == 1  # images and time go together
    assert rate_factor(100, config, 20) == pytest.approx(2)  # time for half of the images
    assert rate_factor(100, config, 49) == pytest.approx(3)  # the largest rate
    assert rate_factor(100, config, 50) == pytest.approx(0.3)  # the step comes by time
    assert rate_factor(600, config, 10) == pytest.approx(0.1)  # or by images
    assert rate_factor(100, LoopConfig(**paper, seconds=100), 20) == 1


def test_batches_come_from_other_processes_too(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    trainer = Trainer(stage(), LoopConfig(images=64, batch=8, workers=2), tmp_path)
    batches = iter(trainer._batches())
    first, second = next(batches), next(batches)
    assert [x.shape for x in first] == [x.shape for x in next(stage().batches(8, 0, 0))]
    assert not torch.equal(first[0], second[0])
    trainer.run()
    assert read_progress(tmp_path)[::2] == (64, True)
