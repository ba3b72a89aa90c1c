"""What a decision rests on: each metric with its uncertainty, what is known of the sample, and of the measurement."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ringwatch.config import GROWING_METRICS
from ringwatch.messages import Estimate, Metric, Origin, Statistics

NORMAL_95 = 1.6448536
"""95 % quantile of the normal distribution: the published interval ends there."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One metric, as a relative variance: that falls as 1 / (number of independent frames) whatever the metric.

    A falling metric is the root of its variance, ``spots`` and ``counts`` are the inverse of theirs.

    Attributes
    ----------
    estimate
        What is published.
    variance
        All of it.
    photons
        Its part that photon noise explains.
    left_out
        Photon noise that is not in it, since the metric takes it off: the excess.
    trend, slope
        Its parts that the smooth azimuthal variation and the slope of the profile inside the bins explain: they stay
        however many frames are added.
    replicates
        ``variance`` with one azimuthal sector left out; None where the metric is a plain number, known exactly.
    """

    estimate: Estimate
    variance: float
    photons: float = 0.0
    trend: float = 0.0
    slope: float = 0.0
    replicates: NDArray[np.float64] | None = None
    left_out: float = 0.0

    @property
    def log_error(self) -> float:
        """Standard error of the logarithm of the metric; infinite where its interval contains zero."""
        estimate = self.estimate
        if not 0 < estimate.low <= estimate.high < math.inf:
            return math.inf
        return math.log(estimate.high / estimate.low) / (2 * NORMAL_95)


def variance_at(metric: Metric, target: float) -> float:
    """The relative variance at which a metric reaches its target."""
    return 1 / target if metric in GROWING_METRICS else target**2


@dataclass(frozen=True, slots=True)
class Conditions:
    """What may forbid to trust the numbers.

    Attributes
    ----------
    pixel_bits
        Of the frames.
    mismatch
        A sentence where header and PONI differ, else empty.
    masked_zeros
        Pixels that the detector masks come as zeros, and nobody says which.
    lost_share
        Missing, skipped and malformed frames over all that should have come.
    saturated_pixels
        Pixels a frame, on average, above the value where the detector says that they saturate.
    beam_down_since
        Time of day since which the frames are dark, as text; None while there is beam.
    drift_since
        Frame since which the pattern is changing; None while it is not.
    """

    pixel_bits: int = 32
    mismatch: str = ""
    masked_zeros: bool = False
    lost_share: float = 0.0
    saturated_pixels: float = 0.0
    beam_down_since: str | None = None
    drift_since: int | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that is known after ``n_frames`` frames.

    ``elapsed_s`` is the time between the arrivals of the first and the latest of them; None for recorded frames, whose
    times nobody knows: limits in seconds do not apply to them.
    """

    origin: Origin
    time_ns: int
    n_frames: int
    elapsed_s: float | None
    measurements: Mapping[Metric, Measurement]
    statistics: Statistics
    conditions: Conditions = field(default_factory=Conditions)

    @property
    def frames_per_s(self) -> float | None:
        """Frame rate so far."""
        return self.n_frames / self.elapsed_s if self.elapsed_s else None
