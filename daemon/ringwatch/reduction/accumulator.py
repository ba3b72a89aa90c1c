"""One accumulation: batches of frames in, exact sums and everything that follows from them out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from ringwatch.clock import Clock
from ringwatch.config import WindowConfig
from ringwatch.messages import (
    Accumulated,
    FrameProfiles,
    FrameRows,
    Origin,
    Profile,
    SeriesResult,
    SmallImage,
    Spottiness,
    Statistics,
)
from ringwatch.reduction.recent import RecentSums
from ringwatch.reduction.statistics import Measurements, SpotStatistics
from ringwatch_gpu import exact, monitor
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.errors import DeviceError
from ringwatch_gpu.exact import Words
from ringwatch_gpu.noise import Noise, PixelVariance, modelled
from ringwatch_gpu.reference import ImageSums
from ringwatch_gpu.rejection import Method
from ringwatch_gpu.small_image import middle_bins
from ringwatch_gpu.split_sums import SplitFrameSums
from ringwatch_gpu.spottiness import spottiness, spottiness_class
from ringwatch_gpu.summed_image import image_profile
from ringwatch_gpu.sums import ErrorModel, FrameSums, RingProfile, RingSums
from ringwatch_gpu.validity import Validity

Floats = NDArray[np.float64]
ALL_FRAMES = WindowConfig()
_ENOUGH_COUNTS = 20
_SPLIT_TOLERANCE = 1e-6
"""Relative, and in counts: sums of split pixels are rounded, to float64 and in each frame (see `SPLIT_UNITS`)."""
_FEW_EMPTY = 0.01


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
    variance
        Variance of a pixel, for the mean profiles and as the noise of the statistics; None takes that of the pixels of
        a bin for the former, and of photons for the latter.
    error_model
        Of the published profiles. Spottiness is azimuthal whatever it is.
    keeps_frame_sums
        Whether the exact sums of each frame go with its row.

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
        variance: PixelVariance | None = None,
        *,
        error_model: ErrorModel = "azimuthal",
        keeps_frame_sums: bool = False,
    ) -> None:
        self.origin, self.integrator, self.validity, self._clock = origin, integrator, validity, clock
        self._spots, self._window, self._variance = statistics, window, variance
        self._error_model, self._keeps_frame_sums = error_model, keeps_frame_sums
        geometry = integrator.geometry
        self._noise = Noise.of(geometry, variance)
        self._noise_of_parts = self._noise if geometry.is_exact else integrator.noise_of_parts(variance)
        self.union = RingSums.none_of(geometry, monitor_reference, tells_noise=integrator.tells_noise)
        self._recent = RecentSums(self.union, window) if window.kind == "last" else None
        self.exposure = 0
        self.accumulated: Accumulated | None = None
        self.measurements: Measurements = {}
        self._image_profile: RingProfile | None = None
        self._image_counts_variance: Floats | None = None
        self._n_rejecting = 0
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
        static = self.integrator.static
        rows = frames.rows(static, exposure)
        self.union = self.union.plus_rows(rows)
        self.exposure += n_frames if exposure is None else int(exposure.sum())
        if self._recent is not None:
            self._recent.add(rows, np.zeros(n_frames) if received_s is None else received_s)
        return self._frame_rows(frame_numbers, frames, rows, exposure)

    def restore(self, result: SeriesResult) -> None:
        """Go on from sums that were saved; what single frames showed of motion and drift begins anew.

        Raises
        ------
        ValueError
            They do not fit: of another shape, some are missing, or they contradict each other.
        """
        if result.sums is None or result.sums.shape != self.union.words.shape:
            raise ValueError("its sums are missing, or of another shape")
        if not result.n_frames:
            return
        if result.image_sum is None or result.image_lost is None:
            raise ValueError("it has no summed image")
        union = replace(self.union, words=result.sums, n_frames=result.n_frames)
        squares = exact.to_float(result.sums[1])
        self.integrator.restore_image(result.image_sum, result.image_lost, result.image_lost_exposure, squares)
        self.union = union
        self.exposure = result.n_frames if result.exposure is None else result.exposure
        try:
            self._verify()
        except DeviceError as error:  # else the next evaluation would fail, here and wherever they are restored
            raise ValueError(f"its sums and its image contradict each other: {error}") from error

    def sample(self, slot_set: int = 0) -> None:
        """Take the azimuthal sectors of the first frame of the batch that was added last."""
        if self._spots.wants_sectors:
            sectors = self.integrator.sector_sums(self.validity, 0, slot_set)
            self._spots.add_sectors(sectors.astype(np.float64) * self.union.signal_quantum)

    def evaluate(self) -> Statistics:
        """Statistics of the summed image; afterwards ``accumulated`` and ``measurements`` are up to date.

        Raises
        ------
        DeviceError
            Its signal and norm differ from those of the union, by more than rounding can explain: the device or its
            memory failed.
        """
        exact_image = self.integrator.evaluate_image(self.exposure)
        image = exact_image.in_counts(self.union.signal_quantum, self._noise)
        split = self.integrator.split_image(self.exposure)
        if split is None:
            self._check(exact_image)
            self._image_profile, averaged = _profiles_of(image, self.union.norm_quantum)
            self._image_counts_variance = image.counts_variance
            statistics, self.measurements = self._spots.evaluate(image, self._image_profile, self.n_frames)
        else:
            self._check_split(split.summed)
            self._image_profile, averaged = split.summed, split.averaged
            self._image_counts_variance = split.counts_variance(self._noise_of_parts, self.union.norm_quantum)
            values = spottiness(self._image_profile, self.integrator.geometry.azimuth_fraction)
            statistics, self.measurements = self._spots.evaluate(image, self._image_profile, self.n_frames, values)
        self.accumulated = Accumulated(
            self.n_frames, self._spottiness(self._image_profile), self._spottiness(averaged), statistics
        )
        return statistics

    def small_image(self) -> SmallImage:
        """The summed image to look at."""
        counts = self.integrator.small_image(self.n_frames) * np.float32(self.union.signal_quantum)
        bins = middle_bins(self.integrator.geometry)
        return SmallImage(self.origin, self._clock.time_ns(), self.n_frames, counts, bins)

    @property
    def drift_since(self) -> int | None:
        """Frame since which the pattern is changing; None while it is not."""
        return self._spots.drift_since

    def union_spottiness(self) -> Spottiness:
        """How spotty the union is; blind to whether frames repeat, so it never decides anything."""
        return self._spottiness(self._published_union.profile)

    def profiles(self) -> list[Profile]:
        """Mean profiles of the union and, once evaluated, of the summed image."""
        union = self._published_union
        found = [self._profile("mean", "union", self._modelled(union.profile, union.words), union.n_frames)]
        if self._image_profile is not None and self.accumulated is not None:
            image = self._modelled_image(self._image_profile)
            found.append(self._profile("mean", "accumulated", image, self.accumulated.n_frames))
        return found

    def reject_outliers(self) -> list[Profile]:
        """Profiles of the summed image without outliers, those that the integrator was made for."""
        return self._rejected(self.integrator.reject_outliers(self.exposure), self.n_frames)

    def begin_rejection(self) -> None:
        """Begin what `reject_outliers` does, to be done in pieces; it goes on if it is under way already."""
        if not self.integrator.is_rejecting:
            self._n_rejecting = self.n_frames
            self.integrator.begin_rejection(self.exposure)

    def go_on_rejecting(self) -> list[Profile]:
        """Make a piece of what was begun, if there is one: the profiles after the last."""
        found = self.integrator.go_on_rejecting() if self.integrator.is_rejecting else None
        return self._rejected(found or {}, self._n_rejecting)

    def _rejected(self, found: Mapping[Method, RingProfile], n_frames: int) -> list[Profile]:
        used = self.integrator.static.count > 0
        return [
            self._profile(kind, "accumulated", profile, n_frames, self._meaningless(kind, profile, used))
            for kind, profile in found.items()
        ]

    @property
    def _published_union(self) -> RingSums:
        return self.union if self._recent is None else self._recent.sums

    def _meaningless(self, kind: Method, profile: RingProfile, used: NDArray[np.bool_]) -> str | None:
        """Why a profile means little, if it does; ``used`` are the bins that have pixels."""
        match kind:
            case "quantile":
                return self._few_counts(profile)
            case "sigma_clip":
                return _all_clipped(profile.count[used])
        return None

    def _few_counts(self, profile: RingProfile) -> str | None:
        """Why quantiles mean little, if they do: those of few counts can only be whole numbers."""
        image = self._image_profile or self.union.profile
        filled = image.count > 0
        counts = (profile.intensity * image.normalization)[filled] / image.count[filled]
        return too_few(counts) if self.integrator.geometry.is_exact else too_few(counts, advice="")

    def _frame_rows(
        self,
        frame_numbers: NDArray[np.int64],
        frames: FrameSums | SplitFrameSums,
        rows: Words,
        exposure: NDArray[np.uint64] | None,
    ) -> FrameRows:
        geometry, profiles = self.integrator.geometry, self.union.profiles_of(rows)
        values = spottiness(profiles, geometry.azimuth_fraction)
        return FrameRows(
            self.origin,
            self._clock.time_ns(),
            frame_numbers,
            values.plain,
            values.weighted,
            values.rings,
            frames.total_signal.astype(np.float64) * self.union.signal_quantum,
            geometry.pixels - frames.valid_pixels(self.integrator.static),
            None if exposure is None else exposure.astype(np.float64) * monitor.QUANTUM,
            self._frame_profiles(profiles, rows),
        )

    def _frame_profiles(self, profiles: RingProfile, rows: Words) -> FrameProfiles:
        sem, sums = self._modelled(profiles, rows).sem, rows if self._keeps_frame_sums else None
        return FrameProfiles("mean", profiles.intensity.astype(np.float32), sem.astype(np.float32), sums)

    def _verify(self) -> None:
        """Compare the summed image with the sums; raises DeviceError."""
        split = self.integrator.split_image(self.exposure)
        if split is None:
            self._check(self.integrator.evaluate_image(self.exposure))
        else:
            self._check_split(split.summed)

    def _check(self, image: ImageSums) -> None:
        size, total = self.union.words.shape[-1], image.signal.astype(np.int64, copy=False)
        signal, norm = (exact.widened(words, size) for words in (exact.signed_words(total), image.norm))
        if not (np.array_equal(signal, self.union.words[0]) and np.array_equal(norm, self.union.words[3])):
            raise self._self_test_failed("although both are exact")

    def _check_split(self, image: RingProfile) -> None:
        union = self.union.profile
        pairs = ((image.signal, union.signal), (image.normalization, union.normalization))
        if not all(np.allclose(a, b, rtol=_SPLIT_TOLERANCE, atol=_SPLIT_TOLERANCE) for a, b in pairs):
            raise self._self_test_failed("by more than rounding can explain")

    def _self_test_failed(self, how: str) -> DeviceError:
        device: cl.Device = self.integrator.context.devices[0]
        return DeviceError(
            f"self-test failed on {device.name}: after {self.n_frames} frames the summed image and the sums of the "
            f"rings differ, {how}; the device or its memory cannot be trusted"
        )

    def _modelled(self, profile: RingProfile, rows: Words) -> RingProfile:
        """One or several profiles of sums, (..., rows, bins, words), with the errors that are published."""
        if self._variance is not None and self.union.is_exact:
            return modelled(profile, self._variance, profile.count)
        if self._is_azimuthal:
            return profile
        signal, norm = self.union.noise_signal_of(rows), profile.normalization / self.union.norm_quantum
        return profile.with_variance(self._noise_of_parts.variance(signal.T, norm.T).T)

    def _modelled_image(self, profile: RingProfile) -> RingProfile:
        """The profile of the summed image with the errors that are published."""
        if self._variance is not None and self.union.is_exact:
            return modelled(profile, self._variance, self.union.profile.count)
        if self._is_azimuthal or self._image_counts_variance is None:
            return profile
        return profile.with_variance(self._image_counts_variance)

    @property
    def _is_azimuthal(self) -> bool:
        return self._variance is None and self._error_model == "azimuthal"

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
        n_frames: int,
        warning: str | None = None,
    ) -> Profile:
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
            error_model="variance" if kind == "mean" and self._variance is not None else self._error_model,
        )


def _profiles_of(image: ImageSums, norm_quantum: float) -> tuple[RingProfile, RingProfile]:
    """Profiles of the summed and of the averaged image."""
    averaged = RingProfile.of(
        image.averaged_signal,
        image.averaged_variance,
        image.averaged_norm * norm_quantum,
        np.zeros_like(image.norm_sq),
        image.count.astype(np.float64),
    )
    return image_profile(image, norm_quantum), averaged


def _all_clipped(count: NDArray[np.float64]) -> str | None:
    """Where spots are bright, all pixels of a ring may be farther from its mean than their counts explain."""
    empty = np.mean(count == 0) if count.size else 0.0
    if empty <= _FEW_EMPTY:
        return None
    return f"no pixel is left in {empty:.0%} of the bins; error_model hybrid clips by the scatter along the rings"


def too_few(counts: NDArray[np.float64], advice: str = "; median_clip stands this") -> str | None:
    """Why quantiles mean little, if they do: those of few counts can only be whole numbers. Counts a pixel, (bins,)."""
    if not counts.size or np.median(counts) >= _ENOUGH_COUNTS:
        return None
    return f"most bins have fewer than {_ENOUGH_COUNTS} counts a pixel, too few for quantiles{advice}"
