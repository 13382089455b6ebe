"""What is said of a topic on which nothing comes, and how many images were lost on their way."""

from __future__ import annotations

import numpy as np
import pytest

from hand_pose_3d.ros.stream import StreamWatch
from hand_pose_3d.ros.topics import COMPRESSED, IMAGE, compressed_topic, why_silent, wrong_type


@pytest.mark.parametrize(
    ("topic", "wanted", "there", "says"),
    [
        ("/c/image", IMAGE, {}, ""),
        ("/c/image", IMAGE, {"/c/image": [IMAGE]}, ""),
        ("/c/image", IMAGE, {"/c/image": [COMPRESSED, IMAGE]}, ""),
        ("/c/image/compressed", IMAGE, {"/c/image/compressed": [COMPRESSED]}, "set image_transport to compressed"),
        ("/c/jpeg", IMAGE, {"/c/jpeg": [COMPRESSED]}, "remap image/compressed to /c/jpeg"),
        ("/c/image", IMAGE, {"/c/image/compressed": [COMPRESSED]}, "set image_transport to compressed"),
        ("/c/image/compressed", COMPRESSED, {"/c/image": [IMAGE]}, "set image_transport to raw"),
        ("/c/image/compressed", COMPRESSED, {"/c/image/compressed": [IMAGE]}, "set image_transport to raw"),
        ("/c/t", IMAGE, {"/c/t": ["theora_image_transport/msg/Packet"]}, "republish"),
        ("/image", IMAGE, {"/c/left": [IMAGE], "/c/jpeg": [COMPRESSED], "/image": []}, "there are images on /c/left:"),
        (
            "/image",
            IMAGE,
            {n: [IMAGE] for n in ("/c/aligned_depth_to_color", "/b/overlay", "/c/ir", "/c/color/image_raw")},
            "there are images on /c/color/image_raw, /c/ir:",
        ),
        ("/image", IMAGE, {"/c/depth/image_rect_raw": [IMAGE]}, ""),
        ("/c/points", IMAGE, {"/c/points": ["sensor_msgs/msg/PointCloud2"]}, "remap to a topic of type"),
    ],
)
def test_a_topic_of_another_type_is_named_with_its_remedy(topic, wanted, there, says):
    sentence = why_silent(topic, wanted, there)
    assert says in sentence and bool(says) == bool(sentence)
    if there.get(topic) and sentence:
        assert there[topic][0] in sentence and wanted in sentence


def test_a_wrong_camera_info_or_depth_is_named():
    assert wrong_type("/c/depth", IMAGE, []) == wrong_type("/c/depth", IMAGE, [IMAGE, COMPRESSED]) == ""
    assert COMPRESSED in wrong_type("/c/depth", IMAGE, [COMPRESSED])


def test_compressed_topic_of_a_name_that_is_one_already():
    assert compressed_topic("/c/image") == compressed_topic("/c/image/compressed") == "/c/image/compressed"


def watched(stamps, came, infos=True, watch=None) -> tuple[int, int]:
    """What a watch says of a camera with these stamps, of whose images only some came."""
    watch = watch or StreamWatch()
    for stamp, there in zip(stamps, came, strict=True):
        if infos:
            watch.camera_info(stamp, stamp)
        if there:
            watch.image(stamp)
    return watch.lost(stamps[-1])


STAMPS = 100 + np.arange(90) / 30
RANDOM = np.random.default_rng(3).random(90)


@pytest.mark.parametrize("infos", [True, False])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_lost_images_are_counted(infos, share):
    came = share < RANDOM
    lost, published = watched(STAMPS, came, infos)
    assert 0.7 * share < lost / published < 1.3 * share


@pytest.mark.parametrize("infos", [True, False])
@pytest.mark.parametrize(
    "stamps",
    [
        STAMPS,
        STAMPS + 0.002 * RANDOM,  # a clock with jitter
        np.concatenate([STAMPS[:45], STAMPS[45] + np.arange(45) / 15]),  # darkness: the camera halves its rate
        np.cumsum(0.02 + 0.03 * RANDOM),  # variable rate
    ],
)
def test_a_stream_without_losses_is_not_accused(infos, stamps):
    assert watched(stamps, np.ones(90, bool), infos)[0] == 0


@pytest.mark.parametrize("infos", [True, False])
def test_a_stream_that_is_thinned_on_purpose_is_not_accused(infos):
    assert watched(STAMPS, np.arange(90) % 6 == 0, infos)[0] == 0


@pytest.mark.parametrize("infos", [True, False])
@pytest.mark.parametrize(("kept", "of"), [(2, 3), (3, 4), (4, 5), (3, 5)])
def test_a_stream_of_which_some_of_each_few_are_dropped_is_not_accused(kept, of, infos):
    assert watched(STAMPS, np.arange(90) % of < kept, infos)[0] == 0


@pytest.mark.parametrize("lost", [(20, 45, 70), (*range(30, 33), *range(60, 63))])
def test_a_few_losses_and_bursts_of_them_are_no_throttling(lost):
    assert watched(STAMPS, ~np.isin(np.arange(90), lost)) == (len(lost), 90)


def test_a_long_outage_is_no_throttling():
    came = np.ones(90, bool)
    came[35:70] = False
    assert watched(STAMPS, came) == (35, 90)


@pytest.mark.parametrize("rate", [5, 8, 10, 12, 15])
def test_a_stream_that_topic_tools_throttles_is_not_accused(rate):
    last, came = -np.inf, []
    for stamp in STAMPS + 0.001 * RANDOM:
        came.append(stamp - last > 1 / rate)
        last = stamp if came[-1] else last
    assert watched(STAMPS, came)[0] == 0


@pytest.mark.parametrize(("images", "pause_s"), [(6, 2.6), (2, 1.0), (3, 0.5)])
def test_a_camera_that_pauses_is_not_accused(images, pause_s):
    bursts = [100 + n * (images * 0.1 + pause_s) + 0.1 * np.arange(images) for n in range(12)]
    assert watched(np.concatenate(bursts), np.ones(12 * images, bool), infos=False)[0] == 0


def test_camera_info_with_stamps_of_its_own_accuses_nobody():
    watch = StreamWatch()
    for stamp in STAMPS:
        watch.camera_info(stamp + 0.01, stamp)
        watch.image(stamp)
    assert watch.lost(STAMPS[-1]) == (0, 0)


def test_without_any_image_all_are_lost_once_they_are_late():
    watch = StreamWatch()
    for stamp in STAMPS:
        watch.camera_info(stamp, stamp)
    assert watch.lost(STAMPS[-1] + 5.0) == (90, 90)


def test_images_before_the_subscription_are_not_counted():
    assert watched(STAMPS, np.arange(90) > 40)[0] == 0
    watch = StreamWatch()
    watched(STAMPS, np.arange(90) > 40, watch=watch)
    watch.time_jumped()
    assert watched(STAMPS - 50, np.ones(90, bool), watch=watch) == (0, 90)
