"""The smooth fit takes away everything smooth and nothing else, also where parts of the azimuth are not seen."""

import numpy as np
import pytest

from ringwatch_gpu.azimuth import HARMONICS, MIN_DEGREES, PARAMETERS, SmoothFit
from ringwatch_gpu.geometry_pyfai import SECTORS

from .spotty import Array, Spots, even

ANGLE = (np.arange(SECTORS) + 0.5) * 2 * np.pi / SECTORS


def with_gaps(rings: int, seed: int = 0) -> Array:
    """Uneven exposure, and up to three gaps of up to six sectors in each ring."""
    random = np.random.default_rng(seed)
    expected = random.uniform(0.75, 1.25, (rings, SECTORS))
    for ring in expected:
        for start in random.integers(0, SECTORS, 3):
            ring[np.arange(start, start + random.integers(1, 7)) % SECTORS] *= 0.1
    return expected


def projection(expected: Array) -> Array:
    """The projection P of one ring in full, from least squares."""
    covered = expected > np.median(expected) / 2
    root = np.sqrt(np.where(covered, expected, 0) / expected[covered].sum())
    waves = [np.ones(SECTORS), *(f(k * ANGLE) for k in range(1, HARMONICS + 1) for f in (np.cos, np.sin))]
    smooth = root[:, np.newaxis] * np.stack(waves, axis=1)
    return np.diag(covered.astype(float)) - smooth @ np.linalg.pinv(smooth)


def variance(fit: SmoothFit, sectors: Array) -> Array:
    return (fit.residuals(sectors) ** 2).sum(axis=-1) / fit.degrees


@pytest.mark.parametrize("order", range(HARMONICS + 1))
@pytest.mark.parametrize("phase", [0.0, 1.1])
def test_smooth_variation_leaves_nothing(order: int, phase: float) -> None:
    expected = with_gaps(20)
    fit = SmoothFit(expected)
    counts = 1e6 * expected * (1 + 0.7 * np.cos(order * ANGLE - phase))
    assert np.abs(fit.residuals(counts)).max() < 1e-10 * fit.counts(counts).max()


def test_the_next_harmonic_is_scatter() -> None:
    fit = SmoothFit(even(1))
    residuals = fit.residuals(1000 * (1 + np.cos((HARMONICS + 1) * ANGLE)))
    assert (residuals**2).sum() == pytest.approx(fit.counts(np.full(SECTORS, 1000.0)) ** 2 / 2, rel=1e-9)


def test_residuals_are_those_of_least_squares() -> None:
    expected = with_gaps(5)
    fit, counts = SmoothFit(expected), np.random.default_rng(1).poisson(50 * expected).astype(float)
    for ring in range(5):
        p = projection(expected[ring])
        covered = fit.covered[ring]
        z = np.where(covered, counts[ring] * np.sqrt(expected[ring, covered].sum() / expected[ring]), 0)
        np.testing.assert_allclose(fit.residuals(counts)[ring], p @ z, rtol=1e-9, atol=1e-9 * z.max())
        assert fit.degrees[ring] == round(np.trace(p))


@pytest.mark.parametrize("expected", [even(2000), with_gaps(2000)], ids=["even", "gaps"])
@pytest.mark.parametrize("mean", [0.5, 200.0])
def test_photons_scatter_as_much_as_they_are(expected: Array, mean: float) -> None:
    fit = SmoothFit(expected)
    counts = np.random.default_rng(2).poisson(mean * expected).astype(float)
    ratio = variance(fit, counts) / fit.counts(mean * expected)
    assert ratio.mean() == pytest.approx(1, abs=5 * ratio.std() / np.sqrt(ratio.size))
    assert ratio.mean() == pytest.approx(1, abs=0.03)


def test_spots_scatter_as_much_as_their_sum_varies() -> None:
    """With gaps: of the spots that are seen."""
    expected, spots = with_gaps(2000), Spots(40, 100.0)
    fit = SmoothFit(expected)
    counts = spots.on(2000, np.random.default_rng(3)) * expected
    of_sector = spots.mean / SECTORS * 2 * spots.photons**2 * expected**2
    true = (of_sector * fit.covered).sum(axis=1)
    assert (variance(fit, counts) / true).mean() == pytest.approx(1, abs=0.05)


def test_sectors_behind_a_gap_are_not_looked_at() -> None:
    expected = np.vstack([even(1)] * 4)
    expected[1, :10] = 0.49
    expected[2, :10] = 0.51
    expected[3, :10] = 0
    fit = SmoothFit(expected)
    assert fit.covered.sum(axis=1).tolist() == [72, 62, 72, 62]
    assert fit.counts(expected * 10)[1] == 620
    assert np.abs(fit.residuals(np.random.default_rng(0).random((4, SECTORS)))[3, :10]).max() < 1e-12


def test_of_few_sectors_nothing_is_said() -> None:
    enough = PARAMETERS + MIN_DEGREES
    expected = np.zeros((3, SECTORS))
    expected[0, :enough] = expected[1, : enough - 1] = 1
    fit = SmoothFit(expected)
    assert fit.usable.tolist() == [True, False, False]
    assert fit.degrees[0] == MIN_DEGREES
    counts = 7 * even(3)
    assert fit.counts(counts).tolist() == [7 * enough, 0, 0]
    assert not fit.residuals(counts)[1:].any()
    smooth, is_real, _ = fit.smooth_variance(counts, np.ones(3))
    assert not smooth[1:].any()
    assert not is_real[1:].any()


@pytest.mark.parametrize("expected", [even(60), with_gaps(60)], ids=["even", "gaps"])
def test_a_modulation_is_a_trend_of_its_size_and_no_scatter(expected: Array) -> None:
    """A modulation a cos 2 chi has a relative standard deviation of a / sqrt 2."""
    fit = SmoothFit(expected)
    truth = 3000 * expected * (1 + 0.2 * np.cos(2 * ANGLE + 0.4))
    counts = np.random.default_rng(4).poisson(truth).astype(float)
    scatter = variance(fit, counts)
    assert (scatter / fit.counts(counts)).mean() == pytest.approx(1, abs=0.1)
    share = truth / fit.counts(truth)[:, np.newaxis]
    even_share = fit.covered * expected / fit.counts(expected)[:, np.newaxis]
    true = np.sqrt(np.where(fit.covered, (share - even_share) ** 2 / np.maximum(even_share, 1e-9), 0).sum(axis=1))
    smooth, is_real, _ = fit.smooth_variance(counts, scatter)
    np.testing.assert_allclose(np.sqrt(smooth), true, rtol=0.1)
    assert is_real.all()
    assert true.mean() == pytest.approx(0.2 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize("seen", [72, 48, 30])
def test_noise_is_no_trend(seen: int) -> None:
    """In 95 of 100 rings, however little of them is seen."""
    expected = even(4000) * (np.arange(SECTORS) < seen)
    fit, counts = SmoothFit(expected), np.random.default_rng(5).poisson(500 * expected).astype(float)
    smooth, is_real, _ = fit.smooth_variance(counts, variance(fit, counts))
    assert is_real.mean() == pytest.approx(0.05, abs=0.015)
    assert smooth.mean() == pytest.approx(0, abs=4 * smooth.std() / np.sqrt(smooth.size))


def test_what_spots_hide_beyond_the_borders_follows_from_neighbouring_residuals() -> None:
    """Exactly, from the expected sums: a variance of 5 in each sector, and a covariance of 2 with each neighbour."""
    expected = with_gaps(6)
    fit = SmoothFit(expected)
    covariance = 5 * np.eye(SECTORS) + 2 * (np.roll(np.eye(SECTORS), 1, axis=0) + np.roll(np.eye(SECTORS), -1, axis=0))
    for ring in range(6):
        p = projection(expected[ring])
        of_residuals = p @ covariance @ p
        squares, neighbours = np.trace(of_residuals), np.trace(np.roll(of_residuals, -1, axis=1))
        sums = np.full((2, 6), [[squares], [neighbours]])
        assert squares / fit.degrees[ring] + 2 * fit.leaked(*sums)[ring] == pytest.approx(5 + 2 * 2, rel=1e-9)


def test_photons_hide_nothing_beyond_the_borders() -> None:
    expected = with_gaps(400)
    fit = SmoothFit(expected)
    residuals = fit.residuals(np.random.default_rng(7).poisson(100 * expected).astype(float))
    squares, neighbours = (residuals**2).sum(axis=1), (residuals * np.roll(residuals, -1, axis=1)).sum(axis=1)
    share = fit.leaked(squares, neighbours) * fit.degrees / squares
    assert share.mean() == pytest.approx(0, abs=5 * share.std() / np.sqrt(share.size))


def test_frames_may_be_fitted_together() -> None:
    fit, counts = SmoothFit(with_gaps(3)), np.random.default_rng(6).poisson(9.0, (4, 3, SECTORS)).astype(float)
    np.testing.assert_allclose(fit.residuals(counts)[2], fit.residuals(counts[2]), rtol=1e-12, atol=1e-9)
    np.testing.assert_array_equal(fit.counts(counts)[2], fit.counts(counts[2]))
