"""What is stated once of pixels and inputs holds for arrays and tensors."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hand_pose_3d.conventions import from_unit, image_to_input, mirror_pixels, rescale_pixels, to_unit


@given(st.floats(-100, 1000), st.integers(1, 2000))
def test_the_unit_square_spans_the_whole_pixels(pixel, size):
    assert to_unit(-0.5, size) == 0 and to_unit(size - 0.5, size) == 1
    assert from_unit(to_unit(pixel, size), size) == pytest.approx(pixel, abs=1e-9)
    assert to_unit(rescale_pixels(pixel, 3.0), 3 * size) == pytest.approx(to_unit(pixel, size))


def test_pixels_move_as_opencv_moves_them():
    image = np.zeros((60, 80), np.float32)
    image[20:30, 40:50] = 1  # its middle is at (44.5, 24.5)
    for moved, (u, v) in (
        (cv2.resize(image, (160, 120), interpolation=cv2.INTER_LINEAR), rescale_pixels(np.array([44.5, 24.5]), 2)),
        (cv2.resize(image, (40, 30), interpolation=cv2.INTER_AREA), rescale_pixels(np.array([44.5, 24.5]), 0.5)),
        (image[:, ::-1], mirror_pixels(np.array([44.5, 24.5]), 80)),
    ):
        rows, columns = np.mgrid[: moved.shape[0], : moved.shape[1]]
        assert (moved * columns).sum() / moved.sum() == pytest.approx(u, abs=1e-4)
        assert (moved * rows).sum() / moved.sum() == pytest.approx(v, abs=1e-4)


def test_inputs_are_centred_and_channels_come_first():
    image = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)
    x = image_to_input(image)
    assert x.shape == (1, 3, 1, 1) and x.flatten().tolist() == pytest.approx([-0.5, -0.3, 0.5])
    assert image_to_input(image, torch.bfloat16).dtype == torch.bfloat16
