"""The second engine. What needs Blender's module is skipped without it; the rest says what happens then."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from hand_pose_3d import cli
from hand_pose_3d.errors import HandPoseError, InvalidInputError
from hand_pose_3d.rendering import dataset
from hand_pose_3d.rendering.assemble import Assembly, assemble
from hand_pose_3d.rendering.background import harmonics_basis, procedural_environment, rotate_harmonics
from hand_pose_3d.rendering.dataset import RenderOptions, render_dataset
from hand_pose_3d.rendering.sampling import sample_scene


@pytest.fixture
def no_bpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "bpy", None)


@pytest.fixture(scope="module")
def cycles(maker):
    pytest.importorskip("bpy", reason="Blender's module is not installed (pip install hand_pose_3d[cycles])")
    from hand_pose_3d.rendering.cycles import Cycles

    return Cycles()


@pytest.fixture(scope="module")
def assembly(maker):
    """Two hands alone, nothing before or behind them."""
    scenes = (sample_scene(maker.source, "training", 0, i) for i in range(99))
    scene = next(s for s in scenes if len(s.hands) == 2)
    return assemble(replace(scene, props=(), people=()), maker.source)


def test_without_bpy_the_extra_is_named_and_nothing_is_written(no_bpy, tmp_path):
    out = tmp_path / "set"
    with pytest.raises(HandPoseError, match=r"pip install 'hand_pose_3d\[cycles\]'"):
        render_dataset(RenderOptions(out, 2, engine="cycles"), progress=False)
    assert not out.exists()


def test_the_command_line_offers_both_engines(no_bpy, tmp_path):
    arguments = ["render", "--out", str(tmp_path / "set"), "--count", "2", "--engine"]
    refused = CliRunner().invoke(cli.main, [*arguments, "eevee"])
    assert refused.exit_code == 2 and "'rasteriser', 'cycles'" in refused.output
    missing = CliRunner().invoke(cli.main, [*arguments, "cycles"])
    assert missing.exit_code == 1 and "hand_pose_3d[cycles]" in missing.output


def test_unknown_engine_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="rasteriser, cycles"):
        RenderOptions(tmp_path, 1, engine="eevee")


def test_a_folder_keeps_its_engine(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "000000-000001.pickle").touch()
    ours, theirs = (RenderOptions(tmp_path, 1, engine=engine) for engine in dataset.ENGINES)
    dataset._check_same(tmp_path, ours)
    dataset._check_same(tmp_path, ours)
    with pytest.raises(HandPoseError, match="choose another folder"):
        dataset._check_same(tmp_path, theirs)

    path = tmp_path / "parts" / "identity.json"  # of a data set from before there were two
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "engine"}))
    dataset._check_same(tmp_path, ours)
    with pytest.raises(HandPoseError, match="choose another folder"):
        dataset._check_same(tmp_path, theirs)


def test_the_card_names_the_engine(tmp_path):
    card = dataset.data_card(RenderOptions(tmp_path, 1, engine="cycles"), {"frames": 1})
    assert "- engine: cycles" in card and "--engine cycles" in card


def test_materials_do_not_depend_on_light_and_lie_where_the_meshes_are(maker, assembly):
    g_buffer = maker.engine.g_buffer(assembly)
    dark = replace(assembly, lighting={**assembly.lighting, "key": (0.0, 0.0, 0.0), "exposure": 0.1})
    np.testing.assert_array_equal(maker.engine.g_buffer(dark).albedo, g_buffer.albedo)
    assert g_buffer.mesh.any() and set(np.unique(g_buffer.mesh)) <= set(range(len(assembly.arms) + 1))
    side = len(g_buffer.mesh)
    pixel = ((np.arange(320) + 0.5) * side / 320).astype(int)
    label = maker.engine.render(assembly).label
    assert ((g_buffer.mesh[np.ix_(pixel, pixel)] > 0) != (label > 0)).mean() < 0.005
    shown = g_buffer.mesh > 0
    assert 0 < g_buffer.albedo[shown].mean() < 1
    for share in (g_buffer.roughness, g_buffer.metal, g_buffer.skin, g_buffer.cloth):
        assert share[shown].min() >= 0 and share[shown].max() <= 1
    assert g_buffer.skin[shown].max() == 1


def test_silhouettes_agree_with_the_label_picture(cycles, assembly):
    covered = cycles.trace(assembly)[..., 3] > 0.5
    label = cycles.render(assembly).label > 0
    assert (covered & label).sum() > 0.98 * (covered | label).sum() > 0


def test_a_frame_can_be_rendered_again(cycles, assembly):
    first, second = cycles.render(assembly), cycles.render(assembly)
    np.testing.assert_array_equal(first.colour, second.colour)
    other = cycles.render(replace(assembly, seed=assembly.seed + 1))
    assert not np.array_equal(first.colour, other.colour)
    np.testing.assert_array_equal(first.label, other.label)


def test_the_environment_lights_from_where_its_harmonics_say(cycles, maker):
    """A dull ball under a made-up sky, seen by a turned camera."""
    from hand_pose_3d.rendering.assemble import _prop_mesh
    from hand_pose_3d.rendering.scene import Prop

    sky = procedural_environment(np.random.default_rng(5))
    turn = sample_scene(maker.source, "training", 0, 4).rotation_world_camera
    harmonics = rotate_harmonics(sky.harmonics, turn)
    colours = np.full((2, 3), 0.5)
    centre, radius, focal = np.array([0, 0, 1.0]), 0.3, 400.0
    ball = Prop("ball", np.full(3, 2 * radius), np.eye(3), centre, colours, 0.0, False, 0.0, 0.0, 1.0, 3.0)
    none = (0.0, 0.0, 0.0)
    scene = Assembly(
        intrinsics=np.array([[focal, 0, 159.5], [0, focal, 159.5], [0, 0, 1]]),
        arms=[],
        props=[_prop_mesh(ball)],
        lighting={"key": none, "fill": none, "key_direction": (0, 0, -1), "fill_direction": (0, 0, -1)},
        background=np.zeros((320, 320, 3), np.uint8),
        shadow_centre=centre,
        shadow_radius=radius,
        environment=sky,
        rotation_world_camera=turn,
        seed=0,
    )
    traced = cycles.trace(scene)
    ray = np.dstack([*(np.indices((320, 320))[::-1] - 159.5) / focal, np.ones((320, 320))])
    a, b = (ray**2).sum(axis=-1), ray @ centre
    discriminant = b**2 - a * (centre @ centre - radius**2)
    inside = discriminant > 0.02
    depth = (b[inside] - np.sqrt(discriminant[inside])) / a[inside]
    normal = (ray[inside] * depth[:, None] - centre) / radius
    expected = harmonics_basis(normal) @ harmonics
    shown = traced[inside][:, :3] / 0.5
    assert np.corrcoef(shown.ravel(), expected.ravel())[0, 1] > 0.9
    assert np.mean(shown) == pytest.approx(np.mean(expected), rel=0.15)
