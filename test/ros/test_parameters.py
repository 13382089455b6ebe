"""One dataclass says everything about parameters; the YAML file and the estimator agree with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from hand_pose_3d.calibration import CalibrationResult
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.estimator_config import EstimatorConfig
from hand_pose_3d.hands import ScaleSource
from hand_pose_3d.ros.parameters import NodeParameters, ros_name

CONFIG = Path(__file__).resolve().parents[2] / "config" / "hand_pose_3d.yaml"


def flat(tree: dict, prefix: str = "") -> dict:
    out = {}
    for key, value in tree.items():
        out.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return out


def test_yaml_holds_every_parameter_with_its_default_and_a_comment():
    text = CONFIG.read_text(encoding="utf-8")
    assert flat(yaml.safe_load(text)["/**"]["ros__parameters"]) == NodeParameters().to_mapping()
    lines = text.splitlines()
    for before, line in zip(lines, lines[1:], strict=False):
        if ":" in line and not line.lstrip().startswith("#") and not line.endswith(":"):
            assert before.lstrip().startswith("#"), line


def test_every_parameter_has_a_description():
    for entry in dataclasses.fields(NodeParameters):
        assert entry.metadata["text"].endswith("."), entry.name


def test_defaults_are_those_of_the_estimator_but_for_tracking():
    settings = NodeParameters().estimator_settings()
    assert EstimatorConfig(**settings) == EstimatorConfig(tracking=True)
    assert set(settings) == {f.name for f in dataclasses.fields(EstimatorConfig)}


def test_smoothing_reaches_the_estimator():
    changed = NodeParameters.from_mapping({"smoothing.beta_px": 2.5, "smoothing.enabled": False})
    smoothing = changed.estimator_settings()["tracker"].smoothing
    assert (smoothing.beta_px, smoothing.enabled) == (2.5, False)


@pytest.mark.parametrize(
    ("source", "length", "told"),
    [
        ("auto", 0.05, (ScaleSource.CALIBRATED, 0.001)),
        ("calibrated", 0.05, (ScaleSource.CALIBRATED, 0.001)),
        ("assumed", 0.05, (ScaleSource.ASSUMED, None)),
        ("auto", 0.045, (ScaleSource.ASSUMED, None)),
        ("calibrated", 0.045, (ScaleSource.CALIBRATED, None)),
    ],
)
def test_a_measured_length_counts_while_it_is_in_use(source, length, told):
    measured = CalibrationResult(reference_length_m=0.05, reference_length_stddev_m=0.001, samples=60)
    config = EstimatorConfig(
        **NodeParameters(scale_source=source, reference_length=length).estimator_settings(measured)
    )
    assert config.scale_source == source
    assert (config.reference_source, config.reference_length_stddev) == told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "huge"),
        ("device", "gpu"),
        ("device", "cuda:x"),
        ("precision", "int3"),
        ("max_hands", 0),
        ("max_hands", 17),
        ("max_hands", 2.0),
        ("max_hands", True),
        ("score_threshold", float("nan")),
        ("score_threshold", -0.1),
        ("reference_length", 4.2),
        ("smoothing.min_cutoff_hz", 0.0),
        ("mirrored", "yes"),
        ("tf_prefix", "a b"),
        ("nonsense", 1),
    ],
)
def test_bad_values_are_refused_by_name(name, value):
    with pytest.raises(InvalidInputError, match=name):
        NodeParameters.from_mapping({name: value})


def test_values_are_checked_together():
    with pytest.raises(InvalidInputError, match="GPU"):
        NodeParameters(device="cpu", precision="float16")
    assert NodeParameters(device="cuda:1", precision="float16").device == "cuda:1"
    with pytest.raises(InvalidInputError, match="model lite"):
        NodeParameters(model="paper", keypoints="thorough")
    with pytest.raises(InvalidInputError, match="weights '/no/such/folder' does not exist"):
        NodeParameters(weights="/no/such/folder").check_weights()


def test_video_and_single_images_need_other_networks():
    video = NodeParameters()
    assert video.same_networks(video.changed(search="fast", max_hands=4))
    assert not video.same_networks(video.changed(tracking=False))
    assert video.same_networks(video.changed(tracking=False, search="fast"))  # one look as well
    assert not video.same_networks(video.changed(keypoints="thorough"))


def test_mapping_round_trip():
    changed = NodeParameters(max_hands=4, smoothing_beta_pose=2.0, tf_prefix="robot1/")
    assert NodeParameters.from_mapping(changed.to_mapping()) == changed
    assert {ros_name(f) for f in dataclasses.fields(NodeParameters)} == set(changed.to_mapping())
