"""The rasteriser: one scene in, colour, label and depth pictures out (OpenGL 3.3 through EGL, GPU or llvmpipe)."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, NamedTuple, TypeVar

import numpy as np

from hand_pose_3d.errors import DeviceError, HandPoseError
from hand_pose_3d.rendering import shaders
from hand_pose_3d.rendering.assemble import Assembly, SceneMesh

_EGL: dict[str, Any] = {"backend": "egl"}
NEAR_M, FAR_M = 0.03, 12.0  # clipping planes, around all sampled distances
_SHADOW_SIZE = 384  # edge of the shadow map in pixels, chosen by eye
_EDGE_PX = 0.6
"""Standard deviation of the blur that antialiases outlines, pixels, as one sample is shaded a pixel; chosen by eye."""


class RenderedFrame(NamedTuple):
    """colour: (S, S, 3) uint8 RGB. label: (S, S) uint8, RHD's 33 classes. depth_m: (S, S) float32, 0 = background.

    mesh: (S, S) uint8, number of the arm or prop from 1 on, 0 = background.
    """

    colour: np.ndarray
    label: np.ndarray
    depth_m: np.ndarray
    mesh: np.ndarray


class GBuffer(NamedTuple):
    """Surface properties before lighting, in linear light, (S, S, ...) float32.

    mesh: (S, S) number of the arm or prop from 1 on, 0 = background. albedo: (S, S, 3). height_m: (S, S) of wrinkles.
    roughness, metal, skin, cloth: (S, S) 0..1.
    """

    mesh: np.ndarray
    albedo: np.ndarray
    height_m: np.ndarray
    roughness: np.ndarray
    metal: np.ndarray
    skin: np.ndarray
    cloth: np.ndarray


_Method = TypeVar("_Method", bound=Callable[..., Any])


def _in_its_context(method: _Method) -> _Method:
    """A method that runs in its own OpenGL context, independent of others in the process."""

    @wraps(method)
    def within(self: Rasteriser, *arguments: Any) -> Any:
        with self._gl:
            return method(self, *arguments)

    return within  # type: ignore[return-value]


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
        self._surface_program = _program(gl, shaders.VERTEX, shaders.SURFACE_FRAGMENT)
        self._shadow_program = _program(gl, shaders.SHADOW_VERTEX, shaders.SHADOW_FRAGMENT)
        corners = gl.buffer(np.array([-1, -1, 1, -1, -1, 1, 1, 1], "f4").tobytes())
        self._screen, self._g_buffer_screen, self._which_screen = (
            gl.vertex_array(_program(gl, shaders.SCREEN_VERTEX, fragment), [(corners, "2f", "corner")])
            for fragment in (shaders.FRAGMENT, shaders.G_BUFFER_FRAGMENT, shaders.WHICH_FRAGMENT)
        )
        full = (size, size)
        self._surface = gl.framebuffer(
            [gl.texture(full, 4, dtype=d) for d in shaders.SURFACE.values()], gl.depth_renderbuffer(full)
        )
        self._nothing = gl.framebuffer(self._surface.color_attachments[-1:], self._surface.depth_attachment)
        self._colour = gl.framebuffer([gl.renderbuffer(full, 4)], gl.depth_renderbuffer(full))
        self._g_buffer = gl.framebuffer(
            [gl.renderbuffer(full, 4, dtype="f4") for _ in range(2)], gl.depth_renderbuffer(full)
        )
        self._shadow_map = gl.depth_texture((_SHADOW_SIZE, _SHADOW_SIZE))
        self._shadow_map.compare_func = "<="
        self._shadow_map.filter = (moderngl.LINEAR, moderngl.LINEAR)
        self._shadow_target = gl.framebuffer(depth_attachment=self._shadow_map)
        self._white = gl.texture((1, 1), 3, b"\xff\xff\xff")
        self._skins: dict[str, Any] = {}
        self._buffers: dict[int, tuple[np.ndarray, Any]] = {}
        gl.enable(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        self._cull = moderngl.CULL_FACE
        self._triangle_strip = moderngl.TRIANGLE_STRIP

    def __del__(self) -> None:
        gl = self.__dict__.get("_gl")
        if gl is not None:
            # Resources are released in their own context, which moderngl has closed before if the program ends.
            with suppress(AttributeError), gl:
                self.__dict__.clear()

    @_in_its_context
    def render(self, scene: Assembly) -> RenderedFrame:
        """Draw one assembled scene."""
        meshes = [*scene.arms, *scene.props]
        buffers = [self._upload(mesh) for mesh in meshes]
        light = _light_matrix(scene)
        self._draw_shadow(light, meshes, buffers)
        boxes = self._draw_surface(scene, meshes, buffers)
        lens = _lens(scene.intrinsics)
        self._shade(meshes, boxes, self._colour, self._screen, lens=lens, shadow=0, light=light.T, **scene.lighting)
        for vertices, _ in buffers:
            vertices.release()
        return self._read(scene.background)

    @_in_its_context
    def g_buffer(self, scene: Assembly) -> GBuffer:
        """The materials of one assembled scene, for an engine that lights them itself."""
        meshes = [*scene.arms, *scene.props]
        buffers = [self._upload(mesh) for mesh in meshes]
        boxes = self._draw_surface(scene, meshes, buffers)
        self._shade(meshes, boxes, self._g_buffer, self._g_buffer_screen, lens=_lens(scene.intrinsics))
        for vertices, _ in buffers:
            vertices.release()

        side = self.size
        colour, finish = (
            np.frombuffer(self._g_buffer.read(components=4, attachment=k, dtype="f4"), np.float32).reshape(
                side, side, 4
            )
            for k in range(2)
        )
        mesh = self._read_which()[..., 1].astype(int)
        return GBuffer(mesh, colour[..., :3], colour[..., 3], *(finish[..., k] for k in range(4)))

    def _draw_shadow(self, light: np.ndarray, meshes: list[SceneMesh], buffers: list[Any]) -> None:
        """The shadow map of the key light, near the hands."""
        _set(self._shadow_program, light=light.T)
        self._shadow_target.use()
        self._shadow_target.clear(depth=1.0)
        for mesh, (vertices, indices) in zip(meshes, buffers, strict=True):
            if mesh.casts_shadow:
                self._gl.front_face = "cw" if mesh.mirrored else "ccw"  # the light's axes are left-handed
                layout: Any = [(vertices, "3f 12x", "position")]
                coarse = self._kept(mesh.shadow_faces, local_order) if mesh.shadow_faces is not None else indices
                self._gl.vertex_array(self._shadow_program, layout, coarse).render()

    def _draw_surface(self, scene: Assembly, meshes: list[SceneMesh], buffers: list[Any]) -> list[Box]:
        """Everything into the surface pictures, of which only the last is valid where nothing is; the meshes' boxes."""
        gl: Any = self._gl
        boxes = [_screen_box(mesh.moving[:, :3], scene.intrinsics, self.size) for mesh in meshes]
        self._nothing.clear(0, 0, 0, 0)
        self._surface.use()
        _set(self._surface_program, projection=_projection(scene.intrinsics, self.size).T)
        for number, (mesh, (vertices, indices)) in enumerate(zip(meshes, buffers, strict=True), 1):
            gl.front_face = "ccw" if mesh.mirrored else "cw"
            _set(self._surface_program, mesh=float(number), **mesh.uniforms)
            layout = [
                (vertices, "3f 3f", *shaders.MOVING_ATTRIBUTES),
                (self._kept(mesh.still), "3f 4f 2f 1f 1f", *shaders.KEPT_ATTRIBUTES),
            ]
            gl.vertex_array(self._surface_program, layout, indices).render()
        return boxes

    def _shade(self, meshes: list[SceneMesh], boxes: list[Box], target: Any, screen: Any, **uniforms: Any) -> None:
        """Shade every pixel once, from the surface pictures, as most triangles are smaller than a pixel."""
        gl: Any = self._gl
        program = screen.program
        target.use()
        target.clear(0, 0, 0, 0)
        gl.disable(self._cull)
        self._shadow_map.use(0)
        self._bind_surface(program)
        gl.depth_func = "1"
        self._bind_surface(self._which_screen.program)
        _set(self._which_screen.program, box=_around(boxes))
        self._which_screen.render(self._triangle_strip)
        gl.depth_func = "=="  # the depth picture now selects the visible mesh of each pixel
        _set(program, skin=2, **uniforms)
        for number, (mesh, box) in enumerate(zip(meshes, boxes, strict=True), 1):
            self._texture(mesh).use(2)
            _set(program, mesh=float(number), box=box, **mesh.uniforms)
            screen.render(self._triangle_strip)
        gl.depth_func = "<"
        gl.enable(self._cull)

    def _bind_surface(self, program: Any) -> None:
        """Bind the surface pictures to a program; lower texture units are for shadow and skin."""
        for unit, (name, texture) in enumerate(zip(shaders.SURFACE, self._surface.color_attachments, strict=True), 3):
            texture.use(unit)
            _set(program, **{name: unit})

    def _upload(self, mesh: SceneMesh) -> tuple[Any, Any]:
        return self._gl.buffer(np.ascontiguousarray(mesh.moving, "f4").tobytes()), self._kept(mesh.faces, local_order)

    def _kept(self, values: np.ndarray, prepare: Callable[[np.ndarray], np.ndarray] | None = None) -> Any:
        """The buffer of an array that many frames share; the array is kept too, so that its id is not reused."""
        if id(values) not in self._buffers:
            self._buffers[id(values)] = values, self._gl.buffer((prepare(values) if prepare else values).tobytes())
        return self._buffers[id(values)][1]

    def _texture(self, mesh: SceneMesh) -> Any:
        if mesh.texture is None:
            return self._white
        name, image = mesh.texture
        if name not in self._skins:
            texture = self._gl.texture((image.shape[1], image.shape[0]), 3, np.ascontiguousarray(image).tobytes())
            texture.build_mipmaps()
            self._skins[name] = texture
        return self._skins[name]

    def _read_which(self) -> np.ndarray:
        """Label and mesh (S, S, 2) uint8 of what is seen, 0 = background."""
        data = self._surface.read(components=2, attachment=len(shaders.SURFACE) - 1)
        return np.frombuffer(data, np.uint8).reshape(self.size, self.size, 2)

    def _read(self, background: np.ndarray) -> RenderedFrame:
        import cv2

        n = self.size
        which = self._read_which()
        label, mesh = cv2.split(which)
        over = np.frombuffer(self._colour.read(components=4), np.uint8).reshape(n, n, 4)
        edges = cv2.max(*cv2.split(cv2.morphologyEx(which, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))))
        over = cv2.copyTo(cv2.GaussianBlur(over, (3, 3), _EDGE_PX), edges, over.copy())
        open_share = cv2.cvtColor(255 - over[..., 3], cv2.COLOR_GRAY2RGB)
        behind = cv2.multiply(background, open_share, scale=1 / 255)
        colour = cv2.add(cv2.cvtColor(over, cv2.COLOR_RGBA2RGB), behind)
        depth = np.frombuffer(self._surface.read(components=1, dtype="f4"), np.float32).reshape(n, n)
        return RenderedFrame(colour, label, cv2.copyTo(depth, mesh), mesh)


Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of the picture, -1..1."""


def _around(boxes: list[Box]) -> Box:
    """The smallest box around all of them."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _screen_box(points: np.ndarray, intrinsics: np.ndarray, size: int) -> Box:
    """The part of the picture that points (N, 3) can reach."""
    x, y, depth = np.ascontiguousarray(points.T)
    if depth.min() < NEAR_M:
        return -1.0, -1.0, 1.0, 1.0
    image = np.stack([x / depth, y / depth]) * intrinsics[[0, 1], [0, 1], None] + intrinsics[:2, 2:]
    low, high = ((edge + 0.5) * 2 / size - 1 for edge in (image.min(axis=1) - 1, image.max(axis=1) + 1))
    return tuple(np.clip([*low, *high], -1, 1).tolist())


def local_order(faces: np.ndarray) -> np.ndarray:
    """The faces (F, 3) as int32, sorted for the vertex cache: neighbours follow each other."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    count = int(faces.max()) + 1
    ends = faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()
    graph = coo_matrix((np.ones(len(ends[0]), np.int8), ends), (count, count)).tocsr()
    rank = np.empty(count, int)
    rank[reverse_cuthill_mckee(graph)] = np.arange(count)
    return faces[np.argsort(rank[faces].min(axis=1), kind="stable")].astype(np.int32)


def _program(gl: Any, vertex: str, fragment: str) -> Any:
    """A program whose `extra` holds its members by name: moderngl's lookup by name reads all of them."""
    program = gl.program(vertex, fragment)
    program.extra = {name: program[name] for name in program}
    return program


def _set(program: Any, **values: Any) -> None:
    """Set uniforms; those that the compiler dropped are skipped."""
    for name, value in values.items():
        member = program.extra.get(name)
        if member is None:
            continue
        if isinstance(value, np.ndarray):
            member.write(np.ascontiguousarray(value, "f4").tobytes())
        else:
            member.value = value


def _lens(intrinsics: np.ndarray) -> tuple[float, ...]:
    """Scale and shift from where a shaded sample is in its picture to x / z and y / z."""
    focal = intrinsics[[0, 1], [0, 1]]
    return (*(1 / focal), *((-0.5 - intrinsics[:2, 2]) / focal))


def _projection(intrinsics: np.ndarray, size: int) -> np.ndarray:
    """OpenGL's matrix for K; row 0 of the frame buffer is row 0 of the image."""
    out = np.zeros((4, 4))
    out[0, 0], out[0, 2] = 2 * intrinsics[0, 0] / size, 2 * (intrinsics[0, 2] + 0.5) / size - 1
    out[1, 1], out[1, 2] = 2 * intrinsics[1, 1] / size, 2 * (intrinsics[1, 2] + 0.5) / size - 1
    out[2, 2], out[2, 3] = (FAR_M + NEAR_M) / (FAR_M - NEAR_M), -2 * FAR_M * NEAR_M / (FAR_M - NEAR_M)
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
