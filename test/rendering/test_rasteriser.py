import cv2
import numpy as np
import pytest

from hand_pose_3d.rendering.assemble import assemble
from hand_pose_3d.rendering.sampling import sample_scene


@pytest.fixture(scope="module")
def close(maker):
    """Of some scenes the one whose hand fills most of the picture."""
    scenes = [sample_scene(maker.source, "training", 6, i) for i in range(20)]
    return max((assemble(s, maker.source) for s in scenes), key=lambda a: (maker.engine.render(a).label > 1).sum())


def test_outlines_are_soft_and_nothing_else_shows_the_background(maker, close):
    kept = close.background
    pictures = []
    for shade in (0, 255):
        close.background = np.full_like(kept, shade)
        pictures.append(maker.engine.render(close))
    close.background = kept
    black, white = pictures
    seen = (white.colour.astype(int) - black.colour).max(axis=-1) / 255
    inside = (black.depth_m > 0).astype(np.uint8)
    away = cv2.distanceTransform(inside, cv2.DIST_L2, 3) > 1.5, cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3) > 1.5
    assert seen[away[0]].max() == 0 and seen[away[1]].min() == 1
    edge = ~away[0] & ~away[1]
    soft = (seen > 0.05) & (seen < 0.95)
    assert edge.sum() > 300 and soft[edge].mean() > 0.6


def test_skin_shows_nothing_from_beside_its_pieces_of_the_texture(maker, close):
    before = maker.engine.render(close)
    arm = close.arms[np.bincount(before.mesh[before.label > 1]).argmax() - 1]
    size = 1024
    paint = np.zeros((size, size, 3), np.uint8)
    paint[..., 0] = 255
    for corners in np.round(arm.still[arm.faces, 7:9] * size * 16).astype(np.int32):
        cv2.fillConvexPoly(paint, corners, (128, 128, 128), lineType=cv2.LINE_8, shift=4)
        cv2.polylines(paint, [corners], True, (128, 128, 128), 9, cv2.LINE_8, shift=4)
    mean = (128 / 255) ** 2
    arm.uniforms |= {"texture_share": 1.0, "texture_mean": (mean, mean, mean)}
    arm.texture = ("painted", paint)
    painted = maker.engine.g_buffer(close)
    arm.texture = ("plain", np.full((4, 4, 3), 128, np.uint8))
    plain = maker.engine.g_buffer(close)
    number = close.arms.index(arm) + 1
    shown = (plain.mesh == number) & (plain.skin > 0)
    assert shown.sum() > 3000
    other = np.abs(painted.albedo[shown] / plain.albedo[shown] - 1).max(axis=-1) > 0.05
    assert other.mean() < 0.007  # 0.001 to 0.005 by the hand; 0.011 with colours from beside the pieces
