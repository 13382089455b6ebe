"""What to do with hands on a robot: nodes of their own, ``python -m hand_pose_3d.ros.examples.NAME``.

NAME is pinch_gripper or retarget_hand.
"""
