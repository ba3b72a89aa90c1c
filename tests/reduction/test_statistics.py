"""All statistics of one accumulation together, from small frames of known spots; and images that tell nothing."""

from dataclasses import fields
from math import isfinite

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.kernels import synthetic
from tests.statistics.spotty import disc, profile_of, summed

from ringwatch.messages import Estimate, Statistics
from ringwatch.reduction.statistics import Measurements, SpotStatistics
from ringwatch_gpu import reference
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.reference import evaluate_image
from ringwatch_gpu.ring_positions import RadialAxis
from ringwatch_gpu.sectors import equal_groups
from ringwatch_gpu.spottiness import spottiness
from ringwatch_gpu.validity import Validity

Frame = NDArray[np.uint32]

U4 = np.dtype(np.uint32)
VALIDITY = Validity.of(U4)
INVALID = 2**32 - 1
GEOMETRY = disc(128, 64)
RING_BINS = (12, 20, 28)
SPACINGS = RadialAxis.of(GEOMETRY).d_spacing_A(GEOMETRY.radial[list(RING_BINS)])
SPOTS, PHOTONS = 80, 200.0
"""On a ring in a frame; mean of an exponential distribution."""

PIXELS = [np.flatnonzero(GEOMETRY.bin_table == number) for number in range(GEOMETRY.bins)]
BACKGROUND = 2.0
ANGLE = GEOMETRY.sector * 2 * np.pi / 72


class Accumulated:
    """Frames one by one into statistics, as the accumulator does it."""

    def __init__(self, geometry: Geometry = GEOMETRY, spacings: NDArray[np.float64] | None = SPACINGS) -> None:
        self.geometry, self.statistics = geometry, SpotStatistics.of(geometry, spacings)
        self.total, self.lost = np.zeros(geometry.pixels, np.uint64), np.zeros(geometry.pixels, np.uint32)
        self.n_frames = 0

    def add(self, *frames: Frame) -> "Accumulated":
        for frame in frames:
            values, lost = reference.accumulate_image(
                frame.reshape(1, -1), self.geometry.bin_table, self.geometry.bins, VALIDITY
            )
            self.total, self.lost, self.n_frames = self.total + values, self.lost + lost, self.n_frames + 1
            if self.statistics.wants_sectors:
                groups = equal_groups(self.geometry.bins)
                self.statistics.add_sectors(reference.sector_sums(frame.ravel(), self.geometry, groups, VALIDITY))
        return self

    def evaluate(self) -> tuple[Statistics, Measurements]:
        image = evaluate_image(self.total, self.lost, self.n_frames, self.geometry)
        return self.statistics.evaluate(image, profile_of(image, self.geometry), self.n_frames)


def grains(random: np.random.Generator, spots: int = SPOTS) -> NDArray[np.float64]:
    """Expected photons of one set of crystallites, each in one pixel, shape (pixels,)."""
    image = np.zeros(GEOMETRY.pixels)
    for ring in RING_BINS:
        bins = np.rint(random.normal(ring, 0.8, random.poisson(spots))).astype(int)
        pixel = [random.choice(PIXELS[number]) for number in bins]
        np.add.at(image, pixel, random.exponential(PHOTONS, bins.size))
    return image


def smooth() -> NDArray[np.float64]:
    """As bright as the crystallites are on average, but even around the azimuth."""
    image = np.zeros(GEOMETRY.pixels)
    for ring in RING_BINS:
        for number in range(ring - 4, ring + 5):
            share = np.exp(-((number - ring) ** 2) / (2 * 0.8**2)) / (0.8 * np.sqrt(2 * np.pi))
            image[PIXELS[number]] = SPOTS * PHOTONS * share / PIXELS[number].size
    return image


def counted(expected: NDArray[np.float64], random: np.random.Generator) -> Frame:
    return random.poisson(expected + BACKGROUND).astype(np.uint32)


def published(statistics: Statistics) -> list[Estimate]:
    others = (
        statistics.independent_frames, statistics.repeating_fraction, statistics.crystallites,
        statistics.azimuthal_trend, statistics.photon_share,
    )  # fmt: skip
    return [*statistics.measures.values(), *(estimate for estimate in others if estimate is not None)]


@pytest.fixture(scope="module")
def moving() -> tuple[Statistics, Measurements]:
    """24 frames, each with new crystallites."""
    random = np.random.default_rng(0)
    return Accumulated().add(*(counted(grains(random), random) for _ in range(24))).evaluate()


def test_new_crystallites_in_each_frame_are_independent_frames(moving: tuple[Statistics, Measurements]) -> None:
    found, _ = moving
    assert found.independent_frames is not None
    assert found.repeating_fraction is not None
    assert found.independent_frames.low < 24 < found.independent_frames.high
    assert found.independent_frames.value == pytest.approx(24, rel=0.4)
    assert abs(found.repeating_fraction.value) < 0.15


def test_rings_and_crystallites_are_known_as_well_as_their_number_allows(
    moving: tuple[Statistics, Measurements],
) -> None:
    """Photons of the crystallites vary with cv 1: they count half."""
    found, _ = moving
    effective = SPOTS * 24 / 2
    assert found.rings is not None
    assert found.crystallites is not None
    assert found.crystallites.value == pytest.approx(3 * effective, rel=0.3)
    np.testing.assert_allclose(found.rings.spots, effective, rtol=0.5)
    np.testing.assert_allclose(found.rings.net_counts, SPOTS * 24 * PHOTONS, rtol=0.12)
    np.testing.assert_allclose(found.rings.uncertainty, 1 / np.sqrt(effective), rtol=0.3)
    assert (found.rings.uncertainty_low < found.rings.uncertainty).all()
    assert (found.rings.uncertainty < found.rings.uncertainty_high).all()
    assert not found.rings.spots_bound.any()
    assert found.measures["ring_uncertainty"].value == pytest.approx(np.median(found.rings.uncertainty), rel=0.2)
    assert found.rings.d_spacing_A == pytest.approx(np.sort(SPACINGS)[::-1])


def test_all_metrics_are_measured_with_intervals_in_order(moving: tuple[Statistics, Measurements]) -> None:
    found, measurements = moving
    assert found.measures.keys() == measurements.keys()
    assert len(found.measures) == 8
    for estimate in published(found):
        assert estimate.low <= estimate.value < estimate.high
    assert 0 < found.photon_share.low < found.photon_share.high < 0.2
    assert 0 < found.measures["excess"].value < found.measures["spottiness_rings"].value
    for metric, measurement in measurements.items():
        assert measurement.estimate == found.measures[metric]
        expected = 1 / measurement.estimate.value if metric in {"spots", "counts"} else measurement.estimate.value**2
        assert measurement.variance == pytest.approx(expected, rel=1e-9)
        assert 0 <= measurement.photons <= measurement.variance


def test_spottiness_is_that_of_the_summed_image() -> None:
    random = np.random.default_rng(1)
    frame = counted(grains(random), random)
    found, _ = Accumulated().add(frame).evaluate()
    values = spottiness(profile_of(summed(frame.reshape(128, 128), GEOMETRY), GEOMETRY), GEOMETRY.azimuth_fraction)
    assert found.measures["spottiness"].value == pytest.approx(float(values.plain), rel=1e-9)
    assert found.measures["spottiness_weighted"].value == pytest.approx(float(values.weighted), rel=1e-9)
    assert found.measures["spottiness_rings"].value == pytest.approx(float(values.rings), rel=1e-9)
    assert found.measures["relative_error"].value == pytest.approx(float(np.nanmean(found.bin_spottiness)), rel=1e-9)


def test_the_same_crystallites_in_each_frame_are_one_frame() -> None:
    random = np.random.default_rng(2)
    resting = grains(random)
    found, _ = Accumulated().add(*(counted(resting, random) for _ in range(24))).evaluate()
    assert found.independent_frames is not None
    assert found.repeating_fraction is not None
    assert found.independent_frames.value == pytest.approx(1, abs=0.1)
    assert found.repeating_fraction.value == pytest.approx(1, abs=0.05)
    assert found.crystallites is not None
    assert found.crystallites.value == pytest.approx(3 * SPOTS / 2, rel=0.4)


def test_of_a_perfect_powder_only_limits_are_known() -> None:
    random = np.random.default_rng(3)
    found, _ = Accumulated().add(*(counted(smooth(), random) for _ in range(8))).evaluate()
    assert found.independent_frames is found.repeating_fraction is None
    assert found.rings is not None
    assert found.rings.spots_bound.all()
    assert found.crystallites is not None
    assert found.crystallites.bound == found.measures["spots"].bound == "lower"
    assert found.crystallites.value > 10000
    assert found.measures["ring_uncertainty"].value == pytest.approx(1 / np.sqrt(8 * SPOTS * PHOTONS), rel=0.2)


def test_photons_alone_leave_no_excess() -> None:
    """Without rings, since their slopes leave some."""
    random = np.random.default_rng(4)
    flat = GEOMETRY.norm_q * GEOMETRY.norm_quantum * 50
    found, _ = Accumulated().add(counted(flat - BACKGROUND, random)).evaluate()
    assert found.photon_share.value == pytest.approx(1, abs=0.05)
    excess = found.measures["excess"]
    assert excess.low < 0 < excess.high


def test_a_smooth_variation_is_published_as_a_trend_and_not_as_grains() -> None:
    """As polarization makes it, of rings and background."""
    random = np.random.default_rng(5)
    varied = (smooth() + BACKGROUND) * (1 + 0.4 * np.cos(2 * ANGLE)) - BACKGROUND
    found, measurements = Accumulated().add(*(counted(varied, random) for _ in range(8))).evaluate()
    assert found.azimuthal_trend.value == pytest.approx(0.4 / np.sqrt(2), rel=0.15)
    assert found.rings is not None
    assert found.rings.spots_bound.all()
    assert measurements["spottiness_rings"].trend > 0


def test_a_changing_pattern_is_a_drift() -> None:
    random = np.random.default_rng(6)
    accumulated, since = Accumulated(), []
    inner = GEOMETRY.bin_table < 16
    for number in range(40):
        accumulated.add(counted(smooth() * np.where(inner & (number >= 20), 1.5, 1.0), random))
        accumulated.evaluate()
        since.append(accumulated.statistics.drift_since)
    assert since[:20] == [None] * 20
    assert since[29] is not None


def test_sectors_are_taken_until_the_next_evaluation() -> None:
    accumulated = Accumulated().add(*[np.ones(GEOMETRY.pixels, np.uint32)] * 64)
    assert not accumulated.statistics.wants_sectors
    accumulated.evaluate()
    assert accumulated.statistics.wants_sectors


# ------------------------------------------------------------------------------------------- images that tell nothing


def one_pixel(value: int) -> Frame:
    image = np.zeros(GEOMETRY.pixels, np.uint32)
    image[PIXELS[20][17]] = value
    return image


def only(where: NDArray[np.bool_]) -> Frame:
    return np.where(where, 1000, 0).astype(np.uint32)


ON_RINGS = np.isin(GEOMETRY.bin_table, RING_BINS)
STRANGE = {
    "nothing": np.zeros(GEOMETRY.pixels, np.uint32),
    "no valid pixel": np.full(GEOMETRY.pixels, INVALID, np.uint32),
    "all alike": np.ones(GEOMETRY.pixels, np.uint32),
    "all as bright as can be": np.full(GEOMETRY.pixels, INVALID - 1, np.uint32),
    "one photon": one_pixel(1),
    "one hot pixel": one_pixel(10**9),
    "one sector": only(ON_RINGS & (GEOMETRY.sector == 3)),
    "an arc": only(ON_RINGS & (GEOMETRY.sector < 25)),
    "perfect rings": only(ON_RINGS),
    "few valid pixels": np.where(np.arange(GEOMETRY.pixels) % 97, INVALID, 5).astype(np.uint32),
}


def assert_finite(found: Statistics, measurements: Measurements) -> None:
    for estimate in published(found):
        assert all(isfinite(value) for value in (estimate.value, estimate.low, estimate.high)), estimate
    for measurement in measurements.values():
        assert all(isfinite(x) for x in (measurement.variance, measurement.photons, measurement.trend))
        assert measurement.replicates is None or np.isfinite(measurement.replicates).all()
    if found.rings is not None:
        assert len({getattr(found.rings, field.name).shape for field in fields(found.rings)}) == 1


@pytest.mark.parametrize("spacings", [None, SPACINGS], ids=["found", "given"])
@pytest.mark.parametrize("image", STRANGE)
def test_strange_images_give_none_or_numbers(image: str, spacings: NDArray[np.float64] | None) -> None:
    accumulated = Accumulated(spacings=spacings)
    for _ in range(3):
        assert_finite(*accumulated.add(STRANGE[image]).evaluate())


@pytest.mark.parametrize("image", ["nothing", "no valid pixel"])
def test_of_nothing_nothing_is_told(image: str) -> None:
    found, measurements = Accumulated().add(*[STRANGE[image]] * 3).evaluate()
    assert not found.measures
    assert not measurements
    assert found.independent_frames is found.repeating_fraction is found.crystallites is None
    assert found.azimuthal_trend is found.photon_share is None
    assert np.isnan(found.bin_spottiness).all()


@pytest.mark.parametrize("mean", [1e-4, 1e-2, 1.0, 100.0])
def test_few_photons_and_holes_give_none_or_numbers(mean: float) -> None:
    for seed in range(6):
        random = np.random.default_rng(seed)
        accumulated = Accumulated(spacings=SPACINGS if seed % 2 else None)
        for _ in range(2):
            frame = random.poisson(mean * (1 + 10 * ON_RINGS * random.exponential(1.0, GEOMETRY.pixels)))
            frame[random.random(GEOMETRY.pixels) < (0, 0.5, 0.98)[seed // 2]] = INVALID
            assert_finite(*accumulated.add(frame.astype(np.uint32)).evaluate())


@pytest.mark.parametrize("bins", [1, 2, 5, 63, 65, 200])
def test_any_number_of_bins(bins: int) -> None:
    geometry, random = synthetic.geometry((30, 20), bins), np.random.default_rng(bins)
    accumulated = Accumulated(geometry, None)
    for mean in (0.0, 0.3, 1000.0):
        found, measurements = accumulated.add(random.poisson(mean, 600).astype(np.uint32)).evaluate()
        assert_finite(found, measurements)
        assert found.bin_spottiness.shape == (bins,)
