"""Networks in 8 bits give about what they give in 32, and only where the processor is made for it."""

import json
from collections import Counter

import cv2
import numpy as np
import pytest

from hand_pose_3d import quantisation
from hand_pose_3d.conventions import CROP_SIZE, FINE_CROP_SIZE
from hand_pose_3d.families import load_family
from hand_pose_3d.images import CLIP, Video
from hand_pose_3d.runtime import opencv_threads
from hand_pose_3d.skeleton import Side
from hand_pose_3d.windows import crop_from_pose

needs_instructions = pytest.mark.skipif(not quantisation.is_fast(), reason="this processor multiplies bytes slowly")


@needs_instructions
@pytest.mark.parametrize("size", [CROP_SIZE, FINE_CROP_SIZE])
def test_the_shipped_networks_read_alike_in_8_bits(size):
    exact, rough = (load_family("lite", None, "cpu", precision, fine=True) for precision in ("float32", "int8"))
    labels = json.loads(CLIP.with_suffix(".json").read_text())["frames"]
    windows = []
    for number, frame in enumerate(Video(CLIP)):
        if number % 10 == 5:  # none of those that set the ranges
            uv = np.array(labels[number]["hands"][0]["keypoints_2d"])
            windows.append(crop_from_pose(uv, size, 1.3).extract(frame))
    crops, sides = np.stack(windows), [Side.UNKNOWN] * len(windows)
    pairs = list(zip(exact.read(crops, sides), rough.read(crops, sides)))
    apart = [160 * np.linalg.norm(a.uv - b.uv, axis=1).mean() for a, b in pairs]
    assert 0 < np.mean(apart) < 1.0 and max(apart) < 2.5  # pixels of 160
    assert np.mean([abs(a.presence - b.presence) for a, b in pairs]) < 0.02
    assert all((a.right > 0.5) == (b.right > 0.5) for a, b in pairs if abs(a.right - 0.5) > 0.3)
    assert np.mean([np.abs(a.canonical - b.canonical).mean() for a, b in pairs]) < 0.03


@pytest.mark.parametrize(
    ("flags", "fast", "overflow"),
    [
        ("sse4_2 avx2 fma", True, True),
        ("avx2 avx512f avx512_vnni", True, False),
        ("avx2 avx_vnni", True, False),
        ("fp asimd asimddp", True, False),
        ("sse4_2", False, True),
        (None, False, True),  # no Linux
    ],
)
def test_processors_are_known_by_their_instructions(flags, fast, overflow, tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    if flags is not None:
        path.write_text(f"model name : one\nflags : fpu {flags}\n")
    monkeypatch.setattr(quantisation, "_CPUINFO", path)
    assert (quantisation.is_fast(), quantisation.sums_overflow()) == (fast, overflow)


def test_only_layers_that_are_named_are_changed():
    import torch
    from torch import nn

    onnx = pytest.importorskip("onnx")
    from hand_pose_3d.networks.onnx_export import to_onnx

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()
    inputs = [np.random.default_rng(i).random((1, 3, 16, 16), np.float32) for i in range(4)]
    graph = to_onnx(net, (torch.from_numpy(inputs[0]),), ["input_0"], ["out"], {"input_0": {0: "n"}})

    def count(prefixes):
        model = onnx.load_model_from_string(quantisation.quantise(graph, ((x,) for x in inputs), prefixes))
        weights = {entry.name for entry in model.graph.initializer if entry.data_type == onnx.TensorProto.INT8}
        return Counter(node.op_type for node in model.graph.node)["QuantizeLinear"], len(weights)

    (few, one), (many, two) = count(["/2/"]), count(["/0/", "/1/", "/2/"])
    assert 0 < few < many and one < two


def test_weights_of_seven_bits_cannot_overflow():
    import torch
    from torch import nn

    onnx = pytest.importorskip("onnx")
    from hand_pose_3d.networks.onnx_export import to_onnx

    torch.manual_seed(0)
    inputs = [np.random.default_rng(i).random((1, 3, 16, 16), np.float32) for i in range(4)]
    net = nn.Sequential(nn.Conv2d(3, 8, 3)).eval()
    graph = to_onnx(net, (torch.from_numpy(inputs[0]),), ["input_0"], ["out"], {"input_0": {0: "n"}})

    def largest(seven_bits):
        model = onnx.load_model_from_string(quantisation.quantise(graph, ((x,) for x in inputs), ["/"], seven_bits))
        weights = [
            onnx.numpy_helper.to_array(w) for w in model.graph.initializer if w.data_type == onnx.TensorProto.INT8
        ]
        return max(np.abs(w.astype(int)).max() for w in weights)

    assert largest(False) == 127 and 2 * 255 * largest(True) < 2**15


def test_layers_with_equal_weights_are_all_changed():
    """torch exports equal weights once."""
    import torch
    from torch import nn

    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from hand_pose_3d.networks.onnx_export import to_onnx

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3)).eval()
    net[2].load_state_dict(net[0].state_dict())
    inputs = [np.random.default_rng(i).random((1, 16, 16, 16), np.float32) for i in range(4)]
    graph = to_onnx(net, (torch.from_numpy(inputs[0]),), ["input_0"], ["out"], {"input_0": {0: "n"}})
    rough = quantisation.quantise(graph, ((x,) for x in inputs), ["/"])
    nodes = onnx.load_model_from_string(rough).graph.node
    bytes_of = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    layers = [node.input for node in nodes if node.op_type == "Conv"]
    assert len(layers) == 2 and all(set(layer) <= bytes_of for layer in layers)  # maps, weights and biases
    (exact,), (found,) = (onnxruntime.InferenceSession(g).run(None, {"input_0": inputs[0]}) for g in (graph, rough))
    assert 0 < np.abs(exact - found).max() < 0.02 * np.abs(exact).max()


def test_opencv_has_its_threads_again_afterwards():
    before = cv2.getNumThreads()
    with pytest.raises(ZeroDivisionError), opencv_threads(1):
        assert cv2.getNumThreads() == 1
        1 / 0  # noqa: B018
    assert cv2.getNumThreads() == before
