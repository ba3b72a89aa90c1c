"""What an actuator is told, what it answers, and how both see whether the detector goes on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ringwatch.messages import Ongoing, Origin, Scalar
from ringwatch.wire import to_json

Tell = Callable[[str], None]
"""Takes a sentence about a step on the way, for others to know while it goes on."""

Course = Literal["running", "over", "replaced"]
"""What has become of the ordered series: it is being sent, it is not any more, or another one is."""


@dataclass(frozen=True, slots=True)
class Order:
    """End the acquisition of one series.

    Attributes
    ----------
    origin
        Which series.
    n_frames
        Frames behind the decision.
    sentence
        Why, for a person.
    ongoing
        What the detector is sending now.
    facts
        Why, for a script: flat, as in /api/latest.
    frame_time_s
        Period of the frames; 0 where the header did not say it.
    """

    origin: Origin
    n_frames: int
    sentence: str
    ongoing: Callable[[], Ongoing | None]
    facts: Mapping[str, Scalar] = field(default_factory=dict)
    frame_time_s: float = 0.0

    @property
    def course(self) -> Course:
        """What has become of the series, as of now."""
        ongoing = self.ongoing()
        if ongoing is None:
            return "over"
        return "running" if ongoing.unique_id == self.origin.unique_id else "replaced"

    def as_json(self) -> str:
        """One line: series, unique_id, sample, n_frames, sentence and the facts."""
        origin = self.origin
        named = {"series": origin.series, "unique_id": origin.unique_id, "sample": origin.sample}
        return to_json({**self.facts, **named, "n_frames": self.n_frames, "sentence": self.sentence})


class Actuator(Protocol):
    """One way to end an acquisition."""

    @property
    def via(self) -> str:
        """Its name in the configuration."""
        ...

    @property
    def whom(self) -> str:
        """Who is asked to stop, for sentences."""
        ...

    def stop(self, order: Order, tell: Tell) -> str:
        """End the acquisition and see it end; the state it is in then, as "detector idle".

        Raises
        ------
        ControlError
            It goes on, or nobody knows; the text goes on after "I asked ... to stop at 03:14:07; ".
        """
        ...
