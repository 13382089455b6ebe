"""ONNX Runtime as this package uses it."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType

import numpy as np


def load_onnxruntime() -> ModuleType:
    """The package onnxruntime, without its telemetry: 1.31 starts that on import and writes a device id."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def onnx_runner(graph: bytes, threads: int) -> Callable[..., tuple[np.ndarray, ...]]:
    """A model as a function of numpy arrays, on the CPU."""
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning workers would block cores that the camera driver and the middleware need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]

    def run(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(session.run(None, dict(zip(names, arrays))))

    return run
