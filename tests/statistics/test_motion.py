"""Whether grains move, from sectors of single frames: known mixtures of moving and resting spots."""

from collections.abc import Iterator

import numpy as np
import pytest

from ringwatch_gpu.azimuth import SmoothFit
from ringwatch_gpu.geometry_pyfai import SECTORS
from ringwatch_gpu.jackknife import standard_error
from ringwatch_gpu.motion import Motion, SectorHistory

from .spotty import Array, Spots, even

GROUPS = 64
FIT = SmoothFit(even(GROUPS))
SPOTS = Spots(300, 100.0)
EVERY = 8


def frames(n: int, survival: float, static: float, seed: int, spots: Spots = SPOTS) -> Iterator[Array]:
    """Counts of successive frames, shape (groups, sectors), over some background."""
    random = np.random.default_rng(seed)
    resting, moving = (Spots(spots.mean * share, spots.photons) for share in (static, 1 - static))
    always = resting.on(GROUPS, random)
    number, sector, photons = np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    fresh = moving.mean
    for _ in range(n):
        keep = random.random(number.size) < survival
        born = np.repeat(np.arange(GROUPS), random.poisson(fresh, GROUPS))
        number = np.concatenate([number[keep], born])
        sector = np.concatenate([sector[keep], random.integers(0, SECTORS, born.size)])
        photons = np.concatenate([photons[keep], random.exponential(spots.photons, born.size)])
        fresh = moving.mean * (1 - survival)
        shown = np.bincount(number * SECTORS + sector, photons, GROUPS * SECTORS).reshape(GROUPS, SECTORS)
        yield random.poisson(always + shown + 20.0).astype(float)


def seen(n: int, survival: float, static: float, seed: int = 0, spots: Spots = SPOTS) -> Motion:
    """What is found in ``n`` frames of which every eighth is sampled."""
    history, total = SectorHistory(GROUPS), np.zeros((GROUPS, SECTORS))
    for number, frame in enumerate(frames(n, survival, static, seed, spots)):
        total += frame
        if number % EVERY == 0:
            history.add(frame.astype(np.uint64))
    history.digest(FIT)
    found = history.motion(FIT, total, n)
    assert found is not None
    return found


def left(n: int, survival: float, static: float) -> float:
    """Share of a frame's relative variance that is left in the sum of ``n``."""
    lag = np.arange(1, n)
    moving = (n + 2 * ((n - lag) * survival**lag).sum()) / n**2
    return static + (1 - static) * float(moving)


@pytest.mark.parametrize(
    ("survival", "static"), [(0.0, 0.0), (0.8, 0.0), (0.0, 0.3), (0.0, 1.0)], ids=["new", "slow", "mixed", "frozen"]
)
def test_the_share_that_is_left_is_that_of_the_mixture(survival: float, static: float) -> None:
    n = 96
    found = seen(n, survival, static)
    assert found.shared == pytest.approx(left(n, survival, static), rel=0.08)
    assert found.repeating == pytest.approx(static, abs=0.02, rel=0.08)


def test_frames_that_are_all_new_count_in_full() -> None:
    found = [1 / seen(64, 0.0, 0.0, seed).shared for seed in range(5)]
    assert np.mean(found) == pytest.approx(64, rel=0.03)


def test_photons_neither_move_nor_rest() -> None:
    """Of faint spots, whose photons scatter half as much as they do themselves."""
    faint = Spots(300, 3.0)
    assert seen(96, 0.0, 0.0, spots=faint).shared == pytest.approx(1 / 96, rel=0.15)
    assert seen(96, 0.0, 1.0, spots=faint).shared == pytest.approx(1, rel=0.08)


def test_the_standard_error_covers_the_scatter() -> None:
    found = [seen(40, 0.0, 0.3, seed) for seed in range(12)]
    for values, errors in (
        ([one.shared for one in found], [standard_error(one.shared_replicates) for one in found]),
        ([one.repeating for one in found], [standard_error(one.repeating_replicates) for one in found]),
    ):
        assert 0.8 * np.std(values) < np.mean(errors) < 4 * np.std(values)


def test_one_frame_repeated_is_one_frame() -> None:
    frame = next(frames(1, 0.0, 0.0, 0))
    history = SectorHistory(GROUPS)
    for _ in range(20):
        history.add(frame.astype(np.uint64))
    history.digest(FIT)
    found = history.motion(FIT, 20 * frame, 20)
    assert found is not None
    assert found.shared == pytest.approx(1, abs=0.01)
    assert found.repeating == pytest.approx(1, abs=0.01)


def test_a_perfect_powder_tells_nothing_about_motion() -> None:
    told = 0
    for seed in range(60):
        random, history = np.random.default_rng(seed), SectorHistory(GROUPS)
        for frame in random.poisson(30.0, (3, GROUPS, SECTORS)):
            history.add(frame.astype(np.uint64))
        history.digest(FIT)
        told += history.motion(FIT, random.poisson(30.0 * 24, (GROUPS, SECTORS)).astype(float), 24) is not None
    assert told <= 1


def test_without_a_frame_nothing_is_told() -> None:
    history = SectorHistory(GROUPS)
    history.digest(FIT)
    assert history.n_frames == 0
    assert history.motion(FIT, even(GROUPS), 1) is None
    assert history.overlap_length(FIT, np.ones(GROUPS)) == 0


def test_a_single_frame_does_not_repeat_anything() -> None:
    history = SectorHistory(GROUPS)
    frame = next(frames(1, 0.0, 0.0, 0))
    history.add(frame.astype(np.uint64))
    history.digest(FIT)
    found = history.motion(FIT, frame, 1)
    assert found is not None
    assert (found.shared, found.repeating) == (pytest.approx(1), 0)


def test_it_makes_no_difference_when_frames_are_digested() -> None:
    taken = list(frames(30, 0.5, 0.2, 0))
    total, found = np.sum(taken, axis=0), []
    for at_once in (1, 7, 30):
        history = SectorHistory(GROUPS)
        for number, frame in enumerate(taken, start=1):
            history.add(frame.astype(np.uint64))
            if number % at_once == 0:
                history.digest(FIT)
        history.digest(FIT)
        found.append(history.motion(FIT, total, 30))
    for other in found[1:]:
        assert other.shared == pytest.approx(found[0].shared, rel=1e-9)
        np.testing.assert_allclose(other.repeating_replicates, found[0].repeating_replicates, rtol=1e-9)


def test_a_long_series_keeps_64_blocks_and_every_count() -> None:
    fit, history, total = SmoothFit(even(2)), SectorHistory(2), np.zeros((2, SECTORS))
    random = np.random.default_rng(0)
    for number in range(1, 3001):
        frame = random.poisson(5.0, (2, SECTORS))
        total += frame
        history.add(frame.astype(np.uint64))
        if history.is_full or number == 3000:
            history.digest(fit)
    assert history.n_frames == sum(history._block_frames) == 3000
    assert 32 <= len(history._blocks) <= 64
    assert len(set(history._block_frames[:-1])) == 1
    np.testing.assert_array_equal(np.sum(history._blocks, axis=0), total)


def test_it_is_full_after_64_frames_until_they_are_digested() -> None:
    history = SectorHistory(1)
    for _ in range(64):
        assert not history.is_full
        history.add(np.ones((1, SECTORS), np.uint64))
    assert history.is_full
    history.digest(SmoothFit(even(1)))
    assert not history.is_full


@pytest.mark.parametrize("width", [0.0, 0.05, 0.15])
def test_the_width_of_spots_shows_in_neighbouring_sectors(width: float) -> None:
    """In sectors of length 3; the share of the variance that leaks over a border is sigma / sqrt pi without the fit."""
    history, random, spots = SectorHistory(GROUPS), np.random.default_rng(1), Spots(60, 200.0, width)
    for _ in range(60):
        history.add(random.poisson(spots.on(GROUPS, random)).astype(np.uint64))
    history.digest(FIT)
    found = history.overlap_length(FIT, np.full(GROUPS, 3.0)) / 3
    assert found == pytest.approx(0.64 * width, rel=0.1, abs=0.004)


def test_sectors_of_any_length_tell_the_same_width() -> None:
    """Groups of sectors of length 1 to 4, spots of width 0.15: long sectors hide less of them, not less exactly."""
    random = np.random.default_rng(2)
    lengths = np.repeat([1.0, 2.0, 4.0], 20)
    fit = SmoothFit(even(60))
    history = SectorHistory(60)
    for _ in range(80):
        parts = [Spots(60, 200.0, 0.15 / length).on(20, random) for length in (1.0, 2.0, 4.0)]
        history.add(random.poisson(np.concatenate(parts)).astype(np.uint64))
    history.digest(fit)
    assert history.overlap_length(fit, lengths) == pytest.approx(0.64 * 0.15, rel=0.1)
