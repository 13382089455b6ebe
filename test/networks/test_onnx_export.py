"""ONNX files give what PyTorch gives, for any number of hands."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from hand_pose_3d.cli.export import command
from hand_pose_3d.errors import InvalidInputError, WeightsError
from hand_pose_3d.networks import HandSegNet, onnx_export
from hand_pose_3d.networks.onnx_export import DEPLOYABLES, ExportError, export_family, export_onnx
from hand_pose_3d.weights import default_weights, load_weights, save_weights

onnx = pytest.importorskip("onnx")
import onnxruntime  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
SMALL = {"image": (3, 32, 64), "crop": (3, 32, 32)}


def small(deployable):
    """The same file at a reduced image size, to be quick."""
    return replace(deployable, inputs={name: SMALL.get(name, shape) for name, shape in deployable.inputs.items()})


def answers(path, **inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.numpy() for name, value in inputs.items()})


@pytest.mark.parametrize(
    "family, name",
    [*((family, name) for family in DEPLOYABLES for name in ("handsegnet", "posenet")), ("lite", "palmnet")],
)
def test_image_networks(tmp_path, family, name):
    torch.manual_seed(0)
    deployable = small(DEPLOYABLES[family][name])
    module = deployable.part(deployable.network().eval())
    path = tmp_path / "net.onnx"
    assert export_onnx(module, deployable, path, {"family": family}) <= 1e-4
    ((key, shape),) = deployable.inputs.items()
    x = torch.rand(4, *((3, 64, 96) if deployable.free_size else shape)) - 0.5
    with torch.inference_mode():
        expected = module(x)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for ours, theirs in zip(expected, answers(path, **{key: x}), strict=True):
        np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4)


@pytest.mark.parametrize("name", ["lifting", "pose-prior", "viewpoint"])
def test_lifting(tmp_path, name):
    torch.manual_seed(0)
    deployable = DEPLOYABLES["paper"][name]
    module = deployable.part(deployable.network().eval())
    path = tmp_path / "net.onnx"
    export_onnx(module, deployable, path, {})
    maps, side = torch.randn(5, 21, 32, 32), torch.eye(2)[[0, 1, 1, 0, 1]]
    with torch.inference_mode():
        expected = module(maps, side)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for ours, theirs in zip(expected, answers(path, maps=maps, hand_side=side), strict=True):
        np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4)


def test_command_writes_a_family_with_its_metadata(tmp_path, monkeypatch):
    rows = {name: small(DEPLOYABLES["lite"][name]) for name in ("posenet", "lifting")}
    monkeypatch.setitem(DEPLOYABLES, "lite", rows)
    metadata = {"family": "lite", "version": "7", "licence": "Apache-2.0"}
    for role in rows:
        network = DEPLOYABLES["lite"][role].network()
        save_weights(tmp_path / "in" / f"lite-{role}.safetensors", network, metadata)
    arguments = ["--format", "onnx", "--out", str(tmp_path / "out"), "--weights", str(tmp_path / "in")]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["lite-lifting.onnx", "lite-posenet.onnx"]
    model = onnx.load(str(tmp_path / "out" / "lite-lifting.onnx"))
    stored = {entry.key: entry.value for entry in model.metadata_props}
    assert stored["version"] == "7" and stored["network"] == "LiteLifting"
    assert [value.name for value in model.graph.output] == ["relative", "canonical", "rotation"]


def test_a_graph_that_differs_replaces_no_earlier_one(tmp_path, monkeypatch):
    deployable = small(DEPLOYABLES["lite"]["lifting"])
    module, path = deployable.part(deployable.network().eval()), tmp_path / "net.onnx"
    export_onnx(module, deployable, path, {})
    earlier = path.read_bytes()
    monkeypatch.setattr(onnx_export, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="more than -1.0"):
        export_onnx(module, deployable, path, {"version": "2"})
    assert path.read_bytes() == earlier


@pytest.fixture(scope="module", params=["float32", "float16"])
def shipped(request, tmp_path_factory):
    """What ships as the README and --help export it, in both precisions: the folder."""
    folder = tmp_path_factory.mktemp(request.param) / "onnx"
    arguments = ["--format", "onnx", "--out", str(folder), "--precision", request.param]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and result.output.count("equal to PyTorch") == len(DEPLOYABLES["lite"])
    return folder


def test_what_ships_is_exported(shipped):
    assert sorted(path.name for path in shipped.iterdir()) == [
        f"lite-{name}.onnx" for name in sorted(DEPLOYABLES["lite"])
    ]
    for path in shipped.iterdir():
        model = onnx.load(str(path))
        half = "float16" in str(shipped)
        stored = {i.data_type for i in model.graph.initializer if i.data_type != onnx.TensorProto.INT64}
        assert stored == {onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT}
        assert {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)} == {
            onnx.TensorProto.FLOAT
        }


def test_a_file_in_the_way_is_found_before_any_is_written(tmp_path):
    (tmp_path / "lite-lifting.onnx").write_bytes(b"mine")
    with pytest.raises(InvalidInputError, match="lite-lifting.onnx exists and is not an earlier result"):
        export_family("lite", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lite-lifting.onnx"]


@pytest.mark.parametrize("name", ["handsegnet", "palmnet"])
def test_sides_of_maps_are_not_named_as_those_of_the_image(shipped, name):
    graph = onnx.load(str(shipped / f"lite-{name}.onnx")).graph

    def sides(entries):
        return {d.dim_param for entry in entries for d in entry.type.tensor_type.shape.dim[2:] if d.dim_param}

    assert sides(graph.input) == {"height", "width"} and not sides(graph.input) & sides(graph.output)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_papers_networks_that_ship_are_exported(tmp_path, precision):
    options = ["--format", "onnx", "--out", str(tmp_path), "--model", "paper", "--precision", precision]
    result = CliRunner().invoke(command, options)
    assert result.exit_code == 0 and result.output.count("equal to PyTorch") == len(DEPLOYABLES["paper"])
    assert {path.name for path in tmp_path.iterdir()} == {f"paper-{name}.onnx" for name in DEPLOYABLES["paper"]}
    for path in tmp_path.iterdir():
        graph = onnx.load(str(path)).graph
        assert {node.op_type for node in graph.node} <= set(TENSORRT_OPERATORS.split())
        stored = {i.data_type for i in graph.initializer if i.data_type in _FLOATS}
        assert stored == {onnx.TensorProto.FLOAT16 if precision == "float16" else onnx.TensorProto.FLOAT}


def test_the_papers_networks_can_compute_in_half_precision():
    """On a CPU onnxruntime computes float16 files of them in float32, so that torch has to show it."""
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 0.5
    network = HandSegNet().eval()
    load_weights(network, default_weights("paper-handsegnet"))
    with torch.inference_mode():
        exact, half = network(image), network.half()(image.half()).float()
    assert (exact - half).abs().max() < 5e-2 * exact.abs().max()


# https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md; opsets 9 to 17 since TensorRT 8.6.
TENSORRT_OPERATORS = """
Add And Cast Clip Concat Constant ConstantOfShape Conv Cos Div Equal Exp Expand EyeLike Flatten Floor Gather Gemm
Greater Identity LayerNormalization LeakyRelu Log MatMul MaxPool Mul Neg PRelu Pad Pow Range ReduceL2 ReduceMax
ReduceMean ReduceSum Relu Reshape Resize Shape Sign Sin Slice Softmax Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze
Where
"""


def tensorrt_line(page):
    """Options of the documented trtexec line."""
    (line,) = re.findall(r"^ *trtexec ((?:.*\\\n)*.*)$", page, re.MULTILINE)
    return dict(option.lstrip("-").split("=") for option in line.replace("\\\n", " ").split())


@pytest.mark.parametrize("page", ["docs/python.md", "hand_pose_3d/cli/export.py"])
def test_the_line_for_tensorrt_fits_the_files(shipped, page):
    """As far as that can be known without TensorRT: operators and opset, dynamic shapes and static ones."""
    options = tensorrt_line((ROOT / page).read_text().replace("\\\\", "\\"))
    assert set(options) == {"onnx", "saveEngine", "minShapes", "optShapes", "maxShapes"}
    path = shipped.parent / options["onnx"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    model = onnx.load(str(path))
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 17
    assert {node.op_type for node in model.graph.node} <= set(TENSORRT_OPERATORS.split())
    (wanted,) = session.get_inputs()
    for name in ("minShapes", "optShapes", "maxShapes"):
        key, _, text = options[name].partition(":")
        shape = [int(edge) for edge in text.split("x")]
        assert key == wanted.name and shape[1:] == wanted.shape[1:] and wanted.shape[0] == "batch"
        maps, *_ = session.run(None, {key: np.zeros(shape, np.float32)})
        assert maps.shape[0] == shape[0]
        settings = onnxruntime.SessionOptions()
        settings.add_free_dimension_override_by_name("batch", shape[0])  # as an engine of this shape alone
        static = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        assert static.get_inputs()[0].shape == shape
        assert static.run(None, {key: np.zeros(shape, np.float32)})[0].shape == maps.shape


def test_all_that_ship_use_what_tensorrt_has(shipped):
    for path in shipped.iterdir():
        graph = onnx.load(str(path)).graph
        assert {node.op_type for node in graph.node} <= set(TENSORRT_OPERATORS.split())
        known = {tensor.name for tensor in graph.initializer}
        known |= {node.output[0] for node in graph.node if node.op_type in ("Constant", "Identity")}
        assert all(node.input[1] in known for node in graph.node if node.op_type == "Conv"), path  # none is computed


def test_command_without_weights_says_what_is_missing(tmp_path):
    result = CliRunner().invoke(command, ["--out", str(tmp_path), "--weights", str(tmp_path), "--model", "paper"])
    assert isinstance(result.exception, WeightsError)
    assert "paper-handsegnet.safetensors" in str(result.exception)


def test_a_folder_may_lack_the_second_posenet_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setitem(DEPLOYABLES, "lite", {name: small(each) for name, each in DEPLOYABLES["lite"].items()})
    metadata = {"family": "lite", "version": "0", "licence": "none"}
    for role in ("handsegnet", "posenet"):
        save_weights(tmp_path / "in" / f"lite-{role}.safetensors", DEPLOYABLES["lite"][role].network(), metadata)
    arguments = ["--out", str(tmp_path / "out"), "--weights", str(tmp_path / "in")]
    result = CliRunner().invoke(command, arguments)
    assert isinstance(result.exception, WeightsError) and "lite-lifting.safetensors" in str(result.exception)
    assert not (tmp_path / "out").exists()
    save_weights(tmp_path / "in" / "lite-lifting.safetensors", DEPLOYABLES["lite"]["lifting"].network(), metadata)
    assert CliRunner().invoke(command, arguments, catch_exceptions=False).exit_code == 0
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["lite-handsegnet.onnx", "lite-lifting.onnx", "lite-posenet.onnx"]


def test_an_answer_that_differs_is_not_accepted(tmp_path):
    class Drifting(nn.Module):
        calls = 0

        def forward(self, maps, hand_side):
            self.calls += 1
            return maps.mean((2, 3)) + self.calls * hand_side.sum(1, keepdim=True)

    with pytest.raises(ExportError, match="axis_angle differs"):
        export_onnx(Drifting(), onnx_export.DEPLOYABLES["paper"]["viewpoint"], tmp_path / "net.onnx", {})
