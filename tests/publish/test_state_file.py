"""The file of what survives a crash: all of it comes back, an older one stays until then, and it is not trusted."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ringwatch.messages import Fates, SavedState, SeriesResult, SeriesStart
from ringwatch.publish import state_file
from ringwatch.publish.result_file import ResultFileError, read_result
from ringwatch.publish.state_file import LiveMark, StoredState, read_state, write_state

SHAPE = (6, 5)


@pytest.fixture
def stored(results: Any) -> StoredState:
    result: SeriesResult = results.result()
    image = np.arange(30, dtype=np.int64).reshape(SHAPE)
    result = replace(result, image_sum=image, image_lost=(image % 3).astype(np.uint32), missing=())
    start = SeriesStart(
        result.origin.series, result.origin.unique_id, result.header, SHAPE, np.dtype("<u2"), 100, 0.25, 65000.0,
        (75e-6, 172e-6), 60000, image % 7 == 0, (image / 7).astype(np.float32), False, result.origin.sample,
        joined=True, dummy=-32768, fates=Fates(9, 5, duplicate=4),
    )  # fmt: skip
    state = SavedState(result, start, ((0, 3), (7, 9)), 5, (7, 65534), 12.5, is_running=True)
    return StoredState(state, LiveMark("LaB6_000017", {"frames": 5, "snapshots": 1}), was_told=True)


def assert_same(one: object, other: object) -> None:
    for member in fields(one):  # type: ignore[arg-type]
        mine, theirs = getattr(one, member.name), getattr(other, member.name)
        if isinstance(mine, np.ndarray):
            assert np.array_equal(mine, theirs), member.name
            assert mine.dtype == theirs.dtype, member.name
        elif isinstance(mine, SeriesStart | SeriesResult | SavedState):
            assert_same(mine, theirs)
        else:
            assert mine == theirs, member.name


def test_everything_comes_back(tmp_path: Path, stored: StoredState) -> None:
    write_state(tmp_path / "state", stored, "{}")
    assert_same(read_state(tmp_path / "state"), stored)


def test_what_the_header_did_not_say_is_not_known_afterwards_either(tmp_path: Path, stored: StoredState) -> None:
    start = SeriesStart(17, "s17", stored.state.start.header, SHAPE, sample="LaB6")
    bare = StoredState(replace(stored.state, start=start, frames=(), dummies=()), LiveMark(), was_told=False)
    write_state(tmp_path / "state", bare, "{}")
    assert_same(read_state(tmp_path / "state"), bare)


def test_it_is_a_result_file(tmp_path: Path, stored: StoredState) -> None:
    write_state(tmp_path / "state", stored, "{}")
    assert np.array_equal(read_result(tmp_path / "state").sums, stored.state.result.sums)


def test_the_newer_one_takes_the_place_of_the_older(tmp_path: Path, stored: StoredState) -> None:
    write_state(tmp_path / "state", stored, "{}")
    write_state(tmp_path / "state", replace(stored, was_told=False), "{}")
    assert not read_state(tmp_path / "state").was_told
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_the_older_one_stays_where_the_newer_cannot_be_written(
    tmp_path: Path, stored: StoredState, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(tmp_path / "state", stored, "{}")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_file, "reserve", full)
    with pytest.raises(OSError, match="No space"):
        write_state(tmp_path / "state", replace(stored, was_told=False), "{}")
    assert read_state(tmp_path / "state").was_told
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


DAMAGES: dict[str, tuple[str, object]] = {
    "no intervals": ("frames", np.array([[5, 3]])),
    "intervals that touch": ("frames", np.array([[0, 3], [4, 9]])),
    "intervals below zero": ("frames", np.array([[-2, 3]])),
    "floats for intervals": ("frames", np.array([[0.0, 3.0]])),
    "a huge shape": ("shape", np.array([1 << 30, 1 << 30])),
    "an empty shape": ("shape", np.array([0, 5])),
    "another shape": ("shape", np.array([6, 6])),
    "no type of pixels": ("dtype", "|O8"),
    "no type at all": ("dtype", "hello"),
    "frames below zero": ("n_frames", -1),
    "dummies that are none": ("dummies", '{"values": ["x"]}'),
    "dummies that no pixel can have": ("dummies", '{"values": [65536]}'),
    "dummies between two values": ("dummies", '{"values": [2.5]}'),
    "a live file elsewhere": ("live", '{"name": "../x", "rows": {}}'),
    "rows that are none": ("live", '{"name": "x", "rows": {"frames": -1}}'),
    "fates that are none": ("fates", "{}"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damages_are_told(tmp_path: Path, stored: StoredState, damage: str) -> None:
    path, (name, value) = tmp_path / "state", DAMAGES[damage]
    write_state(path, stored, "{}")
    with h5py.File(path, "r+") as file:
        del file["entry/resume"][name]
        file["entry/resume"][name] = value
    with pytest.raises(ResultFileError, match="damaged"):
        read_state(path)
