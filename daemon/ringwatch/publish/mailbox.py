"""Between the reduction and one publisher: results go in without ever waiting, and come out in order.

A snapshot, profile, status or saved state replaces the one of its kind that still waits; all else is kept in order.
"""

from collections import deque
from dataclasses import fields, is_dataclass
from itertools import count
from threading import Condition
from typing import Any

import numpy as np

from ringwatch.messages import FrameRows, Profile, Result, SavedState, Snapshot, Status

_OVERHEAD_BYTES = 4096
"""Counted for what a result holds besides its arrays: names, header, counters."""

_Key = tuple[object, ...]


class Mailbox:
    """Results waiting for one publisher, bounded in bytes.

    When it is full saved states are dropped, then the oldest frame rows, then the oldest of anything; the newest result
    always stays, unless it is a saved state.

    Parameters
    ----------
    max_bytes
        Upper limit of what waits; one single result may be larger.

    Attributes
    ----------
    dropped
        Results dropped because the mailbox was full (a replaced snapshot is not dropped: a newer one says more).
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: dict[_Key, Result] = {}
        self._rows: deque[_Key] = deque()
        self._size_bytes = 0
        self._numbers = count()
        self._changed = Condition()
        self._closed = self._is_out = False
        self.dropped = 0

    def put(self, result: Result) -> None:
        """Leave a result; after `close` it is ignored."""
        with self._changed:
            if self._closed:
                return
            key = self._key(result)
            self._remove(key)
            self._waiting[key] = result
            self._size_bytes += size_bytes(result)
            if isinstance(result, FrameRows):
                self._rows.append(key)
            self._shrink()
            self._changed.notify()

    def get(self, timeout_s: float) -> list[Result]:
        """Take all that waits, oldest first; empty when nothing came within ``timeout_s`` or the mailbox is closed."""
        with self._changed:
            self._is_out = False
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout_s)
            self._is_out = bool(self._waiting)
            results = list(self._waiting.values())
            self._waiting.clear()
            self._rows.clear()
            self._size_bytes = 0
            return results

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, and who took the last results has come back for more."""
        with self._changed:
            return not self._waiting and not self._is_out

    def close(self) -> None:
        """Take nothing more; what waits can still be fetched."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _key(self, result: Result) -> _Key:
        """Results of equal keys replace each other; an ended series keeps its last ones beside those of the next."""
        if isinstance(result, Status):
            return (Status,)
        if isinstance(result, SavedState):
            return (SavedState, *result.result.origin.key)
        if isinstance(result, Snapshot):
            return (Snapshot, result.origin.unique_id, result.origin.generation)
        if isinstance(result, Profile):
            return (Profile, result.origin.unique_id, result.origin.generation, result.kind, result.source)
        return (next(self._numbers),)

    def _remove(self, key: _Key) -> None:
        result = self._waiting.pop(key, None)
        if result is not None:
            self._size_bytes -= size_bytes(result)

    def _shrink(self) -> None:
        while self._size_bytes > self._max_bytes and len(self._waiting) > 1:
            self._remove(self._oldest())
            self.dropped += 1

    def _oldest(self) -> _Key:
        state = next((key for key in self._waiting if key[0] is SavedState), None)
        if state is not None:  # the next one says more
            return state
        newest = next(reversed(self._waiting))
        if self._rows and self._rows[0] != newest:
            return self._rows.popleft()
        return next(iter(self._waiting))


def size_bytes(result: Result) -> int:
    """Memory a waiting result holds, nearly all of it arrays."""
    return _OVERHEAD_BYTES + _array_bytes(result)


def _array_bytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    return sum(_array_bytes(getattr(value, member.name)) for member in fields(value)) if is_dataclass(value) else 0
