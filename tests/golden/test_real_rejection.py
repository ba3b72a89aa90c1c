"""Outlier-rejecting profiles of recorded frames: pyFAI keeps the same pixels, where its engines are right."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the compression of the frames
import numpy as np
import pytest

from ringwatch_gpu import devices
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.geometry_pyfai import Recipe, load_integrator
from ringwatch_gpu.rejection import NO_REJECTION, Rejection, SigmaClip
from ringwatch_gpu.sums import RingProfile
from ringwatch_gpu.validity import Validity

FILES = ("ge41rt_ceo2", "id11_dac", "pil1m_ceo2", "pil1m_fe3o4_map", "pil2m_ceo2_chess")
FEW = ("pil1m_ceo2", "pil1m_fe3o4_map")
BAND = (0.4, 0.6)
POLARIZATION = 0.99
FLOAT32 = 1e-5
"""pyFAI's sums and ratios are float32."""
MOST_PIXELS = 5
"""How many pixels two profiles may differ by in a bin where float32, or an approximation, decides about one."""


@dataclass(frozen=True)
class Recording:
    """The sum of all frames of a file, but for pixels that were invalid in any: a static mask, as for pyFAI."""

    geometry: Geometry
    frames: np.ndarray
    image: np.ndarray
    n_frames: int
    profiles: dict[str, RingProfile]
    median: RingProfile

    @cached_property
    def integrator(self) -> Any:
        """pyFAI's, which keeps its geometry and the matrix of each engine."""
        geometry = self.geometry
        recipe = Recipe(geometry.poni, geometry.shape, geometry.unit, geometry.bins, None, True, POLARIZATION)
        return load_integrator(recipe, geometry.source)

    def pyfai(self, method: str, engine: str, **arguments: Any) -> Any:
        """What pyFAI makes of the same image in the same bins, without pixel splitting."""
        geometry = self.geometry
        return getattr(self.integrator, method)(
            self.image.astype(np.float32), npt=geometry.bins, unit=geometry.unit, mask=geometry.mask,
            radial_range=(geometry.edges[0], geometry.edges[-1]), polarization_factor=POLARIZATION, dummy=-1,
            normalization_factor=self.n_frames, method=("no", "csr", engine), **arguments,
        )  # fmt: skip


@pytest.fixture(scope="module")
def recording(shared_data: Path, cache_dir: Path) -> Callable[[str], Recording]:
    return cache(lambda name: load(shared_data, cache_dir, name))


def load(folder: Path, cache_dir: Path, name: str) -> Recording:
    with h5py.File(folder / f"{name}.h5") as file:
        frames, mask = file["entry/data/data"][...], file["entry/data/mask"][...].astype(bool)
    validity = Validity.of(frames.dtype)
    for frame in frames:
        mask |= validity.invalid(frame)
    geometry = Geometry.from_poni(folder / f"{name}.poni", frames.shape[1:], cache_dir=cache_dir).masked(mask)
    profiles = reduced(frames, geometry, Rejection(quantile=BAND))
    median = reduced(frames, geometry, Rejection(None, (0.5, 0.5), median_clip=False))["quantile"]
    image = np.where(mask, 0, frames.sum(axis=0, dtype=np.uint64))
    return Recording(geometry, frames, image, len(frames), profiles, median)


def reduced(frames: np.ndarray, geometry: Geometry, rejection: Rejection) -> dict[str, RingProfile]:
    return dict(summed(frames, geometry, rejection).reject_outliers(len(frames)))


def summed(frames: np.ndarray, geometry: Geometry, rejection: Rejection) -> BatchIntegrator:
    integrator = BatchIntegrator(geometry, frames.dtype, devices.choose(), rejection=rejection)
    for first in range(0, len(frames), 8):
        part = frames[first : first + 8]
        integrator.slots[: len(part)] = part
        integrator.integrate(len(part), Validity.of(frames.dtype))
    return integrator


@pytest.mark.parametrize("name", FILES)
def test_sigma_clip_keeps_the_pixels_that_pyfai_keeps(recording: Callable[[str], Recording], name: str) -> None:
    """Its Python engine, the one whose azimuthal variance is right: the same number of pixels in every bin."""
    data = recording(name)
    theirs = data.pyfai("sigma_clip_ng", "python", error_model="azimuthal", thres=5, max_iter=5)
    ours = data.profiles["sigma_clip"]
    assert np.array_equal(ours.count, theirs.count)
    assert ours.count.sum() < (~data.geometry.mask).sum()
    np.testing.assert_allclose(ours.intensity, theirs.intensity, rtol=FLOAT32)
    several = ours.count > 2
    np.testing.assert_allclose(ours.std[several], theirs.std[several], rtol=FLOAT32)


def agreement(ours: RingProfile, theirs: Any) -> float:
    """Share of the bins in which both keep the same number of pixels; there all numbers are the same to float32.

    Without bins of less than three pixels, which Cython calls three.
    """
    several = ours.count > 2
    same = several & (ours.count == theirs.count)
    for name in ("intensity", "std", "sem"):
        np.testing.assert_allclose(getattr(ours, name)[same], getattr(theirs, name)[same], rtol=FLOAT32)
    assert np.abs(ours.count - theirs.count).max() <= MOST_PIXELS
    return float(same.sum() / several.sum())


@pytest.mark.parametrize("thres", [0, 5])
@pytest.mark.parametrize("name", FEW)
def test_clipping_by_counts_is_pyfais(recording: Callable[[str], Recording], name: str, thres: float) -> None:
    """A pixel on the very limit falls to either side in float32."""
    data = recording(name)
    rejection = Rejection(SigmaClip(thres, 5), None, median_clip=False, error_model="poisson")
    ours = reduced(data.frames, data.geometry, rejection)["sigma_clip"]
    theirs = data.pyfai("sigma_clip_ng", "cython", error_model="poisson", thres=thres, max_iter=5)
    assert agreement(ours, theirs) > 0.997


@pytest.mark.parametrize("name", FEW)
def test_with_chauvenets_limit_alone_pyfai_keeps_the_same_pixels(
    recording: Callable[[str], Recording], name: str
) -> None:
    data = recording(name)
    ours = reduced(data.frames, data.geometry, Rejection(SigmaClip(0, 5), None, median_clip=False))["sigma_clip"]
    theirs = data.pyfai("sigma_clip_ng", "python", error_model="azimuthal", thres=0, max_iter=5)
    assert agreement(ours, theirs) == 1


@pytest.mark.parametrize("name", FEW)
def test_hybrid_clips_along_the_ring_and_has_errors_of_counts(recording: Callable[[str], Recording], name: str) -> None:
    """pyFAI's Cython engine has this model, and its azimuthal variance is an approximation: some pixels differ."""
    data = recording(name)
    rejection = Rejection(SigmaClip(5, 5), None, median_clip=False, error_model="hybrid")
    ours = reduced(data.frames, data.geometry, rejection)["sigma_clip"]
    theirs = data.pyfai("sigma_clip_ng", "cython", error_model="hybrid", thres=5, max_iter=5)
    assert agreement(ours, theirs) > 0.99
    assert np.array_equal(ours.count, data.profiles["sigma_clip"].count), "as azimuthal"


@pytest.mark.parametrize("name", FEW)
def test_errors_of_a_band_are_pyfais_but_for_the_pixels_at_its_ends(
    recording: Callable[[str], Recording], name: str
) -> None:
    data = recording(name)
    rejection = Rejection(None, BAND, median_clip=False, error_model="poisson")
    ours = reduced(data.frames, data.geometry, rejection)["quantile"]
    theirs = data.pyfai("medfilt1d_ng", "cython", error_model="poisson", percentile=(40, 60))
    many = ours.count > 100
    assert np.median(np.abs(ours.std[many] / theirs.std[many] - 1)) < 1e-4
    assert np.median(np.abs(ours.sem[many] / theirs.sem[many] - 1)) < 5e-3


@pytest.mark.parametrize("name", FEW)
def test_the_variance_of_the_counts_of_the_summed_image_is_pyfais(
    recording: Callable[[str], Recording], name: str
) -> None:
    data = recording(name)
    found = summed(data.frames, data.geometry, NO_REJECTION).evaluate_image(data.n_frames)
    theirs = data.pyfai("integrate1d_ng", "cython", error_model="poisson")
    np.testing.assert_allclose(found.counts_variance, theirs.sum_variance, rtol=FLOAT32)


@pytest.mark.parametrize("name", FILES)
def test_the_median_is_pyfais(recording: Callable[[str], Recording], name: str) -> None:
    """But in a few bins: where half of the weight lies between two pixels, float32 weights choose either."""
    data = recording(name)
    theirs = data.pyfai("medfilt1d_ng", "cython", error_model="poisson", percentile=50)
    filled = data.median.intensity > 0
    difference = np.abs(data.median.intensity[filled] / theirs.intensity[filled] - 1)
    assert (difference < 1e-6).mean() > 0.995
    assert difference.max() < 1e-3


SMALL = ("pil1m_ceo2", "pil1m_fe3o4_map")
"""For the band of pyFAI's Python engine, which takes seconds for a larger detector."""


@pytest.mark.parametrize(("engine", "name"), [*product(["cython"], FILES), *product(["python"], SMALL)])
def test_a_band_differs_from_pyfais_by_the_pixels_at_its_ends(
    recording: Callable[[str], Recording], engine: str, name: str
) -> None:
    """pyFAI leaves them out (Cython) or takes them whole (Python), we take a share of them."""
    data = recording(name)
    theirs = data.pyfai("medfilt1d_ng", engine, error_model="poisson", percentile=(40, 60))
    ours = data.profiles["quantile"]
    assert np.abs(ours.count - theirs.count).max() < 2.001
    many = ours.count > 100
    assert np.median(np.abs(ours.intensity[many] / theirs.intensity[many] - 1)) < 1e-3


def test_median_clip_takes_the_spots_of_a_spotty_powder_away(recording: Callable[[str], Recording]) -> None:
    """The diamond anvil cell: what is left is below the mean, and is not nothing."""
    data = recording("id11_dac")
    clipped = data.profiles["median_clip"]
    filled = clipped.count > 50
    mean = data.pyfai("integrate1d_ng", "cython").intensity[filled]
    assert (clipped.intensity[filled] <= mean * (1 + FLOAT32)).mean() > 0.9
    assert (clipped.intensity[filled] > 0).all()
