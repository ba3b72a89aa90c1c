"""Sums of frames in as they come, those of the last of them out: what leaves the window is subtracted, exactly."""

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from ringwatch.config import WindowConfig
from ringwatch.errors import ConfigError
from ringwatch_gpu.exact import Words
from ringwatch_gpu.sums import RingSums

MAX_BYTES = 1 << 30
"""Memory for the sums of single frames."""


class RecentSums:
    """The sums of the last frames.

    Where the window is a time and frames come faster than was known at the start, it gets shorter than that before it
    gets larger than the memory.

    Parameters
    ----------
    nothing
        The sums of no frame.
    window
        How many frames, or how many seconds.

    Attributes
    ----------
    sums
        Of the frames in the window.
    """

    def __init__(self, nothing: RingSums, window: WindowConfig) -> None:
        self.sums = nothing
        self._most_frames = window.frames or MAX_BYTES // nothing.words.nbytes
        self._seconds = window.seconds
        self._held: deque[tuple[Words, float]] = deque()

    def add(self, rows: Words, received_s: NDArray[np.float64]) -> None:
        """Take the sums of a batch, shape (frames, 6, bins, words), and let go of those that leave the window.

        Parameters
        ----------
        received_s
            Time of arrival of each frame, ascending.
        """
        self.sums = self.sums.plus_rows(rows)
        self._held.extend(zip(rows, received_s.tolist(), strict=True))
        gone = [self._held.popleft()[0] for _ in range(self._leaving(received_s[-1]))]
        if gone:
            self.sums = self.sums.minus_rows(np.stack(gone))

    def _leaving(self, now_s: float) -> int:
        """How many frames do not belong to the window any more."""
        too_many = max(len(self._held) - self._most_frames, 0)
        if self._seconds is None:
            return too_many
        too_old = next(n for n, (_, then_s) in enumerate(self._held) if now_s - then_s < self._seconds)
        return max(too_many, too_old)


def require_room(window: WindowConfig, shape: tuple[int, int, int], frame_time_s: float | None = None) -> None:
    """Refuse a window of the last frames that would need too much memory.

    Parameters
    ----------
    shape
        Of the sums: rows, radial bins and words.
    frame_time_s
        Period of the frames, where it is known.

    Raises
    ------
    ConfigError
        With the numbers.
    """
    frames = window.frames or (window.seconds / frame_time_s if window.seconds and frame_time_s else 0)
    of_a_frame, bins = math.prod(shape) * 8, shape[1]
    if window.kind == "last" and frames * of_a_frame > MAX_BYTES:
        problem = (
            f"accumulate.window: the sums of {window.text} ({frames:.0f} frames of {bins} bins) would take "
            f"{frames * of_a_frame / 1e9:.1f} GB of memory; at most {MAX_BYTES / 1e9:.1f} GB are used, for "
            f"{MAX_BYTES // of_a_frame} frames"
        )
        raise ConfigError([problem])
