"""From encoded frames to decoded ones in the slots, several at a time; what cannot be decoded is left out."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ringwatch.errors import MalformedMessage
from ringwatch.messages import Fates, Frame

DecodeInto = Callable[[Frame, NDArray[np.generic]], None]
"""Decodes a frame into an array of its shape and type; raises MalformedMessage."""


class SlotFiller:
    """Decodes the frames of a batch in parallel (the decoders release the interpreter's lock)."""

    def __init__(self, decode_into: DecodeInto, threads: int) -> None:
        self._decode_into = decode_into
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def begin(self, frames: Sequence[Frame], slots: NDArray[np.generic], which: int, fates: Fates) -> "Filling":
        """Begin to decode into the first slots.

        Parameters
        ----------
        frames
            At most as many as there are slots.
        slots
            Shape (batch, rows, columns); nobody else touches them until the filling is finished.
        which
            Number of this set of slots.
        fates
            Where malformed frames are counted by reason.
        """
        attempts = [
            self._pool.submit(self._try_decode, frame, slot) for frame, slot in zip(frames, slots, strict=False)
        ]
        return Filling(frames, slots, which, fates, attempts)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _try_decode(self, frame: Frame, slot: NDArray[np.generic]) -> MalformedMessage | None:
        try:
            self._decode_into(frame, slot)
        except MalformedMessage as error:
            return error
        return None


@dataclass(frozen=True, slots=True)
class Filling:
    """A batch that is being decoded."""

    frames: Sequence[Frame]
    slots: NDArray[np.generic]
    which: int
    fates: Fates
    attempts: Sequence[Future[MalformedMessage | None]]

    def finish(self) -> list[Frame]:
        """Wait for it, and close the gaps that undecodable frames have left.

        Returns
        -------
        The frames that were decoded, in the order of their slots.
        """
        failures = [attempt.result() for attempt in self.attempts]
        good = [position for position, failure in enumerate(failures) if failure is None]
        for slot, position in enumerate(good):
            if slot != position:
                self.slots[slot] = self.slots[position]
        self.fates.malformed.update(failure.reason for failure in failures if failure is not None)
        return [self.frames[position] for position in good]


def gap_dummy(frame: NDArray[np.generic], gaps: NDArray[np.bool_]) -> int | None:
    """The value that fills more than 90 % of the detector's gaps, if there are gaps and it is an integer above zero.

    Zero is what a good pixel counts most often: it never means "invalid" by itself.
    """
    if frame.dtype.kind == "f":
        return None
    values, counts = np.unique(frame[gaps], return_counts=True)
    if not counts.size or counts.max() <= 0.9 * counts.sum():
        return None
    value = int(values[counts.argmax()])
    return value if value > 0 else None
