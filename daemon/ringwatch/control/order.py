"""What an actuator is told, and what it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol

from ringwatch.messages import Origin, Scalar


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
    facts
        Why, for a script: flat, as in /api/latest.
    frame_time_s
        Period of the frames; None where the header did not say it.
    is_over
        Set once the end of the series has come through the stream.
    tell
        Takes a sentence about a step that others may want to know of while it goes on.
    """

    origin: Origin
    n_frames: int
    sentence: str
    facts: Mapping[str, Scalar] = field(default_factory=dict)
    frame_time_s: float | None = None
    is_over: Event = field(default_factory=Event)
    tell: Callable[[str], None] = lambda _: None


class Actuator(Protocol):
    """One way to end an acquisition."""

    @property
    def via(self) -> str:
        """Its name in the configuration."""
        ...

    def stop(self, order: Order) -> str:
        """End the acquisition; what came of it, as a clause like "detector idle". May take as long as it says it may.

        Raises
        ------
        ControlError
            It did not work, or nobody knows whether it did.
        """
        ...
