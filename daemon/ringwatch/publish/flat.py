"""Statistics and decisions in, flat names and plain values out: the same names in /api/latest and in the files' tables.

An estimate is four of them: ``spots``, ``spots_low``, ``spots_high`` and ``spots_bound`` ("lower": at least so many,
"upper": at most, None: the number itself). What is not known is None.
"""

from dataclasses import fields
from typing import get_args

from ringwatch.messages import Decision, Estimate, Forecast, Metric, Scalar, Score, Setup, Statistics, StopReport

METRICS: tuple[Metric, ...] = get_args(Metric)
_PARTS = {"value": "", "low": "_low", "high": "_high", "bound": "_bound"}
_ESTIMATES = ("independent_frames", "repeating_fraction", "crystallites", "azimuthal_trend", "photon_share")
_DECISION = ("metric", "value", "low", "high", "target", "action", "armed", "reason_code")


def statistics(known: Statistics | None) -> dict[str, Scalar]:
    """Each measure under the metric's name, and what is known of the sample."""
    measures = known.measures if known else {}
    flat: dict[str, Scalar] = {"statistics_n_frames": known.n_frames if known else 0}
    for metric in METRICS:
        flat.update(_estimate(metric, measures.get(metric)))
    for name in _ESTIMATES:
        flat.update(_estimate(name, getattr(known, name, None)))
    return flat


def decision(made: Decision | None) -> dict[str, Scalar]:
    """A decision without its sentence, its forecast under ``forecast_*`` and its score under ``score_*``."""
    forecast, score = (made.forecast, made.score) if made else (None, None)
    return {
        **{name: getattr(made, name, None) for name in _DECISION},
        **_members(Forecast, forecast, "forecast"),
        **_members(Score, score, "score"),
    }


def setup(known: Setup | None) -> dict[str, Scalar]:
    """With what is measured."""
    return {member.name: getattr(known, member.name, None) for member in fields(Setup)}


def stop(report: StopReport | None) -> dict[str, Scalar]:
    """How the acquisition is being ended."""
    return {f"stop_{name}": getattr(report, name, None) for name in ("via", "state", "sentence")}


def _members(kind: type[Forecast | Score], known: Forecast | Score | None, prefix: str) -> dict[str, Scalar]:
    flat: dict[str, Scalar] = {}
    for name in (member.name for member in fields(kind)):
        value = getattr(known, name, None)
        flat.update(_estimate(f"{prefix}_{name}", value) if name == "settles_at" else {f"{prefix}_{name}": value})
    return flat


def _estimate(name: str, known: Estimate | None) -> dict[str, Scalar]:
    return {f"{name}{suffix}": getattr(known, part, None) for part, suffix in _PARTS.items()}
