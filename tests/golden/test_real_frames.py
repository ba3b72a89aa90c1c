"""Recorded frames of real detectors: exact integers, two-pass float64, pyFAI; any order, partition, device and form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyopencl as cl
import pytest

from ringwatch.stream.decompress import decode_into
from ringwatch.stream.frames_file import FramesFile
from ringwatch_gpu import devices, exact, reference
from ringwatch_gpu.batch import BatchIntegrator, Form
from ringwatch_gpu.exact import Words
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.spottiness import spottiness
from ringwatch_gpu.sums import RingProfile, RingSums, StaticSums, ring_profiles
from ringwatch_gpu.tables import BATCH
from ringwatch_gpu.validity import Validity
from ringwatch_gpu.verification import Verification

FILES = ("ge41rt_ceo2", "id11_dac", "pil1m_ceo2", "pil1m_fe3o4_map", "pil2m_ceo2_chess")
TWO_PASS = 1e-7
FRAMES = 10
"""Of the 40 of the diamond anvil cell: a batch and two."""


@dataclass(frozen=True)
class Recording:
    """The first frames (n, rows, columns) of a file, with the geometry of its PONI and its mask."""

    frames: np.ndarray
    geometry: Geometry
    validity: Validity


Load = Callable[[str], Recording]


@pytest.fixture(scope="session")
def recording(shared_data: Path, cache_dir: Path) -> Load:
    @cache
    def load(name: str) -> Recording:
        with FramesFile(shared_data / f"{name}.h5") as file:
            geometry = Geometry.from_poni(shared_data / f"{name}.poni", file.shape, cache_dir=cache_dir)
            assert file.pixel_mask is not None
            frames = np.empty((min(file.n_frames, FRAMES), *file.shape), file.dtype)
            for pixels, frame in zip(frames, file.frames(), strict=False):
                decode_into(frame, pixels)
            return Recording(frames, geometry.masked(file.pixel_mask), Validity.of(file.dtype))

    return load


def batch_for(recording: Recording, device: cl.Device, form: Form | None = None) -> BatchIntegrator:
    return BatchIntegrator(recording.geometry, recording.frames.dtype, device, form)


def union(recording: Recording, batch: BatchIntegrator, order: Sequence[int], batch_size: int = BATCH) -> RingSums:
    geometry = recording.geometry
    sums = RingSums.zero(geometry.bins, geometry.digest, geometry.norm_quantum)
    for first in range(0, len(order), batch_size):
        part = order[first : first + batch_size]
        batch.slots[: len(part)] = recording.frames[part]
        sums = sums.plus_rows(batch.integrate(len(part), recording.validity).rows(batch.static))
    return sums


def pooled_words(recording: Recording) -> Words:
    """All six sums over all valid pixels of all frames, by the numpy specification."""
    geometry = recording.geometry
    static = StaticSums.of(geometry.bin_table, geometry.norm_q, geometry.bins)
    total = np.zeros((6, geometry.bins, 2), np.uint64)
    for frame in recording.frames.reshape(len(recording.frames), 1, -1):
        sums = reference.integrate(frame, geometry.bin_table, geometry.norm_q, geometry.bins, recording.validity)
        total = exact.add(total, sums.rows(static)[0])
    return total


def two_pass(recording: Recording) -> RingProfile:
    """Means first, squared deviations second, in float64, all valid pixels of all frames pooled."""
    geometry, bins = recording.geometry, recording.geometry.bins
    flat = recording.frames.reshape(len(recording.frames), -1)
    g_all = geometry.norm_q * geometry.norm_quantum

    def total(of: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, ...]]) -> list[np.ndarray]:
        valid = (~(recording.validity.invalid(frame) | geometry.mask.ravel()) for frame in flat)
        parts = (
            (geometry.bin_table[ok], frame[ok].astype(float), g_all[ok]) for frame, ok in zip(flat, valid, strict=True)
        )
        frames = ([np.bincount(b, column, bins) for column in of(b, s, g)] for b, s, g in parts)
        return [sum(columns, np.zeros(bins)) for columns in zip(*frames, strict=True)]

    signal, norm, norm_sq, count = total(lambda b, s, g: (s, g, g * g, np.ones_like(s)))
    mean = signal / np.where(norm > 0, norm, 1)
    (variance,) = total(lambda b, s, g: ((s - g * mean[b]) ** 2,))
    return RingProfile.of(signal, variance, norm, norm_sq, count)


def assert_same_profile(found: RingProfile, expected: RingProfile, azimuth: np.ndarray) -> None:
    for name in ("intensity", "std", "sem", "signal", "variance", "normalization", "norm_sq", "count"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=TWO_PASS, err_msg=name)
    ours, theirs = spottiness(found, azimuth), spottiness(expected, azimuth)
    for name in ("plain", "weighted", "rings"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=TWO_PASS, err_msg=name)


@pytest.mark.parametrize("name", FILES)
def test_pyfai_and_two_pass_float64_agree(recording: Load, name: str) -> None:
    """On one device: all give the same bits, see below."""
    data = recording(name)
    verification = Verification(data.geometry, data.frames.dtype, devices.choose())
    comparison = verification.compare(data.frames[:2], data.validity)
    assert all(item.agrees for item in comparison), comparison


FACTORS = {"solid_angle": True, "polarization": 0.95, "flat": True, "absorption": True}
NO_FACTORS = {"solid_angle": False, "polarization": None, "flat": None, "absorption": None}


def maps(shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """A flat field with dead pixels, and an absorption that differs more within the rings than any sample's."""
    y, x = np.indices(shape) / np.reshape(shape, (2, 1, 1))
    flat = np.where(np.arange(y.size).reshape(shape) % 97, 1 + 0.1 * np.cos(9 * x) * np.sin(7 * y), np.nan)
    return {"flat": flat.astype(np.float32), "absorption": np.exp(-0.8 * np.hypot(y - 0.3, x - 0.6))}


@pytest.mark.parametrize("names", [*([name] for name in FACTORS), list(FACTORS)], ids="-".join)
def test_pyfai_agrees_on_every_factor_of_the_normalization(recording: Load, cache_dir: Path, names: list[str]) -> None:
    data = recording("pil1m_fe3o4_map")
    chosen: dict[str, Any] = NO_FACTORS | {name: FACTORS[name] for name in names}
    choice = {name: chosen.pop(name) for name in ("solid_angle", "polarization")}
    factors = {name: of for name, of in maps(data.geometry.shape).items() if chosen[name]}
    plain = Geometry.from_poni(data.geometry.poni, data.geometry.shape, cache_dir=cache_dir, **choice)
    corrected = plain.masked(data.geometry.mask).corrected(**factors)
    verification = Verification(corrected, data.frames.dtype, devices.choose(), **choice)
    comparison = verification.compare(data.frames[:2], data.validity)
    assert all(item.agrees for item in comparison), comparison


@pytest.mark.parametrize(
    ("name", "form"),
    [*zip(FILES, ("lanes", "groups", "groups", "lanes", "lanes"), strict=True), ("id11_dac", "lanes")],
)
def test_sums_are_those_of_numpy_bit_for_bit(
    device: cl.Device, recording: Load, pooled: Callable[[str], Words], name: str, form: Form
) -> None:
    data = recording(name)
    sums = union(data, batch_for(data, device, form), range(len(data.frames)))
    assert np.array_equal(sums.words, pooled(name))
    assert sums.n_frames == len(data.frames)


def test_any_order_any_batches_and_merged_halves_give_the_same_bits(
    device: cl.Device, recording: Load, pooled: Callable[[str], Words]
) -> None:
    data = recording("id11_dac")
    batch, order = batch_for(data, device), np.random.default_rng(3).permutation(len(data.frames))
    shuffled = union(data, batch, order, batch_size=3)
    halves = union(data, batch, order[:7], 5) + union(data, batch, order[7:], 1)
    assert np.array_equal(shuffled.words, pooled("id11_dac"))
    assert np.array_equal(halves.words, pooled("id11_dac"))


def test_summed_image_holds_the_signal_and_norm_of_the_union(device: cl.Device, recording: Load) -> None:
    data = recording("id11_dac")
    batch = batch_for(data, device)
    sums = union(data, batch, range(len(data.frames)))
    image = batch.evaluate_image(len(data.frames))
    assert np.array_equal(exact.words(image.signal), sums.words[0])
    assert np.array_equal(image.norm, sums.words[3])


def test_each_frame_equals_numpy_and_two_pass_float64(device: cl.Device, recording: Load) -> None:
    data = recording("id11_dac")
    geometry, batch = data.geometry, batch_for(data, device)
    for part in (data.frames[:BATCH], data.frames[BATCH:]):
        batch.slots[: len(part)] = part
        sums = batch.integrate(len(part), data.validity)
        profiles = ring_profiles(sums.rows(batch.static), geometry.norm_quantum)
        for slot, frame in enumerate(part):
            ok = ~(data.validity.invalid(frame) | geometry.mask)
            assert sums.signal[slot].sum() == frame[ok].sum(dtype=np.uint64)
            assert profiles.count[slot].sum() == ok.sum()
        for slot in (0, 1):
            alone = replace(data, frames=part[slot : slot + 1])
            found = RingProfile(*(getattr(profiles, field.name)[slot] for field in fields(RingProfile)))
            assert_same_profile(found, two_pass(alone), geometry.azimuth_fraction)


def test_union_is_that_of_all_pixels_pooled(device: cl.Device, recording: Load, pooled_profile: RingProfile) -> None:
    data = recording("id11_dac")
    sums = union(data, batch_for(data, device), range(len(data.frames)))
    assert_same_profile(sums.profile, pooled_profile, data.geometry.azimuth_fraction)


@pytest.mark.parametrize("form", get_args(Form))
def test_pixels_lost_in_some_frames_leave_everything_exact(
    device: cl.Device, two_per_cent_lost: tuple[Recording, Words, RingProfile], form: Form
) -> None:
    data, words, profile = two_per_cent_lost
    batch = batch_for(data, device, form)
    sums = union(data, batch, range(len(data.frames)))
    assert np.array_equal(sums.words, words)
    assert_same_profile(sums.profile, profile, data.geometry.azimuth_fraction)
    image = batch.evaluate_image(len(data.frames))
    assert np.array_equal(exact.words(image.signal), sums.words[0])
    assert np.array_equal(image.norm, sums.words[3])


@pytest.fixture(scope="session")
def pooled(recording: Load) -> Callable[[str], Words]:
    return cache(lambda name: pooled_words(recording(name)))


@pytest.fixture(scope="session")
def pooled_profile(recording: Load) -> RingProfile:
    return two_pass(recording("id11_dac"))


@pytest.fixture(scope="session")
def two_per_cent_lost(recording: Load) -> tuple[Recording, Words, RingProfile]:
    """A batch and two frames, another random set of pixels invalid in each, with what numpy makes of it."""
    data, rng = recording("id11_dac"), np.random.default_rng(7)
    frames = data.frames[: BATCH + 2].copy()
    for frame in frames:
        frame.ravel()[rng.integers(0, frame.size, frame.size // 50)] = np.iinfo(frame.dtype).max
    lossy = replace(data, frames=frames)
    return lossy, pooled_words(lossy), two_pass(lossy)
