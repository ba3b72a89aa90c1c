"""The types of [rings] and [stop]: where the rings are, and when they are smooth enough.

As in `ringwatch.config.model`, the texts under the keys are the documentation.
"""

from collections import Counter
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from ringwatch.config.section import Section
from ringwatch.config.values import Calibrant, HttpUrl
from ringwatch.messages import Metric

GROWING_METRICS: frozenset[Metric] = frozenset({"spots", "counts"})
"""Their target is reached from below; that of all others, which are fractions, from above."""

MAX_FRAMES = 10**9
MAX_TIME_S = 1e6
MAX_RINGS = 63
RINGS_FRACTION = 0.8

Spacing = Annotated[float, Field(gt=0)]
Target = Annotated[float, Field(gt=0)]
Argument = Annotated[str, Field(min_length=1, max_length=4096)]


class RingsConfig(Section):
    """Where the rings are. Without a key they are looked for in the profile of the summed image."""

    calibrant: Calibrant | None = Field(default=None, examples=["CeO2"])
    """The sample, where it is a calibrant: its name in pyFAI (letters, digits and _ only), or a file of d-spacings as
    pyFAI reads it."""

    d_spacings_A: Annotated[tuple[Spacing, ...], Field(strict=False, min_length=1, max_length=MAX_RINGS)] | None = (  # noqa: N815 - the unit's own spelling
        Field(default=None, examples=[[3.1244, 2.7058, 1.9133, 1.6317]])
    )
    """The d-spacings of the rings in Angstrom, in any order, instead of a calibrant."""

    @field_validator("d_spacings_A")
    @classmethod
    def _once(cls, spacings: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        if spacings is not None:
            _refuse_repetition(spacings)
            if info.data.get("calibrant") is not None:
                raise ValueError("calibrant says where the rings are, too; leave out one of the two")
        return spacings


_NEEDED_KEY = {"http": "url", "simplon": "url", "command": "command", "epics": "pv"}


class StopConfig(Section):
    """When it is enough, and what to do then. Without this section ringwatch only observes."""

    metric: Metric | Annotated[tuple[Metric, ...], Field(strict=False, min_length=1, max_length=8)] = Field(
        examples=["spottiness_rings"]
    )
    """What is compared with the target; it has no default. One of these, or a list of several, each computed from the
    summed image. The two to use are "spottiness_rings": how uneven the radial bins with enough signal are, as the
    relative standard error of their mean; and "ring_uncertainty": how well the intensity of each ring is known, from
    its scatter along the ring. "spottiness": as pyFAI computes it, over all radial bins. "spottiness_weighted": the
    same, weighted by intensity. "excess": spottiness without its photon noise. "relative_error": the mean over the
    radial bins of standard error over intensity, as beamline ID31 of the ESRF uses it. All these fall while frames are
    added; the last two grow, their target is reached from below. "spots": the crystallites seen on a ring. "counts":
    the counts of a ring above its background. Numbers of the union never decide: they fall even if every frame shows
    the same crystallites."""

    target: Target | Annotated[tuple[Target, ...], Field(strict=False, min_length=1, max_length=8)] = Field(
        examples=[0.05]
    )
    """The value of the metric that is good enough; a list where metric is a list. A fraction (0.02 = 2 %), but a
    number of crystallites or counts for "spots" and "counts"."""

    combine: Literal["all", "any"] = "all"
    """Where metric is a list: "all" must reach their targets, or "any" of them."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """How sure to be that the target is met, before that is said."""

    rearm: Annotated[float, Field(ge=1, le=100)] = 1.15
    """A target counts as met when two evaluations in a row say so. If the metric is worse than this times the target,
    that starts over, and "good enough" is withdrawn. For metrics that grow: below the target divided by this."""

    min_frames: Annotated[int, Field(ge=1, le=MAX_FRAMES)] = 16
    """No decision on the target before so many frames."""

    min_time_s: Annotated[float, Field(ge=0, le=MAX_TIME_S)] = 2.0
    """No decision on the target before so much time since the first frame."""

    min_independent_frames: Annotated[float, Field(ge=1, le=MAX_FRAMES)] = 5.0
    """No decision on the target before the frames are worth so many that each show new crystallites: 100 frames of a
    sample that hardly turns may be worth 3."""

    min_spots: Annotated[float, Field(ge=0, le=1e9)] = 50.0
    """No decision on the target before so many crystallites were seen on all rings together: with few of them the rings
    look smooth by chance."""

    rings_fraction: Annotated[float, Field(gt=0, le=1)] = RINGS_FRACTION
    """Share of the rings that "spots" and "counts" refer to: so many have that number or more. For "ring_uncertainty",
    the median of the rings, so many must not be clearly above the target."""

    max_frames: Annotated[int, Field(ge=1, le=MAX_FRAMES)] | None = Field(default=None, examples=[20000])
    """Stop after so many frames, whatever the metric says."""

    max_time_s: Annotated[float, Field(gt=0, le=MAX_TIME_S)] | None = Field(default=None, examples=[600.0])
    """Stop after so much time since the first frame, whatever the metric says."""

    on_never: Literal["continue", "stop"] = "continue"
    """What to do once it is clear that the target will not be reached, however many frames are added."""

    allow_static: bool = False
    """Also stop where all frames show the same crystallites. Such a sample does not move: more frames make its rings
    less noisy, but no smoother."""

    url: HttpUrl | None = Field(default=None, examples=["http://10.42.41.10"])
    """For via = "http": where the decision is POSTed to. For via = "simplon": the detector's control unit."""

    command: Annotated[tuple[Argument, ...], Field(strict=False, min_length=1, max_length=64)] | None = Field(
        default=None, examples=[["/usr/local/bin/stop_scan", "--detector", "eiger"]]
    )
    """For via = "command": program and arguments, started without a shell, with the decision as JSON on its input."""

    pv: Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-:.\[\]<>;$(){}]{1,100}$")] | None = Field(
        default=None, examples=["BL12:EIG:cam1:Acquire"]
    )
    """For via = "epics": the process variable that is set to 0, as areaDetector's Acquire."""

    timeout_s: Annotated[float, Field(gt=0, le=600)] = 5.0
    """Longest wait for an answer of the one who is told, and then for the series to end; two frame times are added."""

    dry_run: bool = False
    """Say when who would be told, and tell nobody."""

    via: Literal["none", "http", "command", "simplon", "epics"] = "none"
    """Who is told to stop. "none": nobody, ringwatch only says so. Whoever armed the detector should be told first:
    "http" POSTs to a web address, "command" starts a program, "epics" writes to a process variable. "simplon" gives the
    commands to the DECTRIS detector itself: cancel, disarm, and abort if it goes on nevertheless."""

    @property
    def criteria(self) -> tuple[tuple[Metric, float], ...]:
        """Each metric with its target."""
        return tuple(zip(_listed(self.metric), _listed(self.target), strict=True))

    @field_validator("via")
    @classmethod
    def _knows_whom(cls, via: str, info: ValidationInfo) -> str:
        key = _NEEDED_KEY.get(via)
        if key is not None and key in info.data and info.data[key] is None:
            raise ValueError(f'"{via}" needs {key}')
        return via

    @field_validator("metric")
    @classmethod
    def _different(cls, metric: Metric | tuple[Metric, ...]) -> Metric | tuple[Metric, ...]:
        _refuse_repetition(_listed(metric))
        return metric

    @field_validator("target")
    @classmethod
    def _fits_the_metric(cls, target: float | tuple[float, ...], info: ValidationInfo) -> float | tuple[float, ...]:
        metrics = _listed(info.data.get("metric", ()))
        targets = _listed(target)
        if metrics and len(metrics) != len(targets):
            raise ValueError(f"metric and target should be equally many; there are {len(metrics)} and {len(targets)}")
        for metric, value in zip(metrics, targets, strict=False):
            _check_target(metric, value)
        return target

    @field_validator("max_frames", "max_time_s")
    @classmethod
    def _above_the_minimum(cls, most: float | None, info: ValidationInfo) -> float | None:
        name = f"min_{(info.field_name or '').removeprefix('max_')}"
        least = info.data.get(name, 0)
        if most is not None and most < least:
            raise ValueError(f"is less than {name} = {least}, so that the metric would never decide")
        return most


T = TypeVar("T")


def _listed(given: T | tuple[T, ...]) -> tuple[T, ...]:
    return given if isinstance(given, tuple) else (given,)


def _refuse_repetition(values: tuple[object, ...]) -> None:
    for value, times in Counter(values).items():
        if times > 1:
            raise ValueError(f"names {value} more than once")


def _check_target(metric: Metric, target: float) -> None:
    if metric in GROWING_METRICS and target < 1:
        raise ValueError(f"{metric} is a number of {metric}, its target should be at least 1")
    if metric not in GROWING_METRICS and target >= 1:
        raise ValueError(f"{metric} is a fraction, its target should be below 1: 0.02 means 2 %")
