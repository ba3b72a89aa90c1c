"""What is added up under one name and may outlive a series: sums, statistics, stop rule, and fates of the frames."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np

from ringwatch.clock import Clock
from ringwatch.config import RINGS_FRACTION
from ringwatch.messages import Fates, Frame, FrameRows, Origin, SavedState, SeriesResult, SeriesStart, Statistics
from ringwatch.reduction.accumulator import Accumulator
from ringwatch.reduction.settings import ReductionSettings
from ringwatch.reduction.statistics import SpotStatistics
from ringwatch.stop.evaluation import Conditions, Evaluation
from ringwatch.stop.rule import StopRule
from ringwatch_gpu import monitor
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.sums import RingSums, sums_digest
from ringwatch_gpu.validity import Validity

FIRST_GENERATION = 1
UNNAMED = "unnamed"


class Accumulation:
    """One accumulation: over a series, over a block of one, or over several series of a sample.

    Parameters
    ----------
    start
        The series with which it begins.
    geometry
        Of this series, and of all that follow.

    Attributes
    ----------
    accumulator
        Its sums; None before the first frame.
    rule
        Decides whether it is good enough; None only observes.
    is_over
        Its final results are told; nothing may be added.

    Raises
    ------
    GeometryError
        The rings cannot be placed on this geometry's radial axis.
    """

    def __init__(self, start: SeriesStart, geometry: Geometry, settings: ReductionSettings, clock: Clock) -> None:
        stop, reference = settings.stop, settings.monitor_reference
        self.geometry, self._settings, self._clock = geometry, settings, clock
        self.accumulator: Accumulator | None = None
        self.rule = StopRule(stop) if stop else None
        self.is_over = False
        fraction = RINGS_FRACTION if stop is None else stop.rings_fraction
        self._statistics = SpotStatistics.of(geometry, settings.d_spacings_A, fraction)
        digest = sums_digest(geometry, reference, tells_noise=settings.tells_noise)
        self.origin = Origin(start.series, start.unique_id, _sample_of(start), FIRST_GENERATION, digest)
        self._start, self._begins_s = replace(start, resumed=None), 0.0
        self._fates, self._fates_before = Fates(), Fates()
        self._measured_s = self._first_s = self._last_s = 0.0
        self._saved: SeriesResult | None = None

    @classmethod
    def resumed(
        cls, state: SavedState, start: SeriesStart, geometry: Geometry, settings: ReductionSettings, clock: Clock
    ) -> Self:
        """What was saved, to be added to the frames of ``start`` under the next generation; `open` restores the sums.

        Raises
        ------
        ValueError
            Another geometry, mask, monitor or window: these sums cannot be added to.
        """
        made, saved, fates = cls(start, geometry, settings, clock), state.result, state.start.fates
        if made.origin.digest != saved.origin.digest:
            raise ValueError("the geometry, the mask or the monitor has changed")
        if saved.window != made._window_text:
            raise ValueError(f"the window was {saved.window}, and is {made._window_text} now")
        made.origin = replace(saved.origin, generation=saved.origin.generation + 1)
        made._fates, made._fates_before = saved.fates.since(fates), fates.since(saved.fates)
        made._measured_s, made._saved = state.elapsed_s, saved
        return made

    @property
    def n_frames(self) -> int:
        """Number of frames added up."""
        return self.accumulator.n_frames if self.accumulator else 0

    # ------------------------------------------------------------------------------------------- series and blocks

    def continues(self, start: SeriesStart, geometry: Geometry) -> bool:
        """Whether the frames of a new series belong to it."""
        return _sample_of(start) == self.origin.sample and geometry.digest == self.geometry.digest

    def go_on(self, start: SeriesStart) -> None:
        """From now on the frames are those of another series."""
        self._fates += self._start.fates.since(self._fates_before)
        self._measured_s += self._last_s - self._first_s
        self._start, self._fates_before, self._first_s, self._last_s = start, Fates(), 0.0, 0.0
        self.origin = replace(
            self.origin, series=start.series, unique_id=start.unique_id, accumulation=self.origin.key[0]
        )
        if self.accumulator is not None:
            self.accumulator.origin = self.origin

    def next_block(self) -> "Accumulation":
        """The accumulation of the frames that follow: the same under the next generation, and empty."""
        block = Accumulation(self._start, self.geometry, self._settings, self._clock)
        block.origin = replace(self.origin, generation=self.origin.generation + 1)
        block._fates_before = self._start.fates.copy()
        return block

    @property
    def is_full(self) -> bool:
        """Whether a block has all of its frames; that a time is over is known with the first frame after it."""
        window = self._settings.window
        return window.kind == "every" and self.n_frames == window.frames

    def room(self, frames: Sequence[Frame]) -> int:
        """How many of these frames, in the order of arrival, still belong to it: all where there are no blocks."""
        window = self._settings.window
        if window.kind != "every":
            return len(frames)
        if window.frames is not None:
            return min(window.frames - self.n_frames, len(frames))
        ends_s = (self._begins_s if self.n_frames else frames[0].received_s) + (window.seconds or 0.0)
        return next((n for n, frame in enumerate(frames) if frame.received_s >= ends_s), len(frames))

    # ------------------------------------------------------------------------------------------------------ frames

    def open(self, integrator: BatchIntegrator, validity: Validity) -> Accumulator:
        """Get ready for frames, and restore what was saved.

        Raises
        ------
        ValueError
            It does not fit.
        """
        settings = self._settings
        self.accumulator = Accumulator(
            self.origin, integrator, validity, self._statistics, self._clock, settings.window,
            settings.monitor_reference, settings.variance, error_model=settings.error_model,
            keeps_frame_sums=settings.keeps_frame_sums,
        )  # fmt: skip
        saved, self._saved = self._saved, None
        if saved is not None:
            self.accumulator.restore(saved)
        return self.accumulator

    def add(self, accumulator: Accumulator, frames: Sequence[Frame], slot_set: int) -> FrameRows:
        """Reduce the frames that lie decoded in the first slots of a set."""
        received_s = np.array([frame.received_s for frame in frames])
        reference, i0 = self._settings.monitor_reference, [frame.i0 for frame in frames]
        exposure = None if reference is None else monitor.exposure(i0, reference)
        if not self.n_frames:
            self._begins_s = frames[0].received_s
        self._first_s = self._first_s or frames[0].received_s
        self._last_s = frames[-1].received_s
        numbers = np.array([frame.frame for frame in frames], np.int64)
        return accumulator.add(numbers, slot_set, received_s=received_s, exposure=exposure)

    # ----------------------------------------------------------------------------------------------------- results

    @property
    def elapsed_s(self) -> float:
        """Time over which its frames came."""
        return self._measured_s + self._last_s - self._first_s

    def evaluation(self, accumulator: Accumulator, statistics: Statistics, conditions: Conditions) -> Evaluation:
        """What the rule decides on."""
        return Evaluation(
            origin=self.origin,
            time_ns=self._clock.time_ns(),
            n_frames=accumulator.n_frames,
            elapsed_s=self.elapsed_s if self._first_s else None,
            measurements=accumulator.measurements,
            statistics=statistics,
            conditions=conditions,
        )

    def result(self, reason: str, missing: tuple[tuple[int, int], ...] = ()) -> SeriesResult | None:
        """The final results; None without a frame, or where they are told already.

        Parameters
        ----------
        missing
            Numbers of the series that never came; told only where it is the only one.
        """
        if not self.n_frames or self.is_over:
            return None
        missing = () if self.origin.accumulation else missing
        has_image = self._settings.adds_up and self.n_frames > 1
        result = self._result(reason, missing, self._start.fates, has_image=has_image)
        self.is_over = True  # not before: the device may fail
        return result

    @property
    def _window_text(self) -> str:
        """Of which frames the sums are."""
        return "all" if self._settings.window.kind == "last" else self._settings.window_text

    def so_far(self, fates: Fates) -> SeriesResult:
        """The results so far, with these counters of its last series, and all that is needed to go on from them."""
        return self._result("saved", (), fates, has_image=self.n_frames > 0)

    def _result(
        self, reason: str, missing: tuple[tuple[int, int], ...], fates: Fates, *, has_image: bool
    ) -> SeriesResult:
        settings, reference, accumulator = self._settings, self._settings.monitor_reference, self.accumulator
        nothing = RingSums.none_of(self.geometry, reference, tells_noise=settings.tells_noise)
        union, exposure = (accumulator.union, accumulator.exposure) if accumulator else (nothing, 0)
        integrator = accumulator.integrator if accumulator and has_image else None
        total, lost = integrator.read_image() if integrator else (None, None)
        return SeriesResult(
            origin=self.origin,
            time_ns=self._clock.time_ns(),
            reason=reason,
            header=self._start.header,
            n_frames=union.n_frames,
            radial=self.geometry.radial,
            edges=self.geometry.edges,
            unit=self.geometry.unit,
            exact=self.geometry.is_exact,
            sums=union.words if settings.adds_up else None,
            norm_quantum=union.norm_quantum,
            signal_quantum=union.signal_quantum,
            image_sum=total,
            image_lost=lost,
            fates=self._fates + fates.since(self._fates_before),
            missing=missing,
            poni=self.geometry.poni,
            versions=settings.versions,
            window=self._window_text,
            monitor_reference=reference,
            exposure=None if reference is None else exposure,
            image_lost_exposure=integrator.read_lost_exposure() if integrator else None,
        )


def _sample_of(start: SeriesStart) -> str:
    return start.sample or UNNAMED
