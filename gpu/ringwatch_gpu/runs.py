"""A label for each pixel in, runs out: stretches of pixels that follow each other and share a label."""

import numpy as np
from numpy.typing import NDArray


def run_bounds(labels: NDArray[np.unsignedinteger], longest: int) -> NDArray[np.uint32]:
    """First pixel of each run, and the end of the last one, shape (runs + 1,), for labels of shape (pixels,).

    A run also ends at every multiple of ``longest``, so that none is longer.
    """
    ends = labels[1:] != labels[:-1]
    ends[longest - 1 :: longest] = True
    return np.concatenate([[0], np.flatnonzero(ends) + 1, [labels.size]]).astype(np.uint32)
