"""Cycles, the path tracer of Blender: the rasteriser's scenes, labels and materials under global illumination.

bpy is GPL: it is an optional extra, and only :class:`Cycles` imports it.
Labels and depth are the rasteriser's. The materials are too: its G-buffer is projected onto the meshes
from the camera, so that both engines show the same skin, cloth and props.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hand_pose_3d.errors import HandPoseError
from hand_pose_3d.rendering.assemble import Assembly, SceneMesh, tone_curve
from hand_pose_3d.rendering.rasteriser import FAR_M, NEAR_M, GBuffer, Rasteriser, RenderedFrame

_SAMPLES_PER_PIXEL = 8
"""Samples per pixel, few because the result is denoised; chosen by eye."""
_THREADS = 1
"""Threads of one engine; frames are rendered in parallel by worker processes."""
_SENSOR_MM = 36.0  # Blender's default width, to which focal lengths are converted
_ENVIRONMENT_SIZE = (512, 256)  # (width, height), pixels
_KEY_ANGLE, _FILL_ANGLE = 0.06, 1.6
"""Angular size, radians, of the key light (a lamp, or the sun behind haze) and of the fill light (a bright wall);
chosen by eye."""
_SKIN_IOR = 1.4  # usual index of refraction of skin in renderers
_SCATTERING_SHARE, _SCATTERING_M, _SCATTERING_RGB = 0.45, 0.003, (1.0, 0.45, 0.28)
"""Subsurface scattering of skin: share of the light, mean distance in metres, and relative distance of red, green and
blue. Chosen by eye: with a full share the palm of a lit hand turns green."""
_TO_BLENDER_WORLD = np.array([[0, 0, 1.0], [1.0, 0, 0], [0, 1.0, 0]])
"""From our world axes (y up, map's middle at +z) to Blender's (z up, map's middle at +x)."""


def check_installed() -> None:
    """Raise HandPoseError without bpy. Does not import it: it changes the paths that worker processes inherit."""
    if find_spec("bpy") is None:
        raise HandPoseError(
            "the cycles engine needs Blender's module bpy, which has wheels for few versions of Python: "
            "pip install 'hand_pose_3d[cycles]'"
        )


class Cycles:
    """Owns Blender's one scene; use it in one thread, and one in a process."""

    def __init__(self, size: int = 320) -> None:
        """size: side of the square pictures. Raises as check_installed and Rasteriser do."""
        check_installed()
        import bpy

        self._bpy: Any = bpy
        self._rasteriser = Rasteriser(size)
        self.size = size
        self._bpy.ops.wm.read_factory_settings(use_empty=True)
        self._scene = self._bpy.context.scene
        self._set_up_render()
        self._camera = self._add("camera", self._bpy.data.cameras.new("camera"))
        self._camera.matrix_world = np.diag([1.0, -1, -1, 1])  # the world is the camera frame: x right, y down
        self._scene.camera = self._camera
        self._lights = [self._sun("key", _KEY_ANGLE), self._sun("fill", _FILL_ANGLE)]
        self._sky = self._set_up_sky()
        self._folder = tempfile.TemporaryDirectory(prefix="hand_pose_3d-")

    def render(self, scene: Assembly) -> RenderedFrame:
        """Draw one assembled scene."""
        exact = self._rasteriser.render(scene)
        traced = self.trace(scene)
        alpha = traced[..., 3:]
        light = traced[..., :3] / np.maximum(alpha, 1e-6)
        behind = scene.background / np.float32(255)
        shown = behind + alpha * (tone_curve(light * scene.lighting["exposure"]) - behind)
        return RenderedFrame(np.round(shown * 255).astype(np.uint8), exact.label, exact.depth_m, exact.mesh)

    def trace(self, scene: Assembly) -> np.ndarray:
        """(S, S, 4) float32: linear light times coverage, and coverage, of everything but the background."""
        g_buffer = self._rasteriser.g_buffer(scene)
        self._aim(scene.intrinsics)
        self._light(scene)
        sky = self._sky_picture(scene)
        made: list[Any] = [sky]
        for number, mesh in enumerate([*scene.arms, *scene.props], 1):
            made += self._mesh(mesh, g_buffer, number)
        path = Path(self._folder.name) / "traced.exr"
        with _quiet():
            self._bpy.ops.render.render()
            self._bpy.data.images["Render Result"].save_render(str(path))
        picture = self._bpy.data.images.load(str(path))
        pixels = np.empty((self.size, self.size, 4), np.float32)
        picture.pixels.foreach_get(pixels.ravel())
        self._bpy.data.batch_remove([*made, picture])
        return np.nan_to_num(pixels[::-1], posinf=0, neginf=0)

    def _set_up_render(self) -> None:
        render, cycles = self._scene.render, self._scene.cycles
        render.engine = "CYCLES"
        render.resolution_x = render.resolution_y = self.size
        render.threads_mode, render.threads = "FIXED", _THREADS
        render.film_transparent = True
        render.filter_size = 1.2
        render.image_settings.file_format = "OPEN_EXR"
        render.image_settings.color_mode, render.image_settings.color_depth = "RGBA", "32"
        cycles.device = "CPU"
        cycles.samples = _SAMPLES_PER_PIXEL
        cycles.use_adaptive_sampling = False
        cycles.use_denoising, cycles.denoiser = True, "OPENIMAGEDENOISE"
        cycles.denoising_prefilter, cycles.denoising_quality = "NONE", "FAST"
        cycles.use_light_tree = False
        cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 3, 2, 1
        cycles.caustics_reflective = cycles.caustics_refractive = False
        cycles.sample_clamp_direct, cycles.sample_clamp_indirect = 20.0, 4.0

    def _add(self, name: str, data: Any) -> Any:
        item = self._bpy.data.objects.new(name, data)
        self._scene.collection.objects.link(item)
        return item

    def _sun(self, name: str, angle: float) -> Any:
        data = self._bpy.data.lights.new(name, "SUN")
        data.angle = angle
        return self._add(name, data)

    def _set_up_sky(self) -> tuple[Any, Any]:
        """Nodes that turn and hold the environment map."""
        world = self._bpy.data.worlds.new("sky")
        self._scene.world = world
        world.use_nodes = True
        world.cycles.sampling_method, world.cycles.sample_map_resolution = "MANUAL", 256
        tree = world.node_tree
        place, turn, picture = (
            tree.nodes.new(f"ShaderNode{kind}") for kind in ("TexCoord", "Mapping", "TexEnvironment")
        )
        tree.links.new(place.outputs["Generated"], turn.inputs["Vector"])
        tree.links.new(turn.outputs["Vector"], picture.inputs["Vector"])
        tree.links.new(picture.outputs["Color"], tree.nodes["Background"].inputs["Color"])
        return turn, picture

    def _aim(self, intrinsics: np.ndarray) -> None:
        camera, n = self._camera.data, self.size
        camera.sensor_fit, camera.sensor_width = "HORIZONTAL", _SENSOR_MM
        camera.lens = intrinsics[0, 0] * _SENSOR_MM / n
        camera.shift_x = 0.5 - (intrinsics[0, 2] + 0.5) / n
        camera.shift_y = (intrinsics[1, 2] + 0.5) / n - 0.5
        camera.clip_start, camera.clip_end = NEAR_M, FAR_M

    def _light(self, scene: Assembly) -> None:
        from mathutils import Vector

        self._scene.cycles.seed = scene.seed
        for item, name in zip(self._lights, ("key", "fill"), strict=True):
            colour = np.array(scene.lighting[name])
            strength = max(float(colour.max()), 1e-6)
            item.data.color, item.data.energy = colour / strength, np.pi * strength  # of albedo 1 it shows `colour`
            direction = Vector(scene.lighting[f"{name}_direction"])
            item.matrix_world = direction.to_track_quat("Z", "Y").to_matrix().to_4x4()

    def _sky_picture(self, scene: Assembly) -> Any:
        import cv2
        from mathutils import Matrix

        turn, holder = self._sky
        rotation = _TO_BLENDER_WORLD @ scene.rotation_world_camera
        turn.inputs["Rotation"].default_value = Matrix(rotation.tolist()).to_euler("XYZ")
        pixels = scene.environment.pixels
        if pixels.shape[1] > _ENVIRONMENT_SIZE[0]:
            pixels = cv2.resize(pixels, _ENVIRONMENT_SIZE, interpolation=cv2.INTER_AREA)
        holder.image = self._picture("sky", pixels, np.ones(pixels.shape[:2]))
        return holder.image

    def _picture(self, name: str, colour: np.ndarray, alpha: np.ndarray) -> Any:
        """A picture of plain numbers from colour (H, W, 3) and alpha (H, W), first row on top."""
        height, width = alpha.shape
        image = self._bpy.data.images.new(name, width, height, alpha=True, float_buffer=True, is_data=True)
        image.alpha_mode = "CHANNEL_PACKED"
        image.pixels.foreach_set(np.dstack([colour, alpha])[::-1].astype(np.float32).ravel())
        image.update()
        return image

    def _mesh(self, mesh: SceneMesh, g_buffer: GBuffer, number: int) -> list[Any]:
        """Blender's data for one mesh; deleting them deletes its object."""
        used, faces = np.unique(mesh.faces, return_inverse=True)
        faces = faces.reshape(-1, 3)[:, :: -1 if mesh.mirrored else 1]
        data = self._bpy.data.meshes.new(f"mesh {number}")
        data.vertices.add(len(used))
        data.vertices.foreach_set("co", mesh.moving[used, :3].astype(np.float32).ravel())
        data.loops.add(faces.size)
        data.loops.foreach_set("vertex_index", faces.astype(np.int32).ravel())
        data.polygons.add(len(faces))
        data.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
        data.update(calc_edges=True)
        data.normals_split_custom_set_from_vertices(mesh.moving[used, 3:].astype(np.float32))
        material, pictures = self._material(g_buffer, number)
        data.materials.append(material)
        item = self._add(f"mesh {number}", data)
        item.visible_shadow = mesh.casts_shadow
        item.cycles.shadow_terminator_geometry_offset = 0.1
        return [item, data, material, *pictures]

    def _material(self, g_buffer: GBuffer, number: int) -> tuple[Any, list[Any]]:
        """The rasteriser's G-buffer of a mesh, projected onto it; hidden parts get the nearest visible values."""
        rows, columns = _nearest(g_buffer.mesh == number)
        colour = self._picture("colour", g_buffer.albedo[rows, columns], g_buffer.height_m[rows, columns])
        kinds = np.stack([g_buffer.roughness, g_buffer.metal, g_buffer.skin], axis=-1)[rows, columns]
        finish = self._picture("finish", kinds, g_buffer.cloth[rows, columns])
        material = self._bpy.data.materials.new(f"mesh {number}")
        material.use_nodes = True
        material.use_transparent_shadow = False
        material.displacement_method = "BUMP"
        _connect(material.node_tree, colour, finish)
        return material, [colour, finish]


def _connect(tree: Any, colour: Any, finish: Any) -> None:
    """Nodes from the two pictures (albedo and height; roughness, metal, skin and cloth) to the surface."""

    def node(kind: str, **values: Any) -> Any:
        made = tree.nodes.new(f"ShaderNode{kind}")
        for name, value in values.items():
            setattr(made, name, value)
        return made

    def scaled(source: Any, factor: float, offset: float = 0.0) -> Any:
        made = node("Math", operation="MULTIPLY_ADD")
        tree.links.new(source, made.inputs[0])
        made.inputs[1].default_value, made.inputs[2].default_value = factor, offset
        return made.outputs[0]

    window = node("TexCoord").outputs["Window"]
    seen, wrinkles, kinds = (
        node("TexImage", image=image, interpolation=interpolation, extension="EXTEND")
        for image, interpolation in ((colour, "Linear"), (colour, "Cubic"), (finish, "Linear"))
    )
    for picture in (seen, wrinkles, kinds):
        tree.links.new(window, picture.inputs["Vector"])
    parts, bump = node("SeparateColor"), node("Bump")
    tree.links.new(kinds.outputs["Color"], parts.inputs[0])
    bump.inputs["Distance"].default_value = 1.0
    tree.links.new(wrinkles.outputs["Alpha"], bump.inputs["Height"])
    roughness, metal, skin = parts.outputs
    cloth = kinds.outputs["Alpha"]

    surface = tree.nodes["Principled BSDF"]
    surface.inputs["IOR"].default_value = _SKIN_IOR
    surface.inputs["Subsurface Scale"].default_value = _SCATTERING_M
    surface.inputs["Subsurface Radius"].default_value = _SCATTERING_RGB
    for source, name in (
        (seen.outputs["Color"], "Base Color"),
        (roughness, "Roughness"),
        (metal, "Metallic"),
        (scaled(skin, _SCATTERING_SHARE), "Subsurface Weight"),
        (scaled(cloth, -0.42, 0.5), "Specular IOR Level"),
        (bump.outputs["Normal"], "Normal"),
    ):
        tree.links.new(source, surface.inputs[name])

    # As in the rasteriser, the camera looks through the inside of open ends.
    inside, ray, both = node("NewGeometry"), node("LightPath"), node("Math", operation="MULTIPLY")
    tree.links.new(inside.outputs["Backfacing"], both.inputs[0])
    tree.links.new(ray.outputs["Is Camera Ray"], both.inputs[1])
    mix = node("MixShader")
    for source, target in zip(
        (both.outputs[0], surface.outputs[0], node("BsdfTransparent").outputs[0]), mix.inputs, strict=True
    ):
        tree.links.new(source, target)
    tree.links.new(mix.outputs[0], tree.nodes["Material Output"].inputs["Surface"])


def _nearest(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column (H, W) of the nearest chosen pixel (H, W) of every pixel."""
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(~chosen, return_distances=False, return_indices=True)
    return rows, columns


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Blender's messages about every frame, which bypass sys.stdout."""
    sys.stdout.flush()
    saved, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)
