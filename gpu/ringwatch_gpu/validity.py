"""Which pixel values count: a largest valid value and up to four dummies, compared on the raw values themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_DUMMIES = 4
_LARGEST = (1 << 32) - 2  # no detector counts to 2^32 - 1: one value is never valid
SUPPORTED = tuple(np.dtype(t) for t in ("u1", "u2", "u4", "i1", "i2", "i4", "f4"))


@dataclass(frozen=True)
class Validity:
    """A pixel is valid if its value is from ``lowest`` to ``limit`` and none of ``dummies``; a float has to be finite.

    ``lowest`` is 0, below which no value is valid, or the lowest one of a signed type. (Of floats it says nothing:
    negative ones count.)
    """

    limit: int | float
    dummies: tuple[int | float, ...] = ()
    lowest: int = 0

    @classmethod
    def of(
        cls, dtype: np.dtype[np.generic], dummies: Sequence[int] | None = None, saturation: int | None = None
    ) -> "Validity":
        """The rule for a pixel type.

        Parameters
        ----------
        dtype
            An integer type of 8, 16 or 32 bits, or float32.
        dummies
            Values that mean "invalid in this frame", and no others do: negative values of a signed type that are not
            listed count. None is the detectors' convention: the largest value of an unsigned type, and the one below it
            for uint32 (EIGER flags); all negative values of a signed type; no finite value of a float.
        saturation
            Largest valid value, where the detector says so (saturation value or count-rate cutoff).

        Raises
        ------
        ValueError
            For a type or a number of dummies that is not supported.
        """
        if dtype.newbyteorder("=") not in SUPPORTED:
            raise ValueError(f"pixels of type {dtype} are not supported: 8, 16 or 32-bit integers and float32 are")
        if dtype.kind == "f":
            return cls(
                np.inf if saturation is None else saturation, _listed({float(np.float32(d)) for d in dummies or ()})
            )
        top = (1 << (8 * dtype.itemsize - (dtype.kind == "i"))) - 1
        reserved = 0 if dummies is not None or dtype.kind == "i" else 2 if dtype.itemsize == 4 else 1
        limit = min(top - reserved, _LARGEST, top if saturation is None else max(saturation, 0))
        lowest = -top - 1 if dummies is not None and dtype.kind == "i" else 0
        return cls(limit, _listed({int(d) for d in dummies or () if lowest <= d <= limit}), lowest)

    def invalid(self, frames: NDArray[Any]) -> NDArray[np.bool_]:
        """True where a pixel does not count."""
        listed: NDArray[np.bool_] = np.isin(frames, np.array(self.dummies, frames.dtype))
        if frames.dtype.kind == "f":
            listed |= ~np.isfinite(frames) | (frames > self.limit)
        else:
            listed |= (frames < self.lowest) | (frames > self.limit)
        return listed

    @property
    def rare(self) -> int:
        """Unsigned values below this are valid, and eight of them sum up within 32 bits: the kernels' fast path."""
        return int(max(min(self.limit + 1, 1 << 29, *self.dummies), 0))


def _listed(dummies: set[int] | set[float]) -> tuple[int | float, ...]:
    if len(dummies) > MAX_DUMMIES:
        raise ValueError(f"{len(dummies)} dummy values given, at most {MAX_DUMMIES} are supported")
    return tuple(sorted(dummies))
