"""ONNX files give what PyTorch gives, for any number of hands."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from hand_pose_3d.cli.export import command
from hand_pose_3d.errors import WeightsError
from hand_pose_3d.networks import onnx_export
from hand_pose_3d.networks.onnx_export import DEPLOYABLES, ExportError, export_onnx
from hand_pose_3d.weights import save_weights

onnx = pytest.importorskip("onnx")
import onnxruntime  # noqa: E402

SMALL = {"image": (3, 32, 64), "crop": (3, 32, 32)}


def small(deployable):
    """The same file at a reduced image size, to be quick."""
    return replace(deployable, inputs={name: SMALL.get(name, shape) for name, shape in deployable.inputs.items()})


def answers(path, **inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.numpy() for name, value in inputs.items()})


@pytest.mark.parametrize(
    "family, name", [(family, name) for family in DEPLOYABLES for name in ("handsegnet", "posenet")]
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


def test_what_ships_is_exported_as_the_readme_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, ["--format", "onnx", "--out", "onnx"], catch_exceptions=False)
    assert result.exit_code == 0 and result.output.count("equal to PyTorch") == 3
    files = sorted(path.name for path in (tmp_path / "onnx").iterdir())
    assert files == ["lite-handsegnet.onnx", "lite-lifting.onnx", "lite-posenet.onnx"]


def test_command_without_weights_says_what_is_missing(tmp_path):
    result = CliRunner().invoke(command, ["--out", str(tmp_path), "--weights", str(tmp_path), "--model", "paper"])
    assert isinstance(result.exception, WeightsError)
    assert "paper-handsegnet.safetensors" in str(result.exception)


def test_an_answer_that_differs_is_not_accepted(tmp_path):
    class Drifting(nn.Module):
        calls = 0

        def forward(self, maps, hand_side):
            self.calls += 1
            return maps.mean((2, 3)) + self.calls * hand_side.sum(1, keepdim=True)

    with pytest.raises(ExportError, match="axis_angle differs"):
        export_onnx(Drifting(), onnx_export.DEPLOYABLES["paper"]["viewpoint"], tmp_path / "net.onnx", {})
