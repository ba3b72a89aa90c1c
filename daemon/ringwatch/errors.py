"""What can go wrong, sorted by what happens next. The facts are attributes, the text is for people."""

from collections.abc import Sequence


class RingwatchError(Exception):
    """Base of every error that ringwatch raises on purpose."""


class ConfigError(RingwatchError, ValueError):
    """The configuration is wrong: found before start, every mistake at once. Exit code 78."""

    def __init__(self, problems: Sequence[str], source: str = "configuration") -> None:
        self.problems = tuple(problems)
        self.source = source
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{source}: {len(self.problems)} mistake{'s'[: len(self.problems) != 1]}\n{lines}")


class KeyFileError(RingwatchError, ValueError):
    """A file with a key cannot be read or written; it says which, and never what is in it."""


class StreamError(RingwatchError):
    """Something is wrong with what came over the wire. It never stops the service."""


class MalformedMessage(StreamError, ValueError):
    """A message that cannot be read: it is skipped and counted under ``reason`` (a short stable word)."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}" if detail else reason)


class UnsupportedEncoding(StreamError, ValueError):
    """The detector uses an encoding or a type that is not supported: the series is abandoned, said once."""

    def __init__(self, what: str, supported: Sequence[str]) -> None:
        self.what = what
        self.supported = tuple(supported)
        super().__init__(f"{what} is not supported; supported: {', '.join(self.supported)}")


class PublishError(RingwatchError):
    """A publisher could not deliver. It retries; the reduction never waits for it."""


class ControlError(RingwatchError):
    """Whoever owns the detector could not be told, or did not obey. It is published; the reduction goes on."""


class NoAnswer(ControlError):
    """Told, but silent: it may obey nevertheless."""


class MalformedOrder(ControlError, ValueError):
    """What was asked for makes no sense: nothing is done."""
