"""A set of frame numbers kept as intervals: small while numbers come roughly in order, and bounded always."""

from bisect import bisect_right
from collections.abc import Iterable

MAX_INTERVALS = 65536


class IntervalSet:
    """Non-negative integers as sorted, disjoint, half-open intervals.

    Parameters
    ----------
    max_intervals
        Upper limit of separate intervals kept (16 bytes of payload each); `add` raises OverflowError beyond it.
    """

    def __init__(self, max_intervals: int = MAX_INTERVALS) -> None:
        self._max = max_intervals
        self._starts: list[int] = []
        self._stops: list[int] = []
        self.count = 0

    @classmethod
    def of(cls, intervals: Iterable[tuple[int, int]]) -> "IntervalSet":
        """What `intervals` told.

        Raises
        ------
        ValueError
            They are not ascending, or not apart from each other.
        OverflowError
            They are more than are kept.
        """
        made = cls()
        for first, last in intervals:
            if first < 0 or last < first or (made._stops and first <= made._stops[-1]):
                raise ValueError(f"({first}, {last}) is no interval above the one before")
            if len(made._starts) >= made._max:
                raise OverflowError(f"more than {made._max} separate intervals of frame numbers")
            made._starts.append(first)
            made._stops.append(last + 1)
            made.count += last + 1 - first
        return made

    def add(self, number: int) -> bool:
        """Add a number; False if it was there already."""
        i = bisect_right(self._starts, number)
        if i and number < self._stops[i - 1]:
            return False
        touches_left = i > 0 and self._stops[i - 1] == number
        touches_right = i < len(self._starts) and self._starts[i] == number + 1
        if touches_left and touches_right:
            self._stops[i - 1] = self._stops.pop(i)
            self._starts.pop(i)
        elif touches_left:
            self._stops[i - 1] = number + 1
        elif touches_right:
            self._starts[i] = number
        else:
            if len(self._starts) >= self._max:
                raise OverflowError(f"more than {self._max} separate intervals of frame numbers")
            self._starts.insert(i, number)
            self._stops.insert(i, number + 1)
        self.count += 1
        return True

    def __contains__(self, number: int) -> bool:
        i = bisect_right(self._starts, number)
        return i > 0 and number < self._stops[i - 1]

    @property
    def end(self) -> int:
        """One more than the largest number, 0 when empty."""
        return self._stops[-1] if self._stops else 0

    def intervals(self) -> list[tuple[int, int]]:
        """All intervals as (first, last), both included, ascending."""
        return [(a, b - 1) for a, b in zip(self._starts, self._stops, strict=True)]

    def gaps(self, end: int) -> list[tuple[int, int]]:
        """The intervals of [0, end) that are not in the set, as (first, last), both included."""
        edges = [0, *(x for pair in zip(self._starts, self._stops, strict=True) for x in pair), end]
        return [(a, min(b, end) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < min(b, end)]
