"""What pyFAI gets wrong, shown with the pyFAI that is installed, and that we do not; docs/accuracy.md tells the user.

A test that fails with "has fixed" is good news: a newer pyFAI is right now. Its note on the page and the test go then.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from functools import reduce
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ringwatch.stream.powder import TRUTH
from ringwatch.stream.simulator import Simulator
from ringwatch_gpu import Geometry, Integrator, Rejection
from ringwatch_gpu.geometry_pyfai import Recipe, load_integrator

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"
BINS = 200
CYTHON, PYTHON = ("no", "csr", "cython"), ("no", "csr", "python")
WELL_FILLED = 300


class Note(StrEnum):
    """The notes of the page, each the bold beginning of a list item."""

    VARIANCE = "Azimuthal variance of the compiled engines"
    POISSON_INSTEAD = "Poisson instead of azimuthal"
    AVERAGES = "Averages of few counts look smooth"
    UNION = "Union"
    LARGE_VALUES = "Large values"
    IN_PLACE = "The caller's image"
    HYBRID = "Hybrid error model"
    EMPTIED_RINGS = "Emptied rings"
    FEW_LEFT = "Three pixels where one is left"
    NARROW_BANDS = "Narrow bands of small bins"
    DUMMIES_IN_MEDIANS = "Dummies in medians"
    NO_ERRORS_OF_MEDIANS = "No errors of medians"


def still_there(defect: bool, note: Note) -> None:
    """Fail with good news if pyFAI does not have the defect any more."""
    news = f"pyFAI {version('pyFAI')} has fixed this: remove the note {note.value!r} from {PAGE.name}, and its test"
    assert defect, news


class Case(NamedTuple):
    """Frames of a spotty powder, with a flat field that makes the pixels of a ring unequal."""

    frames: list[np.ndarray]
    geometry: Geometry
    reduce: Callable[..., Any]

    @property
    def ours(self) -> Integrator:
        return Integrator(self.geometry)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    simulator = Simulator(TRUTH, 1)
    rows, columns = np.indices(TRUTH.shape)
    flat = (1 + 0.3 * np.cos(rows / 40) * np.sin(columns / 50)).astype(np.float32)
    plain = Geometry.from_poni(TRUTH.poni(), bins=BINS, cache_dir=tmp_path_factory.mktemp("geometry"))
    geometry = plain.masked(simulator.pixel_mask).corrected(flat=flat)
    recipe = Recipe(TRUTH.poni(), TRUTH.shape, geometry.unit, BINS, None, True, 0.99)
    integrator = load_integrator(recipe, "simulated")
    usual = {
        "npt": BINS, "unit": geometry.unit, "radial_range": (geometry.edges[0], geometry.edges[-1]), "dummy": -1,
        "mask": geometry.mask, "flat": flat, "polarization_factor": 0.99, "error_model": "azimuthal", "method": CYTHON,
    }  # fmt: skip

    def reduced(image: np.ndarray, what: str = "integrate1d_ng", **choice: Any) -> Any:
        return getattr(integrator, what)(image, **(usual | choice))

    return Case([simulator.frame() for _ in range(6)], geometry, reduced)


def worst(theirs: np.ndarray, ours: np.ndarray, count: np.ndarray) -> float:
    """Largest relative difference in well-filled bins."""
    many = count >= WELL_FILLED
    return float(np.abs(theirs[many] / ours[many] - 1).max())


def opencl(algorithm: str) -> tuple[Any, ...]:
    """PyFAI's method for this algorithm on the first device it finds."""
    import pyFAI.integrator.azimuthal  # noqa: F401 - fills the registry
    from pyFAI.method_registry import IntegrationMethod

    methods = IntegrationMethod.select_method(1, split="no", algo=algorithm, impl="opencl", degradable=False)
    if not methods:
        pytest.skip("pyFAI finds no OpenCL device")
    return "no", algorithm, "opencl", methods[0].target


def test_the_page_has_exactly_these_notes() -> None:
    section = PAGE.read_text().partition("\n## Where pyFAI is wrong\n")[2].partition("\n## ")[0]
    assert re.findall(r"^- \*\*(.+?)\.?\*\*", section, re.MULTILINE) == [note.value for note in Note]


# -------------------------------------------------------------------------------------------------------- integration


def test_compiled_engines_approximate_the_azimuthal_variance(case: Case) -> None:
    ours, exact = case.ours.integrate(case.frames[0]).profile, case.reduce(case.frames[0], method=PYTHON)
    assert worst(exact.sum_variance, ours.variance, ours.count) < 1e-6
    for algorithm in ("csr", "csc", "lut", "histogram"):
        theirs = case.reduce(case.frames[0], method=("no", algorithm, "cython"))
        assert worst(theirs.intensity, ours.intensity, ours.count) < 5e-7
        still_there(worst(theirs.sum_variance, ours.variance, ours.count) > 1e-3, Note.VARIANCE)


@pytest.mark.filterwarnings("ignore::pyopencl.CompilerWarning")
def test_the_opencl_engine_approximates_it_more_coarsely(case: Case) -> None:
    ours = case.ours.integrate(case.frames[0]).profile
    theirs = case.reduce(case.frames[0], method=opencl("csr"))
    assert worst(theirs.intensity, ours.intensity, ours.count) < 1e-6
    still_there(worst(theirs.sum_variance, ours.variance, ours.count) > 1e-3, Note.VARIANCE)


@pytest.mark.filterwarnings("ignore::pyopencl.CompilerWarning")
@pytest.mark.parametrize("algorithm", ["lut", "histogram"])
def test_two_opencl_engines_return_another_variance_than_asked_for(case: Case, algorithm: str) -> None:
    poisson = np.bincount(case.geometry.bin_table, np.maximum(case.frames[0], 1).ravel(), BINS + 1)[:BINS]
    variance = case.reduce(case.frames[0], method=opencl(algorithm)).sum_variance
    high = variance.reshape(BINS, -1)[:, 0]  # the histogram engine leaves the two halves of a sum side by side
    still_there(np.allclose(high, poisson, rtol=1e-5), Note.POISSON_INSTEAD)


def test_dividing_a_sum_by_the_number_of_frames_makes_it_smooth(case: Case) -> None:
    """The same 100 frames: only the unit of the signal differs."""
    n_frames = 100
    total = np.random.default_rng(0).poisson(0.002 * n_frames, TRUTH.shape).astype(np.uint32)
    of_sum = case.reduce(total, normalization_factor=n_frames).calc_spottiness()
    of_average = case.reduce((total / n_frames).astype(np.float32)).calc_spottiness()
    ours = case.ours.spottiness(case.ours.integrate(total))
    assert of_sum == pytest.approx(float(ours.plain), rel=2e-3)
    still_there(of_average < 0.7 * of_sum, Note.AVERAGES)


def test_union_depends_on_the_order_and_is_not_the_variance_of_all_pixels(case: Case) -> None:
    monitors = (1, 0.5, 2, 0.7, 1.5, 1.1)
    theirs = [
        case.reduce(frame, method=PYTHON, normalization_factor=monitor)
        for frame, monitor in zip(case.frames, monitors, strict=True)
    ]
    forward, backward = (reduce(lambda a, b: a.union(b), order) for order in (theirs, theirs[::-1]))
    equal = reduce(lambda a, b: a.union(b), (case.reduce(frame, method=PYTHON) for frame in case.frames))
    ours = case.ours.integrate(case.frames)
    assert np.array_equal(ours.words, case.ours.integrate(case.frames[::-1]).words)
    profile = ours.profile
    assert worst(equal.sum_signal, profile.signal, profile.count) < 1e-6
    still_there(worst(equal.sum_variance, profile.variance, profile.count) > 1e-3, Note.UNION)
    still_there(worst(forward.sum_variance, backward.sum_variance, profile.count) > 1e-2, Note.UNION)


def test_large_values_are_rounded_or_taken_for_dummies(case: Case) -> None:
    limit, flagged = 2**24, 2**32 - 1
    odd = np.full(TRUTH.shape, limit + 1, np.uint32)
    theirs = case.reduce(odd, correctSolidAngle=False, polarization_factor=None, flat=None)
    bare = Integrator(Geometry.from_poni(TRUTH.poni(), bins=BINS, solid_angle=False, polarization=None))
    filled = theirs.count > 0
    assert (bare.integrate(odd).profile.intensity[filled] == limit + 1).all()
    still_there((theirs.intensity[filled] == limit).all(), Note.LARGE_VALUES)

    bright = np.full(TRUTH.shape, flagged - 95, np.uint32)
    assert Integrator(case.geometry, dummies=[flagged]).integrate(bright).profile.count.sum() > 0
    still_there(case.reduce(bright, dummy=flagged).count.sum() == 0, Note.LARGE_VALUES)


def test_the_python_preprocessor_writes_into_the_image_it_is_given(case: Case) -> None:
    from pyFAI.engines.preproc import preproc

    image = case.frames[0].astype(np.float32)
    preproc(image, dark=np.ones_like(image))
    still_there(not np.array_equal(image, case.frames[0]), Note.IN_PLACE)


# ---------------------------------------------------------------------------------------------------- without outliers


def clip(case: Case, image: np.ndarray, **choice: Any) -> Any:
    return case.reduce(image, "sigma_clip_ng", thres=5, max_iter=5, **choice)


def stumbles(call: Callable[[], Any]) -> bool:
    """Whether it ends in an IndexError, as pyFAI's Python engine does over empty bins."""
    try:
        call()
    except IndexError:
        return True
    return False


def few_pixels(case: Case, n_pixels: Callable[[int], int]) -> np.ndarray:
    """A mask that leaves ``n_pixels(bin)`` pixels in each bin, or as many as it has."""
    table = case.geometry.bin_table
    order = np.argsort(table, kind="stable")
    first = np.searchsorted(table[order], np.arange(BINS))
    place = np.arange(table.size) - first[np.minimum(table[order], BINS - 1)]
    wanted = np.array([n_pixels(number) for number in range(BINS)])[np.minimum(table[order], BINS - 1)]
    mask = np.ones(table.size, np.bool_)
    mask[order[(table[order] < BINS) & (place < wanted)]] = False
    return mask.reshape(TRUTH.shape)


def test_the_python_engine_clips_hybrid_as_poisson(case: Case) -> None:
    counts = {
        (model, engine[2]): clip(case, case.frames[0], error_model=model, method=engine).count
        for model in ("hybrid", "poisson", "azimuthal")
        for engine in (PYTHON, CYTHON)
    }
    assert np.array_equal(counts["hybrid", "cython"], counts["azimuthal", "cython"])
    assert not np.array_equal(counts["poisson", "python"], counts["azimuthal", "python"])
    still_there(np.array_equal(counts["hybrid", "python"], counts["poisson", "python"]), Note.HYBRID)


def test_poisson_clipping_discards_whole_rings_and_one_engine_stumbles_over_them(case: Case) -> None:
    bright = np.random.default_rng(0).random(TRUTH.shape) < 0.1
    image = np.where(bright, 1000, 3).astype(np.uint32)
    full = np.flatnonzero(case.ours.integrate(image).profile.count >= WELL_FILLED)
    ours = (
        Integrator(case.geometry, rejection=Rejection(None, None)).accumulate([image]).without_outliers["median_clip"]
    )
    assert (ours.count[full] > 0).all()
    still_there(bool((clip(case, image, error_model="poisson").count[full] == 0).all()), Note.EMPTIED_RINGS)
    still_there(stumbles(lambda: clip(case, image, error_model="poisson", method=PYTHON)), Note.EMPTIED_RINGS)


def test_sigma_clip_counts_three_pixels_where_there_is_one(case: Case) -> None:
    mask = few_pixels(case, lambda _: 1)
    one = Integrator(case.geometry.masked(mask), rejection=Rejection(quantile=None, median_clip=False))
    ours = one.accumulate(case.frames[:1]).without_outliers["sigma_clip"]
    filled = ours.count > 0
    assert (ours.count[filled] == 1).all()
    still_there((clip(case, case.frames[0], mask=mask).count[filled] == 3).all(), Note.FEW_LEFT)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_band_of_a_small_bin_holds_nothing(case: Case) -> None:
    mask = few_pixels(case, lambda number: 2 * (number % 5))
    image = np.full(TRUTH.shape, 7, np.uint32)
    choice = {"error_model": "poisson", "percentile": (40, 60), "mask": mask}
    theirs = case.reduce(image, "medfilt1d_ng", **choice)
    banded = Integrator(case.geometry.masked(mask), rejection=Rejection(None, (0.4, 0.6), median_clip=False))
    ours = banded.accumulate([image]).without_outliers["quantile"]
    even = np.bincount(banded.geometry.bin_table, minlength=BINS + 1)[:BINS]
    filled = (even > 0) & (even % 2 == 0)
    assert (ours.intensity[filled] > 0).all()
    still_there((theirs.intensity[filled] == 0).mean() > 0.9, Note.NARROW_BANDS)
    still_there(stumbles(lambda: case.reduce(image, "medfilt1d_ng", method=PYTHON, **choice)), Note.NARROW_BANDS)


def test_medians_go_wrong_where_pixels_are_dummies(case: Case) -> None:
    lost = np.random.default_rng(3).random(TRUTH.shape) < 0.05
    image = np.where(lost, 65535, case.frames[0]).astype(np.float32)
    choice = {"error_model": "poisson", "percentile": 50}
    masked = case.reduce(image, "medfilt1d_ng", mask=case.geometry.mask | lost, **choice)
    as_dummies = case.reduce(image, "medfilt1d_ng", dummy=65535, delta_dummy=0.5, **choice)
    medians = [
        Integrator(geometry, dummies=[65535], rejection=Rejection(None, median_clip=False))
        .accumulate([image.astype(np.uint32)])
        .without_outliers["quantile"]
        .intensity
        for geometry in (case.geometry, case.geometry.masked(lost))
    ]
    assert np.array_equal(*medians)
    still_there(not np.allclose(as_dummies.intensity, masked.intensity, rtol=1e-3), Note.DUMMIES_IN_MEDIANS)


def test_medians_have_no_azimuthal_errors(case: Case) -> None:
    theirs = case.reduce(case.frames[0], "medfilt1d_ng", percentile=(30, 70))
    banded = Integrator(case.geometry, rejection=Rejection(None, (0.3, 0.7), median_clip=False))
    assert banded.accumulate(case.frames[:1]).without_outliers["quantile"].sem.max() > 0
    still_there(theirs.sigma is None, Note.NO_ERRORS_OF_MEDIANS)
