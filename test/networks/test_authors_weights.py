"""The authors' files: read safely, verified, and giving the same numbers as an independent TF1 implementation."""

import io
import os
import pickle
import struct

import numpy as np
import pytest
import tf1_reference as tf1
import torch
from click.testing import CliRunner

from hand_pose_3d.cli.convert_weights import command
from hand_pose_3d.errors import WeightsError
from hand_pose_3d.networks import (
    BottleneckLifting,
    DirectLifting,
    HandSegNet,
    Lifting,
    LocalLifting,
    PoseNet,
)
from hand_pose_3d.networks.authors_weights import networks_in, read_pickle
from hand_pose_3d.weights import Conventions, load_weights, read_weights, save_weights

SIDES = np.array([[1, 0], [0, 1]], np.float32)
# The paper's order, tip to base, written out: public keypoint k is the paper's PAPER[k].
PAPER = [0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17]


def to_torch(x):
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def score_maps(rng):
    return rng.normal(size=(2, 32, 32, 21)).astype(np.float32)


def python2_pickle(arrays) -> bytes:
    """Protocol 2 as Python 2 wrote it: text and array bytes are SHORT_BINSTRING and BINSTRING."""

    def string(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value

    def integer(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    out = io.BytesIO()
    out.write(b"\x80\x02}(")
    for name, array in arrays.items():
        out.write(string(name.encode()))
        out.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + integer(0) + b"\x85" + string(b"b"))
        out.write(b"\x87R(" + integer(1) + b"(" + b"".join(integer(n) for n in array.shape) + b"t")
        out.write(b"cnumpy\ndtype\n" + string(b"f4") + integer(0) + integer(1) + b"\x87R(" + integer(3) + string(b"<"))
        out.write(b"NNN" + integer(-1) + integer(-1) + integer(0) + b"tb")
        out.write(b"\x89" + string(array.tobytes()) + b"tb")
    out.write(b"u.")
    return out.getvalue()


def write(path, arrays):
    with path.open("wb") as stream:
        pickle.dump(arrays, stream, protocol=2)
    return path


@pytest.mark.parametrize("writer", [python2_pickle, lambda arrays: pickle.dumps(arrays, protocol=2)])
def test_protocol_2_pickles_of_both_pythons_are_read(tmp_path, writer):
    arrays = {
        "PosePrior/a/weights": np.arange(600, dtype=np.float32).reshape(2, 300),
        "b": np.array([[1.5]], np.float32),
    }
    path = tmp_path / "x.pickle"
    path.write_bytes(writer(arrays))
    read = read_pickle(path)
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


class Evil:
    def __reduce__(self):
        return os.system, ("exit 1",)


class Sneaky:
    def __reduce__(self):
        return getattr, ("text", "upper")


@pytest.mark.parametrize("content, name", [(Evil(), "system"), (Sneaky(), "getattr"), ({"a": {1, 2}}, "set")])
def test_anything_but_arrays_is_refused_by_name(tmp_path, content, name):
    path = write(tmp_path / "x.pickle", content)
    with pytest.raises(WeightsError, match=f"(?s){name}.*only numpy arrays"):
        read_pickle(path)


@pytest.mark.parametrize(
    "content, message",
    [
        ([1], "holds a list"),
        ({}, "not a dict of arrays"),
        ({"a": "text"}, "'a' is not an array"),
        ({"a": np.array(["text"])}, "'a' is not an array"),
        ({"a": np.array([np.nan], np.float32)}, "not finite"),
    ],
)
def test_other_content_is_refused(tmp_path, content, message):
    with pytest.raises(WeightsError, match=message):
        read_pickle(write(tmp_path / "x.pickle", content))


@pytest.mark.parametrize("keep", [0, 1, 30, 200, -1])
def test_truncated_pickle(tmp_path, keep):
    path = write(tmp_path / "x.pickle", {"a": np.zeros(100, np.float32)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="cut short"):
        read_pickle(path)


def test_missing_pickle(tmp_path):
    with pytest.raises(WeightsError, match="cannot read"):
        read_pickle(tmp_path / "none.pickle")


def test_handsegnet_gives_the_numbers_of_tensorflow():
    rng = np.random.default_rng(1)
    arrays = tf1.handseg_weights(rng)
    assert len(arrays) == 32
    assert sum(a.size for a in arrays.values()) == 13_601_986
    image = rng.uniform(-0.5, 0.5, size=(1, 40, 52, 3)).astype(np.float32)
    expected = tf1.handseg(arrays, image)
    module = networks_in(arrays)["handsegnet"]
    with torch.no_grad():
        scores = module(to_torch(image)).numpy().transpose(0, 2, 3, 1)
    assert isinstance(module, HandSegNet)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_posenet_gives_the_numbers_of_tensorflow():
    rng = np.random.default_rng(2)
    arrays = tf1.posenet_weights(rng)
    assert len(arrays) == 62
    assert sum(a.size for a in arrays.values()) == 17_518_847
    crop = rng.uniform(-0.5, 0.5, size=(1, 64, 64, 3)).astype(np.float32)
    module = networks_in(arrays)["posenet"]
    with torch.no_grad():
        maps = module(to_torch(crop))
    assert isinstance(module, PoseNet)
    for ours, theirs in zip(maps, tf1.posenet(arrays, crop), strict=True):
        assert np.abs(theirs).max() > 0.1
        np.testing.assert_allclose(ours.numpy().transpose(0, 2, 3, 1), theirs[..., PAPER], atol=1e-4)


def test_proposed_lifting_gives_the_numbers_of_tensorflow():
    rng = np.random.default_rng(3)
    arrays = {**tf1.prior_weights(rng), **tf1.view_weights(rng)}
    assert len(arrays) == 40
    assert sum(a.size for a in arrays.values()) == 3_875_682
    maps = score_maps(rng)
    module = networks_in(arrays)["lifting"]
    assert isinstance(module, Lifting)
    public = torch.from_numpy(np.ascontiguousarray(maps[..., PAPER].transpose(0, 3, 1, 2)))
    with torch.no_grad():
        result = module(public, torch.from_numpy(SIDES))
        mirrored = module.pose_prior(public, torch.from_numpy(SIDES)).numpy()
        u = module.viewpoint(public, torch.from_numpy(SIDES)).numpy()
    np.testing.assert_allclose(mirrored, tf1.prior(arrays, maps, SIDES)[:, PAPER], atol=1e-4)
    np.testing.assert_allclose(u, tf1.viewpoint(arrays, maps, SIDES), atol=1e-4)
    np.testing.assert_allclose(result.relative.numpy(), tf1.lifting(arrays, maps, SIDES)[:, PAPER], atol=1e-4)


@pytest.mark.parametrize(
    "columns, kind, role, cls, count",
    [
        (tf1.FC_PRIOR, "direct", "lifting-direct", DirectLifting, 1_637_279),
        (tf1.FC_PRIOR, "local", "lifting-local", LocalLifting, 1_637_279),
        (tf1.FC_BOTTLENECK, "direct", "lifting-bottleneck", BottleneckLifting, 1_622_303),
    ],
)
def test_other_liftings_are_recognised(columns, kind, role, cls, count):
    rng = np.random.default_rng(4)
    arrays = tf1.prior_weights(rng, columns)
    assert sum(a.size for a in arrays.values()) == count
    (found, module), *rest = networks_in(arrays, kind).items()
    assert (found, type(module), rest) == (role, cls, [])
    maps = score_maps(rng)
    public = torch.from_numpy(np.ascontiguousarray(maps[..., PAPER].transpose(0, 3, 1, 2)))
    with torch.no_grad():
        output = module.pose_prior(public, torch.from_numpy(SIDES)).numpy()
    np.testing.assert_allclose(output, tf1.prior(arrays, maps, SIDES)[:, PAPER], atol=1e-4)


def test_names_shapes_and_counts_are_verified():
    rng = np.random.default_rng(5)
    arrays = tf1.prior_weights(rng)
    with pytest.raises(WeightsError, match="belongs to none"):
        networks_in({**arrays, "PersonNet/conv/weights": arrays["PosePrior/fc_xyz/weights"]})
    with pytest.raises(WeightsError, match="PosePrior/fc_new/weights is not known"):
        networks_in({**arrays, "PosePrior/fc_new/weights": np.zeros((2, 2), np.float32)})
    with pytest.raises(WeightsError, match=r"fc_xyz/biases has shape \(60,\), not \(63,\)"):
        networks_in({**arrays, "PosePrior/fc_xyz/biases": np.zeros(60, np.float32)})
    with pytest.raises(WeightsError, match="18 tensors of Lifting are missing, the first is pose_prior"):
        networks_in(tf1.view_weights(rng))
    arrays.pop("PosePrior/conv_pose_1_2/biases")
    with pytest.raises(WeightsError, match="1 tensors of DirectLifting are missing, the first is pose_prior"):
        networks_in(arrays)


def test_command_writes_files_that_load_with_the_authors_conventions(tmp_path):
    rng = np.random.default_rng(6)
    source = write(tmp_path / "lifting-proposed.pickle", {**tf1.prior_weights(rng), **tf1.view_weights(rng)})
    other = write(tmp_path / "lifting-local.pickle", tf1.prior_weights(rng))
    out = tmp_path / "out"
    result = CliRunner().invoke(command, [str(source), str(other), "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "SHA-256 unknown" in result.output and "3,875,682 parameters" in result.output
    metadata = load_weights(Lifting(), out / "paper-lifting.safetensors")
    assert metadata["family"] == "paper"
    assert Conventions.from_metadata(metadata) == Conventions("palm", "middle")
    load_weights(LocalLifting(), out / "paper-lifting-local.safetensors")
    assert read_weights(out / "paper-lifting-local.safetensors")[1]["source"] == "lifting-local.pickle"


def test_command_refuses_two_files_for_one_network(tmp_path):
    rng = np.random.default_rng(7)
    paths = [write(tmp_path / f"{name}.pickle", tf1.prior_weights(rng)) for name in ("a", "b")]
    result = CliRunner().invoke(command, [*map(str, paths), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, WeightsError)
    assert "separate folders" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_command_takes_the_place_of_its_earlier_results_only(tmp_path):
    source = write(tmp_path / "a.pickle", tf1.prior_weights(np.random.default_rng(8)))
    for _ in range(2):
        assert CliRunner().invoke(command, [str(source), "--out", str(tmp_path)]).exit_code == 0
    (ours,) = tmp_path.glob("*.safetensors")
    save_weights(ours, DirectLifting(), {"family": "paper", "version": "mine", "licence": "Apache-2.0"})  # of training
    before = ours.read_bytes()
    result = CliRunner().invoke(command, [str(source), "--out", str(tmp_path)])
    assert "not an earlier result" in str(result.exception) and ours.read_bytes() == before
