"""Split pixels of recorded frames against pyFAI with the same splitting, and against two-pass float64.

On one device: that all compute the same is for the tests of the kernels.
"""

from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pyFAI
import pytest

from ringwatch.stream.decompress import decode_into
from ringwatch.stream.frames_file import FramesFile
from ringwatch_gpu import devices
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.noise import Noise
from ringwatch_gpu.splitting import METHODS, Method
from ringwatch_gpu.validity import Validity
from ringwatch_gpu.verification import Comparison, Verification


def compare(path: Path, method: Method, cache_dir: Path, bins: int | Literal["pixel"] = "pixel") -> list[Comparison]:
    with FramesFile(path) as file:
        geometry = Geometry.from_poni(
            path.with_suffix(".poni"), file.shape, splitting=method, bins=bins, cache_dir=cache_dir
        )
        assert file.pixel_mask is not None
        frames = []
        for frame in islice(file.frames(), 1):
            pixels = np.empty(file.shape, file.dtype)
            decode_into(frame, pixels)
            frames.append(pixels)
        verification = Verification(geometry.masked(file.pixel_mask), file.dtype, devices.choose())
        return verification.compare(frames, Validity.of(file.dtype))


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("id11_dac", "full"),
        ("ge41rt_ceo2", "bbox"),
        ("pil1m_ceo2", "full"),
        ("pil1m_ceo2", "bbox"),
        ("pil1m_fe3o4_map", "full"),
        ("pil2m_ceo2_chess", "bbox"),
    ],
)
def test_pyfai_and_two_pass_float64_agree(shared_data: Path, cache_dir: Path, name: str, method: Method) -> None:
    found = compare(shared_data / f"{name}.h5", method, cache_dir)
    assert all(item.agrees for item in found), found


@pytest.mark.parametrize("method", METHODS)
def test_variance_by_counts_is_pyfais(shared_data: Path, cache_dir: Path, method: Method) -> None:
    """Sum c^2 max(1, s) of one frame, as any engine of pyFAI has it."""
    path = shared_data / "pil1m_ceo2.h5"
    with FramesFile(path) as file:
        geometry = Geometry.from_poni(path.with_suffix(".poni"), file.shape, splitting=method, cache_dir=cache_dir)
        assert file.pixel_mask is not None
        geometry, pixels = geometry.masked(file.pixel_mask), np.empty(file.shape, file.dtype)
        decode_into(next(iter(file.frames())), pixels)
    validity, batch = Validity.of(pixels.dtype), BatchIntegrator(geometry, pixels.dtype, devices.choose())
    batch.slots[0] = pixels
    batch.integrate(1, validity)
    image, invalid = batch.split_image(1), geometry.mask | validity.invalid(pixels)
    assert image is not None
    theirs = pyFAI.load(str(path.with_suffix(".poni"))).integrate1d_ng(
        np.where(invalid, 0, pixels), geometry.bins, mask=invalid, unit=geometry.unit, dummy=-(2.0**40),
        radial_range=(geometry.edges[0], geometry.edges[-1]), polarization_factor=0.99,
        error_model="poisson", method=(method, "csr", "cython"),
    )  # fmt: skip
    ours, filled = image.counts_variance(Noise.of_parts(geometry), geometry.norm_quantum), image.summed.count > 1
    np.testing.assert_allclose(ours[filled], theirs.sum_variance[filled], rtol=1e-5)


def test_they_agree_where_bins_are_finer_than_pixels(shared_data: Path, cache_dir: Path) -> None:
    found = compare(shared_data / "pil1m_ceo2.h5", "full", cache_dir, 2900)
    assert all(item.agrees for item in found), found
