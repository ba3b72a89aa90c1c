"""One accumulation: batches of frames in, exact sums and everything that follows from them out."""

from typing import Literal

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from ringwatch.clock import Clock
from ringwatch.config import WindowConfig
from ringwatch.messages import Accumulated, FrameRows, Origin, Profile, Spottiness, Statistics
from ringwatch.reduction.recent import RecentSums
from ringwatch.reduction.statistics import Measurements, SpotStatistics
from ringwatch_gpu import exact, monitor
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.errors import DeviceError
from ringwatch_gpu.reference import ImageSums
from ringwatch_gpu.rejection import Method
from ringwatch_gpu.spottiness import spottiness, spottiness_class
from ringwatch_gpu.summed_image import image_profile
from ringwatch_gpu.sums import FrameSums, RingProfile, RingSums, ring_profiles
from ringwatch_gpu.validity import Validity

ALL_FRAMES = WindowConfig()
_ENOUGH_COUNTS = 20


class Accumulator:
    """The running sums of the frames of one accumulation: their union, and the summed image on the device.

    Parameters
    ----------
    origin
        What the results belong to.
    integrator
        Cleared here; its slots take the frames of each batch.
    validity
        Which pixel values count.
    statistics
        What is made of the summed image and of the sectors of single frames.
    clock
        Where the time of results comes from.
    window
        Of which frames the published union is; of blocks one accumulator holds one.
    monitor_reference
        The monitor at which intensities are given; the integrator is then a ``monitored`` one.

    Attributes
    ----------
    union
        Of all frames.
    exposure
        What they count for in the summed image.
    """

    def __init__(
        self,
        origin: Origin,
        integrator: BatchIntegrator,
        validity: Validity,
        statistics: SpotStatistics,
        clock: Clock,
        window: WindowConfig = ALL_FRAMES,
        monitor_reference: float | None = None,
    ) -> None:
        self.origin, self.integrator, self.validity, self._clock = origin, integrator, validity, clock
        self._spots, self._window = statistics, window
        self.union = RingSums.none_of(integrator.geometry, monitor_reference)
        self._recent = RecentSums(self.union, window) if window.kind == "last" else None
        self.exposure = 0
        self.accumulated: Accumulated | None = None
        self.measurements: Measurements = {}
        self._image_profile: RingProfile | None = None
        integrator.clear()

    @property
    def n_frames(self) -> int:
        """Number of frames in the union and in the summed image."""
        return self.union.n_frames

    def add(
        self,
        frame_numbers: NDArray[np.int64],
        slot_set: int = 0,
        *,
        received_s: NDArray[np.float64] | None = None,
        exposure: NDArray[np.uint64] | None = None,
    ) -> FrameRows:
        """Reduce the frames that lie in the first slots of a set, and say how each of them looks.

        Parameters
        ----------
        received_s
            When each frame arrived; for a window in seconds.
        exposure
            What each frame counts for, where there is a monitor.
        """
        n_frames = len(frame_numbers)
        frames = self.integrator.integrate(n_frames, self.validity, slot_set, exposure)
        rows = frames.rows(self.integrator.static, exposure)
        self.union = self.union.plus_rows(rows)
        self.exposure += n_frames if exposure is None else int(exposure.sum())
        if self._recent is not None:
            self._recent.add(rows, np.zeros(n_frames) if received_s is None else received_s)
        return self._frame_rows(frame_numbers, frames, ring_profiles(rows, self.union.norm_quantum), exposure)

    def sample(self, slot_set: int = 0) -> None:
        """Take the azimuthal sectors of the first frame of the batch that was added last."""
        if self._spots.wants_sectors:
            self._spots.add_sectors(self.integrator.sector_sums(self.validity, 0, slot_set))

    def evaluate(self) -> Statistics:
        """Statistics of the summed image; afterwards ``accumulated`` and ``measurements`` are up to date.

        Raises
        ------
        DeviceError
            Its signal and norm differ from those of the union: both are exact, so the device or its memory failed.
        """
        image = self.integrator.evaluate_image(self.exposure)
        self._check(image)
        quantum = self.union.norm_quantum
        self._image_profile = image_profile(image, quantum)
        averaged = RingProfile.of(
            image.averaged_signal,
            image.averaged_variance,
            image.averaged_norm * quantum,
            np.zeros_like(image.norm_sq),
            image.count.astype(np.float64),
        )
        statistics, self.measurements = self._spots.evaluate(image, self._image_profile, self.n_frames)
        self.accumulated = Accumulated(
            self.n_frames, self._spottiness(self._image_profile), self._spottiness(averaged), statistics
        )
        return statistics

    @property
    def drift_since(self) -> int | None:
        """Frame since which the pattern is changing; None while it is not."""
        return self._spots.drift_since

    def union_spottiness(self) -> Spottiness:
        """How spotty the union is; blind to whether frames repeat, so it never decides anything."""
        return self._spottiness(self._published_union.profile)

    def profiles(self) -> list[Profile]:
        """Mean profiles of the union and, once evaluated, of the summed image."""
        found = [self._profile("mean", "union", self._published_union.profile)]
        if self._image_profile is not None:
            found.append(self._profile("mean", "accumulated", self._image_profile))
        return found

    def reject_outliers(self) -> list[Profile]:
        """Profiles of the summed image without outliers, those that the integrator was made for; after `evaluate`."""
        found = self.integrator.reject_outliers(self.exposure)
        return [
            self._profile(kind, "accumulated", profile, _few_counts(profile) if kind == "quantile" else None)
            for kind, profile in found.items()
        ]

    @property
    def _published_union(self) -> RingSums:
        return self.union if self._recent is None else self._recent.sums

    def _frame_rows(
        self,
        frame_numbers: NDArray[np.int64],
        frames: FrameSums,
        profiles: RingProfile,
        exposure: NDArray[np.uint64] | None,
    ) -> FrameRows:
        geometry = self.integrator.geometry
        values = spottiness(profiles, geometry.azimuth_fraction)
        count = self.integrator.static.count.sum() - frames.lost_count.sum(axis=1)
        return FrameRows(
            self.origin,
            self._clock.time_ns(),
            frame_numbers,
            values.plain,
            values.weighted,
            values.rings,
            frames.signal.sum(axis=1),
            (geometry.pixels - count.astype(np.int64)).astype(np.int64),
            None if exposure is None else exposure.astype(np.float64) * monitor.QUANTUM,
        )

    def _check(self, image: ImageSums) -> None:
        size = self.union.words.shape[-1]
        signal, norm = (exact.widened(words, size) for words in (exact.words(image.signal), image.norm))
        if not (np.array_equal(signal, self.union.words[0]) and np.array_equal(norm, self.union.words[3])):
            device: cl.Device = self.integrator.context.devices[0]
            raise DeviceError(
                f"self-test failed on {device.name}: after {self.n_frames} frames the summed image and the sums of the "
                "rings differ, although both are exact; the device or its memory cannot be trusted"
            )

    def _spottiness(self, profile: RingProfile) -> Spottiness:
        geometry = self.integrator.geometry
        values = spottiness(profile, geometry.azimuth_fraction)
        rings = None if np.isnan(values.rings) else float(values.rings)
        if not geometry.pixel_bins:
            reason = "classes are defined for bins of about one pixel over the whole detector"
            return Spottiness(float(values.plain), float(values.weighted), rings, None, reason)
        return Spottiness(float(values.plain), float(values.weighted), rings, spottiness_class(float(values.plain)))

    def _profile(
        self,
        kind: Literal["mean"] | Method,
        source: Literal["union", "accumulated"],
        profile: RingProfile,
        warning: str | None = None,
    ) -> Profile:
        n_frames = self._published_union.n_frames
        if source == "accumulated" and self.accumulated is not None:
            n_frames = self.accumulated.n_frames
        return Profile(
            origin=self.origin,
            time_ns=self._clock.time_ns(),
            kind=kind,
            source=source,
            window="all" if source == "accumulated" and self._window.kind == "last" else self._window.text,
            n_frames=n_frames,
            radial=self.integrator.geometry.radial,
            **vars(profile),
            warning=warning,
        )


def _few_counts(profile: RingProfile) -> str | None:
    """Why quantiles mean little, if they do: those of few counts can only be whole numbers."""
    filled = profile.count > 0
    counts = profile.signal[filled] / profile.count[filled]
    if not counts.size or np.median(counts) >= _ENOUGH_COUNTS:
        return None
    return f"most bins have fewer than {_ENOUGH_COUNTS} counts a pixel, too few for quantiles; median_clip stands this"
