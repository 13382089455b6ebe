"""Taking messages without an executor, which makes its list of what to wait for anew each time it wakes up.

That takes a quarter of a millisecond of processor time, to wait for some subscriptions alone a tenth of one.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

_SERVICES_EVERY_S = 0.1


class Poller:
    """Serves a node in place of `executor.spin`: `wait` ends when a time has come.

    unhurried: subscriptions whose messages wait until something else comes.
    """

    def __init__(self, node: Any, unhurried: Collection[Any] = ()) -> None:
        from rclpy.executors import SingleThreadedExecutor

        self._node, self._unhurried = node, unhurried
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._subscriptions: list[Any] | None = None
        self._served_s = 0.0

    def wait(self, until_s: float) -> None:
        """Take messages as they come until that time of time.monotonic, services and timers 10 times a second."""
        while True:
            now = time.monotonic()
            if now - self._served_s > _SERVICES_EVERY_S:
                self._served_s = now
                self._serve()
            for subscription in self._subscriptions:
                while (taken := subscription.handle.take_message(subscription.msg_type, subscription.raw)) is not None:
                    subscription.callback(taken[0])
            rest_s = until_s - time.monotonic()
            if rest_s <= 0 or not self._node.context.ok():
                return
            self._wait_set.clear_entities()
            for subscription in self._awaited:
                self._wait_set.add_subscription(subscription.handle)
            self._wait_set.wait(int(min(rest_s, _SERVICES_EVERY_S) * 1e9))

    def _serve(self) -> None:
        from rclpy.impl.implementation_singleton import rclpy_implementation

        self._executor.spin_once(timeout_sec=0)
        found = list(self._node.subscriptions)
        if found != self._subscriptions:
            self._subscriptions = found
            self._awaited = [each for each in found if each not in self._unhurried]
            self._wait_set = rclpy_implementation.WaitSet(len(found), 0, 0, 0, 0, 0, self._node.context.handle)

    def close(self) -> None:
        """Take no more."""
        self._executor.shutdown()
