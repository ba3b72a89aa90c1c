"""One series, from its start to its end: geometry and integrator chosen, frames reduced, results published in time."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import structlog
from numpy.typing import NDArray

from ringwatch.clock import Clock
from ringwatch.config import RINGS_FRACTION
from ringwatch.messages import (
    Frame,
    FrameRows,
    Origin,
    Result,
    SeriesEnd,
    SeriesEvent,
    SeriesResult,
    SeriesStart,
    Snapshot,
    Statistics,
)
from ringwatch.reduction.accumulator import Accumulator
from ringwatch.reduction.conditions import ConditionWatch
from ringwatch.reduction.settings import ReductionSettings
from ringwatch.reduction.slots import Filling, SlotFiller, gap_dummy
from ringwatch.reduction.statistics import SpotStatistics
from ringwatch.stop.evaluation import Evaluation
from ringwatch.stop.rule import StopRule
from ringwatch_gpu.batch import SLOT_SETS, BatchIntegrator
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.validity import Validity

Publish = Callable[[Result], None]
GetIntegrator = Callable[[Geometry, np.dtype[np.generic]], BatchIntegrator]

FIRST_GENERATION = 1
UNNAMED = "unnamed"
_SNAPSHOTS_PER_INTERVAL = 10
REJECTION_INTERVALS = 10
"""Profiles without outliers cost as much as some 20 frames: each second they would make a 200 Hz series fall behind."""

_TOLERANCE = 1e-3


class SeriesReduction:
    """The reduction of one series.

    Parameters
    ----------
    start
        What the detector said.
    geometry
        Of this series; ``gaps`` are the pixels that hold no data by construction.
    get_integrator
        Gives the integrator for a geometry and a pixel type, at the latest at the first frame.

    Raises
    ------
    GeometryError
        The rings cannot be placed on this geometry's radial axis.
    """

    def __init__(
        self,
        start: SeriesStart,
        geometry: Geometry,
        gaps: NDArray[np.bool_],
        get_integrator: GetIntegrator,
        filler: SlotFiller,
        settings: ReductionSettings,
        publish: Publish,
        clock: Clock,
    ) -> None:
        self.start, self.geometry = start, geometry
        self._gaps, self._get_integrator, self._filler = gaps, get_integrator, filler
        self._settings, self._publish, self._clock = settings, publish, clock
        self._accumulator: Accumulator | None = None
        self._rule = StopRule(settings.stop) if settings.stop else None
        fraction = RINGS_FRACTION if settings.stop is None else settings.stop.rings_fraction
        self._statistics = SpotStatistics.of(geometry, settings.d_spacings_A, fraction)
        self._first_received_s = self._last_received_s = 0.0
        self._evaluated_s = self._snapshot_s = self._rejected_s = clock.monotonic_s()
        self._published_frames = self._slot_set = 0
        self.origin = Origin(start.series, start.unique_id, start.sample or UNNAMED, FIRST_GENERATION, geometry.digest)
        mismatch = header_mismatch(start, geometry)
        self._conditions = ConditionWatch(start, mismatch)
        warnings = filter(None, (mismatch, _flat_field(start, geometry)))
        self._event("joined" if start.joined else "start", " ".join(warnings))
        if start.dtype is not None:
            self._open(start.dtype)

    @property
    def n_frames(self) -> int:
        """Number of frames reduced so far."""
        return self._accumulator.n_frames if self._accumulator else 0

    def begin(self, frames: Sequence[Frame]) -> Filling:
        """Begin to decode a batch of frames of this series, into the slots that are not being integrated."""
        accumulator = self._accumulator or self._open(frames[0].dtype)
        self._slot_set = (self._slot_set + 1) % SLOT_SETS
        slots = accumulator.integrator.slot_set(self._slot_set)
        return self._filler.begin(frames, slots, self._slot_set, self.start.fates)

    def reduce(self, filling: Filling) -> int:
        """Reduce a batch and publish its rows; the number of frames that counted."""
        accumulator, numbers = self._accumulator, filling.finish()
        if accumulator is None or not numbers.size:
            return 0
        if accumulator.n_frames == 0:
            accumulator.validity = self._with_gap_dummy(accumulator.validity, filling.slots[0])
        rows = accumulator.add(numbers, filling.which)
        self.start.fates.reduced += numbers.size
        self._publish(rows)
        accumulator.sample(filling.which)
        self._watch(rows, filling)
        self.keep_up()
        return int(numbers.size)

    def keep_up(self) -> None:
        """Publish a snapshot and evaluate the summed image where it is time; called at least every 0.1 s."""
        accumulator, now_s = self._accumulator, self._clock.monotonic_s()
        if accumulator is None or accumulator.n_frames == self._published_frames:
            return
        interval_s, gap_s = self._settings.interval_s, self._settings.decision_gap_s
        if now_s - self._evaluated_s >= (min(interval_s, gap_s) if self._decision_is_due() else interval_s):
            self._evaluate(accumulator)
            self._evaluated_s = now_s
        elif now_s - self._snapshot_s < interval_s / _SNAPSHOTS_PER_INTERVAL:
            return
        self._snapshot(accumulator)
        self._snapshot_s = now_s

    def finish(self, end: SeriesEnd) -> None:
        """Evaluate everything once more, and publish the final results."""
        if self._accumulator is not None and self._accumulator.n_frames:
            self._evaluate(self._accumulator, is_last=True)
            self._snapshot(self._accumulator)
            self._publish(self._result(self._accumulator, end))
        self._event("abandoned" if end.reason == "abandoned" else "end", end.reason)
        if self._accumulator is not None:
            self._accumulator.integrator.clear()  # now, so that the next series need not wait for it

    def _open(self, dtype: np.dtype[np.generic]) -> Accumulator:
        integrator = self._get_integrator(self.geometry, dtype)
        validity = Validity.of(dtype, self._settings.dummies, self.start.saturation)
        self._accumulator = Accumulator(self.origin, integrator, validity, self._statistics, self._clock)
        self._event("ready", "")
        return self._accumulator

    def _with_gap_dummy(self, validity: Validity, frame: NDArray[np.generic]) -> Validity:
        value = None if self._settings.dummies is not None else gap_dummy(frame, self._gaps)
        if value is None or value > validity.limit:
            return validity
        structlog.get_logger().info("the detector's gaps are filled with a dummy value", dummy=value)
        return replace(validity, dummies=(value,))

    def _evaluate(self, accumulator: Accumulator, *, is_last: bool = False) -> None:
        statistics = accumulator.evaluate()
        profiles = accumulator.profiles()
        now_s = self._clock.monotonic_s()
        if is_last or now_s - self._rejected_s >= REJECTION_INTERVALS * self._settings.interval_s:
            profiles += accumulator.reject_outliers()
            self._rejected_s = now_s
        for profile in profiles:
            self._publish(profile)
        if self._rule is None:
            return
        evaluation = self._evaluation(accumulator, statistics)
        if is_last:
            self._publish(self._rule.finish(evaluation))
        elif self._decision_is_due():
            self._publish(self._rule.decide(evaluation))

    def _decision_is_due(self) -> bool:
        return self._rule is not None and self.n_frames >= self._rule.next_frames

    def _evaluation(self, accumulator: Accumulator, statistics: Statistics) -> Evaluation:
        elapsed_s = self._last_received_s - self._first_received_s if self._first_received_s else None
        return Evaluation(
            origin=self.origin,
            time_ns=self._clock.time_ns(),
            n_frames=accumulator.n_frames,
            elapsed_s=elapsed_s,
            measurements=accumulator.measurements,
            statistics=statistics,
            conditions=self._conditions.conditions(8 * accumulator.integrator.dtype.itemsize, accumulator.drift_since),
        )

    def _watch(self, rows: FrameRows, filling: Filling) -> None:
        received_s = [frame.received_s for frame in filling.frames]
        self._first_received_s = self._first_received_s or received_s[0]
        self._last_received_s = received_s[-1]
        self._conditions.see(rows)

    def _snapshot(self, accumulator: Accumulator) -> None:
        self._published_frames = accumulator.n_frames
        fates = self.start.fates.copy()
        self._publish(
            Snapshot(
                origin=self.origin,
                time_ns=self._clock.time_ns(),
                n_frames=accumulator.n_frames,
                union=accumulator.union_spottiness(),
                accumulated=accumulator.accumulated,
                fates=fates,
                missing=fates.missing,
                detector_dropped=None,
                frames_expected=self.start.frames_expected,
            )
        )

    def _event(self, event: Literal["start", "joined", "ready", "end", "abandoned"], reason: str) -> None:
        geometry = self.geometry
        self._publish(
            SeriesEvent(
                origin=self.origin,
                time_ns=self._clock.time_ns(),
                event=event,
                reason=reason,
                header=self.start.header,
                radial=geometry.radial,
                edges=geometry.edges,
                unit=geometry.unit,
                exact=geometry.is_exact,
            )
        )

    def _result(self, accumulator: Accumulator, end: SeriesEnd) -> SeriesResult:
        total, lost = accumulator.integrator.read_image() if accumulator.n_frames > 1 else (None, None)
        return SeriesResult(
            origin=self.origin,
            time_ns=self._clock.time_ns(),
            reason=end.reason,
            header=self.start.header,
            n_frames=accumulator.n_frames,
            radial=self.geometry.radial,
            edges=self.geometry.edges,
            unit=self.geometry.unit,
            exact=self.geometry.is_exact,
            sums=accumulator.union.words,
            norm_quantum=accumulator.union.norm_quantum,
            image_sum=total,
            image_lost=lost,
            fates=self.start.fates.copy(),
            missing=end.missing,
            poni=self.geometry.poni,
            versions=self._settings.versions,
        )


def header_mismatch(start: SeriesStart, geometry: Geometry) -> str:
    """Where header and geometry differ by more than 0.1 %, in sentences: the PONI wins, but somebody should know."""
    pairs = [
        ("photon energy", "eV", start.energy_eV, geometry.energy_eV),
        *zip(
            ("pixel height", "pixel width"),
            ("m", "m"),
            start.pixel_size_m or (None, None),
            geometry.pixel_size_m,
            strict=True,
        ),
    ]
    return " ".join(
        f"The header says {name} {header:.6g} {unit}, the PONI {poni:.6g} {unit}: the PONI is used."
        for name, unit, header, poni in pairs
        if header and poni and abs(header - poni) > _TOLERANCE * poni
    )


def _flat_field(start: SeriesStart, geometry: Geometry) -> str:
    """A warning where no flat field was applied, or two were."""
    if start.flatfield_applied is False and geometry.flat is None:
        return "The detector did not apply its flat field nor send it, and geometry.flat names none: none is applied."
    if start.flatfield_applied and geometry.flat is not None:
        return "The detector applied its flat field, and geometry.flat is applied on top of it."
    return ""
