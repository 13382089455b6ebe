"""Pickles of numpy arrays, as older data sets and weights use them, read without running code from them."""

from __future__ import annotations

import _codecs
import pickle
from typing import Any, BinaryIO

import numpy as np


def _allowed() -> dict[tuple[str, str], Any]:
    # These functions moved between NumPy 1 and 2; an array's own reduction finds the right one.
    reconstruct, scalar = np.empty(0).__reduce__()[0], np.float32(0).__reduce__()[0]
    from_buffer = np.zeros(1).__reduce_ex__(5)[0]
    allowed: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _codecs.encode,
    }
    for core in ("numpy.core", "numpy._core"):
        allowed[f"{core}.multiarray", "_reconstruct"] = reconstruct
        allowed[f"{core}.multiarray", "scalar"] = scalar
        allowed[f"{core}.numeric", "_frombuffer"] = from_buffer
    return allowed


class ArrayUnpickler(pickle.Unpickler):
    """Builds numpy arrays and Python's own containers; refuses every other class or function by name."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _allowed()[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only numpy arrays are accepted") from None


def load_arrays(stream: BinaryIO) -> Any:
    """Content of a pickle of arrays and containers, Python 2's included. Raises UnpicklingError for anything else."""
    return ArrayUnpickler(stream, encoding="latin1").load()
