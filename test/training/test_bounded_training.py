"""Training within a time, with other processes that make the batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hand_pose_3d.errors import HandPoseError
from hand_pose_3d.networks.lite import LiteLifting
from hand_pose_3d.training.lifting import LiftingSampler, LiftingStage
from hand_pose_3d.training.loop import LoopConfig, Trainer, rate_factor, read_progress, run


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
