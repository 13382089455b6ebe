"""Pickles of arrays."""

import io
import pickle

import numpy as np
import pytest

from hand_pose_3d.pickles import load_arrays

CONTENT: dict = {
    0: {"K": np.eye(3), "n": np.float32(2.5), "list": [1, "a", None]},
    "image": np.arange(6, dtype=np.uint8),
}


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_protocol(protocol):
    loaded = load_arrays(io.BytesIO(pickle.dumps(CONTENT, protocol=protocol)))
    np.testing.assert_array_equal(loaded[0]["K"], CONTENT[0]["K"])
    np.testing.assert_array_equal(loaded["image"], CONTENT["image"])
    assert loaded[0]["n"] == 2.5 and loaded[0]["list"] == [1, "a", None]


def test_names_of_old_and_new_numpy_are_known():
    stream = pickle.dumps(CONTENT, protocol=2)
    for old, new in ((b"numpy._core.", b"numpy.core."), (b"numpy.core.", b"numpy._core.")):
        loaded = load_arrays(io.BytesIO(stream.replace(old, new)))
        np.testing.assert_array_equal(loaded["image"], CONTENT["image"])


class Call:
    def __init__(self, function):
        self.function = function

    def __reduce__(self):
        return (self.function, ("x",))


@pytest.mark.parametrize("function", [print, eval, np.load, np.fromfile])
def test_anything_else_is_refused_by_name(function):
    with pytest.raises(pickle.UnpicklingError, match=function.__name__):
        load_arrays(io.BytesIO(pickle.dumps({"a": Call(function)})))
