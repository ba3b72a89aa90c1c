"""A reduction in, the thread that runs it out, until there is nothing more to come or it dies."""

from collections.abc import Callable
from threading import Thread

import pyopencl as cl

from ringwatch.reduction.pipeline import Reduction
from ringwatch_gpu.errors import DeviceError


class ReductionThread:
    """Runs a reduction until there is nothing more to come; its death is told to the owner, who decides.

    Parameters
    ----------
    finished
        Whether the source of messages is closed and empty.
    on_death
        Called in the thread if it dies of an error, which is then in ``error``.

    Attributes
    ----------
    turns
        Number of turns made: it grows at least every 0.1 s while all is well.
    """

    def __init__(self, reduction: Reduction, finished: Callable[[], bool], on_death: Callable[[], None]) -> None:
        self._reduction, self._finished, self._on_death = reduction, finished, on_death
        self.error: Exception | None = None
        self.turns = 0
        self._thread = Thread(target=self._run, name="reduction", daemon=True)

    def start(self) -> None:
        """Begin to reduce."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait until the thread has ended, if it was started."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while not self._finished():
                self._reduction.step()
                self.turns += 1
            self._reduction.conclude("shutdown")
        except cl.Error as error:
            self.error = DeviceError(f"the OpenCL device failed: {error}")
        except Exception as error:  # the thread's edge: the main thread decides
            self.error = error
        finally:
            self._reduction.close()
            if self.error is not None:
                self._on_death()
