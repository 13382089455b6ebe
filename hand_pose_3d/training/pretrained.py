"""Starting points of the lite trunks: the Apache-2.0 networks inside the `mediapipe` wheel.

Only numbers are read, by the `tflite` schema package; nothing of MediaPipe runs. Get the wheel with
`pip download --no-deps mediapipe==0.10.21`. LitePalmNet is its palm detector as it is:
`python -m hand_pose_3d.training.pretrained WHEEL FOLDER` writes it as lite-palmnet.safetensors.
"""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hand_pose_3d import __version__
from hand_pose_3d.conventions import FINE_CROP_SIZE
from hand_pose_3d.errors import WeightsError, in_words
from hand_pose_3d.networks.backbones import HandTrunk, SceneTrunk
from hand_pose_3d.networks.lite import LiteFinePoseNet, LitePalmNet, LitePoseNet
from hand_pose_3d.skeleton import NUM_KEYPOINTS
from hand_pose_3d.weights import PALM_NET, save_weights

HAND_MODEL = "mediapipe/modules/hand_landmark/hand_landmark_full.tflite"
PALM_MODEL = "mediapipe/modules/palm_detection/palm_detection_full.tflite"


def _read(source: Path, member: str) -> bytes:
    try:
        if source.suffix == ".whl":
            with zipfile.ZipFile(source) as wheel:
                data = wheel.read(member)
        else:
            data = source.read_bytes()
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"cannot read {member} from {source}: {error}") from error
    if data[4:8] != b"TFL3":
        raise WeightsError(f"{source} is neither a mediapipe wheel (.whl) nor a network of one (.tflite)")
    return data


def _layers(data: bytes) -> list[tuple[str, list[np.ndarray]]]:
    """Operators with weights, in the order of the graph, with their arrays in TensorFlow's layout."""
    import tflite

    model = tflite.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    names = {value: key for key, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
    dtypes = {tflite.TensorType.FLOAT32: np.float32, tflite.TensorType.FLOAT16: np.float16}
    source: dict[int, int] = {}
    layers = []
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        name = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs = [int(i) for i in operator.InputsAsNumpy()]
        if name == "DEQUANTIZE":
            source[int(operator.OutputsAsNumpy()[0])] = inputs[0]
        elif name in ("CONV_2D", "DEPTHWISE_CONV_2D", "PRELU", "FULLY_CONNECTED"):
            arrays = []
            for i in inputs[1:]:
                tensor = graph.Tensors(source.get(i, i))
                buffer = model.Buffers(tensor.Buffer()).DataAsNumpy()
                values = np.frombuffer(buffer.tobytes(), dtypes[tensor.Type()])
                arrays.append(values.reshape(tensor.ShapeAsNumpy()).astype(np.float32))
            layers.append((name, arrays))
    return layers


def _fill(module: nn.Module, layers: list[tuple[str, list[np.ndarray]]]) -> None:
    """Copy layers into the module's convolutions and PReLUs, in order of definition, checking every shape."""
    targets = [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.PReLU))]
    if len(targets) > len(layers):
        raise WeightsError(f"the file holds {len(layers)} layers, {type(module).__name__} needs {len(targets)}")
    with torch.no_grad():
        for target, (name, arrays) in zip(targets, layers):
            if isinstance(target, nn.PReLU):
                target.weight.copy_(torch.from_numpy(arrays[0].reshape(-1)))
                continue
            # TensorFlow Lite keeps (out, h, w, in) for convolutions and (1, h, w, channels) for depthwise ones.
            weight = arrays[0].transpose(3, 0, 1, 2) if name == "DEPTHWISE_CONV_2D" else arrays[0].transpose(0, 3, 1, 2)
            if weight.shape != tuple(target.weight.shape):
                raise WeightsError(f"layer of shape {weight.shape} where {tuple(target.weight.shape)} is expected")
            target.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
            target.bias.copy_(torch.from_numpy(arrays[1]))  # type: ignore[union-attr]


def load_hand_trunk(trunk: HandTrunk, source: str | Path) -> dict[str, np.ndarray]:
    """Fill a HandTrunk from the hand landmark network in a mediapipe wheel or .tflite file.

    Returns what it computes of the pooled vector, biases last: 'presence' and 'handedness', (1, 1153) each, and
    'points', (42, 1153), in 0..1 over the crop.
    """
    layers = _layers(_read(Path(source), HAND_MODEL))
    _fill(trunk, layers)
    heads = [np.column_stack(arrays) for name, arrays in layers if name == "FULLY_CONNECTED"]
    handedness, presence = (head for head in heads if len(head) == 1)
    # x, y and z of each, in pixels of a crop as LiteFinePoseNet's.
    points = next(head for head in heads if len(head) == 3 * NUM_KEYPOINTS)
    points = points.reshape(NUM_KEYPOINTS, 3, -1)[:, :2].reshape(2 * NUM_KEYPOINTS, -1) / FINE_CROP_SIZE
    return {"presence": presence, "handedness": handedness, "points": points}


_PALM_HEADS = (2, 6, 36, 108)
"""Channels of the palm detector's scores and boxes at strides 8 and 16: two anchors a cell, then six."""


def load_scene_trunk(trunk: SceneTrunk, source: str | Path) -> dict[int, list[np.ndarray]]:
    """Fill a SceneTrunk from the palm detector in a mediapipe wheel or .tflite file.

    Returns weight and bias of what it computes of the features, by number of channels (_PALM_HEADS).
    """
    layers = _layers(_read(Path(source), PALM_MODEL))
    # The graph scores anchors at stride 16 before it climbs to stride 8.
    heads = {a[0].shape[0]: a for name, a in layers if name == "CONV_2D" and a[0].shape[0] in _PALM_HEADS}
    _fill(trunk, [(name, arrays) for name, arrays in layers if not any(arrays is head for head in heads.values())])
    return heads


def start_palm_net(network: LitePalmNet, source: str | Path) -> None:
    """Fill a LitePalmNet."""
    heads = load_scene_trunk(network.trunk, source)
    if len(heads) < len(_PALM_HEADS):
        raise WeightsError(f"{source} holds no scores and boxes of palms")
    for layer, channels in zip([*network.scores, *network.boxes], _PALM_HEADS):
        _fill(layer, [("CONV_2D", heads[channels])])


def start_pose_net(network: LitePoseNet, source: str | Path) -> None:
    """Fill trunk, side and presence of a LitePoseNet. Its side then means the person's own hand, unmirrored."""
    heads = load_hand_trunk(network.trunk, source)
    _fill_linear(network.side.direct, heads["handedness"])
    _fill_linear(network.presence, heads["presence"])


def start_fine_pose_net(network: LiteFinePoseNet, source: str | Path) -> None:
    """Fill trunk and points of a LiteFinePoseNet."""
    _fill_linear(network.points, load_hand_trunk(network.trunk, source)["points"])


def _fill_linear(layer: nn.Linear, values: np.ndarray) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(values[:, :-1]))
        layer.bias.copy_(torch.from_numpy(values[:, -1]))


def main() -> None:
    """Write LitePalmNet, whose score of hands `score_calibration` fits."""
    parser = argparse.ArgumentParser(prog="python -m hand_pose_3d.training.pretrained", description=main.__doc__)
    parser.add_argument("wheel", type=Path, help="mediapipe wheel, or its palm detector as a .tflite file")
    parser.add_argument("folder", type=Path, help="that lite-palmnet.safetensors is written to")
    args = parser.parse_args()
    network = LitePalmNet()
    metadata = {"family": "lite", "version": __version__, "licence": "Apache-2.0"}
    with in_words(parser.prog):
        start_palm_net(network, args.wheel)
        save_weights(args.folder / f"{PALM_NET}.safetensors", network, metadata, half=True)


if __name__ == "__main__":
    main()
