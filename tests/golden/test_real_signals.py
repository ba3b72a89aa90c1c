"""Recorded frames with a dark, as floats and with negative counts, against two-pass float64 and pyFAI.

On one device: that all compute the same is for the tests of the kernels.
"""

from pathlib import Path

import numpy as np
import pytest

from ringwatch.stream.decompress import decode_into
from ringwatch.stream.frames_file import FramesFile
from ringwatch_gpu import devices
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.validity import Validity
from ringwatch_gpu.verification import Verification

Recorded = tuple[np.ndarray, Geometry]


@pytest.fixture(scope="module", params=["ge41rt_ceo2", "pil1m_ceo2"])
def recorded(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A flat panel and a photon counter."""
    with FramesFile(shared_data / f"{request.param}.h5") as file:
        cache_dir = tmp_path_factory.mktemp("geometry")
        geometry = Geometry.from_poni(shared_data / f"{request.param}.poni", file.shape, bins=1000, cache_dir=cache_dir)
        assert file.pixel_mask is not None
        frame = np.empty(file.shape, file.dtype)
        decode_into(next(file.frames()), frame)
    return frame, geometry.masked(file.pixel_mask)


@pytest.fixture(scope="module")
def dark(recorded: Recorded) -> np.ndarray:
    """A third of the median, different from pixel to pixel and across the detector."""
    frame, geometry = recorded
    rows, columns = np.indices(frame.shape) / max(frame.shape)
    level = np.median(frame[~geometry.mask]) / 3 * (1 + 0.2 * rows - 0.1 * columns)
    return level + np.random.default_rng(2).normal(0, 2, frame.shape)


def assert_agrees(frame: np.ndarray, geometry: Geometry, validity: Validity) -> None:
    verification = Verification(geometry, frame.dtype, devices.choose(), negatives=validity.lowest < 0)
    comparisons = verification.compare([frame], validity)
    assert comparisons
    assert all(one.agrees for one in comparisons), [one for one in comparisons if not one.agrees]


def test_a_dark_is_taken_off_as_by_pyfai(recorded: Recorded, dark: np.ndarray) -> None:
    frame, geometry = recorded
    assert_agrees(frame, geometry.signed(dark=dark), Validity.of(frame.dtype))


def test_float_frames_are_integrated_as_by_pyfai(recorded: Recorded, dark: np.ndarray) -> None:
    """What a detector that takes the dark off itself would send."""
    frame, geometry = recorded
    floats = np.where(frame < 0, np.nan, frame - dark).astype(np.float32)
    assert_agrees(floats, geometry.signed(), Validity.of(floats.dtype))


def test_negative_counts_are_integrated_as_by_pyfai(recorded: Recorded, dark: np.ndarray) -> None:
    frame, geometry = recorded
    lowest = -(2**31)
    signed = np.where(frame < 0, lowest, frame.astype(np.int64) - np.rint(dark).astype(np.int64)).astype(np.int32)
    assert (signed[~geometry.mask] < 0).any()
    assert_agrees(signed, geometry, Validity.of(signed.dtype, [lowest]))
