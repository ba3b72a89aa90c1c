"""What kernel tests need besides a device."""

from collections.abc import Iterator

import pyopencl as cl
import pytest

from ringwatch_gpu.programs import context_of


@pytest.fixture(scope="module")
def queue(device: cl.Device) -> Iterator[cl.CommandQueue]:
    """A command queue on the device."""
    with cl.CommandQueue(context_of(device)) as queue:
        yield queue
        queue.finish()
