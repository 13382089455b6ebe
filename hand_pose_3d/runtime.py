"""Devices and backends: how a network runs, apart from what it computes.

A CPU runs the lite family through ONNX Runtime, which measured fastest; everything else is PyTorch.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from hand_pose_3d.cache import cached
from hand_pose_3d.errors import DeviceError, HandPoseError, InvalidInputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hand_pose_3d.pixels import Image

Runner = Callable[..., "tuple[np.ndarray, ...]"]
"""numpy arrays in, or tensors where the networks run; numpy arrays out."""

_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def is_forked() -> bool:
    """Whether this process was forked off one that had this package or multiprocessing loaded."""
    return _forked or type(multiprocessing.current_process()).__name__ == "ForkProcess"


class GuardedRunner:
    """A function that says where it works: neither threads nor sessions nor GPU contexts survive a fork or a pickle."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run, self._process = run, os.getpid()

    def __call__(self, *arrays: Any) -> Any:
        if os.getpid() != self._process:
            raise HandPoseError(
                "an estimator works in the process that made it, not in a forked child: make one in the child"
            )
        return self._run(*arrays)

    def __reduce__(self) -> NoReturn:
        raise HandPoseError(
            "an estimator cannot be pickled or copied, because it holds loaded networks: send its settings instead and "
            "make one in each process"
        )


PRECISIONS = ("auto", "float32", "float16", "bfloat16")


def choose_device(name: str = "auto") -> torch.device:
    """The device for 'auto' (a GPU where there is one), 'cpu', 'cuda' or 'cuda:N'. Raises DeviceError."""
    import torch

    if is_forked():
        # The parent's worker threads are not here: torch would wait for them for ever.
        torch.set_num_threads(1)
    if name == "auto":
        usable = torch.cuda.is_available() and not _cuda_is_the_parents()
        return torch.device("cuda" if usable else "cpu")
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
        if _cuda_is_the_parents():
            raise DeviceError(
                f"device {name!r} cannot be used in a forked child of a process that uses CUDA: start the child with "
                "multiprocessing's spawn, or use cpu"
            )
    return torch.device(name)


def _cuda_is_the_parents() -> bool:
    import torch

    return bool(getattr(torch.cuda, "_is_in_bad_fork", lambda: False)())


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


def choose_backend(device: torch.device, dtype: torch.dtype) -> str:
    """What runs networks on a device in a precision: 'onnxruntime' or 'torch'."""
    import torch

    return "onnxruntime" if device.type == "cpu" and dtype == torch.float32 else "torch"


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
    if choose_backend(device, dtype) == "onnxruntime":
        return GuardedRunner(_onnx_runner(module.eval().requires_grad_(False), examples, dynamic))
    from hand_pose_3d.device import DeviceRunner

    return GuardedRunner(DeviceRunner(module, device, dtype))


def make_upload(device: torch.device, dtype: torch.dtype) -> Callable[[Any], Image]:
    """What takes an image to where the networks of this device and precision run."""
    if choose_backend(device, dtype) == "onnxruntime":
        return _keep
    from hand_pose_3d.device import DeviceImage

    return GuardedRunner(partial(DeviceImage, device=device))


def _keep(image: np.ndarray) -> Image:
    return image


def _onnx_runner(module: nn.Module, examples: Sequence[np.ndarray], dynamic: Sequence[dict[int, str]]) -> Runner:
    from hand_pose_3d.networks.onnx_export import load_onnxruntime

    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(2, os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning workers would take the cores from the camera driver and the middleware.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        onnx_graph(module, examples, dynamic), options, providers=["CPUExecutionProvider"]
    )
    names = [i.name for i in session.get_inputs()]

    def run(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(session.run(None, dict(zip(names, arrays))))

    return run


def onnx_graph(module: nn.Module, examples: Sequence[np.ndarray], dynamic: Sequence[dict[int, str]]) -> bytes:
    """A module as an ONNX model, from the user's cache if it was made before. Arguments as in :func:`make_runner`.

    It is made again for other weights, another torch or another version or source text of the networks.
    """
    import torch

    from hand_pose_3d import __version__, conventions
    from hand_pose_3d.networks import onnx_export
    from hand_pose_3d.weights import digest

    names = [f"input_{i}" for i in range(len(examples))]
    sources = [Path(conventions.__file__), *sorted(Path(onnx_export.__file__).parent.glob("*.py"))]
    key = [__version__, torch.__version__, digest(module.state_dict()), dynamic, [e.shape for e in examples]]
    key += [hashlib.sha256(path.read_bytes()).hexdigest() for path in sources]

    def make() -> bytes:
        tensors = tuple(torch.from_numpy(e) for e in examples)
        return onnx_export.to_onnx(module, tensors, names, None, dict(zip(names, dynamic)))

    return cached(f"{type(module).__name__}.onnx", repr(key), make)
