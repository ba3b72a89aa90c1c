"""The vocabulary between the rooms: what a detector says, and what ringwatch answers. Plain data, no I/O.

A detector stream becomes SeriesStart, Frame..., SeriesEnd (v1 and v2 alike). The reduction turns them into results:
SeriesEvent, FrameRows, Snapshot, Profile, Decision, Status, SeriesResult. What stops the detector adds StopReport.
Shapes are (rows, columns).
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Scalar = str | int | float | bool | None
Codec = Literal["none", "lz4", "lz4hdf5", "bslz4"]
"""``lz4``: one bare LZ4 block (stream v1). ``lz4hdf5``: HDF5-LZ4 framing (stream v2). ``bslz4``: bitshuffle-LZ4."""

MAX_FRAME_ID = 1 << 48


# ----------------------------------------------------------------------------------------------- fates of a frame


@dataclass(slots=True)
class Fates:
    """What became of the frames of one series: every received frame ends in exactly one of the others.

    received = reduced + late + foreign + duplicate + malformed + skipped + excluded, once the series is closed; while
    it runs the difference is what waits in the queue. The receiver counts all but ``reduced`` and ``excluded``.
    ``missing`` is no fate: numbers below the largest one seen that never came.
    """

    received: int = 0
    reduced: int = 0
    late: int = 0
    foreign: int = 0
    duplicate: int = 0
    skipped: int = 0
    malformed: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    missing: int = 0

    def copy(self) -> "Fates":
        """Independent copy, safe to publish."""
        return Fates(
            self.received, self.reduced, self.late, self.foreign, self.duplicate, self.skipped,
            Counter(dict(self.malformed)), Counter(dict(self.excluded)), self.missing,
        )  # fmt: skip

    def __add__(self, other: "Fates") -> "Fates":
        return Fates(
            **{name: getattr(self, name) + getattr(other, name) for name in _NUMBERS},
            malformed=self.malformed + other.malformed,
            excluded=self.excluded + other.excluded,
        )

    def since(self, before: "Fates") -> "Fates":
        """What came after an earlier copy of the same counters."""
        return Fates(
            **{name: max(getattr(self, name) - getattr(before, name), 0) for name in _NUMBERS},
            malformed=self.malformed - before.malformed,
            excluded=self.excluded - before.excluded,
        )

    @property
    def settled(self) -> int:
        """How many frames have met their fate."""
        return (
            self.reduced + self.late + self.foreign + self.duplicate + self.skipped
            + self.malformed.total() + self.excluded.total()
        )  # fmt: skip

    def as_saved(self, missing: int) -> "Fates":
        """A copy without the frames that wait, and those that were skipped: after a crash all these are missing.

        Parameters
        ----------
        missing
            Numbers that met no fate below the largest one that did.
        """
        saved = self.copy()
        saved.skipped, saved.missing = 0, missing
        saved.received = saved.settled
        return saved


_NUMBERS = ("received", "reduced", "late", "foreign", "duplicate", "skipped", "missing")

# --------------------------------------------------------------------------------------------- from the detector


@dataclass(frozen=True, slots=True)
class SeriesStart:
    """A series begins. What the header did not say is None.

    Attributes
    ----------
    series
        The detector's series number.
    unique_id
        Unique name of the series: the detector's in v2, made by the daemon in v1.
    header
        The header's scalars under the detector's own names (bounded in number and size).
    shape, dtype
        Of the frames, where the header says so.
    frames_expected
        nimages x ntrigger.
    frame_time_s, energy_eV
        Period of the frames; photon energy.
    pixel_size_m
        (rows, columns).
    saturation
        Largest valid pixel value (saturation value or count-rate cutoff).
    pixel_mask
        True = ignore this pixel.
    flatfield, flatfield_applied
        What the detector's counts are to be multiplied by, and whether the frames are already corrected so.
    sample
        Sample name from the header's user data.
    joined
        The start was missed: this one was made from the first image that was seen.
    dummy
        Value of pixels without data, where the header says it: then negative values of a signed type count.
    problem
        Why its frames cannot be reduced, where the header says as much; else empty.
    fates
        Counters of this series, shared between receiver and reduction.
    resumed
        What was saved of it before a crash: the reduction goes on from there.
    """

    series: int
    unique_id: str = ""
    header: Mapping[str, Scalar] = field(default_factory=dict)
    shape: tuple[int, int] | None = None
    dtype: np.dtype[np.generic] | None = None
    frames_expected: int | None = None
    frame_time_s: float | None = None
    energy_eV: float | None = None  # noqa: N815 - the unit's own spelling
    pixel_size_m: tuple[float, float] | None = None
    saturation: int | None = None
    pixel_mask: NDArray[np.bool_] | None = None
    flatfield: NDArray[np.float32] | None = None
    flatfield_applied: bool | None = None
    sample: str | None = None
    joined: bool = False
    dummy: int | None = None
    problem: str = ""
    fates: Fates = field(default_factory=Fates)
    resumed: "SavedState | None" = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One detector image, still encoded.

    Attributes
    ----------
    series, unique_id
        The series it says it belongs to (``unique_id`` is empty in v1 until the series table fills it in).
    frame
        0-based number in the series, < 2^48.
    shape, dtype
        (rows, columns) and native numpy type of the decoded pixels.
    codec
        How ``data`` is encoded.
    data
        The encoded pixels; not yet checked beyond what the message says about them.
    received_s
        Monotonic time of arrival; 0 for recorded frames.
    big_endian
        The encoded samples are big-endian: they are swapped after decoding.
    i0
        The beam monitor's counts of this frame; NaN where there is none.
    """

    series: int
    frame: int
    shape: tuple[int, int]
    dtype: np.dtype[np.generic]
    codec: Codec
    data: bytes | memoryview
    unique_id: str = ""
    received_s: float = 0.0
    big_endian: bool = False
    i0: float = math.nan

    @property
    def size_bytes(self) -> int:
        """Bytes held while the frame waits."""
        return len(self.data)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the decoded pixels."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize


EndReason = Literal["end", "complete", "timeout", "abandoned", "shutdown"]
"""The detector's end message; all frames seen but no end; silence; a new start came first; the daemon stops."""


@dataclass(frozen=True, slots=True)
class SeriesEnd:
    """A series is over: no frame of it follows.

    ``missing`` are the numbers that never came, as intervals (first, last), at most 1000 of them.
    """

    series: int
    unique_id: str = ""
    reason: EndReason = "end"
    missing: tuple[tuple[int, int], ...] = ()


StreamMessage = SeriesStart | Frame | SeriesEnd


class Ongoing(NamedTuple):
    """The series that the detector is sending at this moment, whatever waits to be reduced; frames that have come."""

    unique_id: str
    received: int


# ------------------------------------------------------------------------------------------------------- results


@dataclass(frozen=True, slots=True)
class Origin:
    """What a result belongs to; part of every published message.

    ``digest`` names everything that must be equal for two results to be merged (decision 4).
    ``generation`` starts at 1 with each accumulation and grows at reset, resume, reload or restart, and with each block
    of a window. ``accumulation`` is the ``unique_id`` of the series with which the accumulation began, empty for this
    series itself.
    """

    series: int
    unique_id: str
    sample: str
    generation: int
    digest: str
    accumulation: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """Names the accumulation: results of equal keys belong to one."""
        return self.accumulation or self.unique_id, self.generation


@dataclass(frozen=True, slots=True)
class Setup:
    """With what a series is measured and reduced; None where it is not said.

    Attributes
    ----------
    energy_eV, poni_energy_eV
        Photon energy by the detector's header and by the PONI, which wins.
    poni_date
        When the PONI was made, as it says itself.
    masked_share
        Share of the detector's pixels that are not used.
    """

    energy_eV: float | None  # noqa: N815 - the unit's own spelling
    poni_energy_eV: float | None  # noqa: N815
    poni_date: str | None
    masked_share: float


SeriesEventKind = Literal["start", "joined", "resumed", "ready", "end", "abandoned"]


@dataclass(frozen=True, slots=True)
class SeriesEvent:
    """Topic ``series``: a series started, was joined late, is ready (kernels built), ended or was abandoned.

    It is resumed where its sums go on after a crash or a failure of the device, under the next generation.
    ``sums_shape`` is how many rows and words the sums of each bin have, as in `SeriesResult`.
    ``setup`` is None where there is no geometry to reduce it with.
    """

    origin: Origin
    time_ns: int
    event: SeriesEventKind
    reason: str
    header: Mapping[str, Scalar]
    radial: NDArray[np.float64]
    edges: NDArray[np.float64]
    unit: str
    exact: bool
    sums_shape: tuple[int, int] = (6, 2)
    setup: Setup | None = None

    @property
    def begins(self) -> bool:
        """Whether the results that follow are those of a series that was not known before, or goes on again."""
        return self.event in ("start", "joined", "resumed")


ProfileKind = Literal["mean", "sigma_clip", "quantile", "median_clip"]


@dataclass(frozen=True, slots=True)
class FrameProfiles:
    """Topic ``frame_profiles``: a profile of each of some frames, shape (frames, bins), float32.

    ``sums`` are their exact sums where those were asked for, uint64 of shape (frames, rows, bins, words), with rows and
    words as in `SeriesResult`: for files only.
    """

    kind: ProfileKind
    intensity: NDArray[np.float32]
    sem: NDArray[np.float32]
    sums: NDArray[np.uint64] | None = None


@dataclass(frozen=True, slots=True)
class FrameRows:
    """Topic ``frames``: one entry a frame, in the order they were reduced. Never dropped silently.

    ``spottiness_rings`` is NaN where no bin qualifies. ``total_signal`` is over all radial bins, in counts.
    ``monitor`` is what the norms of each frame were multiplied by, I0 / reference; None where there is no monitor.
    ``profiles`` are those of the same frames, published as a topic of their own.
    """

    origin: Origin
    time_ns: int
    frame: NDArray[np.int64]
    spottiness: NDArray[np.float64]
    spottiness_weighted: NDArray[np.float64]
    spottiness_rings: NDArray[np.float64]
    total_signal: NDArray[np.float64]
    masked_pixels: NDArray[np.int64]
    monitor: NDArray[np.float64] | None = None
    profiles: FrameProfiles | None = None


@dataclass(frozen=True, slots=True)
class Spottiness:
    """pyFAI's spottiness, plain and intensity-weighted, and ours over well-measured bins (decision 11).

    ``spottiness_class`` is smooth (< .05), mild (.05-.15) or strong (> .15), or None with ``class_reason``.
    """

    spottiness: float
    spottiness_weighted: float
    spottiness_rings: float | None
    spottiness_class: Literal["smooth", "mild", "strong"] | None = None
    class_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and how well it is known: ``low`` to ``high`` holds the truth with 90 %, half of the rest on each side.

    ``bound`` tells that only a limit is known: "lower" (at least ``value``) or "upper" (at most ``value``).
    """

    value: float
    low: float
    high: float
    bound: Literal["lower", "upper"] | None = None


Metric = Literal[
    "spottiness",
    "spottiness_weighted",
    "spottiness_rings",
    "excess",
    "ring_uncertainty",
    "relative_error",
    "spots",
    "counts",
]
"""What a stop can be decided on. The last two grow while frames are added, all others fall."""


@dataclass(frozen=True, slots=True)
class RingTable:
    """The rings and what is known of each, arrays of shape (rings,); NaN where nothing is known.

    Attributes
    ----------
    position
        On the radial axis, in its unit.
    d_spacing_A
        NaN where the radial axis does not tell it.
    first, last
        Radial bins of the ring, ``last`` exclusive.
    net_counts
        Counts above the background.
    uncertainty, uncertainty_low, uncertainty_high
        Relative standard deviation of the ring's intensity, from the scatter of its azimuthal sectors.
    spottiness
        Root mean square over the ring's bins of the relative standard error of the mean, photon noise included.
    spots, spots_bound
        Effective number of crystallites seen on the ring; True where it is a lower bound only.
    trend
        Relative standard deviation of the smooth azimuthal variation.
    """

    position: NDArray[np.float64]
    d_spacing_A: NDArray[np.float64]  # noqa: N815 - the unit's own spelling
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    net_counts: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    uncertainty_low: NDArray[np.float64]
    uncertainty_high: NDArray[np.float64]
    spottiness: NDArray[np.float64]
    spots: NDArray[np.float64]
    spots_bound: NDArray[np.bool_]
    trend: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the spots say after ``n_frames`` frames; None where it cannot be told yet.

    Attributes
    ----------
    measures
        Each metric that could be measured.
    independent_frames
        How many frames with new crystallites would be as even: ``n_frames`` if each frame shows new ones, 1 if all show
        the same.
    repeating_fraction
        Share of the grains' scatter that the first half of the frames has in common with the second.
    azimuthal_trend
        Relative standard deviation of the smooth azimuthal variation (texture, shadow, polarization, beam centre),
        median of the rings.
    photon_share
        Share of ``spottiness_rings`` squared that is photon noise.
    crystallites
        Effective number of crystallites seen on all rings together.
    bin_spottiness
        Relative standard error of the mean of each radial bin of the summed image, shape (bins,); NaN where a bin is
        not measured well enough.
    rings
        None where there are no rings.
    """

    n_frames: int
    measures: Mapping[Metric, Estimate]
    independent_frames: Estimate | None
    repeating_fraction: Estimate | None
    azimuthal_trend: Estimate | None
    photon_share: Estimate | None
    crystallites: Estimate | None
    bin_spottiness: NDArray[np.float64]
    rings: RingTable | None


@dataclass(frozen=True, slots=True)
class Accumulated:
    """Statistics of the summed image after ``n_frames`` frames; ``averaged`` is pyFAI's on the averaged image."""

    n_frames: int
    spottiness: Spottiness
    averaged: Spottiness
    statistics: Statistics


Reason = Literal[
    "too_early", "above_target", "confirming", "reached", "max_frames", "max_time", "static", "few_spots",
    "few_independent", "rings_above", "photons", "never", "eight_bit", "masked_zeros", "beam_loss", "frames_lost",
    "saturation", "energy", "drift", "not_measurable", "over",
]  # fmt: skip
"""Why a decision is what it is; the sentence says the same to a person."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """When the target will be reached.

    Attributes
    ----------
    frames, low, high
        Total number of frames, its 90 % interval; None = never, or not within sight.
    seconds, seconds_low, seconds_high
        From now on, at the present frame rate.
    p_never
        Probability that it is never reached.
    settles_at
        Where the metric settles, as far as one can tell.
    limit
        What keeps it up there: photon noise, grains that do not move, a smooth trend, the slope inside the bins, or
        simply the number of grains so far.
    """

    frames: float | None
    low: float | None
    high: float | None
    seconds: float | None
    seconds_low: float | None
    seconds_high: float | None
    p_never: float
    settles_at: Estimate | None
    limit: Literal["grains", "photons", "static", "trend", "slope"] | None


@dataclass(frozen=True, slots=True)
class Score:
    """For a series that went on: where the rule would have stopped, what it promised, and what came out in the end."""

    n_frames: int
    value: float
    final_value: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Topic ``decision``: whether to go on, at each evaluation.

    ``metric``, ``value``, ``low``, ``high``, ``target`` are those of the criterion that decides: of several that all
    must hold the one that is farthest from its target, of several of which any suffices the nearest. ``armed`` tells
    that the target was met at this evaluation and the next one may confirm it.
    """

    origin: Origin
    time_ns: int
    n_frames: int
    metric: Metric
    value: float | None
    low: float | None
    high: float | None
    target: float
    action: Literal["continue", "stop"]
    armed: bool
    reason_code: Reason
    sentence: str
    forecast: Forecast | None
    score: Score | None


StopState = Literal["asked", "step", "done", "failed", "dry_run"]


@dataclass(frozen=True, slots=True)
class StopReport:
    """Topic ``stop``: how the acquisition is being ended, step by step; ``via`` as in the configuration.

    ``state``: it was asked for, a step on the way, it has ended, it has not, or a dry run in which nobody is told.
    ``n_frames`` are those behind the decision.
    """

    origin: Origin
    time_ns: int
    n_frames: int
    via: str
    state: StopState
    sentence: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Topic ``snapshot``: all results at one moment, with the counts of frames behind them.

    ``window`` says of which frames the union is: "all", "last 100 frames", "every 2 s" (blocks, which also bound
    ``n_frames`` and the summed image), or "none" where frames are not added up and ``union`` is None.
    ``saturated_pixels`` is the mean number in a frame, None where the detector does not say what saturates;
    ``beam_down_since`` the time of day, None while there is beam.
    """

    origin: Origin
    time_ns: int
    n_frames: int
    union: Spottiness | None
    accumulated: Accumulated | None
    fates: Fates
    missing: int
    detector_dropped: int | None
    frames_expected: int | None
    window: str = "all"
    saturated_pixels: float | None = None
    beam_down_since: str | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """Topic ``profile``: one azimuthal profile with its sums, all of shape (bins,), pyFAI's names and meaning.

    ``window`` says of which frames, as in `Snapshot`. ``warning`` tells where the numbers mean little, and why.
    ``error_model`` says what ``variance`` is, and with it ``std`` and ``sem``.
    """

    origin: Origin
    time_ns: int
    kind: ProfileKind
    source: Literal["union", "accumulated"]
    window: str
    n_frames: int
    radial: NDArray[np.float64]
    intensity: NDArray[np.float64]
    std: NDArray[np.float64]
    sem: NDArray[np.float64]
    signal: NDArray[np.float64]
    variance: NDArray[np.float64]
    normalization: NDArray[np.float64]
    norm_sq: NDArray[np.float64]
    count: NDArray[np.float64]
    warning: str | None = None
    error_model: Literal["azimuthal", "poisson", "hybrid", "variance"] = "azimuthal"


@dataclass(frozen=True, slots=True)
class Status:
    """Topic ``status``: how the daemon itself is doing, every 2 s."""

    time_ns: int
    state: Literal["waiting", "measuring", "draining", "error"]
    reason: str
    fps: float
    lag_s: float
    backlog_bytes: int
    device: str
    totals: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SeriesResult:
    """Everything a file needs when an accumulation is over; not published over sockets.

    Attributes
    ----------
    sums
        uint64, shape (6, bins, 2): signal, signal squared, norm x signal, norm, norm squared, count as (high, low)
        words of a 128-bit two's complement integer; norms in units of ``norm_quantum``, signals of ``signal_quantum``.
        With a monitor, or where pixels are split, (6, bins, 3); of split pixels whose noise is told (7, bins, 3), the
        last one the signal times the squares of the shares. None where frames are not added up.
    image_sum, image_lost
        Pixel-wise sum of valid signals in units of ``signal_quantum`` and number of frames in which the pixel was
        invalid, shape (rows, columns).
    missing
        Intervals of frame numbers never received, (first, last), at most 1000; none where several series are added up.
    window
        Of which frames the sums are, as in `Snapshot`: "all", a block, or "none".
    monitor_reference
        The monitor at which intensities are given; None where there is no monitor.
    exposure, image_lost_exposure
        With a monitor: what all frames, and those in which a pixel was invalid, count for, in units of 2^-20.
    parts
        Of what is merged from several: their keys (`Origin.key`), as text.
    """

    origin: Origin
    time_ns: int
    reason: str
    header: Mapping[str, Scalar]
    n_frames: int
    radial: NDArray[np.float64]
    edges: NDArray[np.float64]
    unit: str
    exact: bool
    sums: NDArray[np.uint64] | None
    norm_quantum: float
    signal_quantum: float
    image_sum: NDArray[np.int64] | None
    image_lost: NDArray[np.uint32] | None
    fates: Fates
    missing: tuple[tuple[int, int], ...]
    poni: str
    versions: Mapping[str, str]
    window: str = "all"
    monitor_reference: float | None = None
    exposure: int | None = None
    image_lost_exposure: NDArray[np.uint64] | None = None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SavedState:
    """What survives a crash: an open accumulation as it was at one moment, and all that it needs to go on.

    Attributes
    ----------
    result
        Its sums; of no frames before the first.
    start
        The series that is being added, as its header said it, with its counters at that moment.
    frames
        Numbers of the frames of this series that met their fate, as intervals (first, last).
    n_frames
        How many of this series were reduced.
    dummies
        Pixel values that were found to mean "invalid".
    elapsed_s
        Time over which the frames of the accumulation came.
    is_running
        The series runs; otherwise others of the same sample may follow.
    """

    result: SeriesResult
    start: SeriesStart
    frames: tuple[tuple[int, int], ...]
    n_frames: int
    dummies: tuple[int | float, ...]
    elapsed_s: float
    is_running: bool

    def again(self) -> SeriesStart:
        """Its series, which goes on from here."""
        return replace(self.start, fates=self.start.fates.copy(), resumed=self)


@dataclass(frozen=True, slots=True)
class SmallImage:
    """The summed image after ``n_frames`` frames, small enough to be looked at; shown to who asks, not published.

    Attributes
    ----------
    counts
        Counts of a pixel, mean of each block of pixels, shape (rows, columns); NaN where none is valid.
    bins
        Radial bin in the middle of each block, shape (rows, columns); the number of bins where that is not used.
    """

    origin: Origin
    time_ns: int
    n_frames: int
    counts: NDArray[np.float32]
    bins: NDArray[np.uint16]


ForFiles = SeriesResult | SavedState
"""What is not published over sockets."""

Result = SeriesEvent | FrameRows | Snapshot | Profile | Decision | StopReport | Status | ForFiles
