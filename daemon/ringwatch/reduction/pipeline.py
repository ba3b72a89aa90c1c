"""From clean stream messages to results: whoever calls `step` owns the device.

One turn takes a batch from the queue, decodes it into the slots, integrates it, adds it to the union and publishes a
row for each frame; at intervals it evaluates the summed image. Series begin and end between batches.
"""

import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pyopencl as cl
import structlog
from threadpoolctl import threadpool_limits

from ringwatch.clock import Clock
from ringwatch.errors import ConfigError, UnsupportedEncoding
from ringwatch.messages import (
    Frame,
    Origin,
    SavedState,
    SeriesEnd,
    SeriesEvent,
    SeriesStart,
    Status,
    StreamMessage,
)
from ringwatch.reduction.accumulation import FIRST_GENERATION, UNNAMED, Accumulation
from ringwatch.reduction.geometry import GeometrySource
from ringwatch.reduction.ladder import DEVICE_ERRORS, DeviceLadder
from ringwatch.reduction.recent import require_room
from ringwatch.reduction.series import Publish, SeriesReduction
from ringwatch.reduction.settings import ReductionSettings
from ringwatch.reduction.slots import DecodeInto, Filling, SlotFiller
from ringwatch.reduction.throughput import Throughput
from ringwatch.reduction.viewing import Viewer
from ringwatch_gpu.batch import SLOT_SETS, BatchIntegrator, compile_kernels
from ringwatch_gpu.devices import name_of
from ringwatch_gpu.errors import GeometryError
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.sums import sums_shape
from ringwatch_gpu.tables import BATCH
from ringwatch_gpu.validity import SUPPORTED

FLUSH_S = 0.1
"""A batch that is not full is reduced when its oldest frame has waited this long."""

_NOT_THE_NEXT = 2
"""Generations between sums that could not be added to and those that begin anew: the next one has the rows of both."""

GetBatch = Callable[[int, float], Sequence[StreamMessage]]
"""(largest batch, seconds its oldest frame may wait) -> messages of one kind, empty if nothing came for a while."""

TakeFullBatch = Callable[[int], Sequence[Frame]]
"""(size of a batch) -> so many frames if they are what comes next, else nothing; never waits."""


class Reduction:
    """Reduces series after series.

    Parameters
    ----------
    get_batch, take_full_batch
        Where the messages come from; the second takes frames that wait already, and only a whole batch of them.
    backlog
        Bytes that wait there.
    geometries
        Geometry of each series.
    device
        Where to compute.
    decode_into
        How a frame is decoded.
    publish
        Where results go; must not wait.
    viewer
        Who may want to see the summed image.
    """

    def __init__(
        self,
        get_batch: GetBatch,
        take_full_batch: TakeFullBatch,
        backlog: Callable[[], int],
        geometries: GeometrySource,
        device: cl.Device,
        decode_into: DecodeInto,
        publish: Publish,
        settings: ReductionSettings,
        clock: Clock,
        viewer: Viewer | None = None,
    ) -> None:
        threadpool_limits(1, "blas")  # the statistics' matrices are small: other threads only spin, at twice the cost
        self._get_batch, self._take_full_batch, self._backlog = get_batch, take_full_batch, backlog
        self._geometries, self._viewer = geometries, viewer
        self._publish, self._settings, self._clock = publish, settings, clock
        self._ladder = DeviceLadder(device, clock)
        self._filler = SlotFiller(decode_into, settings.decoder_threads)
        self._integrator: BatchIntegrator | None = None
        self._series: SeriesReduction | None = None
        self._kept: Accumulation | None = None
        self._filling: Filling | None = None
        self._refused: SeriesStart | None = None
        self._batch: Sequence[StreamMessage] = ()
        self._again: deque[Sequence[StreamMessage]] = deque()
        self._shapeless: SeriesStart | None = None
        self._refusal = ""
        self._is_to_begin_anew = self._is_sample_over = False
        self._next_sample: str | None = None
        self._throughput = Throughput(clock)
        self._saved_s = 0.0
        self._state: SavedState | None = None

    def step(self) -> None:
        """One turn: at most one batch, or one start or end of a series; after a failure of the device some more.

        Raises
        ------
        DeviceError, cl.Error
            The device failed, and there is nothing to go on with or from.
        """
        try:
            self._make_turn()
        except DEVICE_ERRORS as error:
            self._recover(error)

    def _make_turn(self) -> None:
        if not self._again:
            self._do_what_was_asked()
        if self._filling is None:
            self._take()
        if self._filling is not None and self._series is not None:
            self._reduce(self._series, self._filling)
        if self._series is not None:
            self._series.keep_up()
            self._series.go_on_rejecting()
        self._save_if_due()
        if self._throughput.is_due():
            self._publish(self._status())

    def conclude(self, reason: str) -> None:
        """End the accumulation that goes on over several series, if there is one, and publish its final results."""
        result = self._kept.result(reason) if self._kept is not None else None
        self._kept = None
        if result is not None:
            self._publish(result)

    def begin_anew(self) -> None:
        """Before the next batch: tell the results of what is added up, and add up anew. From any thread."""
        self._is_to_begin_anew = True

    def change_sample(self, name: str | None) -> None:
        """With the next series: another sample, called so where the header gives no name. From any thread."""
        self._next_sample, self._is_sample_over = name, True

    @property
    def device(self) -> cl.Device:
        """The device that computes now."""
        return self._ladder.device

    @property
    def is_measuring(self) -> bool:
        """Whether a series is being reduced, from any thread."""
        return self._series is not None

    def close(self) -> None:
        """Let go of the decoders."""
        self._filler.close()

    def _recover(self, error: Exception) -> None:
        """Begin again from what was saved last, on the same device or on another one."""
        again = self._to_be_done_again()
        if again is None:
            raise error
        traceback.clear_frames(error.__traceback__)  # they hold memory of the device
        self._integrator = self._filling = self._series = self._kept = self._shapeless = self._refused = None
        self._batch = ()
        self._ladder.step_down(error)
        self._again.extendleft(reversed(again))
        while self._again:
            self.step()

    def _to_be_done_again(self) -> list[Sequence[StreamMessage]] | None:
        """What leads to where the device failed; None where that is not known."""
        series, batch = self._series, self._batch
        waiting = self._shapeless or self._refused
        start = next((message for message in batch if isinstance(message, SeriesStart)), None)
        if series is None or waiting is not None or start is not None:
            before = self._kept_again() if start is None or start.resumed is None else []
            todo = [some for some in ([waiting] if waiting else [], batch) if some]
            return None if before is None or not (before or todo) else [*before, *todo]
        ending = [batch] if any(isinstance(message, SeriesEnd) for message in batch) else []
        if ending and series.accumulation.is_over:
            return []
        state = series.to_go_on_from(self._state)
        return None if state is None else [[series.lose_all_since(state, self._filling)], *ending]

    def _kept_again(self) -> list[Sequence[StreamMessage]] | None:
        """What leads to the sums that are kept between two series; None where that is not known."""
        kept, state = self._kept, self._state
        if kept is None or not kept.n_frames:
            return []
        if state is None or state.is_running or state.result.origin.key != kept.origin.key:
            return None
        return [[state.again()], [SeriesEnd(state.start.series, state.start.unique_id)]]

    def _do_what_was_asked(self) -> None:
        if self._is_to_begin_anew:
            if self._series is None:
                self.conclude("reset")
            else:
                self._series.begin_anew()
            self._is_to_begin_anew = False  # not before: the device may fail
        if self._is_sample_over and self._series is None:  # the frames of a running series are of the sample before
            self.conclude("another sample")
            self._is_sample_over = False

    def _take(self) -> None:
        """Take what comes next: a start or an end is dealt with, a batch of frames begins to be decoded."""
        is_first = self._series is not None and self._series.n_frames == 0
        largest = 1 if is_first else BATCH  # the first frame waits for no other
        self._batch = self._again.popleft() if self._again else self._get_batch(largest, FLUSH_S)
        match self._batch:
            case []:
                pass
            case [SeriesStart() as start]:
                self._start(start)
            case [SeriesEnd() as end]:
                self._end(end)
            case frames:
                self._begin([frame for frame in frames if isinstance(frame, Frame)])
        self._batch = ()

    def _start(self, start: SeriesStart) -> None:
        self._refused = None
        if start.resumed is None:
            self._do_what_was_asked()  # even if that was after this turn began
        start = replace(start, sample=start.sample or self._next_sample)
        if start.problem:
            self._refuse(start, start.problem)
            return
        if start.shape is None:  # the header did not say it: the first frame does
            self._shapeless = start
            return
        try:
            flat = start.flatfield if start.flatfield_applied is False else None
            is_float = start.dtype is not None and start.dtype.kind == "f"
            geometry = self._geometries.for_series(start.shape, start.pixel_mask, flat, is_float=is_float)
            shape = sums_shape(geometry, self._settings.monitor_reference, tells_noise=self._settings.tells_noise)
            require_room(self._settings.window, shape, start.frame_time_s)
            accumulation = self._accumulation(start, geometry)
            self._series = SeriesReduction(
                start,
                accumulation,
                self._geometries.base().mask,
                self._get_integrator,
                self._filler,
                self._settings,
                self._publish,
                self._clock,
                self._viewer,
            )
        except (GeometryError, UnsupportedEncoding, ConfigError) as error:
            self._refuse(start, str(error))
        self._save_if_due()

    def _accumulation(self, start: SeriesStart, geometry: Geometry) -> Accumulation:
        """What the frames of a series are added to: what was saved or is kept if it fits, else something new."""
        if start.resumed is not None:
            return self._resumed(start.resumed, start, geometry)
        if self._kept is not None and self._kept.continues(start, geometry):
            self._kept.go_on(start)
            return self._kept
        self.conclude("another sample or geometry")
        accumulation = Accumulation(start, geometry, self._settings, self._clock)
        self._kept = accumulation if self._settings.scope == "sample" else None
        return accumulation

    def _resumed(self, state: SavedState, start: SeriesStart, geometry: Geometry) -> Accumulation:
        """What was saved; where it does not fit any more something new, under the next generation."""
        try:
            made = Accumulation.resumed(state, start, geometry, self._settings, self._clock)
            if start.dtype is not None:
                validity = self._settings.validity(start.dtype, start)
                made.open(self._get_integrator(geometry, start.dtype, validity.lowest < 0), validity)
        except ValueError as error:
            structlog.get_logger().warning("begins anew, not with what was saved", reason=str(error))
            made = Accumulation(start, geometry, self._settings, self._clock)
            made.origin = replace(made.origin, generation=state.result.origin.generation + _NOT_THE_NEXT)
        self._kept = made if self._settings.scope == "sample" else None
        return made

    def _save_if_due(self) -> None:
        series, save_s = self._series, self._settings.save_s
        if series is None or save_s is None or not self._settings.adds_up:
            return
        if series.is_unsaved or (series.has_news and self._clock.monotonic_s() - self._saved_s >= save_s):
            self._save(series)

    def _save(self, series: SeriesReduction, *, is_running: bool = True) -> None:
        """Give out what would be needed after a crash."""
        self._saved_s = self._clock.monotonic_s()
        state = series.state(is_running=is_running)
        if state is not None:
            self._state = state
            self._publish(state)

    def _end(self, end: SeriesEnd) -> None:
        if self._series is not None:
            self._series.finish(end)
            if self._settings.scope == "sample":
                self._kept = self._series.accumulation
                if self._settings.save_s is not None:
                    self._save(self._series, is_running=False)
        self._series = self._refused = self._shapeless = None

    def _begin(self, frames: Sequence[Frame]) -> None:
        if self._shapeless is not None:
            self._start(replace(self._shapeless, shape=frames[0].shape, dtype=frames[0].dtype))
            self._shapeless = None
        series = self._series
        if series is not None:
            try:
                self._filling = series.begin(frames)
            except UnsupportedEncoding as error:
                self._refuse(series.start, str(error))
        if self._refused is not None:
            self._refused.fates.excluded["series refused"] += len(frames)

    def _reduce(self, series: SeriesReduction, filling: Filling) -> None:
        """Reduce a batch. If the next one waits already, it is decoded meanwhile: then no core idles."""
        following = self._take_full_batch(BATCH)
        self._filling = series.begin(following) if following else None
        self._throughput.count(series.reduce(filling), filling.frames[0].received_s)

    def _refuse(self, start: SeriesStart, reason: str) -> None:
        """Give up a series that cannot be reduced; the next one has its chance."""
        structlog.get_logger().warning("series abandoned", series=start.series, reason=reason)
        self._series, self._refused, self._refusal = None, start, reason
        nothing = np.zeros(0)
        origin = Origin(start.series, start.unique_id, start.sample or UNNAMED, FIRST_GENERATION, "")
        event = SeriesEvent(
            origin, self._clock.time_ns(), "abandoned", reason, start.header, nothing, nothing, "", exact=True
        )
        self._publish(event)

    def prepare(self) -> None:
        """Make everything ready for frames of 32 bits, so that the first series need not wait.

        Raises
        ------
        GeometryError
            `ShapeUnknown` where the shape has to come from the first frame.
        KernelBuildError, OutOfDeviceMemory
        """
        geometry = self._geometries.base()
        settings = self._settings
        compile_kernels(geometry, self._ladder.device, settings.rejection, tells_noise=settings.tells_noise)
        integrator = self._get_integrator(geometry, np.dtype(np.uint32), negatives=False)
        for which in range(SLOT_SETS):
            integrator.slot_set(which).fill(0)  # what is written once has its pages
        integrator.rehearse()

    def _get_integrator(self, geometry: Geometry, dtype: np.dtype[np.generic], negatives: bool) -> BatchIntegrator:
        """The last integrator if it fits, else a new one."""
        if dtype not in SUPPORTED:
            raise UnsupportedEncoding(f"pixels of type {dtype}", [str(supported) for supported in SUPPORTED])
        if dtype.kind == "f" and geometry.quantum is None:
            raise UnsupportedEncoding("float pixels that the header did not announce", ["integers"])
        self._require_unsigned_if_monitored(geometry, negatives)
        if self._integrator is None or not self._integrator.fits(geometry, dtype, negatives=negatives):
            self._integrator = None  # its memory is needed
            settings = self._settings
            self._integrator = BatchIntegrator(
                geometry, dtype, self._ladder.device, rejection=settings.rejection, negatives=negatives,
                monitored=settings.monitor_reference is not None, tells_noise=settings.tells_noise,
            )  # fmt: skip
        self._integrator.change_mask(geometry)
        return self._integrator

    def _require_unsigned_if_monitored(self, geometry: Geometry, negatives: bool) -> None:
        """Monitors weigh counts that are never negative."""
        if self._settings.monitor_reference is not None and (negatives or geometry.quantum is not None):
            raise UnsupportedEncoding("a monitor with float pixels or negative counts", ["unsigned counts"])

    def _status(self) -> Status:
        state: Literal["waiting", "measuring", "error"] = "waiting"
        if self._series is not None:
            state = "measuring"
        elif self._refused is not None:
            state = "error"
        frames_per_s, lag_s = self._throughput.look()
        return Status(
            time_ns=self._clock.time_ns(),
            state=state,
            reason=self._refusal if state == "error" else "",
            fps=frames_per_s,
            lag_s=lag_s,
            backlog_bytes=self._backlog(),
            device=name_of(self._ladder.device),
            totals={"reduced": self._throughput.total},
        )
