"""A mean radial profile in, its Debye-Scherrer rings out: the bins of each ring, and the smooth background below.

Rings are found in the profile, or expected at given lattice spacings. The background is the local mean of all bins
without a peak, interpolated below the peaks: unlike an opening or a clipping it is not biased by the noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from .errors import GeometryError
from .ring_peaks import Peaks, SmoothProfile
from .ring_positions import RadialAxis
from .spottiness import MIN_AZIMUTH
from .sums import RingProfile

MAX_RINGS = 63

_HALF_WINDOW = 1.5
_HALF_CORE = 0.75
"""Half widths in FWHM, of a ring's window and of the part of it that holds nearly all of its counts."""

_MIN_HALF_BINS = 1.5
_DEFAULT_FWHM = 4.0
"""In bins, of a ring that cannot be measured yet: bins are about a pixel wide, and a spot covers a few pixels."""

_MIN_CORE_SIGNIFICANCE = 3.0
"""Net counts over their standard deviation from pixel to pixel: n equally bright pixels make sqrt(n), a hot one 1."""

_BACKGROUND_SMOOTHING = 3.0

Windows = tuple[NDArray[np.int64], NDArray[np.int64]]
"""First bin and the one after the last, each of shape (rings,)."""


@dataclass(frozen=True, eq=False)
class Rings:
    """The rings of a profile in ascending order; at most 63, none overlaps another.

    Attributes
    ----------
    first, last
        Bins of each ring: from ``first`` up to, not including, ``last``; shape (rings,).
    position
        Centre weighted by net intensity, in the unit of the radial axis, shape (rings,).
    d_spacing_A
        Lattice spacing that was asked for, or else belongs to ``position``; NaN where the axis does not tell.
    background
        Smooth intensity (signal per normalization) without rings on the whole axis, shape (bins,).
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    position: NDArray[np.float64]
    d_spacing_A: NDArray[np.float64]  # noqa: N815 - the unit's own spelling
    background: NDArray[np.float64]

    def __len__(self) -> int:
        return self.first.size

    def summed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums of ``values`` (bins,) over the bins of each ring, shape (rings,)."""
        return _window_sums(values, (self.first, self.last))

    def net_signal(self, profile: RingProfile) -> NDArray[np.float64]:
        """Counts above the background in each ring, shape (rings,); may be negative."""
        return self.summed(_net(profile, self.background))


def find_rings(profile: RingProfile, axis: RadialAxis) -> Rings:
    """The rings that stand out of a profile; none if nothing does.

    A hot pixel or a spot of a few pixels is no ring. Bins covered over less than half of the azimuth do not count:
    rings that reach there with more than their tails are left out. Of more than 63 rings those with the most net counts
    are kept.

    Parameters
    ----------
    profile
        Of the summed image, arrays of shape (bins,). Its signal must be counts: they tell the photon noise.
    """
    smooth = SmoothProfile.of(profile)
    peaks = smooth.peaks()
    windows = _windows(peaks, smooth.net)
    background = _background(profile, windows)
    keep = _carried_by_many_pixels(profile, peaks, background) & _covered(peaks, axis)
    windows = _within_cover((windows[0][keep], windows[1][keep]), peaks.centre[keep], axis)
    position = _positions(profile, background, windows, axis.radial)
    return _strongest(Rings(*windows, position, axis.d_spacing_A(position), background), profile)


def rings_at(d_spacings_A: Sequence[float] | NDArray[np.float64], profile: RingProfile, axis: RadialAxis) -> Rings:
    """The rings of given lattice spacings, each as wide as its peak in the profile.

    The peak that stands out next to an expected place, at most its own width away, gives centre and width. A ring
    without one lies where it is expected and is as wide as the others (median), or 4 bins where none is measurable.
    Left out are rings outside the detector or, but for their tails, where less than half of the azimuth is covered; and
    the smaller of two spacings whose rings would be less than 3 bins apart. Of more than 63 rings those with the most
    net counts are kept.

    Raises
    ------
    GeometryError
        A spacing is not a positive number, or unit or wavelength do not allow to place it.
    """
    smooth = SmoothProfile.of(profile)
    peaks = smooth.peaks()
    spacing, centre = _expected(np.asarray(d_spacings_A, np.float64), axis)
    rings = _measured(centre, peaks)
    covered = _covered(rings, axis)
    spacing, rings = spacing[covered], rings[covered]
    windows = _windows(rings, smooth.net)
    background = _background(profile, windows, _windows(peaks, smooth.net))
    windows = _within_cover(windows, rings.centre, axis)
    position = _positions(profile, background, windows, axis.radial)
    return _strongest(Rings(*windows, position, spacing, background), profile)


# ---------------------------------------------------------------------------------------------------- given spacings


def _expected(
    spacing: NDArray[np.float64], axis: RadialAxis
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """The spacings whose rings are on the axis, and the (fractional) bins of their rings, ascending."""
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise GeometryError("d-spacings of rings are positive numbers, in Angstrom")
    spacing = np.unique(spacing)[::-1]
    position = axis.position(spacing)
    centre = np.interp(position, axis.radial, np.arange(axis.bins))
    on_axis = (position >= axis.edges[0]) & (position < axis.edges[-1])
    return _apart(spacing[on_axis], centre[on_axis])


def _apart(
    spacing: NDArray[np.float64], centre: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    kept: list[int] = []
    for ring, place in enumerate(centre):
        if not kept or place - centre[kept[-1]] >= 2 * _MIN_HALF_BINS:
            kept.append(ring)
    return spacing[kept], centre[kept]


def _measured(centre: NDArray[np.float64], peaks: Peaks) -> Peaks:
    """Centre and width of the rings expected at ``centre``: of their peaks, where there are any."""
    if not len(peaks) or not centre.size:
        return Peaks(centre, np.full(centre.size, _DEFAULT_FWHM))
    distance = np.abs(centre[:, None] - peaks.centre)
    nearest = distance.argmin(1)
    # A peak belongs to the one ring that is nearest to it.
    mutual = distance.argmin(0)[nearest] == np.arange(centre.size)
    own = mutual & (distance.min(1) <= peaks.fwhm[nearest])
    usual = float(np.median(peaks.fwhm[nearest[own]])) if own.any() else _DEFAULT_FWHM
    return Peaks(np.where(own, peaks.centre[nearest], centre), np.where(own, peaks.fwhm[nearest], usual))


# ------------------------------------------------------------------------------------------------------------ windows


def _windows(peaks: Peaks, net: NDArray[np.float64]) -> Windows:
    """Windows of 1.5 FWHM to either side, at least 3 bins; neighbours meet at the lowest bin between them."""
    half = np.maximum(_HALF_WINDOW * peaks.fwhm, _MIN_HALF_BINS)
    first, last = _around(peaks.centre, half, net.size)
    top = _bin_of(peaks.centre, net.size)
    for ring in np.flatnonzero(last[:-1] > first[1:]):
        between = slice(top[ring] + 1, max(top[ring + 1], top[ring] + 2))
        last[ring] = first[ring + 1] = between.start + int(net[between].argmin())
    return first, last


def _around(centre: NDArray[np.float64], half: NDArray[np.float64], bins: int) -> Windows:
    first, last = np.floor(centre - half + 1), np.floor(centre + half + 1)
    return np.clip(first, 0, bins).astype(np.int64), np.clip(last, 0, bins).astype(np.int64)


def _bin_of(centre: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    return np.clip(np.rint(centre), 0, bins - 1).astype(np.int64)


def _core(rings: Peaks, bins: int) -> Windows:
    return _around(rings.centre, np.maximum(_HALF_CORE * rings.fwhm, _MIN_HALF_BINS), bins)


def _covered(rings: Peaks, axis: RadialAxis) -> NDArray[np.bool_]:
    thin = (axis.azimuth_fraction < MIN_AZIMUTH).astype(np.float64)
    covered: NDArray[np.bool_] = _window_sums(thin, _core(rings, axis.bins)) == 0
    return covered


def _within_cover(windows: Windows, centre: NDArray[np.float64], axis: RadialAxis) -> Windows:
    """The windows cut where bins begin that do not count; all centres are in bins that do."""
    outside = np.concatenate(([-1], np.flatnonzero(axis.azimuth_fraction < MIN_AZIMUTH), [axis.bins]))
    after = np.searchsorted(outside, _bin_of(centre, axis.bins))
    return np.maximum(windows[0], outside[after - 1] + 1), np.minimum(windows[1], outside[after])


# ------------------------------------------------------------------------------------------- background and net counts


def _background(profile: RingProfile, *windows: Windows) -> NDArray[np.float64]:
    """Local mean over the bins outside of all windows, interpolated elsewhere; 0 if there is no such bin."""
    off = profile.normalization > 0
    for first, last in windows:
        for start, stop in zip(first, last, strict=True):
            off[start:stop] = False
    at = np.flatnonzero(off)
    if not at.size:
        return np.zeros(off.size)
    signal, norm = (
        gaussian_filter1d(np.where(off, x, 0.0), _BACKGROUND_SMOOTHING, mode="constant")[at]
        for x in (profile.signal, profile.normalization)
    )
    background: NDArray[np.float64] = np.interp(np.arange(off.size), at, signal / norm)
    return background


def _net(profile: RingProfile, background: NDArray[np.float64]) -> NDArray[np.float64]:
    return profile.signal - background * profile.normalization


def _window_sums(values: NDArray[np.float64], windows: Windows) -> NDArray[np.float64]:
    running = np.concatenate(([0.0], np.cumsum(values)))
    sums: NDArray[np.float64] = running[windows[1]] - running[windows[0]]
    return sums


def _carried_by_many_pixels(
    profile: RingProfile, peaks: Peaks, background: NDArray[np.float64]
) -> NDArray[np.bool_]:  # fmt: skip
    core = _core(peaks, background.size)
    net, variance = (_window_sums(x, core) for x in (_net(profile, background), profile.variance))
    many: NDArray[np.bool_] = net >= _MIN_CORE_SIGNIFICANCE * np.sqrt(variance)
    return many & (net > 0)


def _positions(
    profile: RingProfile, background: NDArray[np.float64], windows: Windows, radial: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Centres of the windows, weighted by intensity above the background; plain centres where there is none."""
    weight = np.where(profile.normalization > 0, np.maximum(profile.intensity - background, 0.0), 0.0)
    total, moment = _window_sums(weight, windows), _window_sums(weight * radial, windows)
    plain = _window_sums(radial, windows) / (windows[1] - windows[0])
    return np.where(total > 0, moment / np.where(total > 0, total, 1.0), plain)


def _strongest(rings: Rings, profile: RingProfile) -> Rings:
    """At most 63 of the rings: those with the most net counts."""
    keep = np.sort(np.argsort(-rings.net_signal(profile), kind="stable")[:MAX_RINGS])
    return Rings(
        first=rings.first[keep],
        last=rings.last[keep],
        position=rings.position[keep],
        d_spacing_A=rings.d_spacing_A[keep],
        background=rings.background,
    )
