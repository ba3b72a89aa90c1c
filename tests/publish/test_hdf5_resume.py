"""A publisher that was killed, and the next one: rows that still hold are in the same file, the others are not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.conftest import FakeClock
from tests.publish.conftest import Results

from ringwatch.messages import Result, SavedState, SeriesStart
from ringwatch.publish import live_file, open_state
from ringwatch.publish.hdf5 import FileWriteError, Hdf5Publisher
from ringwatch.publish.result_file import ResultFileError, read_result, write_result
from ringwatch.publish.state_file import read_state

STATE = ".ringwatch-state"
Make = Callable[[], Hdf5Publisher]


@pytest.fixture
def make(tmp_path: Path, clock: FakeClock) -> Make:
    def made() -> Hdf5Publisher:
        return Hdf5Publisher(tmp_path, "{sample}", 5.0, "{}", clock, "profiles")

    return made


def publish(publisher: Hdf5Publisher, *results: Result) -> None:
    publisher.open()
    for result in results:
        publisher.publish(result)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def state(results: Any, n_frames: int = 3, *, is_running: bool = True) -> SavedState:
    image = np.ones((6, 5), np.int64)
    result = replace(results.result(), n_frames=n_frames, image_sum=image, image_lost=image.astype(np.uint32))
    start = SeriesStart(17, "s17", result.header, (6, 5), np.dtype("<u2"), sample="LaB6")
    return SavedState(result, start, ((0, n_frames - 1),), n_frames, (), 0.0, is_running=is_running)


def killed(make: Make, results: Results) -> None:
    """Three frames are saved, two more are only in the live file."""
    publisher = make()
    publish(publisher, results.event(), results.profiled(0), results.snapshot(3), results.decision(3), state(results))
    publish(publisher, results.profiled(3, 2), results.snapshot(5))
    assert publisher._live is not None
    publisher._live.flush()
    publisher.close()


def test_the_rows_of_saved_frames_stay_and_later_ones_are_superseded(
    make: Make, tmp_path: Path, results: Results
) -> None:
    killed(make, results)
    assert files(tmp_path) == [STATE, "LaB6.live.h5"]
    second, again = make(), Results(generation=2)
    left = second.resume()
    assert left is not None
    assert left.state.frames == ((0, 2),)
    publish(second, again.event("resumed"), again.profiled(7, 2), again.snapshot(5), again.result())
    assert files(tmp_path) == ["LaB6.h5"]
    assert read_result(tmp_path / "LaB6.h5").frames["frame"].tolist() == [0, 1, 2, 7, 8]
    with h5py.File(tmp_path / "LaB6.h5") as file:
        assert file["entry/snapshots/n_frames"][:].tolist() == [3, 5]
        assert file["entry/decisions/n_frames"][:].tolist() == [3]
        expected = np.concatenate([results.profiled(0).profiles.intensity, again.profiled(7, 2).profiles.intensity])
        assert np.array_equal(file["entry/frames/intensity"], expected)


def test_a_second_crash_finds_the_rows_of_before(make: Make, tmp_path: Path, results: Results) -> None:
    killed(make, results)
    second, again = make(), Results(generation=2)
    second.resume()
    publish(second, again.event("resumed"), again.profiled(5, 1), state(again, 4))
    second.close()
    second.let_go()
    third, last = make(), Results(generation=3)
    third.resume()
    publish(third, last.event("resumed"), last.profiled(8, 1), last.result())
    assert files(tmp_path) == ["LaB6.h5"]
    assert read_result(tmp_path / "LaB6.h5").frames["frame"].tolist() == [0, 1, 2, 5, 8]


def test_what_is_not_added_to_becomes_a_result(make: Make, tmp_path: Path, results: Results) -> None:
    killed(make, results)
    second, other = make(), Results("other", 18)
    second.resume()
    publish(second, other.event(), other.profiled(), other.result())
    assert files(tmp_path) == ["LaB6.live.h5", "LaB6_000017_crashed.h5", "LaB6_2.h5"]
    assert read_result(tmp_path / "LaB6_000017_crashed.h5").n_frames == 3


def test_after_a_good_end_there_is_nothing_to_resume(make: Make, tmp_path: Path, results: Results) -> None:
    publish(make(), results.event(), results.profiled(), state(results), results.result())
    assert files(tmp_path) == ["LaB6.h5"]
    assert make().resume() is None


def test_who_was_killed_just_after_the_result_was_written_has_nothing_to_resume(
    make: Make, tmp_path: Path, results: Results
) -> None:
    killed(make, results)
    write_result(tmp_path / "LaB6.h5", results.result(), config="{}", profiles=())
    assert make().resume() is None
    assert files(tmp_path) == ["LaB6.h5", "LaB6.live.h5"]


def test_a_series_without_frames_leaves_nothing(make: Make, tmp_path: Path, results: Results) -> None:
    publish(make(), results.event(), state(results, 0), results.event("end"))
    assert files(tmp_path) == []


def test_that_the_detector_was_told_to_stop_is_remembered(make: Make, results: Results) -> None:
    publisher = make()
    publish(publisher, results.event(), results.profiled(), results.stop("asked"), state(results))
    publisher.close()
    publisher.let_go()
    left = make().resume()
    assert left is not None
    assert left.was_told


def test_what_another_daemon_saves_is_its_own(make: Make, tmp_path: Path, results: Results) -> None:
    """A second one, started by mistake: it neither goes on with the sums of the first nor removes them."""
    first, second, other = make(), make(), Results("other", 18)
    publish(first, results.event(), results.profiled(0), state(results))
    assert second.resume() is None
    publish(second, other.event(), other.profiled(), state(other), other.result())
    assert read_state(tmp_path / STATE).state.result.origin == results.origin
    first.close()
    first.let_go()
    assert make().resume() is not None


def test_a_state_that_cannot_be_read_is_put_aside(make: Make, tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(b"not HDF5")
    assert make().resume() is None
    (aside,) = files(tmp_path)
    assert aside.startswith(f"{STATE}.")


@pytest.mark.parametrize("content", [b"", b"not HDF5"])
def test_a_file_of_the_same_name_that_is_not_its_result_costs_nothing(
    make: Make, tmp_path: Path, results: Results, content: bytes
) -> None:
    """Where there are no hard links, whoever is killed while a file gets its name leaves an empty one."""
    killed(make, results)
    (tmp_path / "LaB6.h5").write_bytes(content)
    assert make().resume() is not None


def test_what_cannot_even_be_put_aside_does_not_keep_the_daemon_from_starting(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / STATE).write_bytes(b"not HDF5")
    monkeypatch.setattr(Path, "rename", _refused)
    assert make().resume() is None


def test_what_is_not_added_to_becomes_a_result_as_soon_as_that_is_possible(
    make: Make, tmp_path: Path, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(make, results)
    second, other = make(), Results("other", 18)
    second.resume()
    with monkeypatch.context() as refusing:
        refusing.setattr(Path, "rename", _refused)
        with pytest.raises(FileWriteError):
            second.publish(other.event())
    publish(second, other.event(), other.profiled(), other.result())
    assert read_result(tmp_path / "LaB6_000017_crashed.h5").n_frames == 3


def test_rows_are_written_where_what_a_crash_would_need_cannot_be(
    make: Make, tmp_path: Path, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object) -> None:
        raise ResultFileError(path, "no space left on device")

    publisher = make()
    with monkeypatch.context() as filling:
        filling.setattr(open_state, "write_state", full)
        publish(publisher, results.event(), results.profiled(0), state(results))
        publish(publisher, results.profiled(3), state(results, 6))
    assert STATE not in files(tmp_path)
    publish(publisher, results.profiled(6), state(results, 9), results.result())
    assert read_result(tmp_path / "LaB6.h5").frames["frame"].tolist() == list(range(9))


def test_a_device_that_fails_while_nothing_can_be_saved_costs_no_rows(
    make: Make, tmp_path: Path, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, again = make(), Results(generation=2)
    publish(publisher, results.event(), results.profiled(0), state(results))
    monkeypatch.setattr(open_state, "write_state", _refused)
    publish(publisher, results.profiled(3), state(results, 6), results.profiled(6))
    publish(publisher, again.event("resumed"), again.profiled(9), again.result())
    assert read_result(tmp_path / "LaB6.h5").frames["frame"].tolist() == [0, 1, 2, 3, 4, 5, 9, 10, 11]


def test_sums_that_are_not_added_to_after_a_failure_of_the_device_are_kept(
    make: Make, tmp_path: Path, results: Results
) -> None:
    publisher, anew = make(), Results(generation=3)
    publish(publisher, results.event(), results.profiled(0), state(results))
    publish(publisher, anew.event("resumed"), anew.profiled(3), anew.result())
    assert read_result(tmp_path / "LaB6_000017_crashed.h5").n_frames == 3
    assert read_result(tmp_path / "LaB6_2.h5").frames["frame"].tolist() == [3, 4, 5]


def test_a_full_disk_costs_no_rows_of_before(
    make: Make, tmp_path: Path, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(make, results)
    second, again = make(), Results(generation=2)
    second.resume()
    with monkeypatch.context() as filling:
        filling.setattr(live_file, "reserve", _refused)
        with pytest.raises(FileWriteError):
            second.publish(again.event("resumed"))
    publish(second, again.event("resumed"), again.profiled(7, 2), again.result())
    assert read_result(tmp_path / "LaB6.h5").frames["frame"].tolist() == [0, 1, 2, 7, 8]


def test_a_full_disk_costs_no_sums_of_a_sample_of_which_no_series_runs(
    make: Make, tmp_path: Path, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(make, results)
    second, again = make(), Results(generation=2)
    second.resume()
    monkeypatch.setattr(live_file, "reserve", _refused)
    for event in ("resumed", "end"):
        with pytest.raises(FileWriteError):
            second.publish(again.event(event))
    second.let_go()
    assert make().resume() is not None


def test_a_live_file_that_cannot_be_read_costs_its_rows_only(make: Make, tmp_path: Path, results: Results) -> None:
    killed(make, results)
    (tmp_path / "LaB6.live.h5").write_bytes(b"torn")
    second, again = make(), Results(generation=2)
    second.resume()
    with pytest.raises(FileWriteError):
        second.publish(again.event("resumed"))
    publish(second, again.event("resumed"), again.profiled(7, 2), again.result())
    assert read_result(tmp_path / "LaB6_2.h5").frames["frame"].tolist() == [7, 8]


@pytest.mark.parametrize("stored", ["none", "profiles", "sums"])
def test_rows_stay_in_step_where_something_else_of_each_frame_is_stored_now(
    make: Make, tmp_path: Path, clock: FakeClock, results: Results, stored: Any
) -> None:
    killed(make, results)
    second, again = Hdf5Publisher(tmp_path, "{sample}", 5.0, "{}", clock, stored), Results(generation=2)
    second.resume()
    event = replace(again.event("resumed"), sums_shape=(6, 2))
    publish(second, event, again.profiled(7, 2), again.result())
    assert read_result(tmp_path / "LaB6.h5").frames["frame"].tolist() == [0, 1, 2, 7, 8]
    with h5py.File(tmp_path / "LaB6.h5") as file:
        assert {len(column) for column in file["entry/frames"].values()} == {5}
        if stored == "sums":
            assert np.array_equal(file["entry/frames/sums"][3:], again.profiled(7, 2).profiles.sums)


def _refused(*_: object) -> None:
    raise OSError(28, "No space left on device")
