"""Parts left out one by one tell how well a number is known."""

import numpy as np
import pytest
from scipy.stats.mstats import hdquantiles

from ringwatch_gpu.jackknife import quantile_replicates, quantile_weights, standard_error, without_one

VALUES = np.random.default_rng(0).lognormal(0, 1, (3, 40))


def test_sums_without_one_part() -> None:
    left = without_one(VALUES)
    assert left.shape == VALUES.shape
    assert left[1, 7] == pytest.approx(np.delete(VALUES[1], 7).sum())


def test_the_standard_error_of_a_mean_is_that_of_the_textbook() -> None:
    found = standard_error(without_one(VALUES) / (VALUES.shape[1] - 1))
    np.testing.assert_allclose(found, VALUES.std(axis=1, ddof=1) / np.sqrt(VALUES.shape[1]), rtol=1e-12)


def test_the_standard_error_of_a_ratio_covers_its_scatter() -> None:
    """Against 2000 repetitions of a ratio of sums that depend on each other."""
    random = np.random.default_rng(1)
    below = random.exponential(1.0, (2000, 60))
    above = below * random.uniform(0, 2, below.shape)
    ratio = above.sum(axis=1) / below.sum(axis=1)
    errors = standard_error(without_one(above) / without_one(below))
    assert np.sqrt((errors**2).mean()) == pytest.approx(ratio.std(), rel=0.08)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_quantiles_are_those_of_harrell_and_davis(n: int, share: float) -> None:
    values = np.random.default_rng(n).lognormal(0, 1, n)
    weights = quantile_weights(values, share)
    assert weights.sum() == pytest.approx(1, rel=1e-12)
    expected = values[0] if n == 1 else hdquantiles(values, [share])[0]
    assert weights @ values == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("spread", [0.0, 0.2, 1.0])
def test_the_error_of_a_median_covers_its_scatter_whether_values_change_places_or_not(spread: float) -> None:
    """18 variances of 63 degrees of freedom, as those of rings; the plain jackknife is up to a third too large."""
    random = np.random.default_rng(5)
    truth = np.exp(spread * np.linspace(-1, 1, 18))[:, np.newaxis]
    medians, errors, plain = [], [], []
    for _ in range(400):
        parts = truth * random.chisquare(1, (18, 63)) / 63
        values, replicates = parts.sum(axis=1), without_one(parts) * 63 / 62
        medians.append(quantile_weights(values, 0.5) @ values)
        errors.append(standard_error(quantile_replicates(values, replicates, 0.5)))
        plain.append(standard_error(quantile_weights(values, 0.5) @ replicates))
    scatter = np.std(medians)
    assert 0.93 * scatter < np.mean(errors) < 1.15 * scatter
    assert spread > 0 or np.mean(plain) > 1.25 * scatter
