"""Split pixels in, tiles of consecutive pixels out: the parts of the pixels of a tile, in the order of their bins."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .splitting import Splitting, entry_norms

TILE = 8192
"""Pixels of a tile: signals of eight frames stay in a cache, and most bins of a tile have parts of many pixels."""


class Tiles(NamedTuple):
    """The parts of some pixels, tile by tile; a segment is those of a tile that lie in one bin.

    Attributes
    ----------
    first_segment
        Of each tile, and the end of the last, shape (tiles + 1,).
    segment_bin
        Shape (segments,).
    segment_start
        First entry of each segment, and the end of the last, shape (segments + 1,).
    place
        Pixel of each entry, counted from the first of its tile, shape (entries,).
    share, norm
        Of each entry, the norm in quanta.
    """

    first_segment: NDArray[np.uint32]
    segment_bin: NDArray[np.uint16]
    segment_start: NDArray[np.uint32]
    place: NDArray[np.uint16]
    share: NDArray[np.float32]
    norm: NDArray[np.uint32]

    @classmethod
    def of(cls, splitting: Splitting, norm_q: NDArray[np.uint32], pixels: NDArray[np.bool_]) -> "Tiles":
        """Those of ``pixels``, shape (pixels,). Made in about a second for 10^7 entries."""
        entries = splitting.entries(np.flatnonzero(pixels))
        tile_start = np.searchsorted(entries.pixel, np.arange(0, norm_q.size + TILE, TILE))
        order = _by_bin(entries.bin.astype(np.uint16), tile_start)
        bin_ = entries.bin[order].astype(np.uint16)
        begins = np.ones(bin_.size + 1, np.bool_)
        begins[1:-1] = bin_[1:] != bin_[:-1]
        begins[tile_start] = True
        start = np.flatnonzero(begins).astype(np.uint32)
        first_segment = np.searchsorted(start, tile_start).astype(np.uint32)
        place, norm = (entries.pixel % TILE).astype(np.uint16), entry_norms(entries, norm_q)
        return cls(first_segment, bin_[start[:-1]], start, place[order], entries.share[order], norm[order])


def _by_bin(bin_: NDArray[np.uint16], tile_start: NDArray[np.intp]) -> NDArray[np.intp]:
    """The order of the entries within each tile, pixels of a bin one after another."""
    order = np.empty(bin_.size, np.intp)
    for first, last in zip(tile_start[:-1].tolist(), tile_start[1:].tolist(), strict=True):
        order[first:last] = first + np.argsort(bin_[first:last], kind="stable")
    return order
