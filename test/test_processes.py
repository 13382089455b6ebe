"""Estimators and processes: forks, pickles, and what is inherited."""

import copy
import os
import pickle
import signal
import sys
import time

import cv2
import numpy as np
import pytest
import torch

from hand_pose_3d import interrupts, runtime
from hand_pose_3d.errors import HandPoseError
from hand_pose_3d.runtime import GuardedRunner, Recipe, choose_device, is_forked

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def in_child(work, seconds=120):
    """Run `work` in a forked child; its exit status, or a failure if it hangs."""
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        status = 1
        try:
            work()
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a fork beside threads, which is the point
def test_networks_are_made_in_a_child_of_a_process_that_used_torch():
    torch.randn(400, 400) @ torch.randn(400, 400)
    torch.nn.Conv2d(128, 128, 3)  # large enough to be filled by several threads
    assert not is_forked()

    def work():
        assert is_forked()
        device = choose_device("cpu")
        assert torch.get_num_threads() == 1
        network = torch.nn.Conv2d(128, 128, 3).to(device)
        recipe = Recipe("Conv", lambda: network, [], [np.zeros((1, 128, 8, 8), np.float32)], [{0: "n"}])
        run = runtime.make_runner(recipe, device, "bfloat16")
        assert run.__class__ is GuardedRunner

    assert in_child(work) == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_opencvs_threads_are_limited_in_a_child_of_a_process_whose_threads_idle():
    large = np.zeros((1080, 1920, 3), np.uint8)
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        cv2.resize(large, (640, 480))
        time.sleep(0.5)

        def work():
            for _ in range(2):
                with runtime.opencv_threads(1):
                    assert cv2.getNumThreads() == 1
                    cv2.resize(large, (640, 480))
                assert cv2.getNumThreads() == 4

        assert in_child(work, seconds=20) == 0
    finally:
        cv2.setNumThreads(before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_was_made_in_the_parent_says_so_in_the_child():
    run = GuardedRunner(lambda *arrays: arrays)
    assert run(1, 2) == (1, 2)

    def work():
        with pytest.raises(HandPoseError, match="make one in the child"):
            run(1)

    assert in_child(work) == 0


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_pickle_says_why_there_is_none(copied):
    with pytest.raises(HandPoseError, match="loaded networks"):
        copied(GuardedRunner(len))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_ended_block_cleans_up(number, tmp_path):
    before = signal.signal(number, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        with pytest.raises(SystemExit) as ended, interrupts.ending():
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            finally:
                (tmp_path / "closed").touch()
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert ended.value.code == 128 + number and (tmp_path / "closed").exists()


def test_a_block_goes_on_without_a_terminal_where_that_is_asked_for():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with interrupts.ending():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGHUP, before)
