"""The ROS 2 shell around the library: the only folder that imports rclpy."""
