"""A stop order in, a program of the beamline's own started: it gets the order as JSON on its standard input."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence

from ringwatch.control.order import Order
from ringwatch.errors import ControlError

_TOLD_BYTES = 300


class Command:
    """Starts a program without a shell; RINGWATCH_SERIES and RINGWATCH_FRAMES are in its environment.

    Parameters
    ----------
    arguments
        Program and arguments.
    timeout_s
        After so long it is killed, with all that it started.
    """

    via = "command"

    def __init__(self, arguments: Sequence[str], timeout_s: float) -> None:
        self._arguments, self._timeout_s = list(arguments), timeout_s
        self.whom = os.path.basename(arguments[0])  # noqa: PTH119 - a name, maybe without a folder

    def deliver(self, order: Order) -> str:
        """Run it once; exit code 0 counts as told. See `Messenger`."""
        with tempfile.TemporaryFile() as errors:
            code = self._run(order, errors.fileno())
            if code != 0:
                end = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
                raise ControlError(f"it {end}{_last_words(errors.fileno())}")
        return f"{self.whom} ended with 0."

    def _run(self, order: Order, errors: int) -> int:
        environment = {"RINGWATCH_SERIES": str(order.origin.series), "RINGWATCH_FRAMES": str(order.n_frames)}
        try:
            process = subprocess.Popen(  # noqa: S603 - the configuration's own command, no shell # nosec B603
                self._arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=os.environ | environment,
                start_new_session=True,
            )
        except OSError as error:
            raise ControlError(f"it could not be started: {error.strerror}") from error
        with process:
            try:
                process.communicate(order.as_json().encode(), self._timeout_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise ControlError(f"it took more than {self._timeout_s:g} s and was killed") from None
        return process.returncode


def _last_words(file: int) -> str:
    """The end of what was written on standard error, without what could steer a terminal."""
    size_bytes = os.fstat(file).st_size
    text = os.pread(file, _TOLD_BYTES, max(0, size_bytes - _TOLD_BYTES)).decode(errors="replace")
    words = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return f": {words}" if words else ""
