"""Names of files and the time in, out comes which file is to be read next: series by series, in the order of numbers.

Files of one folder whose names differ in their last number only are a series. A file is read once it has not changed
for a while and its writer has closed it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

PACKED = (".gz", ".bz2")
_PAUSES = 2
"""A file has to rest for so many times the longest pause that its writer made."""
MASTER = "_master"


class SeriesName(NamedTuple):
    """What the files of a series have in common."""

    folder: Path
    prefix: str
    suffix: str


class NextFile(NamedTuple):
    """A file to be read.

    Attributes
    ----------
    position
        Its place in the series, counted from the lowest number that is there.
    rested_s
        For how long it has not changed.
    """

    series: SeriesName
    path: Path
    position: int
    rested_s: float


@dataclass(slots=True)
class _Known:
    """What is known of a series whose files are there: ``done`` is the highest number that was read or passed over."""

    done: int = -1
    first: int | None = None
    waiting: dict[int, Path] = field(default_factory=dict)


@dataclass(slots=True)
class _Seen:
    """Size and time of a file, since when they are the same, how long they ever were, and when to look again."""

    signature: tuple[int, int]
    since_s: float
    longest_s: float = 0.0
    again_s: float = 0.0


Look = Callable[[Path], tuple[int, int] | None]
"""Size in bytes and time of the last change, in ns, of a file; None where it has gone."""

IsClosed = Callable[[Path, int], bool]


class FileSeries:
    """Which files are to be read, and when a series is over.

    Parameters
    ----------
    settle_s
        A file that has not changed for so long is complete, if its writer has closed it.
    silence_s
        A series without a new or changed file for so long is over; a number that is missing is waited for as long.
    look, is_closed
        How a file is looked at.

    Attributes
    ----------
    current
        The series that is being read; None between two.
    """

    def __init__(self, settle_s: float, silence_s: float, look: Look, is_closed: IsClosed) -> None:
        self.current: SeriesName | None = None
        self._settle_s, self._silence_s, self._look, self._is_closed = settle_s, silence_s, look, is_closed
        self._known: dict[SeriesName, _Known] = {}
        self._seen: dict[Path, _Seen] = {}
        self._changed_s = 0.0

    def ignore(self, paths: Iterable[Path]) -> None:
        """Never read these, nor what comes before them in their series."""
        for path in paths:
            name, number = split_name(path)
            known = self._known.setdefault(name, _Known())
            known.done = max(known.done, number)

    def resume(self, series: SeriesName, first: int, done: int, now_s: float) -> None:
        """Go on with a series whose first number is ``first``, after the number ``done``."""
        self._known[series] = _Known(done, first)
        self.current, self._changed_s = series, now_s

    def update(self, paths: Iterable[Path], now_s: float) -> None:
        """Take all names that are there now."""
        there: dict[SeriesName, dict[int, Path]] = {}
        for path in paths:
            if not path.stem.endswith(MASTER):
                name, number = split_name(path)
                there.setdefault(name, {})[number] = path
        self._known = {name: self._known.get(name, _Known()) for name in there}
        for name, known in self._known.items():
            known.waiting = {number: path for number, path in there[name].items() if number > known.done}
        waiting = {path for known in self._known.values() for path in known.waiting.values()}
        self._seen = {path: seen for path, seen in self._seen.items() if path in waiting}
        for path in waiting:
            self._see(path, now_s)

    def next_file(self, now_s: float) -> NextFile | None:
        """What is to be read now, if anything; it counts as read."""
        if self.current is None:
            self.current = self._oldest_ready(now_s)
            self._changed_s = now_s
        if self.current is None:
            return None
        known = self._known.get(self.current)
        number = None if known is None else self._next_number(known, now_s)
        if known is None or number is None:
            return None
        path = known.waiting.pop(number)
        known.done, self._changed_s = number, now_s
        known.first = number if known.first is None else known.first
        return NextFile(self.current, path, number - known.first, now_s - self._seen[path].since_s)

    def put_back(self, file: NextFile, now_s: float) -> None:
        """It turned out to be unfinished: read it again after a while."""
        known, number = self._known[file.series], split_name(file.path)[1]
        known.waiting[number], known.done, known.first = file.path, number - 1, number - file.position
        self._seen[file.path].again_s = now_s + self._settle_s

    def is_over(self, now_s: float) -> bool:
        """Whether nothing more of the current series is to be expected: silence, or the next series has begun."""
        if self.current is None:
            return False
        known, quiet_s = self._known.get(self.current), now_s - self._changed_s
        if quiet_s >= self._silence_s:
            return True
        has_more = known is not None and bool(known.waiting)
        return not has_more and quiet_s >= self._settle_s and self._oldest_ready(now_s) is not None

    def end(self) -> None:
        """Leave the current series; files of it that come later are a series of their own."""
        if self.current in self._known:
            self._known[self.current].first = None
        self.current = None

    # ----------------------------------------------------------------------------------------------------- looking on

    def _see(self, path: Path, now_s: float) -> None:
        signature = self._look(path)
        if signature is None:
            self._seen.pop(path, None)
        elif path not in self._seen:
            self._seen[path] = _Seen(signature, now_s)
            self._note_change(path, now_s)
        elif self._seen[path].signature != signature:
            before = self._seen[path]
            self._seen[path] = _Seen(signature, now_s, max(before.longest_s, now_s - before.since_s))
            self._note_change(path, now_s)

    def _note_change(self, path: Path, now_s: float) -> None:
        if split_name(path)[0] == self.current:
            self._changed_s = now_s

    def _is_complete(self, path: Path, now_s: float) -> bool:
        seen = self._seen.get(path)
        if seen is None or now_s < max(seen.again_s, seen.since_s + max(self._settle_s, _PAUSES * seen.longest_s)):
            return False
        return self._is_closed(path, seen.signature[0])

    def _next_number(self, known: _Known, now_s: float) -> int | None:
        """The next number, once it is complete; for a while nothing is read beyond one that is missing."""
        number = next((n for n in sorted(known.waiting) if self._is_complete(known.waiting[n], now_s)), None)
        if number is None:
            return None
        is_next = number == min(known.waiting) and (known.first is None or number == known.done + 1)
        return number if is_next or now_s - self._changed_s >= self._silence_s else None

    def _oldest_ready(self, now_s: float) -> SeriesName | None:
        """Of the other series whose first file is complete that which changed last the longest ago."""
        ready = {}
        for name, known in self._known.items():
            if name != self.current and known.waiting:
                path = known.waiting[min(known.waiting)]
                if self._is_complete(path, now_s):
                    ready[name] = self._seen[path].signature[1]
        return min(ready, key=lambda name: ready[name]) if ready else None


def split_name(path: Path) -> tuple[SeriesName, int]:
    """A file's series and its number in it, the last one in its name; 0 where it has none."""
    packed = path.suffix if path.suffix in PACKED else ""
    plain = Path(path.name.removesuffix(packed))
    stem, suffix = plain.stem, plain.suffix
    digits = re.search(r"\d{1,15}$", stem)
    prefix = stem[: digits.start()] if digits else stem
    return SeriesName(path.parent, prefix, suffix + packed), int(digits[0]) if digits else 0
