"""A pattern that changes is noticed soon, one that only fluctuates is not, nor a beam that decays."""

import numpy as np
import pytest

from ringwatch_gpu.azimuth import SmoothFit
from ringwatch_gpu.drift import DriftWatch
from ringwatch_gpu.geometry_pyfai import SECTORS

from .spotty import even

N = 240


def looks() -> list[int]:
    """Every twentieth part more, as decisions are made."""
    numbers = [16]
    while numbers[-1] < N:
        numbers.append(min(N, max(numbers[-1] + 1, int(1.05 * numbers[-1]))))
    return numbers


def flagged(
    groups: int, spots: float, seed: int, *, spread: float = 1.0, change: float = 0.0, decay: float = 0.0
) -> list[tuple[int, int]]:
    """Numbers of frames at which drift is seen, and since when.

    ``spots`` a group and frame with log-normal photons; after half of the frames every second group gains the share
    ``change`` and the others lose it; ``decay`` of all intensity is lost by the end.
    """
    random, fit, watch = np.random.default_rng(seed), SmoothFit(even(groups)), DriftWatch()
    total, before, found = np.zeros((groups, SECTORS)), 0, []
    sign = np.where(np.arange(groups) % 2, 1, -1)
    for n in looks():
        late = max(0, n - max(before, N // 2)) / (n - before)
        strength = (1 + change * late * sign) * (1 - decay) ** ((n + before) / 2 / N)
        group = np.repeat(np.arange(groups), random.poisson(spots * (n - before), groups))
        photons = 100 * strength[group] * random.lognormal(-(spread**2) / 2, spread, group.size)
        cell = group * SECTORS + random.integers(0, SECTORS, group.size)
        total += random.poisson(np.bincount(cell, photons, groups * SECTORS).reshape(groups, SECTORS) + 0.5)
        watch.see(n, total, fit)
        before = n
        if watch.since is not None:
            found.append((n, watch.since))
    return found


@pytest.mark.parametrize(
    ("groups", "spots", "spread"), [(3, 10.0, 1.0), (20, 2.0, 1.0), (12, 2.0, 2.5)],
    ids=["3 groups", "20 groups", "few giants"],
)  # fmt: skip
def test_a_stationary_sample_does_not_drift(groups: int, spots: float, spread: float) -> None:
    assert sum(bool(flagged(groups, spots, seed, spread=spread)) for seed in range(100)) <= 1


@pytest.mark.parametrize("groups", [6, 40])
def test_a_pattern_that_changes_is_noticed_within_a_quarter(groups: int) -> None:
    for seed in range(8):
        first, since = flagged(groups, 300.0, seed, change=0.1)[0]
        assert N // 2 < first <= 3 * N // 4
        assert N // 4 < since < first


def test_a_beam_that_decays_is_no_drift() -> None:
    assert not any(flagged(12, 20.0, seed, decay=0.5) for seed in range(20))


def test_drift_is_over_when_the_pattern_is_steady_again() -> None:
    """A change by 2 % after 200 frames is less than 1 % between the last quarter and the rest after 530."""
    watch, fit, random = DriftWatch(), SmoothFit(even(6)), np.random.default_rng(0)
    total, since = np.zeros((6, SECTORS)), {}
    for n in range(10, 801, 10):
        change = 0.02 * (n > 200) * np.array([1, -1, 1, -1, 1, -1])
        total += random.poisson(1e4 * (1 + change)[:, np.newaxis] * even(6))
        watch.see(n, total, fit)
        since[n] = watch.since
    drifting = [n for n, frame in since.items() if frame is not None]
    assert drifting == list(range(drifting[0], drifting[-1] + 1, 10))
    assert 200 < drifting[0] < 300
    assert 500 < drifting[-1] < 700
    assert len({since[n] for n in drifting}) == 1


def test_of_two_groups_nothing_is_said() -> None:
    assert not flagged(2, 300.0, 0, change=0.3)
    assert flagged(3, 300.0, 0, change=0.3)
