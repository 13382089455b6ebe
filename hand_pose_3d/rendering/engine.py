"""The rasteriser: one scene in, colour, label and depth pictures out (OpenGL 3.3 through EGL, GPU or llvmpipe)."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from hand_pose_3d.errors import DeviceError, HandPoseError
from hand_pose_3d.rendering import shaders
from hand_pose_3d.rendering.assemble import Assembly, SceneMesh

_EGL: dict[str, Any] = {"backend": "egl"}
_NEAR, _FAR = 0.03, 12.0
_SHADOW_SIZE = 384
_SUPERSAMPLING = (1.5, 1.25)
"""Shaded samples per pixel and axis, for small hands and for large ones, which cost most and show it least."""
_LARGE_PX = 170


class Pictures(NamedTuple):
    """colour: (S, S, 3) uint8 RGB. label: (S, S) uint8, RHD's 33 classes. depth_m: (S, S) float32, 0 = background."""

    colour: np.ndarray
    label: np.ndarray
    depth_m: np.ndarray


class Look(NamedTuple):
    """What is seen before any light falls on it, in linear light, at more than a sample a pixel (N, N, ...) float32.

    mesh: (N, N) number of the arm or thing from 1 on, 0 = background. albedo: (N, N, 3). height_m: (N, N) of wrinkles.
    roughness, metal, skin, cloth: (N, N) 0..1.
    """

    mesh: np.ndarray
    albedo: np.ndarray
    height_m: np.ndarray
    roughness: np.ndarray
    metal: np.ndarray
    skin: np.ndarray
    cloth: np.ndarray


class Rasteriser:
    """Owns one OpenGL context; use it in one thread only."""

    def __init__(self, size: int = 320) -> None:
        """size: side of the square pictures.

        Raises HandPoseError without moderngl, DeviceError without a working EGL driver.
        """
        os.environ.setdefault("LP_NUM_THREADS", "0")
        try:
            import moderngl
        except ImportError as error:
            raise HandPoseError("rendering needs moderngl: pip install hand_pose_3d[render]") from error
        try:
            self._gl: Any = moderngl.create_context(standalone=True, **_EGL)
        except Exception as error:  # moderngl raises bare Exception
            raise DeviceError(f"no OpenGL 3.3 through EGL here (Debian: apt install libegl1): {error}") from error
        gl: Any = self._gl
        gl.gc_mode = "auto"
        self.size = size
        self._surface_program: Any = gl.program(shaders.VERTEX, shaders.SURFACE_FRAGMENT)
        shade_program: Any = gl.program(shaders.SCREEN_VERTEX, shaders.FRAGMENT)
        look_program: Any = gl.program(shaders.SCREEN_VERTEX, shaders.LOOK_FRAGMENT)
        self._shadow_program: Any = gl.program(shaders.SHADOW_VERTEX, shaders.SHADOW_FRAGMENT)
        which_program: Any = gl.program(shaders.SCREEN_VERTEX, shaders.WHICH_FRAGMENT)
        label_program: Any = gl.program(shaders.SCREEN_VERTEX, shaders.LABEL_FRAGMENT)
        corners = gl.buffer(np.array([-1, -1, 1, -1, -1, 1, 1, 1], "f4").tobytes())
        self._screen, self._look_screen, self._which_screen, self._label_screen = (
            gl.vertex_array(program, [(corners, "2f", "corner")])
            for program in (shade_program, look_program, which_program, label_program)
        )
        full = (size, size)
        shaded = [(round(size * s), round(size * s)) for s in _SUPERSAMPLING]
        self._surfaces = [
            gl.framebuffer([gl.texture(s, 4, dtype="f4") for _ in shaders.SURFACE], gl.depth_renderbuffer(s))
            for s in shaded
        ]
        self._colours = [gl.framebuffer([gl.renderbuffer(s, 4)], gl.depth_renderbuffer(s)) for s in shaded]
        self._looks = gl.framebuffer(
            [gl.renderbuffer(shaded[0], 4, dtype="f4") for _ in range(2)], gl.depth_renderbuffer(shaded[0])
        )
        self._labels = gl.framebuffer([gl.renderbuffer(full, 1, dtype="f4"), gl.renderbuffer(full, 1)])
        self._shadow_map = gl.depth_texture((_SHADOW_SIZE, _SHADOW_SIZE))
        self._shadow_map.compare_func = "<="
        self._shadow_map.filter = (moderngl.LINEAR, moderngl.LINEAR)
        self._shadow_target = gl.framebuffer(depth_attachment=self._shadow_map)
        self._white = gl.texture((1, 1), 3, b"\xff\xff\xff")
        self._skins: dict[str, Any] = {}
        self._index_buffers: dict[int, Any] = {}
        gl.enable(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        self._cull = moderngl.CULL_FACE
        self._depth_test = moderngl.DEPTH_TEST
        self._triangle_strip = moderngl.TRIANGLE_STRIP

    def render(self, scene: Assembly) -> Pictures:
        """Draw one assembled scene."""
        gl: Any = self._gl
        meshes = [*scene.arms, *scene.things]
        buffers = [self._upload(mesh) for mesh in meshes]
        light = _light_matrix(scene)
        self._shadow_program["light"].write(light.T.astype("f4").tobytes())
        self._shadow_target.use()
        self._shadow_target.clear(depth=1.0)
        gl.disable(self._cull)  # open ends and thin things cast shadows from both sides
        for mesh, (vertices, indices) in zip(meshes, buffers, strict=True):
            if mesh.casts_shadow:
                layout: Any = [(vertices, f"3f {4 * (mesh.buffer.shape[1] - 3)}x", "position")]
                coarse = self._indices(mesh.shadow_faces) if mesh.shadow_faces is not None else indices
                gl.vertex_array(self._shadow_program, layout, coarse).render()

        gl.enable(self._cull)
        large = int(scene.largest_px > _LARGE_PX)
        surface, colour = self._surfaces[large], self._colours[large]
        boxes = self._draw_surface(scene, meshes, buffers, surface)
        self._shade(meshes, boxes, surface, colour, self._screen, shadow=0, light=light.T, **scene.lighting)
        self._draw_labels(surface, _around(boxes))
        for vertices, _ in buffers:
            vertices.release()
        return self._read(colour, scene.background)

    def look(self, scene: Assembly) -> Look:
        """The materials of one assembled scene, for an engine that lights them itself."""
        meshes = [*scene.arms, *scene.things]
        buffers = [self._upload(mesh) for mesh in meshes]
        surface, side = self._surfaces[0], self._surfaces[0].width
        boxes = self._draw_surface(scene, meshes, buffers, surface)
        self._shade(meshes, boxes, surface, self._looks, self._look_screen)
        for vertices, _ in buffers:
            vertices.release()

        def read(target: Any, attachment: int) -> np.ndarray:
            data = target.read(components=4, attachment=attachment, dtype="f4")
            return np.frombuffer(data, np.float32).reshape(side, side, 4)

        colour, finish = read(self._looks, 0), read(self._looks, 1)
        left, top, width, height = _pixels(_around(boxes), side)
        valid = np.s_[top : top + height, left : left + width]
        mesh = np.zeros((side, side), int)
        mesh[valid] = np.round(read(surface, shaders.SURFACE.index("where_at"))[valid][..., 2])
        return Look(mesh, colour[..., :3], colour[..., 3], *(finish[..., k] for k in range(4)))

    def _draw_surface(self, scene: Assembly, meshes: list[SceneMesh], buffers: list[Any], surface: Any) -> list[Box]:
        """Everything into the surface pictures, which are valid within the boxes of the meshes that are returned."""
        gl: Any = self._gl
        boxes = [_screen_box(mesh.buffer[:, :3], scene.intrinsics, self.size) for mesh in meshes]
        surface.use()
        surface.clear(0, 0, 0, 0, viewport=_pixels(_around(boxes), surface.width))
        _set(self._surface_program, projection=_projection(scene.intrinsics, self.size).T)
        for number, (mesh, (vertices, indices)) in enumerate(zip(meshes, buffers, strict=True), 1):
            gl.front_face = "ccw" if mesh.mirrored else "cw"
            _set(self._surface_program, mesh=float(number), **mesh.uniforms)
            layout = [(vertices, "3f 3f 3f 4f 2f 1f 1f", *shaders.ATTRIBUTES)]
            gl.vertex_array(self._surface_program, layout, indices).render()
        return boxes

    def _shade(
        self, meshes: list[SceneMesh], boxes: list[Box], surface: Any, target: Any, screen: Any, **uniforms: Any
    ) -> None:
        """Every pixel once, from what the surface pictures say is there: most triangles are smaller than a pixel."""
        gl: Any = self._gl
        program = screen.program
        target.use()
        target.clear(0, 0, 0, 0)
        gl.disable(self._cull)
        self._shadow_map.use(0)
        _bind(surface, program)
        gl.depth_func = "1"
        _bind(surface, self._which_screen.program)
        _set(self._which_screen.program, box=_around(boxes))
        self._which_screen.render(self._triangle_strip)
        gl.depth_func = "=="  # the depth picture says now which mesh is seen where
        _set(program, skin=2, **uniforms)
        for number, (mesh, box) in enumerate(zip(meshes, boxes, strict=True), 1):
            self._texture(mesh).use(2)
            _set(program, mesh=float(number), box=box, **mesh.uniforms)
            screen.render(self._triangle_strip)
        gl.depth_func = "<"
        gl.enable(self._cull)

    def _draw_labels(self, surface: Any, box: Box) -> None:
        """Labels and depth of the sample nearest to each pixel's centre."""
        gl: Any = self._gl
        self._labels.use()
        self._labels.clear(0, 0, 0, 0)
        gl.disable(self._cull | self._depth_test)
        _bind(surface, self._label_screen.program)
        _set(self._label_screen.program, box=box, samples=surface.width / self.size)
        self._label_screen.render(self._triangle_strip)
        gl.enable(self._cull | self._depth_test)

    def _upload(self, mesh: SceneMesh) -> tuple[Any, Any]:
        indices = self._indices(mesh.faces)
        return self._gl.buffer(np.ascontiguousarray(mesh.buffer, "f4").tobytes()), indices

    def _indices(self, faces: np.ndarray) -> Any:
        """The index buffer of faces, which are the same array in every frame."""
        if id(faces) not in self._index_buffers:
            self._index_buffers[id(faces)] = self._gl.buffer(local_order(faces).astype("i4").tobytes())
        return self._index_buffers[id(faces)]

    def _texture(self, mesh: SceneMesh) -> Any:
        if mesh.texture is None:
            return self._white
        name, image = mesh.texture
        if name not in self._skins:
            texture = self._gl.texture((image.shape[1], image.shape[0]), 3, np.ascontiguousarray(image).tobytes())
            texture.build_mipmaps()
            self._skins[name] = texture
        return self._skins[name]

    def _read(self, target: Any, background: np.ndarray) -> Pictures:
        import cv2

        n, side = self.size, target.width
        over = np.frombuffer(target.read(components=4), np.uint8).reshape(side, side, 4)
        over = cv2.resize(over, (n, n), interpolation=cv2.INTER_AREA)
        open_share = cv2.cvtColor(255 - over[..., 3], cv2.COLOR_GRAY2RGB)
        colour = cv2.add(over[..., :3], cv2.multiply(background, open_share, scale=1 / 255))
        depth = np.frombuffer(self._labels.read(components=1, attachment=0, dtype="f4"), np.float32).reshape(n, n)
        label = np.frombuffer(self._labels.read(components=1, attachment=1), np.uint8).reshape(n, n)
        return Pictures(colour, label, depth)


Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of the picture, -1..1."""


def _around(boxes: list[Box]) -> Box:
    """The least box that holds all of them."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _pixels(box: Box, side: int) -> tuple[int, int, int, int]:
    """Left, top, width and height in whole pixels of what a box touches in a square picture."""
    left, top, right, bottom = ((edge + 1) / 2 * side for edge in box)
    x, y = int(left), int(top)
    return x, y, int(np.ceil(right)) - x, int(np.ceil(bottom)) - y


def _screen_box(points: np.ndarray, intrinsics: np.ndarray, size: int) -> Box:
    """The part of the picture that points (N, 3) can reach."""
    depth = points[:, 2:]
    if depth.min() < _NEAR:
        return -1.0, -1.0, 1.0, 1.0
    image = points[:, :2] / depth * intrinsics[[0, 1], [0, 1]] + intrinsics[:2, 2]
    low, high = ((edge + 0.5) * 2 / size - 1 for edge in (image.min(axis=0) - 1, image.max(axis=0) + 1))
    return tuple(np.clip([*low, *high], -1, 1).tolist())


def local_order(faces: np.ndarray) -> np.ndarray:
    """The same faces (F, 3), neighbours after one another, so that few vertices are transformed twice."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    count = int(faces.max()) + 1
    ends = faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()
    graph = coo_matrix((np.ones(len(ends[0]), np.int8), ends), (count, count)).tocsr()
    rank = np.empty(count, int)
    rank[reverse_cuthill_mckee(graph)] = np.arange(count)
    return faces[np.argsort(rank[faces].min(axis=1), kind="stable")]


def _set(program: Any, **values: Any) -> None:
    """Set uniforms; those that the compiler dropped are skipped."""
    for name, value in values.items():
        if name not in program:
            continue
        if isinstance(value, np.ndarray):
            program[name].write(np.ascontiguousarray(value, "f4").tobytes())
        else:
            program[name].value = value


def _bind(surface: Any, program: Any) -> None:
    """Let a program read the surface pictures; texture units below are for shadow and skin."""
    for unit, (name, texture) in enumerate(zip(shaders.SURFACE, surface.color_attachments, strict=True), 3):
        texture.use(unit)
        _set(program, **{name: unit})


def _projection(intrinsics: np.ndarray, size: int) -> np.ndarray:
    """OpenGL's matrix for K; row 0 of the frame buffer is row 0 of the image."""
    out = np.zeros((4, 4))
    out[0, 0], out[0, 2] = 2 * intrinsics[0, 0] / size, 2 * (intrinsics[0, 2] + 0.5) / size - 1
    out[1, 1], out[1, 2] = 2 * intrinsics[1, 1] / size, 2 * (intrinsics[1, 2] + 0.5) / size - 1
    out[2, 2], out[2, 3] = (_FAR + _NEAR) / (_FAR - _NEAR), -2 * _FAR * _NEAR / (_FAR - _NEAR)
    out[3, 2] = 1
    return out


def _light_matrix(scene: Assembly) -> np.ndarray:
    """Orthographic view along the key light over the hands."""
    direction = np.asarray(scene.lighting["key_direction"])
    side = np.cross(direction, [0.31, 0.9, 0.12])
    side /= np.linalg.norm(side)
    axes = np.stack([side, np.cross(direction, side), -direction])
    axes = axes / np.array([[scene.shadow_radius], [scene.shadow_radius], [4 * scene.shadow_radius]])
    out = np.eye(4)
    out[:3, :3] = axes
    out[:3, 3] = -axes @ scene.shadow_centre
    return out
