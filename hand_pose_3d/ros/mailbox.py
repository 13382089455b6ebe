"""One slot between two threads: a new item replaces one that was not taken yet."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """Passes the newest item to one reader. Closing wakes the reader."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._closed = False

    def put(self, item: Item) -> bool:
        """Put an item in the slot; True if it replaced one that was not taken."""
        with self._changed:
            replaced, self._item = self._item is not None, item
            self._changed.notify()
            return replaced

    def take(self) -> Item | None:
        """Wait for an item and take it; None once the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return None if self._closed else item

    def clear(self) -> None:
        """Discard an item that was not taken."""
        with self._changed:
            self._item = None

    def close(self) -> None:
        """Accept no more items: the reader gets None."""
        with self._changed:
            self._closed, self._item = True, None
            self._changed.notify_all()
