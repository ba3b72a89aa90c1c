"""Single frames in, profiles of each of them that leave outliers out."""

from collections.abc import Iterable

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from .batch import BatchIntegrator
from .geometry import Geometry
from .rejection import Method, Rejection
from .sums import RingProfile
from .validity import Validity


class FrameRejection:
    """Rejects outliers in one frame after another: some 0.1 s each at 4M pixels on a CPU, so for recorded frames.

    Parameters
    ----------
    geometry
        Bin and norm of every pixel.
    dtype
        Pixel type of the frames, an integer of 8, 16 or 32 bits.
    device
        Where to compute.
    rejection
        Which profiles are made.
    negatives
        Whether values below zero of a signed type count.

    Raises
    ------
    OutOfDeviceMemory, KernelBuildError
    """

    def __init__(
        self,
        geometry: Geometry,
        dtype: np.dtype[np.generic],
        device: cl.Device,
        rejection: Rejection,
        *,
        negatives: bool = False,
    ) -> None:
        self._batch = BatchIntegrator(
            geometry, dtype, device, evaluates=False, rejection=rejection, negatives=negatives
        )

    def profiles(self, frames: Iterable[NDArray[np.generic]], validity: Validity) -> dict[Method, RingProfile]:
        """Profiles of each frame (rows, columns): arrays of shape (frames, bins); nothing for no frame."""
        found = [self._one(frame, validity) for frame in frames]
        return {method: _stacked([one[method] for one in found]) for method in (found[0] if found else ())}

    def _one(self, frame: NDArray[np.generic], validity: Validity) -> dict[Method, RingProfile]:
        self._batch.clear()
        self._batch.slots[0] = frame
        self._batch.integrate(1, validity)
        return self._batch.reject_outliers(1)


def _stacked(profiles: list[RingProfile]) -> RingProfile:
    return RingProfile(*(np.stack(columns) for columns in zip(*(vars(one).values() for one in profiles), strict=True)))
