"""Numbers in, phrases as people say them out: 3.4 %, 120 crystallites a ring, 18 s more (11-31 s)."""

import math

from ringwatch.config import GROWING_METRICS
from ringwatch.messages import Estimate, Metric
from ringwatch.stop.evaluation import Evaluation

_UNITS = (("s", 1, 100), ("min", 60, 6000), ("h", 3600, math.inf))
"""Of times: name, seconds, and up to how many seconds it is used."""


def amount(metric: Metric, value: float | None) -> str:
    """A value of a metric as people say it: 3.4 %, 120 crystallites a ring."""
    if value is None or not math.isfinite(value):
        return "unknown"
    if metric == "spots":
        return f"{value:.0f} crystallites a ring"
    if metric == "counts":
        return f"{float(f'{value:.3g}'):.0f} counts a ring"
    return percent(max(0.0, value))


def goal(metric: Metric, target: float) -> str:
    """A target as it was configured."""
    return f"{target:.10g}" if metric in GROWING_METRICS else f"{100 * target:.3g} %"


def percent(value: float) -> str:
    """Two significant digits below 10 %, whole numbers above."""
    percentage = 100 * value
    if abs(percentage) >= 9.95:
        return f"{percentage:.0f} %"
    return f"{percentage:.1f} %" if abs(percentage) >= 0.995 else f"{percentage:.2g} %"


def number(value: float) -> str:
    """As `percent`, without its sign."""
    return percent(value).removesuffix(" %")


def rounded_down(estimate: Estimate | None) -> str:
    """Rounded down: what is not enough shall not look as if it were."""
    if estimate is None:
        return "unknown"
    return f"{math.floor(estimate.value)}" if estimate.value >= 10 else f"{math.floor(10 * estimate.value) / 10:g}"


def time_left(frames: float, low: float | None, high: float | None, frames_per_s: float | None) -> str:
    """What is left, and its interval, as time; as frames where nothing is known about time. None = no limit."""
    unit, size = "frames", 1.0
    if frames_per_s is not None:
        unit, size = next((unit, size * frames_per_s) for unit, size, most in _UNITS if frames < most * frames_per_s)
    middle, least, most = (None if value is None else _rounded(value / size, unit) for value in (frames, low, high))
    more = f"{middle} {'frame' if (middle, unit) == ('1', 'frames') else unit} more"
    if least == middle == most:
        return more
    return f"{more} ({f'at least {least}' if most is None else f'{least}-{most}'} {unit})"


def _rounded(value: float, unit: str) -> str:
    return f"{value:.1f}" if unit in {"min", "h"} and value < 9.95 else f"{math.ceil(value)}"


def moment(evaluation: Evaluation) -> str:
    """Frame, and time since the first one where it is known."""
    elapsed_s = evaluation.elapsed_s
    if elapsed_s is None:
        return f"frame {evaluation.n_frames}"
    return f"frame {evaluation.n_frames} ({elapsed_s:.{1 if elapsed_s < 99.5 else 0}f} s)"


def clause(text: str) -> str:
    """A sentence as part of another one."""
    return text[:1].lower() + text[1:].removesuffix(".")
