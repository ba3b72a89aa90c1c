"""The series that begin and end in, the number of images that the detector says it dropped out.

It is asked in a thread of its own, when a series begins and every two seconds while one runs: nobody waits for it.
"""

from threading import Condition, Thread

import structlog

from ringwatch.control.http import open_client
from ringwatch.control.simplon import ControlUnit
from ringwatch.errors import ControlError
from ringwatch.messages import Result, SeriesEvent

EVERY_S = 2.0
_TIMEOUT_S = 5.0

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class DroppedImages:
    """Watches the counter of one DECTRIS detector, which begins anew when it is armed.

    Parameters
    ----------
    url
        Of the control unit, as http://10.42.41.10.

    Attributes
    ----------
    number
        As of the last two seconds; None while it is not known.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self.number: int | None = None
        self._changed = Condition()
        self._is_running = self._is_new = self._is_closed = self._is_told = False
        self._thread = Thread(target=self._run, name="dropped", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Ask no more; a question that waits for its answer is not waited for."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def take(self, result: Result) -> None:
        """See one result of the reduction; never waits."""
        match result:
            case SeriesEvent(begins=True):
                self._set(is_running=True)
            case SeriesEvent(event="end" | "abandoned"):
                self._set(is_running=False)
            case _:
                pass

    def _set(self, *, is_running: bool) -> None:
        with self._changed:
            self._is_running = self._is_new = is_running
            self.number = None if is_running else self.number
            self._changed.notify_all()

    def _run(self) -> None:
        with open_client(self._url, _TIMEOUT_S) as client:
            unit = None
            while self._is_time():
                unit = unit or ControlUnit(client, self._url)  # which asks for the version, and says if there is none
                number = self._ask(unit)
                with self._changed:
                    if not self._is_new:  # else it may be the count of the series before
                        self.number = number

    def _is_time(self) -> bool:
        """Wait until it is to be asked; False when it is not any more."""
        with self._changed:
            if self._is_running:
                self._changed.wait_for(lambda: self._is_new or self._is_closed, EVERY_S)
            self._changed.wait_for(lambda: self._is_running or self._is_closed)
            self._is_new = False
            return not self._is_closed

    def _ask(self, unit: ControlUnit) -> int | None:
        try:
            number = unit.dropped()
        except ControlError as error:
            if not self._is_told:
                log.warning("the detector does not say how many images it dropped", reason=str(error))
            self._is_told = True
            return None
        self._is_told = False
        return number
