"""The service ~/calibrate: a person holds an open hand still, and its size in metres comes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from hand_pose_3d.calibration import CalibrationResult, HandCalibration
from hand_pose_3d.errors import HandPoseError
from hand_pose_3d.hands import HandPose

PATIENCE_S = 10.0
"""Time within which the hand has to be held still for two seconds; set by hand."""


class _Measurement:
    """One call of the service."""

    def __init__(self, distance_m: float | None) -> None:
        from rclpy.task import Future

        self.calibration = HandCalibration(distance_m)
        self.hint = "no image came"
        self.until = time.monotonic() + PATIENCE_S
        self.outcome: Any = Future()

    def add(self, hands: Sequence[HandPose], stamp_s: float) -> None:
        if len(hands) != 1:
            self.hint = "more than one hand is in view" if hands else "no hand is in view"
            return
        result = self.calibration.add(hands[0], stamp_s)
        self.hint = self.calibration.hint
        if result is not None:
            self.outcome.set_result(result)


class CalibrationService:
    """Serves ~/calibrate, whose response comes once the hand has been measured; other callbacks run meanwhile.

    refusal: returns why no hand can be measured now, or "". distance_m: of the palm, None beside depth. accept: uses
    a result and returns the response's message, or raises HandPoseError. All three are called in the executor's thread.
    """

    def __init__(
        self,
        node: Any,
        refusal: Callable[[], str],
        distance_m: Callable[[], float | None],
        accept: Callable[[CalibrationResult], str],
    ) -> None:
        from rclpy.callback_groups import ReentrantCallbackGroup
        from std_srvs.srv import Trigger

        self._refusal, self._distance_m, self._accept = refusal, distance_m, accept
        self._current: _Measurement | None = None
        # A callback group of its own, as a waiting call would block every other callback of its group.
        node.create_service(Trigger, "~/calibrate", self._on_call, callback_group=ReentrantCallbackGroup())

    @property
    def state(self) -> str:
        """Progress in words; "" without a measurement."""
        current = self._current
        return "" if current is None else f"{100 * current.calibration.progress:.0f} %: {current.hint}"

    def add(self, hands: Sequence[HandPose], stamp_s: float) -> None:
        """The hands of one image; called by the worker."""
        current = self._current
        if current is not None and not current.outcome.done():
            current.add(hands, stamp_s)

    def tick(self) -> None:
        """End a measurement that takes too long; called regularly."""
        current = self._current
        if current is not None and time.monotonic() > current.until:
            self.cancel(f"gave up after {PATIENCE_S:.0f} s: {current.hint}")

    def cancel(self, reason: str) -> None:
        """End a measurement without a result."""
        current = self._current
        if current is not None and not current.outcome.done():
            current.outcome.set_result(reason)

    async def _on_call(self, request: Any, response: Any) -> Any:
        response.message = "another calibration is under way" if self._current is not None else self._refusal()
        if response.message:
            return response
        self._current = _Measurement(self._distance_m())
        try:
            outcome = await self._current.outcome
            response.success = isinstance(outcome, CalibrationResult)
            response.message = self._accept(outcome) if response.success else outcome
        except HandPoseError as error:
            response.success, response.message = False, str(error)
        finally:
            self._current = None
        return response
