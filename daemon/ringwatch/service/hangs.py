"""Devices on which the reduction hung in, the device to take out.

Who hangs in a driver can only be left, with its process; so what happened is written where the next process finds it.
"""

import re
from pathlib import Path

import pyopencl as cl
import structlog

from ringwatch.clock import Clock
from ringwatch.config import DeviceConfig
from ringwatch_gpu import devices
from ringwatch_gpu.devices import name_of
from ringwatch_gpu.geometry_cache import default_folder

REMEMBERED_NS = 3600 * 10**9
ENOUGH = 2
"""So many times in an hour, and another device has its turn."""
_KEPT = 16

log = structlog.get_logger(__name__)


def remember(device: cl.Device, clock: Clock) -> None:
    """It hung."""
    try:
        _path().parent.mkdir(parents=True, exist_ok=True)
        lines = [*_written(), f"{clock.time_ns()} {name_of(device)}"]
        _path().write_text("\n".join(lines) + "\n")
    except OSError as error:
        log.warning("it will not be remembered which device hung", problem=str(error))


def device_to_use(section: DeviceConfig, clock: Clock) -> cl.Device:
    """The configured device; where it hung again and again, a CPU device in its place.

    Raises
    ------
    NoDevice
        There is none.
    """
    device = devices.choose(section.platform, section.type)
    spare = devices.spare(device) if _hangs(device, clock) >= ENOUGH else None
    if spare is None:
        return device
    log.warning("the OpenCL device hung again and again", device=name_of(device), goes_on_with=name_of(spare))
    return spare


def _hangs(device: cl.Device, clock: Clock) -> int:
    """How often it did in the last hour."""
    since_ns, of_device = clock.time_ns() - REMEMBERED_NS, re.compile(rf"(\d{{1,20}}) {re.escape(name_of(device))}")
    told = filter(None, map(of_device.fullmatch, _written()))
    return sum(int(line[1]) > since_ns for line in told)


def _path() -> Path:
    return default_folder() / "hung"


def _written() -> list[str]:
    """The last lines; none where nobody can read them."""
    try:
        return _path().read_text(errors="replace").splitlines()[-_KEPT:]
    except OSError:
        return []
