"""Every kernel test runs on every usable OpenCL device of the machine."""

from collections.abc import Iterator

import pyopencl as cl
import pytest

from ringwatch_gpu import devices

USABLE = [info for info in devices.list_devices() if info.usable]


def _short_name(info: devices.DeviceInfo | None) -> str:
    if info is None:
        return "no-device"
    platform = info.platform.replace("Portable Computing Language", "PoCL").replace("(R)", "")
    return f"{platform.split()[0].lower()}-{info.kind}"


@pytest.fixture(scope="session", params=USABLE or [None], ids=_short_name)
def device(request: pytest.FixtureRequest) -> cl.Device:
    """Each usable OpenCL device in turn."""
    if request.param is None:
        pytest.skip(f"no usable OpenCL device. {devices.advice()}")
    return request.param.device


@pytest.fixture(scope="module")
def queue(device: cl.Device) -> Iterator[cl.CommandQueue]:
    """A command queue on the device."""
    with cl.CommandQueue(cl.Context([device])) as queue:
        yield queue
        queue.finish()
