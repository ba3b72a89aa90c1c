"""Frames in, exact ring sums out: the library's front door, no daemon needed."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import cast

import numpy as np
import pyopencl as cl
from numpy.typing import ArrayLike, NDArray

from . import devices
from .batch import BatchIntegrator
from .each_frame import FrameRejection
from .exact import Words
from .geometry import Geometry
from .rejection import NO_REJECTION, Method, Rejection
from .spottiness import SpottinessValues, spottiness
from .summed_image import SummedImage
from .sums import RingProfile, RingSums
from .tables import BATCH
from .validity import Validity

Frames = ArrayLike | Iterable[ArrayLike]
"""One frame (rows, columns), several (frames, rows, columns), or anything that yields one frame after the other, such
as a dataset of h5py; integers of 8, 16 or 32 bits, or float32 where the geometry says to what they are rounded
(`Geometry.signed`); all of one type. At most eight are held at a time."""


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
    rejection
        Which outlier-rejecting profiles `accumulate` makes.
    tells_noise
        Whether sums of split pixels have `RingSums.noise_signal`; those of whole ones always do.

    Examples
    --------
    >>> sums = Integrator(Geometry.from_poni("detector.poni")).integrate(frames)  # doctest: +SKIP
    >>> profile = (sums + other).profile  # union is addition; .intensity, .std, .sem ...  # doctest: +SKIP
    """

    def __init__(
        self,
        geometry: Geometry,
        device: cl.Device | None = None,
        dummies: Sequence[int] | None = None,
        rejection: Rejection = NO_REJECTION,
        *,
        tells_noise: bool = False,
    ) -> None:
        self.geometry, self._dummies, self._rejection, self._tells_noise = geometry, dummies, rejection, tells_noise
        self._device = device or devices.choose()
        self._batch: BatchIntegrator | None = None
        self._evaluates = False

    def integrate(self, frames: Frames) -> RingSums:
        """Sums of all frames together.

        Parameters
        ----------
        frames
            See `Frames`.

        Raises
        ------
        ValueError
            The shape is not the geometry's, or the type is not supported or changes.
        """
        sums = self._zero()
        for rows in self._rows(frames):
            sums = sums.plus_rows(rows)
        return sums

    def each(self, frames: Frames) -> Iterator[RingSums]:
        """Sums of each frame, one after the other; as `integrate`."""
        for rows in self._rows(frames):
            for row in rows:
                yield self._zero().plus_rows(row[np.newaxis])

    def reject(self, frames: Frames, rejection: Rejection | None = None) -> dict[Method, RingProfile]:
        """Profiles of each frame alone that leave its outliers out: arrays of shape (frames, bins); as `integrate`.

        Parameters
        ----------
        rejection
            Which profiles; by default all three with their defaults.
        """
        remaining = _one_by_one(frames)
        first = next(remaining, None)
        if first is None:
            return {}
        dtype = first.dtype.newbyteorder("=")
        validity = Validity.of(dtype, self._dummies)
        negatives = validity.lowest < 0
        each = FrameRejection(self.geometry, dtype, self._device, rejection or Rejection(), negatives=negatives)
        return each.profiles((self._checked(frame, dtype) for frame in chain([first], remaining)), validity)

    def accumulate(self, frames: Frames) -> SummedImage:
        """The pixel-wise sum of all frames, with its profiles; as `integrate`.

        Raises
        ------
        ValueError
            Likewise; or there is no frame.
        """
        sums = self._zero()
        for rows in self._rows(frames, evaluates=True):
            sums = sums.plus_rows(rows)
        if self._batch is None or not sums.n_frames:
            raise ValueError("no frame to accumulate")
        return SummedImage.of(self._batch, sums)

    def spottiness(self, measured: RingSums | RingProfile) -> SpottinessValues:
        """How spotty the rings of a frame, a union or a profile are, in the bins of this geometry."""
        profile = measured.profile if isinstance(measured, RingSums) else measured
        return spottiness(profile, self.geometry.azimuth_fraction)

    def _rows(self, frames: Frames, *, evaluates: bool = False) -> Iterator[Words]:
        """The sums of each frame (frames, rows, bins, words), a batch at a time; the summed image begins anew."""
        remaining = _one_by_one(frames)
        part = list(islice(remaining, BATCH))
        if not part:
            return
        dtype = part[0].dtype.newbyteorder("=")
        validity = Validity.of(dtype, self._dummies)
        batch = self._batch_for(dtype, evaluates, negatives=validity.lowest < 0)
        batch.clear()
        while part:
            for slot, frame in zip(batch.slots, part, strict=False):
                slot[...] = self._checked(frame, dtype)
            yield batch.integrate(len(part), validity).rows(batch.static)
            part = list(islice(remaining, BATCH))

    def _checked(self, frame: NDArray[np.generic], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
        if frame.shape != self.geometry.shape:
            raise ValueError(f"a frame of shape {frame.shape} does not fit a geometry of {self.geometry.shape}")
        if frame.dtype.newbyteorder("=") != dtype:
            raise ValueError(f"a frame of {frame.dtype} among frames of {dtype}")
        return frame

    def _batch_for(self, dtype: np.dtype[np.generic], evaluates: bool, *, negatives: bool) -> BatchIntegrator:
        if self._batch is None or self._batch.dtype != dtype or (evaluates and not self._evaluates):
            self._evaluates = evaluates
            rejection = self._rejection if evaluates else NO_REJECTION
            self._batch = BatchIntegrator(
                self.geometry, dtype, self._device, evaluates=evaluates, rejection=rejection, negatives=negatives,
                tells_noise=self._tells_noise,
            )  # fmt: skip
        return self._batch

    def _zero(self) -> RingSums:
        return RingSums.none_of(self.geometry, tells_noise=self._tells_noise)


def _one_by_one(frames: Frames) -> Iterator[NDArray[np.generic]]:
    several = [frames] if getattr(frames, "ndim", 3) == 2 else frames
    return map(np.asarray, cast("Iterable[ArrayLike]", several))
