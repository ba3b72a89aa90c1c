"""Host arrays that a device can read: without a copy on a CPU, through one pinned copy on a GPU."""

import mmap

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from .errors import OutOfDeviceMemory


def page_aligned(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Zeroed array that starts on a page and fills whole pages.

    Intel's CPU runtime silently works on a stale copy of host memory that is not aligned to pages.
    """
    size = int(np.prod(shape)) * dtype.itemsize
    memory = mmap.mmap(-1, max(1, -(-size // mmap.PAGESIZE)) * mmap.PAGESIZE)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype, int(np.prod(shape))).reshape(shape)


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


class Slots:
    """The frames of a batch: ``array`` (batch, pixels) is written by the host, ``buffer`` read by the kernels."""

    def __init__(self, queue: cl.CommandQueue, batch: int, pixels: int, dtype: np.dtype[np.generic]) -> None:
        self._queue = queue
        flags = cl.mem_flags
        size = batch * pixels * dtype.itemsize
        self._shares_memory = bool(queue.device.type & cl.device_type.CPU)
        if self._shares_memory:
            self.array = page_aligned((batch, pixels), dtype)
            whole_pages = np.frombuffer(self.array.base.base, np.uint8)  # type: ignore[union-attr, call-overload]
            self.buffer = cl.Buffer(queue.context, flags.READ_ONLY | flags.USE_HOST_PTR, hostbuf=whole_pages)
        else:
            self.buffer = cl.Buffer(queue.context, flags.READ_ONLY, size)
            self._pinned = cl.Buffer(queue.context, flags.READ_WRITE | flags.ALLOC_HOST_PTR, size)
            access = cl.map_flags.READ | cl.map_flags.WRITE
            self.array, _ = cl.enqueue_map_buffer(queue, self._pinned, access, 0, (batch, pixels), dtype)

    def upload(self, n_frames: int) -> None:
        """Make the first ``n_frames`` frames visible to the kernels that are enqueued next."""
        if self._shares_memory:
            self._touch()
        else:
            cl.enqueue_copy(self._queue, self.buffer, self.array[:n_frames], is_blocking=False)

    def _touch(self) -> None:
        """Map and unmap: the formal hand-over of host memory to the device; free where memory is shared."""
        mapped, _ = cl.enqueue_map_buffer(
            self._queue, self.buffer, cl.map_flags.WRITE_INVALIDATE_REGION, 0, (1,), np.uint8, is_blocking=False
        )
        mapped.base.release(self._queue)
