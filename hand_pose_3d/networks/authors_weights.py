"""The authors' published pickles, read without running anything in them, as state of our networks.

A file is one pickled dict of ``<scope>/<layer>/weights`` and ``.../biases`` to numpy arrays, in
TensorFlow's layouts (convolutions HWIO, fully connected layers [in, out], maps flattened H, W, C) and in
the paper's keypoint order. All of that ends here: what comes out is in PyTorch's layouts and the
package's keypoint order. Layer names are the same on both sides.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from torch import nn

from hand_pose_3d.errors import WeightsError
from hand_pose_3d.networks.hand_seg_net import HandSegNet
from hand_pose_3d.networks.lifting import BottleneckLifting, DirectLifting, Lifting, LocalLifting
from hand_pose_3d.networks.pose_net import PoseNet
from hand_pose_3d.pickles import load_arrays
from hand_pose_3d.skeleton import FROM_PAPER, NUM_KEYPOINTS
from hand_pose_3d.weights import Conventions

PUBLISHED_SHA256 = {
    "handsegnet-rhd.pickle": "852829a63e8e5e4742b40315e2fd20492be5edb856aa92878dac7cbdc76e39fa",
    "posenet-rhd-stb.pickle": "c60e3a7b34bbbc5a9c664d23b51a4baa1be8f921c006d956d63091116feecf57",
    "posenet-rhd-stb-slr-finetuned.pickle": "cbc40e768793cff7ab1dda4a300ca81aec3162f541444b5c6ad3574bb7d984fa",
    "posenet3d-rhd-stb.pickle": "b9df768534052696161cb337a8d71cd4ac5aed0fd6c9d17c1272ef7b3f7d9853",
    "posenet3d-rhd-stb-slr-finetuned.pickle": "749556a1b26be054836a1b2df6f3dfc8430f1ad124b901aabbba16c1d6b09c97",
    "lifting-proposed.pickle": "300f083cbc3d7064a7179a031d7f8096ffde3b6676cbc381658ccbc9eb494100",
    "lifting-direct.pickle": "8e05804a01edebcea46055937aaf2f0af843be622cba8b092d535589e0799245",
    "lifting-bottleneck.pickle": "61ae0d9d99eb5956aece6d196bf7fa7bea84addc61b4f04bd802e49b999f76fa",
    "lifting-local.pickle": "8eb4de049bea097ca076995db560f710c1be747f9ab07b4d8e7160468f3cf548",
    "lifting-local_w_xyz_loss.pickle": "ed8844d69bc74ed8e9b0acabaf123e13a29001920c32cdc1d8c554381bfe971e",
}
"""SHA-256 of the files that the authors published, by name."""

CONVENTIONS = Conventions(keypoint0="palm", reference_bone="middle")
"""Conventions of the output of the authors' PoseNet and lifting."""

_SCOPES = {"HandSegNet": "", "PoseNet2D": "", "PosePrior": "pose_prior.", "ViewpointNet": "viewpoint."}


def read_pickle(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of one published file by TensorFlow name. Raises WeightsError for anything but arrays of numbers."""
    path = Path(path)
    try:
        with path.open("rb") as stream:
            content = load_arrays(stream)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    except UnpicklingError as error:
        raise WeightsError(f"{path} is no pickle of the authors' weights, or is cut short: {error}") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise WeightsError(f"{path} is not a pickle of weights or is cut short ({type(error).__name__})") from error
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a dict of arrays by name")
    arrays = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            raise WeightsError(f"{path} is refused: entry {name!r} is not an array of floating-point numbers")
        if not np.all(np.isfinite(value)):
            raise WeightsError(f"{path} is refused: {name} holds values that are not finite")
        arrays[name.removesuffix(":0")] = value
    return arrays


def networks_in(arrays: dict[str, np.ndarray], lifting: str = "direct") -> dict[str, nn.Module]:
    """Our networks with the arrays of one file, by role: handsegnet, posenet, lifting or lifting-<approach>.

    arrays: from :func:`read_pickle`; lifting: 'direct' or 'local', which of the two a PosePrior without a
    ViewpointNet is (their tensors look the same). Raises WeightsError unless names, shapes and number of the
    tensors are exactly those of the networks.
    """
    scopes: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        scope, _, rest = name.partition("/")
        if scope not in _SCOPES:
            raise WeightsError(f"tensor {name} belongs to none of {', '.join(_SCOPES)}")
        scopes.setdefault(scope, {})[rest] = array

    found: dict[str, nn.Module] = {}
    if "HandSegNet" in scopes:
        found["handsegnet"] = _fill(HandSegNet(), scopes, "HandSegNet")
    if "PoseNet2D" in scopes:
        found["posenet"] = _fill(PoseNet(), scopes, "PoseNet2D")
    if "ViewpointNet" in scopes:
        found["lifting"] = _fill(Lifting(), scopes, "PosePrior", "ViewpointNet")
    elif "PosePrior" in scopes:
        if any(rest.startswith("fc_bottleneck/") for rest in scopes["PosePrior"]):
            found["lifting-bottleneck"] = _fill(BottleneckLifting(), scopes, "PosePrior")
        else:
            module = LocalLifting() if lifting == "local" else DirectLifting()
            found[f"lifting-{lifting}"] = _fill(module, scopes, "PosePrior")
    return found


def _fill(module: nn.Module, scopes: dict[str, dict[str, np.ndarray]], *names: str) -> nn.Module:
    state = module.state_dict()
    tensors = {}
    for scope in names:
        for rest, array in scopes.get(scope, {}).items():
            layer, _, kind = rest.partition("/")
            suffix = {"weights": "weight", "biases": "bias"}.get(kind, kind)
            key = f"{_SCOPES[scope]}{layer}.{suffix}"
            if key not in state:
                raise WeightsError(f"tensor {scope}/{rest} is not known in {type(module).__name__}")
            shape = _tensorflow_shape(tuple(state[key].shape))
            if array.shape != shape:
                raise WeightsError(f"tensor {scope}/{rest} has shape {array.shape}, not {shape}")
            tensors[key] = torch.from_numpy(np.ascontiguousarray(_convert(layer, array), dtype=np.float32))
    missing = sorted(state.keys() - tensors.keys())
    if missing:
        raise WeightsError(f"{len(missing)} tensors of {type(module).__name__} are missing, the first is {missing[0]}")
    module.load_state_dict(tensors, strict=True)
    return module.eval()


def _tensorflow_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 4:
        outputs, inputs, height, width = shape
        return height, width, inputs, outputs
    return shape[::-1]


# Layers whose output channels, or first input channels, are the keypoints.
_KEYPOINTS_OUT = ("conv5_2", "conv6_7", "conv7_7")
_KEYPOINTS_IN = ("conv6_1", "conv7_1", "conv_pose_0_1", "conv_vp_0_1")
_AFTER_FLATTEN = ("fc_rel0", "fc_vp0")
_MAP_EDGE = 4  # of the maps that the fully connected layers read, cells


def _convert(layer: str, array: np.ndarray) -> np.ndarray:
    """One TensorFlow array in PyTorch's layout and the package's keypoint order.

    conv5_2 and conv6_1 are also layers of HandSegNet; there conv5_2 has no 21 outputs and conv6_1 no more
    than 128 inputs, so that only keypoint channels are reordered.
    """
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    if layer in _KEYPOINTS_OUT and array.shape[0] == NUM_KEYPOINTS:
        array = array[FROM_PAPER]
    if array.ndim == 1:
        return array.reshape(-1, 3)[FROM_PAPER].reshape(-1) if layer == "fc_xyz" else array
    if layer in _KEYPOINTS_IN and array.shape[1] in (NUM_KEYPOINTS, NUM_KEYPOINTS + 128):
        order = np.concatenate([FROM_PAPER, np.arange(NUM_KEYPOINTS, array.shape[1])])
        array = array[:, order]
    if array.ndim == 4:
        return array
    if layer == "fc_xyz":
        array = array.reshape(len(array), -1, 3)[:, FROM_PAPER].reshape(len(array), -1)
    if layer in _AFTER_FLATTEN:
        maps, side = array[:-2], array[-2:]
        channels = len(maps) // _MAP_EDGE**2
        maps = maps.reshape(_MAP_EDGE, _MAP_EDGE, channels, -1).transpose(2, 0, 1, 3).reshape(len(maps), -1)
        array = np.concatenate([maps, side])
    return array.T
