"""Split pixels of recorded frames against pyFAI with the same splitting, and against two-pass float64.

On one device: that all compute the same is for the tests of the kernels.
"""

from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from ringwatch.stream.decompress import decode_into
from ringwatch.stream.frames_file import FramesFile
from ringwatch_gpu import devices
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.splitting import METHODS, Method
from ringwatch_gpu.validity import Validity
from ringwatch_gpu.verification import Comparison, Verification


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("geometry")


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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["id11_dac", "ge41rt_ceo2", "pil1m_ceo2", "pil1m_fe3o4_map", "pil2m_ceo2_chess"])
def test_pyfai_and_two_pass_float64_agree(shared_data: Path, cache_dir: Path, name: str, method: Method) -> None:
    found = compare(shared_data / f"{name}.h5", method, cache_dir)
    assert all(item.agrees for item in found), found


def test_they_agree_where_bins_are_finer_than_pixels(shared_data: Path, cache_dir: Path) -> None:
    found = compare(shared_data / "pil1m_ceo2.h5", "full", cache_dir, 2900)
    assert all(item.agrees for item in found), found
