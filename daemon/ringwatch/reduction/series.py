"""One series, from its start to its end: geometry and integrator chosen, frames reduced, results published in time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import structlog
from numpy.typing import NDArray

from ringwatch.clock import Clock
from ringwatch.intervals import IntervalSet
from ringwatch.messages import (
    Frame,
    FrameRows,
    Result,
    SavedState,
    SeriesEnd,
    SeriesEvent,
    SeriesEventKind,
    SeriesStart,
    Snapshot,
)
from ringwatch.reduction.accumulation import Accumulation
from ringwatch.reduction.accumulator import Accumulator
from ringwatch.reduction.conditions import ConditionWatch, flat_field, header_mismatch, masked_zeros, setup
from ringwatch.reduction.settings import ReductionSettings
from ringwatch.reduction.slots import Filling, SlotFiller, gap_dummy
from ringwatch.reduction.viewing import Viewer, Viewing
from ringwatch_gpu import monitor
from ringwatch_gpu.batch import SLOT_SETS, BatchIntegrator
from ringwatch_gpu.each_frame import FrameRejection
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.sums import sums_shape

Publish = Callable[[Result], None]
GetIntegrator = Callable[[Geometry, np.dtype[np.generic], bool], BatchIntegrator]
"""(geometry, pixel type, whether negative values count) -> what integrates such frames."""

DEVICE_FAILED = "device failed"
_SNAPSHOTS_PER_INTERVAL = 10
REJECTION_INTERVALS = 10
"""Profiles without outliers cost as much as some 20 frames, in pieces between the batches."""


class SeriesReduction:
    """The reduction of one series.

    Parameters
    ----------
    start
        What the detector said.
    accumulation
        What its frames are added to.
    gaps
        Pixels that hold no data by construction.
    get_integrator
        Gives the integrator for a geometry and a pixel type, at the latest at the first frame.
    viewer
        Who may want to see the summed image.

    Attributes
    ----------
    n_frames
        Number of frames of this series reduced so far.
    accumulation
        The one that is open now: of a series in blocks it changes.
    """

    def __init__(
        self,
        start: SeriesStart,
        accumulation: Accumulation,
        gaps: NDArray[np.bool_],
        get_integrator: GetIntegrator,
        filler: SlotFiller,
        settings: ReductionSettings,
        publish: Publish,
        clock: Clock,
        viewer: Viewer | None = None,
    ) -> None:
        self.start, self.accumulation, self.geometry = replace(start, resumed=None), accumulation, accumulation.geometry
        self._gaps, self._get_integrator, self._filler = gaps, get_integrator, filler
        self._settings, self._publish, self._clock = settings, publish, clock
        self._viewing = Viewing(viewer, clock)
        self._is_ready = False
        self._each_frame: FrameRejection | None = None
        self._evaluated_s = self._snapshot_s = clock.monotonic_s()
        self._rejected_s = -math.inf
        self._published_frames = accumulation.n_frames
        self.n_frames = self._slot_set = self._in_hand = 0
        self._settled: IntervalSet | None = IntervalSet()
        self._saved: Accumulation | None = None
        self._begun: SavedState | None = None
        self._n_saved = 0
        self._dummies: tuple[int | float, ...] | None = None
        resumed = start.resumed
        if resumed is not None:
            self.n_frames, self._settled = resumed.n_frames, IntervalSet.of(resumed.frames)
            self._dummies = resumed.dummies if resumed.n_frames else None
        mismatch = header_mismatch(start, self.geometry)
        zeros = masked_zeros(start) if not settings.has_mask else ""
        self._conditions = ConditionWatch(self.start, mismatch, zeros=bool(zeros), samples=settings.samples)
        self._setup = setup(start, self.geometry)
        warnings = filter(None, (mismatch, flat_field(start, self.geometry), zeros, _resumption(start)))
        self._event("resumed" if resumed else "joined" if start.joined else "start", " ".join(warnings))
        if start.dtype is not None:
            self._open(start.dtype)

    def begin(self, frames: Sequence[Frame]) -> Filling | None:
        """Begin to decode a batch of frames of this series, into the slots that are not being integrated.

        Returns
        -------
        None where no frame has a monitor, though there should be one.
        """
        frames = self._with_monitor(frames)
        if not frames:
            return None
        self._in_hand += len(frames)
        accumulator = self._open(frames[0].dtype)
        self._slot_set = (self._slot_set + 1) % SLOT_SETS
        slots = accumulator.integrator.slot_set(self._slot_set)
        return self._filler.begin(frames, slots, self._slot_set, self.start.fates)

    def reduce(self, filling: Filling) -> int:
        """Reduce a batch and publish its rows; the number of frames that counted."""
        frames = filling.finish()
        self._in_hand -= len(filling.frames) - len(frames)
        self._settle(filling.frames)
        if frames and not self.n_frames:
            self._find_gap_dummy(filling.slots[0])
        done = 0
        while done < len(frames):
            n_frames = self._reduce_part(frames[done:], filling.which)
            done += n_frames
            for slot in range(len(frames) - done):  # what belongs to the next block
                filling.slots[slot] = filling.slots[slot + n_frames]
        return len(frames)

    def keep_up(self) -> None:
        """Publish a snapshot and evaluate the summed image where it is time; called at least every 0.1 s."""
        accumulator, now_s = self.accumulation.accumulator, self._clock.monotonic_s()
        if accumulator is None or accumulator.n_frames == self._published_frames:
            return
        interval_s, gap_s = self._settings.interval_s, self._settings.decision_gap_s
        wait_s = min(interval_s, gap_s) if self._decision_is_due() else interval_s
        if self._settings.adds_up and now_s - self._evaluated_s >= wait_s:
            self._evaluate(accumulator)
            self._evaluated_s = now_s
        elif now_s - self._snapshot_s < interval_s / _SNAPSHOTS_PER_INTERVAL:
            return
        self._snapshot(accumulator)
        self._snapshot_s = now_s

    def go_on_rejecting(self) -> None:
        """Make a piece of the profiles without outliers where they are under way; called after each batch."""
        accumulator = self.accumulation.accumulator
        for profile in accumulator.go_on_rejecting() if accumulator else ():
            self._publish(profile)

    def begin_anew(self) -> None:
        """Tell the results of what is added up, and begin again with the next frame; nothing is lost without frames."""
        if self.accumulation.n_frames:
            self._end_block("reset")
            self._begin_block()
            self._event("ready", "reset")

    def finish(self, end: SeriesEnd) -> None:
        """Evaluate everything once more, and publish the final results, unless other series of the sample follow."""
        self._evaluate_last()
        if self._settings.scope != "sample":
            self._tell_result(end.reason, end.missing)
        self._event("abandoned" if end.reason == "abandoned" else "end", end.reason)
        if self._settings.scope != "sample" and self.accumulation.accumulator is not None:
            self.accumulation.accumulator.integrator.clear()  # now, so that the next series need not wait for it

    @property
    def is_unsaved(self) -> bool:
        """Whether there was no `state` of this accumulation yet."""
        return self._saved is not self.accumulation and not self.accumulation.is_over and self._settled is not None

    @property
    def has_news(self) -> bool:
        """Whether frames met their fate since the last `state`."""
        return self._settled is not None and self._settled.count != self._n_saved

    def state(self, *, is_running: bool = True) -> SavedState | None:
        """All that is needed to go on after a crash; None where there is nothing, or too much, to be told."""
        state = self._state(self.accumulation.accumulator, is_running=is_running)
        if state is not None and self._settled is not None:
            self._saved, self._n_saved = self.accumulation, self._settled.count
        return state

    def _state(self, accumulator: Accumulator | None, *, is_running: bool = True) -> SavedState | None:
        """The state, for pixels of the type and the validity of this accumulator."""
        accumulation, start = self.accumulation, self.start
        if self._settled is None or accumulation.is_over or not self._settings.adds_up:
            return None
        missing = self._settled.end - self._settled.count
        fates = start.fates.as_saved(missing)
        dtype = accumulator.integrator.dtype if accumulator else start.dtype
        return SavedState(
            accumulation.so_far(fates),
            replace(start, dtype=dtype, sample=accumulation.origin.sample, fates=fates),
            tuple(self._settled.intervals()),
            self.n_frames,
            accumulator.validity.dummies if accumulator else (),
            accumulation.elapsed_s,
            is_running,
        )

    def to_go_on_from(self, saved: SavedState | None) -> SavedState | None:
        """What is known of the accumulation that is open: what was saved last, or how its block began."""
        origin = None if self.accumulation.is_over else self.accumulation.origin
        return next((state for state in (saved, self._begun) if state and state.result.origin == origin), None)

    def lose_all_since(self, state: SavedState, filling: Filling | None) -> SeriesStart:
        """What was reduced since then, and what is being reduced or decoded, is lost with the device.

        Returns
        -------
        With what the series goes on.
        """
        if filling is not None:
            self._in_hand -= len(filling.frames) - len(filling.finish())  # nobody writes to the slots any more
            self._settle(filling.frames)
        fates = self.start.fates
        lost, fates.reduced = fates.reduced - state.start.fates.reduced + self._in_hand, state.start.fates.reduced
        if lost:
            fates.excluded[DEVICE_FAILED] += lost
        frames = state.frames if self._settled is None else tuple(self._settled.intervals())
        return replace(self.start, dtype=state.start.dtype, resumed=replace(state, frames=frames))

    # --------------------------------------------------------------------------------------------- before the frames

    def _open(self, dtype: np.dtype[np.generic]) -> Accumulator:
        """The sums, ready for frames of this type."""
        accumulator = self.accumulation.accumulator
        if accumulator is not None and self._is_ready:
            return accumulator
        if accumulator is not None and accumulator.integrator.dtype != dtype:
            self._tell_result("pixel type changed")
            self._begin_block()
            accumulator = None
        validity = self._settings.validity(dtype, self.start)
        if accumulator is None:
            integrator = self._get_integrator(self.geometry, dtype, validity.lowest < 0)
            accumulator = self.accumulation.open(integrator, validity)
        if self._dummies is not None:
            validity = replace(validity, dummies=self._dummies)
        accumulator.validity, self._is_ready = validity, True
        self._event("ready", "")
        return accumulator

    def _with_monitor(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """The frames that can be weighed with their monitor, where there is one."""
        reference = self._settings.monitor_reference
        if reference is None:
            return frames
        exposure = monitor.exposure([frame.i0 for frame in frames], reference)
        weighed = [frame for frame, f in zip(frames, exposure, strict=True) if f]
        if len(weighed) < len(frames):
            self.start.fates.excluded["no monitor"] += len(frames) - len(weighed)
            self._settle([frame for frame, f in zip(frames, exposure, strict=True) if not f])
        return weighed

    def _with_rejection(self, rows: FrameRows, accumulator: Accumulator, slot_set: int) -> FrameRows:
        """The rows with profiles of each frame that leave outliers out, where those are asked for."""
        integrator, rejection = accumulator.integrator, self._settings.each_frame
        if not rejection.methods or rows.profiles is None:
            return rows
        if self._each_frame is None:
            device = integrator.context.devices[0]
            negatives = accumulator.validity.lowest < 0
            self._each_frame = FrameRejection(self.geometry, integrator.dtype, device, rejection, negatives=negatives)
        frames = integrator.slot_set(slot_set)[: rows.frame.size]
        ((kind, found),) = self._each_frame.profiles(frames, accumulator.validity).items()
        weights = 1.0 if rows.monitor is None else rows.monitor[:, np.newaxis]
        intensity, sem = ((values / weights).astype(np.float32) for values in (found.intensity, found.sem))
        return replace(rows, profiles=replace(rows.profiles, kind=kind, intensity=intensity, sem=sem))

    def _find_gap_dummy(self, frame: NDArray[np.generic]) -> None:
        accumulator = self._open(frame.dtype)
        value = None if self._settings.dummies is not None else gap_dummy(frame, self._gaps)
        if value is None or value > accumulator.validity.limit:
            return
        structlog.get_logger().info("the detector's gaps are filled with a dummy value", dummy=value)
        accumulator.validity = replace(accumulator.validity, dummies=(value,))

    def _settle(self, frames: Sequence[Frame]) -> None:
        """Remember whose fate is decided, as long as that can be told in few intervals."""
        if self._settled is None:
            return
        try:
            for frame in frames:
                self._settled.add(frame.frame)
        except OverflowError:
            self._settled = None
            structlog.get_logger().warning("too many gaps: the series could not be resumed", series=self.start.series)

    # ----------------------------------------------------------------------------------------------------- the frames

    def _reduce_part(self, frames: Sequence[Frame], slot_set: int) -> int:
        """Reduce those of the decoded frames that belong to one block; how many they were."""
        if self.accumulation.is_over or not self.accumulation.room(frames):
            self._end_block("window")
            self._begin_block()
        part = frames[: self.accumulation.room(frames)]
        accumulator = self._open(part[0].dtype)
        rows = self._with_rejection(self.accumulation.add(accumulator, part, slot_set), accumulator, slot_set)
        self.n_frames += len(part)
        self.start.fates.reduced += len(part)
        self._in_hand -= len(part)
        self._publish(rows)
        if self._settings.adds_up:
            accumulator.sample(slot_set)
        self._conditions.see(rows)
        if self.accumulation.is_full:
            self._end_block("window")
        else:
            self.keep_up()
        return len(part)

    def _end_block(self, reason: str) -> None:
        self._evaluate_last()
        self._tell_result(reason)

    def _begin_block(self) -> None:
        before = self.accumulation.accumulator
        self.accumulation = self.accumulation.next_block()
        self._begun = self._state(before)
        if before is not None:
            self.accumulation.open(before.integrator, before.validity)
        self._published_frames, self._evaluated_s = 0, self._clock.monotonic_s()

    # ---------------------------------------------------------------------------------------------------- the results

    def _evaluate_last(self) -> None:
        accumulator = self.accumulation.accumulator
        if accumulator is None or not accumulator.n_frames or self.accumulation.is_over:
            return
        if self._settings.adds_up:
            self._evaluate(accumulator, is_last=True)
        self._snapshot(accumulator)

    def _tell_result(self, reason: str, missing: tuple[tuple[int, int], ...] = ()) -> None:
        result = self.accumulation.result(reason, missing)
        if result is not None:
            self._publish(result)

    def _evaluate(self, accumulator: Accumulator, *, is_last: bool = False) -> None:
        statistics = accumulator.evaluate()
        profiles = accumulator.profiles()
        now_s = self._clock.monotonic_s()
        if is_last:
            profiles += accumulator.reject_outliers()
        elif now_s - self._rejected_s >= REJECTION_INTERVALS * self._settings.interval_s:
            accumulator.begin_rejection()
            self._rejected_s = now_s
        for profile in profiles:
            self._publish(profile)
        self._viewing.look(accumulator, is_last=is_last)
        rule = self.accumulation.rule
        if rule is None:
            return
        pixel_bits = 8 * accumulator.integrator.dtype.itemsize
        conditions = self._conditions.conditions(pixel_bits, accumulator.drift_since)
        evaluation = self.accumulation.evaluation(accumulator, statistics, conditions)
        if is_last:
            self._publish(rule.finish(evaluation))
        elif self._decision_is_due():
            self._publish(rule.decide(evaluation))

    def _decision_is_due(self) -> bool:
        rule = self.accumulation.rule
        return rule is not None and self.accumulation.n_frames >= rule.next_frames

    def _snapshot(self, accumulator: Accumulator) -> None:
        self._published_frames = accumulator.n_frames
        fates = self.start.fates.copy()
        self._publish(
            Snapshot(
                origin=self.accumulation.origin,
                time_ns=self._clock.time_ns(),
                n_frames=accumulator.n_frames,
                union=accumulator.union_spottiness() if self._settings.adds_up else None,
                accumulated=accumulator.accumulated,
                fates=fates,
                missing=fates.missing,
                detector_dropped=None,
                frames_expected=self._frames_expected(),
                window=self._settings.window_text,
                saturated_pixels=self._conditions.saturated_pixels,
                beam_down_since=self._conditions.beam_down_since,
            )
        )

    def _frames_expected(self) -> int | None:
        """How many frames the open accumulation will have had at the end of the series, or of the block."""
        window, expected = self._settings.window, self.start.frames_expected
        if expected is not None:
            expected += self.accumulation.n_frames - self.n_frames
        lengths = [expected, window.frames if window.kind == "every" else None]
        return min((length for length in lengths if length is not None), default=None)

    def _event(self, event: SeriesEventKind, reason: str) -> None:
        geometry, settings = self.geometry, self._settings
        rows, _, words = sums_shape(geometry, settings.monitor_reference, tells_noise=settings.tells_noise)
        self._publish(
            SeriesEvent(
                origin=self.accumulation.origin,
                time_ns=self._clock.time_ns(),
                event=event,
                reason=reason,
                header=self.start.header,
                radial=geometry.radial,
                edges=geometry.edges,
                unit=geometry.unit,
                exact=geometry.is_exact,
                sums_shape=(rows, words),
                setup=self._setup,
            )
        )


def _resumption(start: SeriesStart) -> str:
    """That the sums go on from what was saved, as a sentence."""
    if start.resumed is None:
        return ""
    return f"Resumed after {start.resumed.result.n_frames} frames; those that came since then are lost."
