"""What is saved of a series, and goes on in another process or on another device: the same bits as undisturbed."""

import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyopencl as cl
import pytest
from tests.conftest import FakeClock
from tests.reduction.test_pipeline import PONI, SHAPE, Fed

from ringwatch.config import WindowConfig
from ringwatch.messages import Frame, SavedState, SeriesEnd, SeriesEvent, SeriesResult, SeriesStart
from ringwatch.publish.state_file import LiveMark, StoredState, read_state, write_state
from ringwatch.reduction.settings import ReductionSettings

NUMBERS = range(11)
SAVING = ReductionSettings(save_s=0.0)
KINDS = {
    "counts": ("<u2", SAVING, {}),
    "two words": ("<u4", SAVING, {}),
    "split pixels": ("<u2", SAVING, {"splitting": "full"}),
    "dark": ("<u2", SAVING, {"dark": "dark.npy"}),
    "negative counts": ("<i4", replace(SAVING, dummies=(-1,)), {}),
    "a monitor": ("<u2", replace(SAVING, monitor_reference=2.0), {}),
    "its noise is told": ("<u2", replace(SAVING, error_model="poisson"), {"splitting": "bbox"}),
}


CASES = [(name, 4) for name in KINDS] + [("counts", 1), ("counts", 11)]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    (tmp_path / "detector.poni").write_text(PONI)
    np.save(tmp_path / "dark.npy", np.random.default_rng(2).random(SHAPE))


class Maker:
    """Makes reductions that know nothing of each other."""

    def __init__(self, folder: Path, device: cl.Device, clock: FakeClock) -> None:
        self._where, self._made = (folder, device, clock), list[Fed]()

    def __call__(self, settings: ReductionSettings = SAVING, **geometry: str) -> Fed:
        folder, device, clock = self._where
        files = {"poni": folder / "detector.poni", **geometry}
        if "dark" in files:
            files["dark"] = str(folder / files["dark"])
        self._made.append(Fed(device, clock, settings, **files))
        return self._made[-1]

    def close(self) -> None:
        for fed in self._made:
            fed.reduction.close()


@pytest.fixture
def reduction(tmp_path: Path, device: cl.Device, clock: FakeClock) -> Iterator[Maker]:
    maker = Maker(tmp_path, device, clock)
    yield maker
    maker.close()


def start_of(dtype: str = "<u2", series: int = 1) -> SeriesStart:
    mask = np.zeros(SHAPE, bool)
    mask[3, 4:9] = True
    return SeriesStart(
        series, f"s{series}", {"nimages": 11}, SHAPE, np.dtype(dtype), 11, pixel_mask=mask, sample="CeO2"
    )


def frame(number: int, dtype: str = "<u2", series: int = 1) -> Frame:
    random = np.random.default_rng(number)
    pixels = random.poisson(1e9 if dtype == "<u4" else 30, SHAPE).astype(dtype)
    if dtype == "<i4":
        pixels -= 40
    pixels[random.random(SHAPE) < 0.05] = -1 if dtype == "<i4" else np.iinfo(dtype).max
    return Frame(series, number, SHAPE, np.dtype(dtype), "none", pixels.tobytes(), f"s{series}", i0=1.0 + number)


def newest(fed: Fed) -> SavedState:
    return [result for result in fed.published if isinstance(result, SavedState)][-1]


def through_a_file(state: SavedState, folder: Path) -> SavedState:
    write_state(folder / "state", StoredState(state, LiveMark(), was_told=False), "{}")
    return read_state(folder / "state").state


def final(fed: Fed) -> SeriesResult:
    return [result for result in fed.published if isinstance(result, SeriesResult)][-1]


def same_bits(one: SeriesResult, other: SeriesResult) -> bool:
    names = ("sums", "image_sum", "image_lost", "image_lost_exposure")
    arrays = [(getattr(one, name), getattr(other, name)) for name in names]
    return one.exposure == other.exposure and all((a is b is None) or np.array_equal(a, b) for a, b in arrays)


@pytest.mark.parametrize(("kind", "cut"), CASES)
def test_sums_go_on_bit_for_bit(reduction: Maker, tmp_path: Path, kind: str, cut: int) -> None:
    dtype, settings, geometry = KINDS[kind]
    frames, end = [frame(number, dtype) for number in NUMBERS], [SeriesEnd(1, "s1")]
    whole, killed, again = (reduction(settings, **geometry) for _ in range(3))
    whole.feed([start_of(dtype)], *([one] for one in frames), end)
    killed.feed([start_of(dtype)], *([one] for one in frames[:cut]))
    state = through_a_file(newest(killed), tmp_path)
    assert (state.n_frames, state.frames) == (cut, ((0, cut - 1),))
    again.feed([state.again()], *([one] for one in frames[cut:]), end)
    assert same_bits(final(again), final(whole))
    assert final(again).n_frames == 11
    assert final(again).fates.reduced == final(whole).fates.reduced == 11
    assert final(again).origin == replace(final(whole).origin, generation=2)


def test_what_was_found_of_the_detector_is_kept(reduction: Maker, tmp_path: Path) -> None:
    killed, again = reduction(), reduction()
    killed.feed([start_of()], [frame(0)])
    state = through_a_file(newest(killed), tmp_path)
    assert np.array_equal(state.start.pixel_mask, start_of().pixel_mask)
    for name in ("header", "shape", "dtype", "frames_expected", "sample", "saturation", "energy_eV", "joined"):
        assert getattr(state.start, name) == getattr(start_of(), name), name
    state = replace(state, dummies=(31,))
    again.feed([state.again()], [frame(1)], [SeriesEnd(1, "s1")])
    lost = final(again).image_lost
    assert lost is not None
    pixels = np.frombuffer(frame(1).data, "<u2").reshape(SHAPE)
    usable = ~start_of().pixel_mask
    assert np.array_equal(lost[usable & (pixels == 31)] >= 1, np.ones((usable & (pixels == 31)).sum(), bool))


def test_an_armed_series_is_resumed_before_its_first_frame(reduction: Maker, tmp_path: Path) -> None:
    killed, again = reduction(), reduction()
    killed.feed([start_of()])
    state = through_a_file(newest(killed), tmp_path)
    assert (state.result.n_frames, state.result.image_sum, state.frames) == (0, None, ())
    again.feed([state.again()], [frame(5)], [frame(6)], [SeriesEnd(1, "s1")])
    assert (final(again).n_frames, final(again).origin.generation) == (2, 2)


def test_frames_that_waited_or_were_skipped_are_not_received(reduction: Maker) -> None:
    start = start_of()
    killed = reduction()
    killed.feed([start], [frame(0)])
    start.fates.received, start.fates.skipped, start.fates.duplicate, start.fates.missing = 9, 3, 2, 70
    killed.feed([frame(3)])
    fates = newest(killed).start.fates
    assert (fates.received, fates.reduced, fates.skipped, fates.duplicate) == (4, 2, 0, 2)
    assert fates.missing == 2  # 1 and 2: what waits may have a larger number
    assert newest(killed).result.fates == fates


def test_with_another_calibration_it_begins_anew(reduction: Maker, tmp_path: Path) -> None:
    killed, again = reduction(), reduction(polarization="none")
    killed.feed([start_of()], [frame(0)], [frame(1)])
    again.feed([newest(killed).again()], [frame(2)], [SeriesEnd(1, "s1")])
    assert (final(again).n_frames, final(again).origin.generation) == (1, 3)
    assert final(again).fates.reduced == 3  # of the series, as ever


def test_sums_that_contradict_the_image_are_not_added_to(reduction: Maker) -> None:
    """Else the self-test would fail for ever, in one process after the other."""
    killed, again = reduction(), reduction()
    killed.feed([start_of()], [frame(0)], [frame(1)])
    state = newest(killed)
    assert state.result.image_sum is not None
    state.result.image_sum[20] += 1
    again.feed([state.again()], [frame(2)], [SeriesEnd(1, "s1")])
    assert (final(again).n_frames, final(again).origin.generation) == (1, 3)


@pytest.mark.parametrize("window", [WindowConfig(kind="every", frames=2), WindowConfig(kind="every", seconds=2.0)])
def test_with_another_window_it_begins_anew(reduction: Maker, window: WindowConfig) -> None:
    killed, again = reduction(), reduction(replace(SAVING, window=window))
    killed.feed([start_of()], *([frame(number)] for number in range(5)))
    again.feed([newest(killed).again()], [frame(5)], [SeriesEnd(1, "s1")])
    assert (final(again).n_frames, final(again).origin.generation) == (1, 3)


@pytest.mark.parametrize("window", [WindowConfig(), WindowConfig(kind="last", frames=2)])
def test_a_resumed_series_may_end_without_another_frame(reduction: Maker, window: WindowConfig) -> None:
    killed, again = (reduction(replace(SAVING, window=window)) for _ in range(2))
    killed.feed([start_of()], *([frame(number)] for number in range(5)))
    again.feed([newest(killed).again()], [SeriesEnd(1, "s1")])
    assert same_bits(final(again), newest(killed).result)


def test_a_sample_that_does_not_go_on_after_a_crash_is_told_with_its_start(reduction: Maker) -> None:
    """Whoever writes the file has to know which accumulation takes over the rows of before."""
    settings = replace(SAVING, scope="sample")
    killed, again = reduction(settings), reduction(settings)
    killed.feed([start_of()], [frame(0)], [SeriesEnd(1, "s1")])
    again.feed([newest(killed).again()], [SeriesEnd(1, "s1")])
    again.reduction.conclude("shutdown")
    event = next(result for result in again.published if isinstance(result, SeriesEvent))
    assert (event.event, event.origin) == ("resumed", final(again).origin)
    assert final(again).n_frames == 1


def test_what_was_saved_is_not_kept_in_memory(reduction: Maker) -> None:
    killed, again = reduction(), reduction()
    killed.feed([start_of()], [frame(0)])
    state = newest(killed)
    again.feed([state.again()])
    image = weakref.ref(state.result.image_sum)
    killed.published.clear()
    killed.reduction._state = None
    del state
    assert image() is None


def test_the_sums_of_a_sample_go_on_between_its_series(reduction: Maker, tmp_path: Path) -> None:
    settings = replace(SAVING, scope="sample")
    whole, killed, again = (reduction(settings) for _ in range(3))
    for fed in (whole, killed):
        fed.feed([start_of()], [frame(0)], [frame(1)], [SeriesEnd(1, "s1")])
    state = through_a_file(newest(killed), tmp_path)
    assert not state.is_running
    again.feed([state.again()], [SeriesEnd(1, "s1")])
    for fed in (whole, again):
        fed.feed([start_of(series=2)], [frame(2, series=2)], [SeriesEnd(2, "s2")])
    whole.reduction.conclude("shutdown")
    again.reduction.conclude("shutdown")
    assert same_bits(final(again), final(whole))
    assert final(again).fates.reduced == final(whole).fates.reduced == 3
    assert final(again).origin.key == ("s1", 2)


def test_each_block_is_saved_as_soon_as_it_begins(reduction: Maker) -> None:
    fed = reduction(replace(SAVING, save_s=1e9, window=WindowConfig(kind="every", frames=2)))
    fed.feed([start_of()], *([frame(number)] for number in range(5)))
    states = [result for result in fed.published if isinstance(result, SavedState)]
    assert [(state.result.origin.generation, state.result.n_frames) for state in states] == [(1, 0), (2, 1), (3, 1)]


def test_a_resumed_series_says_so(reduction: Maker) -> None:
    killed, again = reduction(), reduction()
    killed.feed([start_of()], [frame(0)], [frame(1)])
    again.feed([newest(killed).again()])
    event = next(result for result in again.published if isinstance(result, SeriesEvent))
    assert (event.event, event.reason) == ("resumed", "Resumed after 2 frames; those that came since then are lost.")


def test_recorded_frames_are_not_saved(reduction: Maker) -> None:
    fed = reduction(ReductionSettings())
    fed.feed([start_of()], [frame(0)], [SeriesEnd(1, "s1")])
    assert not any(isinstance(result, SavedState) for result in fed.published)
