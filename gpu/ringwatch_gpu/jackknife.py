"""Parts that add up in, how well what follows from their sum is known out: the delete-one jackknife.

The parts are azimuthal sectors: a spot lies in one of them, so that they are independent where the photons of a spot
are not (Efron & Stein, Ann. Statist. 9 (1981) 586; how well the intervals cover: docs/stopping.md).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

Floats = NDArray[np.float64]


def without_one(parts: Floats) -> Floats:
    """Sums of all parts but one: the last axis runs over the parts, then over the one that is left out."""
    return np.asarray(parts.sum(axis=-1, keepdims=True) - parts)


def standard_error(replicates: Floats) -> Floats:
    """Standard error of a statistic from its values with one part left out, which run along the last axis."""
    n = replicates.shape[-1]
    squares = (replicates - replicates.mean(axis=-1, keepdims=True)) ** 2
    return np.asarray(np.sqrt((n - 1) / n * squares.sum(axis=-1)))


def quantile_weights(values: Floats, share: float) -> Floats:
    """Weights that give a quantile of values (n,) as their weighted mean.

    It is a smooth function of all values (Harrell & Davis, Biometrika 69 (1982) 635). Replicates are weighted like the
    values they belong to: where the ranks change from replicate to replicate, the jackknife exaggerates.
    """
    n = len(values)
    steps = betainc((n + 1) * share, (n + 1) * (1 - share), np.arange(n + 1) / n)
    weights = np.empty(n)
    weights[np.argsort(values)] = np.diff(steps)
    return weights
