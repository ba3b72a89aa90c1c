"""The specification of kernels/small_image.cl, in plain numpy."""

import numpy as np
from numpy.typing import NDArray


def block_sums(
    total: NDArray[np.int64], lost: NDArray[np.uint32], used: NDArray[np.bool_], n_frames: int, step: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Of each block: sum of the used pixels, and over how many valid pixels of single frames.

    Parameters
    ----------
    total, lost, used
        Sum of each pixel, in how many of ``n_frames`` frames it was invalid, whether it is used; (rows, columns).
    step
        Side of a block; those at the end may be smaller.
    """
    sums = np.where(used, total, 0)
    valid = np.where(used, n_frames - lost.astype(np.int64), 0)
    firsts = [np.arange(0, size, step) for size in total.shape]
    blocks = [np.add.reduceat(np.add.reduceat(plane, firsts[0], 0), firsts[1], 1) for plane in (sums, valid)]
    return blocks[0], blocks[1].astype(np.uint64)
