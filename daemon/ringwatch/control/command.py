"""A stop order in, a program of the beamline's own started: it gets the order as JSON on its standard input."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence

from ringwatch.control.order import Order
from ringwatch.control.webhook import as_json
from ringwatch.errors import ControlError

_TOLD_CHARACTERS = 300


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

    def stop(self, order: Order) -> str:
        """Run it once; exit code 0 counts as obeyed.

        Raises
        ------
        ControlError
            It cannot be started, fails, or takes too long; with the end of what it wrote on standard error.
        """
        environment = {"RINGWATCH_SERIES": str(order.origin.series), "RINGWATCH_FRAMES": str(order.n_frames)}
        name = self._arguments[0]
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(  # noqa: S603 - the configuration's own command, no shell
                    self._arguments,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env=os.environ | environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise ControlError(f"{name} could not be started: {error.strerror}") from error
            self._finish(process, as_json(order).encode())
            if process.returncode != 0:
                raise ControlError(f"{name} ended with {process.returncode}{_last_words(errors.fileno())}")
        return f"{name} ended with 0"

    def _finish(self, process: "subprocess.Popen[bytes]", order: bytes) -> None:
        try:
            process.communicate(order, self._timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise ControlError(f"{self._arguments[0]} took more than {self._timeout_s:g} s") from None


def _last_words(file: int) -> str:
    size_bytes = os.fstat(file).st_size
    text = os.pread(file, _TOLD_CHARACTERS, max(0, size_bytes - _TOLD_CHARACTERS)).decode(errors="replace").strip()
    return f": {text}" if text else ""
