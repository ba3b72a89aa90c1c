"""The whole daemon: what is wired to what, and its life from start to stop.

receiver -> queue -> reduction -> one outlet for each publisher. The main thread (`life`) waits, and feeds systemd's
watchdog while the reduction makes its turns.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from queue import Empty, SimpleQueue

import structlog

from ringwatch.clock import Clock, SystemClock
from ringwatch.config import Config
from ringwatch.control.actuators import actuator
from ringwatch.control.dropped import DroppedImages
from ringwatch.control.stopper import Stopper
from ringwatch.intervals import IntervalSet
from ringwatch.messages import Result, SavedState, SeriesEnd, Snapshot, StreamMessage
from ringwatch.publish.epics import EpicsPublisher
from ringwatch.publish.exports import require
from ringwatch.publish.file_names import state_name
from ringwatch.publish.hdf5 import Hdf5Publisher
from ringwatch.publish.orders import Orders
from ringwatch.publish.outlet import Outlet, Publisher
from ringwatch.publish.web import WebPublisher
from ringwatch.publish.zeromq import ZeroMQPublisher
from ringwatch.reduction.geometry import GeometrySource
from ringwatch.reduction.pipeline import Reduction
from ringwatch.reduction.recent import require_room
from ringwatch.reduction.thread import ReductionThread
from ringwatch.service.desk import Desk
from ringwatch.service.exposure import exposed, server_keys
from ringwatch.service.hangs import device_to_use, remember
from ringwatch.service.images import read_image
from ringwatch.service.notify import notify
from ringwatch.service.settings import reduction_settings
from ringwatch.stream.decompress import decode_into
from ringwatch.stream.feed import Feed
from ringwatch.stream.follower import Follower
from ringwatch.stream.monitored import MonitoredQueue
from ringwatch.stream.queue import FrameQueue
from ringwatch.stream.receiver import Receiver
from ringwatch.stream.series import SeriesTable
from ringwatch_gpu import devices
from ringwatch_gpu.errors import DeviceError, ShapeUnknown
from ringwatch_gpu.ring_positions import RadialAxis
from ringwatch_gpu.sums import sums_shape

HANG_S = 45.0
"""A turn takes a tenth of a second, and some seconds where a kernel is compiled; systemd's watchdog waits for 60 s."""
_RECEIVER_STOP_S = 0.5
_DRAIN_S = 1.0
_STOP_S = 1.8
"""For all of it, if nothing hangs; publishers have what is left."""
_LEAST_OUTLET_S = 0.5

log = structlog.get_logger(__name__)


class Daemon:
    """A configured ringwatch.

    Parameters
    ----------
    config
        What to do.
    clock
        Time.
    on_result
        Also told every result, in the thread that made it; must not wait.

    Raises
    ------
    NoDevice
        There is no usable OpenCL device.
    GeometryError
        pyFAI does not know the calibrant.
    ConfigError
        Something that the configuration asks for is not installed.
    """

    def __init__(
        self, config: Config, clock: Clock | None = None, on_result: Callable[[Result], None] | None = None
    ) -> None:
        self._config, self._clock, self._on_result = config, clock or SystemClock(), on_result
        # No Event: its lock is held for moments of waiting, and a signal's handler that came then would wait for ever.
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._fed_at, self._fed_s = -1, 0.0
        self._hang: DeviceError | None = None
        self._device = device_to_use(config.device, self._clock)
        self._settings = reduction_settings(config, self._device)
        self._geometries = GeometrySource(config.geometry, read_image)
        stream = config.stream
        self._table = SeriesTable(stream.late_s, stream.end_timeout_s)
        self._queue = FrameQueue(stream.memory_bytes, stream.policy if stream.endpoint else "block", self._clock)
        wait_s = config.accumulate.monitor_wait_s
        self._monitored = None if wait_s is None else MonitoredQueue(self._queue, wait_s, self._clock)
        self._source = self._monitored or self._queue
        self._feed = self._make_feed()
        self.zeromq = ZeroMQPublisher(config.publish.zmq.bind, server_keys(config.publish.zmq))
        self._stopper = self._make_stopper()
        self._dropped = None if config.control_unit is None else DroppedImages(config.control_unit)
        self.web = WebPublisher(
            config.web.bind, self._clock, lambda: [one.facts for one in self._outlets], self._orders(), wait_s or 0.0
        )
        self.hdf5 = self._hdf5_publisher()
        publishers: list[Publisher] = [self.zeromq, self.web]
        if self.hdf5 is not None:
            publishers.append(self.hdf5)
        if config.publish.epics is not None:
            publishers.append(EpicsPublisher(config.publish.epics.prefix, config.publish.epics.interface))
        self._outlets = [Outlet(publisher) for publisher in publishers]
        self._saver = None if self.hdf5 is None else self._outlets[publishers.index(self.hdf5)]
        self._reduction = self._make_reduction()
        self._thread = ReductionThread(self._reduction, lambda: self._source.finished, self.request_stop)

    def prepare(self) -> None:
        """Build geometry and kernels, so that the first series finds everything ready.

        Raises
        ------
        GeometryError, KernelBuildError
        ConfigError
            The window needs too much memory.
        """
        try:
            self._reduction.prepare()
        except ShapeUnknown as error:
            log.info("geometry waits for the first series", reason=str(error))
            return
        geometry = self._geometries.base()
        settings = self._settings
        shape = sums_shape(geometry, settings.monitor_reference, tells_noise=settings.tells_noise)
        require_room(settings.window, shape)
        if self._settings.d_spacings_A is not None:  # what cannot be placed is told now, not at the first evaluation
            RadialAxis.of(geometry).position(self._settings.d_spacings_A)
        log.info("ready to reduce", geometry=geometry.source, shape=geometry.shape, bins=geometry.bins)

    def start(self) -> None:
        """Open everything: publishers first, the detector last."""
        for sentence in exposed(self._config):
            log.warning(sentence)
        self._resume()
        for outlet in self._outlets:
            outlet.start()
        if self._dropped is not None:
            self._dropped.start()
        self._thread.start()
        self._feed.start()
        log.info("listening", stream=self._config.stream.source, device=self._device.name.strip())

    def pause(self, longest_s: float) -> bool:
        """Wait until somebody asks for an end (True) or for attention, or time is up; feed the watchdog after turns."""
        now_s = time.monotonic()
        if self._thread.turns != self._fed_at:
            self._fed_at, self._fed_s = self._thread.turns, now_s
            notify("WATCHDOG=1")
        elif now_s - self._fed_s > HANG_S:
            device = self._reduction.device
            self._hang = DeviceError(f"{devices.name_of(device)} has not come back for {HANG_S:.0f} s")
            remember(device, self._clock)
            return True
        try:
            return self._wake.get(timeout=longest_s)
        except Empty:
            return False

    @property
    def hangs(self) -> bool:
        """Whether a thread is inside a driver that it will not come back from."""
        return self._hang is not None

    def request_stop(self) -> None:
        """End a `pause` for good; from any thread, and from a signal's handler."""
        self._wake.put(True)

    def wake(self) -> None:
        """End a `pause`; from any thread, and from a signal's handler."""
        self._wake.put(False)

    def stop(self) -> None:
        """Close the running series, publish its final results, close everything; takes less than 2 s."""
        until_s = time.monotonic() + _STOP_S
        if self.hdf5 is not None:
            self.hdf5.hurry(_STOP_S)
        if self._stopper is not None:
            self._stopper.close()
        if self._dropped is not None:
            self._dropped.close()
        self._feed.stop()
        self._feed.join(_RECEIVER_STOP_S)
        for frame in self._queue.drop_frames():
            self._table.skipped(frame)
        self._thread.join(_DRAIN_S)
        for outlet in self._outlets:
            outlet.leave(max(_LEAST_OUTLET_S, until_s - time.monotonic()))
        left = [outlet for outlet in self._outlets if outlet.join()]
        if self.hdf5 is not None and self._saver in left:
            self.hdf5.let_go()
        if self.error:
            log.error("stopped by an error", error=f"{type(self.error).__name__}: {self.error}")
        else:
            log.info("stopped")

    @property
    def is_idle(self) -> bool:
        """Whether no series runs, and all that was found is told (but to who cannot take it)."""
        is_told = all(outlet.is_idle or not outlet.facts.healthy for outlet in self._outlets)
        is_over = self._table.is_closed and not self._queue.backlog_bytes and not self._reduction.is_measuring
        return is_over and is_told

    @property
    def error(self) -> Exception | None:
        """What killed a thread, or holds it for ever, if anything did."""
        return self._feed.error or self._thread.error or self._hang

    def _resume(self) -> None:
        """Go on with what was open when the last daemon was killed."""
        stored = self.hdf5.resume() if self.hdf5 is not None else None
        if stored is None:
            return
        state = stored.state
        start = state.again()
        resumed: list[StreamMessage] = [start, SeriesEnd(start.series, start.unique_id)]
        if state.is_running:
            resumed = self._table.resume(start, IntervalSet.of(state.frames), self._clock.monotonic_s())
            self._feed.resume(start, IntervalSet.of(state.frames))
        for message in resumed:
            self._queue.put(message)
        if stored.was_told and self._stopper is not None:
            self._stopper.remember(state.result.origin)
        log.warning("goes on after a crash", series=state.start.series, frames=state.result.n_frames)

    def _make_reduction(self) -> Reduction:
        return Reduction(
            self._source.get_batch,
            self._source.take_full_batch,
            lambda: self._queue.backlog_bytes,
            self._geometries,
            self._device,
            decode_into,
            self._publish,
            self._settings,
            self._clock,
            self.web,
        )

    def _make_feed(self) -> Feed:
        stream, through = self._config.stream, (self._table, self._queue, self._clock)
        if stream.endpoint is not None:
            return Receiver(stream.endpoint, *through, stream.channel, stream.socket, self.request_stop)
        return Follower(stream.follow or "", *through, stream.settle_s, stream.end_timeout_s, self.request_stop)

    def _hdf5_publisher(self) -> Hdf5Publisher | None:
        config = self._config.publish.hdf5
        if config is None:
            return None
        require(config.also)
        return Hdf5Publisher(
            config.root,
            config.name,
            config.flush_s,
            self._config.model_dump_json(),
            stored=config.frames,
            also=config.also,
            state_name=state_name(self._config.stream.source),
        )

    def _make_stopper(self) -> Stopper | None:
        stop = self._config.stop
        told = actuator(stop, self._clock) if stop else None
        if stop is None or told is None:
            return None
        return Stopper(told, lambda: self._table.ongoing, self._publish_all, self._clock, is_dry=stop.dry_run)

    def _orders(self) -> Orders:
        """What a person or a script may ask for over HTTP."""
        token, scope = self._config.web.token, self._config.accumulate.scope
        desk = Desk(scope, self._stopper, lambda: self._reduction, self._monitored)
        return Orders(desk.asks(), token.get_secret_value() if token else None)

    def _publish(self, result: Result) -> None:
        if self._stopper is not None:
            self._stopper.take(result)
        if self._dropped is not None:
            self._dropped.take(result)
            if isinstance(result, Snapshot):
                result = replace(result, detector_dropped=self._dropped.number)
        self._publish_all(result)

    def _publish_all(self, result: Result) -> None:
        for outlet in self._outlets:
            if outlet is self._saver or not isinstance(result, SavedState):
                outlet.put(result)
        if self._on_result is not None:
            self._on_result(result)
