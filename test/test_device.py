"""What happens on a device is what OpenCV and ONNX Runtime do on the host, to stated tolerances.

Devices are the CPU and, with `pytest -m gpu`, a GPU: the same code runs on both.
"""

from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.overrides import TorchFunctionMode

from hand_pose_3d import device as module
from hand_pose_3d import runtime
from hand_pose_3d.camera import Crop
from hand_pose_3d.conventions import FINE_CROP_SIZE
from hand_pose_3d.device import DeviceImage, DeviceRunner
from hand_pose_3d.errors import DeviceError, OutOfMemoryError
from hand_pose_3d.estimator import HandPoseEstimator
from hand_pose_3d.evaluation.benchmark.frames import read_clip, tiled
from hand_pose_3d.networks import HandSegNet, Lifting, PoseNet, lite_runtime, paper_runtime
from hand_pose_3d.networks.lite import LiteFinePoseNet, LiteHandSegNet, LiteLifting, LitePalmNet, LitePoseNet
from hand_pose_3d.networks.lite_runtime import CropReader
from hand_pose_3d.pixels import canvas_of, crops_of, mirrored

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")]
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]

PHOTO = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8), (0, 0), 1.5)
PHOTO = cv2.normalize(PHOTO, None, 0, 255, cv2.NORM_MINMAX)
"""As sharp as a photograph: edges over three pixels, all of the range."""


@pytest.mark.parametrize("border", [0, 127])
@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=30, deadline=None)
@given(
    windows=st.lists(
        st.builds(
            Crop,
            center=st.tuples(st.floats(-20, 340), st.floats(-20, 260)),
            side=st.floats(20, 400),
            size=st.just(64),
            angle=st.floats(-4, 4),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_crops_are_opencvs(device, border, windows):
    """OpenCV 4 takes positions to a 32nd of a pixel, and all round to whole levels.

    Half of that 32nd is (255 + 61) / 64 levels where the steepest edge, 61 levels a pixel, meets the border.
    """
    there = DeviceImage(PHOTO, torch.device(device))
    assert there.shape == PHOTO.shape
    expected, found = crops_of(PHOTO, windows, border).astype(float), crops_of(there, windows, border)
    assert found.dtype == torch.float32 and found.shape == expected.shape
    difference = np.abs(found.cpu().numpy() - expected)
    assert difference.mean() < 0.4 and difference.max() < 5.5
    np.testing.assert_array_equal(mirrored(found).cpu(), found.cpu().numpy()[:, :, ::-1])


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=30, deadline=None)
@given(
    part=st.tuples(st.integers(0, 100), st.integers(0, 100), st.integers(40, 220), st.integers(40, 140)),
    scale=st.floats(0.15, 2.5),
)
def test_resized_parts_are_opencvs(device, part, scale):
    x, y, w, h = part
    inner = max(round(w * scale), 8), max(round(h * scale), 8)
    finer = int(np.ceil(0.5 / scale))
    padded = tuple(-(-edge // 32) * 32 for edge in inner)
    there = DeviceImage(PHOTO, torch.device(device))
    expected, found = (canvas_of(i, (x, y), (w, h), inner, padded, 114, finer) for i in (PHOTO, there))
    assert found.shape == expected.shape == (1, padded[1], padded[0], 3)
    assert np.abs(found.cpu().numpy() - expected).max() < 1.5  # rounded once or twice
    assert padded == inner or found[0, -1, -1].tolist() == [114] * 3


@pytest.mark.parametrize("device", DEVICES)
def test_a_runner_gives_what_its_network_gives_for_arrays_and_tensors(device):
    torch.manual_seed(0)
    network = CropReader(LitePoseNet(), LiteLifting()).eval()
    run = DeviceRunner(network, torch.device(device), torch.float32)
    for count in (1, 3, 1, 3, 1, 3):
        crops = np.random.default_rng(count).integers(0, 256, (count, 160, 160, 3), np.uint8)
        side = np.arange(count, dtype=np.float32) - 1
        with torch.inference_mode():
            there = (torch.from_numpy(x).to(device) for x in (crops, side))
            expected = [x.cpu().numpy() for x in network(*there)]
        for given_crops in (crops, torch.from_numpy(crops).to(device).float()):
            found = run(given_crops, side)
            assert [x.shape for x in found] == [x.shape for x in expected]
            for a, b in zip(found, expected):
                np.testing.assert_allclose(a, b, atol=1e-4 if device == "cpu" else 2e-2)  # a GPU multiplies in TF32
    assert len(run._graphs) == (0 if device == "cpu" else 2)


@pytest.fixture
def on_torch(monkeypatch):
    """float32 on a CPU as a GPU would have it: by torch."""
    for place in ("hand_pose_3d.runtime", "hand_pose_3d.estimator"):
        monkeypatch.setattr(f"{place}.choose_backend", lambda *_: "torch")


@pytest.mark.parametrize("tracking", [True, False])
@pytest.mark.parametrize(("device", "tolerance_px"), [("cpu", 0.5), pytest.param("cuda", 1.5, marks=GPU)])
def test_hands_are_those_of_onnx_runtime(request, device, tolerance_px, tracking):
    """Two hands of the built-in clip, 130 pixels large; a GPU works in float16."""
    frames = tiled(read_clip(12).frames, 2)[:: 2 if tracking else 6]
    host = HandPoseEstimator(device="cpu", precision="float32", tracking=tracking)
    if device == "cpu":
        request.getfixturevalue("on_torch")
    there = HandPoseEstimator(device=device, tracking=tracking, precision="auto" if device == "cuda" else "float32")
    assert (host.backend, there.backend) == ("onnxruntime", "torch")
    there.warm_up()
    for k, frame in enumerate(frames):
        expected, found = (sorted(e(frame, stamp_s=k / 30), key=lambda h: h.roi_px) for e in (host, there))
        assert len(found) == len(expected) == 2
        for a, b in zip(found, expected):
            assert np.abs(a.keypoints_px - b.keypoints_px).mean() < tolerance_px
            assert (a.side, a.track_id) == (b.side, b.track_id) and a.score == pytest.approx(b.score, abs=0.05)
            np.testing.assert_allclose(a.keypoints_relative, b.keypoints_relative, atol=0.1)
    assert there.timings_ms["crop"] > 0


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported asynchronously"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "CUDACachingAllocator.cpp":1131'),
    ],
)
@pytest.mark.parametrize("place", ["forward", "to"])
def test_no_memory_is_said_in_words(error, place):
    class Large(nn.Module):
        pass

    def fail(*arguments, **names):
        raise error

    setattr(Large, place, fail)
    with pytest.raises(OutOfMemoryError, match="no memory left.*max_hands") as caught:
        DeviceRunner(Large(), torch.device("cpu"), torch.float32)(np.zeros((1, 8, 8, 3), np.uint8))
    assert "\n" not in str(caught.value) and isinstance(caught.value, DeviceError)


def test_other_errors_are_not_of_memory():
    class Wrong(nn.Module):
        def forward(self, x):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        DeviceRunner(Wrong(), torch.device("cpu"), torch.float32)(np.zeros((1, 8, 8, 3), np.uint8))


class Rerun:
    """Stands for a graph where there is no GPU: what it was recorded with runs again on the same memory."""

    made: ClassVar[list[int]] = []

    def __init__(self, runner, inputs):
        self.runner, self.inputs = runner, inputs
        self.made.append(len(inputs[0]))

    def __call__(self, tensors):
        for own, tensor in zip(self.inputs, tensors):
            own[: len(tensor)].copy_(tensor)
        return self.runner.forward(*self.inputs)[: len(tensors[0])]


def test_numbers_of_crops_share_graphs(monkeypatch):
    class Sums(nn.Module):
        def forward(self, x, side):
            return x.float().sum((1, 2)), side * 2

    monkeypatch.setattr(module, "_Graph", Rerun)
    run = DeviceRunner(Sums(), torch.device("cpu"), torch.float32)
    run._records, rng = True, np.random.default_rng(0)
    Rerun.made.clear()
    for count in [*range(1, 33), *range(32, 0, -1)]:
        crops, side = rng.integers(0, 255, (count, 4, 4, 3), dtype=np.uint8), rng.random(count, np.float32)
        sums, doubled = run(crops, side)
        np.testing.assert_allclose(sums, crops.sum((1, 2), dtype=float), rtol=1e-6)
        np.testing.assert_allclose(doubled, 2 * side)
    assert sorted(Rerun.made) == list(module._BATCHES)


class NoCopies(TorchFunctionMode):
    """Refuses what makes a tensor of numbers: it would be copied to the device, which no graph can record."""

    def __torch_function__(self, function, kinds, arguments=(), names=None):
        assert function not in (torch.as_tensor, torch.tensor, torch.from_numpy), function
        return function(*arguments, **(names or {}))


def networks_that_run():
    pose, lifting = LitePoseNet(), LiteLifting()
    crops, scene, side = torch.zeros(2, 160, 160, 3), torch.zeros(1, 128, 160, 3), torch.tensor([-1.0, 1.0])
    yield "lite scene", lite_runtime.SceneReader(LiteHandSegNet()), (scene,)
    yield "palms", lite_runtime.PalmReader(LitePalmNet()), (scene,)
    yield "lite crop", lite_runtime.CropReader(pose, lifting), (crops, side)
    fine = torch.zeros(2, FINE_CROP_SIZE, FINE_CROP_SIZE, 3)
    yield "fine crop", lite_runtime.CropReader(pose, lifting, LiteFinePoseNet()), (fine, side)
    yield "paper scene", paper_runtime.PaperSceneReader(HandSegNet()), (torch.zeros(1, 64, 64, 3),)
    crop = torch.zeros(2, 256, 256, 3)
    yield "paper crop", paper_runtime.PaperCropReader(PoseNet(), Lifting(), pose), (crop, side)


def test_networks_take_nothing_from_the_host():
    for name, network, inputs in networks_that_run():
        with torch.inference_mode(), NoCopies():
            assert network.eval()(*inputs) is not None, name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")
def test_shapes_beyond_the_last_graph_run_without():
    class Sum(nn.Module):
        def forward(self, x):
            return x.float().sum((1, 2))

    run = DeviceRunner(Sum(), torch.device("cuda"), torch.float16)
    for size in range(1, module._GRAPHS + 4):
        for _ in range(3):
            (found,) = run(np.ones((1, size, size, 3), np.uint8))
            assert found.tolist() == [[size**2] * 3]
    assert len(run._graphs) == module._GRAPHS


def test_arrays_stay_where_onnx_runtime_runs_and_go_up_once_elsewhere():
    image: Any = PHOTO[:, ::-1]
    assert runtime.make_upload("cpu", "float32")(image) is image
    there: Any = runtime.make_upload("cpu", "bfloat16")(image)
    np.testing.assert_array_equal(there.planes.permute(1, 2, 0), image)


def test_a_network_that_cannot_be_recorded_runs_without_a_graph(monkeypatch):
    def fail(*_):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(module, "_Graph", fail)
    run = DeviceRunner(nn.Linear(3, 2), torch.device("cpu"), torch.float32)
    run._records = True
    first = run(np.ones((1, 3), np.float32))[0]
    with pytest.warns(UserWarning, match="without a CUDA graph: operation not permitted"):
        np.testing.assert_array_equal(run(np.ones((1, 3), np.float32))[0], first)
    np.testing.assert_array_equal(run(np.ones((1, 3), np.float32))[0], first)


def test_while_a_graph_is_recorded_the_precision_stays(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    with module._benchmarking():
        assert torch.backends.cudnn.benchmark and not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize(
    ("own", "built", "there"),
    [
        ((9, 0), ["sm_75", "sm_90", "sm_120"], True),
        ((8, 9), ["sm_80", "sm_90"], True),  # kernels of the same generation
        ((6, 1), ["sm_75", "sm_80", "compute_120"], False),
        ((12, 1), ["sm_90", "compute_120"], True),  # to be compiled there
        ((9, 0), ["gfx942"], True),  # ROCm says nothing of it
    ],
)
def test_a_gpu_without_kernels_in_this_build_of_torch_is_none(monkeypatch, own, built, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: own)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    assert runtime.choose_device("auto") == ("cuda" if there else "cpu")
    if there:
        assert runtime.choose_device("cuda:0") == "cuda:0"
    else:
        with pytest.raises(DeviceError, match="has no kernels for that GPU"):
            runtime.choose_device("cuda:0")
    with pytest.raises(DeviceError, match="not known"):
        runtime.choose_device("cuda:00")
