from hand_pose_3d.cli import main

main(prog_name="hand_pose_3d")
