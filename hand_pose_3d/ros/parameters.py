"""The node's parameters, all in one frozen dataclass; descriptors, ranges and checks come from it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hand_pose_3d.calibration import CalibrationResult
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.estimator_config import NETWORK_SETTINGS, EstimatorConfig
from hand_pose_3d.ros import start, typed_parameters
from hand_pose_3d.settings import check_settings, checked, described, same_setting
from hand_pose_3d.settings import setting as _parameter
from hand_pose_3d.settings import setting_name as ros_name
from hand_pose_3d.smoothing import SmoothingConfig
from hand_pose_3d.tracking import TrackerConfig

_estimators = partial(same_setting, EstimatorConfig)


def _smoothing(name: str) -> Any:
    """Parameter smoothing.NAME: the field of SmoothingConfig."""
    return same_setting(SmoothingConfig, name, name=f"smoothing.{name}")


@dataclass(frozen=True)
class NodeParameters:
    """Everything that can be set on the node. A value outside its range raises InvalidInputError."""

    autostart: bool = _parameter(True, "Configure and activate without a lifecycle manager.", fixed=True)

    model: str = _estimators("model")
    weights: str = _estimators(
        "weights", default="", text="Folder of the networks' weights; empty: those of the package."
    )
    device: str = _estimators("device")
    precision: str = _estimators("precision")
    threads: int = _estimators("threads")

    max_hands: int = _estimators("max_hands")
    hand_side: str = _estimators("hand_side")
    mirrored: bool = _estimators("mirrored")
    score_threshold: float = _estimators("score_threshold")
    tracking: bool = _estimators("tracking", default=True)
    search: str = _estimators("search")
    keypoints: str = _estimators("keypoints")

    smoothing_enabled: bool = _smoothing("enabled")
    smoothing_min_cutoff_hz: float = _smoothing("min_cutoff_hz")
    smoothing_beta_px: float = _smoothing("beta_px")
    smoothing_beta_pose: float = _smoothing("beta_pose")
    smoothing_beta_viewpoint: float = _smoothing("beta_viewpoint")
    smoothing_beta_position: float = _smoothing("beta_position")
    smoothing_speed_cutoff_hz: float = _smoothing("speed_cutoff_hz")
    smoothing_max_gap_s: float = _smoothing("max_gap_s")

    scale_source: str = _estimators("scale_source")
    reference_length: float = _estimators("reference_length")
    calibration_distance: float = _parameter(
        0.0,
        "Distance from the camera to the palm while ~/calibrate measures a hand; 0 measures it beside a depth image.",
        unit="m",
        low=0.0,
        high=5.0,
    )
    rectified: bool = _parameter(False, "The images are rectified: use CameraInfo's P and no distortion.")

    publish_tf: bool = _parameter(True, "Publish a frame for each hand.")
    tf_prefix: str = _parameter("", "Put before the names of the hands' frames.")
    publish_markers: bool = _parameter(True, "Publish ~/markers.")
    marker_lifetime: float = _parameter(0.5, "Markers vanish after this time.", unit="s", low=0.05, high=60.0)

    image_transport: str = _parameter(
        "raw", "Subscribe to image or to image/compressed.", choices=("raw", "compressed")
    )
    reliability: str = _parameter(
        "auto",
        "Reliability asked of the publishers; auto is reliable when all of them offer it, else best effort.",
        choices=("auto", "best_effort", "reliable"),
    )
    max_image_age: float = _parameter(
        0.0, "Images older than this on arrival are not processed; 0 takes any.", unit="s", low=0.0, high=3600.0
    )
    max_depth_offset: float = _parameter(
        0.005,
        "Most by which the stamps of an image and its depth may differ; below half a period of the depth camera.",
        unit="s",
        low=0.0,
        high=10.0,
    )
    depth_wait: float = _parameter(
        0.05,
        "Longest time that an image waits for its depth to arrive; not when none is due.",
        unit="s",
        low=0.0,
        high=10.0,
    )
    image_timeout: float = _parameter(
        2.0, "Without an image for this time, /diagnostics says STALE.", unit="s", low=0.1, high=3600.0
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", self.device):
            raise InvalidInputError(f"device must be auto, cpu, cuda or cuda:N, not {self.device!r}")
        if self.device == "cpu" and self.precision == "float16":
            raise InvalidInputError("precision float16 needs a GPU: take auto or float32 with device cpu")
        if self.device.startswith("cuda") and self.precision == "int8":
            raise InvalidInputError("precision int8 needs device cpu: take auto or float16 with a GPU")
        EstimatorConfig(**self.estimator_settings())
        if not re.fullmatch(r"[A-Za-z0-9_/]*", self.tf_prefix):
            raise InvalidInputError(f"tf_prefix may hold letters, digits, _ and /, not {self.tf_prefix!r}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> NodeParameters:
        """From values by ROS name, such as 'smoothing.beta'; missing ones keep their defaults.

        Raises InvalidInputError for a name that does not exist and for a value that is not allowed.
        """
        return from_mapping(cls, values)

    def to_mapping(self) -> dict[str, Any]:
        """Values by ROS name."""
        return to_mapping(self)

    def check_weights(self) -> None:
        """Raise InvalidInputError unless the folder of weights is there; one that went away later blocks nothing."""
        if self.weights and not self.weights_path.is_dir():
            what = "is no folder" if self.weights_path.exists() else "does not exist"
            raise InvalidInputError(f"weights {self.weights!r} {what}: name a folder, or leave it empty")

    @property
    def weights_path(self) -> Path:
        """The folder of the networks' weights, decoded with this process's locale."""
        return Path(start.file_name(self.weights)).expanduser()

    def networks(self) -> dict[str, Any]:
        """The parameters whose change needs other networks."""
        return {name: getattr(self, name) for name in NETWORK_SETTINGS}

    def same_networks(self, other: NodeParameters) -> bool:
        """Whether the same networks serve both; `auto` chooses others for single images than for video."""
        quick = [EstimatorConfig(tracking=p.tracking, search=p.search).quick for p in (self, other)]
        return self.networks() == other.networks() and quick[0] == quick[1]

    def estimator_settings(self, measured: CalibrationResult | None = None) -> dict[str, Any]:
        """Keyword arguments of HandPoseEstimator. measured: a calibration, used while its length is set."""
        in_use = measured is not None and measured.reference_length_m == self.reference_length
        stddev_m = measured.reference_length_stddev_m if measured and in_use else None
        smoothing = {f.name: getattr(self, f"smoothing_{f.name}") for f in dataclasses.fields(SmoothingConfig)}
        shared = {f.name for f in dataclasses.fields(EstimatorConfig)} & {f.name for f in dataclasses.fields(self)}
        return {
            **{name: getattr(self, name) for name in shared},
            "weights": str(self.weights_path) if self.weights else None,
            "reference_length_stddev": None if self.scale_source == "assumed" else stddev_m,
            "tracker": TrackerConfig(smoothing=SmoothingConfig(**smoothing)),
        }

    def changed(self, **values: Any) -> NodeParameters:
        """A checked copy with other values, by field name."""
        return dataclasses.replace(self, **values)


Kind = TypeVar("Kind")


def from_mapping(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """A dataclass of settings from values by ROS name; missing ones keep their defaults.

    Raises InvalidInputError for a name that does not exist and for a value that is not allowed.
    """
    fields_by_name = {ros_name(entry): entry.name for entry in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields_by_name))
    if unknown:
        raise InvalidInputError(f"there is no parameter {unknown[0]!r}; there are {', '.join(fields_by_name)}")
    return kind(**{fields_by_name[name]: value for name, value in values.items()})


def to_mapping(record: Any) -> dict[str, Any]:
    """Values of a dataclass of settings by ROS name."""
    return {ros_name(entry): getattr(record, entry.name) for entry in dataclasses.fields(record)}


def declare(node: Any) -> NodeParameters:
    """Declare every parameter of the tracker on a node and return the values it was started with."""
    parameters = declare_all(node, NodeParameters)
    parameters.check_weights()
    return parameters


def declare_all(node: Any, kind: type[Kind], fixed: bool = False) -> Kind:
    """Declare a parameter for every field of a dataclass of settings and return the values the node was started with.

    fixed: all of them are read only now, whatever the fields say.
    Raises InvalidInputError for a value that is not allowed, in one sentence.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    values = {}
    entries = dataclasses.fields(kind)  # type: ignore[arg-type]
    for entry in entries:
        metadata, name = entry.metadata, ros_name(entry)
        descriptor = ParameterDescriptor(description=described(entry), read_only=fixed or metadata["fixed"])
        if metadata["choices"]:
            descriptor.additional_constraints = "one of " + ", ".join(metadata["choices"])
        low, high = metadata["low"], metadata["high"]
        if low is not None and isinstance(entry.default, float):
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)
            ]
        elif low is not None:
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
        values[name] = typed_parameters.declare(node, name, entry.default, descriptor, partial(checked, entry))
    typed_parameters.convert_what_is_set(node, {ros_name(e): e.default for e in entries})
    typed_parameters.warn_of_unknown(node, values)
    return from_mapping(kind, values)
