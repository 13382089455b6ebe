"""Devices and backends: how a network runs, apart from what it computes.

A CPU runs the lite family through ONNX Runtime, which measured fastest; everything else is PyTorch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hand_pose_3d.errors import DeviceError, InvalidInputError

if TYPE_CHECKING:
    import torch
    from torch import nn

Runner = Callable[..., "tuple[np.ndarray, ...]"]
"""numpy arrays in, numpy arrays out."""

PRECISIONS = ("auto", "float32", "float16", "bfloat16")
ONNX_OPSET = 18


def choose_device(name: str = "auto") -> torch.device:
    """The device for 'auto' (a GPU where there is one), 'cpu', 'cuda' or 'cuda:N'. Raises DeviceError."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise DeviceError(f"device {name!r} is not known; allowed are auto, cpu, cuda and cuda:N")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise DeviceError(
                f"device {name!r} was asked for, but this machine has no usable CUDA GPU; use auto or cpu"
            )
        if index and int(index) >= count:
            raise DeviceError(
                f"device {name!r} was asked for, but this machine has {count} CUDA GPU(s), 0 to {count - 1}"
            )
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The arithmetic for a precision's name: 'auto' is float16 on a GPU, else float32. Raises InvalidInputError."""
    import torch

    if name not in PRECISIONS:
        raise InvalidInputError(f"precision {name!r} is not one of {', '.join(PRECISIONS)}")
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name == "float16" and device.type == "cpu":
        raise InvalidInputError("precision 'float16' needs a GPU; on a CPU use auto, float32 or bfloat16")
    return getattr(torch, name)


def make_runner(
    module: nn.Module,
    examples: Sequence[np.ndarray],
    device: torch.device,
    dtype: torch.dtype,
    *,
    dynamic: Sequence[dict[int, str]],
) -> Runner:
    """Turn a module into a function of numpy arrays.

    examples: one array an input, for tracing; dynamic: for each input the axes that may vary, by name.
    """
    import torch

    module = module.eval().requires_grad_(False)
    if device.type == "cpu" and dtype == torch.float32:
        return _onnx_runner(module, examples, dynamic)
    module = module.to(device=device, dtype=dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        with torch.inference_mode():
            tensors = [torch.from_numpy(np.ascontiguousarray(a)).to(device, non_blocking=True) for a in arrays]
            out = module(*tensors)
            return tuple(x.cpu().numpy() for x in (out if isinstance(out, tuple) else (out,)))

    return run


def _onnx_runner(module: nn.Module, examples: Sequence[np.ndarray], dynamic: Sequence[dict[int, str]]) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(2, os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning workers would take the cores from the camera driver and the middleware.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = export_onnx(module, examples, dynamic)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]

    def run(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(session.run(None, dict(zip(names, arrays))))

    return run


def export_onnx(
    module: nn.Module, examples: Sequence[np.ndarray], dynamic: Sequence[dict[int, str]], path: Path | None = None
) -> bytes:
    """A module as an ONNX model, also written to `path` if given. Arguments as in :func:`make_runner`."""
    import io
    import warnings

    import torch

    names = [f"input_{i}" for i in range(len(examples))]
    axes = dict(zip(names, dynamic))
    buffer: Any = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        tensors = tuple(torch.from_numpy(e) for e in examples)
        torch.onnx.export(
            module, tensors, buffer, input_names=names, dynamic_axes=axes, opset_version=ONNX_OPSET, dynamo=False
        )
    if path is not None:
        path.write_bytes(buffer.getvalue())
    return buffer.getvalue()
