"""Things in hands lie where a hand holds them."""

import numpy as np
import pytest

from hand_pose_3d.rendering import actions, pose, sampling
from hand_pose_3d.rendering.objects import Shape, held_object, object_of_two_hands
from hand_pose_3d.rendering.source import FrameSource

WRAPS = ("grasp cylinder", "grasp can", "grasp handle", "grasp ball")


def rod(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of a shape along its own y axis."""
    half = shape.rotation[:, 1] * shape.size[1] / 2
    return shape.centre - half, shape.centre + half


def test_fingers_close_around_a_handle_and_its_head_is_attached_to_it(arm):
    rng, heads = np.random.default_rng(5), 0
    for _ in range(80):
        _, _, keypoints = actions.sample_pose(rng, arm, WRAPS)
        parts = held_object(rng, arm, keypoints, "wrap")
        if not parts or parts[0].kind == "ball":
            continue
        starts, ends, radii = pose.capsules(arm, keypoints)
        handle = parts[0]
        assert all(np.allclose(part.rotation.T @ part.rotation, np.eye(3), atol=1e-9) for part in parts)
        a, b = rod(handle)
        gap = (pose.segment_distances(a[None], b[None], starts, ends) - radii).min()
        assert -0.015 < gap - min(handle.size[0], handle.size[2]) / 2 < 0.05
        for head in parts[1:]:
            heads += 1
            reach = np.linalg.norm(head.size) / 2 + 0.06
            assert min(np.linalg.norm(head.centre - x) for x in (a, b, handle.centre)) < reach
    assert heads > 20


def test_pinched_things_lie_between_thumb_and_finger(arm):
    rng = np.random.default_rng(6)
    for _ in range(20):
        _, _, keypoints = actions.sample_pose(rng, arm, ("pinch", "pen", "ok"))
        (part,) = held_object(rng, arm, keypoints, "pinch")
        a, b = rod(part)
        tips = keypoints[[4, 8]].mean(axis=0)
        along = np.clip((tips - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        assert np.linalg.norm(a + along * (b - a) - tips) < 0.03


def test_an_object_of_two_hands_goes_through_both(arm):
    rng = np.random.default_rng(7)
    _, _, left = actions.sample_pose(rng, arm, ("grasp handle",))
    right = left * [-1, 1, 1] + [0.05, 0, 0]
    parts = [object_of_two_hands(rng, (left + right) / 2) for _ in range(20)]
    assert {len(each) for each in parts} == {1, 2}
    for handle, *_ in parts:
        a, b = rod(handle)
        for points in (left, right):
            assert pose.segment_distances(a[None], b[None], points[[5]], points[[17]]).min() < 0.08


@pytest.mark.parametrize("seed", [3, 4])
def test_a_held_wrist_runs_through_the_grasp_that_holds_it(maker, monkeypatch, seed):
    found = []

    def recorded(frame, shot, holder):
        held = held_wrist(frame, shot, holder)
        found.append((holder, held))
        return held

    held_wrist = sampling._held_wrist
    monkeypatch.setattr(sampling, "_held_wrist", recorded)
    monkeypatch.setattr(sampling, "_WRIST_SHARE", 1.0)
    for i in range(150):
        frame = FrameSource.of_frame(maker.source, "training", seed, i)
        scene = sampling._sample_hand_scene(frame)
        assert all(np.isfinite(hand.wrist_camera_m).all() for hand in scene.hands)
    pairs = [(holder, held) for holder, held in found if held is not None]
    assert len(pairs) > 3
    for holder, held in pairs:
        turn = held.rotation_camera_pose
        elbow = pose.arm_joints(held.arm, held.posed[0])[0] @ turn.T + held.wrist_camera_m
        fingers = holder.posed[1] @ holder.rotation_camera_pose.T + holder.wrist_camera_m
        wrist = held.wrist_camera_m
        gaps = pose.segment_distances(wrist[None], elbow[None], fingers, fingers + 1e-6)
        assert gaps[[5, 9, 13]].max() < 0.1 and gaps.min() > 0.004
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
