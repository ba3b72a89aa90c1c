"""Tables of pixels in, tables of the same pixels in other bins out: cells of a cake, joined bins, an arc.

A bin of a cake is a cell: radial bin x ``azimuthal_bins`` + azimuthal bin. With one azimuthal bin cells are rings.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import GeometryError
from .geometry_pyfai import MAX_BINS, SECTORS, PixelTables

if TYPE_CHECKING:
    from .geometry import Geometry

_SECTOR_DEG = 360 // SECTORS
_AZIMUTHAL_BINS = [n for n in range(1, SECTORS + 1) if SECTORS % n == 0]


def cut_into_cells(tables: PixelTables, azimuthal_bins: int) -> PixelTables:
    """Every ring cut into equal parts of the circle: whole sectors, so that their number divides 72.

    Raises
    ------
    GeometryError
        The number does not divide 72, there would be more cells than a bin table can name, or pixels are split.
    """
    _require_whole_pixels(tables)
    rings = tables.radial.size
    if azimuthal_bins not in _AZIMUTHAL_BINS:
        possible = ", ".join(map(str, _AZIMUTHAL_BINS))
        raise GeometryError(
            f"{azimuthal_bins} azimuthal bins: they are cut at whole {_SECTOR_DEG} degrees, use {possible}"
        )
    if rings * azimuthal_bins > MAX_BINS:
        most = max(n for n in _AZIMUTHAL_BINS if rings * n <= MAX_BINS)
        raise GeometryError(
            f"{rings} radial x {azimuthal_bins} azimuthal bins: at most {MAX_BINS} cells are possible, such as "
            f"{rings} x {most} or {MAX_BINS // azimuthal_bins} x {azimuthal_bins}"
        )
    ring = tables.bin_table // np.uint16(tables.azimuthal_bins)
    cell = ring.astype(np.uint32) * azimuthal_bins + tables.sector // np.uint8(SECTORS // azimuthal_bins)
    table = np.where(ring < rings, cell, rings * azimuthal_bins).astype(np.uint16)
    return replace(
        tables,
        bin_table=table,
        azimuthal_bins=azimuthal_bins,
        pixel_bins=tables.pixel_bins and azimuthal_bins == 1,
    )


def join_radial_bins(tables: PixelTables, factor: int) -> PixelTables:
    """Each ``factor`` adjacent radial bins joined to one; edges that remain are the same floats.

    Raises
    ------
    GeometryError
        The number of radial bins is no multiple of ``factor``, or pixels are split.
    """
    _require_whole_pixels(tables)
    rings = tables.radial.size
    if not 1 <= factor <= rings or rings % factor:
        raise GeometryError(
            f"{rings} radial bins cannot be joined by {factor}: their number has to be a multiple of it, such as "
            f"bins={max(rings // max(factor, 1), 1) * factor}"
        )
    ring, part = np.divmod(tables.bin_table, np.uint16(tables.azimuthal_bins))
    return replace(
        tables,
        edges=tables.edges[::factor].copy(),
        radial=tables.radial.reshape(-1, factor).mean(axis=1),
        bin_table=ring // np.uint16(factor) * np.uint16(tables.azimuthal_bins) + part,
        pixel_bins=tables.pixel_bins and factor == 1,
    )


def outside_arc(sector: NDArray[np.uint8], first_deg: int, last_deg: int) -> NDArray[np.bool_]:
    """Pixels whose sector does not lie between two azimuths, which may go over 180 degrees (170 to 190).

    Raises
    ------
    GeometryError
        They are no multiples of 5 degrees, or not between 5 and 360 degrees apart.
    """
    width_deg = last_deg - first_deg
    if first_deg % _SECTOR_DEG or last_deg % _SECTOR_DEG or not 0 < width_deg <= 360:
        raise GeometryError(
            f"azimuth from {first_deg} to {last_deg} degrees: two ascending multiples of {_SECTOR_DEG} are needed, "
            "at most 360 apart"
        )
    turned = (sector - np.int16((first_deg + 180) // _SECTOR_DEG % SECTORS)) % SECTORS
    return turned >= width_deg // _SECTOR_DEG


def places(fine: "Geometry", coarse: "Geometry") -> NDArray[np.uint16]:
    """Bin of a coarser geometry that each bin of a finer one lies in, shape (fine bins,); ``coarse.bins`` = in none.

    It is found pixel by pixel: geometries made in any way are taken if only their bins fit.

    Raises
    ------
    GeometryError
        A bin lies in a coarser one only in part, a coarser one holds other pixels, normalizations differ, or pixels are
        split.
    """
    for geometry in (fine, coarse):
        _require_whole_pixels(geometry)
    if fine.shape != coarse.shape or fine.norm_quantum != coarse.norm_quantum:
        raise GeometryError("bins of different detectors or corrections cannot be joined")
    if fine.signal_quantum != coarse.signal_quantum or not np.array_equal(_dark(fine), _dark(coarse)):
        raise GeometryError("bins of pixels with different darks cannot be joined")
    if ((fine.norm_q != coarse.norm_q) & (coarse.bin_table < coarse.bins)).any():
        raise GeometryError("bins of pixels with different corrections cannot be joined")
    place = np.full(fine.bins + 1, coarse.bins, np.uint16)
    place[fine.bin_table] = coarse.bin_table  # each pixel speaks for its bin: the next lines find out if one disagrees
    place[fine.bins] = coarse.bins
    astray = np.count_nonzero(place[fine.bin_table] != coarse.bin_table)
    if astray:
        raise GeometryError(
            f"the coarser bins are not made of whole finer ones: {astray} pixels would be in the wrong bin. Both need "
            "the same masks, and edges in common"
        )
    return place[:-1]


def _require_whole_pixels(tables: "PixelTables | Geometry") -> None:
    """Squares of parts of a pixel do not add up to the square of the whole."""
    if tables.splitting is not None:
        raise GeometryError("bins of split pixels cannot be cut nor joined: take a geometry without pixel splitting")


def _dark(geometry: "Geometry") -> NDArray[np.int32] | int:
    return 0 if geometry.dark_q is None else geometry.dark_q
