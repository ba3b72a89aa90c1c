"""From the configuration and a series' header to its geometry: read again when the files changed, masks combined."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ringwatch.config import GeometryConfig
from ringwatch_gpu.geometry import Geometry

Mask = NDArray[np.bool_]
ReadMask = Callable[[str, tuple[int, int]], Mask]
"""Reads a mask (True = ignore) of the given shape (rows, columns) from a file or FILE.h5::/PATH."""

_Stamp = tuple[tuple[int, int], ...]


class GeometrySource:
    """Geometries of successive series.

    Parameters
    ----------
    config
        Where the PONI and mask files are, and how to bin.
    read_mask
        How a mask file is read.
    """

    def __init__(self, config: GeometryConfig, read_mask: ReadMask) -> None:
        self._config, self._read_mask = config, read_mask
        self._stamp: _Stamp = ()
        self._base: Geometry | None = None
        self._header_mask: Mask | None = None
        self._current: Geometry | None = None

    def base(self, shape: tuple[int, int] | None = None) -> Geometry:
        """Geometry of the files alone, built anew when they changed.

        Parameters
        ----------
        shape
            (rows, columns) of the frames, for a PONI that does not say it.

        Raises
        ------
        GeometryError
            A file cannot be read, does not say enough, or is for a detector of another shape.
        """
        stamp = self._stamp_of_files()
        if self._base is None or stamp != self._stamp or shape not in (None, self._base.shape):
            self._base, self._stamp, self._current = self._build(shape), stamp, None
        return self._base

    def for_series(self, shape: tuple[int, int] | None, header_mask: Mask | None) -> Geometry:
        """Geometry of a series; the very same object where nothing changed since the last one.

        Parameters
        ----------
        shape
            (rows, columns) of its frames, if known.
        header_mask
            The detector's mask from the header.

        Raises
        ------
        GeometryError
            A file cannot be read, does not say enough, or frames and files are of different shapes.
        """
        base = self.base(shape)
        if self._current is None or not _same(header_mask, self._header_mask):
            self._current = base if header_mask is None else base.masked(header_mask)
            self._header_mask = header_mask
        return self._current

    def _build(self, shape: tuple[int, int] | None) -> Geometry:
        config = self._config
        geometry = Geometry.from_poni(
            config.poni,
            shape,
            unit=config.unit,
            bins=config.bins,
            radial_range=config.radial_range,
            solid_angle=config.solid_angle,
            polarization=config.polarization_factor,
        )
        if config.mask is None:
            return geometry
        return geometry.masked(self._read_mask(str(config.mask), geometry.shape))

    def _stamp_of_files(self) -> _Stamp:
        mask = self._config.mask
        paths = [Path(self._config.poni), *([] if mask is None else [Path(str(mask).partition("::")[0])])]
        return tuple((stat.st_mtime_ns, stat.st_size) for stat in (path.stat() for path in paths if path.exists()))


def _same(a: Mask | None, b: Mask | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))
