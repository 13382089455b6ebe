"""The examples as nodes of their own, fed with hands over real topics."""

import pytest
from ros_client import Process


def a_hand(spread: float):
    """A right hand whose thumb and index fingertips are so many reference bones apart."""
    from geometry_msgs.msg import Point
    from hand_pose_3d.msg import HandPose3D

    hand = HandPose3D(side=HandPose3D.SIDE_RIGHT, track_id=1, score=0.9, keypoint_scores=[0.9] * 21)
    points = [Point(x=0.3 * (k % 4) - 1.0 * (k > 0), y=-2.0 - 0.2 * (k % 4), z=0.0) for k in range(21)]
    points[0] = Point()
    for finger in range(1, 5):
        for joint in range(4):
            points[1 + 4 * finger + joint] = Point(x=0.5 * finger - 1.0, y=-2.0 - 0.9 * joint, z=0.0)
    points[4] = Point(x=points[8].x, y=points[8].y + spread, z=0.0)
    hand.keypoints_canonical = points
    return hand


@pytest.mark.parametrize("example", ["pinch_gripper", "retarget_hand"])
def test_example_answers_hands_and_only_hands(client, example):
    if example == "retarget_hand":
        pytest.importorskip("pinocchio")
        pytest.importorskip("dex_retargeting")
    process = Process("-m", f"hand_pose_3d.ros.examples.{example}", "--side", "right")
    try:
        exchange(client, example)
    finally:
        status, output = process.stop()
    assert status == 0, output


def exchange(client, example: str) -> None:
    """Show hands and look at the commands."""
    from hand_pose_3d.msg import HandPose3DArray
    from sensor_msgs.msg import JointState
    from std_msgs.msg import Float64MultiArray

    publisher = client.ros.create_publisher(HandPose3DArray, "/hand_pose_3d/hands", 10)
    topic, kind = {
        "pinch_gripper": ("/gripper_controller/commands", Float64MultiArray),
        "retarget_hand": ("/robot_hand/joint_states", JointState),
    }[example]
    answers = client.listen(topic, kind)
    client.until(publisher.get_subscription_count, timeout=60, what="the example's subscription")
    client.until(lambda: client.ros.count_publishers(topic), timeout=60, what="the example's publisher")

    def send(*hands) -> None:
        message = HandPose3DArray(hands=list(hands))
        client.stamp(message)
        publisher.publish(message)

    def answered() -> bool:
        send(a_hand(3.0))
        client.spin(0.1)
        return bool(answers)

    client.until(answered)
    client.spin(1.0)  # More than one may be on its way.
    for _ in range(12):
        count = len(answers)
        send(a_hand(0.1))
        client.until(lambda count=count: len(answers) > count)
    if example == "pinch_gripper":
        assert answers[-1].data[0] == pytest.approx(0.0, abs=1e-6)
    else:
        assert len(answers[-1].name) == 20 and len(set(answers[-1].name)) == 20
        assert answers[-1].header.stamp.sec > 0
    count = len(answers)
    send()
    client.spin(0.5)
    assert len(answers) == count  # No hand, no command.
