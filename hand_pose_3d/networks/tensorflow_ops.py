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
