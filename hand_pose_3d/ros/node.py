"""The ROS 2 node: a managed lifecycle node that configures and activates itself unless autostart is false.

One thread runs the executor: it receives messages, serves calls and, once configured, never waits for networks to
load. A second one, the worker, loads the networks and takes the newest image from a mailbox of one slot, so that a slow
computer processes fewer images but never old ones. Other networks that are requested later are loaded in a third
(:mod:`.network_swap`).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import LoggingSeverity
from rclpy.parameter import Parameter

from hand_pose_3d.calibration import CalibrationResult
from hand_pose_3d.errors import HandPoseError, InvalidInputError, OutOfMemoryError, one_line, what_to_install
from hand_pose_3d.estimator_config import EstimatorConfig
from hand_pose_3d.frame import check_size
from hand_pose_3d.hands import HandPose, ScaleSource
from hand_pose_3d.placement import REFERENCE_LENGTH_M
from hand_pose_3d.ros import parameters as node_parameters
from hand_pose_3d.ros import start
from hand_pose_3d.ros.calibrate import CalibrationService
from hand_pose_3d.ros.camera_input import CameraInput
from hand_pose_3d.ros.conversions import compressed_to_rgb, image_to_rgb
from hand_pose_3d.ros.depth import what_was_used
from hand_pose_3d.ros.diagnostics import Health, Situation, status_message
from hand_pose_3d.ros.inputs import ImageArrival, Inputs, check_topics
from hand_pose_3d.ros.mailbox import Mailbox
from hand_pose_3d.ros.messages import same_frame
from hand_pose_3d.ros.network_swap import EstimatorFactory, SwappableEstimator, build_estimator
from hand_pose_3d.ros.outputs import Outputs
from hand_pose_3d.ros.parameters import NodeParameters
from hand_pose_3d.ros.typed_parameters import warn_of_unused_qos
from hand_pose_3d.runtime import choose_device, choose_precision, opencv_threads

_NOT_MEASURED = (
    "scale_source is calibrated, but reference_length is people's mean: call ~/calibrate, set the length that it gave "
    "before, or take auto"
)


class HandPoseNode(LifecycleNode):
    """Images in, hands out. estimator_factory: makes the estimator; tests pass a light one."""

    def __init__(self, estimator_factory: EstimatorFactory = build_estimator, **node_arguments: Any) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from std_srvs.srv import SetBool

        super().__init__("hand_pose_3d", **node_arguments)
        self._networks = SwappableEstimator(estimator_factory)
        self.parameters = node_parameters.declare(self)
        check_topics(self, self.parameters.image_transport)
        self._health = Health(time.monotonic())
        self._inputs: Inputs | None = None
        self._outputs: Outputs | None = None
        self._measured: CalibrationResult | None = None
        self._mailbox: Mailbox[ImageArrival] = Mailbox()
        self._worker: threading.Thread | None = None
        self._frame_id: str | None = None  # of the last image
        self._state, self._enabled, self._metric, self._note = "unconfigured", True, "", ""
        self._silence = self._failure = self._unfitting = ""
        # Not part of the inputs, which are created on activation: the last CameraInfo is kept.
        self._camera = CameraInput(self, self._health, self._on_camera_stamp)
        self._camera.set_rectified(self.parameters.rectified)

        self.add_on_set_parameters_callback(self._on_parameters)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self._calibration = CalibrationService(
            self, self._why_not_calibrate, lambda: self.parameters.calibration_distance or None, self._on_measured
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady, so that diagnostics are published while simulated time is paused.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._report, clock=clock)
        self.create_timer(0.25, self._adapt, clock=clock)

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the networks and warm them up in the worker thread; create publishers."""
        fault: list[Exception] = []
        loaded = threading.Event()
        self._mailbox = Mailbox()
        self._worker = threading.Thread(
            target=self._work, args=(self._mailbox, loaded, fault), name="hand_pose_3d worker", daemon=True
        )
        self._worker.start()
        self._state, self._failure, reported = "configuring", "", time.monotonic()
        while not loaded.wait(0.05):
            if not self.context.ok():  # SIGTERM must not wait for networks to load
                self.get_logger().set_level(LoggingSeverity.FATAL)  # rclpy cannot tell anybody and complains
                return TransitionCallbackReturn.FAILURE
            if time.monotonic() - reported > 1.0:
                reported = time.monotonic()
                self._report()
        self._state = "unconfigured"
        if not fault:
            try:
                self._outputs = Outputs(self)
            except Exception as error:  # noqa: BLE001 - rclpy would drop it without a word
                fault.append(InvalidInputError(f"cannot publish: {start.reason(error)}"))
        if fault:
            self._failure = one_line(fault[0])
            self.get_logger().error(self._failure)
            self._stop_worker()
            return TransitionCallbackReturn.FAILURE
        self._state = "inactive"
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and begin to process images."""
        result = super().on_activate(state)
        self._state = "active"
        if self._enabled:
            try:
                self._listen()
            except Exception as error:  # noqa: BLE001 - rclpy would drop it without a word
                self._failure = f"cannot listen to images: {one_line(start.reason(error))}"
                self.get_logger().error(self._failure)
                return TransitionCallbackReturn.ERROR
        if (estimator := self._networks.estimator) is not None:
            images = f"images from {self.resolve_topic_name('image')}" if self._enabled else "paused by ~/enable"
            self.get_logger().info(f"ready: {estimator.model} on {estimator.device}, {images}")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, delete the markers and stop publishing; the networks stay loaded."""
        self._pause()
        self._state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unload the networks."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop for good, from any state."""
        self._release()
        self._state = "finalized"
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a failed transition: back to unconfigured."""
        self._release()
        return super().on_error(state)

    def close(self, wait_s: float) -> bool:
        """Stop the threads; False when one is still busy after wait_s seconds."""
        self._mailbox.close()
        if self._worker is not None:
            self._worker.join(wait_s)
            if self._worker.is_alive():
                return False
        return self._networks.close(wait_s)

    def _listen(self) -> None:
        self._health.restart(time.monotonic())
        self._inputs = Inputs(self, self.parameters, self._health, self._deliver)
        remedy = "no such topic, or a policy that cannot be overridden; for images and depth set parameter reliability"
        warn_of_unused_qos(self, remedy)

    def _pause(self) -> None:
        """Stop taking images; when this returns, nothing more is published about earlier ones."""
        if self._inputs is not None:
            self._inputs.close()
            self._inputs = None
        self._mailbox.clear()
        self._calibration.cancel("the node stopped taking images")
        with self._networks.lock:
            if self._outputs is not None:
                self._outputs.clear()
            self._networks.forget()

    def _release(self) -> None:
        self._pause()
        self._stop_worker()
        if self._outputs is not None:
            self._outputs.close()
            self._outputs = None
        self._state = "unconfigured"

    def _stop_worker(self) -> None:
        self._mailbox.close()
        if self._worker is not None:
            self._worker.join()
        self._worker = None
        self._networks.unload()

    # Worker thread

    def _work(self, mailbox: Mailbox[ImageArrival], loaded: threading.Event, fault: list[Exception]) -> None:
        try:
            # Needed for the first image only, but imported here so that a missing module is reported at the start.
            import cv2  # noqa: F401
            import scipy.spatial.transform  # noqa: F401

            self._load()
        except ImportError as error:
            fault.append(InvalidInputError(what_to_install(error)))
            return
        except Exception as error:  # noqa: BLE001 - the thread that waits reports it
            fault.append(error.with_traceback(None))  # whose frames would keep what was half made
            return
        finally:
            loaded.set()
        while (frame := mailbox.take()) is not None:
            with self._networks.lock:
                # The node may have been paused after the image was taken, and listen again.
                inputs, outputs = self._inputs, self._outputs
                if inputs is not None and outputs is not None and frame.arrival >= inputs.since:
                    with opencv_threads(self.parameters.threads or 1):  # also for conversions and overlays
                        self._process(frame, inputs, outputs)

    def _load(self) -> None:
        """Load the networks, those of `auto` on the CPU where the GPU has no memory for them."""
        try:
            self._networks.load(self.parameters)
        except OutOfMemoryError as error:
            if self.parameters.device != "auto":
                raise
            self.get_logger().error(f"{error}; continuing on the CPU")
            self._networks.load(self.parameters.changed(device="cpu", precision="auto"))

    def _process(self, frame: ImageArrival, inputs: Inputs, outputs: Outputs) -> None:
        """Process one image: convert, estimate, publish, and count."""
        parameters, log = self.parameters, self.get_logger()
        begin = time.monotonic()
        self._health.work_begins(begin)
        try:
            try:
                image = (compressed_to_rgb if frame.compressed else image_to_rgb)(frame.message)
                check_size(image)
            except InvalidInputError as error:
                self._health.count("rejected_image", str(error))
                log.warning(f"image rejected: {error}", throttle_duration_sec=5.0)
                return
            estimator = self._networks.settle(parameters, self._measured)
            before, self._frame_id = self._frame_id, frame.message.header.frame_id
            another = before is not None and not same_frame(before, self._frame_id)
            if frame.time_jumped or another:  # another camera's hands are others
                estimator.reset()
                outputs.forget()
            camera, depth, reason = self._geometry(frame, inputs, image.shape)
            converted = time.monotonic()
            hands = estimator(image, camera=camera, depth_m=depth, stamp_s=frame.stamp_s)
            estimated = time.monotonic()
            self._note_metric_source(hands, depth, reason)
            self._calibration.add(hands, frame.arrival if frame.stamp_s is None else frame.stamp_s)
            for fault in outputs.publish(hands, frame.message.header, image, parameters):
                self._health.count("rejected_hand", str(fault))
                log.warning(f"hand left out: {fault}", throttle_duration_sec=5.0)
            end = time.monotonic()
            stages = {
                "waiting": begin - frame.arrival,
                "converting": converted - begin,
                "estimating": estimated - converted,
                "publishing": end - estimated,
                "in the node": end - frame.arrival,
            }
            if frame.stamp_s is not None:
                stages["stamp to message"] = 1e-9 * self.get_clock().now().nanoseconds - frame.stamp_s
            milliseconds = {name: 1e3 * seconds for name, seconds in stages.items()}
            milliseconds.update(estimator.timings_ms)
            self._health.answered(milliseconds, len(hands))
        except Exception as error:  # noqa: BLE001 - one bad image must not end the node
            if not self.context.ok():
                return
            self._health.count("failed", str(error))
            self._report_failure(error)
        finally:
            self._health.work_ends()

    def _geometry(self, frame: ImageArrival, inputs: Inputs, shape: tuple[int, ...]) -> tuple[Any, Any, str]:
        """Camera and depth for an image, and why there are no metres, or none by depth; "" if there is no reason."""
        source, self._note, self._unfitting = self.parameters.scale_source, "", ""
        camera, depth, reason = None, None, ""
        try:
            camera = self._camera.camera(shape)
            reason = "" if camera else f"unknown: no calibrated camera_info on {self._camera.topic}"
            own, frame_id = self._camera.frame_id, frame.message.header.frame_id
            if camera and own and frame_id and not same_frame(own, frame_id):
                self._note = f"camera_info of frame {own} is used for images of frame {frame_id}"
            elif camera:
                self._note = self._camera.why_wrong(inputs.image_topic)
        except InvalidInputError as error:
            reason = self._note = self._unfitting = str(error)
        if source == "none":
            reason = "switched off: scale_source is none"
        if camera is None or source not in ("auto", "depth"):
            if camera is None and source not in ("auto", "none"):  # metres were asked for
                self._note = self._note or f"metric placement {reason}"
            return camera, None, reason
        try:
            depth, reason = inputs.depth(frame, shape)
            if reason:
                self._health.count("missing_depth", reason)
        except InvalidInputError as error:
            reason = f"depth not used: {error}"
            self._health.count("rejected_depth", str(error))
            self.get_logger().warning(f"depth rejected: {error}", throttle_duration_sec=5.0)
        if source == "depth" and depth is None:
            reason = f"unknown: {reason or f'nobody publishes {inputs.depth_topic}'}"
            self._note = self._note or f"metric placement {reason}"
        return camera, depth, reason

    def _note_metric_source(self, hands: Sequence[HandPose], depth: Any, reason: str) -> None:
        """Note for diagnostics where the metres of an image come from."""
        used, why_not = what_was_used(hands, depth)
        if depth is not None:
            self._health.count("unused_depth" if why_not else "used_depth", why_not)
        unknown = reason and all(hand.scale_source == ScaleSource.NONE for hand in hands)
        self._metric = reason if unknown else "; ".join(filter(None, (used, why_not or reason)))

    def _report_failure(self, error: Exception) -> None:
        log = self.get_logger()
        if type(error).__name__ == "OutOfMemoryError":
            log.error("the GPU has no memory left for this image", throttle_duration_sec=5.0)
            self._networks.forget()
            if self.parameters.device == "auto":
                try:
                    self._networks.load(self.parameters.changed(device="cpu", precision="auto"))
                    log.error("continuing on the CPU")
                except Exception as failure:  # noqa: BLE001 - the next image tries again
                    log.error(f"cannot continue on the CPU: {one_line(failure)}", throttle_duration_sec=5.0)
        elif isinstance(error, HandPoseError):
            log.error(f"image failed: {error}", throttle_duration_sec=5.0)
        else:
            import traceback

            log.error("image failed:\n" + "".join(traceback.format_exception(error)), throttle_duration_sec=5.0)

    # Executor thread

    def _on_camera_stamp(self, stamp_s: float | None, arrival: float) -> None:
        if self._inputs is not None:
            self._inputs.watch.camera_info(stamp_s, arrival)

    def _deliver(self, frame: ImageArrival) -> None:
        if self._mailbox.put(frame):
            self._health.count("replaced")

    def _on_enable(self, request: Any, response: Any) -> Any:
        response.success = True
        processed = "images are processed"
        if self._state != "active":
            processed = f"images will be processed once the node is active; it is {self._state}"
        response.message = processed if request.data else "paused; the networks stay loaded"
        if request.data != self._enabled:
            self._enabled = request.data
            if self._state == "active":
                if not self._enabled:
                    self._pause()
                else:
                    try:
                        self._listen()
                    except Exception as error:  # noqa: BLE001 - it would end the node
                        self._enabled, response.success = False, False
                        response.message = f"cannot listen to images: {one_line(start.reason(error))}"
        return response

    def _on_parameters(self, changes: Sequence[Any]) -> Any:
        from rcl_interfaces.msg import SetParametersResult

        values = self.parameters.to_mapping()
        given = {change.name: change.value for change in changes if change.name in values}
        if not given:  # a subscription declares its QoS overrides, while other parameters are being applied
            return SetParametersResult(successful=True)
        values.update(given)
        try:
            new = NodeParameters.from_mapping(values)
            self._apply(new)
        except HandPoseError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, new: NodeParameters) -> None:
        """Apply new parameters to the running node; the worker passes them to the estimator before the next image.

        Raises HandPoseError, and changes nothing, for a device that this computer does not have, and for a QoS override
        that rcl refuses.
        """
        old = self.parameters
        check_topics(self, new.image_transport)
        others = not new.same_networks(old)
        if others and not self._networks.are_loaded(new):
            new.check_weights()
        if (
            others
            and self._networks.estimator is not None
            and (new.device, new.precision) != (old.device, old.precision)
        ):
            choose_precision(new.precision, choose_device(new.device))
        if self._inputs is not None:  # the last that may be refused
            self._inputs.update(new)
        if others and self._networks.estimator is not None:
            self._networks.exchange(new)
        self.parameters = new
        if self._outputs is not None and old.publish_markers and not new.publish_markers:
            with self._networks.lock:
                self._outputs.clear_markers()
        self._camera.set_rectified(new.rectified)

    def _adapt(self) -> None:
        self._camera.adapt()
        if self._inputs is not None:
            self._inputs.adapt()
        self._calibration.tick()
        if failure := self._networks.failure():
            error, kept = failure
            sentence = f"cannot load the requested networks; keeping the current ones: {error}"
            self.get_logger().error(sentence)
            self._health.count("failed_load", sentence)
            self.set_parameters_atomically([Parameter(name, value=value) for name, value in kept.networks().items()])

    def _why_not_calibrate(self) -> str:
        """Why no hand can be measured now, "" if it can."""
        parameters, inputs = self.parameters, self._inputs
        if self._state != "active":
            return f"the node is {self._state}: activate it first"
        if inputs is None:
            return "the node is paused: call ~/enable first"
        source, beside_depth = parameters.scale_source, not parameters.calibration_distance
        if source in ("none", "depth") or (beside_depth and source != "auto"):
            return f"parameter scale_source is {source}: set it to auto"
        if not self._camera.known:
            return f"no usable camera_info on {self._camera.topic}, and no metres without it"
        if self._unfitting:
            return self._unfitting
        if beside_depth and not inputs.depth_came:
            return (
                f"no depth image on {inputs.depth_topic}: set calibration_distance, metres from the camera to the palm"
            )
        return ""

    def _on_measured(self, result: CalibrationResult) -> str:
        """Use a measured hand from now on; returns the message. Raises InvalidInputError for an implausible length."""
        changes: dict[str, Any] = {"reference_length": result.reference_length_m}
        if self.parameters.scale_source == "assumed":
            changes["scale_source"] = "calibrated"
        self.parameters.changed(**changes)
        with self._networks.lock:  # no image sees the one without the other
            self._measured = result
            self.set_parameters_atomically([Parameter(name, value=value) for name, value in changes.items()])
        return f"{self._hand_size()}, from {result.samples} images"

    def _hand_size(self) -> str:
        """The reference length in words."""
        config = EstimatorConfig(**self.parameters.estimator_settings(self._measured))
        words = f"{config.reference_source.label}, reference length {1e3 * config.reference_length:.1f} mm"
        if config.reference_length_stddev is not None:
            words += f", standard deviation {1e3 * config.reference_length_stddev:.1f} mm"
        return words

    def _report(self) -> None:
        from diagnostic_msgs.msg import DiagnosticArray

        inputs, estimator, now = self._inputs, self._networks.estimator, time.monotonic()
        notes = [self._note] if self._note else []
        parameters = self.parameters
        if parameters.scale_source == "calibrated" and parameters.reference_length == REFERENCE_LENGTH_M:
            notes += [] if self._measured else [_NOT_MEASURED]
        silence, lost = "", (0, 0)
        if inputs is not None:
            notes += inputs.notes()
            if self._outputs is not None and self._outputs.frameless:
                notes.append("images have no frame_id: no frames on /tf and no markers")
            silence, lost = inputs.why_silent(), inputs.watch.lost(now)
            if silence and silence != self._silence:
                self.get_logger().warning(silence)
        self._silence = silence
        situation = Situation(
            state=self._state,
            failure=self._failure,
            enabled=self._enabled,
            device=str(getattr(estimator, "device", "")),
            model=str(getattr(estimator, "model", "")),
            precision=str(getattr(estimator, "precision", "")),
            keypoints=str(getattr(estimator, "keypoints", "")),
            image_topic=inputs.image_topic if inputs else "image",
            publishers=inputs.publishers if inputs else 0,
            silence=silence,
            lost=lost,
            image_timeout_s=self.parameters.image_timeout,
            qos_mismatch=inputs.qos_mismatch("image") if inputs else "",
            metric=self._metric,
            hand_size=self._calibration.state or self._hand_size(),
            loading=self._networks.loading,
            notes=tuple(notes),
        )
        level, sentence, values = self._health.report(now, situation)
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        name = f"{self.get_fully_qualified_name().lstrip('/')}: hand tracking"
        message.status = [status_message(name, situation.device, level, sentence, values)]
        self._diagnostics.publish(message)


def main(arguments: Sequence[str] | None = None, estimator_factory: EstimatorFactory = build_estimator) -> int:
    """Run the node until it is stopped. Returns the exit status."""
    status, stopped = 0, True
    node = None
    try:
        with start.process(arguments):
            try:
                node = HandPoseNode(estimator_factory)
                executor = start.executor(node)
                if node.parameters.autostart and not _start(node):
                    status = 1
                else:
                    executor.spin()
            finally:
                start.quiet()
                if node is not None:
                    stopped = node.close(wait_s=0.5)
    except HandPoseError as error:
        print(f"hand_pose_3d: {error}", file=sys.stderr)
        status = 1
    if not stopped:
        # The interpreter cannot exit while a thread runs a network; nothing is left to save.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _start(node: HandPoseNode) -> bool:
    """Configure and activate. False if that failed, True also if the process was stopped meanwhile."""
    for transition in (node.trigger_configure, node.trigger_activate):
        if transition() != TransitionCallbackReturn.SUCCESS:
            return not node.context.ok()
    return True


if __name__ == "__main__":
    sys.exit(main())
