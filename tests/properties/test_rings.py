"""Rings of made-up profiles with known truth: found where they are, nothing found where nothing is."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ringwatch_gpu.errors import GeometryError
from ringwatch_gpu.ring_positions import RadialAxis, calibrant_spacings
from ringwatch_gpu.rings import MAX_RINGS, Rings, find_rings, rings_at
from ringwatch_gpu.sums import RingProfile

Array = NDArray[np.float64]


def axis(bins: int, unit: str = "2th_deg", wavelength_m: float | None = 3e-11, end: float = 30.0) -> RadialAxis:
    edges = np.linspace(0.0, end, bins + 1)
    return RadialAxis((edges[1:] + edges[:-1]) / 2, edges, unit, wavelength_m, np.ones(bins))


def profile(signal: Array, norm: Array | None = None, variance: Array | None = None) -> RingProfile:
    """Profile of many pixels a bin: its variance is that of the photons, unless another one is given."""
    norm = np.full(signal.size, 1.0) if norm is None else norm
    return RingProfile.of(signal, signal.copy() if variance is None else variance, norm, norm, norm)


def counted(expected: Array, norm: Array | None = None, seed: int = 0) -> RingProfile:
    return profile(np.random.default_rng(seed).poisson(expected).astype(np.float64), norm)


def peak(bins: int, centre: float, fwhm: float, counts: float) -> Array:
    """A Gaussian ring of so many counts, centred at a (fractional) bin."""
    sigma = fwhm / 2.3548
    density = np.exp(-0.5 * ((np.arange(bins) - centre) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    return counts * density


def centres(rings: Rings, on: RadialAxis) -> Array:
    return np.interp(rings.position, on.radial, np.arange(on.bins))


def at_bins(*bins: float, on: RadialAxis) -> Array:
    return on.d_spacing_A(np.interp(bins, np.arange(on.bins), on.radial))


SMOOTH: dict[str, Callable[[Array], Array]] = {
    "flat": np.ones_like,
    "hump": lambda x: 0.3 + 0.5 * np.exp(-(((x - 0.4) / 0.15) ** 2)),
    "small angles": lambda x: 0.1 + 1e-3 * (x + 0.05) ** -4,
    "edge of a beam stop": lambda x: np.where(x < 0.1, 0.02, np.exp(-x)),
    "soft beam stop": lambda x: (0.3 + 3 * np.exp(-8 * x)) * (1.01 - np.exp(-((x / 0.02) ** 4))),
}


@pytest.mark.parametrize("shape", SMOOTH)
def test_noise_makes_no_rings(shape: str) -> None:
    false = 0
    for trial in range(40):
        bins, mean = (300, 1000)[trial % 2], (0.3, 5.0, 100.0, 1e4, 1e6)[trial % 5]
        x = np.arange(bins) / bins
        norm = np.minimum(x, 1 - x / 2) + 0.005
        expected = SMOOTH[shape](x) * norm
        false += len(find_rings(counted(expected * mean / expected.mean(), norm, trial), axis(bins))) > 0
    assert false <= 1


@pytest.mark.parametrize("shape", SMOOTH)
@pytest.mark.parametrize(("bins", "fwhm"), [(300, 2.0), (1000, 5.0), (3000, 20.0)])
def test_rings_are_found_where_they_are_with_their_counts(shape: str, bins: int, fwhm: float) -> None:
    true, counts = bins * np.array([0.15, 0.352, 0.655, 0.9]), np.array([3e4, 1e4, 1e4, 1e5])
    x = np.arange(bins) / bins
    ground = 400.0 * SMOOTH[shape](x) / SMOOTH[shape](x)[bins // 8 :].max()
    seen = counted(ground + sum(peak(bins, at, fwhm, n) for at, n in zip(true, counts, strict=True)))

    rings = find_rings(seen, axis(bins))

    assert len(rings) == true.size
    np.testing.assert_allclose(centres(rings, axis(bins)), true, atol=fwhm / 4)
    noise = np.sqrt(counts + 3 * fwhm * ground[true.astype(int)] * 2)
    np.testing.assert_array_less(np.abs(rings.net_signal(seen) - counts), 4 * noise + 0.02 * counts)


def test_few_counts_are_enough_for_a_clear_ring() -> None:
    on = axis(1000)
    found = [
        find_rings(counted(3.0 + peak(1000, 400, 4, 80) + peak(1000, 700, 6, 120), seed=seed), on) for seed in range(20)
    ]
    assert sum(len(rings) == 2 for rings in found) >= 19


def test_a_single_photon_and_none_make_no_ring() -> None:
    for signal in (np.zeros(500), np.eye(1, 500, 250)[0]):
        rings = find_rings(profile(signal), axis(500))
        assert len(rings) == 0
        assert rings.background.max() < 0.5


@pytest.mark.parametrize("bins", [1, 2, 30])
def test_an_axis_of_few_bins_and_a_detector_without_pixels_are_no_trouble(bins: int) -> None:
    assert len(find_rings(profile(np.full(bins, 7.0)), axis(bins))) == 0
    nothing = find_rings(profile(np.zeros(bins), np.zeros(bins)), axis(bins))
    assert len(nothing) == 0
    assert not nothing.background.any()


def test_rings_covered_over_less_than_half_of_the_azimuth_are_left_out() -> None:
    fraction = np.where(np.arange(1000) < 700, 1.0, 0.4)
    on = RadialAxis(axis(1000).radial, axis(1000).edges, "2th_deg", 3e-11, fraction)
    expected = 100 + sum(peak(1000, at, 5, 1e4) for at in (300, 699, 850))

    rings = find_rings(counted(expected), on)

    np.testing.assert_allclose(centres(rings, on), [300], atol=1)
    given = rings_at(on.d_spacing_A(np.interp([300.0, 850.0], np.arange(1000), on.radial)), counted(expected), on)
    np.testing.assert_allclose(centres(given, on), [300], atol=1)


def test_a_window_ends_where_the_cover_does() -> None:
    fraction = np.where(np.arange(1000) < 705, 1.0, 0.4)
    on = RadialAxis(axis(1000).radial, axis(1000).edges, "2th_deg", 3e-11, fraction)
    rings = find_rings(counted(100 + peak(1000, 700, 5, 1e4)), on)
    assert rings.last.tolist() == [705]


def test_masked_and_empty_bins_make_no_rings_and_hide_none() -> None:
    norm = np.full(1000, 50.0)
    norm[[120, 121, 122, 380, 640, 641]] = 0
    norm[500:560] *= 0.03
    expected = norm * (2 + peak(1000, 300, 5, 100) + peak(1000, 700, 5, 100) + np.linspace(3, 0, 1000))

    rings = find_rings(counted(expected, norm), axis(1000))

    np.testing.assert_allclose(centres(rings, axis(1000)), [300, 700], atol=1)
    assert np.isfinite(rings.background).all()


def test_a_hot_pixel_is_no_ring() -> None:
    signal = counted(np.full(1000, 400.0)).signal
    signal[600] += 5e4
    variance = signal.copy()
    variance[600] += 5e4**2
    assert len(find_rings(profile(signal, variance=variance), axis(1000))) == 0


def spotty(spots: int, spot_sigma: float, seed: int) -> tuple[RingProfile, RadialAxis]:
    """One frame of 400 x 400 with a ring of radius 120, made of spots of very different brightness."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((400, 400))
    expected = np.full((400, 400), 0.2)
    for angle, radius in zip(rng.uniform(0, 2 * np.pi, spots), rng.normal(120, 2, spots), strict=True):
        y, x = 200 + radius * np.sin(angle), 200 + radius * np.cos(angle)
        near = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * spot_sigma**2))
        expected += rng.lognormal(3.0, 1.0) * near
    counts = rng.poisson(expected).ravel().astype(np.float64)
    bin_of = np.hypot(rows - 200, columns - 200).ravel().astype(int)
    inside = bin_of < 200
    counts, bin_of = counts[inside], bin_of[inside]
    n = np.bincount(bin_of).astype(np.float64)
    signal = np.bincount(bin_of, counts)
    variance = np.bincount(bin_of, counts**2) - signal**2 / n
    return RingProfile.of(signal, variance, n, n, n), axis(200)


def test_a_spotty_ring_is_one_ring() -> None:
    found = [find_rings(*spotty(spots=60, spot_sigma=1.3, seed=seed)) for seed in range(10)]
    assert [len(rings) for rings in found] == [1] * 10
    np.testing.assert_allclose([rings.position[0] / 30 * 200 for rings in found], 120, atol=2)


def test_a_single_sharp_spot_is_no_ring() -> None:
    assert [len(find_rings(*spotty(spots=1, spot_sigma=0.6, seed=seed))) for seed in range(10)] == [0] * 10


def test_neighbours_meet_at_the_valley_between_them() -> None:
    expected = 50 + peak(500, 200, 5, 1e5) + peak(500, 210, 5, 5e4)
    rings = find_rings(counted(expected), axis(500))
    assert len(rings) == 2
    assert rings.last[0] == rings.first[1]
    assert abs(rings.last[0] - (200 + np.argmin(expected[200:210]))) <= 1


def test_of_many_rings_the_63_with_most_counts_are_kept() -> None:
    at = np.arange(20, 2980, 40)
    counts = np.random.default_rng(5).permutation(np.geomspace(1e4, 1e6, at.size))
    seen = counted(20 + sum(peak(3000, place, 4, n) for place, n in zip(at, counts, strict=True)))
    strongest = np.sort(at[np.argsort(-counts)[:MAX_RINGS]])
    assert at.size > MAX_RINGS

    for rings in (find_rings(seen, axis(3000)), rings_at(at_bins(*at, on=axis(3000)), seen, axis(3000))):
        np.testing.assert_allclose(centres(rings, axis(3000)), strongest, atol=1)
        assert len(rings) == MAX_RINGS


def assert_consistent(rings: Rings, bins: int) -> None:
    assert (rings.first < rings.last).all()
    assert (rings.last[:-1] <= rings.first[1:]).all()
    assert (np.diff(rings.position) > 0).all()
    assert rings.background.shape == (bins,)
    assert (rings.first >= 0).all()
    assert (rings.last <= bins).all()
    assert np.isfinite(rings.background).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 700), st.floats(0.01, 1e5), st.floats(0, 0.5))
def test_whatever_the_profile_the_windows_are_sound_and_the_same_again(
    seed: int, bins: int, mean: float, empty: float
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    norm = np.where(rng.random(bins) < empty, 0.0, rng.uniform(0.1, 100, bins))
    bumps = sum(peak(bins, rng.uniform(0, bins), rng.uniform(1, 30), rng.lognormal(3, 3)) for _ in range(8))
    seen = counted(norm * mean * (0.1 + bumps + rng.random() * np.linspace(0, 5, bins)), norm, seed)
    on = axis(bins)
    spacings = rng.uniform(0.5, 20, 100)

    rings, given_rings = find_rings(seen, on), rings_at(spacings, seen, on)

    assert_consistent(rings, bins)
    assert_consistent(given_rings, bins)
    again = find_rings(seen, on)
    assert all(np.array_equal(getattr(rings, name), getattr(again, name), equal_nan=True) for name in vars(rings))


def test_rings_do_not_depend_on_the_unit_of_the_norm() -> None:
    seen = counted(100 + peak(600, 200, 5, 5e3) + peak(600, 400, 8, 8e3))
    rings, scaled = find_rings(seen, axis(600)), find_rings(profile(seen.signal, np.full(600, 1024.0)), axis(600))
    assert len(rings) == 2
    assert np.array_equal(rings.first, scaled.first)
    assert np.array_equal(rings.last, scaled.last)
    np.testing.assert_allclose(rings.net_signal(seen), scaled.net_signal(profile(seen.signal, np.full(600, 1024.0))))


# ------------------------------------------------------------------------------------------------- at given spacings


def test_rings_at_given_spacings_take_centre_and_width_of_their_peaks() -> None:
    on = axis(1000)
    seen = counted(100 + peak(1000, 303, 10, 1e5) + peak(1000, 600, 4, 1e5) + peak(1000, 800, 6, 1e5))
    asked = at_bins(300, 600, on=on)

    rings = rings_at(asked, seen, on)

    assert np.array_equal(rings.d_spacing_A, asked)
    np.testing.assert_allclose(centres(rings, on), [303, 600], atol=0.3)
    width = rings.last - rings.first
    assert 28 <= width[0] <= 34
    assert 12 <= width[1] <= 16
    assert rings.background[800] == pytest.approx(100, rel=0.2)  # a peak that was not asked for is no background
    np.testing.assert_allclose(rings.net_signal(seen), 1e5, rtol=0.02)


def test_rings_without_a_peak_lie_where_they_are_expected() -> None:
    on = axis(1000)
    rings = rings_at(at_bins(300.4, 700.4, on=on), profile(np.zeros(1000)), on)
    assert list(zip(rings.first, rings.last, strict=True)) == [(295, 307), (695, 707)]
    np.testing.assert_allclose(centres(rings, on), [300.5, 700.5])

    one_seen = counted(100 + peak(1000, 300, 10, 1e5))
    both = rings_at(at_bins(300, 700, on=on), one_seen, on)
    assert abs(np.diff(both.last - both.first)[0]) <= 1


def test_a_peak_belongs_to_the_nearest_of_two_spacings() -> None:
    on = axis(1000)
    rings = rings_at(at_bins(500, 506, on=on), counted(100 + peak(1000, 505.5, 8, 1e5)), on)
    assert len(rings) == 2
    assert rings.net_signal(counted(100 + peak(1000, 505.5, 8, 1e5)))[1] > 7e4


def test_of_two_spacings_on_the_same_bins_one_ring_is_made() -> None:
    on = axis(1000)
    asked = at_bins(500, 501.5, 700, on=on)
    rings = rings_at([*asked, asked[2]], profile(np.zeros(1000)), on)
    assert rings.d_spacing_A.tolist() == [asked[0], asked[2]]


def test_spacings_off_the_detector_are_left_out() -> None:
    on = axis(1000)
    beyond = on.d_spacing_A(np.array([30.5, 60.0]))
    rings = rings_at([*beyond, 0.1, *at_bins(500, on=on)], profile(np.zeros(1000)), on)
    assert len(rings) == 1
    assert len(rings_at([], profile(np.zeros(1000)), on)) == 0


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_spacing_is_a_positive_number(bad: float) -> None:
    with pytest.raises(GeometryError, match="positive"):
        rings_at([3.1, bad], profile(np.zeros(100)), axis(100))


@pytest.mark.parametrize(("unit", "wavelength_m", "why"), [("r_mm", 3e-11, "r_mm"), ("2th_deg", None, "wavelength")])
def test_without_wavelength_or_on_an_axis_of_lengths_spacings_are_unknown(
    unit: str, wavelength_m: float | None, why: str
) -> None:
    seen, on = counted(100 + peak(500, 250, 5, 1e4)), axis(500, unit, wavelength_m, end=1.0)
    rings = find_rings(seen, on)
    assert len(rings) == 1
    assert np.isnan(rings.d_spacing_A).all()
    with pytest.raises(GeometryError, match=why):
        rings_at([3.1], seen, on)


@pytest.mark.parametrize(
    ("unit", "position"),
    [("2th_deg", 4.401567), ("2th_rad", 0.0768218), ("q_A^-1", 1.6085556), ("q_nm^-1", 16.085556)],
)
def test_a_spacing_and_its_place_by_hand_in_every_unit(unit: str, position: float) -> None:
    # Bragg by hand: d = 3.9061 A, wavelength 0.3 A: sin(theta) = 0.3 / (2 d) = 0.0384014, q = 2 pi / d.
    on = axis(10, unit)
    assert on.position(np.array([3.9061]))[0] == pytest.approx(position, rel=1e-5)
    assert on.d_spacing_A(np.array([position]))[0] == pytest.approx(3.9061, rel=1e-5)


def test_calibrants_are_known_by_name_and_read_from_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    ceria = calibrant_spacings("CeO2")
    np.testing.assert_allclose(ceria[:4], 5.411651 / np.sqrt([3, 4, 8, 11]), rtol=1e-6)
    assert (np.diff(ceria) < 0).all()
    own = tmp_path_factory.mktemp("calibrant") / "own.D"
    own.write_text("# mine\n2.7\n3.1\n")
    assert calibrant_spacings(own).tolist() == [3.1, 2.7]


def test_an_unknown_calibrant_is_answered_with_similar_names() -> None:
    with pytest.raises(GeometryError, match=r"'ceo2' is neither a calibrant nor a file; similar: CeO2"):
        calibrant_spacings("ceo2")
    with pytest.raises(GeometryError, match=r"known: .*LaB6"):
        calibrant_spacings("xyzzy")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"hello world\n", b"3.1\n-2\n", b"1" * (1 << 20) + b"\n1"])
def test_a_file_without_spacings_is_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("calibrant") / "bad.D"
    path.write_bytes(content)
    with pytest.raises(GeometryError, match=r"bad\.D"):
        calibrant_spacings(path)
