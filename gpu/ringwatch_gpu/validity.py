"""Which pixel values count: a largest valid value and up to four dummies, compared on the integers themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_DUMMIES = 4
_LARGEST = (1 << 32) - 2  # no detector counts to 2^32 - 1: one value is never valid
SUPPORTED = tuple(np.dtype(t) for t in ("u1", "u2", "u4", "i1", "i2", "i4"))


@dataclass(frozen=True)
class Validity:
    """A pixel is valid if its value, read as an unsigned integer, is <= ``limit`` and none of ``dummies``.

    Negative values of a signed type are the upper half of the unsigned ones: one comparison covers both.
    """

    limit: int
    dummies: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, dtype: np.dtype[np.generic], dummies: Sequence[int] | None = None, saturation: int | None = None
    ) -> "Validity":
        """The rule for a pixel type.

        Parameters
        ----------
        dtype
            An integer type of 8, 16 or 32 bits.
        dummies
            Values that mean "invalid in this frame". None is the detectors' convention: the largest value of an
            unsigned type, and the one below it for uint32 (EIGER flags). Negatives of a signed type are never valid.
        saturation
            Largest valid value, where the detector says so (saturation value or count-rate cutoff).

        Raises
        ------
        ValueError
            For a type or a number of dummies that is not supported.
        """
        if dtype.newbyteorder("=") not in SUPPORTED:
            raise ValueError(f"pixels of type {dtype} are not supported: 8, 16 or 32-bit integers are")
        top = (1 << (8 * dtype.itemsize - (dtype.kind == "i"))) - 1
        reserved = 0 if dummies is not None or dtype.kind == "i" else 2 if dtype.itemsize == 4 else 1
        limit = min(top - reserved, _LARGEST, top if saturation is None else max(saturation, 0))
        listed = tuple(sorted({int(d) for d in dummies or () if 0 <= d <= limit}))
        if len(listed) > MAX_DUMMIES:
            raise ValueError(f"{len(listed)} dummy values given, at most {MAX_DUMMIES} are supported")
        return cls(limit, listed)

    def invalid(self, frames: NDArray[np.integer]) -> NDArray[np.bool_]:
        """True where a pixel does not count."""
        values = frames.view(f"u{frames.dtype.itemsize}")
        return (values > self.limit) | np.isin(values, np.array(self.dummies, values.dtype))

    @property
    def rare(self) -> int:
        """Values below this are valid, and eight of them sum up within 32 bits: the kernels' fast path."""
        return min(self.limit + 1, 1 << 29, *self.dummies)
