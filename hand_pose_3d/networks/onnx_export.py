"""Networks of both families as ONNX files, checked against PyTorch when they are written."""

from __future__ import annotations

import inspect
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hand_pose_3d.conventions import CROP_SIZE, FINE_CROP_SIZE
from hand_pose_3d.errors import HandPoseError
from hand_pose_3d.networks.backbones import for_onnxruntime
from hand_pose_3d.networks.hand_seg_net import HandSegNet
from hand_pose_3d.networks.lifting import Lifting
from hand_pose_3d.networks.lite import (
    FinePose,
    LiteFinePoseNet,
    LiteHandSegNet,
    LiteLifting,
    LitePalmNet,
    LitePose,
    LitePoseNet,
    SceneMaps,
)
from hand_pose_3d.networks.pose_net import PoseNet
from hand_pose_3d.networks.pose_prior import MAP_SIZE
from hand_pose_3d.onnx_runtime import load_onnxruntime, onnx_runner
from hand_pose_3d.outputs import check_target, replacing
from hand_pose_3d.skeleton import NUM_KEYPOINTS
from hand_pose_3d.weights import OPTIONAL, default_weights, load_weights

OPSET = 17  # the oldest with all operators in use, for old runtimes
PRODUCER = "hand_pose_3d"
_OURS = b".{,64}" + PRODUCER.encode()
TOLERANCE = 1e-4
"""Largest accepted difference between PyTorch and onnxruntime, relative to outputs above one."""
HALF_TOLERANCE = 2e-2
"""The same of float16 files, on noise; those of the shipped networks differ by up to 7e-3."""


class ExportError(HandPoseError):
    """An exported network's output differs from the original's."""


class _PoseOutputs(nn.Module):
    """A PoseNet's outputs without the score maps of its earlier stages, which only training needs."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, crop: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        output = self.net(crop)
        if isinstance(output, LitePose):
            return output.score_maps[-1], output.side_logit, output.presence_logit
        return (*output.score_maps, output.points) if isinstance(output, FinePose) else output[-1]


class _Maps(nn.Module):
    """LiteHandSegNet with all of its maps."""

    def __init__(self, net: LiteHandSegNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.net.maps(image))


@dataclass(frozen=True)
class Deployable:
    """One exported file: the network of a family, the part of it, and its inputs and outputs.

    inputs: name -> shape without the batch; outputs: names in order; free_size: whether the image's height and
    width may change from call to call.
    """

    role: str
    network: Callable[[], nn.Module]
    inputs: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    part: Callable[[Any], nn.Module] = lambda network: network
    free_size: bool = False


_LIFTING_INPUTS: dict[str, tuple[int, ...]] = {"maps": (NUM_KEYPOINTS, MAP_SIZE, MAP_SIZE), "hand_side": (2,)}

DEPLOYABLES: dict[str, dict[str, Deployable]] = {
    "lite": {
        "handsegnet": Deployable(
            "handsegnet", LiteHandSegNet, {"image": (3, 192, 256)}, SceneMaps._fields, _Maps, free_size=True
        ),
        "palmnet": Deployable(
            "palmnet", LitePalmNet, {"image": (3, 192, 256)}, ("cells_8", "cells_16"), free_size=True
        ),
        "posenet": Deployable(
            "posenet",
            LitePoseNet,
            {"crop": (3, CROP_SIZE, CROP_SIZE)},
            ("score_maps", "side_logit", "presence_logit"),
            _PoseOutputs,
        ),
        "fineposenet": Deployable(
            "fineposenet",
            LiteFinePoseNet,
            {"crop": (3, FINE_CROP_SIZE, FINE_CROP_SIZE)},
            ("score_maps", "points"),
            _PoseOutputs,
        ),
        "lifting": Deployable(
            "lifting",
            LiteLifting,
            {"maps": (NUM_KEYPOINTS, 40, 40), "hand_side": (2,)},
            ("relative", "canonical", "rotation"),
        ),
    },
    "paper": {
        "handsegnet": Deployable("handsegnet", HandSegNet, {"image": (3, 240, 320)}, ("scores",)),
        "posenet": Deployable("posenet", PoseNet, {"crop": (3, 256, 256)}, ("score_maps",), _PoseOutputs),
        "lifting": Deployable("lifting", Lifting, _LIFTING_INPUTS, ("relative", "canonical", "rotation")),
        "pose-prior": Deployable("lifting", Lifting, _LIFTING_INPUTS, ("canonical_left",), lambda net: net.pose_prior),
        "viewpoint": Deployable("lifting", Lifting, _LIFTING_INPUTS, ("axis_angle",), lambda net: net.viewpoint),
    },
}
"""Family -> file name -> content. Batches are dynamic; image sizes are fixed unless stated."""


def export_family(
    family: str, out: str | Path, weights: str | Path | None = None, *, half: bool = False
) -> list[tuple[Path, float]]:
    """Write every network of a family as <family>-<name>.onnx; returns (path, largest difference to PyTorch).

    weights: folder of <family>-<role>.safetensors, where OPTIONAL may be missing; None takes the shipped files. half:
    the graph computes in float16, between inputs and outputs that stay float32. Raises WeightsError, and writes
    nothing, for weights that are not there or do not fit, InvalidInputError for a file of the user's in the way,
    ExportError if onnxruntime's output differs.
    """
    loaded = []  # all of them, before anything is written
    for name, deployable in DEPLOYABLES[family].items():
        file = f"{family}-{deployable.role}"
        path = Path(weights) / f"{file}.safetensors" if weights else default_weights(file)
        if file in OPTIONAL and not path.exists():
            continue
        network = deployable.network().eval()
        loaded.append((name, deployable, network, load_weights(network, path)))
    paths = {name: check_target(Path(out) / f"{family}-{name}.onnx", _OURS) for name, *_ in loaded}
    return [
        (paths[name], export_onnx(deployable.part(network), deployable, paths[name], metadata, half))
        for name, deployable, network, metadata in loaded
    ]


def export_onnx(
    module: nn.Module, deployable: Deployable, path: Path, metadata: dict[str, str], half: bool = False
) -> float:
    """Write one module with a dynamic batch, and compare it with PyTorch; returns the largest difference."""
    import onnx

    module = module.eval()
    axes = {name: {0: "batch"} for name in (*deployable.inputs, *deployable.outputs)}
    if deployable.free_size:
        axes = {name: {0: "batch", 2: "height", 3: "width"} for name in deployable.inputs}
        axes |= {name: {0: "batch", 2: f"{name}_rows", 3: f"{name}_columns"} for name in deployable.outputs}
    exported = module if half else for_onnxruntime(module)  # whose sums lose digits in float16
    data = to_onnx(exported, _example(deployable, 2), list(deployable.inputs), list(deployable.outputs), axes)
    model = onnx.load_model_from_string(data)
    if half:
        load_onnxruntime()
        from onnxruntime.transformers.float16 import convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel

        model = convert_float_to_float16(model, keep_io_types=True)
        OnnxModel.graph_topological_sort(model.graph)  # the converter appends its casts at the end
    for key, value in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=value)
    model.producer_name = PRODUCER
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    difference = _compare(module, deployable, path, data, HALF_TOLERANCE if half else TOLERANCE)
    with replacing(check_target(path, _OURS)) as stream:
        stream.write(data)
    return difference


def to_onnx(
    module: nn.Module,
    examples: tuple[torch.Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str] | None,
    axes: Mapping[str, Mapping[int, str]],
) -> bytes:
    """A module as an ONNX model.

    examples: one tensor an input, to trace with; inputs, outputs: their names, None for any; axes: those that may
    vary, by name of input or output.
    """
    # The TorchScript exporter exists in every supported version of torch and supports every operator used here.
    legacy: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    buffer: Any = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            examples,
            buffer,
            input_names=list(inputs),
            output_names=None if outputs is None else list(outputs),
            dynamic_axes={name: dict(spec) for name, spec in axes.items()},
            opset_version=OPSET,
            **legacy,
        )
    return buffer.getvalue()


def _example(deployable: Deployable, batch: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(batch)
    examples = [torch.rand(batch, *shape, generator=generator) - 0.5 for shape in deployable.inputs.values()]
    if "hand_side" in deployable.inputs:
        examples[list(deployable.inputs).index("hand_side")] = torch.eye(2)[torch.arange(batch) % 2]
    return tuple(examples)


def _compare(module: nn.Module, deployable: Deployable, path: Path, data: bytes, tolerance: float) -> float:
    run = onnx_runner(data, 1)
    largest = 0.0
    for batch in (1, 3):
        inputs = _example(deployable, batch)
        with torch.inference_mode():
            output = module(*inputs)
        expected = output if isinstance(output, tuple) else (output,)
        results = run(*(value.numpy() for value in inputs))
        for name, ours, theirs in zip(deployable.outputs, expected, results, strict=True):
            difference = float(np.abs(ours.numpy() - theirs).max() / max(1.0, float(ours.abs().max())))
            if not difference <= tolerance:
                raise ExportError(f"{path}: {name} differs by {difference:.1e} from PyTorch, more than {tolerance}")
            largest = max(largest, difference)
    return largest
