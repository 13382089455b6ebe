"""Fixtures of the renderer's tests; all are skipped where its optional packages or an EGL driver are missing."""

import pytest

pytest.importorskip("anny", reason="the renderer's body model is not installed (pip install hand_pose_3d[render])")
pytest.importorskip("moderngl", reason="the rasteriser is not installed (pip install hand_pose_3d[render])")


@pytest.fixture(scope="session")
def maker():
    from hand_pose_3d.errors import DeviceError
    from hand_pose_3d.rendering.dataset import FrameMaker

    try:
        return FrameMaker(assets=None)
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def arm(maker):
    return maker.source.characters.arm(3)
