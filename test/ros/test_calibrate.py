"""~/calibrate over DDS: an open hand is measured, is used from then on, and what stands in the way is said."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from fake_estimator import SCALE_M

from hand_pose_3d.calibration import PALM
from hand_pose_3d.ros.calibrate import PATIENCE_S

RIGHT, BOTH, NOBODY = 100, 220, 0
"""Grey values of images in which the fake estimator sees that."""


@pytest.fixture
def node(client, start_node):
    """Starts a node whose camera is known."""

    def start(**parameters):
        process = start_node(**parameters)
        client.connect()
        client.camera_info()
        return process

    return start


def begin(client):
    """Call the service; the future of its answer."""
    from std_srvs.srv import Trigger

    return client.begin_call(Trigger, "~/calibrate", Trigger.Request())


def show(client, future, value, depth_m=None, seconds=PATIENCE_S + 5):
    """Publish images at 20 Hz, and depth, until the call is answered; the answer."""
    end = time.monotonic() + seconds
    while not future.done():
        assert time.monotonic() < end, "~/calibrate did not answer"
        image = client.make_image(value)
        if depth_m is not None:
            client.depth.publish(depth_image(client, image, depth_m()))
            client.spin(0.02)
        client.image.publish(image)
        client.spin(0.05)
    return future.result()


def depth_image(client, image, metres):
    depth = client.make_image(0, encoding="16UC1", step=128, header=image.header)
    depth.data = np.full(48 * 64, round(1000 * metres), "<u2").tobytes()
    return depth


def reference_length(client) -> float:
    from rcl_interfaces.srv import GetParameters

    request = GetParameters.Request(names=["reference_length"])
    return client.call(GetParameters, "~/get_parameters", request).values[0].double_value


def test_a_hand_at_a_known_distance_is_measured_while_the_node_goes_on(client, node):
    node(calibration_distance=0.4)
    before = client.ask(client.make_image(RIGHT)).hands[0]
    assert before.scale_source == before.SCALE_ASSUMED
    assumed = reference_length(client)
    future = begin(client)
    client.diagnosis(lambda status, values: "%" in values["hand size"])
    for _ in range(5):  # other callbacks are served meanwhile; an empty image brings no measurement to its end
        client.ask(client.make_image(NOBODY))
    assert "under way" in begin_and_wait(client).message and not future.done()
    answer = show(client, future, RIGHT)
    assert answer.success and "calibrated" in answer.message, answer.message
    after = client.ask(client.make_image(RIGHT)).hands[0]
    assert after.scale_source == after.SCALE_CALIBRATED
    # Palms that were placed at some distance are placed at the stated one with the measured length.
    assert np.mean([after.keypoints[k].z for k in PALM]) == pytest.approx(0.4, rel=0.01)
    measured = reference_length(client)
    assert after.scale / SCALE_M == pytest.approx(measured / assumed, rel=1e-6)
    assert f"{1e3 * measured:.1f} mm" in answer.message
    client.diagnosis(lambda status, values: values["hand size"].startswith("calibrated"))
    client.set_parameters(reference_length=assumed)  # another length is nobody's measured one
    assert client.ask(client.make_image(RIGHT)).hands[0].scale_source == before.SCALE_ASSUMED


def begin_and_wait(client):
    future = begin(client)
    client.until(future.done)
    return future.result()


def test_a_hand_is_measured_beside_depth_and_depth_still_comes_first(client, node):
    node()
    client.depth.publish(depth_image(client, client.make_image(RIGHT), 0.6))
    client.ask(client.make_image(RIGHT))
    answer = show(client, begin(client), RIGHT, depth_m=lambda: 0.6)
    assert answer.success, answer.message
    client.set_parameters(depth_wait=10)  # as long as a busy computer needs to bring it
    image = client.make_image(RIGHT)
    client.depth.publish(depth_image(client, image, 0.6))
    hand = client.ask(image).hands[0]
    client.set_parameters(depth_wait=0.05)
    assert hand.scale_source == hand.SCALE_DEPTH
    assert client.ask(client.make_image(RIGHT)).hands[0].scale_source == hand.SCALE_CALIBRATED


def test_what_stands_in_the_way_is_said_at_once(client, start_node):
    from std_srvs.srv import SetBool

    start_node()
    client.connect()
    assert "no usable camera_info on /camera_info" in begin_and_wait(client).message
    client.camera_info()
    assert "no depth image on /depth: set calibration_distance" in begin_and_wait(client).message
    client.camera_info(size=(64, 48))
    client.ask_until(lambda: "calibrated for 48x64" in begin_and_wait(client).message, RIGHT)
    client.set_parameters(scale_source="none")
    assert "scale_source is none" in begin_and_wait(client).message
    client.call(SetBool, "~/enable", SetBool.Request(data=False))
    answer = begin_and_wait(client)
    assert not answer.success and "paused" in answer.message


def test_an_inactive_node_measures_nothing(client, start_node):
    start_node(autostart=False)
    assert "unconfigured: activate it first" in begin_and_wait(client).message


@pytest.mark.parametrize(("value", "says"), [(NOBODY, "no hand is in view"), (BOTH, "more than one hand")])
def test_without_one_hand_it_gives_up(client, node, value, says):
    node(calibration_distance=0.5)
    answer = show(client, begin(client), value)
    assert not answer.success and says in answer.message
    assert client.ask(client.make_image(RIGHT)).hands[0].scale_source == 1


def test_a_hand_that_moves_is_not_measured(client, node):
    node(calibration_distance=0.5)
    random = np.random.default_rng(0)
    answer = show(client, begin(client), RIGHT, depth_m=lambda: random.uniform(0.3, 1.5))
    assert not answer.success and "hold the hand still" in answer.message


def test_what_is_no_hands_length_is_not_used(client, node):
    node(calibration_distance=5.0)
    answer = show(client, begin(client), RIGHT)
    assert not answer.success and "reference_length must lie between" in answer.message
    assert client.ask(client.make_image(RIGHT)).hands[0].scale_source == 1


def test_a_pause_ends_it_and_a_signal_ends_the_node(client, node):
    from std_srvs.srv import SetBool

    process = node(calibration_distance=0.5)
    future = begin(client)
    client.diagnosis(lambda status, values: "%" in values["hand size"])  # the call has come, and is under way
    client.ask(client.make_image(RIGHT))
    client.call(SetBool, "~/enable", SetBool.Request(data=False))
    client.until(future.done)
    assert not future.result().success and "stopped taking images" in future.result().message
    client.call(SetBool, "~/enable", SetBool.Request(data=True))
    client.connect()
    client.camera_info()
    begin(client)
    client.ask(client.make_image(RIGHT))
    code, output = process.stop()
    assert code == 0 and "Traceback" not in output, output
