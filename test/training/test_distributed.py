"""Two processes, as torchrun starts them, end with the same weights."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_two_processes_agree(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
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
    (_, start_0, end_0), (_, start_1, end_1) = (answer[answer.index("digests") :] for answer in answers)
    assert start_0 != start_1
    assert end_0 == end_1 != start_0
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1  # one of them reports
