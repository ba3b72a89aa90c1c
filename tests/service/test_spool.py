"""Rows that wait on the disk come back as they were."""

from pathlib import Path

import numpy as np

from ringwatch.service.spool import Spool


def test_rows_come_back_in_order_as_often_as_asked(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    parts = [{"frame": np.arange(3 * i, 3 * i + 3), "sem": np.full((3, 5), i, "f4")} for i in range(130)]
    for part in parts:
        spool.add(part)
    for _ in range(2):
        found = list(spool)
        assert [len(part["frame"]) for part in found] == [192, 192, 6]
        assert np.array_equal(np.concatenate([part["frame"] for part in found]), np.arange(390))
        assert found[-1]["sem"].dtype == np.float32
        assert np.array_equal(found[-1]["sem"], np.repeat([128, 129], 3)[:, np.newaxis] * np.ones(5))
    assert list(tmp_path.iterdir()) == []
    spool.clear()
    assert list(spool) == []
    spool.add(parts[1])
    assert [part["frame"].tolist() for part in spool] == [[3, 4, 5]]
    spool.close()


def test_nothing_gives_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert list(spool) == []
    spool.close()
