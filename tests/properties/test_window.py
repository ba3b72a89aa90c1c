"""The sums of the last frames, from subtractions, are those of these frames added up: bit for bit."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.properties.test_union import FRAMES, GEOMETRY, STATIC, VALIDITY

from ringwatch.config import WindowConfig
from ringwatch.errors import ConfigError
from ringwatch.reduction import recent
from ringwatch.reduction.recent import RecentSums, require_room
from ringwatch_gpu import reference
from ringwatch_gpu.sums import RingSums

PARTS = reference.integrate(FRAMES, GEOMETRY.bin_table, GEOMETRY.norm_q, GEOMETRY.bins, VALIDITY)
ROWS = PARTS.rows(STATIC)
WEIGHED = PARTS.rows(STATIC, np.array([3**k for k in range(len(FRAMES))], np.uint64))
Cuts = st.sets(st.integers(1, len(FRAMES) - 1))


def fed(window: WindowConfig, rows: np.ndarray, cuts: set[int], times_s: np.ndarray, zero: RingSums) -> RecentSums:
    """What is left after batches that end at the cuts."""
    window_sums = RecentSums(zero, window)
    bounds = [0, *sorted(cuts), len(rows)]
    for first, last in pairwise(bounds):
        window_sums.add(rows[first:last], times_s[first:last])
    return window_sums


@settings(max_examples=60, deadline=None)
@given(Cuts, st.integers(1, 2 * len(FRAMES)), st.booleans())
def test_the_last_frames(cuts: set[int], n_frames: int, is_weighed: bool) -> None:
    rows, zero = (WEIGHED, RingSums.none_of(GEOMETRY, 1.0)) if is_weighed else (ROWS, RingSums.none_of(GEOMETRY))
    window = WindowConfig(kind="last", frames=n_frames)
    found = fed(window, rows, cuts, np.zeros(len(rows)), zero).sums
    assert np.array_equal(found.words, zero.plus_rows(rows[-n_frames:]).words)
    assert found.n_frames == min(n_frames, len(rows))


@settings(max_examples=60, deadline=None)
@given(Cuts, st.lists(st.floats(0, 10), min_size=len(FRAMES), max_size=len(FRAMES)), st.floats(0.01, 20))
def test_the_last_seconds(cuts: set[int], times: list[float], seconds: float) -> None:
    zero, times_s = RingSums.none_of(GEOMETRY), np.sort(times)
    found = fed(WindowConfig(kind="last", seconds=seconds), ROWS, cuts, times_s, zero).sums
    young = times_s[-1] - times_s < seconds
    assert np.array_equal(found.words, zero.plus_rows(ROWS[young]).words)
    assert found.n_frames == young.sum()


def test_memory_bounds_a_window_whose_frames_come_faster_than_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    zero = RingSums.none_of(GEOMETRY)
    monkeypatch.setattr(recent, "MAX_BYTES", 5 * zero.words.nbytes + 7)
    found = fed(WindowConfig(kind="last", seconds=1.0), ROWS, {3}, np.zeros(len(ROWS)), zero)
    assert np.array_equal(found.sums.words, zero.plus_rows(ROWS[-5:]).words)


@pytest.mark.parametrize(
    ("length", "frame_time_s", "refused"),
    [({"frames": 5592}, None, False), ({"frames": 5593}, None, True), ({"seconds": 55.0}, 0.01, False),
     ({"seconds": 56.0}, 0.01, True), ({"seconds": 56.0}, None, False)],
)  # fmt: skip
def test_a_window_larger_than_the_memory_is_refused_with_the_numbers(
    length: dict[str, float], frame_time_s: float | None, refused: bool
) -> None:
    window = WindowConfig.model_validate({"kind": "last"} | length)
    if not refused:
        require_room(window, (6, 2000, 2), frame_time_s)
        return
    with pytest.raises(ConfigError, match=r"2000 bins.*1\.1 GB.*5592 frames"):
        require_room(window, (6, 2000, 2), frame_time_s)
    require_room(WindowConfig.model_validate({"kind": "every"} | length), (6, 2000, 2), frame_time_s)
