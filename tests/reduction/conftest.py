"""What the tests of the reduction share: geometries and kernels that are made once."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For XDG_CACHE_HOME; not the user's, which may hold geometries of other sources."""
    return tmp_path_factory.mktemp("cache")
