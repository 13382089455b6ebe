"""TensorFlow 1's sampling, against values worked out by hand and against a pixel-by-pixel version."""

import numpy as np
import pytest
import tf1_reference as tf1
import torch
from torch.nn import functional as F

from hand_pose_3d.networks.tensorflow_ops import crop_and_resize, pad_same, resize_bilinear


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


@pytest.mark.parametrize(
    "box",
    [(0, 0, 1, 1), (0.1, 0.2, 0.7, 0.65), (-0.3, 0.5, 0.4, 1.2), (0.9, 0.9, 0.1, 0.1), (0.25, 0.5, 0.25, 0.5)],
)
def test_crop_equals_the_pixel_by_pixel_version(box):
    image = np.random.default_rng(1).normal(size=(9, 13, 3)).astype(np.float32)
    ours = crop_and_resize(torch.from_numpy(image.transpose(2, 0, 1).copy())[None], torch.tensor([box]), 16)
    np.testing.assert_allclose(ours[0].numpy().transpose(1, 2, 0), tf1.crop_and_resize(image, box, 16), atol=1e-5)


def test_crop_of_the_whole_image_at_its_size_is_the_image():
    image = torch.randn(1, 2, 8, 8)
    torch.testing.assert_close(crop_and_resize(image, torch.tensor([[0.0, 0, 1, 1]]), 8), image)


def test_outside_the_image_is_zero_without_blending():
    crop = crop_and_resize(torch.ones(1, 1, 5, 5), torch.tensor([[-0.5, -0.5, 1.5, 1.5]]), 9)[0, 0]
    inside = torch.zeros(9, 9)
    inside[2:7, 2:7] = 1
    assert torch.equal(crop, inside)


def test_boxes_are_cut_from_the_images_they_name():
    images = torch.stack([torch.full((1, 4, 4), value) for value in (1.0, 2.0, 3.0)])
    boxes = torch.tensor([[0.0, 0, 1, 1]]).expand(4, 4)
    crops = crop_and_resize(images, boxes, 2, torch.tensor([2, 0, 1, 2]))
    assert crops.mean((1, 2, 3)).tolist() == [3, 1, 2, 3]
