"""Which file is read next, and when a series is over; what HDF5 says of a file that is being written."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from ringwatch.stream.complete import may_be_complete
from ringwatch.stream.file_series import FileSeries, SeriesName, split_name

SETTLE_S, SILENCE_S = 1.0, 10.0


class Disk:
    """Files that exist by name only, and what is read of them."""

    def __init__(self) -> None:
        self.files: dict[Path, tuple[int, int]] = {}
        self.open: set[Path] = set()
        self.now_s = 100.0
        self.series = FileSeries(SETTLE_S, SILENCE_S, self.files.get, lambda path, _: path not in self.open)

    def write(self, *names: str, size: int = 10) -> None:
        for name in names:
            self.files[Path(name)] = (size, int(self.now_s * 1e9))

    def read(self, wait_s: float = 0.0) -> list[tuple[str, int]]:
        """Names and positions of what is read after some time."""
        self.series.update(self.files, self.now_s)
        self.now_s += wait_s
        self.series.update(self.files, self.now_s)
        found = iter(lambda: self.series.next_file(self.now_s), None)
        return [(file.path.name, file.position) for file in found]


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_files_are_read_in_the_order_of_their_numbers_once_they_have_settled(disk: Disk) -> None:
    disk.write("scan1/eiger_0003.h5", "scan1/eiger_0002.h5")
    assert disk.read(0.9) == []
    assert disk.read(0.2) == [("eiger_0002.h5", 0), ("eiger_0003.h5", 1)]
    disk.write("scan1/eiger_0004.h5")
    assert disk.read(1.1) == [("eiger_0004.h5", 2)]
    assert disk.read(5.0) == []


def test_a_file_that_grows_is_not_read(disk: Disk) -> None:
    for size in range(1, 8):
        disk.write("eiger_0.h5", size=size)
        assert disk.read(0.9) == []
    assert disk.read(1.0) == [("eiger_0.h5", 0)]


def test_a_file_that_its_writer_has_open_is_not_read_however_long_it_rests(disk: Disk) -> None:
    disk.write("eiger_0.h5")
    disk.open.add(Path("eiger_0.h5"))
    assert disk.read(1000.0) == []
    disk.open.clear()
    assert disk.read() == [("eiger_0.h5", 0)]


def test_a_number_that_is_missing_is_waited_for_and_then_a_gap(disk: Disk) -> None:
    disk.write("a_0.h5")
    assert disk.read(1.0) == [("a_0.h5", 0)]
    disk.write("a_2.h5", "a_3.h5")
    assert disk.read(5.0) == []
    disk.write("a_1.h5")
    assert disk.read(1.0) == [("a_1.h5", 1), ("a_2.h5", 2), ("a_3.h5", 3)]
    disk.write("a_5.h5")
    assert disk.read(9.0) == []
    assert disk.read(2.0) == [("a_5.h5", 5)]


def test_an_unfinished_file_holds_the_others_up_for_a_while_only(disk: Disk) -> None:
    disk.write("a_0.h5", "a_1.h5", "a_2.h5")
    disk.open.add(Path("a_1.h5"))
    assert disk.read(1.0) == [("a_0.h5", 0)]
    assert disk.read(9.0) == []
    assert disk.read(2.0) == [("a_2.h5", 2)]


def test_a_series_is_over_when_the_next_one_has_begun(disk: Disk) -> None:
    disk.write("scan1/e_0.h5")
    disk.read(1.0)
    disk.write("scan2/e_0.h5")
    assert disk.read(0.5) == []
    assert not disk.series.is_over(disk.now_s), "its first file may still be written"
    assert disk.read(1.0) == []
    assert disk.series.is_over(disk.now_s)
    disk.series.end()
    assert disk.read() == [("e_0.h5", 0)]
    assert disk.series.current == SeriesName(Path("scan2"), "e_", ".h5")


def test_a_series_is_over_after_silence_and_what_comes_later_is_another(disk: Disk) -> None:
    disk.write("e_7.h5")
    disk.read(1.0)
    assert not disk.series.is_over(disk.now_s + 9)
    assert disk.series.is_over(disk.now_s + 10)
    disk.series.end()
    assert not disk.series.is_over(disk.now_s + 1000)
    disk.write("e_8.h5")
    assert disk.read(1.0) == [("e_8.h5", 0)]


def test_a_file_that_is_being_written_is_no_silence(disk: Disk) -> None:
    disk.write("e_0.h5")
    disk.read(1.0)
    disk.open.add(Path("e_1.h5"))
    for size in range(1, 9):
        disk.write("e_1.h5", size=size)
        assert disk.read(5.0) == []
        assert not disk.series.is_over(disk.now_s)


def test_the_series_that_was_first_is_read_first(disk: Disk) -> None:
    disk.write("z/e_0.h5")
    disk.now_s += 1
    disk.write("a/e_0.h5")
    assert disk.read(2.0) == [("e_0.h5", 0)]
    assert disk.series.current is not None
    assert disk.series.current.folder == Path("z")


def test_files_of_earlier_times_and_masters_are_not_read(disk: Disk) -> None:
    disk.write("old_0.h5", "old_1.h5", "new_0.h5", "new_master.h5")
    disk.series.ignore([Path("old_1.h5")])
    assert disk.read(1.0) == [("new_0.h5", 0)]
    disk.series.end()
    disk.write("old_2.h5")
    assert disk.read(1.0) == [("old_2.h5", 0)]


def test_what_is_gone_is_forgotten(disk: Disk) -> None:
    disk.write(*(f"scan{n}/e_0.h5" for n in range(100)))
    disk.read(1.0)
    disk.files.clear()
    disk.read()
    assert not disk.series._known
    assert not disk.series._seen


@pytest.mark.parametrize(
    ("name", "prefix", "number", "suffix"),
    [
        ("eiger_0012.h5", "eiger_", 12, ".h5"),
        ("s_1_data_000003.h5", "s_1_data_", 3, ".h5"),
        ("lab6_00001.cbf.gz", "lab6_", 1, ".cbf.gz"),
        ("image.tif", "image", 0, ".tif"),
        ("20260101120000123456789.cbf", "20260101", 120000123456789, ".cbf"),
        ("007", "", 7, ""),
    ],
)
def test_the_last_number_of_a_name_counts(name: str, prefix: str, number: int, suffix: str) -> None:
    assert split_name(Path("f") / name) == (SeriesName(Path("f"), prefix, suffix), number)


# ------------------------------------------------------------------------------------------------- what HDF5 says


@pytest.fixture(params=["earliest", "v108", "v110", "latest"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, h5py.File]]:
    """A file of some format with three frames, still open."""
    path = tmp_path / "eiger_0000.h5"
    with h5py.File(path, "w", libver=request.param) as file:
        file.create_dataset("entry/data/data", data=np.ones((3, 64, 64), "u4"), chunks=(1, 64, 64))
        yield path, file


def test_an_open_file_is_not_complete_and_a_closed_one_is(written: tuple[Path, h5py.File]) -> None:
    path, file = written
    assert not may_be_complete(path, path.stat().st_size)
    file.close()
    assert may_be_complete(path, path.stat().st_size)
    assert not may_be_complete(path, path.stat().st_size - 1)


def test_a_file_that_is_only_begun_is_not_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n\0")
    assert not may_be_complete(path, 9)


def test_other_files_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.cbf"
    path.write_bytes(b"###CBF: VERSION 1.5")
    assert may_be_complete(path, 19)
