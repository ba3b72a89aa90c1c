"""Forecasts from checkpoints of samples whose truth is known: correlation time, share that never moves, photons."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from evaluations import SECTORS, replicates

from ringwatch.stop import forecast
from ringwatch.stop.forecast import Checkpoint, History, Outlook, grain_share, outlook

STRENGTH = 0.04
"""Relative variance of a single frame."""


def double_sum(n_frames: int, survival: float, static: float) -> float:
    """Mean correlation of all pairs of frames, the one with the other and with itself."""
    lag = np.abs(np.subtract.outer(np.arange(n_frames), np.arange(n_frames)))
    return float((static + (1 - static) * float(survival) ** lag).mean())


def share(n_frames: float, tau: float, static: float = 0.0) -> float:
    return float(grain_share(np.array([float(n_frames)]), np.array([[tau]]), np.array([[static]]))[0, 0])


@dataclass(frozen=True)
class Sample:
    """A share ``survival`` of the grains is still there at the next frame, a share ``static`` at all of them."""

    survival: float = 0.0
    static: float = 0.0
    photons: float = 0.0  # relative variance of one frame

    def variance(self, n_frames: int) -> float:
        return STRENGTH * double_sum(n_frames, self.survival, self.static) + self.photons / n_frames

    def needed(self, goal: float) -> int:
        return next(n for n in range(1, 2000) if self.variance(n) <= goal)

    def checkpoints(self, last: int, noise: float = 0.0, seed: int = 0) -> list[Checkpoint]:
        """Every square root of two; with ``noise`` the sectors scatter by so much, the same way at all checkpoints."""
        rng = np.random.default_rng(seed)
        steady = rng.normal(size=SECTORS)
        points = []
        for n in np.unique(np.geomspace(8, last, 1 + round(2 * math.log2(last / 8))).round().astype(int)):
            sectors = np.sqrt(0.8) * steady + np.sqrt(0.2) * rng.normal(size=SECTORS)
            logs = noise * math.sqrt(SECTORS) * sectors
            variance = self.variance(int(n))
            left_out = (logs.sum() - logs) / (SECTORS - 1)
            points.append(
                Checkpoint(int(n), variance * np.exp(logs.mean()), self.photons / n, variance * np.exp(left_out))
            )
        return points

    def outlook(self, last: int, goal: float, noise: float = 0.0, seed: int = 0) -> Outlook:
        return outlook(self.checkpoints(last, noise, seed), goal)


INDEPENDENT, CORRELATED, SLOW = Sample(), Sample(0.8), Sample(0.95)
MIXED = Sample(0.8, photons=0.05)
STATIC = Sample(static=0.3)


@pytest.mark.parametrize("static", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("survival", [0.0, 0.2, 0.8, 0.95, 0.999])
@pytest.mark.parametrize("n_frames", [1, 2, 7, 100])
def test_what_is_left_of_a_frames_variance_is_the_mean_over_all_pairs(
    n_frames: int, survival: float, static: float
) -> None:
    tau = -1 / math.log(survival) if survival else 0.0
    assert share(n_frames, tau, static) == pytest.approx(double_sum(n_frames, survival, static), rel=1e-9)


@pytest.mark.parametrize("tau", [1e4, 1e6, 1e9])
def test_grains_that_stay_for_ever_so_long_do_not_cancel_away(tau: float) -> None:
    assert share(1, tau) == pytest.approx(1.0, rel=1e-5)
    assert share(8, tau) == pytest.approx(1.0, rel=1e-3)
    assert share(10 * tau, tau) == pytest.approx(0.2 - 0.02, rel=1e-3)


@pytest.mark.parametrize(
    ("sample", "goal", "last", "within"),
    [
        (INDEPENDENT, STRENGTH / 100, 32, 0.03),
        (CORRELATED, STRENGTH / 10, 64, 0.05),
        (SLOW, STRENGTH / 4, 64, 0.05),
        (MIXED, STRENGTH / 10, 64, 0.05),
        (STATIC, 0.35 * STRENGTH, 11, 0.1),
    ],
    ids=["independent", "q .8", "q .95", "q .8 and photons", "30 % static, above its end"],
)
def test_without_noise_the_number_of_frames_is_found(sample: Sample, goal: float, last: int, within: float) -> None:
    needed = sample.needed(goal)
    found = sample.outlook(last, goal)
    assert last < needed
    assert found.frames == pytest.approx(needed, rel=within)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= needed <= found.high


def test_what_the_fit_says_about_the_sample_is_so() -> None:
    found = CORRELATED.outlook(128, STRENGTH / 100)
    assert found.single == pytest.approx(STRENGTH, rel=0.1)
    assert found.settles <= 0.01 * STRENGTH
    found = STATIC.outlook(128, STRENGTH / 100)
    assert found.settles_low <= found.settles <= found.settles_high
    assert found.settles == pytest.approx(0.3 * STRENGTH, rel=0.05)


@pytest.mark.parametrize("sample", [INDEPENDENT, CORRELATED, SLOW, MIXED])
def test_never_is_not_said_of_a_sample_that_moves(sample: Sample) -> None:
    assert sample.outlook(256, STRENGTH / 20).p_never < 0.05


@pytest.mark.parametrize("sample", [STATIC, Sample(0.8, 0.3), Sample(static=1.0)])
def test_never_is_said_of_a_sample_that_does_not(sample: Sample) -> None:
    found = sample.outlook(64, STRENGTH / 10)
    assert found.p_never > 0.95
    assert found.frames is None
    assert found.high is None


def test_photons_that_are_missing_are_not_taken_for_grains_that_stay() -> None:
    faint = Sample(0.8, photons=1.0)
    known = faint.outlook(64, 0.004)
    assert known.frames == pytest.approx(faint.needed(0.004), rel=0.15)
    assert known.single == pytest.approx(STRENGTH, rel=0.2)
    hidden = [Checkpoint(point.n_frames, point.variance, 0.0, point.replicates) for point in faint.checkpoints(64)]
    assert outlook(hidden, 0.004).single > 10 * known.single


def test_a_target_that_was_met_long_ago_is_not_in_the_future() -> None:
    found = INDEPENDENT.outlook(64, STRENGTH / 10)
    assert found.frames == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize(("sample", "goal"), [(INDEPENDENT, STRENGTH / 100), (CORRELATED, STRENGTH / 10)])
def test_the_interval_holds_the_truth_in_nine_noisy_series_of_ten(sample: Sample, goal: float) -> None:
    needed, held = sample.needed(goal), 0
    for seed in range(50):
        found = sample.outlook(45, goal, noise=0.2, seed=seed)
        held += (found.low or math.inf) <= needed <= (found.high or math.inf)
    assert held >= 45


def test_noise_widens_the_interval() -> None:
    calm, noisy = (CORRELATED.outlook(64, STRENGTH / 10, noise) for noise in (0.01, 0.3))
    assert calm.low is not None
    assert calm.high is not None
    assert (noisy.low or math.inf) < calm.low
    assert (noisy.high or math.inf) > calm.high


def assert_sound(found: Outlook) -> None:
    numbers = [found.p_never, found.single, found.settles, found.settles_low, found.settles_high]
    assert np.isfinite(numbers).all()
    assert 0 <= found.p_never <= 1
    limits = [math.inf if limit is None else limit for limit in (found.low, found.frames, found.high)]
    assert not np.isnan(limits).any()
    assert limits == sorted(limits)
    assert found.settles_low <= found.settles <= found.settles_high


def point(n_frames: int, variance: float, photons: float = 0.0, error: float = 0.1) -> Checkpoint:
    return Checkpoint(n_frames, variance, photons, replicates(variance, error))


@pytest.mark.parametrize(
    "points",
    [
        [point(8, 0.01), point(11, 0.01)],
        [point(8, 0.01), point(11, 0.007, error=0.0)],
        [point(8, 0.01, error=0.0)] * 2,
        [point(n, 0.01, error=0.0) for n in range(8, 20)],
        [point(8, 0.01), point(11, 0.02), point(16, 0.04)],
        [point(8, 0.01, photons=0.02), point(11, 0.008, photons=0.016)],
        [point(1, 1e-9), point(2, 1e-9), point(3, 1e9)],
        [point(8, 0.01), point(10**8, 1e-9), point(10**9, 1e-10)],
        [Checkpoint(8, 0.01, 0.0, np.zeros(SECTORS)), Checkpoint(11, 0.007, 0.0, np.full(SECTORS, 0.007))],
    ],
    ids=[
        "equal",
        "no error",
        "the same twice",
        "all equal",
        "rising",
        "photons only",
        "absurd",
        "long",
        "empty sector",
    ],
)
@pytest.mark.parametrize("goal", [1e-12, 4e-4, 0.01, 1e3])
def test_poor_checkpoints_give_numbers_or_nothing(points: list[Checkpoint], goal: float) -> None:
    assert_sound(outlook(points, goal))


def test_one_checkpoint_says_nothing() -> None:
    history = History()
    assert history.outlook(1e-3) is None
    history.add(point(8, 0.01))
    assert history.outlook(1e-3) is None
    history.add(point(11, 0.01))
    assert history.outlook(1e-3) is not None


def test_the_history_is_bounded_and_keeps_the_first_and_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def look(points: Sequence[Checkpoint], target: float) -> None:
        seen.append([point.n_frames for point in points])

    monkeypatch.setattr(forecast, "outlook", look)
    history = History()
    for n in range(8, 1008):
        history.add(point(n, 1 / n))
        history.outlook(1e-3)
    assert max(len(frames) for frames in seen) <= 48
    assert all(frames == sorted(frames) for frames in seen)
    assert seen[-1][0] == 8
    assert seen[-1][-20:] == list(range(988, 1008))
