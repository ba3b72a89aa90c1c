"""Decisions and series events in, at most one stop order a series out, and a report of every step.

Orders are carried out in a thread of their own: the reduction never waits for a detector. A person may stop the running
series too, or hold it: then the rule's decisions no longer stop it.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, Thread

import structlog

from ringwatch.clock import Clock
from ringwatch.control.order import Actuator, Order
from ringwatch.errors import ControlError
from ringwatch.messages import Decision, Ongoing, Origin, Result, Scalar, SeriesEvent, Snapshot, StopReport, StopState

_REMEMBERED = 64
"""Series that were told to stop: one that falls silent and comes back is not told again."""
_LONGEST_FRAME_S = 1e6

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Series:
    """The series that is being reduced."""

    event: SeriesEvent
    n_frames: int = 0
    is_held: bool = False

    @property
    def name(self) -> str:
        return f"Series {self.event.origin.series}"


class Stopper:
    """Stops the acquisition of the series that runs.

    Parameters
    ----------
    actuator
        How.
    ongoing
        What the detector is sending now: the reduction may lag behind it.
    publish
        Where reports go; must not wait.
    is_dry
        Report what would be done, and do nothing.
    """

    def __init__(
        self,
        actuator: Actuator,
        ongoing: Callable[[], Ongoing | None],
        publish: Callable[[StopReport], None],
        clock: Clock,
        *,
        is_dry: bool = False,
    ) -> None:
        self._actuator, self._ongoing, self._publish = actuator, ongoing, publish
        self._clock, self._is_dry = clock, is_dry
        self._series: _Series | None = None
        self._told: deque[str] = deque(maxlen=_REMEMBERED)
        self._last_told: int | None = None
        self._lock = Lock()
        self._is_closed = False

    def close(self) -> None:
        """Give no more orders; one that is being carried out is not waited for, and says no more."""
        self._is_closed = True

    def remember(self, origin: Origin) -> None:
        """A series was told to stop, before a crash."""
        self._told.append(origin.unique_id)
        self._last_told = origin.series

    def take(self, result: Result) -> None:
        """See one result of the reduction; never waits."""
        match result:
            case SeriesEvent(begins=True):
                with self._lock:
                    self._series = _Series(result, is_held=self._is_held(result))
            case Snapshot() if self._series is not None:
                self._series.n_frames = result.n_frames
            case Decision(action="stop"):
                self._decided(result)
            case _:
                pass

    def stop_now(self) -> str:
        """Stop the running series because a person wants it; what happens, as a sentence.

        Raises
        ------
        ControlError
            There is nothing to stop, or it was told already.
        """
        with self._lock:
            series = self._running()
            self._begin(series, series.n_frames, "Stopped by hand.", {})
        return f"{series.name} is being stopped."

    def hold(self) -> str:
        """Let the running series go on whatever the rule says; raises ControlError as `stop_now`."""
        with self._lock:
            series = self._running()
            series.is_held = True
        return f"{series.name} is held: the rule will not stop it."

    def _is_held(self, event: SeriesEvent) -> bool:
        """Whether a series that goes on after a failure of the device was held before."""
        before = self._series
        return before is not None and before.is_held and before.event.origin.unique_id == event.origin.unique_id

    def _decided(self, decision: Decision) -> None:
        """The rule says stop: once for each series, while it runs, unless a person holds it."""
        facts = {name: getattr(decision, name) for name in ("metric", "value", "low", "high", "target", "reason_code")}
        try:
            with self._lock:
                series = self._running()
                if not series.is_held:
                    self._begin(series, decision.n_frames, decision.sentence, facts)
        except ControlError as error:
            log.debug("not stopped", series=decision.origin.series, reason=str(error))

    def _running(self) -> _Series:
        """The series that is being reduced, if the detector still sends it and was not told to stop."""
        series, ongoing = self._series, self._ongoing()
        if self._is_closed or series is None or ongoing is None or series.event.origin.unique_id != ongoing.unique_id:
            raise ControlError("no series is running")
        origin = series.event.origin
        is_back = series.event.event in ("joined", "resumed") and origin.series == self._last_told
        if is_back or origin.unique_id in self._told:
            raise ControlError(f"series {origin.series} was told to stop already")
        return series

    def _begin(self, series: _Series, n_frames: int, sentence: str, facts: dict[str, Scalar]) -> None:
        origin = series.event.origin
        self.remember(origin)
        order = Order(origin, n_frames, sentence, self._ongoing, facts, _frame_time_s(series.event))
        # A thread for each order: one that waits for a dead host does not keep the next series from being stopped.
        Thread(target=self._run, args=(order,), name="control", daemon=True).start()

    def _run(self, order: Order) -> None:
        whom = self._actuator.whom
        if self._is_dry:
            self._report(order, "dry_run", f"Dry run: {whom} would be told to stop at frame {order.n_frames}.")
            return
        asked = time.strftime("%H:%M:%S", time.localtime(self._clock.time_ns() / 1e9))
        self._report(order, "asked", f"Asked {whom} to stop at {asked}.")
        begin_s = self._clock.monotonic_s()
        try:
            outcome = self._actuator.stop(order, lambda step: self._report(order, "step", step))
        except Exception as error:  # the thread's edge: whatever an actuator does, a person is told
            if not isinstance(error, ControlError):
                log.exception("defect in an actuator", via=self._actuator.via)
            self._report(order, "failed", f"I asked {whom} to stop at {asked}; {error}. Please stop the scan.")
        else:
            seconds = self._clock.monotonic_s() - begin_s
            self._report(order, "done", f"Stopped at frame {order.n_frames}: {outcome} after {seconds:.1f} s.")

    def _report(self, order: Order, state: StopState, sentence: str) -> None:
        if self._is_closed:  # the end that is seen now is our own
            return
        level = log.warning if state == "failed" else log.info
        level("stop", state=state, series=order.origin.series, frame=order.n_frames, said=sentence)
        time_ns, via = self._clock.time_ns(), self._actuator.via
        self._publish(StopReport(order.origin, time_ns, order.n_frames, via, state, sentence))


def _frame_time_s(event: SeriesEvent) -> float:
    """As the header says; 0 where it does not, or makes no sense."""
    seconds = event.header.get("frame_time")
    return float(seconds) if isinstance(seconds, int | float) and 0 < seconds < _LONGEST_FRAME_S else 0.0
