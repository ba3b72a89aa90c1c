"""Tables of pixels and a factor in, tables with the factor in their normalization out: a flat field, an absorption."""

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


def product(earlier: Factor | None, factor: NDArray[Any] | None) -> Factor | None:
    """A factor of its own, in floats that hold it, times what was there before."""
    if factor is None:
        return earlier
    copy: Factor = factor.astype(np.result_type(factor, np.float32))
    return copy if earlier is None else earlier * copy
