"""docs/files.md and the file agree: every path that is described exists, and every dataset is described."""

import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ringwatch.publish import nexus
from ringwatch.publish.result_file import write_result

PAGE = Path(__file__).parents[2] / "docs" / "files.md"


@pytest.fixture
def file(tmp_path, results):
    """A file that has everything."""
    image = np.ones((4, 4))
    result = replace(
        results.result(), poni="Wavelength: 1e-10\n", image_sum=image.astype("<i8"), image_lost=image.astype("<u4"),
        sums=np.zeros((6, 4, 3), "<u8"), monitor_reference=1e6, exposure=3 << 20,
        image_lost_exposure=image.astype("<u8"),
    )  # fmt: skip
    profiles = [results.profile(source=source) for source in ("union", "accumulated")]
    config = '{"geometry": {"solid_angle": true, "polarization": 0.99}}'
    write_result(
        tmp_path / "all.h5", result, config=config, profiles=profiles, started_ns=1,
        frames=[nexus.frame_columns(results.profiled(), "profiles") | nexus.frame_columns(results.profiled(), "sums")],
        snapshots=[nexus.snapshot_columns(results.measured())],
        decisions=[nexus.decision_columns(results.decision())], rings=results.rings(),
    )  # fmt: skip
    with h5py.File(tmp_path / "all.h5") as file:
        yield file


def described():
    """Paths in the first cells of the page's tables; a table's heading may say below which group they are."""
    group, paths = "", set()
    for line in PAGE.read_text().splitlines():
        cell = line.split("|")[1] if line.startswith("|") else ""
        names = re.findall(r"`([^`]+)`", cell)
        if cell.strip().startswith("path"):
            group = f"{names[0]}/" if names else ""
        elif names and not names[0].startswith("NAME"):
            paths.update(group + name for name in names)
    return paths


def test_what_is_described_exists(file):
    assert [path for path in described() if not isinstance(file.get(path), h5py.Dataset)] == []


def test_what_exists_is_described(file):
    paths = set()
    file.visititems(lambda name, item: paths.add(f"/{name}") if isinstance(item, h5py.Dataset) else None)
    same_as_union = {path for path in paths if path.startswith("/entry/profiles/mean_accumulated/")}
    assert paths - described() - same_as_union == set()
