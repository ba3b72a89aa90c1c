"""How kernels turn raw pixel values into signals: raw minus dark as whole multiples of a quantum.

Where a signal may be negative or no whole count (a dark image, float pixels, a signed type whose negative values count)
every pixel becomes s = rint(raw / quantum) - rint(dark / quantum), a signed integer of 32 bits. Whether it is valid is
judged on the raw value, before the dark. All other frames have s = raw, and kernels that know nothing of this.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .correction import REACH
from .geometry import Geometry
from .validity import Validity

_UINT4 = np.dtype([(axis, np.uint32) for axis in "xyzw"])
NO_DUMMIES: np.void = np.zeros(1, _UINT4)[0]
_NEVER_VALID = 0xFFFFFFFF
"""The largest unsigned integer, and no number as a float."""


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels of one type are read.

    Attributes
    ----------
    dtype
        Type of the pixels: integers of 8, 16 or 32 bits, or float32.
    scale
        Quanta of a count, where signals are signed; None where they are the raw values.
    negatives
        Whether values below zero count (`Validity.lowest` < 0).
    """

    dtype: np.dtype[np.generic]
    scale: int | None
    negatives: bool

    @classmethod
    def of(cls, geometry: Geometry, dtype: np.dtype[np.generic], *, negatives: bool = False) -> "PixelFormat":
        """The format of frames that are reduced with a geometry.

        Raises
        ------
        ValueError
            Float pixels, and nobody said to what they are to be rounded.
        """
        if geometry.quantum is not None:
            return cls(dtype, round(1 / geometry.quantum), negatives)
        if dtype.kind == "f":
            raise ValueError(f"pixels of type {dtype} have to be rounded: say to what, with Geometry.signed(quantum)")
        return cls(dtype, 1 if negatives else None, negatives)

    @property
    def is_signed(self) -> bool:
        """Whether signals may be negative."""
        return self.scale is not None

    @property
    def constants(self) -> Mapping[str, int | str]:
        """Build constants of a kernel that reads pixels."""
        unsigned = {1: "uchar", 2: "ushort", 4: "uint"}[self.dtype.itemsize]
        if self.scale is None:  # values of a signed type are read as unsigned: all negative ones are too large
            return {"PIXEL": unsigned}
        signed: dict[str, int | str] = {"SIGNED": 1, "SCALE": self.scale}
        if self.dtype.kind == "f":
            return {"PIXEL": "float", **signed, "FLOAT": 1, "REACH": REACH}
        pixel = unsigned.removeprefix("u") if self.dtype.kind == "i" else unsigned
        return {"PIXEL": pixel, **signed, "LOWEST": self._lowest}

    @property
    def before(self) -> tuple[str, ...]:
        """Kernel files that such a kernel builds upon."""
        return ("signal",) if self.is_signed else ()

    def arguments(self, validity: Validity) -> tuple[np.uint32, np.void]:
        """``limit`` and ``dummies`` as the kernels take them: four values, padded by one that is never valid.

        Raises
        ------
        ValueError
            The kernels were built for another answer to whether values below zero count.
        """
        if (validity.lowest < 0) != self.negatives:
            raise ValueError("whether values below zero count is decided when the kernels are built")
        if self.dtype.kind == "f":
            limit, *dummies = (int(bits) for bits in np.array([validity.limit, *validity.dummies], "<f4").view("<u4"))
            return np.uint32(limit), _four(dummies, _NEVER_VALID)
        limit, dummies = int(validity.limit), [int(dummy) & _NEVER_VALID for dummy in validity.dummies]
        if self.scale is None:
            return np.uint32(limit), _four(dummies, _NEVER_VALID)
        limit = min(limit, REACH // self.scale)
        return np.uint32(limit), _four(dummies, limit + 1)

    @property
    def _lowest(self) -> int:
        """Smallest valid raw value."""
        return max(-1 << (8 * self.dtype.itemsize - 1), -(REACH // (self.scale or 1))) if self.negatives else 0


def signals(
    frames: NDArray[np.generic], geometry: Geometry, validity: Validity
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The specification: signals of raw frames (..., pixels), 0 where a pixel does not count, and True where so."""
    bad = validity.invalid(frames)
    scale = PixelFormat.of(geometry, frames.dtype, negatives=validity.lowest < 0).scale
    quanta = np.rint(np.where(bad, 0, frames).astype(np.float64) * (scale or 1))
    if scale is not None:
        bad = bad | (np.abs(quanta) > REACH)
    signal = np.where(bad, 0, quanta).astype(np.int64) - (0 if geometry.dark_q is None else geometry.dark_q)
    return np.where(bad, 0, signal), bad


def _four(dummies: list[int], padding: int) -> np.void:
    found: np.void = np.array([tuple([*dummies, *[padding] * 4][:4])], _UINT4)[0]
    return found
