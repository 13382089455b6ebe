import numpy as np
import pytest

from hand_pose_3d.geometry import folded_fingers
from hand_pose_3d.rendering import actions, pose
from hand_pose_3d.rendering.character import Characters
from hand_pose_3d.skeleton import BONES, INDEX_MCP, INDEX_PIP, LITTLE_MCP, MIDDLE_MCP, WRIST


def bone_lengths(keypoints):
    return np.array([np.linalg.norm(keypoints[b] - keypoints[a]) for a, b in BONES])


def test_no_action_is_in_both_splits():
    assert len(actions.TRAINING) == 31 and len(actions.EVALUATION) == 8
    assert not set(actions.TRAINING) & set(actions.EVALUATION)


def test_bones_keep_their_lengths_in_every_action(arm):
    angles = np.array([pose.respect_anatomy(actions.action_angles(name)) for name in actions.ACTIONS])
    angles[:, pose.CUP] = 0  # cupping moves the knuckles, which changes the distance from wrist to knuckle
    keypoints = pose.bone_motions(arm, angles)[1]
    lengths = np.array([bone_lengths(k) for k in keypoints])
    np.testing.assert_allclose(lengths, np.broadcast_to(lengths[0], lengths.shape), atol=1e-9)


def test_a_batch_equals_single_poses(arm):
    angles = np.array([actions.action_angles(name) for name in ("fist", "ok", "spread")])
    motions, keypoints = pose.bone_motions(arm, angles)
    for k in range(3):
        motion, points = pose.bone_motions(arm, angles[k])
        np.testing.assert_allclose(motions[k], motion, atol=1e-12)
        np.testing.assert_allclose(keypoints[k], points, atol=1e-12)


def test_skinned_fingertips_follow_their_keypoints(arm):
    """The skin under each fingertip keeps its distance to the tip keypoint: bones and skin move together."""
    bones = arm.template.finger_bones[:, 2]
    rest_motion, _ = pose.bone_motions(arm, np.zeros(pose.NUM_ANGLES))
    fist = pose.respect_anatomy(actions.action_angles("fist"))
    for angles in (np.zeros(pose.NUM_ANGLES), fist):
        motion, keypoints = pose.bone_motions(arm, angles)
        vertices = pose.skin(arm, motion)
        for finger in range(5):
            firm = arm.template.weights[:, bones[finger]] > 0.999
            before = np.linalg.norm(arm.vertices[firm] - arm.tips[finger], axis=1)
            after = np.linalg.norm(vertices[firm] - keypoints[4 + 4 * finger], axis=1)
            np.testing.assert_allclose(after, before, atol=1e-3)


def test_flexion_brings_tips_to_the_palm_side_and_thumb_lies_on_the_index_side(arm):
    straight = pose.bone_motions(arm, np.zeros(pose.NUM_ANGLES))[1]
    for finger in range(1, 5):
        angles = np.zeros(pose.NUM_ANGLES)
        pose.fingers(angles)[finger - 1, 1] = 0.8
        bent = pose.bone_motions(arm, angles)[1]
        assert bent[4 + 4 * finger, 2] < straight[4 + 4 * finger, 2] - 0.02  # z points out of the back of the hand
    assert straight[4, 0] > straight[INDEX_MCP, 0] > straight[LITTLE_MCP, 0]


def test_bent_fingers_meet_before_the_root_of_the_thumb(arm):
    """In a fist the lines from knuckle to tip, seen from above the palm, lean towards one place on the thumb's side."""
    fist = pose.respect_anatomy(actions.action_angles("fist thumb beside"))
    keypoints = pose.bone_motions(arm, fist)[1]
    palm = np.linalg.norm(keypoints[MIDDLE_MCP])
    across, along = ((keypoints[[8, 12, 16, 20]] - keypoints[[5, 9, 13, 17]]) / palm).T[:2]
    assert (np.diff(across) > 0.02).all() and across[3] > 0.1
    reach = keypoints[[5, 9, 13, 17], 1] / along / palm  # to the wrist's height
    at_wrist = keypoints[[5, 9, 13, 17], 0] / palm - reach * across
    assert np.ptp(at_wrist) < 0.7 * np.ptp(keypoints[[5, 9, 13, 17], 0] / palm)


def _distance_to_skin(arm, vertices, start, direction):
    """How far the outer skin is from `start` along `direction`: the skin inside folds there when the joint is bent.

    Source: Moeller and Trumbore, 1997.
    """
    a, b, c = (vertices[arm.template.fine.faces[:, k]].astype(float) for k in range(3))
    normal = np.cross(direction, c - a)
    determinant = ((b - a) * normal).sum(1)
    determinant[np.abs(determinant) < 1e-15] = 1e-15
    u = ((start - a) * normal).sum(1) / determinant
    q = np.cross(start - a, b - a)
    v, t = q @ direction / determinant, ((c - a) * q).sum(1) / determinant
    return t[(u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t < 0.013)].max()


def test_joints_lie_inside_the_fingers_and_knuckles_do_not_fall_in_when_bent(arm):
    """Blended skin alone comes to a third nearer to the joints of a fist, and the rig's own lie 3 mm below the back."""
    depths = []
    for share in (0.0, 1.0):
        angles = share * actions.action_angles("fist")
        motion, keypoints = pose.bone_motions(arm, angles)
        vertices = pose.skin(arm, motion)
        row = []
        for finger in range(1, 5):
            normals = [motion[arm.template.metacarpals[finger - 1], :, :3] @ arm.frames[finger, 0][:, 2]]
            for joint in range(3):
                turn = motion[arm.template.finger_bones[finger, joint], :, :3]
                out = normals[-1] + turn @ arm.frames[finger, joint][:, 2]
                normals.append(turn @ arm.frames[finger, min(joint + 1, 2)][:, 2])
                out /= np.linalg.norm(out)
                row.append(_distance_to_skin(arm, vertices, keypoints[1 + 4 * finger + joint], out))
        depths.append(np.reshape(row, (4, 3)))
    assert (depths[0][:, 0] > 0.007).all() and (depths[0][:, 1] > 0.0055).all() and (depths[0][:, 2] > 0.004).all()
    assert (depths[1] > 0.8 * depths[0]).all()


def test_thumb_joints_bend_towards_the_palm(arm):
    """Bending the thumb's outer joints moves its tip towards the little finger's side, never away from the hand."""
    for joint in ("thumb_mcp", "thumb_ip"):
        angles = np.zeros(pose.NUM_ANGLES)
        before = pose.bone_motions(arm, angles)[1][4]
        angles[pose.ANGLES.index(joint)] = 0.7
        after = pose.bone_motions(arm, angles)[1][4]
        assert after[0] < before[0] - 0.005


def test_limits_hold_and_are_reached_again(arm):
    rng = np.random.default_rng(0)
    for _ in range(50):
        angles = pose.respect_anatomy(rng.normal(0, 2, pose.NUM_ANGLES))
        assert (angles >= pose.LIMITS[:, 0] - 1e-12).all() and (angles <= pose.LIMITS[:, 1] + 1e-12).all()


def test_an_allowed_pose_stays_as_it_is():
    rng = np.random.default_rng(0)
    for name in actions.ACTIONS:
        angles = actions.action_angles(name)
        actions.vary(rng, angles)
        allowed = pose.respect_anatomy(angles)
        np.testing.assert_allclose(pose.respect_anatomy(allowed), allowed, atol=1e-3)


def test_pinches_touch(arm):
    for name in ("ok", "pinch", "pen"):
        contact = actions.ACTIONS[name][0].contact
        start = pose.respect_anatomy(actions.action_angles(name))
        points = pose.bone_motions(arm, actions.touch(arm, start, contact))[1]
        pulps = pose.pulps(arm, points)
        gap = np.linalg.norm(pulps[0] - pulps[contact.finger])
        assert gap < 1.15 * (arm.radii[0, 2] + arm.radii[contact.finger, 2])


def test_sampled_poses_do_not_run_into_themselves(arm):
    rng = np.random.default_rng(1)
    depths = []
    for _ in range(60):
        _, angles, _ = actions.sample_pose(rng, arm, actions.TRAINING)
        depths.append(float(pose.penetration(arm, pose.bone_motions(arm, angles)[1])))
    assert np.mean(np.array(depths) < 0.002) > 0.9 and max(depths) < 0.008


@pytest.fixture(scope="module")
def sampled(maker):
    """Keypoints (N, 21, 3) of poses of many characters."""
    rng = np.random.default_rng(2)
    return np.array(
        [actions.sample_pose(rng, maker.source.characters.arm(i % 20), actions.TRAINING)[2] for i in range(800)]
    )


def test_knuckles_bend_as_peoples_do(sampled):
    """Published ranges of the joints, see hand_pose_3d.rendering.actions: flexed when open, 70 to 90 in a fist."""
    mcp, pip, _ = np.moveaxis(np.degrees(pose.flexion(sampled)), -1, 0)
    folded = folded_fingers(sampled).sum(axis=1)
    is_open = folded == 0
    assert is_open.mean() > 0.3 and (folded == 4).mean() > 0.08
    medians = np.median(mcp[is_open], axis=0)
    assert (medians > 15).all() and (medians < 35).all() and 15 < np.median(mcp[is_open]) < 30
    assert (mcp[is_open] < -5).mean() < 0.03
    fists = (folded == 4) & (pip > 75).all(axis=1) & (mcp > 45).all(axis=1)
    assert fists.mean() > 0.04 and 65 < np.median(mcp[fists]) < 90
    assert (((pip > 60) & (mcp < 25)).sum(axis=1) >= 3).mean() < 0.05  # hooks


def test_last_joints_follow_and_neighbours_move_together(sampled):
    flexion = pose.flexion(sampled)
    pip, dip = flexion[..., 1], flexion[..., 2]
    bent = pip > 0.5
    assert 0.45 < np.median(dip[bent] / pip[bent]) < 0.7
    correlation = np.corrcoef(flexion[..., 0].T)
    assert min(correlation[k, k + 1] for k in range(3)) > 0.4
    assert correlation[0, 3] < correlation[2, 3]


def test_flexion_is_what_the_joints_were_bent_by(arm):
    angles = np.zeros((2, pose.NUM_ANGLES))
    pose.fingers(angles[1])[:, 1:] = np.radians([40, 50, 30])
    straight, bent = np.degrees(pose.flexion(pose.phalanges(arm, angles)[1]))
    np.testing.assert_allclose((bent - straight)[..., 0], 40, atol=3)
    np.testing.assert_allclose(bent[:, 1:], np.tile([50.0, 30.0], (4, 1)), atol=1e-5)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    points = pose.phalanges(arm, angles)[1]
    np.testing.assert_allclose(pose.flexion(points @ turn.T + 0.3), pose.flexion(points), atol=1e-6)
    assert not folded_fingers(points).any()


def test_folded_fingers_are_counted(arm):
    for name, expected in (("open", [0, 0, 0, 0]), ("point", [0, 1, 1, 1]), ("call", [1, 1, 1, 0]), ("fist", [1] * 4)):
        points = pose.phalanges(arm, actions.action_angles(name))[1]
        np.testing.assert_array_equal(folded_fingers(points), expected)


def test_penetration_sees_a_finger_through_a_palm(arm):
    keypoints = pose.bone_motions(arm, np.zeros(pose.NUM_ANGLES))[1]
    assert pose.penetration(arm, keypoints) == 0
    keypoints[8] = 0.5 * (keypoints[WRIST] + keypoints[MIDDLE_MCP])
    assert pose.penetration(arm, keypoints) > 0.005


@pytest.mark.parametrize(
    "segments",
    [([0, 0, 0], [1, 0, 0], [0.5, 1, -1], [0.5, 1, 1], 1.0), ([0, 0, 0], [1, 0, 0], [3, 0, 0], [4, 0, 0], 2.0)],
)
def test_segment_distances(segments):
    *ends, expected = segments
    assert pose.segment_distances(*(np.array([e], float) for e in ends))[0] == pytest.approx(expected)


def test_characters_have_human_proportions(maker):
    """Mean and spread of hand measures over all characters, against hand surveys of adults and half-grown children."""
    characters: Characters = maker.source.characters
    keypoints = np.array(
        [pose.bone_motions(characters.arm(i), np.zeros(pose.NUM_ANGLES))[1] for i in range(len(characters))]
    )
    lengths = np.array([bone_lengths(k) for k in keypoints])
    total = lengths[:, 8:12].sum(axis=1)  # wrist to middle fingertip
    assert 0.165 < total.mean() < 0.20 and total.min() > 0.12 and total.max() < 0.23
    palm = np.linalg.norm(keypoints[:, MIDDLE_MCP] - keypoints[:, WRIST], axis=1) / total
    assert 0.40 < palm.mean() < 0.48
    first = np.linalg.norm(keypoints[:, INDEX_PIP] - keypoints[:, INDEX_MCP], axis=1) / total
    assert 0.20 < first.mean() < 0.26
    fingers = [lengths[:, k : k + 3].sum(axis=1) for k in (5, 9, 13, 17)]  # knuckle to tip
    assert 0.72 < (fingers[3] / fingers[1]).mean() < 0.8  # 0.76, Buryanov and Kotiuk, 2010
    assert 0.92 < (fingers[2] / fingers[1]).mean() < 0.98
    assert (lengths[:, 9:12].argmax(axis=1) == 0).all()  # a middle finger's first bone is its longest
    assert lengths.std(axis=0).min() > 0.0003  # people differ


def test_tips_lie_at_the_ends_of_fingers_and_last_bones_are_as_long_as_peoples(maker):
    """Distal bone, pulp and half a joint, in shares of the hand: Buryanov and Kotiuk, Int. J. Morphol. 28, 2010."""
    characters: Characters = maker.source.characters
    shares = []
    for i in range(0, len(characters), 5):
        arm = characters.arm(i)
        bones = arm.template.finger_bones[:, 2]
        for finger in range(5):
            own = arm.vertices[arm.template.dominant == bones[finger]]
            onwards = arm.tips[finger] - arm.finger_heads[finger, 2]
            onwards /= np.linalg.norm(onwards)
            assert 0.0005 < ((own - arm.tips[finger]) @ onwards).max() < 0.004
        keypoints = pose.phalanges(arm, np.zeros(pose.NUM_ANGLES))[1]
        hand = bone_lengths(keypoints)[8:12].sum()
        shares.append(arm.phalanx_lengths[:, 2, 0] / hand)
    thumb, index, middle, ring, little = np.mean(shares, axis=0)
    assert 0.14 < thumb < 0.18
    for share in (index, middle, ring):
        assert 0.12 < share < 0.155
    assert 0.10 < little < 0.135


def test_hands_are_shown_as_people_show_them():
    """Left hands in camera axes: an open palm looks at the camera, a thumb points up, an own hand points away."""
    rng = np.random.default_rng(5)

    def mean(action, egocentric=False):
        turns = np.array([actions.typical_view(rng, action, egocentric) for _ in range(200)])
        np.testing.assert_allclose(turns @ turns.swapaxes(1, 2), np.broadcast_to(np.eye(3), turns.shape), atol=1e-9)
        assert np.linalg.det(turns).min() > 0
        return turns.mean(axis=0)

    assert mean("open")[2, 2] > 0.2 and mean("open")[1, 1] < -0.6  # back away from the camera, fingers up
    assert mean("thumb up")[1, 0] < -0.6
    assert mean("relaxed")[1, 1] > mean("open")[1, 1] + 0.5
    assert mean("grasp can", egocentric=True)[2, 1] > 0.2


def test_part_classes_cover_the_hand(arm):
    assert set(arm.template.part) == set(range(1, 18))
