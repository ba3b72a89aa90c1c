"""What the tests on recorded frames share: the tables of each detector are made once."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the geometries of this run are kept; not the user's, which may hold those of other sources."""
    return tmp_path_factory.mktemp("geometry")
