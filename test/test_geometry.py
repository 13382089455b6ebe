"""The paper's normalisation, canonical frame and viewpoint, and alignments: algebra that holds for every hand."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from hand_pose_3d.geometry import (
    DegenerateHandError,
    align_rigid,
    align_scale,
    align_similarity,
    bone_length,
    canonical_rotation,
    from_canonical,
    normalise,
    to_canonical,
    wrist_rotation,
)
from hand_pose_3d.skeleton import (
    AUTHORS_REFERENCE_BONE,
    INDEX_MCP,
    INDEX_PIP,
    LITTLE_MCP,
    MIDDLE_MCP,
    REFERENCE_BONE,
    TO_PAPER,
    WRIST,
    Side,
)

REFLECTION = np.diag([-1.0, 1.0, 1.0])


@st.composite
def hands(draw):
    """Keypoints whose frame and reference bones are well defined."""
    seed = draw(st.integers(0, 2**32 - 1))
    points = np.random.default_rng(seed).normal(size=(21, 3))
    relative = points - points[WRIST]
    middle, little = relative[MIDDLE_MCP], relative[LITTLE_MCP]
    assume(np.linalg.norm(np.cross(middle, little)) > 0.2)
    assume(bone_length(points) > 0.1 and bone_length(points, AUTHORS_REFERENCE_BONE) > 0.1)
    return points


@st.composite
def rotations(draw):
    return Rotation.random(random_state=draw(st.integers(0, 2**32 - 1))).as_matrix()


VECTORS = st.tuples(*[st.floats(-10, 10)] * 3).map(np.array)
SCALES = st.floats(0.01, 100)


def authors_transform(relative):
    """The authors' rotation of row vectors: about z, x and y in turn, each from the angle that is left."""
    x = relative[TO_PAPER]

    def about_z(a):
        return np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])

    def about_x(a):
        return np.array([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])

    def about_y(a):
        return np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])

    total = about_z(np.arctan2(x[12, 0], x[12, 1]))
    turned = x @ total
    total = total @ about_x(np.pi - np.arctan2(turned[12, 2], turned[12, 1]))
    turned = x @ total
    return total @ about_y(np.arctan2(turned[20, 2], turned[20, 0]))


@given(hands(), VECTORS, SCALES)
def test_normalised_keypoints_know_neither_position_nor_scale(points, shift, scale):
    relative, length = normalise(points)
    moved, moved_length = normalise(scale * points + shift)
    np.testing.assert_allclose(moved, relative, atol=1e-6)
    assert moved_length == pytest.approx(scale * length)
    np.testing.assert_array_equal(relative[WRIST], 0)
    assert bone_length(relative) == pytest.approx(1)
    np.testing.assert_allclose(relative * length + points[WRIST], points, atol=1e-9)


@pytest.mark.parametrize("bone", [REFERENCE_BONE, AUTHORS_REFERENCE_BONE])
def test_the_reference_bone_is_the_one_asked_for(bone):
    points = np.random.default_rng(0).normal(size=(4, 21, 3))
    relative, scale = normalise(points, bone)
    np.testing.assert_allclose(bone_length(relative, bone), 1)
    np.testing.assert_allclose(scale, np.linalg.norm(points[:, bone[1]] - points[:, bone[0]], axis=-1))


def test_paper_uses_the_index_fingers_first_bone():
    assert REFERENCE_BONE == (INDEX_MCP, INDEX_PIP)


@given(hands())
def test_canonical_frame_is_where_the_paper_puts_it(points):
    canonical, rotation = to_canonical(points - points[WRIST])
    middle, little = canonical[MIDDLE_MCP], canonical[LITTLE_MCP]
    np.testing.assert_allclose(middle[[0, 2]], 0, atol=1e-9)
    assert middle[1] < 0
    assert abs(little[2]) < 1e-9 and little[0] > 0
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)


@given(hands())
def test_recomposition_to_the_camera_frame(points):
    relative = points - points[WRIST]
    canonical, rotation = to_canonical(relative)
    np.testing.assert_allclose(from_canonical(canonical, rotation), relative, atol=1e-9)


@given(hands(), rotations())
def test_canonical_coordinates_do_not_know_the_viewpoint(points, turn):
    relative = points - points[WRIST]
    canonical, rotation = to_canonical(relative)
    turned, turned_rotation = to_canonical(relative @ turn.T)
    np.testing.assert_allclose(turned, canonical, atol=1e-6)
    np.testing.assert_allclose(turned_rotation, turn @ rotation, atol=1e-6)


@given(hands())
def test_a_mirrored_hand_has_the_mirrored_canonical_coordinates(points):
    relative = points - points[WRIST]
    canonical, _ = to_canonical(relative)
    mirrored, _ = to_canonical(relative @ REFLECTION)
    # The mirror keeps the rule (-y, and x > 0 for the little finger), so what changes is z alone.
    np.testing.assert_allclose(mirrored, canonical * [1, 1, -1], atol=1e-6)


@given(hands())
def test_same_frame_as_the_authors_code(points):
    relative = points - points[WRIST]
    canonical, rotation = to_canonical(relative)
    transform = authors_transform(relative)
    np.testing.assert_allclose(relative @ transform, canonical, atol=1e-6)
    np.testing.assert_allclose(transform, rotation, atol=1e-6)


def test_batches_are_their_members():
    points = np.random.default_rng(1).normal(size=(3, 2, 21, 3))
    relative, _ = normalise(points)
    canonical, rotation = to_canonical(relative)
    single, single_rotation = to_canonical(relative[2, 1])
    np.testing.assert_allclose(canonical[2, 1], single)
    np.testing.assert_allclose(rotation[2, 1], single_rotation)
    np.testing.assert_allclose(from_canonical(canonical, rotation), relative)


def test_degenerate_hands_are_named():
    with pytest.raises(DegenerateHandError, match="reference bone"):
        normalise(np.zeros((21, 3)))
    with pytest.raises(DegenerateHandError, match="reference bone"):
        normalise(np.full((21, 3), np.nan))
    line = np.outer(np.arange(21.0), [1, 0, 0])
    with pytest.raises(DegenerateHandError, match="little finger"):
        canonical_rotation(line)
    with pytest.raises(DegenerateHandError, match="middle finger"):
        canonical_rotation(np.zeros((21, 3)))


def flat_right_hand():
    """A right hand held up with its back to the camera: thumb towards -x (the camera's left), fingers up (-y)."""
    points = np.zeros((21, 3))
    points[MIDDLE_MCP] = [0, -0.09, 0]
    points[INDEX_MCP], points[LITTLE_MCP] = [-0.03, -0.09, 0], [0.04, -0.08, 0]
    return points


def test_wrist_axes_of_a_right_and_a_left_hand():
    right = wrist_rotation(flat_right_hand(), Side.RIGHT)
    np.testing.assert_allclose(right[:, 0], [0, -1, 0], atol=1e-9)
    np.testing.assert_allclose(right[:, 1], [-1, 0, 0], atol=0.2)  # towards the thumb
    np.testing.assert_allclose(right[:, 2], [0, 0, -1], atol=0.2)  # out of the back, to the camera
    left = wrist_rotation(flat_right_hand() @ REFLECTION, Side.LEFT)
    np.testing.assert_allclose(left[:, 0], [0, -1, 0], atol=1e-9)
    np.testing.assert_allclose(left[:, 2], [0, 0, -1], atol=0.2)
    np.testing.assert_allclose(left[:, 1], right[:, 1], atol=0.2)  # away from the thumb


@given(hands(), rotations(), st.sampled_from([Side.LEFT, Side.RIGHT]))
def test_wrist_turns_with_the_hand(points, turn, side):
    assume(np.linalg.norm(np.cross(points[INDEX_MCP] - points[LITTLE_MCP], points[MIDDLE_MCP] - points[WRIST])) > 0.2)
    rotation = wrist_rotation(points, side)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(wrist_rotation(points @ turn.T, side), turn @ rotation, atol=1e-6)


@given(hands(), rotations(), VECTORS, SCALES)
def test_alignments_undo_what_they_may(points, turn, shift, scale):
    np.testing.assert_allclose(align_rigid(points @ turn.T + shift, points), points, atol=1e-6)
    np.testing.assert_allclose(align_similarity(scale * points @ turn.T + shift, points), points, atol=1e-6)
    np.testing.assert_allclose(align_scale(scale * points + shift, points), points, atol=1e-6)


@settings(max_examples=50)
@given(hands(), hands(), rotations(), st.floats(-0.1, 0.1), VECTORS)
def test_alignments_are_the_least_squares(source, target, turn, growth, shift):
    def error(aligned):
        return np.sum((aligned - target) ** 2)

    best = error(align_similarity(source, target))
    assert best <= error(align_rigid(source, target)) + 1e-9
    small = Rotation.from_rotvec(0.05 * Rotation.from_matrix(turn).as_rotvec()).as_matrix()
    aligned = align_similarity(source, target)
    assert best <= error((1 + growth) * (aligned @ small.T) + 0.05 * shift) + 1e-9
    rooted = align_scale(source, target)
    wrist = target[WRIST]
    assert error(rooted) <= error((1 + growth) * (rooted - wrist) + wrist) + 1e-9
    np.testing.assert_allclose(rooted[WRIST], wrist)


@given(hands())
def test_alignment_never_reflects(points):
    aligned = align_similarity(points @ REFLECTION, points)
    assume(np.linalg.svd(points - points.mean(0), compute_uv=False)[2] > 0.2)
    assert np.abs(aligned - points).max() > 1e-3


def test_alignment_of_batches_is_that_of_members():
    rng = np.random.default_rng(2)
    source, target = rng.normal(size=(4, 21, 3)), rng.normal(size=(4, 21, 3))
    for function in (align_rigid, align_similarity, align_scale):
        np.testing.assert_allclose(function(source, target)[3], function(source[3], target[3]))
