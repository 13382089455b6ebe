"""The node's topics in rerun, as they come or from a recording. Needs rerun-sdk, and rosbags for a recording.

python -m hand_pose_3d.ros.rerun_view                                    # /image and /hand_pose_3d/hands
python -m hand_pose_3d.ros.rerun_view --bag demo_output/recording        # what `make demo` or ros2 bag wrote
python -m hand_pose_3d.ros.rerun_view --bag demo_output/recording --save hands.rrd
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hand_pose_3d.errors import HandPoseError, InvalidInputError, extra_for, one_line
from hand_pose_3d.outputs import check_target
from hand_pose_3d.rerun_view import RECORDING, RerunView
from hand_pose_3d.ros import start
from hand_pose_3d.ros.conversions import compressed_to_rgb, image_to_rgb
from hand_pose_3d.ros.messages import hand_from_message, stamp_seconds
from hand_pose_3d.ros.share import options_of, own_arguments, ros_arguments
from hand_pose_3d.ros.typed_parameters import option_names, warn_of_unknown

_KINDS = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "hand_pose_3d/msg/HandPose3DArray")
"""Types of messages that can be shown."""


class TopicView:
    """Shows messages in a view: Image, CompressedImage and HandPose3DArray."""

    def __init__(self, view: Any) -> None:
        self._view = view

    def show(self, message: Any) -> None:
        """Show one message at its stamp. A damaged image or hand is left out."""
        stamp_s = stamp_seconds(message.header.stamp) or 0.0
        if hasattr(message, "hands"):
            hands = [self._read(hand_from_message, hand) for hand in message.hands]
            self._view.hands([hand for hand in hands if hand is not None], stamp_s)
            return
        image = self._read(image_to_rgb if hasattr(message, "encoding") else compressed_to_rgb, message)
        if image is not None:
            self._view.image(image, stamp_s)

    @staticmethod
    def _read(convert: Callable[[Any], Any], message: Any) -> Any:
        try:
            return convert(message)
        except InvalidInputError as error:
            print(f"rerun_view: left out: {one_line(error)}", file=sys.stderr)
            return None


def recorded(bag: Path, topics: Sequence[str]) -> Iterator[Any]:
    """Messages on some topics of a recording, in the order in which they came.

    bag: a folder of rosbag2, or an MCAP file. Raises HandPoseError when it cannot be read or holds none of the topics.
    """
    from rosbags.highlevel import AnyReader

    from hand_pose_3d.ros.recording import typestore

    try:
        with AnyReader([bag], default_typestore=typestore()) as reader:
            connections = [c for c in reader.connections if c.topic in topics]
            if not connections:
                there = ", ".join(sorted({c.topic for c in reader.connections})) or "nothing"
                raise HandPoseError(f"{bag} has none of {', '.join(topics)}; it has {there}")
            for connection in connections:
                kind = connection.msgtype
                if kind not in _KINDS:
                    raise HandPoseError(f"{connection.topic} of {bag} is a {kind}, and none of {', '.join(_KINDS)}")
                if reader.typestore.hash_rihs01(kind) != typestore().hash_rihs01(kind):
                    raise HandPoseError(f"{bag} has another definition of {kind} than this version")
            for connection, _, data in reader.messages(connections):
                yield reader.deserialize(data, connection.msgtype)
    except HandPoseError:
        raise
    except Exception as error:  # rosbags fails in many ways on damaged files
        why = " ".join(str(error).split()) or type(error).__name__
        raise HandPoseError(f"cannot read {bag}: {why}") from error


def listen(view: TopicView, options: argparse.Namespace) -> None:
    """Show the topics of options image and hands as they come, until interrupted."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CompressedImage, Image

    from hand_pose_3d.msg import HandPose3DArray

    with start.process(ros_arguments(None)):
        node = rclpy.create_node("rerun_view")
        warn_of_unknown(node, option_names(options))
        kind = CompressedImage if options.image.endswith("/compressed") else Image
        node.create_subscription(kind, options.image, view.show, qos_profile_sensor_data)
        node.create_subscription(HandPose3DArray, options.hands, view.show, 10)
        node.get_logger().info(f"showing {options.image} and {options.hands}")
        rclpy.spin(node)


def main(arguments: Sequence[str] | None = None) -> int:
    """Show live topics, or a whole recording. Returns the exit status."""
    parser = options_of("rerun_view", __doc__)
    parser.add_argument("--bag", type=Path, help="recording to show instead of live topics")
    parser.add_argument("--save", type=Path, help="write an .rrd file instead of opening a viewer")
    parser.add_argument("--image", default="/image", help="topic of images; /compressed at its end says which kind")
    parser.add_argument("--hands", default="/hand_pose_3d/hands", help="topic of the hands")
    options = parser.parse_args(own_arguments(arguments))
    try:
        if options.bag is not None and not options.bag.exists():
            raise InvalidInputError(f"there is no recording {options.bag}")
        if options.save is not None:
            inputs = [] if options.bag is None else [options.bag, *options.bag.rglob("*")]
            options.save = check_target(options.save, RECORDING, inputs)
        if options.bag is None:
            listen(TopicView(RerunView(options.save)), options)
        else:
            messages = recorded(options.bag, (options.image, options.hands))
            first = list(itertools.islice(messages, 1))  # before a file is written
            view = TopicView(RerunView(options.save))
            for message in itertools.chain(first, messages):
                view.show(message)
    except HandPoseError as error:
        print(f"rerun_view: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if not (extra := extra_for(error)):
            raise
        print(f"rerun_view: {extra}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
