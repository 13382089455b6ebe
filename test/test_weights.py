"""Weights files survive a round trip and refuse everything that is not exactly right."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from hand_pose_3d import weights
from hand_pose_3d.errors import WeightsError
from hand_pose_3d.geometry import bone_length, canonical_rotation, normalise, to_canonical
from hand_pose_3d.skeleton import AUTHORS_REFERENCE_BONE, palm_from_wrist

METADATA = {"family": "lite", "version": "1", "licence": "Apache-2.0"}


class Small(nn.Module):
    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)


class Other(Small):
    pass


@pytest.fixture
def saved(tmp_path):
    module = Small()
    path = tmp_path / "small.safetensors"
    weights.save_weights(path, module, METADATA)
    return module, path


def test_round_trip_restores_parameters_buffers_and_metadata(saved):
    module, path = saved
    loaded = Small()
    metadata = weights.load_weights(loaded, path)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    assert METADATA.items() <= metadata.items()
    assert metadata["network"] == "Small"


def test_half_precision_is_stored_and_cast_back(tmp_path):
    module = Small()
    path = tmp_path / "half.safetensors"
    weights.save_weights(path, module, METADATA, half=True)
    tensors, _ = weights.read_weights(path)
    assert tensors["conv.weight"].dtype == torch.float16
    assert tensors["norm.num_batches_tracked"].dtype == torch.int64
    loaded = Small()
    weights.load_weights(loaded, path)
    assert loaded.conv.weight.dtype == torch.float32
    torch.testing.assert_close(loaded.conv.weight, module.conv.weight, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("value, message", [(float("nan"), "not finite"), (1e6, "exceeds")])
def test_values_that_cannot_be_stored_are_refused(tmp_path, value, message):
    module = Small()
    with torch.no_grad():
        module.conv.bias[0] = value
    with pytest.raises(WeightsError, match=message):
        weights.save_weights(tmp_path / "x.safetensors", module, METADATA, half=True)


def test_metadata_is_required(tmp_path):
    with pytest.raises(WeightsError, match="licence"):
        weights.save_weights(tmp_path / "x.safetensors", Small(), {"family": "lite", "version": "1"})


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        weights.load_weights(Small(), tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="folder"):
        weights.load_weights(Small(), tmp_path)


def test_one_changed_bit_is_found(saved):
    _, path = saved
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        weights.load_weights(Small(), path)


@pytest.mark.parametrize("keep", [0, 5, 100, -10])
def test_truncated_file(saved, keep):
    _, path = saved
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="cut short"):
        weights.load_weights(Small(), path)


def test_git_lfs_pointer_is_named(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(WeightsError, match="git lfs pull"):
        weights.load_weights(Small(), path)


def test_a_pickle_is_not_loaded(tmp_path):
    path = tmp_path / "x.safetensors"
    torch.save(Small().state_dict(), path)
    with pytest.raises(WeightsError, match="not a safetensors file"):
        weights.load_weights(Small(), path)


def test_foreign_safetensors_without_checksum(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="no checksum"):
        weights.load_weights(Small(), path)


def test_wrong_network_shape_and_names_leave_the_module_unchanged(saved, tmp_path):
    _, path = saved
    with pytest.raises(WeightsError, match="weights of Small, not of Other"):
        weights.load_weights(Other(), path)
    wide = Small(6)
    before = wide.conv.weight.clone()
    with pytest.raises(WeightsError, match=r"conv.bias has shape \(5,\), not \(6,\)|conv.weight has shape"):
        weights.load_weights(wide, path)
    assert torch.equal(before, wide.conv.weight)
    more = Small()
    more.extra = nn.Linear(2, 2)
    with pytest.raises(WeightsError, match=r"extra.bias \(and 1 more\) is missing"):
        weights.load_weights(more, path)
    more_path = tmp_path / "more.safetensors"
    weights.save_weights(more_path, more, METADATA)
    with pytest.raises(WeightsError, match="is not known"):
        weights.load_weights(Small(), more_path)


def test_registry_names_files_and_guards_their_bytes(saved, tmp_path, monkeypatch):
    _, path = saved
    table = {"small": {"file": path.name, "sha256": weights.file_sha256(path)}, "gone": {"file": "no", "sha256": ""}}
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    monkeypatch.setattr(weights, "registry", lambda: table)
    assert weights.default_weights("small") == path
    weights.load_weights(Small(), weights.default_weights("small"))
    with pytest.raises(WeightsError, match="gone, small"):
        weights.default_weights("large")
    with pytest.raises(WeightsError, match="not installed"):
        weights.default_weights("gone")
    weights.save_weights(path, Small(), METADATA)
    with pytest.raises(WeightsError, match="not the file that this version ships"):
        weights.load_weights(Small(), path)


def test_shipped_files_are_all_there_and_unchanged():
    for name, row in json.loads(weights.REGISTRY.read_text()).items():
        path = weights.default_weights(name)
        assert weights.file_sha256(path) == row["sha256"], name
        _, metadata = weights.read_weights(path)
        assert all(metadata.get(key) for key in weights.REQUIRED_METADATA), name


def test_conventions_turn_the_authors_pose_into_ours():
    rng = np.random.default_rng(0)
    wrist_hand = rng.normal(size=(4, 21, 3))
    theirs, _ = normalise(palm_from_wrist(wrist_hand), AUTHORS_REFERENCE_BONE)
    ours, _ = normalise(wrist_hand)
    conventions = weights.Conventions("palm", "middle")
    np.testing.assert_allclose(conventions.pose_to_public(theirs), ours, atol=1e-9)
    # The canonical frame and the viewpoint are those of the wrist-rooted hand.
    np.testing.assert_allclose(canonical_rotation(theirs), canonical_rotation(ours), atol=1e-9)
    np.testing.assert_allclose(conventions.pose_to_public(to_canonical(theirs)[0]), to_canonical(ours)[0], atol=1e-9)
    np.testing.assert_allclose(bone_length(theirs, conventions.bone), 1)
    assert weights.Conventions.from_metadata(conventions.metadata) == conventions
    assert weights.Conventions.from_metadata({}).pose_to_public(ours) is ours


def test_unknown_convention_is_refused():
    with pytest.raises(WeightsError, match="thumb"):
        weights.Conventions.from_metadata({"keypoint0": "thumb"})


def test_an_earlier_result_is_known_in_whatever_order_its_metadata_stand(tmp_path):
    """safetensors writes metadata in random order, and figures hold braces of their own."""
    metadata = {"family": "paper", "version": "1", "licence": "Apache-2.0", "figures": '{"median": {"px": 1}}'}
    for number in range(12):
        for _ in range(2):
            weights.save_weights(tmp_path / f"{number}.safetensors", nn.Linear(2, 2), metadata)
    (tmp_path / "other.safetensors").write_bytes(b'12345678{"tensor":{}}')
    with pytest.raises(WeightsError, match="not an earlier result"):
        weights.save_weights(tmp_path / "other.safetensors", nn.Linear(2, 2), metadata)
