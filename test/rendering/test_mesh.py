import numpy as np

from hand_pose_3d.rendering import mesh

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])


def test_subdivision_counts_and_keeps_constants():
    operator, faces, corners = mesh.loop_subdivision(4, TETRAHEDRON)
    assert operator.shape == (4 + 6, 4) and faces.shape == (16, 3) and corners.shape == (16, 3, 2)
    np.testing.assert_allclose(np.asarray(operator.sum(axis=1)).ravel(), 1)


def test_subdivision_of_a_flat_sheet_stays_flat_and_keeps_its_border():
    vertices = np.array([[0, 0, 1.0], [2, 0, 1], [2, 2, 1], [0, 2, 1]])
    operator, faces, _ = mesh.loop_subdivision(4, np.array([[0, 1, 2], [0, 2, 3]]))
    out = operator @ vertices
    np.testing.assert_allclose(out[:, 2], 1)
    np.testing.assert_allclose(out[:4], vertices)
    areas = 0.5 * np.cross(out[faces[:, 1]] - out[faces[:, 0]], out[faces[:, 2]] - out[faces[:, 0]])[:, 2]
    assert (areas > 0).all() and np.isclose(areas.sum(), 4)


def test_corner_values_follow_their_faces():
    vertices = np.random.default_rng(0).normal(size=(4, 3))
    _, faces, corners = mesh.loop_subdivision(4, TETRAHEDRON)
    carried = mesh.subdivide_corners(vertices[TETRAHEDRON], corners)
    shared = {}
    for face, values in zip(faces, carried):
        for vertex, value in zip(face, values):
            np.testing.assert_allclose(shared.setdefault(int(vertex), value), value)


def test_seams_split_vertices_by_uv():
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    uv = np.zeros((2, 3, 2))
    uv[1, 0] = 0.5  # vertex 0 has another uv in the second face
    source, new_faces, new_uv = mesh.split_seams(faces, uv)
    assert sorted(source.tolist()) == [0, 0, 1, 2, 3]
    np.testing.assert_array_equal(source[new_faces], faces)
    np.testing.assert_allclose(new_uv[new_faces], uv, atol=1e-4)


def test_normals_point_out_of_a_closed_mesh():
    vertices = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    normals = mesh.vertex_normals(vertices, TETRAHEDRON, mesh.incidence(4, TETRAHEDRON))
    outwards = (normals * vertices).sum(axis=1) / 3**0.5
    np.testing.assert_allclose(np.abs(outwards), 1)
    assert len(set(np.sign(outwards))) == 1


def test_neighbour_average_of_a_tetrahedron():
    average = mesh.neighbour_average(4, TETRAHEDRON).toarray()
    np.testing.assert_allclose(average, (np.ones((4, 4)) - np.eye(4)) / 3)
