"""TensorFlow 1's sampling, against values worked out by hand and against a pixel-by-pixel version."""

import numpy as np
import pytest
import tf1_reference as tf1
import torch
from torch.nn import functional as F

from hand_pose_3d.networks.tensorflow_ops import pad_same, resize_bilinear


def test_resize_reads_at_multiples_of_the_ratio_and_repeats_the_end():
    row = torch.tensor([0.0, 4.0]).reshape(1, 1, 1, 2)
    assert resize_bilinear(row, (1, 8)).flatten().tolist() == [0, 1, 2, 3, 4, 4, 4, 4]
    half_pixel = F.interpolate(row, size=(1, 8), mode="bilinear", align_corners=False)
    assert not torch.allclose(resize_bilinear(row, (1, 8)), half_pixel)


@pytest.mark.parametrize("size", [(32, 40), (7, 3), (5, 9)])
def test_resize_equals_the_pixel_by_pixel_version(size):
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)
    ours = resize_bilinear(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), size)
    np.testing.assert_allclose(ours.numpy().transpose(0, 2, 3, 1), tf1.resize(x, *size), atol=1e-5)


@pytest.mark.parametrize("size, expected", [(8, (0, 1)), (7, (1, 1)), (1, (1, 1))])
def test_stride_two_pads_the_end_of_even_sizes(size, expected):
    padded = pad_same(torch.ones(1, 1, size, size), 3, 2)[0, 0, :, expected[0]]
    before, after = expected
    assert padded.tolist() == [0] * before + [1] * size + [0] * after
