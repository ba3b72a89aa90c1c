"""Signals that may be negative (dark image, float pixels, signed values): kernels give the specification's integers."""

from collections.abc import Sequence
from dataclasses import fields
from typing import get_args

import numpy as np
import pyopencl as cl
import pytest
from numpy.typing import NDArray

from ringwatch_gpu import reference
from ringwatch_gpu.batch import BatchIntegrator, Form
from ringwatch_gpu.errors import GeometryError
from ringwatch_gpu.geometry import Geometry
from ringwatch_gpu.integrator import Integrator
from ringwatch_gpu.noise import PixelVariance
from ringwatch_gpu.reference_rejection import reject
from ringwatch_gpu.rejection import Rejection, SigmaClip
from ringwatch_gpu.sectors import equal_groups
from ringwatch_gpu.signals import REACH, signals
from ringwatch_gpu.sums import FrameSums
from ringwatch_gpu.validity import Validity

from . import synthetic

SHAPE, BINS = synthetic.SHAPE, synthetic.BINS
RTOL = 1e-11
"""Both are float64 sums of at most some thousand terms, in different orders."""


@pytest.fixture(params=get_args(Form))
def form(request: pytest.FixtureRequest) -> Form:
    return request.param


def dark(shape: tuple[int, int] = SHAPE, level: float = 30.3) -> NDArray[np.float64]:
    """About as many counts as the frames below have, a few pixels of no use."""
    values = np.random.default_rng(11).normal(level, 5, shape)
    values.ravel()[:: max(values.size // 7, 2)] = (np.nan, np.inf, 1e9)[shape[0] % 3]
    return values


def frames(dtype: str, shape: tuple[int, int] = SHAPE, largest: int = 60, n: int = 8) -> NDArray[np.generic]:
    """Counts around zero where the type has a sign; some pixels invalid in each frame."""
    rng, kind = np.random.default_rng(3), np.dtype(dtype)
    lowest = -largest if kind.kind in "if" else 0
    counts = rng.integers(lowest, largest, (n, *shape), endpoint=True).astype(kind)
    if kind.kind == "f":
        counts += rng.random(counts.shape).astype(kind)
    bad = {"f": np.nan, "i": -100, "u": 2 ** (8 * kind.itemsize) - 1}[kind.kind]
    counts[rng.random(counts.shape) < 0.05] = bad
    return counts


def rule(dtype: str) -> Validity:
    return Validity.of(np.dtype(dtype), [-100] if np.dtype(dtype).kind == "i" else None)


def integrated(
    geometry: Geometry, images: NDArray[np.generic], validity: Validity, device: cl.Device, form: Form
) -> tuple[BatchIntegrator, FrameSums]:
    """The sums of one batch, after they were compared with the specification."""
    integrator = BatchIntegrator(geometry, images.dtype, device, form, negatives=validity.lowest < 0)
    integrator.slots[: len(images)] = images
    found = integrator.integrate(len(images), validity)
    flat = signals(images.reshape(len(images), -1), geometry, validity)
    expected = reference.integrate_signals(*flat, geometry.bin_table, geometry.norm_q, geometry.bins)
    for field in fields(FrameSums):
        assert np.array_equal(getattr(found, field.name), getattr(expected, field.name)), field.name
    image, lost = reference.accumulate_signals(*flat, geometry.bin_table, geometry.bins)
    assert np.array_equal(integrator.read_image()[0].ravel(), image)
    assert np.array_equal(integrator.read_image()[1].ravel(), lost)
    sectors = reference.sector_sums(images[-1].ravel(), geometry, equal_groups(geometry.bins), validity)
    assert np.array_equal(integrator.sector_sums(validity, len(images) - 1), sectors)
    return integrator, found


@pytest.mark.parametrize(
    ("dtype", "shape", "bins"),
    [
        *((dtype, SHAPE, BINS) for dtype in ("u1", "u2", "u4", "i2", "f4")),
        *((dtype, SHAPE, BINS) for dtype in ("i1", "i4") if synthetic.THOROUGH),
        *(("u2", (1, 1), 1), ("f4", (3, 5), 40), ("u2", (2, 900), 1), ("f4", (97, 131), 300)),
    ],
)
def test_sums_with_a_dark_are_those_of_the_specification(
    device: cl.Device, form: Form, dtype: str, shape: tuple[int, int], bins: int
) -> None:
    subtracted = dark(shape) if shape != (1, 1) else np.full(shape, 30.3)
    geometry = synthetic.geometry(shape, bins, masked=0.05 if shape != (1, 1) else 0).signed(dark=subtracted)
    _, sums = integrated(geometry, frames(dtype, shape), rule(dtype), device, form)
    assert (sums.signal < 0).any()


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4"])
def test_negative_values_count_where_dummies_are_listed(device: cl.Device, form: Form, dtype: str) -> None:
    """And the listed ones do not; nor do negative ones where none is listed."""
    geometry, images = synthetic.geometry(SHAPE, BINS), frames(dtype)
    _, sums = integrated(geometry, images, rule(dtype), device, form)
    assert (sums.signal < 0).any()
    used = ~geometry.mask
    assert sums.lost_count.sum() == (images == -100)[:, used].sum() > 0
    _, plain = integrated(geometry, images, Validity.of(images.dtype), device, form)
    assert plain.lost_count.sum() == (images < 0)[:, used].sum()


def test_float_pixels_are_rounded_to_the_quantum(device: cl.Device, form: Form) -> None:
    geometry = synthetic.geometry((1, 8), 1, masked=0).signed(0.25)
    values = np.array([[0.125, 0.375, 0.3, -0.3, 1e30, -1e30, -np.inf, 7.5]], np.float32)
    _, sums = integrated(geometry, values[np.newaxis], Validity.of(values.dtype, [7]), device, form)
    assert sums.signal[0, 0] == 0 + 2 + 1 - 1 + 30  # halves go to the even neighbour
    assert sums.lost_count[0, 0] == 3


@pytest.mark.parametrize("n_frames", [1, 5])
def test_slots_beyond_the_batch_do_not_count(device: cl.Device, form: Form, n_frames: int) -> None:
    """An empty slot is no frame of zeros, from which the dark could be taken."""
    integrated(synthetic.geometry(SHAPE, BINS).signed(dark=dark()), frames("u2", n=n_frames), rule("u2"), device, form)


def test_validity_is_judged_before_the_dark(device: cl.Device, form: Form) -> None:
    geometry = synthetic.geometry((1, 4), 1, masked=0).signed(dark=np.full((1, 4), 10.5))
    images = np.array([[[5, 15, 100, 101]]], np.uint16)
    _, sums = integrated(geometry, images, Validity.of(images.dtype, [5], saturation=100), device, form)
    assert sums.signal[0, 0] == 256 * (15 + 100) - 2 * 2688
    assert sums.lost_count[0, 0] == 2


@pytest.mark.parametrize("dtype", ["u4", "i4", "f4"])
def test_what_does_not_fit_is_invalid_and_counted(device: cl.Device, form: Form, dtype: str) -> None:
    most = REACH // 256
    geometry = synthetic.geometry((1, 4), 1, masked=0).signed(dark=np.full((1, 4), -4e6))
    images = np.array([[[most, most + 1, 2**30, 2**31 - 256]]]).astype(dtype)
    _, sums = integrated(geometry, images, Validity.of(images.dtype, []), device, form)
    assert sums.signal[0, 0] == 256 * (most + 4_000_000)
    assert sums.lost_count[0, 0] == 3


@pytest.mark.parametrize("value", [2000, 300_000, 4_000_000])
def test_large_signals_of_both_signs_are_exact(device: cl.Device, form: Form, value: int) -> None:
    """Sums of squares and products that need more than 64 bits, although the signals cancel."""
    subtracted = np.where(np.indices(SHAPE).sum(axis=0) % 2, 0.0, float(value))
    geometry = synthetic.geometry(SHAPE, 2).signed(dark=subtracted)
    images = np.full((3, *SHAPE), value // 2, np.uint32)
    _, sums = integrated(geometry, images, Validity.of(images.dtype), device, form)
    assert (sums.signal_sq[..., 0] > 0).any() == (value == 4_000_000)


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_evaluation_is_that_of_the_specification(device: cl.Device, form: Form, dtype: str) -> None:
    geometry = synthetic.geometry(SHAPE, BINS).signed(dark=dark())
    integrator, sums = integrated(geometry, frames(dtype), rule(dtype), device, form)
    total, lost = integrator.read_image()
    squares = np.maximum(8 * sums.signal_sq[..., 1].sum(axis=0).astype(float), 1)
    expected = reference.evaluate_image(total.ravel(), lost.ravel(), 8, geometry, squares=squares)
    found = integrator.evaluate_image(8)
    for name in ("signal", "norm", "count", "cake_signal"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    for name in ("norm_sq", "variance", "averaged_signal", "averaged_norm", "averaged_variance", "bin_weights"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=RTOL, err_msg=name)
    np.testing.assert_allclose(found.cake_scatter, expected.cake_scatter, rtol=1e-9)
    np.testing.assert_allclose(found.cake_scatter.sum(axis=1), found.variance, rtol=1e-9)


def test_cells_with_a_dark_are_rebinned_exactly(device: cl.Device) -> None:
    """And only to bins with the same dark and quantum."""
    images, rings = frames("u2"), synthetic.geometry(SHAPE, 12).signed(dark=dark())
    cake = rings.cake(8)
    cells = Integrator(cake, device).integrate(images)
    assert (cells.row("signal") < 0).any()
    whole = Integrator(rings, device).integrate(images)
    assert np.array_equal(cells.rebinned(cake, rings).words, whole.words)
    assert np.array_equal((cells.rebinned(cake, rings) + whole - whole).words, whole.words)
    for other in (rings.signed(0.5, dark()), rings.signed(dark=dark() + 1), rings.signed()):
        with pytest.raises(GeometryError, match="dark"):
            cells.rebinned(cake, other)


def test_the_bound_of_squares_begins_anew(device: cl.Device) -> None:
    """What scales the sectors' scatter belongs to the image that is summed."""
    images = frames("u2")
    integrator = BatchIntegrator(synthetic.geometry(SHAPE, BINS).signed(dark=dark()), images.dtype, device)
    scatters = []
    for _ in range(2):
        integrator.slots[:] = images
        for _ in range(3):
            integrator.integrate(8, rule("u2"))
        scatters.append(integrator.evaluate_image(24).cake_scatter)
        integrator.clear()
    assert np.array_equal(*scatters)


@pytest.mark.parametrize("variance", [None, PixelVariance(0.7, 3.0)])
def test_rejection_is_that_of_the_specification(device: cl.Device, form: Form, variance: PixelVariance | None) -> None:
    """Half of the signals are negative, a few per cent far away on either side."""
    images, base = frames("u2"), synthetic.geometry(SHAPE, BINS)
    images[:, ::17, ::3] = 500
    subtracted = dark()
    subtracted[::13, ::5] = 400
    geometry = base.signed(dark=subtracted)
    for rejection in methods(device, form, variance):
        integrator = BatchIntegrator(geometry, images.dtype, device, form, rejection=rejection)
        integrator.slots[:] = images
        integrator.integrate(8, rule("u2"))
        total, lost = integrator.read_image()
        found = integrator.reject_outliers(8)
        assert set(found) == set(rejection.methods)
        for method, sums in reject(total.ravel(), lost.ravel(), 8, geometry, rejection).items():
            signal, norm, _, count, deviations = sums
            assert (signal < 0).any()
            assert np.array_equal(found[method].signal, signal), method
            assert np.array_equal(found[method].normalization, norm * geometry.norm_quantum), method
            assert np.array_equal(found[method].count, count), method
            assert np.array_equal(found[method].variance, deviations), method


def methods(device: cl.Device, form: Form, variance: PixelVariance | None) -> list[Rejection]:
    """All at once; what PoCL's compiler, slow with barriers, compiles in seconds."""
    if form == "groups" and "Portable" in device.platform.name:
        return [Rejection(SigmaClip(), None, False, variance), Rejection(None, (0.2, 0.8), False, variance)]
    return [Rejection(SigmaClip(), (0.2, 0.8), True, variance)]


def test_pixels_without_a_usable_dark_are_ignored() -> None:
    plain, values = synthetic.geometry(SHAPE, BINS, masked=0), dark()
    geometry = plain.signed(dark=values)
    assert np.array_equal(geometry.mask, ~(np.abs(values) < 1e6))
    assert geometry.dark is not None
    np.testing.assert_allclose(geometry.dark[~geometry.mask], values[~geometry.mask], atol=2**-9)


def test_quantum_and_dark_are_part_of_the_digest() -> None:
    plain = synthetic.geometry(SHAPE, BINS)
    flat = np.full(SHAPE, 3.0)
    geometries = [plain, plain.signed(), plain.signed(dark=flat), plain.signed(dark=flat + 1), plain.signed(0.5)]
    assert len({geometry.digest for geometry in geometries}) == len(geometries)
    assert plain.signed(1.0).digest == plain.digest
    mask = np.zeros(SHAPE, bool)
    mask[:9] = True
    assert plain.signed(dark=dark()).masked(mask).digest == plain.masked(mask).signed(dark=dark()).digest
    assert plain.signed(dark=flat).masked(mask).digest != plain.masked(mask).digest


@pytest.mark.parametrize("quantum", [0.3, 2.0, 0.0, -0.5, 2.0**-17, float("nan")])
def test_a_quantum_is_a_power_of_two(quantum: float) -> None:
    with pytest.raises(GeometryError, match="power of two"):
        synthetic.geometry((3, 3), 1).signed(quantum)


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.full(SHAPE, np.nan), np.zeros(SHAPE, complex)])
def test_a_dark_of_no_use_is_refused(values: NDArray[np.generic]) -> None:
    with pytest.raises(GeometryError, match="dark"):
        synthetic.geometry(SHAPE, BINS).signed(dark=values)


def test_float_pixels_need_a_quantum(device: cl.Device) -> None:
    plain = synthetic.geometry(SHAPE, BINS)
    images = frames("f4")
    with pytest.raises(ValueError, match="signed"):
        Integrator(plain, device).integrate(images)
    profile = Integrator(plain.signed(), device).integrate(images).profile
    used = np.isfinite(images) & ~plain.mask
    np.testing.assert_allclose(profile.signal.sum(), images[used].sum(dtype=float), atol=used.sum() * 2**-9)


def test_profiles_are_in_counts(device: cl.Device) -> None:
    """With a dark of whole counts nothing is rounded: the profile is that of the subtracted frames."""
    plain, images = synthetic.geometry(SHAPE, BINS), frames("u2")
    subtracted = np.random.default_rng(5).integers(0, 40, SHAPE)
    valid = np.where(images == 65535, -32768, images.astype(int) - subtracted).astype(np.int16)
    found = Integrator(plain.signed(dark=subtracted), device).integrate(images).profile
    expected = Integrator(plain, device, dummies=[-32768]).integrate(valid).profile
    for name, values in vars(expected).items():
        np.testing.assert_allclose(getattr(found, name), values, rtol=1e-12, err_msg=name)


def _sums(dummies: Sequence[int] | None, device: cl.Device) -> int:
    images = np.array([[[-3, 5, -1, 7]]], np.int32)
    sums = Integrator(synthetic.geometry((1, 4), 1, masked=0), device, dummies).integrate(images)
    return int(sums.row("signal")[0])


def test_the_rule_of_signed_types(device: cl.Device) -> None:
    """Without a list no negative value counts; with one, exactly the listed values do not."""
    assert _sums(None, device) == 5 + 7
    assert _sums([-1], device) == -3 + 5 + 7
    assert _sums([], device) == -3 + 5 - 1 + 7
