"""How well rings are known and how many spots they have, over a thousand rings of known truth at once."""

import numpy as np
import pytest

from ringwatch_gpu.azimuth import SmoothFit
from ringwatch_gpu.geometry_pyfai import SECTORS
from ringwatch_gpu.grains import Cake, ring_scatter
from ringwatch_gpu.jackknife import quantile_replicates, quantile_weights, standard_error
from ringwatch_gpu.motion import SectorHistory
from ringwatch_gpu.rings import Rings
from ringwatch_gpu.sums import RingProfile

from .spotty import Array, Spots, cells, even, scatter_of

RINGS = 1000

FEW, MANY, ALIKE = Spots(60, 300.0), Spots(400, 50.0), Spots(100, 20.0, cv=0)
"""Of the last, photons are a third of the scatter."""


def counted(spots: Spots, background: float = 0.0, seed: int = 0, rings: int = RINGS) -> Array:
    random = np.random.default_rng(seed)
    return random.poisson(spots.on(rings, random) + background / SECTORS).astype(float)


@pytest.mark.parametrize("background", [0.0, 10000.0])
@pytest.mark.parametrize("spots", [FEW, MANY, ALIKE], ids=["few", "many", "alike"])
def test_relative_variance_is_that_of_spots_and_photons(spots: Spots, background: float) -> None:
    found = scatter_of(counted(spots, background), background)
    net = spots.mean * spots.photons
    photons = (net + background) / net**2
    assert found.net.mean() == pytest.approx(net, rel=0.02)
    assert np.median(found.photons) == pytest.approx(photons, rel=0.06)
    assert found.relative.mean() == pytest.approx(spots.variance + photons, rel=0.06)
    assert found.relative.mean() == pytest.approx(found.net.var() / net**2, rel=0.15)


@pytest.mark.parametrize("spots", [FEW, MANY, ALIKE], ids=["few", "many", "alike"])
def test_spots_are_counted(spots: Spots) -> None:
    """As effective spots, which is what varies: K / (1 + cv^2)."""
    found = scatter_of(counted(spots, 1000.0), 1000.0)
    assert np.median(found.spots) == pytest.approx(1 / spots.variance, rel=0.08)
    assert found.spots_bound.mean() < 0.05


def test_of_a_perfect_powder_a_lower_bound_of_spots_is_told() -> None:
    """Photon noise hides grains whose scatter is below twice its own standard error, sqrt(2 / 63) of itself."""
    counts = np.random.default_rng(1).poisson(500 * even(RINGS)).astype(float)
    found = scatter_of(counts)
    assert found.spots_bound.mean() > 0.95
    typical = 500 * SECTORS / (2 * np.sqrt(2 / 63))
    assert 0.5 * typical < np.median(found.spots[found.spots_bound]) < 1.2 * typical


def test_no_bound_is_higher_than_photon_noise_allows() -> None:
    """Even of counts that do not scatter at all, as no photons do."""
    found = scatter_of(500 * even(3))
    assert found.spots_bound.all()
    np.testing.assert_allclose(found.spots, 500 * SECTORS / (2 * np.sqrt(2 / 63)), rtol=1e-9)


def test_a_bound_is_below_the_truth() -> None:
    """With so many equal spots that photon noise hides them on most of the rings."""
    spots = Spots(6000, 0.33, cv=0)
    found = scatter_of(counted(spots, rings=200))
    assert found.spots_bound.mean() > 0.5
    assert (found.spots[found.spots_bound] < 6000).mean() > 0.95


@pytest.mark.parametrize("spots", [FEW, MANY], ids=["few", "many"])
def test_replicates_tell_how_well_it_is_known(spots: Spots) -> None:
    found = scatter_of(counted(spots, 1000.0), 1000.0)
    for values, replicates in ((found.relative, found.relative_replicates), (found.spots, found.spots_replicates)):
        errors = standard_error(np.log(replicates[~found.spots_bound]))
        assert np.sqrt((errors**2).mean()) == pytest.approx(np.log(values[~found.spots_bound]).std(), rel=0.25)


def test_only_what_is_seen_counts() -> None:
    """A quarter of the azimuth is hidden: the intensity of the rest is known from the rest of the spots."""
    norm = even(RINGS)
    norm[:, 10:28] = 0
    found = scatter_of(counted(FEW, 500.0) * norm, 500.0 * 0.75, norm)
    assert np.median(found.spots) == pytest.approx(0.75 / FEW.variance, rel=0.08)
    assert found.relative.mean() == pytest.approx(FEW.variance / 0.75, rel=0.08)


def test_where_nothing_is_seen_nothing_is_said() -> None:
    """An arc, no pixel at all, no counts, and less than the background."""
    counts, norm = counted(FEW, rings=5), even(5)
    norm[1, 28:] = norm[2] = 0
    counts[3] = 0
    counts *= norm > 0
    counts[4] = 10
    found = scatter_of(counts, 1000.0, norm)
    assert found.usable.tolist() == [True, False, False, False, False]
    for values in (found.relative, found.photons, found.spots, found.trend):
        assert np.isfinite(values).tolist() == [True, False, False, False, False]
    assert np.isfinite(found.net).all()


def test_without_a_usable_ring_none_is_typical() -> None:
    assert scatter_of(np.zeros((2, SECTORS))).typical is None


def test_the_typical_ring_is_between_the_others() -> None:
    counts = np.concatenate([counted(spots, rings=3) for spots in (FEW, MANY)])
    norm = even(6)
    norm[0] = 0
    found = scatter_of(counts * norm, norm=norm)
    typical = found.typical
    assert typical is not None
    weights = quantile_weights(found.relative[1:], 0.5)
    skew = typical.total / (weights @ found.relative[1:])
    assert 1 < skew < 1.1
    assert typical.photons == pytest.approx(weights @ found.photons[1:])
    replicates = quantile_replicates(found.relative[1:], found.relative_replicates[1:], 0.5)
    np.testing.assert_allclose(typical.replicates, skew * replicates)


def test_the_typical_ring_is_not_too_good_although_most_rings_are() -> None:
    """Most rings of few spots look more even than they are; some look much worse."""
    found = scatter_of(counted(FEW, rings=400))
    typical = found.typical
    assert typical is not None
    true = FEW.variance + 1 / (FEW.mean * FEW.photons)
    assert np.median(found.relative) < 0.94 * true
    assert typical.total == pytest.approx(true, rel=0.06)  # 3 % of it: few spots make a ratio of sums too small


def test_spots_across_the_borders_are_corrected_for() -> None:
    """A fifth of the variance is hidden; single frames tell how much."""
    wide, random = Spots(100, 200.0, width=0.15, cv=0), np.random.default_rng(3)
    history, fit = SectorHistory(100), SmoothFit(even(100))
    for _ in range(50):
        history.add(random.poisson(wide.on(100, random)).astype(np.uint64))
    history.digest(fit)
    counts = counted(wide)
    overlap_length = history.overlap_length(fit, np.ones(100))
    true = wide.variance + 1 / (wide.mean * wide.photons)
    assert scatter_of(counts).relative.mean() < 0.85 * true
    assert scatter_of(counts, overlap_length=overlap_length).relative.mean() == pytest.approx(true, rel=0.05)


def test_noise_and_spots_make_no_trend() -> None:
    counts = counted(Spots(4000, 10.0), rings=300)
    assert (scatter_of(counts).trend > 0).mean() < 0.1
    wave = 1 + 0.3 * np.sin(2 * np.pi * np.arange(SECTORS) / SECTORS)
    found = scatter_of(np.random.default_rng(5).poisson(counts * wave).astype(float))
    assert np.median(found.trend) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)
    assert np.sqrt(found.typical_trend[0]) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)


def test_a_few_trends_by_chance_are_none_of_all_rings() -> None:
    random = np.random.default_rng(6)
    found = [scatter_of(random.poisson(100, (20, SECTORS)).astype(float)) for _ in range(100)]
    assert sum(bool(one.has_trend.any()) for one in found) > 50
    assert sum(one.typical_trend[0] > 0 for one in found) <= 3


def test_rings_of_several_bins_are_summed_over_them() -> None:
    random = np.random.default_rng(4)
    counts = random.poisson(MANY.on(30, random) + 10.0).astype(float)
    norm = random.uniform(0.9, 1.1, (30, SECTORS))
    cake = Cake(cells(counts, norm), 1)
    first, last = np.array([2, 11, 27]), np.array([5, 20, 30])
    total, expected, length = cake.summed(first, last)
    for ring in range(3):
        window = slice(first[ring], last[ring])
        np.testing.assert_allclose(total[ring], counts[window].sum(axis=0))
        even_counts = norm[window] * (counts[window].sum(axis=1) / norm[window].sum(axis=1))[:, np.newaxis]
        np.testing.assert_allclose(expected[ring], even_counts.sum(axis=0))
        assert length[ring] == pytest.approx(norm[window].mean(), rel=1e-9)
    level = random.uniform(1, 2, 30)
    profile = RingProfile.of(counts.sum(axis=1), counts.sum(axis=1), norm.sum(axis=1), norm.sum(axis=1), level)
    found = ring_scatter(cake, Rings(first, last, first * 1.0, first * 1.0, level), profile, 0.0)
    background = [(level * norm.sum(axis=1))[a:b].sum() for a, b in zip(first, last, strict=True)]
    np.testing.assert_allclose(found.net, total.sum(axis=1) - background)
