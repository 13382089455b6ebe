"""Whatever a file is called and holds, a command answers or says one sentence.

FUZZ_CASES=10000 tries ten times as many of each kind.
"""

import json
import os
import random
import shutil
import time

import cv2
import pytest
from click.testing import CliRunner
from media import damaged, encoded, mjpeg, scene, video

from hand_pose_3d.camera import Camera
from hand_pose_3d.cli import main
from hand_pose_3d.errors import InvalidInputError, WeightsError

CASES = int(os.environ.get("FUZZ_CASES", 1000))
SLOW_S = 20.0
CAMERA = b"""image_width: 64
image_height: 48
camera_matrix: {rows: 3, cols: 3, data: [60, 0, 32, 0, 60, 24, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, 0, 0, 0, 0]}
"""
SUFFIXES = [b"", b".jpg", b".png", b".mp4", b".avi", b".txt", b".%03d.png", b".JPEG"]


def name(rng):
    """A file's name: any bytes but the two that no name has."""
    kind = rng.randrange(3)
    if kind == 0:
        stem = bytes(rng.choice(range(1, 256)) for _ in range(rng.randrange(1, 30))).replace(b"/", b"_")
    elif kind == 1:
        stem = "".join(rng.choice("aé手👋%d01:[]*?{}$'\"\\\n\t ~#&;") for _ in range(rng.randrange(1, 12))).encode()
    else:
        stem = rng.choice((b"-", b"--json", b"a" * 200, b"file:", b"0", b"~", b"http:", b"..."))
    return b"x" + stem + rng.choice(SUFFIXES)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Small files of every kind that is read."""
    folder = tmp_path_factory.mktemp("seeds")
    video(folder / "a.mp4", range(40, 100, 20))
    mjpeg(folder / "a.avi", 4)
    writer = cv2.VideoWriter(str(folder / "a.mkv"), cv2.VideoWriter.fourcc(*"mp4v"), 30, (64, 48))
    for number in range(4):
        writer.write(scene() + number)
    writer.release()
    jpeg, png, *others = (encoded(scene(), kind) for kind in (".jpg", ".png", ".bmp", ".tiff", ".webp", ".ppm"))
    mp4, *containers = ((folder / f"a.{kind}").read_bytes() for kind in ("mp4", "avi", "mkv"))
    kinds = {
        "JPEG": [jpeg, encoded(scene(), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)],
        "PNG": [png, encoded(scene()[..., 0], ".png"), encoded(scene().astype("u2"), ".png")],
        "MP4": [mp4],
        "other pictures": others,
        "other containers": containers,
    }
    return {**kinds, "names": [data for files in kinds.values() for data in files]}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "MP4", "other pictures", "other containers", "names"])
def test_files_of_any_name_and_content(kind, seeds, tmp_path, fake_estimator):
    rng, seeds = random.Random(kind), seeds[kind]
    answered = 0
    for number in range(CASES):
        folder = tmp_path / str(number)
        folder.mkdir()
        files = {}
        for _ in range(rng.choice((1, 1, 2))):
            path = folder / os.fsdecode(name(rng))
            data = rng.choice(seeds)
            path.write_bytes(data if kind == "names" else damaged(data, rng))
            files[path] = path.read_bytes()
        arguments = [str(folder)] if rng.random() < 0.2 else [str(path) for path in files]
        if rng.random() < 0.3:
            arguments += ["--overlay", str(rng.choice((folder, folder / "o")))]
        if rng.random() < 0.5:
            arguments += ["--json", str(rng.choice((folder / "r.json", *files)))]
        if rng.random() < 0.1:
            (folder / "k").write_bytes(damaged(CAMERA, rng))
            arguments += ["--camera", str(folder / "k")]
        start = time.monotonic()
        result = CliRunner().invoke(main, ["predict", *arguments])
        case = (kind, number, arguments, result.output)
        assert result.exception is None or isinstance(result.exception, SystemExit), (*case, result.exc_info)
        assert result.exit_code in (0, 1) and "Traceback" not in result.output, case
        assert len(result.stderr.splitlines()) <= 2 * len(files) + 1, case
        assert all(path.read_bytes() == data for path, data in files.items()), case
        assert not [each for each in os.listdir(folder) if each.startswith(".hand_pose_3d")], case
        if (folder / "r.json").exists():
            assert all("hands" in e or "error" in e for e in json.loads((folder / "r.json").read_text())), case
        assert time.monotonic() - start < SLOW_S, case
        answered += result.exit_code == 0
        shutil.rmtree(folder)
    assert answered > CASES / 20  # not refused for another reason


def test_calibrations_of_any_content(tmp_path):
    rng = random.Random(21)
    path, read = tmp_path / "k.yaml", 0
    for _ in range(CASES):
        path.write_bytes(damaged(CAMERA, rng))
        try:
            camera = Camera.from_yaml(path)
        except InvalidInputError as error:
            assert len(str(error).splitlines()) == 1
        else:
            read += 1
            assert camera.fx > 0 and len(camera.distortion) in (0, 4, 5, 8, 12, 14)
    assert read > CASES / 50


def test_weights_of_any_content(tmp_path):
    torch = pytest.importorskip("torch")
    from hand_pose_3d.weights import read_weights, save_weights

    rng, path = random.Random(22), tmp_path / "w.safetensors"
    save_weights(path, torch.nn.Linear(3, 2), {"family": "lite", "version": "1", "licence": "Apache-2.0"})
    data = path.read_bytes()
    for _ in range(CASES):
        spoiled = damaged(data, rng)
        path.write_bytes(spoiled)
        try:
            tensors, _ = read_weights(path)
        except WeightsError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert {name: tuple(t.shape) for name, t in tensors.items()} == {"weight": (2, 3), "bias": (2,)}
