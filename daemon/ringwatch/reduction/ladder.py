"""Failures of a device in, the device to go on with out: the same once more, then another one, then none."""

import pyopencl as cl
import structlog

from ringwatch.clock import Clock
from ringwatch_gpu import devices, programs
from ringwatch_gpu.devices import name_of
from ringwatch_gpu.errors import DeviceError

DEVICE_ERRORS = (cl.Error, DeviceError)
FORGIVEN_S = 600.0
"""A failure after so long is again the first one."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class DeviceLadder:
    """The device that computes.

    Parameters
    ----------
    device
        The one to begin with.

    Attributes
    ----------
    device
        The one that computes now.
    """

    def __init__(self, device: cl.Device, clock: Clock) -> None:
        self.device, self._clock = device, clock
        self._failed_s = -FORGIVEN_S

    def step_down(self, error: Exception) -> None:
        """After a failure: ``device`` is the one to go on with, without anything that was made on the failed one.

        Raises
        ------
        DeviceError
            It failed twice, and there is no other.
        """
        failed, now_s = self.device, self._clock.monotonic_s()
        if now_s - self._failed_s < FORGIVEN_S:
            self._take_spare(error)
        self._failed_s = now_s
        programs.forget()
        _log.warning(
            "the OpenCL device failed",
            device=name_of(failed),
            error=_said(error),
            goes_on_with=name_of(self.device),
        )

    def _take_spare(self, error: Exception) -> None:
        spare = devices.spare(self.device)
        if spare is None or _is_cpu(self.device):
            raise DeviceError(f"the OpenCL device {name_of(self.device)} failed twice: {_said(error)}") from error
        self.device = spare


def _is_cpu(device: cl.Device) -> bool:
    return bool(device.type & cl.device_type.CPU)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
