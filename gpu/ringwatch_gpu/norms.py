"""Float normalizations in, integers and their unit out; how far the rounding moved them."""

import math

import numpy as np
from numpy.typing import NDArray

LARGEST_NORM_ERROR = 2e-8
"""How far rounding may move a normalization before it matters."""


def norm_quantum(largest: float) -> float:
    """Unit of the integer normalizations: 2^-30, or the power of two that brings a largest value > 2 below 2^31."""
    return 2.0 ** (math.ceil(math.log2(max(2.0, largest))) - 31)


def quantised(norm: NDArray[np.float64]) -> tuple[NDArray[np.uint32], float]:
    """Integer normalizations and their unit."""
    quantum = norm_quantum(float(norm.max()))
    return np.rint(norm / quantum).astype(np.uint32), quantum


def rounding_error(norm: NDArray[np.float64], norm_q: NDArray[np.uint32], quantum: float) -> float:
    """Largest relative error of integer normalizations, of which none is 0."""
    return float(np.abs(norm_q * quantum / norm - 1).max())
