"""A daemon that is killed at random moments: `python -m benchmarks.kills` kills it more often."""

import pytest
from benchmarks.kills import kills


def test_a_killed_daemon_loses_what_came_meanwhile_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert kills(4, seed=7) == 0, capsys.readouterr().out
    assert "resumed 0 times" not in capsys.readouterr().out
