"""Devices and backends on which networks run.

A CPU runs the lite family through ONNX Runtime, which measured fastest; everything else is PyTorch.
"""

from __future__ import annotations

import ctypes
import hashlib
import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from hand_pose_3d.cache import cached
from hand_pose_3d.errors import DeviceError, HandPoseError, InvalidInputError
from hand_pose_3d.onnx_runtime import onnx_runner
from hand_pose_3d.quantisation import is_fast, sums_overflow

if TYPE_CHECKING:
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
    """Whether this process was forked from one that had loaded this package or multiprocessing."""
    return _forked or type(multiprocessing.current_process()).__name__ == "ForkProcess"


class GuardedRunner:
    """A function that raises in a forked child or when pickled: threads, sessions and GPU contexts are lost there."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run, self._process = run, os.getpid()

    def __call__(self, *arrays: Any) -> Any:
        if os.getpid() != self._process:
            raise HandPoseError(
                "an estimator works in the process that made it, not in a forked child: make one in the child"
            )
        return self._run(*arrays)

    def __reduce__(self) -> NoReturn:
        refuse_copies()


def refuse_copies() -> NoReturn:
    """Raise HandPoseError for an estimator that somebody wants to copy."""
    raise HandPoseError(
        "an estimator cannot be pickled or copied, because it holds loaded networks: send its settings instead and "
        "make one in each process"
    )


PRECISIONS = ("auto", "float32", "float16", "bfloat16", "int8")


def choose_device(name: str = "auto") -> str:
    """The device for 'auto' (a GPU where there is one), 'cpu', 'cuda' or 'cuda:N'. Raises DeviceError."""
    kind, _, index = name.partition(":")
    if name not in ("auto", "cpu", "cuda") and not re.fullmatch("cuda:(0|[1-9][0-9]{0,3})", name):
        raise DeviceError(f"device {name!r} is not known; allowed are auto, cpu, cuda and cuda:N")
    if is_forked() or (kind != "cpu" and _may_have_gpu()):
        import torch

        if is_forked():
            # The parent's worker threads do not exist here: torch would wait for them forever.
            torch.set_num_threads(1)
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    else:
        count = 0
    if name == "auto":
        return "cuda" if count and not _cuda_is_the_parents() and _has_kernels(0) else "cpu"
    if kind == "cuda":
        if count == 0:
            raise DeviceError(
                f"device {name!r} was requested, but this machine has no usable CUDA GPU; use auto or cpu"
            )
        if index and int(index) >= count:
            raise DeviceError(
                f"device {name!r} was requested, but this machine has {count} CUDA GPU(s), 0 to {count - 1}"
            )
        if _cuda_is_the_parents():
            raise DeviceError(
                f"device {name!r} cannot be used in a forked child of a process that uses CUDA: start the child with "
                "multiprocessing's spawn, or use cpu"
            )
        if not _has_kernels(int(index or 0)):
            raise DeviceError(
                f"device {name!r} was requested, but this build of torch has no kernels for that GPU: install another "
                "(pytorch.org lists which builds are for which GPUs), or use cpu"
            )
    return name


def _has_kernels(index: int) -> bool:
    """Whether this torch was built for a GPU: its wheels leave old ones out."""
    import torch

    major, minor = torch.cuda.get_device_capability(index)
    built = [re.match(r"(sm|compute)_(\d+)", name) for name in torch.cuda.get_arch_list()]
    own, known = 10 * major + minor, [(found[1], int(found[2])) for found in built if found]  # none on ROCm
    return not known or any(n <= own and (kind == "compute" or n // 10 == major) for kind, n in known)


def _may_have_gpu() -> bool:
    """False if torch cannot have a GPU. Spares importing torch to ask, which takes seconds and 150 MB."""
    if "torch" in sys.modules:
        return True
    build = version("torch")
    if "+rocm" in build:
        return True
    if "+cpu" in build:
        return False
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _cuda_is_the_parents() -> bool:
    import torch

    return bool(getattr(torch.cuda, "_is_in_bad_fork", lambda: False)())


def choose_precision(name: str, device: str, int8: bool = True) -> str:
    """The arithmetic for a precision's name. Raises InvalidInputError.

    'auto' is float16 on a GPU; on a CPU int8 where that is fast, else float32. int8: whether the networks support it.
    """
    if name not in PRECISIONS:
        raise InvalidInputError(f"precision {name!r} is not one of {', '.join(PRECISIONS)}")
    if name == "auto":
        return "float16" if device != "cpu" else "int8" if int8 and is_fast() else "float32"
    if name == "float16" and device == "cpu":
        raise InvalidInputError("precision 'float16' needs a GPU; on a CPU use auto, float32, bfloat16 or int8")
    if name == "int8" and not (int8 and device == "cpu" and is_fast()):
        raise InvalidInputError(
            "precision 'int8' is for model lite on a CPU with AVX2, VNNI or ARM's dot product: use auto"
        )
    return name


def choose_backend(device: str, precision: str) -> str:
    """The backend for a device and precision: 'onnxruntime' or 'torch'."""
    return "onnxruntime" if device == "cpu" and precision in ("float32", "int8") else "torch"


@contextmanager
def opencv_threads(count: int) -> Iterator[None]:
    """Limit OpenCV's threads in this block: small images are not worth waking others, which then spin."""
    import cv2

    def limit(threads: int) -> None:
        # 1 would wait for others to end, which do not exist in a forked child; 0 means one, too.
        cv2.setNumThreads(0 if threads == 1 else threads)

    before = cv2.getNumThreads()
    if before != count:
        limit(count)
    try:
        yield
    finally:
        if before != count:
            limit(before)


@dataclass(frozen=True)
class Recipe:
    """How to build a network that runs as one graph.

    name: of its files in the cache; build: makes it, with its weights; files: those weights, which identify it in
    the cache; examples: one array an input, for tracing; dynamic: for each input the
    axes that may vary, by name; calibration: inputs that give the range of its maps, for 8 bits; robust: prefixes of
    the names of layers that may run in 8 bits; empty: it stays in float32.
    """

    name: str
    build: Callable[[], nn.Module]
    files: Sequence[Path]
    examples: Sequence[np.ndarray]
    dynamic: Sequence[dict[int, str]]
    calibration: Callable[[], Iterable[Sequence[np.ndarray]]] = tuple
    robust: Sequence[str] = ()


def make_runner(recipe: Recipe, device: str, precision: str, threads: int = 1) -> Runner:
    """Turn a network into a function of numpy arrays. threads: that it may use on a CPU."""
    if choose_backend(device, precision) == "onnxruntime":
        return GuardedRunner(onnx_runner(onnx_graph(recipe, precision), threads))
    import torch

    from hand_pose_3d.device import DeviceRunner

    module = recipe.build().eval().requires_grad_(False)
    return GuardedRunner(DeviceRunner(module, _torch_device(device), getattr(torch, precision)))


def make_upload(device: str, precision: str) -> Callable[[Any], Image]:
    """A function that moves an image to the device of the networks."""
    if choose_backend(device, precision) == "onnxruntime":
        return _keep
    from hand_pose_3d.device import DeviceImage

    return GuardedRunner(partial(DeviceImage, device=_torch_device(device)))


def _torch_device(name: str) -> Any:
    """The device, with the number that cuda means in this thread: another thread's may be another."""
    import torch

    device = torch.device(name)
    floats = device.type == "cuda" and device.index is None
    return torch.device("cuda", torch.cuda.current_device()) if floats else device


def _keep(image: np.ndarray) -> Image:
    return image


def onnx_graph(recipe: Recipe, precision: str = "float32") -> bytes:
    """A network as an ONNX model in float32 or int8, from the user's cache if it was built before.

    It is built again for other weights, another torch, onnx or onnxruntime, or another version or source text of the
    networks and of what they are calibrated on.
    """
    from hand_pose_3d import __version__
    from hand_pose_3d.weights import checked_sha256

    folder = Path(__file__).parent
    sources = [*(folder / "networks").glob("*.py"), *(folder / "data").glob("clip.*")]
    sources += [
        folder / name for name in ("quantisation.py", "conventions.py", "windows.py", "camera.py", "families.py")
    ]
    key = [__version__, *map(version, ("torch", "onnxruntime", "onnx")), recipe.dynamic, recipe.robust]
    key += [example.shape for example in recipe.examples]
    key += [checked_sha256(path) for path in recipe.files]
    key += [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(sources)]

    def make() -> bytes:
        import torch

        from hand_pose_3d.networks.backbones import for_onnxruntime
        from hand_pose_3d.networks.onnx_export import to_onnx

        names = [f"input_{i}" for i in range(len(recipe.examples))]
        tensors = tuple(torch.from_numpy(example) for example in recipe.examples)
        axes = dict(zip(names, recipe.dynamic))
        return to_onnx(for_onnxruntime(recipe.build().requires_grad_(False)), tensors, names, None, axes)

    def make_int8() -> bytes:
        from hand_pose_3d.quantisation import quantise

        whole = cached(f"{recipe.name}.onnx", repr(key), make)
        return quantise(whole, recipe.calibration(), recipe.robust, seven_bits)

    if precision == "int8" and recipe.robust:
        seven_bits = sums_overflow()
        return cached(f"{recipe.name}-int8.onnx", repr([*key, seven_bits]), make_int8)
    return cached(f"{recipe.name}.onnx", repr(key), make)
