"""Taking messages without an executor, which makes its list of what to wait for anew each time it wakes up.

That takes a quarter of a millisecond of processor time, waiting for subscriptions alone a tenth of one.
"""

from __future__ import annotations

import math
import time
from typing import Any

from hand_pose_3d.ros import start

_TIMERS_EVERY_S = 0.1
_AT_ONCE = 10
"""Messages of a subscription that are taken before others have their turn: one that is flooded starves none."""
_UNHURRIED = "TFMessage", "Clock"
"""Types of messages that come often and are taken when something else comes, as many as there is time for; the newest
time before it."""


class Poller:
    """Serves a node in place of `executor.spin`, in turns."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._executor = start.executor(node)
        self._subscriptions: list[Any] = []
        self._services: list[Any] = []
        self._turned_s = -math.inf
        self._more = False  # whether unhurried messages may be left for want of time

    def wait(self, until_s: float) -> None:
        """Serve the messages and requests that come next; return then, or at that time of time.monotonic.

        Timers are served 10 times a second.
        """
        while self._node.context.ok():
            now = time.monotonic()
            if now - self._turned_s > _TIMERS_EVERY_S:
                self._turned_s = now
                self._look()
                self._take_time()
                self._executor.spin_once(timeout_sec=0)
                self._look()
                self._take(until_s)
            if self._more or self._sleep(min(max(until_s - time.monotonic(), 0), _TIMERS_EVERY_S)):
                return self._take(until_s)
            if time.monotonic() >= until_s:
                return

    def _take(self, until_s: float) -> None:
        """Take what waits; of the unhurried messages one at least, and others until that time."""
        for service in self._services:  # one request each
            if service not in self._node.services:  # what another one asked for has ended it
                continue
            request, header = service.handle.service_take_request(service.srv_type.Request)
            if header is not None:
                service.send_response(service.callback(request, service.srv_type.Response()), header)
        self._look()
        self._take_time()
        for subscription in self._subscriptions:
            if not _is_unhurried(subscription):
                _take_some(subscription)
        waiting = [subscription for subscription in self._subscriptions if _is_unhurried(subscription)]
        while waiting:
            waiting = [subscription for subscription in waiting if _take_one(subscription)]
            if time.monotonic() >= until_s:
                break
        self._more = bool(waiting)

    def _take_time(self) -> None:
        """Take the newest simulated time, by which what comes is judged."""
        for subscription in self._subscriptions:
            if subscription.msg_type.__name__ == "Clock":
                _take_some(subscription)

    def _look(self) -> None:
        """Which subscriptions and services there are."""
        from rclpy.impl.implementation_singleton import rclpy_implementation

        subscriptions, services = list(self._node.subscriptions), list(self._node.services)
        if (subscriptions, services) != (self._subscriptions, self._services):
            self._subscriptions, self._services = subscriptions, services
            counts = len(subscriptions), 0, 0, 0, len(services), 0
            self._set = rclpy_implementation.WaitSet(*counts, self._node.context.handle)

    def _sleep(self, seconds: float) -> bool:
        """Until a message or a request comes, at the longest for so long; returns whether one has come."""
        hurried = [each for each in self._subscriptions if not _is_unhurried(each)]
        if not hurried and not self._services:
            time.sleep(seconds)
            return False
        self._set.clear_entities()
        for subscription in hurried:
            self._set.add_subscription(subscription.handle)
        for service in self._services:
            self._set.add_service(service.handle)
        self._set.wait(int(1e9 * seconds))
        return any(self._set.get_ready_entities(kind) for kind in ("subscription", "service"))

    def close(self) -> None:
        """Take no more."""
        self._executor.shutdown()


def _take_some(subscription: Any) -> None:
    for _ in range(_AT_ONCE):
        if not _take_one(subscription):
            break


def _take_one(subscription: Any) -> bool:
    """Take a message, if one waits; returns whether one did."""
    taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
    if taken is not None:
        subscription.callback(taken[0])
    return taken is not None


def _is_unhurried(subscription: Any) -> bool:
    return subscription.msg_type.__name__ in _UNHURRIED
