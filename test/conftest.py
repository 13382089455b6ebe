"""Settings of all tests: a slow machine is no failure, and the same examples are drawn in every run."""

from hypothesis import settings

settings.register_profile("hand_pose_3d", deadline=None, derandomize=True)
settings.load_profile("hand_pose_3d")
