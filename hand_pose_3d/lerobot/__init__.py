"""A teleoperator for LeRobot, which finds it by ``config/lerobot_teleoperator_hand_pose_3d``. Needs lerobot."""

from hand_pose_3d.lerobot.teleoperator import HandPose3DTeleoperator, HandPose3DTeleoperatorConfig

__all__ = ["HandPose3DTeleoperator", "HandPose3DTeleoperatorConfig"]
