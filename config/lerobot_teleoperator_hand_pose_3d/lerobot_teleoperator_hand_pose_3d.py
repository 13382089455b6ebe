"""What LeRobot imports for a distribution of this name: it registers the teleoperator "hand_pose_3d"."""

from hand_pose_3d.lerobot import HandPose3DTeleoperator, HandPose3DTeleoperatorConfig

__all__ = ["HandPose3DTeleoperator", "HandPose3DTeleoperatorConfig"]
