"""TensorFlow 1 operations whose sampling differs from PyTorch's, on whatever device their input is."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def pad_same(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """Zero padding of TensorFlow's 'SAME': the odd row and column go to the bottom and the right.

    x: (N, C, H, W). A 3x3 stride 2 convolution on an even size gets nothing at the top and left.
    """

    def amounts(size: int) -> tuple[int, int]:
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2

    top, bottom = amounts(x.shape[-2])
    left, right = amounts(x.shape[-1])
    return F.pad(x, (left, right, top, bottom))


def _resize_axis(x: torch.Tensor, size: int, dim: int) -> torch.Tensor:
    length = x.shape[dim]
    source = torch.arange(size, device=x.device, dtype=torch.float32) * (length / size)
    lower = source.floor().clamp(max=length - 1)
    weight = (source - lower).to(x.dtype)
    weight = weight if dim == x.dim() - 1 else weight[:, None]
    index = lower.long()
    first = x.index_select(dim, index)
    return first + (x.index_select(dim, (index + 1).clamp(max=length - 1)) - first) * weight


def resize_bilinear(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear resize without half-pixel centres: output pixel i reads at i * input / output.

    x: (N, C, H, W); size: (height, width). Reads past the last row or column repeat it. It is
    tf.image.resize_images of TensorFlow 1 with align_corners=False; F.interpolate samples elsewhere.
    """
    x = _resize_axis(x, size[1], x.dim() - 1)
    return _resize_axis(x, size[0], x.dim() - 2)


def crop_and_resize(
    image: torch.Tensor, boxes: torch.Tensor, size: int, image_index: torch.Tensor | None = None
) -> torch.Tensor:
    """Square bilinear crops, one a box, sampled as tf.image.crop_and_resize does.

    image: (B, C, H, W) float; boxes: (N, 4) rows of y1, x1, y2, x2 as fractions, where 1 is the *last
    pixel's centre* (H - 1, W - 1); size: edge of the crops; image_index: (N,) int64, which image a box
    belongs to, all the first by default. Returns (N, C, size, size); samples outside the image are 0.
    """
    height, width = image.shape[-2:]
    boxes = boxes.float()
    if image_index is None:
        image_index = torch.zeros(boxes.shape[0], dtype=torch.long, device=image.device)
    steps = torch.arange(size, device=image.device, dtype=torch.float32)

    def positions(first: torch.Tensor, last: torch.Tensor, length: int) -> torch.Tensor:
        if size == 1:
            return 0.5 * (first + last)[:, None] * (length - 1)
        return first[:, None] * (length - 1) + steps * ((last - first) * (length - 1) / (size - 1))[:, None]

    y = positions(boxes[:, 0], boxes[:, 2], height)
    x = positions(boxes[:, 1], boxes[:, 3], width)
    inside = ((y >= 0) & (y <= height - 1))[:, :, None] & ((x >= 0) & (x <= width - 1))[:, None, :]
    top, left = y.floor(), x.floor()
    dy = (y - top).to(image.dtype)[:, :, None, None]
    dx = (x - left).to(image.dtype)[:, None, :, None]
    rows, cols = top.long(), left.long()

    pixels = image.permute(0, 2, 3, 1)

    def at(row: torch.Tensor, col: torch.Tensor) -> torch.Tensor:
        row, col = row.clamp(0, height - 1)[:, :, None], col.clamp(0, width - 1)[:, None, :]
        return pixels[image_index[:, None, None], row, col]

    upper = at(rows, cols) * (1 - dx) + at(rows, cols + 1) * dx
    lower = at(rows + 1, cols) * (1 - dx) + at(rows + 1, cols + 1) * dx
    crops = upper * (1 - dy) + lower * dy
    return (crops * inside[..., None]).permute(0, 3, 1, 2).contiguous()
