"""The summed image is made for whoever looks at it, and not more often than that."""

from typing import Any

import pytest
from tests.conftest import FakeClock

from ringwatch.reduction.viewing import SHOWN_EVERY_S, Viewing


class Person:
    def __init__(self) -> None:
        self.is_watching, self.shown = False, 0

    def show(self, image: object) -> None:
        self.shown += 1


class Sums:
    def __init__(self) -> None:
        self.made = 0

    def small_image(self) -> None:
        self.made += 1


@pytest.fixture
def person() -> Person:
    return Person()


@pytest.fixture
def sums() -> Any:
    return Sums()


def test_nothing_is_made_while_nobody_watches(person: Person, sums: Any, clock: FakeClock) -> None:
    viewing = Viewing(person, clock)
    for _ in range(3):
        viewing.look(sums, is_last=False)
        clock.advance(SHOWN_EVERY_S)
    assert sums.made == 0


def test_it_is_made_every_few_seconds_while_somebody_watches(person: Person, sums: Any, clock: FakeClock) -> None:
    viewing, person.is_watching = Viewing(person, clock), True
    for _ in range(11):
        viewing.look(sums, is_last=False)
        clock.advance(1.0)
    assert person.shown == sums.made == 3


def test_the_last_one_is_kept_for_who_comes_later(person: Person, sums: Any, clock: FakeClock) -> None:
    Viewing(person, clock).look(sums, is_last=True)
    assert person.shown == 1


def test_where_nobody_can_look_not_even_the_last_is_made(sums: Any, clock: FakeClock) -> None:
    Viewing(None, clock).look(sums, is_last=True)
    assert sums.made == 0
