"""Counts of radial groups at successive evaluations in, whether the pattern is changing out.

The last quarter of the frames is compared with those before, group by group, with the scatter of the groups' sectors as
the measure of what grains and photons do by themselves. The level of the whole pattern is free: the beam may decay.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from .azimuth import SmoothFit

_STRETCH = 0.25
_LIMIT = 3.0
"""Mean square deviation in units of the expected one; few spots with a broad size distribution reach 2."""

_BY_CHANCE = 1e-5
"""Probability to exceed the limit: it has to be larger where few groups make the mean."""

_MIN_CHANGE = 0.01
_IN_A_ROW = 2
_KEPT = 64
_MIN_GROUPS = 3
Floats = NDArray[np.float64]


class DriftWatch:
    """Compares stretches of one accumulation; bounded."""

    def __init__(self) -> None:
        self._past: deque[tuple[int, Floats]] = deque(maxlen=_KEPT)
        self._in_a_row = 0
        self.since: int | None = None

    def see(self, n_frames: int, total: Floats, fit: SmoothFit) -> None:
        """Take an evaluation; afterwards ``since`` is the frame since which the pattern changes, or None.

        Parameters
        ----------
        total
            Sectors of the summed image, shape (groups, sectors).
        """
        counts = total.sum(axis=1)
        before = self._before((1 - _STRETCH) * n_frames)
        self._past.append((n_frames, counts))
        if before is None:
            return
        relative = fit.variance(fit.residuals(total) ** 2) / np.maximum(counts, 1.0) ** 2
        self._in_a_row = self._in_a_row + 1 if self._differs(before, n_frames, counts, relative, fit) else 0
        if self._in_a_row >= _IN_A_ROW:
            self.since = before[0] if self.since is None else self.since
        else:
            self.since = None

    def _before(self, n_frames: float) -> tuple[int, Floats] | None:
        """The latest evaluation that is at least a stretch ago."""
        return next((past for past in reversed(self._past) if past[0] <= n_frames), None)

    def _differs(
        self, before: tuple[int, Floats], n_frames: int, counts: Floats, relative: Floats, fit: SmoothFit
    ) -> bool:
        n_before, first = before
        last = counts - first
        seen = fit.usable & (first > 0) & (last > 0)
        if seen.sum() < _MIN_GROUPS:
            return False
        change = np.log(last[seen] / first[seen])
        expected = relative[seen] * n_frames * (1 / n_before + 1 / (n_frames - n_before))
        weight = 1 / np.maximum(expected, 1e-12)
        change -= (weight * change).sum() / weight.sum()
        limit = max(_LIMIT, chdtri(change.size - 1, _BY_CHANCE) / change.size)
        is_unexpected = (weight * change**2).mean() > limit
        return bool(is_unexpected and np.sqrt((weight * change**2).sum() / weight.sum()) > _MIN_CHANGE)
