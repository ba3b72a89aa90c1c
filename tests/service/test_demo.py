"""The demo's story, told from results as the daemon gives them, and the rule it is decided by."""

from pathlib import Path

import pytest
from tests.publish.conftest import Results

from ringwatch.service.demo import TARGET, Story, configuration
from ringwatch.stream.powder import TUTORIAL


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is said about a series that was good enough at frame 48 and went on to frame 120, line by line."""
    results, story = Results(), Story(120)
    story.take(results.rows())
    for n_frames, reason, sentence in (
        (8, "above_target", "Keep measuring: 6 %."),
        (16, "above_target", "Keep measuring: 5 %."),
        (48, "reached", "Good enough since frame 48."),
        (96, "reached", "Good enough since frame 48: still."),
        (120, "over", "The series went on."),
    ):
        story.take(results.decision(n_frames, reason, sentence=sentence))
    story.take(results.measured(120))
    story.take(results.event("end"))
    return [*capsys.readouterr().out.splitlines(), *story.closing_lines(Path("demo.h5"))]


def test_a_decision_is_told_when_it_says_something_new(told: list[str]) -> None:
    assert told[:2] == ["> Keep measuring: 6 %.", "> Good enough since frame 48."]
    assert not any("5 %" in line or "still" in line for line in told)


def test_the_last_word_stands_at_the_end_beside_the_file(told: list[str]) -> None:
    assert told[-2:] == ["> The series went on.", "result: demo.h5"]
    assert sum("went on" in line for line in told) == 1


def test_without_a_frame_nothing_is_said_to_be_decided() -> None:
    assert Story(120).closing_lines(None) == ["no frame arrived"]


def test_the_demo_decides_on_the_evenness_of_the_rings(tmp_path: Path) -> None:
    poni = tmp_path / "simulated.poni"
    poni.write_text(TUTORIAL.poni())
    stop = configuration(f"ipc://{tmp_path}/detector", poni, 8123, "127.0.0.1:0", tmp_path).stop
    assert stop is not None
    assert stop.criteria == (("spottiness_rings", TARGET),)
    assert (stop.via, stop.url) == ("simplon", "http://127.0.0.1:8123")
