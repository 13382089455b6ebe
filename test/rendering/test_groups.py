"""Frames with whole people: every hand is labelled, arms belong to bodies, and nothing depends on chance elsewhere."""

import numpy as np
import pytest

from hand_pose_3d.rendering import pose
from hand_pose_3d.rendering.arm_kinematics import reach
from hand_pose_3d.rendering.assemble import assemble
from hand_pose_3d.rendering.postures import POSTURES
from hand_pose_3d.rendering.sampling import sample_scene
from hand_pose_3d.skeleton import Side

COUNT = 14


@pytest.fixture(scope="module")
def frames(maker):
    return [maker.frame("training", 11, i, 1.0) for i in range(COUNT)]


def joints(source, hand):
    """Elbow and shoulder of a hand's arm in camera axes."""
    arm = hand.arm
    place = hand.rotation_camera_hand @ np.diag([-1.0 if hand.side is Side.RIGHT else 1.0, 1, 1])
    return [j @ place.T + hand.wrist_camera_m for j in pose.arm_joints(arm, pose.bone_motions(arm, hand.angles)[0])]


def test_every_pixel_of_a_hand_belongs_to_a_listed_hand(frames):
    for scene, pictures, _, record in frames:
        assert len(record["hands"]) == len(scene.hands) == 2 * len(scene.people)
        assert sum(h["pixels"] for h in record["hands"]) == (pictures.label > 1).sum()
        for number, hand in enumerate(record["hands"], 1):
            own = (pictures.mesh == number) & (pictures.label > 1)
            assert own.sum() == hand["pixels"]
            low, high = (2, 17) if hand["side"] == "left" else (18, 33)
            classes = pictures.label[own]
            assert ((classes >= low) & (classes <= high)).all()
            if hand["pixels"]:
                row, column = np.nonzero(own)
                gap = np.linalg.norm(np.c_[column, row][:, None] - hand["uv"], axis=-1).min(axis=1)
                extent = np.ptp(hand["uv"], axis=0).max()
                assert gap.max() < 0.4 * extent + 3


def test_keypoints_of_listed_hands_project_into_their_pixels(frames):
    seen = 0
    for scene, pictures, _, record in frames:
        for number, hand in enumerate(record["hands"], 1):
            p = hand["xyz"].astype(float) @ scene.intrinsics.T
            np.testing.assert_allclose(p[:, :2] / p[:, 2:], hand["uv"], rtol=1e-4, atol=0.02)
            for u, v in np.round(hand["uv"][hand["visible"]]).astype(int):
                assert (pictures.mesh[max(v - 1, 0) : v + 2, max(u - 1, 0) : u + 2] == number).any()
                seen += 1
            assert hand["pixels"] or not hand["visible"][1:].any()
    assert seen > 10 * COUNT


def test_the_first_of_each_side_is_the_one_with_most_pixels(frames):
    for _, _, _, record in frames:
        for side, start in (("left", 0), ("right", 21)):
            best = max((h for h in record["hands"] if h["side"] == side), key=lambda h: h["pixels"])
            np.testing.assert_allclose(record["xyz"][start], best["xyz"][0])
            assert record["uv_vis"][start : start + 21, 2].sum() == best["visible"].sum()


def test_arms_start_at_the_shoulders_and_pass_no_lens(maker):
    for i in range(30):
        scene = sample_scene(maker.source, "training", 12, i, 1.0)
        for k, hand in enumerate(scene.hands):
            person = scene.people[k // 2]
            body = maker.source.people.body(person.body, person.seated)
            elbow, shoulder = joints(maker.source, hand)
            expected = person.rotation @ body.shoulders[k % 2] + person.origin_m
            np.testing.assert_allclose(shoulder, expected, atol=1e-6)
            upper = (elbow - shoulder) / np.linalg.norm(elbow - shoulder)
            np.testing.assert_allclose(person.rotation @ person.arm_directions[k % 2], upper, atol=1e-6)
            assert min(elbow[2], shoulder[2], hand.wrist_camera_m[2]) > 0.15


def test_most_hands_stay_outside_the_body(maker):
    inside = []
    for i in range(30):
        scene = sample_scene(maker.source, "training", 13, i, 1.0)
        assembly = assemble(scene, maker.source)
        for k, (_, points) in enumerate(assembly.keypoints_m):
            person = scene.people[k // 2]
            own = (points - person.origin_m) @ person.rotation
            inside.append(maker.source.people.body(person.body, person.seated).clearance(own).min() < -0.01)
    assert np.mean(inside) < 0.2  # pockets


def test_people_do_not_change_other_frames_and_frames_repeat(maker):
    for i in range(8):
        a, b = (sample_scene(maker.source, "training", 14, i, share) for share in (0.0, 0.4))
        if b.view != "people":
            np.testing.assert_array_equal(a.hands[0].angles, b.hands[0].angles)
        c = sample_scene(maker.source, "training", 14, i, 0.4)
        assert len(b.hands) == len(c.hands)
        for one, other in zip(b.hands, c.hands, strict=True):
            np.testing.assert_array_equal(one.angles, other.angles)
            np.testing.assert_array_equal(one.wrist_camera_m, other.wrist_camera_m)
    views = [sample_scene(maker.source, "training", 14, i, 0.4).view for i in range(60)]
    assert 0.2 < np.mean([v == "people" for v in views]) < 0.6


def test_a_reachable_wrist_is_reached_and_a_far_one_approached(arm):
    shoulder = np.array([0.17, -0.09, 0.5])
    wrists = shoulder + np.array([[0.0, -0.3, -0.2], [0.1, -2.0, 0.0]])
    elbows = np.array([[1.0, 0, -1], [0, 0, -1.0]])
    bent, rotations, reached, joints = reach(arm, shoulder, wrists, elbows, np.zeros((2, 2)), np.array([0.4, -0.5]))
    np.testing.assert_allclose(reached[0], wrists[0])
    assert 0.4 < np.linalg.norm(reached[1] - shoulder) < 2
    for k in range(2):
        angles = np.zeros(pose.NUM_ANGLES)
        angles[pose.TWIST], angles[pose.ELBOW] = (0.4, -0.5)[k], bent[k]
        elbow, end = pose.arm_joints(arm, pose.bone_motions(arm, angles)[0])
        np.testing.assert_allclose(rotations[k] @ end + reached[k], shoulder, atol=1e-9)
        np.testing.assert_allclose(rotations[k] @ elbow + reached[k], joints[k], atol=1e-9)
        np.testing.assert_allclose(rotations[k] @ rotations[k].T, np.eye(3), atol=1e-9)


def test_an_elbow_bends_towards_the_thumb_side_and_pronation_turns_the_back_of_the_hand_up(arm):
    angles = np.zeros(pose.NUM_ANGLES)
    angles[pose.ELBOW] = np.pi / 2
    elbow, shoulder = pose.arm_joints(arm, pose.bone_motions(arm, angles)[0])
    upper = (shoulder - elbow) / np.linalg.norm(shoulder - elbow)
    assert upper[0] > 0.9
    angles[pose.TWIST] = np.radians(80)
    elbow, shoulder = pose.arm_joints(arm, pose.bone_motions(arm, angles)[0])
    upper = (shoulder - elbow) / np.linalg.norm(shoulder - elbow)
    assert upper[2] > 0.8


def test_postures_name_known_actions():
    from hand_pose_3d.rendering.actions import ACTIONS
    from hand_pose_3d.rendering.postures import PAIRS

    for posture in (*POSTURES.values(), *PAIRS.values()):
        assert set(posture.actions) <= set(ACTIONS)
        assert posture.anchor in ("shoulder", "eyes", "hips")
