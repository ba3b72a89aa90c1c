"""docs/messages.md and real messages agree: every field is described, and every described field exists."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args
from unittest.mock import Mock

import numpy as np
import pytest

from ringwatch import messages as messages_module
from ringwatch.messages import Estimate, Metric, Reason
from ringwatch.publish import payload
from ringwatch.publish.board import Board
from ringwatch.publish.orders import Orders
from ringwatch.publish.web import WebPublisher
from ringwatch.service.desk import Desk
from ringwatch.wire import decode, encode

PAGE = (Path(__file__).parents[2] / "docs" / "messages.md").read_text()
ENVELOPE = {"schema", "type", "seq", "series", "unique_id", "sample", "generation", "digest", "accumulation", "time_ns"}
FATES = {*payload.FATES, "malformed_reasons", "excluded_reasons"}

PARTS = {member.name for part in vars(messages_module).values() if is_dataclass(part) for member in fields(part)}
"""Of all messages: what a nil in one of them would have had."""


def names(text: str) -> set[str]:
    return set(re.findall(r"`([a-z_]\w*)`", text, re.IGNORECASE))


def rows(head: str) -> dict[str, str]:
    """Of the table with this head: what stands in the other cells of a row, by the name in its first cell."""
    table = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0]
    cells = [line.split("|", 2) for line in table.splitlines()[2:]]
    return {cell[1].strip().strip("`"): cell[2] for cell in cells}


@pytest.fixture(scope="module")
def messages(results) -> dict[str, dict[str, Any]]:
    """One real message of each topic, as a client decodes it."""
    known = Estimate(0.5, 0.4, 0.6)
    rows = replace(results.profiled(), monitor=np.ones(3))
    measured = results.measured(measures=dict.fromkeys(get_args(Metric), known), repeating_fraction=known)
    published = (results.event(), rows, measured, results.decision(reason_code="over"), results.stop())
    maps = [payload.payload(result, 1) for result in (*published, results.profile(), results.status())]
    return {one["type"]: decode(encode(one)) for one in (*maps, payload.frame_profiles(rows, 1))}


def keys(message: Mapping[str, Any]) -> Iterator[str]:
    for name, value in message.items():
        yield name
        if isinstance(value, dict):
            yield from keys(value)


def test_every_topic_is_described_and_no_other(messages) -> None:
    assert rows("topic").keys() == messages.keys()


def test_what_all_messages_begin_with_is_described(messages) -> None:
    assert names(PAGE.partition("- Every map begins with")[2].partition("\n\n")[0]) >= ENVELOPE
    assert all(message.keys() >= ENVELOPE for message in messages.values())


def test_every_field_of_a_message_is_described_in_its_row(messages) -> None:
    for topic, row in rows("topic").items():
        described = names(row) | ENVELOPE | (FATES if topic == "snapshot" else set())
        assert messages[topic].keys() - described == set(), topic


def test_every_described_field_is_in_the_message(messages) -> None:
    for topic, row in rows("topic").items():
        message = messages[topic]
        in_nil = PARTS if any(value is None for value in message.values()) else set()
        assert names(row.split("|")[1]) - set(keys(message)) - in_nil == set(), topic


def test_statistics_and_rings_are_described(messages) -> None:
    statistics = messages["snapshot"]["accumulated"]["statistics"]
    table = rows("field")
    assert table.keys() | {"n_frames"} == statistics.keys()
    assert names(table["measures"]) == statistics["measures"].keys()
    assert names(table["rings"]) == statistics["rings"].keys()


def test_forecast_score_and_reasons_are_described(messages) -> None:
    told = PAGE.partition("A `decision` says whether to go on")[2].partition("Fates:")[0]
    decision = messages["decision"]
    assert decision["forecast"].keys() | decision["score"].keys() <= names(told)
    codes = told.partition("`reason_code`: ")[2]
    assert [reason for reason in get_args(Reason) if not re.search(rf"\b{reason}\b", codes)] == []


def test_every_path_of_the_web_server_is_described(clock) -> None:
    orders = Orders(Desk("series", None, Mock(), None).asks(), None)
    routes = {route.path for route in WebPublisher("127.0.0.1:0", clock, list, orders)._api.routes()}
    assert routes - {"/static"} == set(re.findall(r"(/[a-z0-9/]*)", " ".join(rows("path"))))


def test_every_fact_of_api_latest_is_described(clock, results) -> None:
    board = Board(clock)
    for result in (results.event(), results.rows(), results.measured(), results.decision(), results.stop()):
        board.update(result)
    board.update(results.status())
    told = names(PAGE.partition("## HTTP")[2]) | names(rows("topic")["series"]) | ENVELOPE | FATES
    patterns = r"(accumulated|averaged|frame|union)_spottiness\w*|(forecast|score|stop)_\w+|\w+_(low|high|bound)"
    facts = {name for name in board.latest() if not re.fullmatch(patterns, name)}
    assert facts - told - set(get_args(Metric)) == set()
