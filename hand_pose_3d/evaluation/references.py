"""Published results, printed beside ours."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """One published row: source and metrics, None where it gives none."""

    name: str
    auc: float | None = None
    median: float | None = None
    mean: float | None = None


_REPOSITORY = "Zimmermann & Brox"

REFERENCES: dict[tuple[str, str], tuple[Reference, ...]] = {
    ("rhd", "2d_true_crops"): (
        Reference(f"{_REPOSITORY}, Table 1, GT R-val", 0.724, 5.001, 9.135),
        Reference(f"{_REPOSITORY}, trained on RHD only", 0.771, 3.939, 7.630),
    ),
    ("rhd", "2d_full_240x320"): (
        Reference(f"{_REPOSITORY}, palm truth", 0.679, 5.275, 16.561),
        Reference(f"{_REPOSITORY}, Table 1, Net R-val (wrist truth by mistake)", 0.663, 5.833, 17.041),
        Reference(f"{_REPOSITORY}, trained on RHD only", 0.715, 4.374, 15.469),
    ),
    ("rhd", "2d_full"): (Reference(f"{_REPOSITORY}, 320x320 pixels", 0.635, 6.745, 18.741),),
    ("rhd", "3d_true_scale"): (Reference(_REPOSITORY, 0.424, 28.686, 35.606),),
    ("rhd", "3d_true_scale_20_50"): (Reference(_REPOSITORY, 0.603),),
    ("stb", "3d_true_scale"): (Reference(_REPOSITORY, 0.764, 9.405, 12.210),),
    ("stb", "3d_true_scale_20_50"): (
        Reference("PSO", 0.709),
        Reference("ICPPSO", 0.748),
        Reference("CHPR", 0.839),
        Reference(f"{_REPOSITORY}, code", 0.941),
        Reference(f"{_REPOSITORY}, as usually quoted", 0.948),
    ),
    ("freihand", "3d_procrustes"): (
        Reference("HaMeR (PA-MPJPE)", mean=6.0),
        Reference("WiLoR (PA-MPJPE)", mean=5.5),
    ),
}
"""By data set and protocol. Pixels and millimetres; AUC to 30 px and 50 mm. Sources: the paper, the authors' code
and its README; the papers of the others."""

LIFTING_MEDIAN_MM = {
    "direct": 20.848,
    "bottleneck": 21.907,
    "local": 39.121,
    "proposed": 18.840,
}
"""The paper's Table 2: median error on RHD's evaluation split from ideal score maps. The authors later found the
bottleneck row wrong and about 8 % worse."""
