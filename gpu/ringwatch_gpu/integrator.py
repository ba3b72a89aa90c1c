"""Frames in, exact ring sums out: the library's front door, no daemon needed."""

from collections.abc import Sequence

import numpy as np
import pyopencl as cl
from numpy.typing import ArrayLike, NDArray

from . import devices
from .batch import BatchIntegrator
from .geometry import Geometry
from .sums import RingSums
from .tables import BATCH
from .validity import Validity


class Integrator:
    """Azimuthal integration of frames into exact sums.

    Parameters
    ----------
    geometry
        From `Geometry.from_poni`.
    device
        Where to compute; by default the best one found.
    dummies
        Pixel values that mean "invalid in this frame", and no others do; by default the detectors' convention (see
        `Validity`).

    Examples
    --------
    >>> sums = Integrator(Geometry.from_poni("detector.poni")).integrate(frames)  # doctest: +SKIP
    >>> profile = (sums + other).profile  # union is addition; .intensity, .std, .sem ...  # doctest: +SKIP
    """

    def __init__(
        self, geometry: Geometry, device: cl.Device | None = None, dummies: Sequence[int] | None = None
    ) -> None:
        self.geometry, self._dummies = geometry, dummies
        self._device = device or devices.choose()
        self._batch: BatchIntegrator | None = None

    def integrate(self, frames: ArrayLike) -> RingSums:
        """Sums of all frames together.

        Parameters
        ----------
        frames
            One frame (rows, columns) or several (frames, rows, columns) of integers of 8, 16 or 32 bits, or of float32
            where the geometry says to what they are rounded (`Geometry.signed`).

        Raises
        ------
        ValueError
            The shape is not the geometry's, or the type is not supported.
        """
        stack = self._as_stack(np.asarray(frames))
        validity = Validity.of(stack.dtype, self._dummies)
        batch, sums = self._batch_for(stack.dtype, validity), RingSums.none_of(self.geometry)
        for first in range(0, len(stack), BATCH):
            part = stack[first : first + BATCH]
            batch.slots[: len(part)] = part
            sums = sums.plus_rows(batch.integrate(len(part), validity).rows(batch.static))
        return sums

    def _as_stack(self, frames: NDArray[np.generic]) -> NDArray[np.generic]:
        stack = frames[np.newaxis] if frames.ndim == 2 else frames
        if stack.ndim != 3 or stack.shape[1:] != self.geometry.shape:
            raise ValueError(f"frames of shape {frames.shape} do not fit a geometry of {self.geometry.shape}")
        return stack

    def _batch_for(self, dtype: np.dtype[np.generic], validity: Validity) -> BatchIntegrator:
        if self._batch is None or self._batch.dtype != dtype:
            negatives = validity.lowest < 0
            self._batch = BatchIntegrator(self.geometry, dtype, self._device, evaluates=False, negatives=negatives)
        return self._batch
