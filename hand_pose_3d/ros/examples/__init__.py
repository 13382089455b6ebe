"""What to do with hands on a robot; each is a node of its own: ``python -m hand_pose_3d.ros.examples.NAME``."""
