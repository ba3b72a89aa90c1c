"""Counts of azimuthal sectors in, their scatter beyond a smooth azimuthal trend out.

A shadow, texture, polarization or a wrong beam centre make a ring vary smoothly; grains make it vary from sector to
sector. So a smooth function (harmonics 0 to 4) is fitted first, and only what it leaves counts as scatter.

With E_j the counts expected in sector j if the ring were even (normalization times mean intensity of its bins) and u_j
its share of the ring, z_j = c_j / sqrt(u_j) has the variance of the whole ring's counts in every sector: for photons
that is V, the counts, and for spots that fall at random V plus the variance of their sum. With P the projection that
removes the smooth functions, sum (P z)^2 / (sectors - 9) estimates it without bias, whatever the shape of the spots
(the sector form of Yager & Majewski, J. Appl. Cryst. 47 (2014) 1855).
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri

from .geometry_pyfai import SECTORS
from .jackknife import without_one

HARMONICS = 4
PARAMETERS = 1 + 2 * HARMONICS
MIN_DEGREES = 20
"""Degrees of freedom a ring must keep after the fit: else too little of it is seen."""

_MIN_COVERED = 0.5
Floats = NDArray[np.float64]


class SmoothFit:
    """The smooth functions of each ring, and what they leave.

    Parameters
    ----------
    expected
        Counts expected in each sector of an even ring, in any unit, shape (rings, sectors). Sectors with less than half
        of the ring's median are not looked at: they are behind a gap.

    Attributes
    ----------
    covered
        Sectors that are looked at, shape (rings, sectors).
    degrees
        Degrees of freedom left, shape (rings,).
    usable
        Rings that keep enough of them, shape (rings,).
    """

    def __init__(self, expected: Floats) -> None:
        seen = np.where(expected > 0, expected, np.nan)
        self.covered = expected > _MIN_COVERED * _median(seen)[:, np.newaxis]
        self.degrees = self.covered.sum(axis=1) - PARAMETERS
        self.usable = self.degrees >= MIN_DEGREES
        self.covered &= self.usable[:, np.newaxis]
        share = np.where(self.covered, expected, 0.0)
        share /= np.maximum(share.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        self._root = np.sqrt(share)
        self._inverse = np.where(self.covered, 1 / np.where(self.covered, self._root, 1.0), 0.0)
        # The first column is the even ring itself, the others are orthogonal to it: they are the trend.
        self._smooth = np.linalg.qr(self._root[:, :, np.newaxis] * _harmonics())[0] * self.usable[:, None, None]

    def counts(self, sectors: Floats) -> Floats:
        """Counts of the covered sectors together; (..., rings, sectors) to (..., rings)."""
        return np.asarray((sectors * self.covered).sum(axis=-1))

    def residuals(self, sectors: Floats) -> Floats:
        """P z of counts of shape (..., rings, sectors); zero in sectors that are not covered."""
        z = sectors * self._inverse
        return np.asarray(z - _from_coefficients(self._smooth, self._coefficients(z)))

    def variance(self, squares: Floats) -> Floats:
        """Variance of the counts of each ring from its squared residuals (rings, sectors); (rings,)."""
        return np.asarray(squares.sum(axis=-1) / np.maximum(self.degrees, 1))

    def variance_without_one(self, squares: Floats) -> Floats:
        """The same with one sector left out, shape (rings, sectors)."""
        degrees = np.maximum(self.degrees, 1) * (1 - 1 / SECTORS)
        return np.asarray(without_one(squares) / degrees[:, np.newaxis])

    def smooth_variance(self, sectors: Floats, variance: Floats) -> tuple[Floats, NDArray[np.bool_], Floats]:
        """Relative variance of the smooth part of each ring, and whether it is more than scatter alone leaves (95 %).

        What scatter leaves in the fit is taken off: where there is no trend the values lie around zero. The third
        result are the values with one sector left out, shape (rings, sectors).

        Parameters
        ----------
        sectors
            Counts, shape (rings, sectors).
        variance
            Of the ring's counts as the residuals tell it, shape (rings,).
        """
        uneven = sectors * self._inverse - self._root * self.counts(sectors)[:, np.newaxis]
        waves = uneven[:, :, np.newaxis] * self._smooth[:, :, 1:]  # what each sector adds to each coefficient
        left = without_one(waves.swapaxes(1, 2)) * (SECTORS / (SECTORS - 1))
        smooth, smooth_left = (waves.sum(axis=1) ** 2).sum(axis=1), (left**2).sum(axis=1)
        by_chance = np.where(self.usable, (PARAMETERS - 1) * variance, 0.0)
        is_real = smooth > fdtri(PARAMETERS - 1, np.maximum(self.degrees, 1), 0.95) * by_chance
        squared = np.maximum(self.counts(sectors), 1.0) ** 2
        replicates = (smooth_left - by_chance[:, np.newaxis]) / squared[:, np.newaxis]
        return np.asarray((smooth - by_chance) / squared), is_real, np.asarray(replicates)

    def leaked(self, squares: Floats, neighbours: Floats) -> Floats:
        """Variance that spots hide from the residuals by reaching over one border of a sector; (rings,).

        If the scatter has a variance a and a covariance b with each neighbour, which makes a + 2b in all, then with
        T = 1 between neighbours squares = a tr P + b tr PT, and twice the products = a tr PT + b tr PTPT.

        Parameters
        ----------
        squares, neighbours
            Sums over the sectors of squared residuals and of the products of neighbouring ones, (rings,).
        """
        once, twice = self._neighbour_traces
        degrees = np.maximum(self.degrees, 1)
        covariance = (2 * degrees * neighbours - once * squares) / np.maximum(degrees * twice - once**2, 1.0)
        return np.asarray(covariance * (1 - once / (2 * degrees)))

    @cached_property
    def _neighbour_traces(self) -> tuple[Floats, Floats]:
        """Traces of PT and of PTPT, each of shape (rings,)."""
        projection = self.covered[:, np.newaxis] * np.eye(SECTORS) - self._smooth @ self._smooth.swapaxes(1, 2)
        product = np.roll(projection, 1, axis=2) + np.roll(projection, -1, axis=2)
        return np.trace(product, axis1=1, axis2=2), (product * product.swapaxes(1, 2)).sum(axis=(1, 2))

    def _coefficients(self, z: Floats) -> Floats:
        return np.asarray(np.matmul(z[..., np.newaxis, :], self._smooth)[..., 0, :])


def _from_coefficients(smooth: Floats, coefficients: Floats) -> Floats:
    return np.asarray(np.matmul(smooth, coefficients[..., np.newaxis])[..., 0])


def _harmonics() -> Floats:
    angle = (np.arange(SECTORS) + 0.5) * 2 * np.pi / SECTORS
    waves = [wave(order * angle) for order in range(1, HARMONICS + 1) for wave in (np.cos, np.sin)]
    return np.stack([np.ones(SECTORS), *waves], axis=1)


def _median(seen: Floats) -> Floats:
    """Median of each row over what is not NaN; infinite where nothing is."""
    rows = np.isfinite(seen).any(axis=1)
    found = np.full(len(seen), np.inf)
    found[rows] = np.nanmedian(seen[rows], axis=1)
    return found
