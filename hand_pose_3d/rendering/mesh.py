"""Triangle meshes: Loop subdivision as a sparse operator, vertex normals and UV seams."""

from __future__ import annotations

import numpy as np
from scipy import sparse


def loop_subdivision(num_vertices: int, faces: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """One step of Loop's scheme; open borders keep their vertices.

    faces: (F, 3). Returns the operator (V + E, V) that maps old to new positions, the new faces (4F, 3), and for
    every new face corner the two old corners (4F, 3, 2) of its parent face whose mean it is (0, 1 or 2 each).
    Source: Loop, 1987.
    """
    edges = np.sort(np.vstack([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    opposite = np.hstack([faces[:, 2], faces[:, 0], faces[:, 1]])
    unique, inverse, count = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
    inverse, num_edges = inverse.ravel(), len(unique)
    border = count != 2
    end_weight = np.where(border, 0.5, 0.375)
    inner = ~border[inverse]
    rows = np.concatenate([np.tile(np.arange(num_edges), 2), inverse[inner]])
    columns = np.concatenate([unique[:, 0], unique[:, 1], opposite[inner]])
    weights = np.concatenate([end_weight, end_weight, np.full(int(inner.sum()), 0.125)])
    edge_rows = sparse.coo_matrix((weights, (rows, columns)), (num_edges, num_vertices))

    both = (np.r_[unique[:, 0], unique[:, 1]], np.r_[unique[:, 1], unique[:, 0]])
    adjacency = sparse.coo_matrix((np.ones(2 * num_edges), both), (num_vertices, num_vertices)).tocsr()
    valence = np.asarray(adjacency.sum(axis=1)).ravel()
    beta = np.where(valence == 3, 3 / 16, 3 / (8 * np.maximum(valence, 1)))
    beta[unique[border].ravel()] = 0
    vertex_rows = sparse.diags(1 - valence * beta) + sparse.diags(beta) @ adjacency

    operator = sparse.vstack([vertex_rows, edge_rows]).tocsr()
    e01, e12, e20 = inverse.reshape(3, -1) + num_vertices
    a, b, c = faces.T
    new_faces = np.vstack([np.c_[a, e01, e20], np.c_[b, e12, e01], np.c_[c, e20, e12], np.c_[e01, e12, e20]])
    pattern = np.array(
        [[[0, 0], [0, 1], [2, 0]], [[1, 1], [1, 2], [0, 1]], [[2, 2], [2, 0], [1, 2]], [[0, 1], [1, 2], [2, 0]]]
    )
    return operator, new_faces.astype(np.int32), np.repeat(pattern, len(faces), axis=0)


def subdivide_corners(values: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Carry per-corner values (F, 3, D), such as UVs, through :func:`loop_subdivision`; returns (4F, 3, D)."""
    parent = np.tile(np.arange(len(values)), 4)[:, None, None]
    return values[parent, corners].mean(axis=2)


def split_seams(faces: np.ndarray, corner_uv: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give every (vertex, uv) pair a vertex of its own: (source (N,), faces (F, 3), uv (N, 2))."""
    key = np.c_[faces.reshape(-1, 1), np.round(corner_uv.reshape(-1, 2) * 65536)].astype(np.int64)
    unique, inverse = np.unique(key, axis=0, return_inverse=True)
    return unique[:, 0], inverse.reshape(-1, 3).astype(np.int32), (unique[:, 1:] / 65536).astype(np.float32)


def incidence(num_vertices: int, faces: np.ndarray) -> sparse.csr_matrix:
    """(V, F) matrix that sums what belongs to the faces at each vertex."""
    ones = np.ones(faces.size, dtype=np.float32)
    return sparse.coo_matrix(
        (ones, (faces.ravel(), np.repeat(np.arange(len(faces)), 3))), (num_vertices, len(faces))
    ).tocsr()


def neighbour_average(num_vertices: int, faces: np.ndarray) -> sparse.csr_matrix:
    """(V, V) matrix that replaces every vertex by the mean of its neighbours."""
    a = faces[:, [0, 1, 2, 1, 2, 0]].ravel()
    b = faces[:, [1, 2, 0, 0, 1, 2]].ravel()
    adjacency = sparse.coo_matrix((np.ones(len(a)), (a, b)), (num_vertices, num_vertices)).tocsr()
    adjacency.data[:] = 1  # an edge between two faces was counted twice
    valence = np.maximum(np.asarray(adjacency.sum(axis=1)).ravel(), 1)
    return sparse.diags(1 / valence) @ adjacency


def vertex_normals(vertices: np.ndarray, faces: np.ndarray, faces_at_vertex: sparse.csr_matrix) -> np.ndarray:
    """Area-weighted unit normals (V, 3) of vertices (V, 3)."""
    corners = np.ascontiguousarray(vertices.T)[:, faces.T]
    (x, y, z), (p, q, r) = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normals = faces_at_vertex @ np.stack([y * r - z * q, z * p - x * r, x * q - y * p], axis=1)
    return normals / np.maximum(np.sqrt(np.einsum("ij,ij->i", normals, normals)), 1e-12)[:, None]
