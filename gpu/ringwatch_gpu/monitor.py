"""A monitor's counts of each frame in, its exposure out: the integer f that the norms of its pixels are multiplied by.

The norm of a pixel in a frame is f g, with f = rint(2^20 I0 / reference): intensities are those at the reference, and
sums stay exact. Frames of different beams add up with the weights that photon noise asks for.
"""

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

QUANTUM = 2.0**-20
"""One unit of f, as a fraction of the reference."""
WORDS = 3
"""Words of a sum: f^2 has up to 64 bits."""
_LARGEST = (1 << 32) - 1


def exposure(i0: ArrayLike, reference: float) -> NDArray[np.uint64]:
    """The f of each frame; 0 where the monitor says nothing: NaN, not positive, above 4096 times the reference.

    Parameters
    ----------
    i0
        Monitor of each frame, NaN where there is none.
    reference
        The monitor at which f is 2^20.
    """
    counts = np.asarray(i0, np.float64)
    with np.errstate(over="ignore"):
        f = np.rint(np.where(np.isfinite(counts), counts, 0.0) / (reference * QUANTUM))
    return np.where((f > 0) & (f <= _LARGEST), f, 0.0).astype(np.uint64)


def digest(geometry_digest: str, reference: float) -> str:
    """Name of everything that must be equal for two weighed sums to be merged."""
    return hashlib.sha256(f"{geometry_digest} monitor {float(reference).hex()}".encode()).hexdigest()
