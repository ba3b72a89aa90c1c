"""benchmarks/accuracy.py, which prints the tables of docs/accuracy.md, on a small simulated detector."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "accuracy.py"
OURS = 2e-8
"""What docs/accuracy.md promises of every quantity."""

THEIRS = {"signal": 0.0, "count": 0.0, "normalization": 1e-5, "norm_sq": 1e-5, "intensity": 1e-5}
"""What float32 leaves of a frame of few counts, in pyFAI's engines; of their variances the page tells."""


@pytest.fixture(scope="module")
def accuracy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("accuracy", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "accuracy", module)  # dataclasses look their module up
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        spec.loader.exec_module(module)
        patch.setattr(module, "MOST_FRAMES", 2)
        patch.setattr(module, "FACTORS", {name: module.FACTORS[name] for name in (module.USUAL, "all")})
        yield module


@pytest.fixture(scope="module")
def rows(accuracy: ModuleType) -> list[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accuracy, "ENGINES", {"pyFAI python": "python", "pyFAI cython": "cython"})
        return list(accuracy.measure("truth", accuracy.DATA["truth"](), ("no", "full")))


def test_there_is_a_row_for_each_choice(accuracy: ModuleType, rows: list[Any]) -> None:
    found = {(row.splitting, row.factors, row.model, row.frames, row.program) for row in rows}
    assert len(found) == len(rows)
    ours = {(row.factors, row.model, row.frames) for row in rows if row.program == accuracy.OURS}
    models = list(accuracy.MODELS)
    assert ours == {(factors, m, 1) for factors in accuracy.FACTORS for m in models} | {
        (accuracy.USUAL, m, 2) for m in models
    }


def test_ours_are_those_of_float64(accuracy: ModuleType, rows: list[Any]) -> None:
    for row in rows:
        if row.program == accuracy.OURS:
            assert set(row.largest) == set(accuracy.COLUMNS)
            assert max(row.largest.values()) < OURS, row
            if row.splitting == "no":
                assert row.largest["signal"] == row.largest["count"] == 0
            assert row.largest["normalization"] > 0  # rounded to 2^-30: the comparison is not with itself


def test_those_of_pyfai_are_as_exact_as_the_page_says(accuracy: ModuleType, rows: list[Any]) -> None:
    rows = [row for row in rows if row.splitting == "no"]
    for row in rows:
        if row.program != accuracy.OURS:
            for name, tolerance in THEIRS.items():
                assert row.largest[name] <= tolerance, (name, row)
    poisson = [row.largest["variance"] for row in rows if row.model == "poisson"]
    exact = [row.largest["variance"] for row in rows if row.model == "azimuthal" and row.program == "pyFAI python"]
    assert max(poisson) < 1e-6
    assert min(exact) < 1e-6


def test_a_table_shows_the_worst_of_each_program(
    accuracy: ModuleType, rows: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    azimuthal = [row for row in rows if (row.splitting, row.model, row.frames) == ("no", "azimuthal", 1)]
    accuracy.show("One frame", azimuthal, "data")
    title, _, head, _, *lines = capsys.readouterr().out.strip().splitlines()
    assert title == "### One frame"
    assert head == f"| data | program | {' | '.join(accuracy.COLUMNS)} |"
    assert [line.split(" | ")[:2] for line in lines] == [
        ["| truth", "ringwatch"], ["| truth", "pyFAI python"], ["| truth", "pyFAI cython"],
    ]  # fmt: skip
    worst = max(row.largest["variance"] for row in azimuthal if row.program == "pyFAI cython")
    assert f" | {accuracy.ppm(worst)} | " in lines[2]


@pytest.mark.parametrize(("value", "text"), [(None, ""), (0.0, "0"), (2.3e-9, "0.0023"), (4.2e-2, "42000")])
def test_parts_per_million(accuracy: ModuleType, value: float | None, text: str) -> None:
    assert accuracy.ppm(value) == text


def test_what_is_not_recorded_is_left_out(
    accuracy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "RECORDED", tmp_path)
    assert accuracy.DATA["id11_dac"]() is None


def test_recorded_frames_are_read_with_their_mask(accuracy: ModuleType, shared_data: Path) -> None:
    data = accuracy.recorded("pil1m_fe3o4_map")
    assert len(data.frames) == 2
    assert data.mask.shape == data.frames[0].shape
    assert "Distance" in data.poni
    assert np.issubdtype(data.frames[0].dtype, np.integer)
