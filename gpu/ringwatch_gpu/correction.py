"""Pixel tables and an image in, corrected tables out: a flat field or an absorption as a factor, a dark in quanta."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import GeometryError
from .geometry_pyfai import PixelTables
from .image_files import check_image
from .norms import quantised, rounding_error

Factor = NDArray[np.floating[Any]]
"""A factor of the normalization, shape (rows, columns)."""

_BEYOND_MEASURE = 1e30
"""No sensitivity or transmission: products of such numbers would overflow."""


def multiply_norm(tables: PixelTables, factor: NDArray[Any], name: str) -> PixelTables:
    """The normalization of each pixel times ``factor``; pixels whose factor is no positive finite number are not used.

    Only used pixels count for the unit of the normalization. The normalization was rounded to its unit once already:
    the largest error after the second rounding is bounded by both.

    Parameters
    ----------
    factor
        Real numbers, shape (rows, columns).
    name
        What it is, for messages: "flat field".

    Raises
    ------
    GeometryError
        The factor is of another shape, holds no real numbers, leaves no pixel, or has values beyond all measure.
    """
    check_image(factor.shape, factor.dtype, tables.shape, name)
    values = factor.ravel().astype(np.float64)
    used = (tables.bin_table < tables.bins) & (values > 0) & (values < _BEYOND_MEASURE)
    if not used.any():
        raise GeometryError(f"the {name} leaves no pixel: none that counts has a positive finite value")
    norm = np.zeros(used.size)
    np.multiply(tables.norm_q * tables.norm_quantum, values, out=norm, where=used)
    norm_q, quantum = quantised(norm)
    kept = norm_q > 0
    if 2 * np.count_nonzero(kept) < np.count_nonzero(used):
        raise GeometryError(f"the {name} has a value of {values[used].max():g}: most others round to nothing")
    error = rounding_error(norm[kept], norm_q[kept], quantum)
    return replace(
        tables,
        bin_table=np.where(kept, tables.bin_table, np.uint16(tables.bins)),
        norm_q=norm_q,
        norm_quantum=quantum,
        norm_error=(1 + tables.norm_error) * (1 + error) - 1,
    )


DARK_QUANTUM = 2.0**-8
"""Unit of signals, in counts, where they are no whole counts."""

SMALLEST_QUANTUM = 2.0**-16

REACH = 1 << 30
"""Raw values and darks of more quanta are out of range: their difference fits into 32 bits."""


def dark_in_quanta(
    dark: NDArray[Any], quantum: float, shape: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """A dark as whole multiples of the quantum, shape (pixels,), and True where it is of no use, shape (rows, columns).

    Parameters
    ----------
    dark
        What each pixel counts without a beam, shape (rows, columns).

    Raises
    ------
    GeometryError
        The dark is of another shape, holds no real numbers, or leaves no pixel.
    """
    check_image(dark.shape, dark.dtype, shape, "dark")
    quanta = np.rint(dark.astype(np.float64) / quantum)
    unusable = ~(np.abs(quanta) < REACH)
    if unusable.all():
        raise GeometryError("the dark leaves no pixel: none has a finite value that is small enough")
    return np.where(unusable, 0, quanta).astype(np.int32).ravel(), unusable


def product(earlier: Factor | None, factor: NDArray[Any] | None) -> Factor | None:
    """A factor of its own, in floats that hold it, times what was there before."""
    if factor is None:
        return earlier
    copy: Factor = factor.astype(np.result_type(factor, np.float32))
    return copy if earlier is None else earlier * copy
