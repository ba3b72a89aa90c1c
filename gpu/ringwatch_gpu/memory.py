"""Host arrays that a device can read: without a copy on a CPU, through one pinned copy on a GPU."""

import mmap

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from .errors import OutOfDeviceMemory

_OVERHANG_BYTES = 32
"""Kernels read eight pixels at once, and may look at seven beyond the last frame."""


def page_aligned(size_bytes: int) -> NDArray[np.uint8]:
    """Zeroed bytes that start on a page and fill whole pages, on huge pages where the system has them.

    Intel's CPU runtime silently works on a stale copy of host memory that is not aligned to pages.
    """
    rounded = max(1, -(-size_bytes // mmap.PAGESIZE)) * mmap.PAGESIZE
    memory = mmap.mmap(-1, rounded, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared pages are never huge
    memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)


def check_memory(device: cl.Device, needed_bytes: int, largest_bytes: int) -> None:
    """Refuse before the first allocation what the device cannot hold.

    Raises
    ------
    OutOfDeviceMemory
        With what is needed and what there is.
    """
    if needed_bytes > device.global_mem_size:
        raise OutOfDeviceMemory(needed_bytes, device.global_mem_size)
    if largest_bytes > device.max_mem_alloc_size:
        raise OutOfDeviceMemory(largest_bytes, device.max_mem_alloc_size)


def read(queue: cl.CommandQueue, *pairs: tuple[NDArray[np.generic], cl.Buffer]) -> None:
    """Wait for the queue and copy buffers into host arrays.

    Only `finish` lets go of the interpreter's lock while it waits: a blocking copy would stop the receiver for as long
    as the kernels run.
    """
    for host, device in pairs:
        cl.enqueue_copy(queue, host, device, is_blocking=False)
    queue.finish()


class Slots:
    """The frames of a batch: ``array`` (batch, pixels) is written by the host, ``buffer`` read by the kernels."""

    def __init__(self, queue: cl.CommandQueue, batch: int, pixels: int, dtype: np.dtype[np.generic]) -> None:
        self._queue = queue
        flags = cl.mem_flags
        size = batch * pixels * dtype.itemsize
        self._shares_memory = bool(queue.device.type & cl.device_type.CPU)
        if self._shares_memory:
            memory = page_aligned(size + _OVERHANG_BYTES)
            self.buffer = cl.Buffer(queue.context, flags.READ_ONLY | flags.USE_HOST_PTR, hostbuf=memory)
        else:
            self.buffer = cl.Buffer(queue.context, flags.READ_ONLY, size + _OVERHANG_BYTES)
            self._pinned = cl.Buffer(queue.context, flags.READ_WRITE | flags.ALLOC_HOST_PTR, size)
            memory = self._map(self._pinned, size)
        self.array: NDArray[np.generic] = memory[:size].view(dtype).reshape(batch, pixels)

    def upload(self, n_frames: int) -> None:
        """Make the first ``n_frames`` frames visible to the kernels that are enqueued next."""
        if self._shares_memory:
            # Mapping and unmapping is the formal hand-over of host memory; it copies nothing where memory is shared.
            self._map(self.buffer, 1).base.release(self._queue)  # type: ignore[union-attr]
        else:
            cl.enqueue_copy(self._queue, self.buffer, self.array[:n_frames], is_blocking=False)

    def _map(self, buffer: cl.Buffer, size: int) -> NDArray[np.uint8]:
        access = cl.map_flags.WRITE_INVALIDATE_REGION if self._shares_memory else cl.map_flags.WRITE
        array: NDArray[np.uint8]
        array, _ = cl.enqueue_map_buffer(self._queue, buffer, access, 0, (size,), np.dtype(np.uint8))
        return array
