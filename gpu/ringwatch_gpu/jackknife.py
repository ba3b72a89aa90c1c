"""Parts that add up in, how well what follows from their sum is known out: the delete-one jackknife.

The parts are azimuthal sectors: a spot lies in one of them, so that they are independent where the photons of a spot
are not (Efron & Stein, Ann. Statist. 9 (1981) 586; how well the intervals cover: docs/stopping.md).
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import hadamard
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

    It is a smooth function of all values (Harrell & Davis, Biometrika 69 (1982) 635).
    """
    weights = np.empty(len(values))
    weights[np.argsort(values)] = _weights_by_rank(len(values), share)
    return weights


def quantile_replicates(values: Floats, replicates: Floats, share: float) -> Floats:
    """Replicates (parts,) of a quantile of positive values (n,), from those of the values (n, parts).

    One part moves a value by far less than its standard error. The ranks stay, and the quantile seems to hang on the
    few values in the middle; when all move by their whole errors they change places, and it moves less (Efron, The
    Jackknife, the Bootstrap and Other Resampling Plans (1982), 3.4). The replicates are scaled by that.
    """
    linear = quantile_weights(values, share) @ replicates
    error = standard_error(linear)
    if error == 0:
        return np.asarray(linear)
    centre = linear.mean()
    return np.asarray(centre + (linear - centre) * min(_moved_quantile(values, replicates, share) / error, 1.0))


def _moved_quantile(values: Floats, replicates: Floats, share: float) -> float:
    """Standard deviation of the quantile over balanced half-samples (McCarthy, Rev. Int. Stat. Inst. 37 (1969) 239).

    Estimates scatter more than what they estimate: they are drawn together first.
    """
    logs, moves = np.log(values), np.log(np.maximum(replicates, 1e-300))
    parts = moves.shape[1]
    moves = np.sqrt((parts - 1) / parts) * (moves - moves.mean(axis=1, keepdims=True))
    spread, own = logs.var(ddof=1) if len(logs) > 1 else 0.0, (moves**2).sum(axis=1).mean()
    centre = logs.mean() + np.sqrt(max(1 - own / spread, 0.0) if spread > 0 else 0.0) * (logs - logs.mean())
    signs = hadamard(2 ** math.ceil(math.log2(parts + 1)))[1 : parts + 1]
    moved = np.sort(np.exp(centre[:, np.newaxis] + moves @ signs), axis=0)
    return float((_weights_by_rank(len(values), share) @ moved).std())


def _weights_by_rank(n: int, share: float) -> Floats:
    return np.asarray(np.diff(betainc((n + 1) * share, (n + 1) * (1 - share), np.arange(n + 1) / n)))
