"""The variance at some numbers of frames in, the number of frames at which it meets its goal out, with an interval.

Grains contribute E g(N) with g(N) = p + (1 - p) h(N): a share p never moves, the rest is replaced with a correlation
time tau, h(N) = (1 + q) / (N (1 - q)) - 2 q (1 - q^N) / (N (1 - q))^2, q = exp(-1 / tau) (variance of the mean of an
autoregressive series). Photon noise adds a part that is known and falls as 1/N. All (tau, p) of a grid are fitted to
the logarithms of the variances with their covariances (generalised least squares), and weighted by their likelihood.
A fit of a + b/N instead says "never" about every sample whose grains stay for some frames.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_TIMES = 24
_STATIC = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
_CORRELATION = 0.9
_ACCEPTED = 4.0
_EARLIER, _LATER = 1.2, 1.35
"""The interval is widened, more so towards later: a sample's brightest spots are mostly still to come."""

_MIN_ERROR = 0.01
_NOTHING_KNOWN = 100.0
"""Errors of a logarithm beyond this one say no more, and overflow."""

_FARTHEST = 1e4
"""Forecasts beyond so many times the frames so far are "not within sight"."""

_MAX_CHECKPOINTS = 48
_NEWTON_STEPS = 4


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A variance at some number of frames: all of it, its photon part, and with one azimuthal sector left out."""

    n_frames: int
    variance: float
    photons: float
    replicates: Floats


@dataclass(frozen=True, slots=True)
class Outlook:
    """When the goal is met.

    Attributes
    ----------
    frames, low, high
        Total number of frames, its 90 % interval; None: never, or not within sight.
    p_never
        Weight of the models that never meet it.
    single
        Grains' part of the variance of one frame.
    settles, settles_low, settles_high
        Variance after infinitely many frames.
    """

    frames: float | None
    low: float | None
    high: float | None
    p_never: float
    single: float
    settles: float
    settles_low: float
    settles_high: float


class History:
    """Checkpoints of one metric in one accumulation, at most 48: of more, the old ones are thinned out."""

    def __init__(self) -> None:
        self._points: deque[Checkpoint] = deque()

    def add(self, point: Checkpoint) -> None:
        """Take a checkpoint; numbers of frames grow."""
        self._points.append(point)
        if len(self._points) > _MAX_CHECKPOINTS:
            kept = list(self._points)
            half = len(kept) // 2
            self._points = deque(kept[:half:2] + kept[half:])

    def outlook(self, target: float) -> Outlook | None:
        """When the variance meets ``target``; None before the second checkpoint."""
        return outlook(self._points, target) if len(self._points) > 1 else None


def outlook(points: Sequence[Checkpoint], target: float) -> Outlook:
    """When the variance meets ``target``.

    Parameters
    ----------
    points
        At least two, numbers of frames grow.
    """
    frames = np.array([point.n_frames for point in points], np.float64)
    values = np.array([point.variance for point in points])
    photons = np.array([point.photons for point in points])
    tau, static = (part.ravel() for part in np.meshgrid(_times(frames[-1]), _STATIC, indexing="ij"))
    shapes = grain_share(frames, tau[:, np.newaxis], static[:, np.newaxis])
    strength, error, chi_sq = _fit(shapes, values, photons, _precision(points))
    photon_level = photons[-1] * frames[-1]
    slack = np.minimum(error * np.sqrt(np.maximum(chi_sq.min() + _ACCEPTED - chi_sq, 0.0)), _NOTHING_KNOWN)
    reached, early, late = (
        _solve(target, strength * np.exp(sign * slack), tau, static, photon_level, frames[-1]) for sign in (0, -1, 1)
    )
    weight = np.exp(-(chi_sq - chi_sq.min()) / 2)
    weight /= weight.sum()
    near = chi_sq < chi_sq.min() + _ACCEPTED
    settles = strength * static
    best = int(np.argmin(chi_sq))
    middle = _weighted_median(reached, weight)
    return Outlook(
        frames=_finite(middle),
        low=_finite(early[near].min() / _EARLIER),
        high=_finite(late[near].max() * _LATER),
        p_never=float(weight[settles >= target].sum()),
        single=float(strength[best]),
        settles=float(_weighted_median(settles, weight)),
        settles_low=float(settles[near].min()),
        settles_high=float(settles[near].max()),
    )


def grain_share(frames: Floats, tau: Floats, static: Floats) -> Floats:
    """g(N): share of a single frame's relative variance that is left in the sum of N frames (1/N if all differ)."""
    rate = np.where(tau > 0, 1 / np.where(tau > 0, tau, 1.0), 1e3)
    change = -np.expm1(-rate)  # 1 - q, of which nothing may cancel where grains stay for very many frames
    q, effective = 1 - change, frames * change
    moving = (1 + q) / effective + 2 * q * np.expm1(-rate * frames) / effective**2
    return np.asarray(static + (1 - static) * moving)


def _times(frames: float) -> Floats:
    """Correlation times that the data can tell apart: none, and up to four times the measurement."""
    return np.append(0.0, np.geomspace(0.4, 4 * frames, _TIMES))


def _precision(points: Sequence[Checkpoint]) -> Floats:
    """Inverse covariance of the logarithms, from the jackknife; correlations are shrunk, so that there is one."""
    logs = np.log(np.maximum([point.replicates for point in points], 1e-300))
    deviation = logs - logs.mean(axis=1, keepdims=True)
    n = logs.shape[1]
    covariance = (n - 1) / n * deviation @ deviation.T
    error = np.sqrt(np.diag(covariance))
    wide = np.maximum(error, _MIN_ERROR)
    covariance *= _CORRELATION * np.outer(wide / np.maximum(error, 1e-12), wide / np.maximum(error, 1e-12))
    np.fill_diagonal(covariance, wide**2)
    return np.asarray(np.linalg.inv(covariance))


def _fit(shapes: Floats, values: Floats, photons: Floats, precision: Floats) -> tuple[Floats, Floats, Floats]:
    """Strength E of each model (models,), the standard error of its logarithm, and chi squared.

    ``shapes`` are g(N), shape (models, checkpoints).
    """
    logs = np.log(values)
    grains = np.maximum(values - photons, 0.05 * values)
    start = np.exp((np.log(grains) - np.log(shapes)).mean(axis=1))
    log_strength = np.log(start)
    for _ in range(_NEWTON_STEPS):
        model = np.exp(log_strength)[:, np.newaxis] * shapes
        slope = model / (model + photons)
        residual = logs - np.log(model + photons)
        weighted = slope @ precision
        information = np.maximum((weighted * slope).sum(axis=1), 1e-300)
        step = (weighted * residual).sum(axis=1) / information
        log_strength = log_strength + np.clip(step, -1.0, 1.0)
    residual = logs - np.log(np.exp(log_strength)[:, np.newaxis] * shapes + photons)
    chi_sq = ((residual @ precision) * residual).sum(axis=1)
    return np.exp(log_strength), 1 / np.sqrt(information), np.asarray(chi_sq)


def _solve(target: float, strength: Floats, tau: Floats, static: Floats, photons: float, frames: float) -> Floats:
    """Number of frames at which each model meets the target, infinite if never; by bisection in log N."""
    low, high = np.zeros(strength.size), np.full(strength.size, np.log(_FARTHEST * frames))

    def left(log_frames: Floats) -> Floats:
        n = np.exp(log_frames)
        return np.asarray(strength * grain_share(n, tau, static) + photons / n - target)

    never = left(high) > 0
    for _ in range(40):
        middle = (low + high) / 2
        above = left(middle) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(never, np.inf, np.exp(high))


def _weighted_median(values: Floats, weight: Floats) -> float:
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weight[order]), 0.5 * weight.sum())])


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
