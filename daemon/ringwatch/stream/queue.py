"""Stream messages in from the receiver, batches of frames out to the reduction; bounded in bytes, order kept.

Starts and ends are never dropped. What happens to frames when the reduction cannot follow is the policy: "skip" drops
the oldest and keeps the newest, "block" makes the receiver wait (and so, in the end, the sender).
"""

import threading
from collections import deque
from itertools import islice, takewhile
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ringwatch.clock import Clock
from ringwatch.messages import Frame, SeriesStart, StreamMessage

Policy = Literal["skip", "block"]

IDLE_S = 0.1
"""How long the reduction waits for the first message, at least: it has clocks of its own to serve."""
MESSAGE_BYTES = 1024
"""Allowance for the Python objects of a frame or an end, so that a flood of empty frames is bounded, too."""
HEADER_BYTES = 1 << 16
"""The same for a start with its header."""


class FrameQueue:
    """The bounded queue between receiver and reduction.

    Parameters
    ----------
    memory_bytes
        Limit of the payload that waits; one message more than that may wait.
    policy
        What happens beyond the limit.
    clock
        The clock of ``Frame.received_s``.
    """

    def __init__(self, memory_bytes: int, policy: Policy, clock: Clock) -> None:
        self._memory_bytes = memory_bytes
        self._policy = policy
        self._clock = clock
        self._waiting: deque[StreamMessage] = deque()
        self._frame_bytes = 0
        self._other_bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    # ------------------------------------------------------------------------------------------------- the receiver

    def wait_for_room(self, timeout_s: float) -> bool:
        """Whether a message may be put now; waits for it at most ``timeout_s``.

        With the policy "skip" frames make their own room, and only a flood of starts and ends has to wait.
        """
        with self._changed:
            return self._changed.wait_for(self._has_room, timeout_s)

    def put(self, message: StreamMessage) -> list[Frame]:
        """Append a message, never waiting; returns the frames that were dropped for it, oldest first."""
        with self._changed:
            self._waiting.append(message)
            self._account(message, +1)
            dropped = self._drop_oldest() if self._policy == "skip" else []
            self._changed.notify_all()
        return dropped

    def drop_frames(self) -> list[Frame]:
        """Drop every frame that waits, at the end of the daemon's life; starts and ends stay."""
        with self._changed:
            dropped = [message for message in self._waiting if isinstance(message, Frame)]
            self._waiting = deque(message for message in self._waiting if not isinstance(message, Frame))
            for frame in dropped:
                self._account(frame, -1)
            self._changed.notify_all()
        return dropped

    def close(self) -> None:
        """Say that nothing more will be put."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # ------------------------------------------------------------------------------------------------ the reduction

    def get_batch(self, max_frames: int, timeout_s: float) -> list[StreamMessage]:
        """Take what is to be reduced together: up to ``max_frames`` frames, or one start or end alone.

        Returns as soon as the batch is full, or a start or end follows its frames, or its first frame arrived
        ``timeout_s`` ago. Empty if nothing came for a while (0.1 s or ``timeout_s``), or all that was put is taken.
        """
        give_up_s = self._clock.monotonic_s() + max(timeout_s, IDLE_S)
        with self._changed:
            while not self._batch_is_ready(max_frames):
                head = self._waiting[0] if self._waiting else None
                until_s = head.received_s + timeout_s if isinstance(head, Frame) else give_up_s
                wait_s = until_s - self._clock.monotonic_s()
                if wait_s <= 0:
                    break
                self._changed.wait(wait_s)
            return self._take(max_frames)

    def take_full_batch(self, n_frames: int) -> list[Frame]:
        """Take ``n_frames`` frames if so many are at the head, else nothing; never waits."""
        with self._changed:
            if self._frames_at_head(n_frames) < n_frames:
                return []
            return [message for message in self._take(n_frames) if isinstance(message, Frame)]

    @property
    def closed(self) -> bool:
        """Whether nothing more will be put."""
        return self._closed

    @property
    def finished(self) -> bool:
        """Whether the queue is closed and everything was taken."""
        with self._changed:
            return self._closed and not self._waiting

    # -------------------------------------------------------------------------------------------------- for gauges

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait."""
        return self._frame_bytes + self._other_bytes

    # ---------------------------------------------------------------------------------- helpers, under the condition

    def _has_room(self) -> bool:
        frame_bytes = 0 if self._policy == "skip" else self._frame_bytes
        return frame_bytes + self._other_bytes < self._memory_bytes

    def _batch_is_ready(self, max_frames: int) -> bool:
        n_frames = self._frames_at_head(max_frames)
        return n_frames == max_frames or n_frames < len(self._waiting) or self._closed

    def _frames_at_head(self, max_frames: int) -> int:
        head = islice(self._waiting, max_frames)
        return sum(1 for _ in takewhile(lambda message: isinstance(message, Frame), head))

    def _take(self, max_frames: int) -> list[StreamMessage]:
        n_messages = self._frames_at_head(max_frames) or min(1, len(self._waiting))
        batch = [self._waiting.popleft() for _ in range(n_messages)]
        for message in batch:
            self._account(message, -1)
        self._changed.notify_all()
        return batch

    def _drop_oldest(self) -> list[Frame]:
        """Drop frames from the head until the limit is kept; the newest message stays."""
        dropped = []
        position = 0
        while self.backlog_bytes > self._memory_bytes and position < len(self._waiting) - 1:
            message = self._waiting[position]
            if isinstance(message, Frame):
                del self._waiting[position]
                self._account(message, -1)
                dropped.append(message)
            else:
                position += 1
        return dropped

    def _account(self, message: StreamMessage, sign: int) -> None:
        if isinstance(message, Frame):
            self._frame_bytes += sign * (message.size_bytes + MESSAGE_BYTES)
        elif isinstance(message, SeriesStart):
            self._other_bytes += sign * (
                _array_bytes(message.pixel_mask) + _array_bytes(message.flatfield) + HEADER_BYTES
            )
        else:
            self._other_bytes += sign * MESSAGE_BYTES


def _array_bytes(array: NDArray[np.generic] | None) -> int:
    return 0 if array is None else array.nbytes
