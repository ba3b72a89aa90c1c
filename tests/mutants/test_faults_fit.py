"""Each planted fault still has its place: its old text occurs exactly once in the file that it names."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAULTS = tomllib.loads(Path(__file__).with_name("faults.toml").read_text())


@pytest.mark.parametrize("name", FAULTS)
def test_fault_fits(name: str) -> None:
    fault = FAULTS[name]
    assert (ROOT / fault["file"]).read_text().count(fault["old"]) == 1
