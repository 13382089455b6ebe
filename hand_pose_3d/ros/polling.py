"""Taking messages without an executor, which makes its list of what to wait for anew each time it wakes up.

That takes a quarter of a millisecond of processor time, waiting for subscriptions alone a tenth of one.
"""

from __future__ import annotations

import time
from typing import Any

_SERVICES_EVERY_S = 0.1
_AT_ONCE = 10
"""Messages of a subscription that are taken before others have their turn: one that is flooded starves none."""
_UNHURRIED = "TFMessage", "Clock"
"""Types of messages that come often and are taken when something else comes."""


class Poller:
    """Serves a node in place of `executor.spin`, in turns."""

    def __init__(self, node: Any) -> None:
        from rclpy.executors import SingleThreadedExecutor

        self._node = node
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._subscriptions: list[Any] = []
        self._awaited: list[Any] = []
        self._served_s = 0.0

    def wait(self, until_s: float) -> None:
        """Take the messages that come next; return then, or at that time of time.monotonic.

        Services and timers are served 10 times a second.
        """
        while self._node.context.ok():
            now = time.monotonic()
            if now - self._served_s > _SERVICES_EVERY_S:
                self._served_s = now
                self._executor.spin_once(timeout_sec=0)
                self._look()
                self._take()
            if self._sleep(min(max(until_s - time.monotonic(), 0), _SERVICES_EVERY_S)):
                return self._take()
            if time.monotonic() >= until_s:
                return

    def _take(self) -> None:
        for subscription in self._subscriptions:
            for _ in range(_AT_ONCE):
                taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
                if taken is None:
                    break
                subscription.callback(taken[0])

    def _look(self) -> None:
        """Which subscriptions there are."""
        from rclpy.impl.implementation_singleton import rclpy_implementation

        found = list(self._node.subscriptions)
        if found != self._subscriptions:
            self._subscriptions = found
            self._awaited = [each.handle for each in found if each.msg_type.__name__ not in _UNHURRIED]
            self._set = rclpy_implementation.WaitSet(len(found), 0, 0, 0, 0, 0, self._node.context.handle)

    def _sleep(self, seconds: float) -> bool:
        """Until a message comes, at the longest for so long; returns whether one has come."""
        if not self._awaited:
            time.sleep(seconds)
            return False
        self._set.clear_entities()
        for handle in self._awaited:
            self._set.add_subscription(handle)
        self._set.wait(int(1e9 * seconds))
        return bool(self._set.get_ready_entities("subscription"))

    def close(self) -> None:
        """Take no more."""
        self._executor.shutdown()
