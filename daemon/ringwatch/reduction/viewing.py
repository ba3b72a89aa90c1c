"""Evaluations in, the summed image for people who are looking at it out: not more often than they can look."""

import math
from typing import Protocol

from ringwatch.clock import Clock
from ringwatch.messages import SmallImage
from ringwatch.reduction.accumulator import Accumulator

SHOWN_EVERY_S = 5.0
"""At 4M pixels an image takes as long as reducing some frames."""


class Viewer(Protocol):
    """Who may want to see the summed image."""

    @property
    def is_watching(self) -> bool:
        """Whether somebody looks at it now."""
        ...

    def show(self, image: SmallImage) -> None:
        """Take one; must not wait."""
        ...


class Viewing:
    """Shows the summed image while somebody watches, and the last one of an accumulation to whoever comes later.

    Parameters
    ----------
    viewer
        None where nobody can ever look.
    """

    def __init__(self, viewer: Viewer | None, clock: Clock) -> None:
        self._viewer, self._clock, self._shown_s = viewer, clock, -math.inf

    def look(self, accumulator: Accumulator, *, is_last: bool) -> None:
        """Show what was just evaluated, if that is due."""
        viewer, now_s = self._viewer, self._clock.monotonic_s()
        if viewer is None:
            return
        if is_last or (viewer.is_watching and now_s - self._shown_s >= SHOWN_EVERY_S):
            viewer.show(accumulator.small_image())
            self._shown_s = now_s
