"""How much sums of pixels scatter by themselves: from a model of one pixel to bins, sectors and profiles.

Photons scatter by the square root of their number. A dark takes none of that away: what scatters are the counts before
it is taken off. A detector that counts no single photons is told by the model variance = gain x signal + readout^2, for
each pixel and frame. Both are linear, so that the sums of signal and norm tell the variance of a sum of pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .geometry import Geometry
from .splitting import entry_norms
from .sums import RingProfile

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PixelVariance:
    """Variance of a pixel of one frame in counts: gain x signal + readout^2."""

    gain: float
    readout: float

    def of(self, signal: Floats, pixels: Floats) -> Floats:
        """Variance of the sum of so many pixels; never negative."""
        return np.maximum(self.gain * signal + self.readout**2 * pixels, 0.0)


@dataclass(frozen=True, eq=False)
class Noise:
    """Variance of noise in counts, of sums of pixels of each bin: gain x signal + floor x norm.

    Attributes
    ----------
    gain
        1 for photons.
    floor
        What there is without a signal, per quantum of the norm: the mean of the bin, shape (bins,).
    """

    gain: float
    floor: Floats

    @classmethod
    def of(cls, geometry: Geometry, model: PixelVariance | None = None) -> "Noise":
        """Noise of a model of the pixels, as whole ones; without one that of photons, those of the dark included."""
        gain, floor = _of_a_pixel(geometry, model)
        if floor is None:
            return cls(gain, np.zeros(geometry.bins))
        used = geometry.bin_table < geometry.bins
        index = geometry.bin_table[used]
        return cls(gain, _mean_floors(index, floor[used], geometry.norm_q[used], geometry.bins))

    @classmethod
    def of_parts(cls, geometry: Geometry, model: PixelVariance | None = None) -> "Noise":
        """The same of the parts where pixels are split, else of the pixels: from sum c^2 s and sum c g.

        With a dark or a readout noise that takes about a second for 10^7 entries.
        """
        gain, floor = _of_a_pixel(geometry, model)
        if geometry.splitting is None or floor is None:
            return cls.of(geometry, model)
        entries = geometry.splitting.entries(np.flatnonzero(geometry.bin_table < geometry.bins))
        floors = entries.share.astype(np.float64) ** 2 * floor[entries.pixel]
        return cls(gain, _mean_floors(entries.bin, floors, entry_norms(entries, geometry.norm_q), geometry.bins))

    @property
    def is_of_counts(self) -> bool:
        """Whether it is that of photons without a dark."""
        return self.gain == 1 and not self.floor.any()

    def variance(self, signal: Floats, norm: Floats) -> Floats:
        """Variance of sums in counts, from their signal and norm (in quanta), both of shape (bins, ...)."""
        floor = self.floor.reshape(-1, *[1] * (signal.ndim - 1))
        return np.maximum(self.gain * signal + floor * norm, 0.0)


def _of_a_pixel(geometry: Geometry, model: PixelVariance | None) -> tuple[float, Floats | None]:
    """Gain, and the variance without a signal of each pixel (pixels,), None where there is none."""
    if model is not None:
        return model.gain, np.full(geometry.pixels, model.readout**2) if model.readout else None
    return 1.0, None if geometry.dark is None else geometry.dark.ravel()


def _mean_floors(index: NDArray[np.integer], floor: Floats, norm: NDArray[np.uint32], bins: int) -> Floats:
    floors, norms = (np.bincount(index, values, bins) for values in (floor, norm))
    return np.asarray(floors / np.maximum(norms, 1.0))


def modelled(profile: RingProfile, model: PixelVariance, pixels: Floats) -> RingProfile:
    """A profile with the variance, std and sem of a model of the pixels, of which so many frames were summed.

    Parameters
    ----------
    pixels
        Number of pixels of all frames together, shape (bins,): row "count" of the union.
    """
    variance = model.of(profile.signal, pixels)
    return RingProfile.of(profile.signal, variance, profile.normalization, profile.norm_sq, profile.count)
