"""The spottiness of a summed image as relative variances: totals as published, and what explains them."""

from dataclasses import replace

import numpy as np
import pytest

from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.geometry_pyfai import SECTORS
from ringwatch_gpu.jackknife import standard_error
from ringwatch_gpu.scatter import Scatter, bin_spottiness, photon_variance, spottiness_scatter
from ringwatch_gpu.spottiness import spottiness

from .spotty import Array, disc, profile_of, summed

GEOMETRY = disc()
NORM = (GEOMETRY.norm_q * GEOMETRY.norm_quantum).reshape(GEOMETRY.shape)
SQUARES = ("plain", "weighted", "rings")


def spotty_image(seed: int = 0, mean: float = 20.0) -> Array:
    """Photons of many grains of a pixel each over some background."""
    random = np.random.default_rng(seed)
    grains = random.exponential(1.0, GEOMETRY.shape) * (random.random(GEOMETRY.shape) < 0.3)
    return random.poisson(mean * NORM * (1 + 5 * grains)).astype(float)


def scatters(image: Array, geometry: Geometry = GEOMETRY) -> dict[str, Scatter]:
    found = dict(zip(SQUARES, spottiness_scatter(summed(image, geometry)), strict=True))
    assert found["rings"] is not None
    return found


@pytest.mark.parametrize("mean", [0.05, 20.0])
def test_totals_are_the_squares_of_what_is_published(mean: float) -> None:
    image = summed(spotty_image(mean=mean), GEOMETRY)
    published = vars(spottiness(profile_of(image, GEOMETRY), GEOMETRY.azimuth_fraction))
    for name, scatter in zip(SQUARES, spottiness_scatter(image), strict=True):
        assert scatter is not None
        assert scatter.total == pytest.approx(float(published[name]) ** 2, rel=1e-12)


def test_without_a_bin_measured_well_there_is_none_of_the_rings() -> None:
    plain, weighted, rings = spottiness_scatter(summed(np.zeros(GEOMETRY.shape), GEOMETRY))
    assert (plain.total, weighted.total, rings) == (0, 0, None)
    assert not plain.replicates.any()
    assert plain.replicates.shape == (SECTORS,)


def test_bins_are_published_one_by_one() -> None:
    """Their mean square is that of all together."""
    image = summed(spotty_image(), GEOMETRY)
    bins, rings = bin_spottiness(image), scatters(spotty_image())["rings"]
    good = np.isfinite(bins)
    assert 5 < good.sum() < GEOMETRY.bins
    assert np.mean(bins[good] ** 2) == pytest.approx(rings.total, rel=1e-12)


def test_photons_explain_all_of_a_perfect_powder() -> None:
    totals, photons = np.zeros(60), np.zeros(60)
    for seed in range(60):
        found = scatters(np.random.default_rng(seed).poisson(30 * NORM).astype(float))["rings"]
        totals[seed], photons[seed] = found.total, found.photons
    error = totals.std() / np.sqrt(60)
    assert totals.mean() == pytest.approx(photons.mean(), abs=4 * error)
    assert error < 0.005 * totals.mean()


def test_photon_variance_is_that_of_many_images() -> None:
    images = [summed(np.random.default_rng(seed).poisson(3 * NORM).astype(float), GEOMETRY) for seed in range(200)]
    found, expected = (sum(parts) for parts in ([i.variance for i in images], [photon_variance(i) for i in images]))
    filled = images[0].count > 30
    np.testing.assert_allclose(found[filled], expected[filled], rtol=0.08)


@pytest.mark.parametrize("name", SQUARES)
def test_replicates_are_those_of_an_image_with_a_sector_masked(name: str) -> None:
    """They are for as many pixels as there were, which a masked image has not."""
    image = spotty_image(mean=300.0)
    found = scatters(image)[name]
    by_hand = np.empty(SECTORS)
    for sector in range(SECTORS):
        mask = (GEOMETRY.sector == sector).reshape(GEOMETRY.shape)
        same_bins = replace(GEOMETRY.masked(mask), azimuth_fraction=GEOMETRY.azimuth_fraction)
        by_hand[sector] = scatters(image, same_bins)[name].total
    by_hand *= (SECTORS - 1) / SECTORS
    np.testing.assert_allclose(found.replicates, by_hand, rtol=2e-3)
    assert np.corrcoef(found.replicates, by_hand)[0, 1] > 0.99


def test_the_standard_error_covers_the_scatter() -> None:
    found = [scatters(spotty_image(seed))["rings"] for seed in range(150)]
    errors = [standard_error(one.replicates) for one in found]
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std([one.total for one in found]), rel=0.25)


def test_the_slope_inside_the_bins_explains_a_steep_profile_without_noise() -> None:
    """A profile that falls by a fifth from bin to bin."""
    rows, columns = np.indices(GEOMETRY.shape)
    radius = np.hypot(rows - 0.4 * GEOMETRY.shape[0], columns - 0.55 * GEOMETRY.shape[1])
    width = GEOMETRY.edges[1] - GEOMETRY.edges[0]
    found = scatters(np.rint(1e9 * NORM * np.exp(-0.2 * radius / width)))["rings"]
    assert found.slope == pytest.approx(found.total, rel=0.1)
    assert found.photons < 0.01 * found.total
    flat = scatters(np.rint(1e9 * NORM))["rings"]
    assert flat.slope < 1e-6 * found.slope


def test_a_smooth_azimuthal_variation_adds_what_its_factor_says() -> None:
    angle = GEOMETRY.sector.reshape(GEOMETRY.shape) * 2 * np.pi / SECTORS
    whole = np.flatnonzero(GEOMETRY.azimuth_fraction > 0.99)
    outside = ~np.isin(GEOMETRY.bin_table, whole).reshape(GEOMETRY.shape)
    geometry = GEOMETRY.masked(outside)
    found = scatters(np.rint(1e9 * NORM * (1 + 0.3 * np.cos(2 * angle))), geometry)["rings"]
    assert found.trend_factor * 0.3**2 / 2 == pytest.approx(found.total, rel=0.05)
