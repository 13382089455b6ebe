"""RHD in its original layout, in miniature."""

import pickle

import cv2
import numpy as np
import pytest

from hand_pose_3d.datasets.rhd import hand_mask, read_depth, read_mask, read_rhd
from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.skeleton import FROM_PAPER, KEYPOINT_NAMES, Side


@pytest.fixture
def root(tmp_path):
    """Two images: in the first the right hand is larger, in the second the left."""
    rng = np.random.default_rng(1)
    annotations = {}
    for index in range(2):
        for kind in ("color", "mask", "depth"):
            (tmp_path / "evaluation" / kind).mkdir(parents=True, exist_ok=True)
        mask = np.zeros((32, 32), np.uint8)
        mask[:4, :4], mask[8 : 20 - 4 * index, 8:16], mask[8:18, 20:28] = 1, 33, 2
        depth = np.zeros((32, 32, 3), np.uint8)
        depth[..., 2], depth[..., 1] = 0x80, 0x01  # OpenCV writes BGR: red is the high byte
        name = f"{index:05d}.png"
        cv2.imwrite(str(tmp_path / "evaluation/color" / name), np.full((32, 32, 3), (10, 20, 30), np.uint8))
        cv2.imwrite(str(tmp_path / "evaluation/mask" / name), mask)
        cv2.imwrite(str(tmp_path / "evaluation/depth" / name), depth)
        xyz = rng.uniform(0.2, 0.6, (42, 3))
        k = np.array([[300.0, 0, 16], [0, 300, 16], [0, 0, 1]])
        uv = (xyz @ k.T)[:, :2] / xyz[:, 2:]
        annotations[index] = {"uv_vis": np.column_stack([uv, np.arange(42) % 3 > 0]), "xyz": xyz, "K": k}
    with (tmp_path / "evaluation/anno_evaluation.pickle").open("wb") as file:
        pickle.dump(annotations, file, protocol=2)
    return tmp_path


def annotations_of(root):
    return pickle.loads((root / "evaluation/anno_evaluation.pickle").read_bytes())


def test_dominant_hand_is_the_one_with_more_pixels(root):
    first, second = read_rhd(root)
    assert (first.side, second.side) == (Side.RIGHT, Side.LEFT)
    np.testing.assert_array_equal(first.keypoints_m, annotations_of(root)[0]["xyz"][21:][FROM_PAPER])
    np.testing.assert_array_equal(second.keypoints_m, annotations_of(root)[1]["xyz"][:21][FROM_PAPER])


def test_an_image_without_a_pixel_of_a_hand_has_no_dominant_one(root):
    cv2.imwrite(str(root / "evaluation/mask/00000.png"), np.ones((32, 32), np.uint8))
    assert [sample.name for sample in read_rhd(root)] == ["evaluation/00001.png"]


def test_order_is_base_to_tip(root):
    sample = read_rhd(root)[0]
    raw = annotations_of(root)[0]["uv_vis"][21:]
    for paper, name in ((0, "wrist"), (1, "thumb_tip"), (4, "thumb_cmc"), (12, "middle_mcp"), (17, "little_tip")):
        np.testing.assert_array_equal(sample.keypoints_px[KEYPOINT_NAMES.index(name)], raw[paper, :2])
        assert sample.visible[KEYPOINT_NAMES.index(name)] == bool(raw[paper, 2])


def test_projection_by_k_is_uv(root):
    for sample in read_rhd(root, hands="all"):
        np.testing.assert_allclose(sample.camera.project(sample.keypoints_m), sample.keypoints_px, atol=1e-9)
    assert len(read_rhd(root, hands="all")) == 4


def test_pictures(root):
    sample = read_rhd(root)[0]
    np.testing.assert_array_equal(sample.image()[0, 0], [30, 20, 10])
    mask = read_mask(sample.mask_path)
    assert hand_mask(mask).sum() == 96 + 80
    np.testing.assert_allclose(read_depth(sample.depth_path), 0x8001 / 65535 * 5, rtol=1e-6)


def test_missing_files_are_named_with_where_to_get_them(root):
    (root / "evaluation/mask/00001.png").unlink()
    with pytest.raises(InvalidInputError, match=r"evaluation/mask/00001.png.*lmb.informatik"):
        read_rhd(root)
    with pytest.raises(InvalidInputError, match=r"anno_training.pickle"):
        read_rhd(root, "training")
    with pytest.raises(InvalidInputError, match="'test'"):
        read_rhd(root, "test")


def test_renders_say_how_to_render_what_they_lack(root):
    (root / "training" / "parts").mkdir(parents=True)
    (root / "training" / "parts" / "identity.json").touch()
    (root / "evaluation/mask/00001.png").unlink()
    with pytest.raises(InvalidInputError, match=r"get it from `hand_pose_3d render --out .* --split evaluation`"):
        read_rhd(root)
    with pytest.raises(
        InvalidInputError, match=r"anno_training.*get it from `hand_pose_3d render`, after .* is deleted"
    ):
        read_rhd(root, "training")


class Malicious:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps(Malicious()), pickle.dumps([1]), pickle.dumps({})])
def test_bad_annotation_files_are_refused(root, content, capsys):
    (root / "evaluation/anno_evaluation.pickle").write_bytes(content)
    with pytest.raises(InvalidInputError, match="not an RHD annotation file"):
        read_rhd(root)
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda record: record.pop("K"), "image 0: no 'K'"),
        (lambda record: record.update(K=np.zeros((3, 3))), "image 0: the camera matrix"),
        (lambda record: record.pop("uv_vis"), "image 0: no 'uv_vis'"),
        (lambda record: record.update(uv_vis=record["uv_vis"][:21]), "shape (21, 3), not (42, 3)"),
        (lambda record: record["uv_vis"].__setitem__((0, 0), np.nan), "uv_vis holds numbers that are not finite"),
        (lambda record: record["xyz"].__setitem__((0, 0), np.inf), "xyz holds numbers that are not finite"),
        (lambda record: record.update(hands=[{"side": "up"}]), "left or right, not 'up'"),
        (lambda record: record.update(hands=[{"side": "left"}]), "image 0: no 'uv'"),
        (lambda record: record.update(hands=3), "image 0: "),
    ],
)
def test_a_record_that_is_malformed_is_named(root, change, says):
    annotations = annotations_of(root)
    change(annotations[0])
    (root / "evaluation/anno_evaluation.pickle").write_bytes(pickle.dumps(annotations, protocol=2))
    with pytest.raises(InvalidInputError, match="is not an RHD annotation file") as raised:
        read_rhd(root)
    assert says in str(raised.value)


def test_images_are_numbered(root):
    annotations = {str(index): record for index, record in annotations_of(root).items()}
    (root / "evaluation/anno_evaluation.pickle").write_bytes(pickle.dumps(annotations, protocol=2))
    with pytest.raises(InvalidInputError, match="image '0': images are numbered"):
        read_rhd(root)


def test_all_hands_of_our_renders_are_read(root):
    path = root / "evaluation/anno_evaluation.pickle"
    annotations = annotations_of(root)
    rng = np.random.default_rng(2)
    hands = [
        {
            "side": side,
            "uv": rng.uniform(0, 32, (21, 2)).astype(np.float32),
            "xyz": rng.uniform(0.2, 0.6, (21, 3)).astype(np.float32),
            "visible": np.full(21, pixels > 0),
            "pixels": pixels,
        }
        for side, pixels in (("left", 12), ("right", 0), ("left", 40), ("right", 7))
    ]
    annotations[0]["hands"] = hands
    path.write_bytes(pickle.dumps(annotations, protocol=2))
    listed = [s for s in read_rhd(root, hands="all") if s.name.endswith("00000.png")]
    assert [s.side for s in listed] == [Side.LEFT, Side.LEFT, Side.RIGHT]  # one is hidden
    np.testing.assert_array_equal(listed[1].keypoints_px, hands[2]["uv"])
    assert len(read_rhd(root, hands="all")) == 3 + 2
    np.testing.assert_array_equal(read_rhd(root)[0].keypoints_m, hands[2]["xyz"])
