"""From configuration and header to the geometry of a series: files read again when they changed, masks combined."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from ringwatch.config import GeometryConfig
from ringwatch_gpu.correction import DARK_QUANTUM
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.norms import LARGEST_NORM_ERROR

Mask = NDArray[np.bool_]
Flat = NDArray[np.float32]
ReadImage = Callable[[str, tuple[int, int], str], NDArray[Any]]
"""Reads real numbers of the given shape (rows, columns) from a file or FILE.h5::/PATH; the last is their name."""

_Stamp = tuple[tuple[int, int], ...]


class GeometrySource:
    """Geometries of successive series.

    Parameters
    ----------
    config
        Where PONI, mask, dark, flat field and absorption are, and how to bin.
    read_image
        How an image of these is read.
    """

    def __init__(self, config: GeometryConfig, read_image: ReadImage) -> None:
        self._config, self._read_image = config, read_image
        self._stamp: _Stamp = ()
        self._base: Geometry | None = None
        self._header: tuple[Mask | None, Flat | None, bool] = None, None, False
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

    def for_series(
        self,
        shape: tuple[int, int] | None,
        header_mask: Mask | None,
        header_flat: Flat | None = None,
        *,
        is_float: bool = False,
    ) -> Geometry:
        """Geometry of a series; the very same object where nothing changed since the last one.

        Parameters
        ----------
        shape
            (rows, columns) of its frames, if known.
        header_mask
            The detector's mask from the header.
        header_flat
            The header's flat field where the detector did not apply it; one that is configured wins.
        is_float
            Pixels are floats, which have to be rounded.

        Raises
        ------
        GeometryError
            A file cannot be read, does not say enough, or frames and files are of different shapes.
        """
        base, flat = self.base(shape), self._chosen(header_flat)
        mask_before, flat_before, was_float = self._header
        same_factors = _same(header_mask, mask_before) and _same(flat, flat_before)
        if self._current is None or not same_factors or is_float != was_float:
            rounded = base.signed() if is_float and base.quantum is None else base
            self._current = _with_header(rounded, header_mask, flat)
            self._header = header_mask, flat, is_float
        if self._current.norm_error > LARGEST_NORM_ERROR:
            structlog.get_logger().warning("the normalization is rounded coarsely: its factors are too far from 1")
        return self._current

    def _chosen(self, header_flat: Flat | None) -> Flat | None:
        if header_flat is None:
            return None
        is_used = self._config.flat is None
        reason = "the detector did not apply it" if is_used else "geometry.flat takes its place"
        structlog.get_logger().info("flat field in the header", used=is_used, reason=reason)
        return header_flat if is_used else None

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
            splitting=config.splitting,
        )
        mask, flat, absorption, dark = (
            None if source is None else self._read_image(source, geometry.shape, name)
            for name, source in self._images.items()
        )
        geometry = geometry if mask is None else geometry.masked(mask != 0)
        if dark is not None or config.chosen_quantum is not None:
            geometry = geometry.signed(config.chosen_quantum or DARK_QUANTUM, dark)
        return geometry.corrected(flat=flat, absorption=absorption)

    @property
    def _images(self) -> dict[str, str | None]:
        config = self._config
        return {"mask": config.mask, "flat field": config.flat, "absorption": config.absorption, "dark": config.dark}

    def _stamp_of_files(self) -> _Stamp:
        images = (Path(source.partition("::")[0]) for source in self._images.values() if source)
        paths = [Path(self._config.poni), *images]
        return tuple((stat.st_mtime_ns, stat.st_size) for stat in (path.stat() for path in paths if path.exists()))


def _with_header(base: Geometry, mask: Mask | None, flat: Flat | None) -> Geometry:
    """Mask first: the factors of pixels that are not used need not be sensible."""
    geometry = base if mask is None else base.masked(mask)
    if flat is None:
        return geometry
    with np.errstate(divide="ignore"):  # 0 becomes infinite, and such a pixel is ignored
        return geometry.corrected(flat=1 / flat.astype(np.float64))  # detectors multiply by theirs


def _same(a: NDArray[Any] | None, b: NDArray[Any] | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b, equal_nan=True))
