"""3D hand pose from a single colour image (Zimmermann & Brox, ICCV 2017) as a library and a ROS 2 node."""

from pkgutil import extend_path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hand_pose_3d.camera import Camera
    from hand_pose_3d.errors import HandPoseError
    from hand_pose_3d.estimator import HandPoseEstimator
    from hand_pose_3d.hands import HandPose, ScaleSource
    from hand_pose_3d.skeleton import Side

# A checkout and the messages that colcon or pip built under the same name are one package.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"

_LAZY = {
    "HandPoseEstimator": "hand_pose_3d.estimator",
    "HandPose": "hand_pose_3d.hands",
    "ScaleSource": "hand_pose_3d.hands",
    "Camera": "hand_pose_3d.camera",
    "Side": "hand_pose_3d.skeleton",
    "HandPoseError": "hand_pose_3d.errors",
}
__all__ = ["Camera", "HandPose", "HandPoseError", "HandPoseEstimator", "ScaleSource", "Side"]


def __dir__() -> list[str]:
    """Names for interactive completion."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> object:
    """Import public names on first use, so that `import hand_pose_3d` needs no torch."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
