"""A device that fails in the middle of a series: what was saved goes on, there or elsewhere; the loss is counted."""

import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyopencl as cl
import pytest
from tests.conftest import FakeClock
from tests.reduction.test_pipeline import Fed
from tests.reduction.test_resume import SAVING, Maker, files, final, frame, newest, reduction, same_bits, start_of

from ringwatch.config import WindowConfig
from ringwatch.messages import SavedState, SeriesEnd, SeriesEvent, SeriesResult, SeriesStart
from ringwatch.reduction.accumulator import Accumulator
from ringwatch.reduction.ladder import FORGIVEN_S
from ringwatch.reduction.series import DEVICE_FAILED
from ringwatch_gpu import devices
from ringwatch_gpu.batch import BatchIntegrator
from ringwatch_gpu.errors import DeviceError, OutOfDeviceMemory

__all__ = ["files", "reduction"]
END = [SeriesEnd(1, "s1")]
FAULTS = [
    cl.RuntimeError("clFinish failed: OUT_OF_RESOURCES"),
    cl.MemoryError("clEnqueueNDRangeKernel failed: MEM_OBJECT_ALLOCATION_FAILURE"),
    OutOfDeviceMemory(2_000_000, 1_000_000),
    DeviceError("self-test failed"),
]


class Failing:
    """Batches at whose integration the device fails, counted from the first of all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at: set[int] = set()
        self.fault: Exception = FAULTS[0]
        self.n_batches = 0
        self.used: list[cl.Device] = []
        sound = BatchIntegrator.integrate

        def integrate(integrator: BatchIntegrator, *args: Any, **kwargs: Any) -> Any:
            self.n_batches += 1
            self.used.append(integrator.context.devices[0])
            if self.n_batches - 1 in self.at:
                raise self.fault
            return sound(integrator, *args, **kwargs)

        monkeypatch.setattr(BatchIntegrator, "integrate", integrate)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Failing]:
    return Failing(monkeypatch)


def fail_once(monkeypatch: pytest.MonkeyPatch, where: type, name: str, at: int = 0) -> None:
    """The device fails inside one method, when that is called for the ``at``-th time from now."""
    sound, calls = getattr(where, name), iter(range(100))

    def failing_once(self: Any, *args: Any, **kwargs: Any) -> Any:
        if next(calls) == at:
            raise FAULTS[0]
        return sound(self, *args, **kwargs)

    monkeypatch.setattr(where, name, failing_once)


def n_frames_told(fed: Fed) -> list[int]:
    return [result.n_frames for result in fed.published if isinstance(result, SeriesResult)]


def shapeless() -> SeriesStart:
    return replace(start_of(), shape=None, dtype=None, pixel_mask=None)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_failed_batch_costs_itself_and_no_more(reduction: Maker, failing: Failing, fault: Exception) -> None:
    undisturbed, fed = reduction(), reduction()
    undisturbed.feed([start_of()], [frame(0)], [frame(1)], [frame(4)], END)
    failing.at, failing.fault, failing.n_batches = {2}, fault, 0
    start = start_of()
    fed.feed([start], [frame(0)], [frame(1)], [frame(2), frame(3)], [frame(4)], END)
    assert same_bits(final(fed), final(undisturbed))
    assert (start.fates.reduced, dict(start.fates.excluded)) == (3, {DEVICE_FAILED: 2})
    assert final(fed).origin.generation == 2


def test_what_was_reduced_since_the_last_saved_state_is_lost_and_counted(
    reduction: Maker, failing: Failing, clock: FakeClock
) -> None:
    undisturbed, fed = reduction(), reduction(replace(SAVING, save_s=10.0))
    undisturbed.feed([start_of()], [frame(0)], [frame(1)], [frame(5)], END)
    failing.at, failing.n_batches = {4}, 0
    start = start_of()
    fed.feed([start], [frame(0)])
    clock.advance(10.0)
    fed.feed([frame(1)])
    assert newest(fed).n_frames == 2
    fed.feed([frame(2)], [frame(3)], [frame(4)], [frame(5)], END)
    assert same_bits(final(fed), final(undisturbed))
    assert (start.fates.reduced, dict(start.fates.excluded)) == (3, {DEVICE_FAILED: 3})


def test_the_same_device_gets_a_second_chance_and_then_another_one_its_turn(
    reduction: Maker, failing: Failing, monkeypatch: pytest.MonkeyPatch, device: cl.Device
) -> None:
    other = next((info.device for info in devices.list_devices() if info.usable and info.device != device), None)
    if other is None:
        pytest.skip("one OpenCL device only")
    monkeypatch.setattr(devices, "spare", lambda failed: other)
    monkeypatch.setattr("ringwatch.reduction.ladder._is_cpu", lambda failed: failed == other)
    undisturbed, fed = reduction(), reduction()
    undisturbed.feed([start_of()], [frame(0)], [frame(3)], END)
    failing.at, failing.n_batches, failing.used = {1, 2}, 0, []
    fed.feed([start_of()], [frame(0)], [frame(1)], [frame(2)], [frame(3)], END)
    assert failing.used == [device, device, device, other]
    assert same_bits(final(fed), final(undisturbed))
    assert final(fed).origin.generation == 3


def test_where_there_is_no_other_device_the_second_failure_ends_the_daemon(
    reduction: Maker, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "spare", lambda failed: None)
    fed = reduction()
    failing.at = {1, 2}
    fed.feed([start_of()], [frame(0)], [frame(1)])
    with pytest.raises(DeviceError, match="failed twice"):
        fed.feed([frame(2)])
    assert newest(fed).n_frames == 1  # which is on the disk by now


def test_a_failure_long_after_the_last_one_is_the_first_again(
    reduction: Maker, failing: Failing, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setattr(devices, "spare", lambda failed: None)
    fed = reduction()
    failing.at = {1, 2}
    fed.feed([start_of()], [frame(0)], [frame(1)])
    clock.advance(FORGIVEN_S)
    fed.feed([frame(2)], [frame(3)], END)
    assert final(fed).n_frames == 2


def test_recorded_frames_are_not_saved_so_that_a_failure_is_told(
    tmp_path: Path, failing: Failing, reduction: Maker
) -> None:
    fed = reduction(replace(SAVING, save_s=None))
    failing.at = {1}
    fed.feed([start_of()], [frame(0)])
    with pytest.raises(cl.RuntimeError):
        fed.feed([frame(1)])
    assert not any(isinstance(result, SavedState) for result in fed.published)


def test_a_series_that_cannot_begin_for_lack_of_memory_begins_a_moment_later(
    reduction: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its header: it does not come a second time."""
    faults, sound = [OutOfDeviceMemory(2, 1)], BatchIntegrator.__init__

    def fail_once(integrator: BatchIntegrator, *args: Any, **kwargs: Any) -> None:
        if faults:
            raise faults.pop()
        sound(integrator, *args, **kwargs)

    monkeypatch.setattr(BatchIntegrator, "__init__", fail_once)
    fed = reduction()
    fed.feed([start_of()], [frame(0)], [frame(1)], END)
    assert (final(fed).n_frames, final(fed).header) == (2, start_of().header)


def test_the_next_series_begins_as_ever(reduction: Maker, failing: Failing) -> None:
    fed = reduction()
    failing.at = {1}
    fed.feed([start_of()], [frame(0)], [frame(1)], END)
    fed.feed([start_of(series=2)], [frame(0, series=2)], [SeriesEnd(2, "s2")])
    assert (final(fed).n_frames, final(fed).origin.generation) == (1, 1)
    events = [result.event for result in fed.published if isinstance(result, SeriesEvent)]
    assert events == ["start", "ready", "resumed", "ready", "end", "start", "ready", "end"]
    assert np.array_equal(final(fed).fates.excluded, {})


# --------------------------------------------------------------------------------------------- wherever it may fail


@pytest.mark.parametrize(
    ("where", "name", "at"),
    [(Accumulator, "evaluate", 0), (BatchIntegrator, "read_image", 0), (BatchIntegrator, "clear", 0)],
)
def test_the_result_of_a_series_at_whose_end_the_device_fails_is_told_once(
    reduction: Maker, monkeypatch: pytest.MonkeyPatch, where: type, name: str, at: int
) -> None:
    fed, start = reduction(), start_of()
    fed.feed([start], [frame(0)], [frame(1)])
    fail_once(monkeypatch, where, name, at)
    fed.feed(END)
    assert n_frames_told(fed) == [2]
    assert not final(fed).fates.excluded
    assert not fed.reduction.is_measuring
    fed.feed([start_of(series=2)], [frame(0, series=2)], [SeriesEnd(2, "s2")])
    assert n_frames_told(fed) == [2, 1]


@pytest.mark.parametrize("at", range(4))
def test_a_block_goes_on_wherever_its_device_fails(reduction: Maker, failing: Failing, at: int) -> None:
    fed, start = reduction(replace(SAVING, window=WindowConfig(kind="every", frames=2))), start_of()
    failing.at = {at}
    fed.feed([start], *([frame(number)] for number in range(5)), END)
    assert (start.fates.reduced, dict(start.fates.excluded)) == (4, {DEVICE_FAILED: 1})
    assert n_frames_told(fed) == [2, 2]


def test_of_a_batch_in_several_blocks_those_are_told_that_were_full(reduction: Maker, failing: Failing) -> None:
    fed, start = reduction(replace(SAVING, window=WindowConfig(kind="every", frames=2))), start_of()
    failing.at = {1}
    fed.feed([start], [frame(number) for number in range(5)], [frame(5)], END)
    assert (start.fates.reduced, dict(start.fates.excluded)) == (3, {DEVICE_FAILED: 3})
    assert n_frames_told(fed) == [2, 1]


def test_a_frame_that_cannot_be_decoded_has_that_fate_only(reduction: Maker, failing: Failing) -> None:
    fed, start = reduction(), start_of()
    fed.feed([start], [frame(0)])
    waiting = [[frame(2), replace(frame(3), data=b"x")]]
    fed.reduction._take_full_batch = lambda n_frames: waiting.pop() if waiting else []
    failing.at = {1}
    fed.feed([frame(1)], END)
    fates = start.fates
    assert (fates.reduced, dict(fates.excluded), dict(fates.malformed)) == (1, {DEVICE_FAILED: 2}, {"size": 1})


def test_the_first_frame_of_a_series_without_a_shape_is_not_lost(
    reduction: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed, start = reduction(), shapeless()
    fail_once(monkeypatch, BatchIntegrator, "__init__")
    fed.feed([start], [frame(0)], [frame(1)], END)
    assert (n_frames_told(fed), start.fates.settled) == ([2], 2)


def test_a_series_without_a_shape_survives_a_failure_in_its_first_batch(reduction: Maker, failing: Failing) -> None:
    fed, start = reduction(), shapeless()
    failing.at = {0}
    fed.feed([start], [frame(0)], [frame(1)], END)
    assert (n_frames_told(fed), start.fates.settled) == ([1], 2)


@pytest.mark.parametrize("name", ["__init__", "read_image"])
def test_the_first_series_of_a_sample_survives_a_failure(
    reduction: Maker, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fed = reduction(replace(SAVING, scope="sample"))
    fail_once(monkeypatch, BatchIntegrator, name)
    fed.feed([start_of()], [frame(0)], [frame(1)], END)
    fed.reduction.conclude("shutdown")
    assert sum(n_frames_told(fed)) + final(fed).fates.excluded[DEVICE_FAILED] == 2


def test_the_next_series_of_a_sample_that_cannot_begin_goes_on_with_all_sums(
    reduction: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, fed = (reduction(replace(SAVING, scope="sample")) for _ in range(2))
    for one in (undisturbed, fed):
        one.feed([start_of()], [frame(0)], [frame(1)], END)
        if one is fed:
            fail_once(monkeypatch, BatchIntegrator, "read_image")  # for the first state of the next series
        one.feed([start_of(series=2)], [frame(0, series=2)], [SeriesEnd(2, "s2")])
        one.reduction.conclude("shutdown")
    assert (n_frames_told(fed), final(fed).fates.settled) == ([3], 3)
    assert same_bits(final(fed), final(undisturbed))


def test_a_sample_at_whose_end_the_device_fails_is_told_before_the_next_one_begins(
    reduction: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed = reduction(replace(SAVING, scope="sample"))
    fed.feed([start_of()], [frame(0)], [frame(1)], END)
    fail_once(monkeypatch, BatchIntegrator, "read_image")
    other = replace(start_of(series=2), sample="other")
    fed.feed([other], [frame(0, series=2)], [SeriesEnd(2, "s2")])
    fed.reduction.conclude("shutdown")
    assert n_frames_told(fed) == [2, 1]


@pytest.mark.parametrize(("scope", "name"), [("series", "read_image"), ("series", "clear"), ("sample", "read_image")])
def test_what_was_asked_for_is_done_in_spite_of_a_failure(
    reduction: Maker, monkeypatch: pytest.MonkeyPatch, scope: str, name: str
) -> None:
    fed = reduction(replace(SAVING, scope=scope))
    fed.feed([start_of()], [frame(0)], [frame(1)], *([END] if scope == "sample" else []))
    fail_once(monkeypatch, BatchIntegrator, name)
    fed.reduction.begin_anew()
    fed.feed(*([[start_of()]] if scope == "sample" else []), [frame(2)], END)
    fed.reduction.conclude("shutdown")
    assert n_frames_told(fed) == [2, 1]


def test_a_series_that_waits_for_its_shape_is_not_forgotten(reduction: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    fed, waiting = reduction(replace(SAVING, scope="sample")), replace(shapeless(), series=2, unique_id="s2")
    fed.feed([start_of()], [frame(0)], [frame(1)], END)
    fail_once(monkeypatch, BatchIntegrator, "read_image")
    fed.feed([waiting])
    fed.reduction.begin_anew()
    fed.feed([frame(0, series=2)], [SeriesEnd(2, "s2")])
    fed.reduction.conclude("shutdown")
    assert (n_frames_told(fed), waiting.fates.reduced) == ([2, 1], 1)


def test_recorded_frames_are_not_saved_after_a_failure_either(
    reduction: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed = reduction(replace(SAVING, save_s=None))
    fail_once(monkeypatch, BatchIntegrator, "__init__")
    fed.feed([start_of()], [frame(0)], END)
    assert not any(isinstance(result, SavedState) for result in fed.published)


def test_a_device_that_fails_again_while_all_begins_again_has_another_one_take_its_place(
    reduction: Maker, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "spare", lambda failed: failed)
    monkeypatch.setattr("ringwatch.reduction.ladder._is_cpu", lambda failed: False)
    fed = reduction()
    fed.feed([start_of()], [frame(0)])
    failing.at = {1}
    fail_once(monkeypatch, BatchIntegrator, "restore_image")
    fed.feed([frame(1)], [frame(2)], END)
    assert n_frames_told(fed) == [2]


def test_the_memory_of_the_device_is_free_before_it_is_needed_again(
    reduction: Maker, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed = reduction()
    fed.feed([start_of()], [frame(0)])
    failed, sound, held = weakref.ref(fed.reduction._integrator), BatchIntegrator.__init__, []

    def init(integrator: BatchIntegrator, *args: Any, **kwargs: Any) -> None:
        held.append(failed() is not None)
        sound(integrator, *args, **kwargs)

    monkeypatch.setattr(BatchIntegrator, "__init__", init)
    failing.at = {1}
    fed.feed([frame(1)], [frame(2)], END)
    assert held == [False]


def test_frames_lost_with_the_device_are_not_missing_as_well_after_a_crash(reduction: Maker, failing: Failing) -> None:
    fed = reduction()
    failing.at = {1}
    fed.feed([start_of()], [frame(0)], [frame(1)], [frame(2)])
    assert (newest(fed).frames, newest(fed).start.fates.missing) == (((0, 2),), 0)
