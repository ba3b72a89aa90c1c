"""What the reduction needs to know, besides the geometry: the same live and offline."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ringwatch.config import StopConfig, WindowConfig
from ringwatch.messages import SeriesStart
from ringwatch_gpu.noise import PixelVariance
from ringwatch_gpu.rejection import NO_REJECTION, Rejection
from ringwatch_gpu.sums import ErrorModel
from ringwatch_gpu.validity import Validity


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
    has_mask
        Whether pixels are masked by a file, besides the detector's own gaps.
    samples
        Whether the source leaves frames out on purpose: then missing ones are no sign of a fault.
    decoder_threads
        How many frames are decoded at the same time.
    d_spacings_A
        Where the rings are; None looks for them in the profile of the summed image.
    stop
        When the rings are good enough; None only observes.
    scope
        What is added up: the frames of a series, of all series of a sample, or none.
    window
        Which of these frames.
    monitor_reference
        The monitor at which intensities are given; with it frames without a monitor are excluded.
    error_model
        Of the published profiles.
    rejection
        Which outlier-rejecting profiles are made of the summed image, with which error model.
    variance
        Variance of a pixel from its signal, for the mean profiles and as the noise of the statistics.
    keeps_frame_sums
        Whether the exact sums of each frame go with its row.
    each_frame
        Which one outlier-rejecting profile takes the place of the mean of each single frame; for recorded frames.
    save_s
        Time between two saved states; None saves none, as for recorded frames, which can be reduced again.
    versions
        Names and versions for the result files.
    """

    interval_s: float = 1.0
    decision_gap_s: float = 0.25
    dummies: tuple[int, ...] | None = None
    has_mask: bool = False
    samples: bool = False
    decoder_threads: int = 2
    d_spacings_A: NDArray[np.float64] | None = None  # noqa: N815 - the unit's own spelling
    stop: StopConfig | None = None
    scope: Literal["series", "sample", "frame"] = "series"
    window: WindowConfig = field(default_factory=WindowConfig)
    monitor_reference: float | None = None
    error_model: ErrorModel = "azimuthal"
    rejection: Rejection = NO_REJECTION
    variance: PixelVariance | None = None
    keeps_frame_sums: bool = False
    each_frame: Rejection = NO_REJECTION
    save_s: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def validity(self, dtype: np.dtype[np.generic], start: SeriesStart) -> Validity:
        """Which values count: by the configuration, else by the header of signed pixels, else by convention."""
        dummies = self.dummies
        if dummies is None and start.dummy is not None and dtype.kind == "i":
            dummies = (start.dummy,)
        return Validity.of(dtype, dummies, start.saturation)

    @property
    def tells_noise(self) -> bool:
        """Whether profiles have errors that the noise of the pixels makes."""
        return self.error_model != "azimuthal" or self.variance is not None

    @property
    def adds_up(self) -> bool:
        """Whether there are sums of frames."""
        return self.scope != "frame"

    @property
    def window_text(self) -> str:
        """What messages call the window."""
        return self.window.text if self.adds_up else "none"
