"""Where rings lie: lattice spacings to places on the radial axis and back, and the name of a calibrant to its spacings.

pyFAI knows the calibrants. Importing it takes seconds, so it is imported when one is asked for, not before.
"""

import difflib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import loader
from .errors import GeometryError
from .geometry import Geometry
from .geometry_pyfai import READ_ERRORS

_MAX_FILE_BYTES = 1 << 20
_RADIANS = {"2th_deg": math.radians(1.0), "2th_rad": 1.0}
_PER_ANGSTROM = {"q_A^-1": 1.0, "q_nm^-1": 0.1}


@dataclass(frozen=True, eq=False)
class RadialAxis:
    """What the search for rings needs to know of a geometry; the attributes are explained in ``Geometry``."""

    radial: NDArray[np.float64]
    edges: NDArray[np.float64]
    unit: str
    wavelength_m: float | None
    azimuth_fraction: NDArray[np.float64]

    @classmethod
    def of(cls, geometry: Geometry) -> "RadialAxis":
        """The axis of a geometry."""
        return cls(geometry.radial, geometry.edges, geometry.unit, geometry.wavelength_m, geometry.azimuth_fraction)

    @property
    def bins(self) -> int:
        """Number of radial bins."""
        return self.radial.size

    def d_spacing_A(self, position: NDArray[np.float64]) -> NDArray[np.float64]:  # noqa: N802 - the unit's own spelling
        """Lattice spacing d = 2 pi / q that diffracts to each position; NaN where unit or wavelength do not tell."""
        if self.unit in _PER_ANGSTROM:
            q = position * _PER_ANGSTROM[self.unit]
        elif self.unit in _RADIANS and self.wavelength_m:
            q = 4 * np.pi * np.sin(position * _RADIANS[self.unit] / 2) / (self.wavelength_m * 1e10)
        else:
            q = np.full(position.shape, np.nan)
        return 2 * np.pi / np.where(q > 0, q, np.nan)

    def position(self, d_spacing_A: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where each lattice spacing diffracts to; NaN where it is shorter than half the wavelength.

        Raises
        ------
        GeometryError
            The unit or a missing wavelength do not allow it.
        """
        return self._from_q()(2 * np.pi / d_spacing_A)

    def _from_q(self) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        """From q in 1/A to the unit of the axis."""
        if self.unit in _PER_ANGSTROM:
            return lambda q: q / _PER_ANGSTROM[self.unit]
        if self.unit not in _RADIANS:
            raise GeometryError(
                f"rings cannot be placed by their d-spacings on an axis in {self.unit}: use 2th_deg or q_A^-1"
            )
        if not self.wavelength_m:
            raise GeometryError("rings cannot be placed by their d-spacings: the PONI file does not say the wavelength")
        sine_per_q, degree = self.wavelength_m * 1e10 / (4 * np.pi), _RADIANS[self.unit]

        def angle(q: NDArray[np.float64]) -> NDArray[np.float64]:
            sine = q * sine_per_q
            return 2 * np.arcsin(np.where(sine <= 1, sine, np.nan)) / degree

        return angle


def calibrant_spacings(calibrant: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Lattice spacings of a calibrant in Angstrom, largest first.

    Parameters
    ----------
    calibrant
        A name that pyFAI knows ("CeO2", "LaB6_SRM660c", ...), or the path of a file in its format (``.D``).

    Raises
    ------
    GeometryError
        The name is not known (the message lists similar ones), or the file cannot be read or holds no spacing.
    """
    loader.platforms()  # before pyFAI: the first to ask decides which OpenCL runtimes the process has
    from pyFAI.calibrant import CALIBRANT_FACTORY, Calibrant  # noqa: PLC0415 - takes seconds

    name = os.fspath(calibrant)
    if name in CALIBRANT_FACTORY:
        return _descending(CALIBRANT_FACTORY(name).dspacing, name)
    if not Path(name).is_file():
        raise GeometryError(f"{name!r} is neither a calibrant nor a file; {_similar(name, CALIBRANT_FACTORY.keys())}")
    if Path(name).stat().st_size > _MAX_FILE_BYTES:
        raise GeometryError(f"{name} is not a file of d-spacings: it is larger than {_MAX_FILE_BYTES} bytes")
    try:
        return _descending(Calibrant(name).dspacing, name)
    except READ_ERRORS as error:
        raise GeometryError(f"{name} is not a readable file of d-spacings: {error}") from error


def _descending(spacings: list[float], source: str) -> NDArray[np.float64]:
    values = np.unique(np.asarray(spacings, np.float64))[::-1]
    if not values.size or not (np.isfinite(values) & (values > 0)).all():
        raise GeometryError(f"{source}: a list of positive d-spacings in Angstrom is needed")
    return values


def _similar(name: str, known: list[str]) -> str:
    """What to say to somebody who misspelt a name."""
    by_lower = {entry.lower(): entry for entry in sorted(known)}
    near = difflib.get_close_matches(name.lower(), by_lower, n=4, cutoff=0.5)
    return f"similar: {', '.join(by_lower[entry] for entry in near)}" if near else f"known: {', '.join(sorted(known))}"
