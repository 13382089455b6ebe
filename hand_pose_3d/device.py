"""Images and networks on a torch device: an image is uploaded once, cut and resized there, and results come back in one
copy.

The same code runs on a CPU; CUDA graphs are added on a GPU. Only DeviceRunner waits for the device, once a call.
"""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import groupby

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from hand_pose_3d.camera import Crop
from hand_pose_3d.errors import OutOfMemoryError, one_line

_GRAPHS = 16
"""Number of input shapes that are kept as CUDA graphs, which bounds their memory; others run without a graph."""
_SEEN = 2
"""A shape is recorded as a graph at its second occurrence: one-off sizes are not worth it."""
_BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Numbers of images or crops of which there are graphs: others take the next larger one's."""
_RECORDING = threading.Lock()
"""A process can record one graph at a time."""
_NO_MEMORY = ("out of memory", "ALLOC_FAILED", "unable to find an engine", "NVML_SUCCESS ==")
"""What CUDA's libraries say where memory is missing, in errors that are none of torch.cuda.OutOfMemoryError. The last
one is torch's where it cannot ask NVML: on Jetson, and in a part of a GPU."""


def _is_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(words in str(error) for words in _NO_MEMORY)


@contextmanager
def memory_in_words(remedy: str = "lower max_hands or use device cpu") -> Iterator[None]:
    """Raise OutOfMemoryError, in words, where a GPU's memory does not suffice in the block."""
    try:
        yield
    except RuntimeError as error:
        if not _is_of_memory(error):
            raise
        torch.cuda.empty_cache()
        hint = ", or take precision float32, as it may lack this one" if "find an engine" in str(error) else ""
        text = f"the GPU has no memory left: end other programs on it, {remedy}{hint}"
        raise OutOfMemoryError(text) from error.with_traceback(None)


def _on_host(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Memory of the host from and to which copies need not be waited for."""
    return torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")


class DeviceImage:
    """An image (H, W, 3) uint8 RGB on a device. planes: (3, H, W) float32, 0..255."""

    def __init__(self, image: np.ndarray, device: torch.device) -> None:
        with torch.inference_mode(), memory_in_words():
            self.shape = image.shape
            host = _on_host(image.shape, torch.uint8, device)
            host.numpy()[...] = image
            there = host.to(device, non_blocking=True)
            self.planes = there.permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)

    def crops(self, windows: Sequence[Crop], border: float = 0.0) -> torch.Tensor:
        """Windows of one size as :meth:`Crop.extract` cuts them, but not rounded: (N, S, S, 3) float32, 0..255."""
        extent = np.array(self.shape[1::-1], dtype=float)
        size = windows[0].size
        # grid_sample's coordinates run from -1 to 1 across the pixels of crop and image.
        maps = [
            np.column_stack(
                [w.image_from_crop[:, :2] * size / extent[:, None], 2 * (np.array(w.center) + 0.5) / extent - 1]
            )
            for w in windows
        ]
        with torch.inference_mode(), memory_in_words():
            device = self.planes.device
            host = _on_host((len(windows), 2, 3), torch.float32, device)
            host.numpy()[...] = maps
            crops, theta = [], host.to(device, non_blocking=True)
            for finer, group in groupby(range(len(windows)), lambda i: windows[i].finer):
                own = list(group)
                # As F.affine_grid has it, which multiplies matrices, in TF32 where the process allows that.
                line = (torch.arange(finer * size, device=device) + 0.5) * (2 / (finer * size)) - 1
                x, y, middle = theta[own[0] : own[-1] + 1, None, None].unbind(-1)
                grid = line[:, None] * x + line[:, None, None] * y + middle
                image = (self.planes - border if border else self.planes).expand(len(own), -1, -1, -1)
                crops.append(F.avg_pool2d(F.grid_sample(image, grid, align_corners=False), finer))
            found = torch.cat(crops).permute(0, 2, 3, 1)
            return found + border if border else found

    def canvas(
        self,
        origin: tuple[int, int],
        size: tuple[int, int],
        inner: tuple[int, int],
        finer: int,
        padded: tuple[int, int],
        padding: float,
    ) -> torch.Tensor:
        """A part of the image, resized as :func:`hand_pose_3d.pixels.canvas_of` does: (1, h, w, 3) float32, 0..255."""
        (x, y), (width, height) = origin, size
        with torch.inference_mode(), memory_in_words():
            part = self.planes[:, y : y + height, x : x + width]
            device = str(self.planes.device)
            rows, columns = (_weights(n, m, finer, device) for n, m in ((height, inner[1]), (width, inner[0])))
            canvas = self.planes.new_full((1, 3, padded[1], padded[0]), padding)
            canvas[0, :, : inner[1], : inner[0]] = rows @ part @ columns.T
            return canvas.permute(0, 2, 3, 1)


@lru_cache(maxsize=32)
def _weights(length: int, out: int, finer: int, device: str) -> torch.Tensor:
    """(out, length) resampling of one axis as OpenCV resamples it.

    finer > 1: linearly to `finer` times the pixels, then their means; else by area to fewer pixels, linearly to more.
    """
    if finer == 1 and out < length:
        step, pixel = length / out, np.arange(length)
        low = np.arange(out)[:, None] * step
        weights = np.clip(np.minimum(low + step, pixel + 1) - np.maximum(low, pixel), 0, None) / step
    else:
        at = np.clip((np.arange(finer * out) + 0.5) * length / (finer * out) - 0.5, 0, length - 1)
        weights = np.clip(1 - np.abs(at[:, None] - np.arange(length)), 0, None)
        weights = weights.reshape(out, finer, length).mean(1)
    return torch.from_numpy(weights.astype(np.float32)).to(device)


class DeviceRunner:
    """A network as a function of arrays or of tensors on its device; numpy arrays come back, all in one copy.

    Each input and output has one row an image or crop. On a GPU, repeated shapes run as CUDA graphs.
    """

    def __init__(self, module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        with memory_in_words():
            module = module.eval().requires_grad_(False).to(device=device, dtype=dtype)
            self._module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device, self._dtype, self._records = device, dtype, device.type == "cuda"
        self._shapes: dict[tuple, list[torch.Size]] = {}
        self._graphs: dict[tuple, _Graph] = {}
        self._seen: Counter[tuple] = Counter()

    def __call__(self, *arrays: np.ndarray | torch.Tensor) -> tuple[np.ndarray, ...]:
        """float32 arrays, one an output of the network. Raises OutOfMemoryError."""
        with torch.inference_mode(), memory_in_words():
            tensors = [a if isinstance(a, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(a)) for a in arrays]
            packed = self._run(tensors)
            host = _on_host(packed.shape, torch.float32, self.device)
            host.copy_(packed, non_blocking=True)
            if self.device.type == "cuda":
                torch.cuda.current_stream(self.device).synchronize()
        shapes = self._shapes[_rows_of(tensors)]
        ends = np.cumsum([shape.numel() for shape in shapes])[:-1]
        return tuple(part.reshape(-1, *shape) for part, shape in zip(np.split(host.numpy(), ends, 1), shapes))

    def _run(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        count = len(tensors[0])
        key = next((most for most in _BATCHES if most >= count), count), _rows_of(tensors)
        graph = self._graphs.get(key)
        if graph is None and self._records and len(self._graphs) < _GRAPHS:
            self._seen[key] += 1
            if self._seen[key] == _SEEN:
                graph = self._record(key, tensors)
        if graph is not None:
            return graph(tensors)
        return self.forward(*(tensor.to(self.device, non_blocking=True) for tensor in tensors))

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """All outputs side by side, (N, K) float32."""
        out = self._module(*tensors)
        out = out if isinstance(out, tuple) else (out,)
        self._shapes[_rows_of(tensors)] = [x.shape[1:] for x in out]
        return torch.cat([x.float().reshape(len(x), -1) for x in out], 1)

    def _record(self, key: tuple, tensors: Sequence[torch.Tensor]) -> _Graph | None:
        """A graph for inputs like these, as many as the key says; None where there is no memory for one."""
        try:
            with _RECORDING:
                self._graphs[key] = graph = _Graph(self, self.inputs(key[0], tensors))
        except RuntimeError as error:  # what is wrong with the network itself will be raised without a graph
            torch.cuda.empty_cache()
            if not _is_of_memory(error):
                warnings.warn(f"a network runs without a CUDA graph: {one_line(error)}", stacklevel=2)
            return None
        return graph

    def inputs(self, count: int, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Memory for so many rows of inputs like these, images in the network's arithmetic."""
        kinds = [self._dtype if tensor.dim() == 4 else tensor.dtype for tensor in tensors]
        return [
            torch.zeros((count, *tensor.shape[1:]), dtype=dtype, device=self.device)
            for tensor, dtype in zip(tensors, kinds)
        ]


def _rows_of(tensors: Sequence[torch.Tensor]) -> tuple[torch.Size, ...]:
    """The shapes of one row of each."""
    return tuple(tensor.shape[1:] for tensor in tensors)


@contextmanager
def _benchmarking() -> Iterator[None]:
    """Let cuDNN try its algorithms; torch.backends.cudnn.flags would set the precision, too."""
    cudnn = torch.backends.cudnn
    before, cudnn.benchmark = cudnn.benchmark, True
    try:
        yield
    finally:
        cudnn.benchmark = before


class _Graph:
    """A network's kernels for one shape of input, recorded once and started together.

    inputs: memory that it reads its inputs from; fewer rows leave the rest as it is.
    """

    def __init__(self, runner: DeviceRunner, inputs: list[torch.Tensor]) -> None:
        self._device, self._inputs = runner.device, inputs
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), _benchmarking():
            aside, stream = torch.cuda.Stream(), torch.cuda.current_stream()
            aside.wait_stream(stream)
            with torch.cuda.stream(aside):
                for _ in range(2):  # cuDNN chooses algorithms and fills caches, which must not be recorded
                    runner.forward(*inputs)
            stream.wait_stream(aside)
            # On a stream of this device: torch's own is of the one that recorded first. Another thread may run other
            # networks meanwhile.
            # The outer context restores the stream where recording fails.
            with (
                torch.cuda.stream(stream),
                torch.cuda.graph(self._graph, stream=aside, capture_error_mode="thread_local"),
            ):
                self._output = runner.forward(*inputs)

    def __call__(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        count = len(tensors[0])
        with torch.cuda.device(self._device):
            for own, tensor in zip(self._inputs, tensors):
                own[:count].copy_(tensor, non_blocking=True)
            self._graph.replay()
        return self._output[:count]
