import gc

import numpy as np
import pytest

from hand_pose_3d.rendering.assemble import assemble
from hand_pose_3d.rendering.background import (
    harmonics_basis,
    procedural_environment,
    project_harmonics,
    rotate_harmonics,
)
from hand_pose_3d.rendering.camera_effects import apply_camera_effects, motion_kernel
from hand_pose_3d.rendering.character import NUM_EVALUATION, NUM_TRAINING
from hand_pose_3d.rendering.colours import skin_tone, unlike_skin
from hand_pose_3d.rendering.objects import unit_shape
from hand_pose_3d.rendering.rasteriser import Rasteriser
from hand_pose_3d.rendering.sampling import sample_scene
from hand_pose_3d.skeleton import Side


def test_a_scene_depends_on_seed_split_and_index_only(maker):
    a, b = (sample_scene(maker.source, "training", 4, 17) for _ in range(2))
    assert [h.action for h in a.hands] == [h.action for h in b.hands]
    np.testing.assert_array_equal(a.hands[0].angles, b.hands[0].angles)
    np.testing.assert_array_equal(a.hands[0].wrist_camera_m, b.hands[0].wrist_camera_m)
    other = sample_scene(maker.source, "training", 4, 18)
    assert not np.array_equal(a.hands[0].wrist_camera_m, other.hands[0].wrist_camera_m)


def test_splits_share_no_character_and_sides_are_balanced(maker):
    scenes = {s: [sample_scene(maker.source, s, 0, i) for i in range(120)] for s in ("training", "evaluation")}
    people = {s: {h.arm.character for scene in scenes[s] for h in scene.hands} for s in scenes}
    assert not people["training"] & people["evaluation"]
    assert max(people["training"]) < NUM_TRAINING <= min(people["evaluation"])
    assert max(people["evaluation"]) < NUM_TRAINING + NUM_EVALUATION
    sides = [h.side for scene in scenes["training"] for h in scene.hands]
    assert 0.38 < np.mean([s is Side.LEFT for s in sides]) < 0.62
    for scene in scenes["training"]:
        near = [h.side for h in scene.hands if not h.background]
        assert len(set(near)) == len(near)  # RHD has room for one of each side


def test_distributions_are_wide(maker):
    scenes = [sample_scene(maker.source, "training", 0, i) for i in range(300)]
    hands = [h for s in scenes for h in s.hands]
    tones = np.array([h.skin.tone for h in hands])
    assert np.histogram(tones, bins=4, range=(0, 1))[0].min() > 0.15 * len(hands)
    palms = np.array([h.rotation_camera_hand[2, 2] for h in hands])
    assert np.mean(palms > 0.3) > 0.2 and np.mean(palms < -0.3) > 0.2
    distance = np.array([h.wrist_camera_m[2] for h in hands])
    assert distance.min() < 0.3 and distance.max() > 0.9
    assert 0.1 < np.mean(["object" in s.tags for s in scenes]) < 0.6
    assert 0.2 < np.mean(["person" in s.tags for s in scenes]) < 0.8


def test_rotations_are_rotations(maker):
    for i in range(20):
        for hand in sample_scene(maker.source, "training", 2, i).hands:
            r = hand.rotation_camera_hand
            np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-9)
            assert np.linalg.det(r) == pytest.approx(1)


def test_harmonics_give_back_the_irradiance_of_an_even_sky_and_turn_with_the_camera():
    even = np.ones((32, 64, 3))
    coefficients = project_harmonics(even)
    directions = np.array([[0, 1.0, 0], [1, 0, 0], [0, 0, -1]])
    np.testing.assert_allclose(harmonics_basis(directions) @ coefficients, 1, atol=0.01)

    light = procedural_environment(np.random.default_rng(3)).harmonics
    turn = np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]])  # world <- camera
    np.testing.assert_allclose(
        harmonics_basis(directions) @ rotate_harmonics(light, turn),
        harmonics_basis(directions @ turn.T) @ light,
        atol=1e-9,
    )


@pytest.mark.parametrize("kind", ["cylinder", "box", "ball"])
def test_shapes_are_closed_and_face_outwards(kind):
    vertices, normals, _, faces = unit_shape(kind)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    volume = (np.cross(a, b) * c).sum() / 6
    expected = {"cylinder": np.pi / 4, "box": 1.0, "ball": np.pi / 6}[kind]
    assert volume == pytest.approx(expected, rel=0.06)
    facing = (np.cross(b - a, c - a) * (normals[faces[:, 0]] + normals[faces[:, 1]] + normals[faces[:, 2]])).sum(axis=1)
    assert (facing >= -1e-12).all()


@pytest.mark.parametrize("length", [1.0, 3.0, 4.0, 6.5, 8.0, 9.9])
def test_motion_moves_no_picture_against_its_labels(length):
    for angle in np.linspace(0, np.pi, 9):
        kernel = motion_kernel(length, angle)
        v, u = np.indices(kernel.shape) - (len(kernel) - 1) / 2
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        assert abs((kernel * u).sum()) < 1e-4 and abs((kernel * v).sum()) < 1e-4


def test_camera_effects_keep_the_size_and_is_repeatable(maker):
    picture = np.random.default_rng(0).integers(0, 255, (320, 320, 3)).astype(np.uint8)
    for i in range(12):
        effects = sample_scene(maker.source, "training", 5, i).camera_effects
        first, second = (apply_camera_effects(picture, effects, np.random.default_rng(1)) for _ in range(2))
        assert first.shape == picture.shape and first.dtype == np.uint8
        np.testing.assert_array_equal(first, second)


def test_renderers_of_one_process_do_not_disturb_each_other(maker):
    scene = assemble(sample_scene(maker.source, "training", 6, 1), maker.source)
    alone = maker.engine.render(scene)
    other = Rasteriser(maker.engine.size)
    for rasteriser in (other, maker.engine, other):
        for one, again in zip(alone, rasteriser.render(scene), strict=True):
            np.testing.assert_array_equal(one, again)
    del other, rasteriser
    gc.collect()
    for one, again in zip(alone, maker.engine.render(scene), strict=True):
        np.testing.assert_array_equal(one, again)


def test_people_are_clothed_but_for_head_neck_and_forearms(maker):
    people = maker.source.people
    body = people.body(0)
    height = body.vertices[:, 2] - body.head[2]
    assert (body.cloth[height < -0.3] > 0.99).all()  # everything from the chest down, arms included
    assert (body.cloth[height > -0.05] < 0.01).all()
    assert set(people.indices("training")).isdisjoint(people.indices("evaluation"))


def test_cloth_is_never_the_colour_of_skin(maker):
    skin = np.stack([skin_tone(t) for t in np.linspace(0, 1, 40)]) * np.random.default_rng(0).uniform(0.5, 1, (40, 1))
    exchanged = unlike_skin(skin)
    np.testing.assert_array_equal(exchanged, skin[:, ::-1])
    np.testing.assert_array_equal(unlike_skin(exchanged), exchanged)
    for i in range(40):
        scene = sample_scene(maker.source, "training", 3, i)
        worn = [h.clothing.colours for h in scene.hands] + [p.trouser_colour for p in scene.people]
        for colours in worn:
            np.testing.assert_array_equal(unlike_skin(colours), colours)


def test_pictures_do_not_depend_on_the_frame_before(maker):
    scenes = [sample_scene(maker.source, "training", 6, i) for i in range(12)]
    bare = [assemble(scene, maker.source) for scene in scenes if not scene.props]  # props have no label
    bare.sort(key=lambda a: min(points[:, 2].min() for _, points in a.keypoints_m))
    near, far = bare[0], bare[-1]
    first, look = maker.engine.render(far), maker.engine.g_buffer(far)
    maker.engine.g_buffer(near)
    maker.engine.render(near)
    for one, other in zip(
        (*first, look.mesh), (*maker.engine.render(far), maker.engine.g_buffer(far).mesh), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert (look.mesh > 0).mean() < 0.5 and (first.label > 0).any()
    assert not first.depth_m[first.label == 0].any()
