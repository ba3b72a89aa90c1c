"""pyFAI's matrix of split pixels in, pixel by pixel out: the adjacent bins that each reaches, and its share in them."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import GeometryError

if TYPE_CHECKING:
    from .geometry import Geometry

Method = Literal["bbox", "full"]

METHODS: tuple[Method, ...] = ("bbox", "full")
QUANTUM_BITS = 24
"""Shares are counted in 2^-24, so that what is lost can be taken away exactly."""

_MAX_ENTRIES = 1 << 28
_SMALLEST_SHARE = 2.0**-25


class Entries(NamedTuple):
    """Pixel, bin and share of the pixel in the bin: one entry for each bin that a pixel reaches."""

    pixel: NDArray[np.intp]
    bin: NDArray[np.intp]
    share: NDArray[np.float32]

    def where(self, condition: NDArray[np.bool_]) -> "Entries":
        """Some of them."""
        return Entries(self.pixel[condition], self.bin[condition], self.share[condition])


@dataclass(frozen=True, eq=False)
class Splitting:
    """How pixels are split among bins, whatever the mask. Pixel p reaches the bins from ``first_bin[p]`` on.

    Attributes
    ----------
    method
        "bbox": as if the pixel were a box on the radial axis; "full": by the area of the pixel itself.
    first_bin
        Shape (pixels,).
    start
        Where the shares of each pixel begin, and the end of the last, shape (pixels + 1,).
    share
        Of each pixel in one bin after another, shape (entries,): 0 to 1.
    """

    method: Method
    first_bin: NDArray[np.uint16]
    start: NDArray[np.uint32]
    share: NDArray[np.float32]

    def __post_init__(self) -> None:
        for array in (self.first_bin, self.start, self.share):
            array.setflags(write=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all of it, as hexadecimal digits."""
        digest = hashlib.sha256(self.method.encode())
        for array in (self.first_bin, self.start, self.share):
            digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
        return digest.hexdigest()

    @property
    def length(self) -> NDArray[np.uint32]:
        """How many bins each pixel reaches, shape (pixels,)."""
        return np.diff(self.start)

    def entries(self, pixels: NDArray[np.integer[Any]]) -> Entries:
        """The entries of some pixels, one pixel after another."""
        length = self.length[pixels].astype(np.intp)
        pixel = np.repeat(pixels.astype(np.intp), length)
        offset = np.arange(pixel.size) - np.repeat(np.cumsum(length) - length, length)
        return Entries(pixel, self.first_bin[pixel] + offset, self.share[self.start[pixel] + offset])


def entry_norms(entries: Entries, norm_q: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Normalization of the entries in quanta: shares of the normalizations of their pixels."""
    return np.rint(entries.share.astype(np.float64) * norm_q[entries.pixel]).astype(np.uint32)


def parts(
    geometry: "Geometry", used: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64], NDArray[np.uint64]]:
    """Pixel, bin, share and norm of used pixels, or of their parts where they are split: for comparison."""
    pixels = np.flatnonzero(used)
    if geometry.splitting is None:
        norm = geometry.norm_q[pixels].astype(np.uint64)
        return pixels, geometry.bin_table[pixels].astype(np.intp), np.ones(pixels.size), norm
    entries = geometry.splitting.entries(pixels)
    norm = entry_norms(entries, geometry.norm_q).astype(np.uint64)
    return entries.pixel, entries.bin, entries.share.astype(np.float64), norm


def split_pixels(matrix: Any, method: Method, pixels: int) -> Splitting:
    """The splitting that a pyFAI sparse integrator made with ``mask=None`` holds.

    Shares that are not positive are left out, as pyFAI leaves them out of its sums; so are those below 2^-25.

    Raises
    ------
    GeometryError
        Pixels reach too many bins.
    """
    from scipy.sparse import csr_array  # noqa: PLC0415 - only where pixels are split

    share, pixel, bin_start = (np.asarray(part) for part in matrix.lut)
    if share.size > _MAX_ENTRIES:
        raise GeometryError(f"{bin_start.size - 1} bins split the pixels into {share.size} parts: use fewer bins")
    kept = np.where(share > _SMALLEST_SHARE, np.minimum(share, 1), 0).astype(np.float32)
    by_bin = csr_array((kept, pixel, bin_start), shape=(bin_start.size - 1, pixels))
    by_bin.eliminate_zeros()
    by_pixel = by_bin.tocsc()
    reached = np.diff(by_pixel.indptr)
    some = reached > 0
    first, last = np.zeros(pixels, np.int64), np.full(pixels, -1)
    first[some] = by_pixel.indices[by_pixel.indptr[:-1][some]]
    last[some] = by_pixel.indices[by_pixel.indptr[1:][some] - 1]
    start = np.concatenate([[0], np.cumsum(last - first + 1)])
    shares = np.zeros(start[-1], np.float32)  # those within the reach of a pixel that were left out stay 0
    shares[by_pixel.indices + np.repeat(start[:-1] - first, reached)] = by_pixel.data
    return Splitting(method, first.astype(np.uint16), start.astype(np.uint32), shares)


def nearest_bins(splitting: Splitting, bin_table: NDArray[np.uint16], bins: int) -> NDArray[np.uint16]:
    """The bin of each pixel's centre, shape (pixels,); of those whose centre is beyond the range, one that they reach.

    ``bins`` = not used: the pixel reaches no bin.
    """
    first, length = splitting.first_bin, splitting.length
    is_reached = (bin_table >= first) & (bin_table - first < length)
    return np.where(length > 0, np.where(is_reached, bin_table, first), np.uint16(bins))
