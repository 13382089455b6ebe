"""Two processes, as torchrun starts them, end with the same weights and one report."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.training.processes import process_group

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import os, sys
from pathlib import Path
import numpy as np, torch
from hand_pose_3d.networks.lite import LiteLifting
from hand_pose_3d.training.lifting import LiftingSampler, LiftingStage
from hand_pose_3d.training.loop import LoopConfig, run
from hand_pose_3d.training.processes import process_group
from hand_pose_3d.weights import digest
rank = int(os.environ["RANK"])
torch.manual_seed(rank)  # each starts from other weights and sees other examples
rng = np.random.default_rng(0)
sampler = LiftingSampler(rng.normal(0, 0.05, (8, 21, 3)), np.array([1, 2] * 4))
stage = LiftingStage(LiteLifting(width=32, depth=1), [sampler], sampler)
start = digest(stage.network.state_dict())
with process_group(torch.device("cpu")):
    run(stage, LoopConfig(images=48, batch=8), Path(sys.argv[1]))
    timed = LoopConfig(images=10**9, batch=8, seconds=0.5 + rank, largest_rate=1.0)
    run(stage, timed, Path(sys.argv[1]) / "timed")  # neither ends before the other, and rates are the same
print("digests", start, digest(stage.network.state_dict()))
"""

REPRODUCTION = """
import os, sys, time
from pathlib import Path
from hand_pose_3d import reproduction
from hand_pose_3d.reproduction_config import ReproductionConfig
rank = int(os.environ["RANK"])
class Idle(reproduction._Reproduction):
    def _train(self, step, seconds):
        time.sleep(0.3 * rank)  # others leave the last barrier first
        return {"images": 0, "of": 1, "figures": {"renders_median_mm": 20.0, "renders_mean_mm": 20.0}}
    def _render(self, seconds):
        return {split: {"frames": 1, "actions": 1} for split in ("training", "evaluation")}
    def _calibrate(self, seconds):
        return {}
    def _evaluate(self, seconds):
        machine = {"gpu": None, "cpu": "a CPU", "cores": 1}
        return {"hands": 1, "figures": {}, "tables": [], "machine": machine}
    def report(self):
        time.sleep(1)  # while the other process is done
        super().report()
reproduction._Reproduction = Idle
said = []
path = reproduction.reproduce(ReproductionConfig(Path(sys.argv[1]) / "out", frames=64, device="cpu"), said.append)
print("digests", rank, bool(said), path.name)
"""


def in_two_processes(program: str, folder: Path) -> list[list[str]]:
    """What each of two processes prints after `digests`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    # Without the interpreter's end, in which threads of torch's groups have aborted once.
    command = [sys.executable, "-c", f"{program}\nsys.stdout.flush()\nos._exit(0)\n", str(folder)]
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    answers = [process.communicate(timeout=1200)[0].split() for process in processes]
    assert all(process.returncode == 0 for process in processes)
    return [answer[answer.index("digests") + 1 :] for answer in answers]


def test_two_processes_agree(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (start_0, end_0), (start_1, end_1) = in_two_processes(PROGRAM, tmp_path)
    assert start_0 != start_1
    assert end_0 == end_1 != start_0
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1  # one of them reports


def test_two_processes_leave_a_report(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert in_two_processes(REPRODUCTION, tmp_path) == [["0", "True", "REPORT.md"], ["1", "False", "REPORT.md"]]
    report = (tmp_path / "out" / "REPORT.md").read_text()
    assert "1 held-out hands" in report and "1 frames for training" in report


OVERFLOW = """
import os, sys
from pathlib import Path
import numpy as np, torch
from hand_pose_3d.networks.lite import LiteLifting
from hand_pose_3d.training.lifting import LiftingSampler, LiftingStage
from hand_pose_3d.training.loop import LoopConfig, Trainer
from hand_pose_3d.training.processes import process_group
from hand_pose_3d.weights import digest
rank = int(os.environ["RANK"])
torch.manual_seed(0)
sampler = LiftingSampler(np.random.default_rng(0).normal(0, 0.05, (8, 21, 3)), np.array([1, 2] * 4))
class Overflowing(LiftingStage):
    steps = 0
    def loss(self, batch):
        self.steps += 1
        loss, terms = super().loss(batch)
        return loss * (float("inf") if rank == 0 and self.steps == 2 else 1.0), terms
stage = Overflowing(LiteLifting(width=32, depth=1), [sampler], sampler)
with process_group(torch.device("cpu")):
    trainer = Trainer(stage, LoopConfig(images=100, batch=8, precision="float16"), Path(sys.argv[1]))
    batches = stage.batches(8, rank, 0)
    for _ in range(4):
        trainer.step(next(batches))
finite = all(value.isfinite().all() for value in stage.network.state_dict().values())
print("digests", finite, digest(stage.network.state_dict()), trainer.scaler.get_scale())
"""

APPROACHES = """
import os, sys
from pathlib import Path
import click
from hand_pose_3d.cli import train
from hand_pose_3d.training import loop, stages
class Stage:
    defaults = {"images": 1}
    def evaluate(self, network):
        return figures
    network = None
figures = {"renders_median_mm": 20.0, "renders_mean_mm": 21.0}
def run(stage, config, out):
    import torch
    from hand_pose_3d.training.processes import process_group
    with process_group(torch.device("cpu")) as rank:
        torch.distributed.barrier()
        out.mkdir(parents=True, exist_ok=True)
    return figures if rank == 0 else {}
stages.build_paper_stage = lambda *arguments, **names: Stage()
loop.run = run
arguments = ["lifting", "--model", "paper", "--data", ".", "--device", "cpu"]
arguments += ["--out", sys.argv[1] + "/run", "--approach", "all"]
train.command.main(arguments, standalone_mode=False)
print("digests", os.environ["RANK"])
"""


def test_an_overflow_of_one_process_is_one_of_all(tmp_path: Path) -> None:
    first, second = in_two_processes(OVERFLOW, tmp_path)
    assert first == second and first[0] == "True"


def test_all_approaches_are_trained_by_two_processes_and_one_writes_the_table(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert in_two_processes(APPROACHES, tmp_path) == [["0"], ["1"]]
    rows = json.loads((tmp_path / "run" / "approaches.json").read_text())
    assert set(rows) > {"proposed", "nearest-neighbour"} and rows["direct"] == {
        "renders_median_mm": 20.0,
        "renders_mean_mm": 21.0,
    }


def test_one_gpu_for_all_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidInputError, match="give device cuda, not cuda:1"), process_group(torch.device("cuda:1")):
        pass
