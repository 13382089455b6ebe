"""Weights files: safetensors with a checksum, loaded strictly, and the table of shipped ones.

A file's metadata name the network's class, the family it belongs to, its version and licence, the
conventions of its output (:class:`Conventions`) and a SHA-256 over its tensors, so that a damaged file
is detected without a second file. Nothing is ever unpickled here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hand_pose_3d.errors import InvalidInputError, WeightsError
from hand_pose_3d.outputs import check_target, replacing
from hand_pose_3d.skeleton import AUTHORS_REFERENCE_BONE, INDEX_MCP, INDEX_PIP, REFERENCE_BONE, WRIST, wrist_from_palm

if TYPE_CHECKING:
    import torch
    from torch import nn

FOLDER = Path(__file__).parent / "weights"
REGISTRY = FOLDER / "registry.json"
"""Shipped files: name -> {"file", "sha256"}; the only place where they are listed."""

FINE_POSE_NET, PALM_NET = OPTIONAL = ("lite-fineposenet", "lite-palmnet")
"""Weights that a folder may lack."""

REQUIRED_METADATA = ("family", "version", "licence")
DIGEST = "sha256"
_OURS = rb'.{8}\{"__metadata__":\{.{,20000}?"network":'
"""Start of files that :func:`save_weights` writes."""

_LARGEST_HALF = 65504.0  # of float16


@dataclass(frozen=True)
class Conventions:
    """Meaning of a network's keypoint 0 and unit length; the package's own are wrist and index.

    keypoint0: 'wrist', or 'palm' for the centre between wrist and middle finger's base; reference_bone:
    'index' (the paper's text) or 'middle' (the authors' code), the first bone of that finger.
    """

    keypoint0: str = "wrist"
    reference_bone: str = "index"

    def __post_init__(self) -> None:
        if self.keypoint0 not in ("wrist", "palm"):
            raise WeightsError(f"the weights' keypoint0 is {self.keypoint0!r}; it must be 'wrist' or 'palm'")
        if self.reference_bone not in ("index", "middle"):
            raise WeightsError(
                f"the weights' reference_bone is {self.reference_bone!r}; it must be 'index' or 'middle'"
            )

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Conventions:
        """Read from a weights file's metadata; missing entries are the package's own."""
        return cls(metadata.get("keypoint0", "wrist"), metadata.get("reference_bone", "index"))

    @property
    def metadata(self) -> dict[str, str]:
        """The two entries for :func:`save_weights`."""
        return {"keypoint0": self.keypoint0, "reference_bone": self.reference_bone}

    @property
    def bone(self) -> tuple[int, int]:
        """Keypoints of the bone that has length one in the network's output."""
        return REFERENCE_BONE if self.reference_bone == "index" else AUTHORS_REFERENCE_BONE

    def keypoints_to_public(self, keypoints: np.ndarray) -> np.ndarray:
        """Pixels or metric points with the wrist as keypoint 0. keypoints: (..., 21, D); unit and scale stay."""
        return wrist_from_palm(keypoints) if self.keypoint0 == "palm" else np.asarray(keypoints)

    def pose_to_public(self, keypoints: np.ndarray) -> np.ndarray:
        """Relative or canonical keypoints with the wrist at zero and the index finger's first bone at length one.

        keypoints: (..., 21, 3) as the network gives them. The canonical frame's axes are the same for palm
        and wrist, because both lie on the line to the middle finger's base; a viewpoint needs no change.
        """
        if self == Conventions():
            return np.asarray(keypoints)
        out = self.keypoints_to_public(keypoints)
        out = out - out[..., WRIST : WRIST + 1, :]
        length = np.linalg.norm(out[..., INDEX_PIP, :] - out[..., INDEX_MCP, :], axis=-1)
        return out / np.maximum(length, 1e-6)[..., None, None]


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the names, types, shapes and values of tensors, independent of their order."""
    import torch

    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def check_weights_target(path: Path) -> None:
    """Raise WeightsError for a path where no weights can be written, or where another file of the user's lies."""
    try:
        check_target(path, _OURS)
    except InvalidInputError as error:
        raise WeightsError(str(error)) from error


def save_weights(path: str | Path, module: nn.Module, metadata: Mapping[str, str], *, half: bool = False) -> str:
    """Write a network's parameters and buffers as safetensors; returns the file's SHA-256.

    metadata: strings, with at least family, version and licence; the network's class and the checksum are
    added. half: store float32 as float16, to halve the file. Raises WeightsError for missing metadata,
    values that are not finite or too large for float16, or a path that cannot be written.
    """
    import torch
    from safetensors.torch import save

    path = Path(path)
    check_weights_target(path)
    missing = [key for key in REQUIRED_METADATA if not metadata.get(key)]
    if missing:
        raise WeightsError(f"weights {path.name} cannot be saved without metadata: {', '.join(missing)}")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"weights {path.name} cannot be saved: {name} holds values that are not finite")
        if half and tensor.dtype == torch.float32:
            if tensor.numel() and float(tensor.abs().max()) > _LARGEST_HALF:
                raise WeightsError(f"weights {path.name} cannot be saved as float16: {name} exceeds {_LARGEST_HALF}")
            tensors[name] = tensor.half()
    full = {**metadata, "network": type(module).__name__, DIGEST: digest(tensors)}
    try:
        with replacing(path) as stream:
            stream.write(save(tensors, {key: str(value) for key, value in full.items()}))
    except OSError as error:
        raise WeightsError(f"cannot write weights to {path}: {error.strerror or error}") from error
    return file_sha256(path)


def read_weights(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a weights file, checked against its checksum and, if shipped, the registry.

    Raises WeightsError if the file is missing, unreadable, not safetensors, cut short or changed.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    _check_there(path)
    try:
        with path.open("rb") as stream:
            if stream.read(40).startswith(b"version https://git-lfs"):
                raise WeightsError(f"{path} is a Git LFS pointer, not the weights themselves: run 'git lfs pull'")
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise WeightsError(f"cannot read weights {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise WeightsError(f"{path} is not a safetensors file or is cut short ({error})") from error
    if DIGEST not in metadata:
        raise WeightsError(f"{path} is not a weights file of hand_pose_3d: its metadata hold no checksum")
    if metadata[DIGEST] != digest(tensors):
        raise WeightsError(f"{path} is damaged: its tensors do not match the checksum in its metadata")
    checked_sha256(path)
    return tensors, metadata


def checked_sha256(path: str | Path) -> str:
    """SHA-256 of a weights file. Raises WeightsError if it is missing or, if shipped, not the one in the registry."""
    path = Path(path)
    _check_there(path)
    try:
        found = file_sha256(path)
    except OSError as error:
        raise WeightsError(f"cannot read weights {path}: {error.strerror or error}") from error
    expected = next((row["sha256"] for row in registry().values() if FOLDER / row["file"] == path), found)
    if found != expected:
        raise WeightsError(f"{path} is not the file that this version ships: its SHA-256 is not {expected}")
    return found


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise WeightsError(f"weights file {path} does not exist" + (": it is a folder" if path.is_dir() else ""))


def read_array(path: str | Path, name: str) -> np.ndarray:
    """One tensor of a weights file, without torch and unchecked. Raises WeightsError if it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return file.get_tensor(name)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} holds no {name} or is cut short ({error})") from error


def read_metadata(path: str | Path) -> dict[str, str]:
    """Metadata of a weights file that was checked before; without torch."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return dict(file.metadata() or {})


def load_weights(module: nn.Module, path: str | Path) -> dict[str, str]:
    """Fill a network from a file, every tensor or none; returns the file's metadata.

    float16 tensors become the module's type. Raises WeightsError as :func:`read_weights` does, and if the
    file is of another network or a tensor is missing, not known or of another shape.
    """
    tensors, metadata = read_weights(path)
    network = type(module).__name__
    if metadata.get("network") != network:
        raise WeightsError(f"{path} holds weights of {metadata.get('network', 'an unnamed network')}, not of {network}")
    wanted = module.state_dict()
    missing, unknown = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or unknown:
        problem = f"{_few(missing)} is missing" if missing else f"{_few(unknown)} is not known"
        raise WeightsError(f"{path} does not fit {network}: {problem}")
    for name, tensor in tensors.items():
        shape, expected = tuple(tensor.shape), tuple(wanted[name].shape)
        if shape != expected:
            raise WeightsError(f"{path} does not fit {network}: {name} has shape {shape}, not {expected}")
    module.load_state_dict(tensors, strict=True)
    return metadata


def _few(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more)"


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    total = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            total.update(block)
    return total.hexdigest()


@cache
def registry() -> dict[str, dict[str, str]]:
    """The shipped files: name -> {"file", "sha256"}."""
    return json.loads(REGISTRY.read_text(encoding="utf-8"))


def default_weights(name: str) -> Path:
    """Path of a shipped weights file, by name such as 'lite-posenet'.

    Raises WeightsError if no such file is listed or it is not there.
    """
    row = registry().get(name)
    if row is None:
        listed = ", ".join(sorted(registry())) or "none"
        raise WeightsError(f"no weights named {name!r} are shipped; those that are: {listed}")
    path = FOLDER / row["file"]
    if not path.is_file():
        raise WeightsError(f"the weights {name!r} are not installed: {path} does not exist")
    return path
