"""The study behind docs/stopping.md: does the rule stop too early, late, or never? Prints its tables.

Many simulated series of each kind of sample go through the reduction's own statistics and rule, next to the naive rule
that stops at the first value below the target.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from multiprocessing import get_context

import numpy as np
from scipy.special import betaincinv
from spots import SAMPLED, Sample, Scene, SpotSeries

from ringwatch.config import StopConfig
from ringwatch.messages import Estimate, Metric, Origin
from ringwatch.reduction.statistics import SpotStatistics
from ringwatch.stop.evaluation import Evaluation
from ringwatch.stop.rule import StopRule
from ringwatch_gpu import exact
from ringwatch_gpu.jackknife import quantile_weights
from ringwatch_gpu.reference import ImageSums
from ringwatch_gpu.ring_positions import RadialAxis
from ringwatch_gpu.rings import rings_at
from ringwatch_gpu.sums import RingProfile

METRICS: tuple[Metric, ...] = ("ring_uncertainty", "spottiness_rings")
FRAME_TIME_S = 0.05
TOO_EARLY = 1.1
SHARE = 0.8
ORIGIN = Origin(1, "study", "silicon", 1, "")


MOTIONS = {"independent": (0.0, 0.0), "q = .8": (0.8, 0.0), "30 % static": (0.0, 0.3), "frozen": (0.0, 1.0)}
"""Share of the spots that survive to the next frame, share that never moves."""


@dataclass(frozen=True)
class Cell:
    """One kind of sample."""

    density: str
    motion: str
    law: str
    needed: int
    """N*, number of frames at which a sample that moves meets its target."""

    @property
    def name(self) -> str:
        """For the table."""
        law = "gamma" if self.law == "gamma" else f"log-normal {self.law}"
        return f"{self.density}, {self.motion}, {law}"

    def sample(self, rings: int) -> Sample:
        """What is simulated."""
        spots = np.geomspace(60, 120, rings) if self.density == "many" else np.linspace(1.5, 4, rings)
        survival, static = {"independent": (0, 0), "q = .8": (0.8, 0), "30 % static": (0, 0.3), "frozen": (0, 1)}[
            self.motion
        ]
        return Sample(spots, self.law, survival, static)

    @property
    def longest(self) -> int:
        """Series end after four times the frames that are needed."""
        return 4 * self.needed

    @property
    def moves(self) -> bool:
        """Whether the target can be reached."""
        return self.motion in {"independent", "q = .8"}


CELLS = [
    Cell(density, motion, law, {"many": 96, "few": 1280 if motion == "q = .8" else 256}[density])
    for density in ("many", "few")
    for motion in MOTIONS
    for law in ("gamma", "1.0")
]
"""N* is where a ring has shown 700 different spots or more."""

STRESS = [
    *(Cell("few", "q = .8", law, 96) for law in ("gamma", "1.0")),
    *(Cell(density, "independent", "2.5", needed) for density, needed in (("many", 96), ("few", 256))),
]
"""Where the rule is expected to fail: some 25 spots a ring, and photons that vary a thousandfold."""


@dataclass(frozen=True)
class Truth:
    """Expected values of the metrics at any number of frames."""

    sample: Sample
    photons: np.ndarray  # counts / net counts^2 of each ring in one frame
    frames: np.ndarray
    spottiness: np.ndarray  # square of spottiness_rings at these numbers of frames
    excess: np.ndarray

    def value(self, metric: str, n_frames: float) -> float:
        """True value of a metric."""
        relative = self.sample.second_moment / self.sample.spots * self.sample.shared(n_frames)
        known: dict[str, Callable[[], float]] = {
            "ring_uncertainty": lambda: np.sqrt(_quantile(relative + self.photons / n_frames, 0.5)),
            "spottiness_rings": lambda: self._interpolated(self.spottiness, n_frames),
            "excess": lambda: self._interpolated(self.excess, n_frames),
            "spots": lambda: _quantile(1 / relative, 1 - SHARE),
            "crystallites": (1 / relative).sum,
            "independent_frames": lambda: 1 / self.sample.shared(n_frames),
            "repeating_fraction": lambda: self._repeating(n_frames),
        }
        return float(known[metric]())

    def _interpolated(self, squares: np.ndarray, n_frames: float) -> float:
        logs = np.interp(np.log(n_frames), np.log(self.frames), np.log(squares * self.frames))
        return float(np.sqrt(np.exp(logs) / n_frames))

    def _repeating(self, n_frames: float) -> float:
        """Mean correlation of the sampled frames of the first half with those of the second."""
        sampled = np.arange(0, n_frames, SAMPLED)
        half = len(sampled) // 2 + 1
        lags = np.abs(sampled[:half, np.newaxis] - sampled[np.newaxis, half:])
        moving = self.sample.survival**lags if self.sample.survival else np.zeros(lags.shape)
        return float((self.sample.static + (1 - self.sample.static) * moving).mean()) if lags.size else 0.0

    def needed(self, metric: str, target: float) -> float:
        """Number of frames at which the true value meets the target; infinite if not within four times N*."""
        grid = np.unique(np.geomspace(8, 4 * self.frames[-1], 2000).round())
        met = [n for n in grid if self.value(metric, float(n)) <= target]
        return float(met[0]) if met else np.inf


def _quantile(values: np.ndarray, share: float) -> float:
    return float(quantile_weights(values, share) @ values)


@dataclass
class Outcome:
    """What one rule did with one series."""

    crossed: int | None = None
    stopped: int | None = None
    last_reason: str = ""
    forecasts: list[tuple[int, float | None, float | None, float | None, float]] = field(default_factory=list)
    never: bool = False


@cache
def scene() -> Scene:
    """The same in all series of a process."""
    return Scene()


def profile_of(image: ImageSums) -> RingProfile:
    """Profile of the summed image."""
    quantum = scene().geometry.norm_quantum
    norm, norm_sq = exact.to_float(image.norm) * quantum, image.norm_sq * quantum**2
    return RingProfile.of(image.signal.astype(float), image.variance, norm, norm_sq, image.count.astype(float))


def spacings() -> np.ndarray:
    """Lattice spacings of the simulated rings in angstrom."""
    powder = scene().powder
    theta = np.arctan(scene().radius_px * powder.pixel_size_m / powder.distance_m) / 2
    return powder.wavelength_m * 1e10 / 2 / np.sin(theta)


def _grid(longest: int) -> np.ndarray:
    return np.unique(np.geomspace(8, longest, 12).round()).astype(np.int64)


def find_truth(job: tuple[Cell, int]) -> tuple[np.ndarray, ...]:
    """Mean squares of the spottiness and mean image of a few series."""
    cell, seed = job
    sample = cell.sample(len(scene().radius_px))
    series, squares, excesses = SpotSeries(scene(), sample, cell.longest, seed), [], []
    for n in _grid(cell.longest):
        series.advance(n, sample_sectors=False)
        image = scene().image_sums(series.image, series.n_frames)
        weights = image.bin_weights[:, 2]
        squares.append((weights * image.variance).sum())
        excesses.append((weights * (image.variance - image.signal * (1 - 1 / np.maximum(image.count, 1)))).sum())
    return np.array(squares), np.array(excesses), series.image.astype(float)


def truth_of(cell: Cell, pool: ProcessPoolExecutor, repeats: int) -> Truth:
    """Truth of a cell: analytic for the rings, the mean of many series for the spottiness."""
    found = list(pool.map(find_truth, [(cell, 10**6 + seed) for seed in range(repeats)], chunksize=4))
    squares, excesses, image = (np.mean([part[k] for part in found], axis=0) for k in range(3))
    profile = profile_of(scene().image_sums(image.round(), cell.longest))
    rings = rings_at(spacings(), profile, RadialAxis.of(scene().geometry))
    net = rings.net_signal(profile)
    total = np.array([profile.signal[first:last].sum() for first, last in zip(rings.first, rings.last, strict=True)])
    sample = cell.sample(len(scene().radius_px))
    return Truth(sample, total / net**2 * cell.longest, _grid(cell.longest).astype(float), squares, excesses)


def run_series(job: tuple[Cell, int, dict[str, float]]) -> tuple[dict[str, Outcome], list[tuple[int, str, Estimate]]]:
    """One series through statistics and rules; what the rules did, and some estimates for their coverage."""
    cell, seed, targets = job
    series = SpotSeries(scene(), cell.sample(len(scene().radius_px)), cell.longest, seed)
    statistics = SpotStatistics.of(scene().geometry, spacings(), SHARE)
    rules = {metric: StopRule(StopConfig(metric=metric, target=target)) for metric, target in targets.items()}
    outcomes = {metric: Outcome() for metric in rules}
    estimates: list[tuple[int, str, Estimate]] = []
    for n in _looks(rules, outcomes, cell.longest):
        for sectors in series.advance(n):
            statistics.add_sectors(sectors)
        image = scene().image_sums(series.image, series.n_frames)
        published, measurements = statistics.evaluate(image, profile_of(image), n)
        evaluation = Evaluation(ORIGIN, 0, n, n * FRAME_TIME_S, measurements, published)
        for metric, rule in rules.items():
            if outcomes[metric].stopped is None and n >= rule.next_frames:
                _note(outcomes[metric], rule.decide(evaluation))
        estimates += _estimates(n, published)
    return outcomes, estimates


def _looks(rules: dict[str, StopRule], outcomes: dict[str, Outcome], longest: int) -> Iterator[int]:
    """Numbers of frames at which any of the rules wants to look."""
    while True:
        waiting = [rule.next_frames for metric, rule in rules.items() if outcomes[metric].stopped is None]
        if not waiting or min(waiting) > longest:
            return
        yield min(waiting)


def _note(outcome: Outcome, decision: object) -> None:
    n, value, forecast = decision.n_frames, decision.value, decision.forecast
    if outcome.crossed is None and value is not None and value <= decision.target:
        outcome.crossed = n
    if decision.action == "stop":
        outcome.stopped = n
    outcome.last_reason = decision.reason_code
    outcome.never |= decision.reason_code == "never"
    if forecast is not None:
        outcome.forecasts.append((n, forecast.frames, forecast.low, forecast.high, forecast.p_never))


def _estimates(n: int, published: object) -> list[tuple[int, str, Estimate]]:
    found = {**published.measures}
    for name in ("independent_frames", "repeating_fraction", "crystallites"):
        found[name] = getattr(published, name)
    return [(n, name, estimate) for name, estimate in found.items() if estimate is not None]


def upper_bound(events: int, trials: int) -> float:
    """Upper 95 % limit of a probability (Clopper & Pearson)."""
    return 1.0 if events >= trials else float(betaincinv(events + 1, trials - events, 0.95))


def study(cells: list[Cell], n_series: int, workers: int) -> dict[str, object]:
    """Run all cells; figures by cell."""
    report: dict[str, object] = {}
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for cell in cells:
            moving = cell if cell.moves else replace(cell, motion="independent")
            targets = _targets(moving, truth_of(moving, pool, max(40, n_series // 4)))
            truth = truth_of(cell, pool, max(40, n_series // 4))
            jobs = [(cell, seed, targets) for seed in range(n_series)]
            results = list(pool.map(run_series, jobs, chunksize=2))
            report[cell.name] = summary(cell, truth, targets, results)
            print(f"{cell.name}: done", file=sys.stderr, flush=True)
    return report


def _targets(cell: Cell, truth: Truth) -> dict[str, float]:
    return {metric: truth.value(metric, cell.needed) for metric in METRICS}


def summary(cell: Cell, truth: Truth, targets: dict[str, float], results: list) -> dict[str, object]:
    """Figures of one cell."""
    found: dict[str, object] = {"series": len(results)}
    for metric, target in targets.items():
        outcomes = [outcome[metric] for outcome, _ in results]
        needed = truth.needed(metric, target)
        found[metric] = _rule_figures(truth, metric, target, needed, outcomes)
    found["coverage"] = _coverage(truth, [estimate for _, estimates in results for estimate in estimates])
    return found


def _rule_figures(
    truth: Truth, metric: str, target: float, needed: float, outcomes: list[Outcome]
) -> dict[str, object]:
    trials = len(outcomes)
    stops = [outcome.stopped for outcome in outcomes if outcome.stopped is not None]
    crossings = [outcome.crossed for outcome in outcomes if outcome.crossed is not None]
    early, naive = (sum(truth.value(metric, n) > TOO_EARLY * target for n in found) for found in (stops, crossings))
    covered = [
        (low or np.inf) <= needed <= (high or np.inf)
        for outcome in outcomes
        for n, _, low, high, _ in outcome.forecasts
        if n >= 32
    ]
    reasons = [outcome.last_reason for outcome in outcomes if outcome.stopped is None]
    return {
        "target": round(target, 4),
        "needed": None if np.isinf(needed) else needed,
        "stopped": len(stops) / trials,
        "stopped_bound": upper_bound(len(stops), trials),
        "early": early / trials,
        "early_bound": upper_bound(early, trials),
        "naive_early": naive / trials,
        "median_stop": float(np.median([n or np.inf for n in (o.stopped for o in outcomes)])),
        "median_crossing": float(np.median([n or np.inf for n in (o.crossed for o in outcomes)])),
        "stop_quantiles": [float(np.quantile(stops, q)) for q in (0.05, 0.5, 0.95)] if stops else None,
        "forecast_coverage": float(np.mean(covered)) if covered else None,
        "never": sum(outcome.never for outcome in outcomes) / trials,
        "reasons": {reason: reasons.count(reason) for reason in set(reasons)},
    }


def _coverage(truth: Truth, estimates: list[tuple[int, str, Estimate]]) -> dict[str, list[float]]:
    """Share of the intervals that hold the truth, and below it, by statistic; from 32 frames on."""
    hits: dict[str, list[tuple[bool, bool, float]]] = {}
    for n, name, estimate in estimates:
        if n < 32 or estimate.bound is not None or name not in _KNOWN:
            continue
        true = truth.value(name, n)
        within, below = estimate.low <= true <= estimate.high, estimate.high < true
        hits.setdefault(name, []).append((within, below, estimate.value / true if true else estimate.value))
    return {
        name: [round(float(np.mean([hit[k] for hit in found])), 3) for k in range(2)]
        + [round(float(np.median([hit[2] for hit in found])), 3)]
        for name, found in hits.items()
    }


_KNOWN = frozenset(
    {
        "ring_uncertainty",
        "spottiness_rings",
        "excess",
        "spots",
        "crystallites",
        "independent_frames",
        "repeating_fraction",
    }
)


def tables(report: dict[str, dict]) -> Iterator[str]:
    """The figures as Markdown: a table of decisions for each metric, and one of the intervals."""
    for metric in METRICS:
        yield f"\n`{metric}`\n"
        yield "| sample | N* | stopped | too early (limit) | stops at | first crossing | too early | forecast |\n"
        yield "|---|---|---|---|---|---|---|---|\n"
        for name, cell in report.items():
            yield _decision_row(name, cell[metric], cell["series"])
    yield "\nShare of the intervals that hold the truth, and (median of the estimates / truth):\n"
    yield "| sample | " + " | ".join(_KNOWN) + " |\n|---|" + "---|" * len(_KNOWN) + "\n"
    for name, cell in report.items():
        found = (cell["coverage"].get(known) for known in _KNOWN)
        yield f"| {name} | " + " | ".join(_coverage_entry(one) for one in found) + " |\n"


def _decision_row(name: str, row: dict, series: int) -> str:
    spread = row["stop_quantiles"]
    stop = "-" if spread is None else f"{row['median_stop']:.0f} ({spread[0]:.0f}-{spread[2]:.0f})"
    crossing = "-" if np.isinf(row["median_crossing"]) else f"{row['median_crossing']:.0f}"
    reasons = ", ".join(f"{reason} {count / series:.0%}" for reason, count in sorted(row["reasons"].items()))
    needed = "never" if row["needed"] is None else f"{row['needed']:.0f}"
    forecast = "-" if row["forecast_coverage"] is None else f"{row['forecast_coverage']:.0%}"
    stopped = f"{row['stopped']:.1%}" + (f" ({reasons})" if reasons else "")
    early = f"{row['early']:.1%} ({row['early_bound']:.1%})"
    return (
        f"| {name} | {needed} | {stopped} | {early} | {stop} | {crossing} | {row['naive_early']:.1%} | {forecast} |\n"
    )


def _coverage_entry(found: list[float] | None) -> str:
    return "-" if found is None else f"{found[0]:.0%} ({found[2]:.2f})"


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=400, help="series a cell")
    parser.add_argument("--only", default="", help="cells whose name contains this")
    given = parser.parse_args()
    for title, cells in (("The study", CELLS), ("Where it fails", STRESS)):
        chosen = [cell for cell in cells if given.only in cell.name]
        report = study(chosen, given.series, os.cpu_count() or 1)
        print(f"\n{title}, {given.series} series each\n" + "".join(tables(report)), flush=True)


if __name__ == "__main__":
    main()
