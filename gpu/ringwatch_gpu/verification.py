"""The same frames through our kernels and through pyFAI: how far apart the results are, quantity by quantity.

pyFAI's compiled engines approximate the azimuthal variance (by up to some per cent); its Python engine without pixel
splitting does not, but adds in float32. So the intensity is compared with the Cython CSR engine, variance (about the
mean that pyFAI found) and spottiness with the Python engine, and everything with a two-pass float64 computation on the
same norms. With pixel splitting no engine of pyFAI has the azimuthal variance (they are off by up to 20 %): what does
not depend on it is compared with pyFAI, everything with two-pass float64.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from . import exact
from .batch import BatchIntegrator
from .geometry import Geometry
from .geometry_pyfai import Recipe, load_integrator
from .reference import float_bincount
from .signals import signals
from .splitting import parts
from .spottiness import spottiness
from .sums import ROWS, RingProfile, RingSums
from .validity import Validity

_WELL_FILLED = 100
"""In bins of a few pixels pyFAI's float32 rounds the variance at 1e-6 itself: it is compared where there are more."""

_SPLIT_FILLED = 1
"""Parts that are less than a pixel together have norms and variances that are mostly rounding."""

_NO_DUMMY = -(2.0**40)

FLOAT64, CYTHON, PYTHON = "two-pass float64", "pyFAI, Cython CSR", "pyFAI, Python CSR"
TOLERANCES = {
    ("count", PYTHON): 0.0,
    ("intensity", CYTHON): 5e-7,
    ("variance", PYTHON): 1e-6,
    ("spottiness", PYTHON): 1e-6,
    ("spottiness_weighted", PYTHON): 1e-6,
    ("intensity", FLOAT64): 1e-7,
    ("variance", FLOAT64): 1e-7,
    ("std", FLOAT64): 1e-7,
    ("sem", FLOAT64): 1e-7,
    ("spottiness", FLOAT64): 1e-7,
    ("spottiness_weighted", FLOAT64): 1e-7,
}

SPLIT_TOLERANCES = {
    ("count", PYTHON): 1e-5,
    ("intensity", CYTHON): 5e-7,
    ("norm_sq", PYTHON): 1e-5,
    **{(quantity, against): tolerance for (quantity, against), tolerance in TOLERANCES.items() if against == FLOAT64},
}
"""Where pixels are split."""

Differences = dict[tuple[str, str], float]
"""Of a quantity against somebody else's."""


@dataclass(frozen=True)
class Comparison:
    """Largest relative difference of one quantity over all frames and bins, in parts per million."""

    quantity: str
    against: str
    largest_ppm: float
    tolerance_ppm: float

    @property
    def agrees(self) -> bool:
        """Whether it is within the tolerance."""
        return self.largest_ppm <= self.tolerance_ppm


class Verification:
    """Compares frame by frame.

    Parameters
    ----------
    geometry
        Ours, with its flat field, absorption and dark; ``solid_angle`` and ``polarization`` are what it was made with.
    dtype
        Pixel type.
    negatives
        Whether values below zero of a signed type count.
    """

    def __init__(
        self,
        geometry: Geometry,
        dtype: np.dtype[np.generic],
        device: cl.Device,
        *,
        solid_angle: bool = True,
        polarization: float | None = 0.99,
        negatives: bool = False,
    ) -> None:
        self._geometry, self._batch = geometry, BatchIntegrator(geometry, dtype, device, negatives=negatives)
        self._mask = geometry.mask
        self._arguments: dict[str, object] = {
            "npt": geometry.bins,
            "unit": geometry.unit,
            "radial_range": (geometry.edges[0], geometry.edges[-1]),
            "correctSolidAngle": solid_angle,
            "polarization_factor": polarization,
            "error_model": "azimuthal",
        }
        images = {"flat": geometry.flat, "absorption": geometry.absorption, "dark": geometry.dark}
        for name, image in images.items():
            self._arguments[name] = None if image is None else image.copy()  # pyFAI takes none that is read-only
        recipe = Recipe(geometry.poni, geometry.shape, geometry.unit, geometry.bins, None, solid_angle, polarization)
        splitting = "no" if geometry.splitting is None else geometry.splitting.method
        self._fast, self._reference = (splitting, "csr", "cython"), (splitting, "csr", "python")
        self._tolerances = TOLERANCES if geometry.splitting is None else SPLIT_TOLERANCES
        self._integrator = load_integrator(recipe, geometry.source)

    def compare(self, frames: Iterable[NDArray[np.generic]], validity: Validity) -> list[Comparison]:
        """Differences over all frames."""
        largest = dict.fromkeys(self._tolerances, 0.0)
        for frame in frames:
            for quantity, difference in self._differences(frame, validity).items():
                largest[quantity] = max(largest[quantity], difference)
        return [Comparison(*key, 1e6 * largest[key], 1e6 * tolerance) for key, tolerance in self._tolerances.items()]

    def cython_engine(self, frame: NDArray[np.generic]) -> object:
        """One frame through pyFAI's Cython CSR engine with the azimuthal error model, as its users call it."""
        return self._integrator.integrate1d_ng(frame, mask=self._mask, method=self._fast, dummy=-1, **self._arguments)

    def _differences(self, frame: NDArray[np.generic], validity: Validity) -> Differences:
        signal, bad = signals(frame.ravel(), self._geometry, validity)
        invalid = self._geometry.mask | bad.reshape(frame.shape)
        sums, two_pass = self._ours(frame, validity), self._two_pass(signal, invalid)
        rounded = self._rounded(frame)
        fast, theirs = (self._theirs(rounded, invalid, method) for method in (self._fast, self._reference))
        ours = sums.profile
        filled = ours.count > (0 if sums.is_exact else _SPLIT_FILLED)
        differences = {("intensity", CYTHON): _relative(ours.intensity, fast.intensity, filled)}
        if sums.is_exact:
            differences["count", PYTHON] = float(np.abs(ours.count - theirs.count).max())
            differences["variance", PYTHON] = _relative(
                _variance_about(theirs.intensity, sums), theirs.variance, ours.count >= _WELL_FILLED
            )
            differences |= self._spottiness_differences(ours, theirs, PYTHON)
        else:
            differences["count", PYTHON] = _relative(ours.count, theirs.count, ours.count > 0)
            differences["norm_sq", PYTHON] = _relative(ours.norm_sq, theirs.norm_sq, ours.count > 0)
        differences |= self._spottiness_differences(ours, two_pass, FLOAT64)
        for name in ("intensity", "variance", "std", "sem"):
            differences[name, FLOAT64] = _relative(getattr(ours, name), getattr(two_pass, name), filled)
        return differences

    def _spottiness_differences(self, ours: RingProfile, theirs: RingProfile, against: str) -> Differences:
        found, expected = (spottiness(profile, np.ones(self._geometry.bins)) for profile in (ours, theirs))
        return {
            ("spottiness", against): abs(float(found.plain / expected.plain) - 1),
            ("spottiness_weighted", against): abs(float(found.weighted / expected.weighted) - 1),
        }

    def _rounded(self, frame: NDArray[np.generic]) -> NDArray[np.generic]:
        """The frame as we see it: floats in multiples of the quantum, as the dark is already."""
        if frame.dtype.kind != "f":
            return frame
        quantum = self._geometry.signal_quantum
        values: NDArray[np.generic] = np.rint(np.nan_to_num(frame) / quantum) * quantum
        return values

    def _two_pass(self, signal: NDArray[np.int64], invalid: NDArray[np.bool_]) -> RingProfile:
        """The textbook: means first, then squared deviations, in float64 on the same norms."""
        bins, (pixel, index, share, norm_q) = self._geometry.bins, parts(self._geometry, ~invalid.ravel())
        s, g = share * (signal[pixel] * self._geometry.signal_quantum), norm_q * self._geometry.norm_quantum
        columns = [np.asarray(x, np.float64) for x in (s, g, g * g, share)]
        total, norm, norm_sq, count = (float_bincount(index, x, bins) for x in columns)
        mean = total / np.where(norm > 0, norm, 1)
        return RingProfile.of(total, float_bincount(index, (s - g * mean[index]) ** 2, bins), norm, norm_sq, count)

    def _ours(self, frame: NDArray[np.generic], validity: Validity) -> RingSums:
        self._batch.slots[0] = frame
        sums = RingSums.none_of(self._geometry)
        return sums.plus_rows(self._batch.integrate(1, validity).rows(self._batch.static))

    def _theirs(
        self, frame: NDArray[np.generic], invalid: NDArray[np.bool_], method: tuple[str, str, str]
    ) -> RingProfile:
        # this dummy never occurs, and keeps pyFAI from guessing one for the detector; its Python engine divides by 0 in
        # empty bins
        with np.errstate(invalid="ignore"):
            result = self._integrator.integrate1d_ng(
                np.where(invalid, 0, frame), mask=invalid, method=method, dummy=_NO_DUMMY, **self._arguments
            )
        sums = (result.sum_signal, result.sum_variance, result.sum_normalization, result.sum_normalization2)
        signal, variance, norm, norm_sq, intensity = (np.asarray(x, np.float64) for x in (*sums, result.intensity))
        profile = RingProfile.of(signal, variance, norm, norm_sq, np.asarray(result.count, np.float64))
        return replace(profile, intensity=intensity)


def _variance_about(mean: NDArray[np.float64], sums: RingSums) -> NDArray[np.float64]:
    """Our variance, about the mean of somebody else.

    pyFAI takes the distances from a mean that its float32 sums have moved by some 1e-6. Where the norms within a ring
    differ, as a flat field makes them, that moves its variance in the first order.
    """
    unit = sums.norm_quantum * sums.signal_quantum
    profile, product = sums.profile, exact.to_float(sums.words[ROWS.index("norm_signal")]) * unit
    moved = mean - profile.intensity
    return profile.variance + moved * (moved * profile.norm_sq - 2 * (product - profile.intensity * profile.norm_sq))


def _relative(ours: NDArray[np.float64], theirs: NDArray[np.float64], where: NDArray[np.bool_]) -> float:
    """Largest |ours - theirs| / |theirs|; where theirs is 0, ours has to be, too."""
    difference, scale = np.abs(ours - theirs)[where], np.abs(theirs)[where]
    return float(
        np.max(np.where(scale > 0, difference / np.where(scale > 0, scale, 1), np.sign(difference)), initial=0)
    )
