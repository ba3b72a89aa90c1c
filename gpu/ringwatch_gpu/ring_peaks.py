"""A mean radial profile in; the peaks that stand out of it, with their widths, out.

Peaks are looked for above the morphological opening of the profile, which follows slopes and the edge of a beam stop
without loss. What stands out does so against the photon noise and against the scatter of its surroundings, and levels
off on both sides: the top of a broad hump and the maximum beside a beam stop do not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, grey_opening, percentile_filter
from scipy.signal import find_peaks, peak_widths

from .sums import RingProfile

_SMOOTHING = 1.0
"""Standard deviation of the smoothing, in bins. Smoothed counts scatter like counts of `_SMOOTHED_BINS` bins."""

_SMOOTHED_BINS = 2 * np.sqrt(np.pi) * _SMOOTHING

_REACH = 16
_MIN_REACH = 18
"""The opening removes what is narrower than twice a sixteenth of the axis; a ring is at most a quarter of that wide."""

_SIGNIFICANCE = 5.0
_MIN_PROMINENCE = 0.4
"""Of the height: a valley less deep is the roughness of one spotty ring, not the gap between two."""

_FLANK = 1.25
"""Where a ring has levelled off: distance from its top, in full widths at half maximum (FWHM)."""

_MAX_FALL = 1.5
"""Fall to either flank in units of the height above the opening: 1 for a ring, more on a hump and beside an edge."""

_WAY_TO_FLANK = np.linspace(0.5, 1.0, 4)
_SCATTER_DISTANCE = 3.0
_QUARTILE_OF_ABS_NORMAL = 0.3186


@dataclass(frozen=True, eq=False)
class Peaks:
    """Peaks in ascending order: centre (fractional bin) and FWHM (bins) in the smoothed profile, shape (peaks,)."""

    centre: NDArray[np.float64]
    fwhm: NDArray[np.float64]

    def __getitem__(self, which: NDArray[np.bool_]) -> "Peaks":
        return Peaks(self.centre[which], self.fwhm[which])

    def __len__(self) -> int:
        return self.centre.size


@dataclass(frozen=True, eq=False)
class SmoothProfile:
    """A profile smoothed over the bins that hold pixels, interpolated where none does; arrays of shape (bins,).

    Attributes
    ----------
    intensity
        Signal per normalization.
    norm
        Normalization of the bins smoothed over: intensity x norm scatters like a number of photons.
    net
        Intensity above its opening, never negative.
    filled
        The bins that hold pixels.
    """

    intensity: NDArray[np.float64]
    norm: NDArray[np.float64]
    net: NDArray[np.float64]
    filled: NDArray[np.bool_]

    @classmethod
    def of(cls, profile: RingProfile) -> "SmoothProfile":
        """The profile smoothed; all zero where no bin holds a pixel."""
        filled = profile.normalization > 0
        counts, norm = (_smooth(np.where(filled, x, 0.0)) for x in (profile.signal, profile.normalization))
        if not filled.any():
            return cls(counts, norm, counts, filled)
        bins, at = np.arange(filled.size), np.flatnonzero(filled)
        intensity = np.interp(bins, at, counts[at] / norm[at])
        return cls(intensity, np.interp(bins, at, norm[at]), intensity - _opening(intensity), filled)

    def peaks(self) -> Peaks:
        """The peaks that stand out; none in a smooth profile, however steep or curved."""
        reach = _reach(self.net.size)
        at, found = find_peaks(self.net, prominence=np.finfo(float).tiny, wlen=2 * reach + 1)
        if not at.size:
            return Peaks(np.zeros(0), np.zeros(0))
        prominence, bases = found["prominences"], (found["left_bases"], found["right_bases"])
        fwhm, _, left, right = peak_widths(self.net, at, prominence_data=(prominence, *bases))
        apart = (prominence >= _MIN_PROMINENCE * self.net[at]) & (fwhm <= reach / 2)
        keep = apart & self.filled[at] & self._stands_out(at, _FLANK * fwhm)
        return Peaks((left + right)[keep] / 2, fwhm[keep])

    def _stands_out(self, at: NDArray[np.int64], distance: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each peak rises significantly above both of its flanks, and falls no further than it is high."""
        left, right = (self._lowest(at, side * distance) for side in (-1, 1))
        levels_off = self.intensity[at] - np.minimum(left, right) <= _MAX_FALL * self.net[at]
        rise = self._rise(at, np.maximum(left, right))
        significant: NDArray[np.bool_] = rise >= _SIGNIFICANCE * self._scatter()[at]
        return levels_off & significant

    def _scatter(self) -> NDArray[np.float64]:
        """How far bins rise above or fall below their surroundings, in standard deviations of photon noise; >= 1.

        A low quantile, as up to three quarters of the bins around may belong to rings.
        """
        at = np.flatnonzero(self.filled)
        place = at.astype(np.float64)
        around = (self._at(place - _SCATTER_DISTANCE) + self._at(place + _SCATTER_DISTANCE)) / 2
        rise = np.abs(self._rise(at, around))
        local = percentile_filter(rise, 25, size=2 * _reach(self.net.size) + 1, mode="nearest")
        scatter = np.ones(self.net.size)
        scatter[at] = np.maximum(local / _QUARTILE_OF_ABS_NORMAL, 1.0)
        return scatter

    def _rise(self, at: NDArray[np.int64], level: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rise above a level of intensity in standard deviations of photon noise (Anscombe's transform)."""
        counts = (np.maximum(intensity * self.norm[at], 0.0) for intensity in (self.intensity[at], level))
        top, base = (np.sqrt(n + 0.375) for n in counts)
        rise: NDArray[np.float64] = 2 * (top - base)
        return rise

    def _lowest(self, at: NDArray[np.int64], distance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lowest intensity on the outer half of the way from ``at`` to ``distance`` bins further."""
        lowest: NDArray[np.float64] = self._at(at + np.outer(_WAY_TO_FLANK, distance)).min(0)
        return lowest

    def _at(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.interp(place, np.arange(self.intensity.size), self.intensity)


def _reach(bins: int) -> int:
    return max(bins // _REACH, _MIN_REACH)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    smooth: NDArray[np.float64] = _SMOOTHED_BINS * gaussian_filter1d(values, _SMOOTHING, mode="constant")
    return smooth


def _opening(intensity: NDArray[np.float64]) -> NDArray[np.float64]:
    reach = _reach(intensity.size)
    wide = grey_opening(np.pad(intensity, reach, mode="edge"), size=2 * reach + 1)
    opening: NDArray[np.float64] = wide[reach:-reach]
    return opening
