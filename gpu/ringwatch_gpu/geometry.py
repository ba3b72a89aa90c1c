"""A PONI file, masks and factors in, a Geometry out: bin and integer normalization of each pixel, named by a digest."""

import math
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import geometry_cache, regrouping
from .correction import DARK_QUANTUM, SMALLEST_QUANTUM, Factor, dark_in_quanta, multiply_norm, product
from .errors import GeometryError
from .geometry_pyfai import (
    SECTORS,
    PixelTables,
    Recipe,
    build_tables,
    is_self_contained,
    load_integrator,
    table_digest,
)
from .poni import read_poni
from .splitting import Method, Splitting

_PLANCK_TIMES_LIGHT_EV_M = 6.62607015e-34 * 299792458 / 1.602176634e-19


@dataclass(frozen=True, eq=False)
class Geometry:
    """How the pixels of a detector fall into radial bins, and how they are normalized. Arrays are read-only.

    Where the rings are cut into cells (`cake`) every "bin" is a cell; ``edges`` and ``radial`` stay the radial ones.

    Attributes
    ----------
    shape
        (rows, columns) of the frames.
    unit
        Of ``edges`` and ``radial``: "2th_deg", "2th_rad", "q_nm^-1", "q_A^-1" or "r_mm".
    edges
        Edges of the radial bins, shape (radial bins + 1,). They do not depend on any mask. The same bins are had from
        pyFAI with ``radial_range=(edges[0], edges[-1])``, ``mask=geometry.mask`` and the same pixel splitting.
    radial
        Centres of the radial bins, shape (radial bins,).
    bin_table
        Bin of each pixel's centre, shape (pixels,) in C order; ``bins`` = not used (masked or outside the range).
    norm_q
        Normalization (solid angle x polarization x flat x absorption) in units of ``norm_quantum``, shape (pixels,);
        > 0 where used.
    norm_quantum
        2^-30, or a larger power of two if a normalization exceeds 2.
    azimuth_fraction
        Share of 72 sectors of the full circle in which the bin has a used pixel or a part of one, shape (bins,).
    pixel_bins
        Bins are about one pixel wide (half to twice) and cover the detector: classes of spottiness mean something.
    digest
        SHA-256 over edges, bin table, normalization, unit and the rules of the sums: only sums of equal digests add.
    poni
        Text of the PONI file.
    source
        Its path, or "<text>", for messages.
    wavelength_m
        None if the PONI does not say it.
    pixel_size_m
        (rows, columns).
    norm_error
        Largest relative error made by rounding a normalization to ``norm_quantum``; with a flat field or absorption,
        which multiply what was rounded before, an upper bound of it.
    sector
        Azimuthal sector of each pixel, 0 to 71, shape (pixels,).
    azimuthal_bins
        Into how many cells a ring is cut, 1 for whole rings.
    splitting
        How pixels are split among bins; None where each belongs to one.
    flat, absorption
        The factors that `corrected` brought into the normalization, shape (rows, columns); None where there is none.
    quantum
        Unit of the signals in counts: a power of two, 1 at most. None: they are the raw counts, unsigned integers.
    dark_q
        What `signed` takes off each pixel, in quanta, shape (pixels,); None where nothing is.
    """

    shape: tuple[int, int]
    unit: str
    edges: NDArray[np.float64]
    radial: NDArray[np.float64]
    bin_table: NDArray[np.uint16]
    norm_q: NDArray[np.uint32]
    norm_quantum: float
    azimuth_fraction: NDArray[np.float64]
    pixel_bins: bool
    digest: str
    poni: str
    source: str
    wavelength_m: float | None
    pixel_size_m: tuple[float, float]
    norm_error: float
    sector: NDArray[np.uint8]
    azimuthal_bins: int
    splitting: Splitting | None = None
    flat: Factor | None = None
    absorption: Factor | None = None
    quantum: float | None = None
    dark_q: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    @classmethod
    def from_poni(
        cls,
        poni: str | os.PathLike[str],
        shape: tuple[int, int] | None = None,
        *,
        unit: str = "2th_deg",
        bins: int | Literal["pixel"] = "pixel",
        radial_range: tuple[float, float] | None = None,
        solid_angle: bool = True,
        polarization: float | None = 0.99,
        splitting: Literal["no"] | Method = "no",
        mask: NDArray[np.bool_] | None = None,
        cache_dir: Path | None = None,
    ) -> "Geometry":
        """Geometry of a PONI; the first time in seconds, then from the cache.

        Parameters
        ----------
        poni
            Path of a PONI file or of pyFAI's JSON, or the text of one.
        shape
            (rows, columns) of the frames; by default the detector's.
        unit
            Of the radial axis.
        bins
            Number of radial bins, or "pixel": as many as make a bin about one pixel wide.
        radial_range
            First and last edge in ``unit``; by default the span of all pixel centres, masked or not.
        solid_angle
            Correct for the solid angle of the pixels.
        polarization
            Polarization factor in [-1, 1], None for no correction.
        splitting
            "no": each pixel belongs to one bin, and sums are exact. "bbox", "full": it is split among the bins that it
            reaches, as in pyFAI; sums are good to float64.
        mask
            True = ignore this pixel, shape (rows, columns); added to the detector's own.
        cache_dir
            Folder of the cache, by default that of the user (XDG).

        Raises
        ------
        GeometryMismatch
            The PONI's detector has another shape than the frames.
        GeometryError
            The PONI cannot be read or does not say enough, or the bins asked for make no sense.
        """
        text, source = read_poni(poni)
        recipe = Recipe(text, shape, unit, bins, radial_range, solid_angle, polarization, splitting)
        tables = _cached_tables(recipe, source, cache_dir or geometry_cache.default_folder())
        geometry = cls.from_tables(tables, text, source)
        return geometry if mask is None else geometry.masked(mask)

    @classmethod
    def from_tables(cls, tables: PixelTables, poni: str, source: str) -> "Geometry":
        """Geometry of tables made elsewhere; ``poni`` and ``source`` say where they come from."""
        return cls(
            **vars(tables),
            azimuth_fraction=_azimuth_fraction(tables),
            digest=table_digest(tables),
            poni=poni,
            source=source,
        )

    def masked(self, mask: NDArray[np.bool_]) -> "Geometry":
        """The same geometry with more pixels ignored.

        Parameters
        ----------
        mask
            True = ignore this pixel, shape (rows, columns).
        """
        if mask.shape != self.shape:
            raise GeometryError(f"the mask has shape {mask.shape}, the frames have {self.shape} (rows, columns)")
        bin_table = np.where(mask.ravel(), np.uint16(self.bins), self.bin_table)
        return self._with(replace(self._tables, bin_table=bin_table))

    def corrected(self, *, flat: NDArray[Any] | None = None, absorption: NDArray[Any] | None = None) -> "Geometry":
        """The same geometry with more factors in the normalization: counts are divided by each, as in pyFAI.

        Pixels whose factor is not a positive finite number are ignored. To be called after `masked`: the wild values of
        pixels that are not used would cost the others their precision.

        Parameters
        ----------
        flat
            Sensitivity of each pixel, shape (rows, columns).
        absorption
            Share of the photons that reaches each pixel, shape (rows, columns).

        Raises
        ------
        GeometryError
            A factor is of another shape, holds no real numbers, or leaves no pixel.
        """
        if flat is None and absorption is None:
            return self
        tables = self._tables
        for factor, name in ((flat, "flat field"), (absorption, "absorption")):
            if factor is not None:
                tables = multiply_norm(tables, factor, name)
        factors = product(self.flat, flat), product(self.absorption, absorption)
        return replace(self._with(tables), flat=factors[0], absorption=factors[1])

    def signed(self, quantum: float = DARK_QUANTUM, dark: NDArray[Any] | None = None) -> "Geometry":
        """The same geometry for signals that are no unsigned counts: rint(raw / quantum) - rint(dark / quantum).

        Sums hold whole multiples of ``quantum``; profiles are in counts. Pixels whose dark is no finite number, or
        beyond 2^30 quanta, are ignored.

        Parameters
        ----------
        quantum
            Unit of the signals in counts: a power of two from 2^-16 to 1.
        dark
            What each pixel counts without a beam, shape (rows, columns). It takes the place of an earlier one.

        Raises
        ------
        GeometryError
            The quantum is no such number; the dark is of another shape, holds no real numbers, or leaves no pixel.
        """
        if not (SMALLEST_QUANTUM <= quantum <= 1 and math.frexp(quantum)[0] == 0.5):
            raise GeometryError(f"a quantum of {quantum}: a power of two from 2^-16 to 1 is needed")
        dark_q, unusable = (None, None) if dark is None else dark_in_quanta(dark, quantum, self.shape)
        geometry = replace(self, quantum=quantum, dark_q=dark_q)
        return geometry.masked(np.zeros(self.shape, np.bool_) if unusable is None else unusable)

    def cake(self, azimuthal_bins: int) -> "Geometry":
        """The same rings, each cut into equal parts of the circle, the first of which begins at -180 degrees.

        Everything that takes a geometry takes a cake; what has a value for each bin is then reshaped to ``bin_shape``.

        Parameters
        ----------
        azimuthal_bins
            Cells of a ring: a divisor of 72. Radial times azimuthal bins are at most 65534.

        Raises
        ------
        GeometryError
            Too many cells, or they would not end at whole 5 degrees; the text says what fits.
        """
        return self._with(regrouping.cut_into_cells(self._tables, azimuthal_bins))

    def coarser(self, factor: int) -> "Geometry":
        """Each ``factor`` adjacent radial bins as one; the edges that remain are the same floats.

        Raises
        ------
        GeometryError
            The number of radial bins is no multiple of ``factor``.
        """
        return self._with(regrouping.join_radial_bins(self._tables, factor))

    def arc(self, first_deg: int, last_deg: int) -> "Geometry":
        """The same geometry with only the pixels between two azimuths, in degrees as pyFAI's chi (-180 to 180).

        Parameters
        ----------
        first_deg, last_deg
            Ascending multiples of 5; from 170 to 190 goes over 180.

        Raises
        ------
        GeometryError
            They are none.
        """
        return self.masked(regrouping.outside_arc(self.sector, first_deg, last_deg).reshape(self.shape))

    @property
    def bins(self) -> int:
        """Number of bins: of rings, or of the cells of a cake."""
        return self.radial.size * self.azimuthal_bins

    @property
    def bin_shape(self) -> tuple[int, int]:
        """(radial bins, azimuthal bins)."""
        return self.radial.size, self.azimuthal_bins

    @property
    def azimuth_deg(self) -> NDArray[np.float64]:
        """Centres of the azimuthal bins, pyFAI's chi from -180 to 180 degrees, shape (azimuthal bins,)."""
        return np.linspace(-180, 180, 2 * self.azimuthal_bins + 1, dtype=np.float64)[1::2]

    @property
    def is_exact(self) -> bool:
        """Whether sums are free of rounding: they are where no pixel is split."""
        return self.splitting is None

    @property
    def pixels(self) -> int:
        """Number of pixels of a frame, used or not."""
        return self.bin_table.size

    @property
    def mask(self) -> NDArray[np.bool_]:
        """True = not used (masked or outside the range), shape (rows, columns)."""
        unused: NDArray[np.bool_] = self.bin_table == self.bins
        return unused.reshape(self.shape)

    @property
    def energy_eV(self) -> float | None:  # noqa: N802 - the unit's own spelling
        """Photon energy, None if the PONI has no wavelength."""
        return _PLANCK_TIMES_LIGHT_EV_M / self.wavelength_m if self.wavelength_m else None

    @property
    def dark(self) -> NDArray[np.float64] | None:
        """What is taken off each pixel, in counts, shape (rows, columns); None where nothing is."""
        if self.dark_q is None or self.quantum is None:
            return None
        return (self.dark_q.astype(np.float64) * self.quantum).reshape(self.shape)

    @property
    def signal_quantum(self) -> float:
        """What one unit of a summed signal is, in counts."""
        return self.quantum or 1.0

    @property
    def _tables(self) -> PixelTables:
        return PixelTables(**{field.name: getattr(self, field.name) for field in fields(PixelTables)})

    def _with(self, tables: PixelTables) -> "Geometry":
        """The same origin and factors with other tables."""
        digest = table_digest(tables, self.signal_quantum, self.dark_q)
        return replace(self, **vars(tables), azimuth_fraction=_azimuth_fraction(tables), digest=digest)


def _cached_tables(recipe: Recipe, source: str, folder: Path) -> PixelTables:
    tables = geometry_cache.load(folder, recipe.key)
    if tables is None:
        integrator = load_integrator(recipe, source)
        tables = build_tables(recipe, integrator, source)
        if is_self_contained(integrator):
            geometry_cache.store(folder, recipe.key, tables)
    return tables


def _azimuth_fraction(tables: PixelTables) -> NDArray[np.float64]:
    seen = np.zeros((tables.bins + 1, SECTORS), np.bool_)
    if tables.splitting is None:
        seen.ravel()[tables.bin_table * np.int32(SECTORS) + tables.sector] = True
    else:
        entries = tables.splitting.entries(np.flatnonzero(tables.bin_table < tables.bins))
        seen.ravel()[entries.bin * SECTORS + tables.sector[entries.pixel]] = True
    fraction: NDArray[np.float64] = seen[:-1].mean(axis=1)
    return fraction
