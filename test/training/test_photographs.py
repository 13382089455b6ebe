"""What a teacher's views agree on, and which photographs are learned from, in what part."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_maker import find_dots, keypoints, scene

from hand_pose_3d.errors import InvalidInputError
from hand_pose_3d.training import photographs
from hand_pose_3d.training.crops import PACK_SIZE, with_pose
from hand_pose_3d.training.handsegnet import SceneSampler
from hand_pose_3d.training.photographs import pack_photographs, read_photographs
from hand_pose_3d.training.scenes import BACKGROUND, UNKNOWN
from hand_pose_3d.training.teacher import TeacherHand, agree, label, views

Folder = Callable[..., tuple[Path, Path]]
WIDTH, HEIGHT = 640, 480
DEPTH = np.linspace(3, 9, 21)
"""Pixels, of every answer."""


def record(*hands: tuple[dict[int, np.ndarray], bool], file: str = "someone/a.png") -> dict[str, Any]:
    """What a teacher wrote: each hand's keypoints in the views that saw it, by their number, and its side."""
    seen: list[dict[str, Any]] = [{"box": list(view[:4]), "hands": []} for view in views(WIDTH, HEIGHT)]
    for by_view, right in hands:
        for number, uv in by_view.items():
            seen[number]["hands"].append(
                {"uv": uv.tolist(), "z": DEPTH.tolist(), "right": right, "score": 0.9 - 0.01 * number}
            )
    return {"file": file, "views": seen}


HAND = keypoints((320, 240), 100, 0.3)
ASIDE = np.array([0.088 * np.ptp(HAND, axis=0).max(), 0])
"""So far apart that two answers are of one hand and yet do not agree."""
EVERYWHERE = tuple(range(len(views(WIDTH, HEIGHT))))


@given(width=st.integers(16, 5000), height=st.integers(16, 5000))
def test_views_show_all_of_a_photograph_more_than_once_and_in_a_mirror(width: int, height: int) -> None:
    parts = views(width, height)
    x, y = np.linspace(0, width, 13)[None], np.linspace(0, height, 13)[:, None]
    little = 1e-6 * (width + height)
    inside = [
        (abs(x - a - w / 2) <= w / 2 + little) & (abs(y - b - h / 2) <= h / 2 + little) for a, b, w, h, _ in parts
    ]
    seen = np.sum(inside, axis=0)
    assert seen.min() >= 5
    assert sum(mirrored for *_, mirrored in parts) == 1


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), number=st.integers(6, 16))
def test_views_that_agree_give_one_sure_hand_of_their_medians(seed: int, number: int) -> None:
    rng = np.random.default_rng(seed)
    by_view = {k: HAND + rng.normal(0, 2, HAND.shape) for k in rng.permutation(len(EVERYWHERE))[:number]}
    (hand,) = agree(record((by_view, True)))
    assert hand.sure and hand.right == 1 and hand.spread.shape == (21,)
    np.testing.assert_allclose(hand.keypoints_px, np.median(list(by_view.values()), axis=0), atol=1e-9)
    assert 0 < hand.spread.mean() < 0.08
    shifted = agree(record(({k: 2 * uv for k, uv in by_view.items()}, True)))[0]
    np.testing.assert_allclose(shifted.spread, hand.spread)  # a share of the hand's extent


def test_depth_is_that_behind_the_wrist_where_views_agree_on_it() -> None:
    clear, unclear = (record((dict.fromkeys(EVERYWHERE, HAND), True)) for _ in range(2))
    np.testing.assert_allclose(agree(clear)[0].depth_px, DEPTH - DEPTH[0])
    for number, view in enumerate(unclear["views"]):
        view["hands"][0]["z"] = (DEPTH * (9 if number % 2 else -9)).tolist()
    (hand,) = agree(unclear)
    assert hand.depth_px is None and hand.sure


def test_one_view_alone_is_not_sure_and_neither_are_few_of_many() -> None:
    assert [hand.sure for hand in agree(record(({0: HAND}, True)))] == [False]
    assert [hand.sure for hand in agree(record(({0: HAND, 1: HAND}, True)))] == [False]  # most could have seen it
    small = keypoints((60, 60), 40)  # only in the tiles of the corner is it large enough to be seen
    assert [hand.sure for hand in agree(record(({3: small, 7: small}, True)))] == [True]


def test_views_that_place_the_keypoints_differently_are_not_sure() -> None:
    left, right = HAND - ASIDE, HAND + ASIDE
    (hand,) = agree(record(({k: left if k % 2 else right for k in EVERYWHERE}, True)))
    assert not hand.sure and hand.spread.mean() == pytest.approx(0.088)


def test_the_side_is_the_share_of_views_and_mirrored_ones_count_as_the_rest() -> None:
    first = dict.fromkeys(EVERYWHERE[:12], HAND)
    others = dict.fromkeys(EVERYWHERE[12:], HAND)
    (hand,) = agree(record((first, True), (others, False)))
    assert hand.sure and hand.right == pytest.approx(12 / 16)


def test_a_piece_of_a_hand_is_no_further_hand_but_one_beside_it_is() -> None:
    piece = keypoints((330, 235), 35)
    beside = keypoints((450, 240), 100)
    some = EVERYWHERE[:8]
    found = agree(record((dict.fromkeys(EVERYWHERE, HAND), True), (dict.fromkeys(some, piece), True)))
    assert len(found) == 1 and np.allclose(found[0].keypoints_px, HAND)
    found = agree(record((dict.fromkeys(EVERYWHERE, HAND), True), (dict.fromkeys(some, beside), False)))
    assert [hand.right for hand in found] == [1, 0]
    assert agree(record()) == []


def test_sure_hands_come_before_those_that_more_views_saw() -> None:
    left, right = HAND - ASIDE, HAND + ASIDE
    vague = ({k: left if k % 2 else right for k in EVERYWHERE}, True)
    clear = keypoints((100, 100), 100)
    found = agree(record(vague, (dict.fromkeys((0, 1, 3, 4, 7, 8), clear), False)))
    assert [hand.sure for hand in found] == [True, False]


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Makes a folder of photographs from rows of index.csv and a teacher's records."""

    def make(rows: list[dict[str, str]], records: list[dict[str, Any]]) -> tuple[Path, Path]:
        names = list(rows[0])
        lines = [",".join(names), *(",".join(row[name] for name in names) for row in rows)]
        (tmp_path / "index.csv").write_text("\n".join(lines) + "\n")
        picture = np.ascontiguousarray(scene(HAND, size=(WIDTH, HEIGHT), radius=3).rgbc[..., 2::-1])
        for row in rows:
            (tmp_path / row["slug"]).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / row["slug"] / row["file"]), picture)
        labels = tmp_path / "labels.jsonl"
        labels.write_text("".join(json.dumps(one) + "\n" for one in records))
        return tmp_path, labels

    return make


AGREED = dict.fromkeys(EVERYWHERE, HAND)


def test_what_an_eye_saw_decides_which_photographs_count_and_in_what_part(
    folder: Folder,
) -> None:
    rows = [{"slug": "s", "file": f"{eye}.png", "hands": eye} for eye in ("no", "yes", "unknown")]
    rows += [{"slug": "s", "file": "unlabelled.png", "hands": "yes"}]
    records = [record((AGREED, True), file=f"s/{eye}.png") for eye in ("no", "yes", "unknown")]
    read = list(read_photographs(*folder(rows, records), (), True))
    assert [(len(p.hands), p.complete) for p in read] == [(0, True), (1, False)]
    assert all(p.image.shape == (HEIGHT, WIDTH, 3) for p in read)


def test_other_notes_of_an_eye_are_refused(folder: Folder) -> None:
    root, labels = folder([{"slug": "s", "file": "a.png", "hands": "No"}], [])
    with pytest.raises(InvalidInputError, match=r"hands of s/a.png is yes, no or unknown, not 'No'"):
        list(read_photographs(root, labels, (), True))


def test_photographs_known_to_show_hands_are_complete_where_the_teacher_is_sure(
    folder: Folder,
) -> None:
    rows = [{"slug": "s", "file": name} for name in ("sure.png", "vague.png", "none.png", "unlabelled.png")]
    records = [
        record((AGREED, True), file="s/sure.png"),
        record(({0: HAND}, True), file="s/vague.png"),
        record(file="s/none.png"),
    ]
    read = list(read_photographs(*folder(rows, records), (), True))
    assert [p.complete for p in read] == [True, False, False]


def test_sources_are_taken_or_left_out_and_may_be_mirrored(folder: Folder) -> None:
    rows = [{"slug": slug, "file": "a.png"} for slug in ("ann", "ben", "eve")]
    root, labels = folder(rows, [record((AGREED, True), file=f"{slug}/a.png") for slug in ("ann", "ben", "eve")])
    assert [p.source for p in read_photographs(root, labels, ["ben"], True)] == ["ann", "eve"]
    assert [p.source for p in read_photographs(root, labels, ["ben"], False)] == ["ben"]
    sides = {p.source: p.hands[0].right for p in read_photographs(root, labels, (), True, ["eve"])}
    assert sides == {"ann": 1, "ben": 1, "eve": 0.5}


def test_a_person_adds_hands_that_the_teacher_misses_and_says_what_is_none(folder: Folder, tmp_path: Path) -> None:
    rows = [{"slug": "s", "file": f"{eye}.png", "hands": eye} for eye in ("yes", "unknown", "no")]
    vague = {k: HAND - ASIDE if k % 2 else HAND + ASIDE for k in EVERYWHERE}
    records = [record((vague, True), file=f"s/{eye}.png") for eye in ("yes", "unknown", "no")]
    other = keypoints((80, 80), 60)
    looked = tmp_path / "looked.jsonl"
    lines = [
        {"file": f"s/{eye}.png", "hands": [HAND.tolist()], "others": [other.tolist()]} for eye in ("yes", "unknown")
    ]
    looked.write_text("".join(json.dumps(one) + "\n" for one in lines))
    root, labels = folder(rows, records)
    read = list(read_photographs(root, labels, (), True, looked=looked))
    assert [([h.sure for h in p.hands], p.complete, len(p.others)) for p in read] == [
        ([True], False, 1),  # before the teacher's of which it is not sure
        ([True], False, 1),  # of a photograph whose other hands nobody knows
        ([], True, 0),
    ]
    np.testing.assert_allclose(read[0].hands[0].keypoints_px, HAND)
    made = pack_photographs(root, labels, tmp_path / "out", looked=looked)
    assert made.num_sure.tolist() == [1, 1, 0] and np.isnan(made[0].right).all()
    scale = made[0].rgbc.shape[1] / WIDTH
    known = made[0].rgbc[..., 3]
    (x, y), (u, v) = ((p.mean(0) * scale).astype(int) for p in (other, HAND))
    assert known[y, x] == BACKGROUND and known[v, u] == UNKNOWN and known[-1, 0] == UNKNOWN
    crops = photographs.load_pack(tmp_path / "out" / "crops")
    assert len(crops) == 2 and len(crops.hard_negatives) == 2

    sampler, rng = SceneSampler([(made, 1.0)]), np.random.default_rng(0)
    samples = [sampler(rng) for _ in range(20)]
    assert any((s.classes == UNKNOWN).any() and s.ignored.any() for s in samples)
    assert not any((s.ignored[s.classes == BACKGROUND] > 0).any() for s in samples)


def test_a_person_draws_boxes_and_says_what_the_teacher_got_wrong(folder: Folder, tmp_path: Path) -> None:
    beside, corner = [20.0, 40.0, 90.0, 130.0], [500.0, 400.0, 620.0, 470.0]
    wrong = [*HAND.min(0).tolist(), *HAND.max(0).tolist()]
    rows = [{"slug": "s", "file": f"{name}.png", "hands": "yes"} for name in ("kept", "wrong", "open")]
    records = [record((AGREED, True), file=f"s/{row['file']}") for row in rows]
    records[2] = record(({0: HAND}, True), file="s/open.png")  # of which the teacher is not sure
    drawn = {"boxes": [beside], "ignored": [corner]}
    lines = [
        {"file": "s/kept.png", **drawn, "complete": True},
        {"file": "s/wrong.png", **drawn, "wrong": [wrong], "complete": True},
        {"file": "s/open.png", **drawn, "complete": False},
    ]
    looked = tmp_path / "looked.jsonl"
    looked.write_text("".join(json.dumps(one) + "\n" for one in lines))
    root, labels = folder(rows, records)
    read = list(read_photographs(root, labels, (), True, looked=looked))
    assert [[(h.sure, h.boxed) for h in p.hands] for p in read] == [
        [(True, False), (True, True), (False, True)],
        [(True, True), (False, True)],
        [(True, True), (False, True), (False, False)],
    ]
    assert [p.complete for p in read] == [True, True, False]
    for box in ([90.0, 130, 20, 40], [20, 40, 20, 90], [-9, -9, 0, 5]):
        looked.with_name("odd").write_text(json.dumps({"file": "s/kept.png", "boxes": [box]}))
        with pytest.raises(InvalidInputError, match="not left, top, right and bottom"):
            list(read_photographs(root, labels, (), True, looked=looked.with_name("odd")))
    made = pack_photographs(root, labels, tmp_path / "out", looked=looked)
    assert made.num_sure.tolist() == [2, 1, 1] and made[0].only_boxes.tolist() == [False, True, True]
    scale = made[0].rgbc.shape[1] / WIDTH
    np.testing.assert_allclose(made[1].keypoints_px[0].min(0), np.array(beside[:2]) * scale, atol=0.5)
    assert [made[k].rgbc[10, -10, 3] for k in range(3)] == [BACKGROUND, BACKGROUND, UNKNOWN]
    with np.load(tmp_path / "out" / "crops" / "labels.npz") as crops:
        assert crops["visible"].any(1).tolist() == [True, False, False, False]


def test_a_checked_hand_replaces_what_the_teacher_got_wrong_beside_it(folder: Folder, tmp_path: Path) -> None:
    right = HAND + [20, 0]
    root, labels = folder([{"slug": "s", "file": "a.png"}], [record((AGREED, True), file="s/a.png")])
    wrong = [[*uv.min(0).tolist(), *uv.max(0).tolist()] for uv in (HAND, HAND + 60)]
    looked = tmp_path / "looked.jsonl"
    line = {"file": "s/a.png", "hands": [(HAND + 60).tolist(), right.tolist()], "wrong": wrong, "complete": True}
    looked.write_text(json.dumps(line))
    (read,) = read_photographs(root, labels, (), True, looked=looked)
    (hand,) = read.hands
    np.testing.assert_array_equal(hand.keypoints_px, right)


def test_a_photograph_is_complete_only_where_a_person_said_so(folder: Folder, tmp_path: Path) -> None:
    root, labels = folder([{"slug": "s", "file": f"{k}.png"} for k in range(3)], [])
    looked = tmp_path / "looked.jsonl"
    lines = [{"boxes": [[20, 40, 90, 130]], **more} for more in ({}, {"complete": False}, {"complete": True})]
    looked.write_text("".join(json.dumps({"file": f"s/{k}.png", **line}) + "\n" for k, line in enumerate(lines)))
    assert [p.complete for p in read_photographs(root, labels, (), True, looked=looked)] == [False, False, True]


@pytest.mark.parametrize("count", [3, 4, 12, 13])
def test_sides_are_known_alike_in_both_directions(folder: Folder, count: int) -> None:
    """Of 16 views, 12.8 and more for a side."""
    first, others = dict.fromkeys(EVERYWHERE[:count], HAND), dict.fromkeys(EVERYWHERE[count:], HAND)
    names = ("a.png", "b.png")
    records = [record((first, k == 0), (others, k == 1), file=f"s/{name}") for k, name in enumerate(names)]
    one, other = read_photographs(*folder([{"slug": "s", "file": name} for name in names], records), (), True)
    sides = [photographs._scene(each).right[0] for each in (one, other)]
    assert np.isnan(sides).tolist() == [3 < count < 13] * 2 and (np.isnan(sides[0]) or sides[0] == 1 - sides[1])


def test_a_side_of_exactly_the_least_share_is_known() -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    hands = [TeacherHand(HAND, np.full(21, 0.01), share, True) for share in (0.2, 0.8)]
    scene = photographs._scene(photographs.Photograph("s", image, hands, True, np.zeros((0, 21, 2))))
    assert scene.right.tolist() == [0, 1]


def test_photographs_that_only_a_person_has_seen_need_no_teacher(folder: Folder, tmp_path: Path) -> None:
    root, labels = folder([{"slug": "s", "file": f"{name}.png"} for name in ("drawn", "empty", "unseen")], [])
    looked = tmp_path / "looked.jsonl"
    lines = [{"file": "s/drawn.png", "boxes": [[20, 40, 90, 130]]}, {"file": "s/empty.png"}]
    looked.write_text("".join(json.dumps(one | {"complete": True}) + "\n" for one in lines))
    read = list(read_photographs(root, labels, (), True, looked=looked))
    assert [(len(p.hands), p.complete) for p in read] == [(1, True), (0, True)]
    made = pack_photographs(root, labels, tmp_path / "out", looked=looked)
    assert made.num_sure.tolist() == [1, 0] and made[0].only_boxes.all()
    assert not photographs.load_pack(tmp_path / "out" / "crops").visible.any()


@pytest.mark.parametrize(
    "entry",
    [
        {"boxes": [[363, 129, 453]]},
        {"boxes": 5},
        {"boxes": [[None, 1, 2, 3]]},
        {"boxes": [[10**400, 1, 2, 3]]},
        {"hands": [[1, 2]]},
        {"others": [[1, 2]]},
    ],
)
def test_malformed_lines_of_what_a_person_has_seen_are_named(folder: Folder, tmp_path: Path, entry: dict) -> None:
    root, labels = folder([{"slug": "s", "file": "one.png"}], [])
    (tmp_path / "looked.jsonl").write_text(json.dumps({"file": "s/one.png", **entry}) + "\n")
    with pytest.raises(InvalidInputError, match=r"looked.jsonl on s/one.png: hands and others are lists of 21"):
        pack_photographs(root, labels, tmp_path / "out", looked=tmp_path / "looked.jsonl")


@pytest.mark.parametrize("line", [{}, {"views": None}, {"views": [{"hands": [{"score": 1, "uv": [[1, 2]] * 20}]}]}])
def test_malformed_labels_of_the_teacher_are_named(folder: Folder, line: dict) -> None:
    root, labels = folder([{"slug": "s", "file": "one.png"}], [{"file": "s/one.png", **line}])
    with pytest.raises(InvalidInputError, match=r"labels.jsonl on s/one.png is not as `label` writes it"):
        list(read_photographs(root, labels, (), True))


def test_a_finished_pack_is_not_written_over(folder: Folder, tmp_path: Path) -> None:
    root, labels = folder([{"slug": "s", "file": "one.png"}], [record((AGREED, True), file="s/one.png")])
    pack_photographs(root, labels, tmp_path / "out")
    with pytest.raises(InvalidInputError, match="holds a pack; delete it, or choose another folder"):
        pack_photographs(root, labels, tmp_path / "out")


def test_a_folder_without_index_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").touch()
    with pytest.raises(InvalidInputError, match="not a folder of photographs"):
        list(read_photographs(tmp_path, tmp_path / "labels.jsonl", (), True))


def test_a_pack_without_hard_negatives_keeps_none_of_an_earlier_one(tmp_path: Path) -> None:
    writer = photographs._CropWriter()
    writer.hard_negatives.append(np.zeros((256, 256, 3), np.uint8))
    assert len(writer.write(tmp_path).hard_negatives) == 1
    assert len(photographs._CropWriter().write(tmp_path).hard_negatives) == 0


def test_a_photograph_has_one_line(tmp_path: Path) -> None:
    (tmp_path / "looked.jsonl").write_text('{"file": "a/b.jpg"}\n' * 2)
    with pytest.raises(InvalidInputError, match=r"2 lines of a/b.jpg"):
        photographs._records(tmp_path / "looked.jsonl")


def test_packs_hold_scenes_with_unknown_pixels_around_hands_and_their_crops(folder: Folder, tmp_path: Path) -> None:
    rows = [{"slug": "s", "file": f"{k}.png", "hands": eye} for k, eye in enumerate(("yes", "yes", "no"))]
    split = dict.fromkeys(EVERYWHERE[:8], HAND), dict.fromkeys(EVERYWHERE[8:], HAND)
    records = [record((AGREED, False), file="s/0.png"), record((split[0], True), (split[1], False), file="s/1.png")]
    made = pack_photographs(*folder(rows, records), tmp_path / "out")
    assert len(made) == 3 and made.num_sure.tolist() == [1, 1, 0]
    assert made[0].right.tolist() == [0] and np.isnan(made[1].right).all()  # half of the views say right
    scale = made[0].rgbc.shape[1] / WIDTH
    np.testing.assert_allclose(made[0].keypoints_px[0], (HAND + 0.5) * scale - 0.5, atol=1e-3)
    assert (made[0].rgbc[..., 3] == UNKNOWN).all()  # an eye said only that there are hands
    assert (made[2].rgbc[..., 3] == BACKGROUND).all() and made[2].complete and not made[0].complete

    crops = photographs.load_pack(tmp_path / "out" / "crops")
    assert len(crops) == 2 and crops.side.tolist() == [1, 0] and crops.visible.all()
    assert crops.spread is not None and crops.spread.shape == (2, 21)
    assert with_pose(crops).side.tolist() == [1]  # of the other the side is unknown
    xyz = crops.xyz_m[0]
    pixel_m = 0.17 / np.ptp(HAND, axis=0).max()
    np.testing.assert_allclose(xyz[:, :2] - xyz[0, :2], (HAND - HAND[0]) * pixel_m, atol=1e-6)
    np.testing.assert_allclose(np.diff(xyz[:, 2]), np.diff(DEPTH) * pixel_m, rtol=1e-6)
    np.testing.assert_allclose(find_dots(crops.rgba[0, ..., :3]), crops.uv[0], atol=1.5)
    assert crops.rgba.shape[1:] == (PACK_SIZE, PACK_SIZE, 4)
    assert crops.backgrounds.shape[1:] == (PACK_SIZE, PACK_SIZE, 3) and len(crops.backgrounds) == 1


def test_pixels_far_from_the_hands_of_a_complete_photograph_are_background(folder: Folder, tmp_path: Path) -> None:
    made = pack_photographs(
        *folder([{"slug": "s", "file": "a.png"}], [record((AGREED, True), file="s/a.png")]), tmp_path / "out"
    )
    classes, scale = made[0].rgbc[..., 3], made[0].rgbc.shape[1] / WIDTH
    columns, rows = (HAND * scale).round().astype(int).T
    assert made[0].complete and (classes[rows, columns] == UNKNOWN).all()
    assert (classes == BACKGROUND).mean() > 0.7 and set(np.unique(classes)) == {BACKGROUND, UNKNOWN}


def test_the_teacher_sees_every_view_and_its_answers_are_in_the_photographs_pixels(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher that finds the dots, and calls a hand by the side of its thumb as MediaPipe does in a mirror."""

    class Hands:
        def __init__(self, **_: object) -> None:
            pass

        def process(self, image: np.ndarray) -> SimpleNamespace:
            uv = find_dots(image)
            if np.isnan(uv).any():
                return SimpleNamespace(multi_hand_landmarks=None, multi_handedness=None)
            marks = [SimpleNamespace(x=u / image.shape[1], y=v / image.shape[0], z=0.1) for u, v in uv]
            name = "Left" if uv[1, 0] < uv[17, 0] else "Right"
            side = SimpleNamespace(classification=[SimpleNamespace(label=name, score=0.9)])
            return SimpleNamespace(multi_hand_landmarks=[SimpleNamespace(landmark=marks)], multi_handedness=[side])

    module = ModuleType("mediapipe.python.solutions.hands")
    module.Hands = Hands  # type: ignore[attr-defined]
    for name in ("mediapipe", "mediapipe.python", "mediapipe.python.solutions"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    rows = [{"slug": "s", "file": f"{k}.png", "hands": eye} for k, eye in enumerate(("yes", "no", "yes"))]
    root, labels = folder(rows, [])
    label(root, labels)
    records = [json.loads(line) for line in labels.open()]
    assert [one["file"] for one in records] == ["s/0.png", "s/2.png"]  # no teacher is asked where there is no hand
    hands = [hand for view in records[0]["views"] for hand in view["hands"]]
    assert len(records[0]["views"]) == len(EVERYWHERE) and len(hands) >= 5
    assert records[0]["views"][1]["hands"]  # the mirrored one
    for hand in hands:
        np.testing.assert_allclose(hand["uv"], HAND, atol=1.5)
        assert hand["right"] is True and hand["z"][0] > 0
    assert agree(records[0])[0].sure
    label(root, labels)  # again: all are done
    assert len(labels.read_text().splitlines()) == 2


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["photographs", *map(str, arguments)])
    monkeypatch.delitem(sys.modules, photographs.__name__, raising=False)
    runpy.run_module(photographs.__name__, run_name="__main__")


def test_command_line(folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--help")
    text = capsys.readouterr().out
    assert ended.value.code == 0 and "index.csv" in text and "--held-out" in text and "--no-side" in text
    rows = [{"slug": slug, "file": "a.png"} for slug in ("ann", "ben")]
    root, labels = folder(rows, [record((AGREED, True), file=f"{slug}/a.png") for slug in ("ann", "ben")])
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "pack", root, labels)
    assert ended.value.code == 2 and "pack needs OUT" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "pack", root, labels, root / "out", "--faces")
    assert ended.value.code == 2 and "give both" in capsys.readouterr().err
    damaged = root / "damaged.jsonl"
    damaged.write_text("{")
    for arguments, says in (
        ((root, labels, root / "out", "--held-out", "bem"), "has no source 'bem'; its sources: ann, ben"),
        ((root / "nowhere", labels, root / "out"), "is not a folder of photographs"),
        ((root, root / "none.jsonl", root / "out"), "none.jsonl"),
        ((root, damaged, root / "out"), "damaged.jsonl is not a list of photographs"),
    ):
        with pytest.raises(SystemExit) as ended:
            run(monkeypatch, "pack", *arguments)
        assert says in str(ended.value.code) and len(str(ended.value.code).splitlines()) == 1
    assert not (root / "out" / "labels.npz").exists()
    run(monkeypatch, "pack", root, labels, root / "out", "--held-out", "ben")
    sources = [photographs.ScenePack(root / name).source.tolist() for name in ("out", "out-held-out")]
    assert sources == [["ann"], ["ben"]] and "lacks" not in capsys.readouterr().err
    labels.write_text(json.dumps(record((AGREED, True), file="ann/a.png")) + "\n")
    run(monkeypatch, "pack", root, labels, root / "part")
    assert "labels.jsonl lacks 1 photographs, which are left out, such as ben/a.png" in capsys.readouterr().err
    (root / "new-held-out").mkdir()
    (root / "new-held-out" / "notes.txt").touch()
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "pack", root, labels, root / "new", "--held-out", "ben")
    assert "something other than a pack" in str(ended.value.code) and not (root / "new").exists()
