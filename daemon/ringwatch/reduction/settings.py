"""What the reduction needs to know, besides the geometry: the same live and offline."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ringwatch.config import StopConfig
from ringwatch_gpu.rejection import NO_REJECTION, Rejection


@dataclass(frozen=True, slots=True)
class ReductionSettings:
    """Settings of the reduction.

    Attributes
    ----------
    interval_s
        Time between two evaluations of the summed image.
    decision_gap_s
        Least time between two evaluations where a decision is due, so that frames are reduced meanwhile; 0 for recorded
        frames, which can wait.
    dummies
        Pixel values that mean "invalid"; None finds them by the detectors' conventions.
    decoder_threads
        How many frames are decoded at the same time.
    d_spacings_A
        Where the rings are; None looks for them in the profile of the summed image.
    stop
        When the rings are good enough; None only observes.
    rejection
        Which outlier-rejecting profiles are made of the summed image.
    versions
        Names and versions for the result files.
    """

    interval_s: float = 1.0
    decision_gap_s: float = 0.25
    dummies: tuple[int, ...] | None = None
    decoder_threads: int = 2
    d_spacings_A: NDArray[np.float64] | None = None  # noqa: N815 - the unit's own spelling
    stop: StopConfig | None = None
    rejection: Rejection = NO_REJECTION
    versions: Mapping[str, str] = field(default_factory=dict)
