"""Example nodes that drive a robot with hands: ``python -m hand_pose_3d.ros.examples.NAME``.

NAME is pinch_gripper or retarget_hand.
"""
