"""Networks in 8 bits: half the processor time where the processor has dot products of bytes, less of it with AVX2."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from hand_pose_3d.images import CLIP, Video
from hand_pose_3d.windows import crop_from_pose

_EVERY, _VARIETY = 10, 0
"""Step between the frames of the clip that are used, and seed of their random variations."""
_OPERATORS = ["Conv", "Add", "Relu", "Clip"]
_CPUINFO = Path("/proc/cpuinfo")
_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "asimddp"}
"""Names in _CPUINFO of dot products of bytes: Intel since Ice Lake, AMD since Zen 4, ARM since Cortex-A75 and A55.
"""
_PRODUCTS = {"avx2"}
"""Names of products of bytes that are faster than those of floats, too, but whose sums of two overflow 16 bits."""


def _instructions() -> set[str]:
    """Words of _CPUINFO; none but on Linux."""
    return set(_CPUINFO.read_text(encoding="utf-8", errors="replace").split()) if _CPUINFO.is_file() else set()


def is_fast() -> bool:
    """Whether this processor multiplies bytes faster than floats, according to Linux."""
    return bool((_DOT_PRODUCTS | _PRODUCTS) & _instructions())


def sums_overflow() -> bool:
    """Whether this processor's sums of products of bytes overflow unless weights have 7 bits."""
    return not _DOT_PRODUCTS & _instructions()


def quantise(
    graph: bytes, inputs: Iterable[Sequence[np.ndarray]], prefixes: Sequence[str], seven_bits: bool = False
) -> bytes:
    """An ONNX model whose convolutions work on bytes.

    inputs: examples that give the range of each map; prefixes: of the names of layers to change; seven_bits: of the
    weights, for a processor whose :func:`sums_overflow`. Weights have a scale for each channel, maps one each.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quant_pre_process,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            arrays = next(self._left, None)
            return None if arrays is None else dict(zip(names, arrays))

    model = onnx.load_model_from_string(graph)
    names = [entry.name for entry in model.graph.input]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(model, source, skip_symbolic_shape=True)  # padding becomes a part of convolutions
        nodes = onnx.load(source, load_external_data=False).graph.node
        exact = [node.name for node in nodes if not node.name.startswith(tuple(prefixes))]
        quantize_static(
            str(source),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=seven_bits,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=_OPERATORS,
            nodes_to_exclude=exact,
        )
        return target.read_bytes()


def clip_crops(size: int, margin: float) -> Iterator[np.ndarray]:
    """Hands of the built-in clip as (1, size, size, 3) uint8 RGB, with varied window, light and side."""
    rng = np.random.default_rng(_VARIETY)
    labels = json.loads(CLIP.with_suffix(".json").read_text(encoding="utf-8"))["frames"]
    for frame, label in islice(zip(Video(CLIP), labels), 0, None, _EVERY):
        for hand in label["hands"]:
            crop = crop_from_pose(np.array(hand["keypoints_2d"]), size, margin * np.exp(rng.normal(0, 0.2)))
            pixels = replace(crop, angle=crop.angle + rng.normal(0, 0.5)).extract(frame)
            yield _relit(pixels[:, :: rng.choice([-1, 1])], rng)[None]


def _relit(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    contrast, brightness = np.exp(rng.normal(0, 0.4, 3)), rng.normal(0, 40)
    return np.clip((pixels - 128.0) * contrast + 128 + brightness, 0, 255).astype(np.uint8)
