"""Whatever the evaluations, the rule neither raises nor warns, stops for a reason that stops, and says real figures."""

import re
from typing import Any, get_args

import numpy as np
from evaluations import ORIGIN, rings, statistics
from hypothesis import given, settings
from hypothesis import strategies as st

from ringwatch.config import GROWING_METRICS, StopConfig
from ringwatch.messages import Decision, Estimate, Metric
from ringwatch.stop.evaluation import Conditions, Evaluation, Measurement
from ringwatch.stop.rule import StopRule

METRICS: tuple[Metric, ...] = get_args(Metric)
SECTORS = 4


def log_uniform(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(np.log10(low), np.log10(high)).map(lambda power: float(10**power))


@st.composite
def estimates(draw: st.DrawFn, value: float) -> Estimate:
    """Known well, hardly, or only to be at least or at most so much."""
    kind = draw(st.integers(0, 5))
    if kind < 2:
        return Estimate(value, value, value, "lower" if kind else "upper")
    factor = draw(log_uniform(1 + 1e-9, 1e3))
    return Estimate(value, draw(st.sampled_from([value / factor, 0.0])), value * factor)


@st.composite
def measurements(draw: st.DrawFn, metric: Metric) -> Measurement:
    if metric in GROWING_METRICS:
        value = draw(log_uniform(1e-2, 1e9))
        variance, estimate = 1 / value, draw(estimates(value))
    else:
        value = draw(log_uniform(1e-5, 10))
        variance, estimate = value**2, draw(estimates(value))
    left_out = 0.0
    if metric == "excess":
        left_out = draw(log_uniform(1e-12, 10))
        if draw(st.booleans()):
            variance, estimate = -min(variance, left_out), Estimate(-value, -2 * value, draw(st.floats(-value, value)))
    photons, trend, slope = (draw(st.floats(0, 1)) * max(variance, 0.0) for _ in range(3))
    factors = draw(st.lists(st.floats(0, 2), min_size=SECTORS, max_size=SECTORS))
    replicates = None if metric == "counts" else abs(variance) * np.array(factors)
    return Measurement(estimate, variance, photons, trend, slope, replicates, left_out)


@st.composite
def evaluations(draw: st.DrawFn, n_frames: int, elapsed_s: float | None) -> Evaluation:
    known = draw(st.lists(st.sampled_from(METRICS), unique=True))
    measured = {metric: draw(measurements(metric)) for metric in known}
    repeating = draw(st.floats(-0.5, 1))
    changes: dict[str, Any] = {
        "independent_frames": draw(st.none() | estimates(draw(log_uniform(1, n_frames + 1)))),
        "repeating_fraction": draw(st.sampled_from([None, Estimate(repeating, repeating - 0.1, repeating + 0.1)])),
        "azimuthal_trend": draw(st.none() | estimates(draw(st.floats(0, 2)))),
        "crystallites": draw(st.none() | estimates(draw(log_uniform(0.1, 1e6)))),
        "rings": draw(st.sampled_from([None, rings(0.01), rings(0.01, 0.02, float("nan"))])),
    }
    conditions = Conditions(
        pixel_bits=draw(st.sampled_from([8, 16, 32])),
        mismatch=draw(st.sampled_from(["", "The header says no."])),
        lost_share=draw(st.sampled_from([0.0, 0.3])),
        saturated_pixels=draw(st.sampled_from([0.0, 1e4])),
        beam_down_since=draw(st.sampled_from([None, "03:02:11"])),
        drift_since=draw(st.sampled_from([None, 8])),
    )
    found = statistics(n_frames, measured, **changes)
    calm = draw(st.integers(0, 3)) > 0
    return Evaluation(ORIGIN, 0, n_frames, elapsed_s, measured, found, Conditions() if calm else conditions)


@st.composite
def configurations(draw: st.DrawFn) -> StopConfig:
    metrics = draw(st.lists(st.sampled_from(METRICS), unique=True, min_size=1, max_size=3))
    targets = [draw(log_uniform(1, 1e7) if metric in GROWING_METRICS else log_uniform(1e-4, 0.9)) for metric in metrics]
    return StopConfig(
        metric=tuple(metrics),
        target=tuple(targets),
        combine=draw(st.sampled_from(["all", "any"])),
        confidence=draw(st.sampled_from([0.6, 0.95, 0.999])),
        min_frames=draw(st.integers(1, 40)),
        max_frames=draw(st.none() | st.integers(40, 200)),
        max_time_s=draw(st.none() | st.floats(2, 20)),
        on_never=draw(st.sampled_from(["continue", "stop"])),
        allow_static=draw(st.booleans()),
        min_independent_frames=draw(st.sampled_from([1.0, 5.0])),
    )


def check(decision: Decision, config: StopConfig) -> None:
    stops = {"reached", "max_frames", "max_time"} | ({"never"} if config.on_never == "stop" else set())
    assert (decision.action == "stop") == (decision.reason_code in stops)
    assert (decision.metric, decision.target) in config.criteria
    assert not re.search(r"nan|None|\binf|unknown", decision.sentence), decision.sentence
    forecast = decision.forecast
    if forecast is not None:
        limits = [np.inf if limit is None else limit for limit in (forecast.low, forecast.frames, forecast.high)]
        assert limits == sorted(limits)
        assert 0 <= forecast.p_never <= 1


@settings(max_examples=100, deadline=None)
@given(st.data(), configurations())
def test_any_series_of_evaluations_is_decided(data: st.DataObject, config: StopConfig) -> None:
    rule = StopRule(config)
    frame_time_s = data.draw(st.sampled_from([None, 1e-4, 0.1]))
    n_frames = 0
    for _ in range(data.draw(st.integers(1, 8))):
        late = data.draw(st.integers(0, 3))
        assert rule.next_frames > n_frames
        n_frames = rule.next_frames + late
        elapsed_s = None if frame_time_s is None else (n_frames - 1) * frame_time_s
        latest = data.draw(evaluations(n_frames, elapsed_s))
        check(rule.decide(latest), config)
    check(rule.finish(latest), config)
