"""Decisions and series events in, at most one stop order a series out, and a report of every step.

Orders are carried out in a thread of their own: the reduction never waits for a detector. A person may stop the running
series too, or hold it: then the rule's decisions no longer stop it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event, Lock, Thread

import structlog

from ringwatch.clock import Clock
from ringwatch.control.order import Actuator, Order
from ringwatch.errors import ControlError
from ringwatch.messages import Decision, Result, Scalar, SeriesEvent, Snapshot, StopReport, StopState

_JOIN_S = 0.2

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Series:
    event: SeriesEvent
    n_frames: int = 0
    is_ordered: bool = False
    is_held: bool = False
    is_over: Event = field(default_factory=Event)


class Stopper:
    """Stops the acquisition of the series that runs.

    Parameters
    ----------
    actuator
        How.
    publish
        Where reports go; must not wait.
    is_dry
        Report what would be done, and do nothing.
    """

    def __init__(
        self, actuator: Actuator, publish: Callable[[StopReport], None], clock: Clock, *, is_dry: bool = False
    ) -> None:
        self._actuator, self._publish, self._clock, self._is_dry = actuator, publish, clock, is_dry
        self._series: _Series | None = None
        self._lock = Lock()
        self._orders: SimpleQueue[Order | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Begin to carry out orders."""
        self._thread.start()

    def close(self) -> None:
        """Carry out no more; an order that is being carried out is not waited for."""
        if self._thread.ident is not None:
            self._orders.put(None)
            self._thread.join(_JOIN_S)

    def take(self, result: Result) -> None:
        """See one result of the reduction; never waits."""
        match result:
            case SeriesEvent(event="start" | "joined"):
                with self._lock:
                    self._series = _Series(result)
            case SeriesEvent(event="end" | "abandoned"):
                self._end(result)
            case Snapshot():
                self._count(result)
            case Decision(action="stop"):
                self._decided(result)
            case _:
                pass

    def stop_now(self) -> str:
        """Stop the running series because a person wants it; what happens, as a sentence.

        Raises
        ------
        ControlError
            There is nothing to stop, or it was ordered already.
        """
        with self._lock:
            series = self._running()
            if series.is_ordered:
                raise ControlError(f"series {series.event.origin.series} was told to stop already")
            series.is_ordered = True
            order = self._order(series, series.n_frames, "Stopped by hand.", {})
        self._orders.put(order)
        return f"Series {order.origin.series} is being stopped."

    def hold(self) -> str:
        """Let the running series go on whatever the rule says; raises ControlError if none runs."""
        with self._lock:
            series = self._running()
            series.is_held = True
        return f"Series {series.event.origin.series} is held: the rule will not stop it."

    def _running(self) -> _Series:
        if self._series is None or self._series.is_over.is_set():
            raise ControlError("no series is running")
        return self._series

    def _end(self, event: SeriesEvent) -> None:
        with self._lock:
            if self._series is not None and self._series.event.origin.unique_id == event.origin.unique_id:
                self._series.is_over.set()

    def _count(self, snapshot: Snapshot) -> None:
        with self._lock:
            if self._series is not None and self._series.event.origin.unique_id == snapshot.origin.unique_id:
                self._series.n_frames = snapshot.n_frames

    def _decided(self, decision: Decision) -> None:
        """The rule says stop: once for each series, while it runs, unless a person holds it."""
        with self._lock:
            series = self._series
            if series is None or series.is_over.is_set() or series.is_ordered:
                return
            if series.is_held or series.event.origin.unique_id != decision.origin.unique_id:
                return
            series.is_ordered = True
            order = self._order(series, decision.n_frames, decision.sentence, _facts(decision))
        self._orders.put(order)

    def _order(self, series: _Series, n_frames: int, sentence: str, facts: Mapping[str, Scalar]) -> Order:
        origin, frame_time_s = series.event.origin, series.event.header.get("frame_time")

        def tell(step: str) -> None:
            self._report(order, "step", step)

        known = frame_time_s if isinstance(frame_time_s, float) and 0 < frame_time_s < 1e6 else None
        order = Order(origin, n_frames, sentence, facts, known, series.is_over, tell)
        return order

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            if self._is_dry:
                self._report(order, "dry_run", "Dry run: the acquisition would be stopped now.")
            else:
                self._carry_out(order)

    def _carry_out(self, order: Order) -> None:
        asked = time.strftime("%H:%M:%S", time.localtime(self._clock.time_ns() / 1e9))
        self._report(order, "asked", f"Asked to stop at {asked}.")
        begin_s = self._clock.monotonic_s()
        try:
            outcome = self._actuator.stop(order)
        except ControlError as error:
            self._report(order, "failed", f"I asked for a stop at {asked}; {error}. Please stop the scan.")
        except Exception as error:  # the thread's edge: whatever an actuator does, the next order is carried out
            log.exception("stop failed", series=order.origin.series)
            what = f"{type(error).__name__}: {error}"
            self._report(order, "failed", f"I asked for a stop at {asked}; {what}. Please stop the scan.")
        else:
            seconds = self._clock.monotonic_s() - begin_s
            self._report(order, "done", f"Stopped at frame {order.n_frames}: {outcome} after {seconds:.1f} s.")

    def _report(self, order: Order, state: StopState, sentence: str) -> None:
        level = log.warning if state == "failed" else log.info
        level("stop", state=state, series=order.origin.series, frame=order.n_frames, said=sentence)
        time_ns, via = self._clock.time_ns(), self._actuator.via
        self._publish(StopReport(order.origin, time_ns, order.n_frames, via, state, sentence))


def _facts(decision: Decision) -> dict[str, Scalar]:
    names = ("metric", "value", "low", "high", "target", "reason_code")
    return {name: getattr(decision, name) for name in names}
