"""What a person is told: the newest results in, one word and one sentence in plain words out.

Where there is a decision it speaks for itself. Where there is none, only what was measured is said: spottiness is no
decision, photon noise is in it, and nothing is called good enough.
"""

from collections.abc import Mapping
from typing import Literal

from ringwatch.messages import Decision, Reason, SeriesEvent, Snapshot, Status, StopReport

Word = Literal["WAITING", "MEASURING", "DONE", "GOOD ENOUGH", "NOT MOVING", "WILL NOT REACH", "CHECK SETUP"]

DECIDED_WORDS: Mapping[Reason, Word] = {
    "reached": "GOOD ENOUGH",
    "static": "NOT MOVING",
    "never": "WILL NOT REACH",
    "eight_bit": "CHECK SETUP",
    "masked_zeros": "CHECK SETUP",
    "energy": "CHECK SETUP",
    "beam_loss": "CHECK SETUP",
    "frames_lost": "CHECK SETUP",
    "saturation": "CHECK SETUP",
    "drift": "CHECK SETUP",
}
"""What a decision makes of the word; of other reasons nothing."""

_ENDS = {
    "timeout": " No end message came: it was closed after silence.",
    "complete": " No end message came: all frames it announced were seen.",
    "shutdown": " It was cut short: the daemon stopped.",
    "abandoned": " It was cut short: a new series began.",
}


def verdict(
    event: SeriesEvent | None,
    status: Status | None,
    snapshot: Snapshot | None,
    decision: Decision | None,
    numbers: Mapping[str, float | None],
    stop: StopReport | None = None,
) -> tuple[Word, str]:
    """Word and sentence: the decision's, unless the daemon is in trouble or a series is over that it wanted to go on.

    What came of a stop order is added; one that failed is the first thing to know, for as long as the series goes on.
    ``numbers`` are those of `sentence`.
    """
    said, why = _verdict(event, status, snapshot, decision, numbers)
    if stop is None or event is None:
        return said, why
    if stop.state != "failed":
        return said, f"{why} {stop.sentence}"
    return (said, why) if _over(event) else ("CHECK SETUP", f"{stop.sentence} {why}")


def _verdict(
    event: SeriesEvent | None,
    status: Status | None,
    snapshot: Snapshot | None,
    decision: Decision | None,
    numbers: Mapping[str, float | None],
) -> tuple[Word, str]:
    plain = word(event, status)
    if decision is None or event is None or fault(event, status):
        return plain, sentence(event, status, snapshot, numbers)
    said = DECIDED_WORDS.get(decision.reason_code, plain)
    if said == "DONE" and decision.reason_code != "over":
        return plain, sentence(event, status, snapshot, numbers)
    return said, decision.sentence


def fault(event: SeriesEvent | None, status: Status | None) -> str:
    """Why nothing can be measured; empty while all is well."""
    if status is not None and status.state == "error":
        return _closed(status.reason or "The daemon reports an error")
    if event is not None and _refused(event):
        return _closed(f"Series {event.origin.series} was abandoned: {event.reason or 'no reason was given'}")
    return ""


def word(event: SeriesEvent | None, status: Status | None) -> Word:
    """The one word to be read from across the hutch."""
    if fault(event, status):
        return "CHECK SETUP"
    if event is None:
        return "WAITING"
    return "DONE" if _over(event) else "MEASURING"


def sentence(
    event: SeriesEvent | None,
    status: Status | None,
    snapshot: Snapshot | None,
    numbers: Mapping[str, float | None],
) -> str:
    """The facts behind the word; ``numbers`` are spottinesses by source (frame, accumulated, union)."""
    if trouble := fault(event, status):
        return trouble
    if event is None:
        return "Waiting for the detector to start a series."
    if snapshot is None or snapshot.n_frames == 0:
        return _without_frames(event)
    frames = _plural(snapshot.n_frames)
    if _over(event):
        end = _ENDS.get(event.reason, "")
        return f"Series {event.origin.series} is over after {frames}: {_unevenness(numbers)}.{end}"
    return f"Frame {snapshot.n_frames}: {_unevenness(numbers)}. Photon noise is part of it."


def _over(event: SeriesEvent) -> bool:
    return event.event in {"end", "abandoned"}


def _refused(event: SeriesEvent) -> bool:
    """Abandoned because it could not be reduced, not because the next one began."""
    return event.event == "abandoned" and event.reason not in _ENDS


def _without_frames(event: SeriesEvent) -> str:
    if _over(event):
        return f"Series {event.origin.series} is over; it had no frame that could be reduced."
    return f"Series {event.origin.series} has started; its first frame is still to come."


def _unevenness(numbers: Mapping[str, float | None]) -> str:
    frame, summed = _percent(numbers.get("frame")), _percent(numbers.get("accumulated"))
    if summed and frame:
        return f"the summed rings are uneven by {summed}, those of the last frame by {frame}"
    if summed:
        return f"the summed rings are uneven by {summed}"
    if frame:
        return f"the rings of the last frame are uneven by {frame}"
    return "there is no ring to measure yet"


def _percent(value: float | None) -> str:
    """Two significant digits; empty for no number (NaN is not equal to itself)."""
    if value is None or value != value:  # noqa: PLR0124 - the test for NaN
        return ""
    return f"{100 * value:.0f} %" if value >= 0.0995 else f"{100 * value:.1f} %"


def _closed(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _plural(n_frames: int) -> str:
    return "1 frame" if n_frames == 1 else f"{n_frames} frames"
