"""When the rule looks next: a coarse step while the target is far, fine ones near it, a small one to confirm."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringwatch.stop.schedule import FIRST_FRAMES, next_evaluation


def after(n_frames: int, forecast: float | None = None, ratio: float = 2.0, *, is_armed: bool = False) -> int:
    return next_evaluation(n_frames, forecast, ratio, is_armed=is_armed)


@pytest.mark.parametrize("n_frames", [0, 1, 7])
def test_the_first_look_waits_for_a_few_frames(n_frames: int) -> None:
    assert after(n_frames) == FIRST_FRAMES == 8


@pytest.mark.parametrize("forecast", [None, 1e6])
def test_far_from_the_target_each_look_comes_after_the_square_root_of_two(forecast: float | None) -> None:
    assert after(1000, forecast) == 1414


@pytest.mark.parametrize("forecast", [1.0, 990.0, 1000.0, 1299.0])
def test_near_the_target_it_looks_every_five_percent(forecast: float) -> None:
    assert after(1000, forecast) == 1050


def test_still_finer_where_the_confidence_limit_is_nearly_there() -> None:
    assert after(1000, 1100.0, 1.02) == 1020
    assert after(1000, 1100.0, 1.0001) == 1010


def test_a_coarse_step_ends_short_of_the_target() -> None:
    assert after(1000, 1400.0) == round(1400 / 1.05)


def test_confirming_costs_little() -> None:
    assert after(1000, is_armed=True) == 1010
    assert after(1000, 1e6, is_armed=True) == 1010


@given(
    st.integers(0, 10**9), st.none() | st.floats(1, 1e13), st.floats(0, 1e9) | st.just(math.inf), st.booleans()
)  # fmt: skip
def test_it_always_goes_on_and_never_far_past_the_target(
    n_frames: int, forecast: float | None, ratio: float, is_armed: bool
) -> None:
    following = after(n_frames, forecast, ratio, is_armed=is_armed)
    assert n_frames < following <= max(FIRST_FRAMES, math.ceil(math.sqrt(2) * n_frames), n_frames + 1)
    if forecast is not None and n_frames >= FIRST_FRAMES and not is_armed:
        assert following <= max(math.ceil(forecast), math.ceil(1.05 * n_frames))
