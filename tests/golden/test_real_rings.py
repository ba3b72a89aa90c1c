"""Rings of recorded frames: those of ceria lie where pyFAI expects them, those of a cell full of spots are found."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from time import thread_time
from typing import Any, NamedTuple

import numpy as np
import pytest

from ringwatch.stream.decompress import decode_into
from ringwatch.stream.frames_file import FramesFile
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.ring_peaks import SmoothProfile
from ringwatch_gpu.ring_positions import RadialAxis, calibrant_spacings
from ringwatch_gpu.rings import find_rings, rings_at
from ringwatch_gpu.sums import RingProfile
from ringwatch_gpu.validity import Validity

CERIA = ("ge41rt_ceo2", "pil1m_ceo2", "pil2m_ceo2_chess")
DAC_FRAMES = 40


class Measured(NamedTuple):
    profile: RingProfile
    axis: RadialAxis
    poni: Path


Measure = Callable[[str, int], Measured]


@pytest.fixture(scope="module")
def measured(shared_data: Path, cache_dir: Path) -> Measure:
    """Profile of the sum of the first frames of a file, over the pixels that are valid in all of them."""

    @cache
    def measure(name: str, n_frames: int) -> Measured:
        poni = shared_data / f"{name}.poni"
        with FramesFile(shared_data / f"{name}.h5") as file:
            geometry = Geometry.from_poni(poni, file.shape, cache_dir=cache_dir).masked(file.pixel_mask)
            total, bad = np.zeros(geometry.pixels, np.int64), np.zeros(geometry.pixels, np.bool_)
            pixels = np.empty(file.shape, file.dtype)
            for _, frame in zip(range(n_frames), file.frames(), strict=False):
                decode_into(frame, pixels)
                bad |= Validity.of(file.dtype).invalid(pixels).ravel()
                total += np.where(bad, 0, pixels.ravel())
        return Measured(profile_of(total, bad, geometry), RadialAxis.of(geometry), poni)

    return measure


def profile_of(total: np.ndarray, bad: np.ndarray, geometry: Geometry) -> RingProfile:
    used = ~bad & ~geometry.mask.ravel()
    where, s, g = geometry.bin_table[used], total[used].astype(float), geometry.norm_q[used] * geometry.norm_quantum
    signal, norm, norm_sq, n = (np.bincount(where, x, geometry.bins) for x in (s, g, g * g, np.ones_like(g)))
    mean = signal / np.where(norm > 0, norm, 1)
    return RingProfile.of(signal, np.bincount(where, (s - g * mean[where]) ** 2, geometry.bins), norm, norm_sq, n)


def pyfai_ceria(poni: Path) -> tuple[np.ndarray, np.ndarray]:
    """Spacings (A) and scattering angles (degrees) of the first thirty rings of ceria by pyFAI."""
    import pyFAI
    from pyFAI.calibrant import get_calibrant

    ceria: Any = get_calibrant("CeO2", pyFAI.load(str(poni)).wavelength)
    return np.array(ceria.dspacing[:30]), np.degrees(ceria.get_2th()[:30])


@pytest.mark.parametrize("name", CERIA)
def test_the_first_rings_of_ceria_are_found_where_pyfai_expects_them(measured: Measure, name: str) -> None:
    profile, axis, poni = measured(name, 1)
    spacing, angle = pyfai_ceria(poni)
    half_width = SmoothProfile.of(profile).peaks().fwhm.min() / 2 * np.diff(axis.edges[:2])[0]

    rings = find_rings(profile, axis)

    offset = np.abs(rings.position[:, None] - angle)
    assert offset.min(0)[:10].max() < half_width
    np.testing.assert_allclose(rings.d_spacing_A[offset.argmin(0)[:10]], spacing[:10], rtol=1e-3)
    strongest = np.argsort(-rings.net_signal(profile))[:10]
    assert offset.min(1)[strongest].max() < half_width


@pytest.mark.parametrize("name", CERIA)
def test_rings_at_the_spacings_of_ceria_are_the_rings_found(measured: Measure, name: str) -> None:
    profile, axis, poni = measured(name, 1)
    found, given = find_rings(profile, axis), rings_at(calibrant_spacings("CeO2"), profile, axis)

    np.testing.assert_array_equal(given.d_spacing_A[:10], pyfai_ceria(poni)[0][:10])
    own = np.isin(found.first, given.first)
    assert own.sum() == len(given)
    assert len(given) >= 10
    np.testing.assert_allclose(given.position, found.position[own], rtol=1e-6)


def test_rings_of_spots_are_found(measured: Measure) -> None:
    profile, axis, _ = measured("id11_dac", DAC_FRAMES)
    rings = find_rings(profile, axis)
    strongest = rings.position[np.argsort(-rings.net_signal(profile))[:5]]
    seen_by_eye = np.array([15.1, 20.0, 22.5, 23.8, 26.0, 27.2, 29.1])
    assert strongest.size == 5
    assert np.abs(strongest[:, None] - seen_by_eye).min(1).max() < 0.2
    for first, last in zip(rings.first, rings.last, strict=True):
        assert (axis.azimuth_fraction[first:last] >= 0.5).all()


@pytest.mark.parametrize("name", CERIA)
def test_finding_rings_takes_less_than_a_snapshot_may_wait(measured: Measure, name: str) -> None:
    profile, axis, _ = measured(name, 1)
    took_s = []
    for _ in range(10):
        start_s = thread_time()
        find_rings(profile, axis)
        took_s.append(thread_time() - start_s)
    assert min(took_s) < 3e-3
