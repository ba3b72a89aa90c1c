"""A PONI in, the tables of its detector out: bin, azimuthal sector and normalization of each pixel.

The one module that uses pyFAI. Importing pyFAI takes seconds, so it is imported when tables are built, not before.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import loader
from .errors import GeometryError, GeometryMismatch, ShapeUnknown
from .norms import quantised, rounding_error
from .poni import check_complete, detector_shape, poni_entries
from .splitting import METHODS, Method, Splitting, nearest_bins, split_pixels

UNITS = ("2th_deg", "2th_rad", "q_nm^-1", "q_A^-1", "r_mm")
SECTORS = 72
"""Azimuthal sectors of the full circle, 5 degrees each."""

MAX_BINS = 65534
"""The bin table is uint16 and needs one value for "not used"."""

_MAX_PIXELS = 1 << 27
_FORMAT = 1
"""Of the tables: to be raised whenever the same recipe gives other tables than before."""

READ_ERRORS = (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError)
"""What pyFAI and fabio raise on a file that they cannot read, depending on where they stumble."""


@dataclass(frozen=True)
class Recipe:
    """Everything the tables depend on, but masks.

    Attributes
    ----------
    poni
        Text of the PONI file, or pyFAI's JSON.
    shape
        (rows, columns) of the frames; None takes the detector's.
    unit
        Of the radial axis, one of `UNITS`.
    bins
        Number of radial bins, or "pixel": bins about one pixel wide.
    radial_range
        First and last edge in ``unit``; None takes the span of all pixel centres.
    solid_angle
        Correct for the solid angle of the pixels.
    polarization
        Polarization factor in [-1, 1], None for no correction.
    splitting
        How pixels are split among bins; "no": each belongs to one.
    """

    poni: str
    shape: tuple[int, int] | None
    unit: str
    bins: int | Literal["pixel"]
    radial_range: tuple[float, float] | None
    solid_angle: bool
    polarization: float | None
    splitting: Literal["no"] | Method = "no"

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise GeometryError(f"unknown unit {self.unit!r} of the radial axis; known: {', '.join(UNITS)}")
        if self.bins != "pixel" and not 1 <= self.bins <= MAX_BINS:
            raise GeometryError(f"{self.bins} radial bins: from 1 to {MAX_BINS} are possible, or 'pixel'")
        if self.polarization is not None and not -1 <= self.polarization <= 1:
            raise GeometryError(f"polarization factor {self.polarization}: it lies between -1 and 1")
        if self.radial_range is not None and not -math.inf < self.radial_range[0] < self.radial_range[1] < math.inf:
            raise GeometryError(f"radial range {self.radial_range}: two ascending finite numbers are needed")
        if self.splitting not in ("no", *METHODS):
            raise GeometryError(f"pixel splitting {self.splitting!r}: known are no, {', '.join(METHODS)}")

    @property
    def key(self) -> str:
        """SHA-256 of the recipe, the version of pyFAI and the format of the tables."""
        ingredients = [asdict(self), version("pyFAI"), _FORMAT]
        return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class PixelTables:
    """What is known of each pixel before the user's masks. Attributes are explained in ``Geometry``."""

    shape: tuple[int, int]
    unit: str
    edges: NDArray[np.float64]
    radial: NDArray[np.float64]
    bin_table: NDArray[np.uint16]
    norm_q: NDArray[np.uint32]
    norm_quantum: float
    norm_error: float
    sector: NDArray[np.uint8]
    pixel_bins: bool
    wavelength_m: float | None
    pixel_size_m: tuple[float, float]
    azimuthal_bins: int = 1
    splitting: Splitting | None = None

    @property
    def bins(self) -> int:
        """Number of bins: of rings, or of the cells of a cake."""
        return self.radial.size * self.azimuthal_bins


def load_integrator(recipe: Recipe, source: str) -> Any:
    """The pyFAI integrator of a PONI.

    Raises
    ------
    GeometryError
        The text is no PONI, or says too little: distance, point of normal incidence and pixel size are needed.
    """
    loader.platforms()  # before pyFAI: the first to ask decides which OpenCL runtimes the process has
    import pyFAI  # noqa: PLC0415 - takes seconds
    from pyFAI.io.ponifile import PoniFile  # noqa: PLC0415 - likewise

    try:
        poni = PoniFile(poni_entries(recipe.poni))
        check_complete(poni, recipe.unit, source)
        return pyFAI.load(poni)
    except GeometryError:
        raise
    except READ_ERRORS as error:
        raise GeometryError(f"{source} is not a readable PONI file: {type(error).__name__}: {error}") from error


def is_self_contained(integrator: Any) -> bool:
    """Whether the PONI says everything: some detectors are described by a second file, which may change."""
    detector = integrator.detector
    return not (getattr(detector, "filename", None) or detector.splinefile)


def build_tables(recipe: Recipe, integrator: Any, source: str) -> PixelTables:
    """Tables of a detector; its own mask is applied. Takes seconds at 4 million pixels.

    Bins, and shares of split pixels in them, are those of pyFAI for ``radial_range=(edges[0], edges[-1])``. pyFAI
    widens that range at its upper end by 2^-23 to take in the largest value: the inner edges are the widened ones.

    Raises
    ------
    GeometryMismatch
        The frames have another shape than the detector.
    GeometryError
        No pixel lies in the range, or the detector's shape is not known.
    """
    shape = _frame_shape(recipe.shape, integrator.detector, source)
    bins = _radial_bins(integrator, shape, recipe)
    z, y, x = np.moveaxis(integrator.position_array(shape), -1, 0)
    norm = _normalization(integrator, (z, y, x), recipe)
    norm_q, quantum = quantised(norm)
    bins.table[(norm_q == 0) | _detector_mask(integrator.detector, shape)] = bins.number
    used = bins.table < bins.number
    if not used.any():
        raise GeometryError(f"{source}: no pixel lies between {bins.edges[0]:g} and {bins.edges[-1]:g} {recipe.unit}")
    return PixelTables(
        shape=shape,
        unit=recipe.unit,
        edges=bins.edges,
        radial=bins.radial,
        bin_table=bins.table.ravel(),
        norm_q=norm_q.ravel(),
        norm_quantum=quantum,
        norm_error=rounding_error(norm[used], norm_q[used], quantum),
        sector=_sectors(y, x).ravel(),
        pixel_bins=bins.pixel_wide,
        wavelength_m=integrator.wavelength or None,
        pixel_size_m=(float(integrator.detector.pixel1), float(integrator.detector.pixel2)),
        splitting=bins.splitting,
    )


def table_digest(tables: PixelTables, quantum: float = 1.0, dark_q: NDArray[np.int32] | None = None) -> str:
    """SHA-256 of all that must be equal before two sums may be added, as hexadecimal digits.

    Parameters
    ----------
    quantum
        Unit of the signals, in counts.
    dark_q
        What is taken off each pixel, in quanta, shape (pixels,).
    """
    words = {"shape": tables.shape, "unit": tables.unit, "norm_quantum": tables.norm_quantum}
    words |= {"azimuthal_bins": tables.azimuthal_bins} if tables.azimuthal_bins > 1 else {}
    splitting = "no" if tables.splitting is None else tables.splitting.digest
    rules = {"splitting": splitting, "signal_quantum": 1 if quantum == 1 else quantum, "monitor_reference": None}
    digest = hashlib.sha256(json.dumps(words | rules, sort_keys=True).encode())
    for array, dtype in ((tables.edges, "<f8"), (tables.norm_q, "<u4"), (tables.bin_table, "<u2")):
        digest.update(np.ascontiguousarray(array, dtype).data)
    if dark_q is not None:
        digest.update(np.ascontiguousarray(dark_q, "<i4").data)
    return digest.hexdigest()


def _frame_shape(wanted: tuple[int, int] | None, detector: Any, source: str) -> tuple[int, int]:
    shape = detector_shape(detector) or wanted
    if shape is None:
        raise ShapeUnknown(f"{source} does not say the shape of the detector: the shape of the frames is needed")
    if wanted is not None and wanted != shape:
        raise GeometryMismatch(wanted, shape, detector.name, source)
    if min(shape) < 2 or shape[0] * shape[1] > _MAX_PIXELS:
        raise GeometryError(f"{source}: {shape[0]} x {shape[1]} pixels: an area detector of sensible size is needed")
    return shape


# ------------------------------------------------------------------------------------------------------ the tables


class _Bins(NamedTuple):
    number: int
    edges: NDArray[np.float64]
    radial: NDArray[np.float64]
    table: NDArray[np.uint16]
    pixel_wide: bool
    splitting: Splitting | None


def _radial_bins(integrator: Any, shape: tuple[int, int], recipe: Recipe) -> _Bins:
    """Edges, centres and the bin of each pixel, as in pyFAI's sparse matrix."""
    axis = integrator.center_array(shape, unit=recipe.unit)
    span = float(np.nanmin(axis)), float(np.nanmax(axis))
    low, high = recipe.radial_range or span
    natural_bins = _pixel_wide_bins(axis, high - low)
    bins = natural_bins if recipe.bins == "pixel" else recipe.bins
    edges, radial, table = _sparse_bins(integrator, shape, bins, (low, high), recipe.unit)
    # pyFAI rounds bin numbers towards zero: its first bin also holds the pixels up to one bin below the range.
    table[axis < low] = bins
    splitting = _splitting(integrator, shape, bins, (low, high), recipe)
    if splitting is not None:
        table = nearest_bins(splitting, table.ravel(), bins).reshape(shape)
    return _Bins(bins, edges, radial, table, (low, high) == span and 0.5 <= bins / natural_bins <= 2, splitting)


def _pixel_wide_bins(axis: NDArray[np.float64], width: float) -> int:
    """How many bins in ``width`` are a pixel wide each: the median step from pixel to pixel where the axis rises."""
    step = float(np.nanmedian(np.hypot(*np.gradient(axis))))
    return min(max(1, round(width / step)), MAX_BINS)


def _sparse_bins(
    integrator: Any, shape: tuple[int, int], bins: int, radial_range: tuple[float, float], unit: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint16]]:
    from pyFAI.units import to_unit  # noqa: PLC0415 - takes seconds

    matrix = integrator.setup_sparse_integrator(
        shape, bins, mask=None, pos0_range=radial_range, unit=unit, split="no", algo="CSR"
    )
    _, pixels, bin_start = matrix.lut
    table = np.full(shape, bins, np.uint16)
    table.ravel()[pixels] = np.repeat(np.arange(bins, dtype=np.uint16), np.diff(bin_start))
    scale = to_unit(unit).scale
    edges = np.linspace(matrix.pos0_min, matrix.pos0_max, bins + 1) * scale
    edges[0], edges[-1] = radial_range
    return edges, matrix.bin_centers * scale, table


def _splitting(
    integrator: Any, shape: tuple[int, int], bins: int, radial_range: tuple[float, float], recipe: Recipe
) -> Splitting | None:
    if recipe.splitting == "no":
        return None
    matrix = integrator.setup_sparse_integrator(
        shape, bins, mask=None, pos0_range=radial_range, unit=recipe.unit, split=recipe.splitting, algo="CSR"
    )
    return split_pixels(matrix, recipe.splitting, shape[0] * shape[1])


def _normalization(
    integrator: Any, position: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], recipe: Recipe
) -> NDArray[np.float64]:
    """Solid angle x polarization of each pixel; 0 where it is not a positive number.

    In float64 from the positions: pyFAI's own arrays go through float32. The polarization is the usual
    [1 + cos^2(2th) - P cos(2 chi) sin^2(2th)] / 2, written with the coordinates of the pixel.
    """
    z, y, x = position
    norm = np.ones(z.shape)
    if recipe.solid_angle:
        norm *= np.fromfunction(integrator.diffSolidAngle, z.shape, dtype=np.float64)
    if recipe.polarization is not None:
        norm *= 0.5 * (1 + (z * z - recipe.polarization * (x * x - y * y)) / (x * x + y * y + z * z))
    return np.where(np.isfinite(norm) & (norm > 0), norm, 0.0)


def _detector_mask(detector: Any, shape: tuple[int, int]) -> NDArray[np.bool_]:
    mask = detector.mask
    return np.zeros(shape, np.bool_) if mask is None else np.asarray(mask) != 0


def _sectors(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.uint8]:
    turns = np.arctan2(y, x) / (2 * np.pi) + 0.5
    return np.minimum(turns * SECTORS, SECTORS - 1).astype(np.uint8)
