"""Examples in docstrings give what they show."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["skeleton", "geometry", "camera", "training.loop"])
def test_examples_hold(module):
    result = doctest.testmod(importlib.import_module(f"hand_pose_3d.{module}"))
    assert result.attempted and not result.failed
