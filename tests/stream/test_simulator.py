"""The simulated powder is what it says: its geometry is pyFAI's, its statistics are those of its analytic truth."""

import functools
import os
import threading
from dataclasses import replace
from pathlib import Path
from time import thread_time

import numpy as np
import pyFAI
import pytest
import zmq
from numpy.typing import NDArray

from ringwatch.errors import ConfigError
from ringwatch.messages import Frame, SeriesEnd, SeriesStart
from ringwatch.stream import powder, simulator
from ringwatch.stream.decode import decode
from ringwatch.stream.decompress import decode_into
from ringwatch.stream.encode import StreamVersion
from ringwatch.stream.powder import TRUTH, TUTORIAL, Powder
from ringwatch.stream.sender import Sender
from ringwatch.stream.simulator import Simulator, simulate
from ringwatch.stream.truth import Expected, truth

Floats = NDArray[np.float64]

SMALL = replace(TRUTH, shape=(128, 128), poni1_m=0.0048, poni2_m=0.0048, distance_m=0.04, crystallites=3e4)


class Bins:
    """Sums over the pixels of radial bins, the way pyFAI makes them without pixel splitting.

    ``radii_px``: first and last edge; by default the span of the pixel centres, as pyFAI has it.
    """

    def __init__(self, of: Powder, bins: int, radii_px: tuple[float, float] | None = None) -> None:
        tth_deg = two_theta_deg(of)
        first, last = radii_px_to_deg(of, np.array(radii_px)) if radii_px else (tth_deg.min(), tth_deg.max())
        self.edges_deg = np.linspace(first, last, bins + 1)
        self._valid = ~powder.pixel_mask(of) & (tth_deg >= first) & (tth_deg <= last)
        self._index = np.minimum(np.searchsorted(self.edges_deg, tth_deg[self._valid], side="right") - 1, bins - 1)
        self._bins = bins

    def sums(self, image: NDArray[np.generic]) -> Expected:
        s = image[self._valid].astype(np.float64)
        weights = (np.ones_like(s), s, s * s)
        count, signal, square = (np.bincount(self._index, w, self._bins).astype(float) for w in weights)
        return Expected(count, signal, square - signal**2 / np.maximum(count, 1))


def two_theta_deg(of: Powder) -> Floats:
    return radii_px_to_deg(of, powder.pixels(of).radius_px)


def radii_px_to_deg(of: Powder, radii_px: Floats) -> Floats:
    return np.asarray(np.degrees(np.arctan(radii_px * of.pixel_size_m / of.distance_m)))


def both(sums: Expected) -> tuple[float, float]:
    return sums.spottiness, sums.spottiness_weighted


def rms(values: list[tuple[float, float]]) -> Floats:
    return np.asarray(np.sqrt(np.mean(np.square(values), axis=0)))


# ------------------------------------------------------------------------------------------------------- geometry


@pytest.fixture(params=[TRUTH, TUTORIAL, replace(SMALL, shape=(90, 120), rot1_rad=0.3, rot2_rad=-0.2)])
def placed(request: pytest.FixtureRequest, tmp_path: Path) -> "tuple[Powder, pyFAI.AzimuthalIntegrator]":
    (tmp_path / "simulated.poni").write_text(request.param.poni())
    return request.param, pyFAI.load(str(tmp_path / "simulated.poni"))


def test_the_poni_file_describes_the_simulated_pixels(placed: "tuple[Powder, pyFAI.AzimuthalIntegrator]") -> None:
    of, ai = placed
    assert ai.detector.shape == of.shape
    row, column = (np.random.default_rng(0).integers(0, n, 1000) for n in of.shape)
    np.testing.assert_allclose(two_theta_deg(of)[row, column], np.degrees(ai.tth(row, column)), rtol=1e-9)


def test_spots_are_placed_where_the_poni_file_says(placed: "tuple[Powder, pyFAI.AzimuthalIntegrator]") -> None:
    of, ai = placed
    radius_px = np.array([1.0, 20.0, 60.0])
    azimuth_rad = np.array([0.1, 2.0, -2.5])
    row, column = powder.position_px(of, radius_px, azimuth_rad)
    np.testing.assert_allclose(np.degrees(ai.tth(row, column)), radii_px_to_deg(of, radius_px), rtol=1e-9)
    np.testing.assert_allclose(np.exp(1j * ai.chi(row, column)), np.exp(1j * azimuth_rad), rtol=1e-9)


def test_polarization_is_pyfai_s(tmp_path: Path) -> None:
    tilted = replace(SMALL, polarization=0.99, rot1_rad=0.3, rot2_rad=-0.2)
    (tmp_path / "tilted.poni").write_text(tilted.poni())
    azimuthal_mean = (1 + np.cos(np.radians(two_theta_deg(tilted))) ** 2) / 2
    expected = pyFAI.load(str(tmp_path / "tilted.poni")).polarization(tilted.shape, 0.99) / azimuthal_mean
    np.testing.assert_allclose(powder.pixels(tilted).polarization, expected, rtol=1e-5)


def test_the_tutorial_s_gaps_are_those_of_the_eiger() -> None:
    mask = powder.pixel_mask(TUTORIAL)
    gaps = pyFAI.detector_factory("Eiger2CdTe_4M").mask.astype(bool)
    assert mask[gaps].all()
    assert mask[~gaps].mean() == pytest.approx(TUTORIAL.dead_fraction, rel=0.2)


def test_silicon_s_first_rings_are_the_calibrant_s() -> None:
    rings = powder.rings(TUTORIAL, 500)
    two_theta = np.arctan(rings.radius_px * TUTORIAL.pixel_size_m / TUTORIAL.distance_m)
    spacing = TUTORIAL.wavelength_m / 2 / np.sin(two_theta / 2) * 1e10
    np.testing.assert_allclose(spacing[:6], [3.13569, 1.92021, 1.63756, 1.35779, 1.24600, 1.10863], rtol=1e-5)
    np.testing.assert_allclose(rings.spots[:4] / rings.spots[0], [1, 12 / 8, 24 / 8, 6 / 8], rtol=0.02)
    assert rings.photons[0] == 300


# ----------------------------------------------------------------------------------------------------- statistics


@pytest.fixture
def _one_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not depend on the seed is worked out once for all series: half of their time."""
    for name in ("pixels", "pixel_mask", "rings"):
        monkeypatch.setattr(simulator, name, functools.cache(getattr(powder, name)))


def test_same_seed_same_frames_another_seed_others() -> None:
    correlated = replace(SMALL, grain_lifetime_frames=3.0)
    ours, again, other = (Simulator(correlated, seed) for seed in (1, 1, 2))
    for _ in range(3):
        frame = ours.frame()
        np.testing.assert_array_equal(frame, again.frame())
        assert (frame != other.frame()).any()


def test_frames_have_the_declared_type_and_dummies() -> None:
    series = Simulator(replace(SMALL, dtype=np.dtype(np.uint32), dead_fraction=0.1), 1)
    pixels = series.frame()
    assert (pixels.shape, pixels.dtype) == (SMALL.shape, np.dtype(np.uint32))
    np.testing.assert_array_equal(pixels == 65535, series.pixel_mask)


def test_a_full_counter_stays_full() -> None:
    bright = replace(SMALL, dtype=np.dtype(np.uint8), dummy=255, background_photons=240.0, dead_fraction=0.0)
    pixels = Simulator(bright, 1).frame()
    assert np.median(pixels) > 200
    assert (pixels == 255).any()


@pytest.mark.usefixtures("_one_detector")
def test_truth_of_frame_union_and_sum() -> None:
    """64 independent series of two frames: rms within 3 % of the analytic spottiness, 10 % of the weighted one."""
    bins = Bins(TRUTH, 360)
    expected = truth(TRUTH, 2, bins.edges_deg)
    found: dict[str, list[tuple[float, float]]] = {"frame": [], "union": [], "summed": [], "averaged": []}
    for seed in range(64):
        series = Simulator(TRUTH, seed)
        frames = [series.frame().astype(np.int64) for _ in range(2)]
        first, second = map(bins.sums, frames)
        sums = (first, pooled(first, second), bins.sums(frames[0] + frames[1]), bins.sums(np.mean(frames, axis=0)))
        for name, of in zip(found, sums, strict=True):
            found[name].append(both(of))
    for name, values in found.items():
        plain, weighted = rms(values) / both(getattr(expected, name))
        assert plain == pytest.approx(1, abs=0.03), name
        assert weighted == pytest.approx(1, abs=0.10), name


def pooled(a: Expected, b: Expected) -> Expected:
    """The sums of all pixels of two frames."""
    count, signal = a.count + b.count, a.signal + b.signal
    square = sum(s.variance + s.signal**2 / np.maximum(s.count, 1) for s in (a, b))
    return Expected(count, signal, square - signal**2 / np.maximum(count, 1))


@pytest.mark.parametrize(
    ("lifetime", "static"), [(1.0, 0.0), (5.0, 0.0), (1.0, 0.3), (np.inf, 0.0)], ids=["new", "slow", "part", "frozen"]
)
@pytest.mark.usefixtures("_one_detector")
def test_truth_of_frames_that_repeat(lifetime: float, static: float) -> None:
    """From all new to frozen the summed image's spottiness grows by 65 % here: the truth must follow."""
    of = replace(SMALL, grain_lifetime_frames=lifetime, static_fraction=static)
    bins = Bins(of, 54, (8, 62))
    found = []
    for seed in range(24):
        series = Simulator(of, seed)
        found.append(both(bins.sums(np.sum([series.frame() for _ in range(8)], axis=0, dtype=np.int64))))
    plain, weighted = rms(found) / both(truth(of, 8, bins.edges_deg).summed)
    assert plain == pytest.approx(0.96, abs=0.06)  # few spots: the leading order is too large by some percent
    assert weighted == pytest.approx(1, abs=0.06)


def test_nothing_is_lost_between_the_model_and_the_frames() -> None:
    bins = Bins(SMALL, 30)
    expected = truth(SMALL, 1, bins.edges_deg).frame
    series = Simulator(SMALL, 5)
    sums = [bins.sums(series.frame()) for _ in range(150)]
    np.testing.assert_allclose(np.mean([s.signal for s in sums]), expected.signal.mean(), rtol=0.01)
    np.testing.assert_allclose(np.mean([s.variance for s in sums]), expected.variance.mean(), rtol=0.04)


def test_the_tutorial_looks_like_the_tutorial() -> None:
    """First frames of the default series: spottiness and weighted spottiness where pyFAI's users saw them."""
    bins = Bins(TUTORIAL, 2000)
    series = Simulator(TUTORIAL, simulator.DEFAULT_SEED)
    begin_s = thread_time()
    frames = [series.frame() for _ in range(3)]
    assert thread_time() - begin_s < 3  # about 0.1 s a frame
    plain, weighted = np.transpose([both(bins.sums(frame)) for frame in frames])
    assert plain[0] == pytest.approx(0.156, abs=0.02)
    assert ((weighted > 0.15) & (weighted < 0.36)).all()
    valid = frames[0][~series.pixel_mask]
    assert 0.1 < valid.mean() < 0.4


@pytest.mark.skipif("RINGWATCH_FULL" not in os.environ, reason="half a minute: set RINGWATCH_FULL=1 to run it")
def test_two_hundred_frames_look_like_the_tutorial() -> None:
    """The published series gives .0253 and, weighted, .061 for its averaged image.

    Heavy tails make other seeds scatter: seeds 0 to 7 gave .0225 to .034 and .058 to .106, three of the eight above
    .08. One grain can make that much.
    """
    bins = Bins(TUTORIAL, 2000)
    series = Simulator(TUTORIAL, simulator.DEFAULT_SEED)
    image = np.zeros(TUTORIAL.shape, np.int64)
    per_frame = []
    for _ in range(200):
        frame = series.frame()
        per_frame.append(both(bins.sums(frame)))
        image += frame
    plain, weighted = np.transpose(per_frame)
    assert plain[0] == pytest.approx(0.156, abs=0.02)
    assert np.mean((weighted > 0.15) & (weighted < 0.36)) >= 0.9
    averaged = bins.sums(image / 200)
    assert 0.016 < averaged.spottiness < 0.032
    assert 0.035 < averaged.spottiness_weighted < 0.08


# -------------------------------------------------------------------------------------------------------- sending


def received(version: StreamVersion, **how: float) -> tuple[SeriesStart, list[Frame]]:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
    socket.setsockopt(zmq.RCVTIMEO, 5000)
    with Sender("tcp://127.0.0.1:*", version) as sender:
        thread = threading.Thread(target=simulate, args=(sender, SMALL, 5), kwargs={"series": 3, **how})
        thread.start()
        socket.connect(sender.endpoint)
        start, *frames, end = (decode(socket.recv_multipart(), 0.0) for _ in range(7))
        thread.join()
    socket.close(linger=0)
    assert isinstance(start, SeriesStart)
    assert isinstance(end, SeriesEnd)
    return start, [frame for frame in frames if isinstance(frame, Frame)]


def decoded(frame: Frame) -> NDArray[np.generic]:
    out = np.empty(frame.shape, frame.dtype)
    decode_into(frame, out)
    return out


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_simulate_sends_what_the_simulator_draws(version: StreamVersion) -> None:
    start, frames = received(version, seed=4, rate_hz=100.0)
    series = Simulator(SMALL, 4)
    assert (start.series, start.shape, start.dtype) == (3, SMALL.shape, SMALL.dtype)
    assert (start.frames_expected, start.frame_time_s) == (5, 0.01)
    assert start.energy_eV == pytest.approx(40583.9, abs=0.1)
    assert start.pixel_size_m == (75e-6, 75e-6)
    np.testing.assert_array_equal(start.pixel_mask, series.pixel_mask)
    assert [frame.frame for frame in frames] == list(range(5))
    for frame in frames:
        np.testing.assert_array_equal(decoded(frame), series.frame())


def test_distinct_frames_are_drawn_once_and_repeated() -> None:
    _, frames = received("v2", seed=4, distinct=2)
    assert [frame.frame for frame in frames] == list(range(5))
    series = Simulator(SMALL, 4)
    drawn = [series.frame(), series.frame()]
    for frame in frames:
        np.testing.assert_array_equal(decoded(frame), drawn[frame.frame % 2])


def test_distinct_frames_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "MAX_KEPT_BYTES", 40_000)
    with Sender("inproc://bounded") as sender, pytest.raises(ConfigError, match="9 distinct frames need more than"):
        simulate(sender, SMALL, 9, distinct=9)


def test_impossible_powders_are_refused_with_every_mistake() -> None:
    with pytest.raises(ConfigError) as caught:
        replace(SMALL, grain_lifetime_frames=0.5, static_fraction=1.5, crystallites=-1.0)
    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigError, match="more than 1000000 spots"):
        Simulator(replace(SMALL, crystallites=1e9), 1)
