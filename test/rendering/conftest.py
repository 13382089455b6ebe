"""Fixtures of the renderer's tests, which need its optional packages (pip install hand_pose_3d[render]) and EGL."""

from importlib.util import find_spec

import pytest

# A skip here would end the whole session on pytest 7.
if find_spec("anny") is None or find_spec("moderngl") is None:
    collect_ignore_glob = ["test_*.py"]


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
