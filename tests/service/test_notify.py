import contextlib
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ringwatch.service import notify as module
from ringwatch.service.notify import notify


def listening_at(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(address)
    listener.settimeout(5)
    return listener


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with listening_at(path) as listener:
        yield listener


def test_a_socket_in_the_file_system_gets_all_assignments_in_one_message(listener: socket.socket) -> None:
    notify("READY=1", "STATUS=waiting for a series")
    assert listener.recv(1000) == b"READY=1\nSTATUS=waiting for a series"


def test_each_call_is_one_message(listener: socket.socket) -> None:
    notify("WATCHDOG=1")
    notify("STOPPING=1")
    assert [listener.recv(1000), listener.recv(1000)] == [b"WATCHDOG=1", b"STOPPING=1"]


def test_an_abstract_socket_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"ringwatch-test-{uuid.uuid4()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with listening_at(f"\0{name}") as listener:
        notify("READY=1")
        assert listener.recv(1000) == b"READY=1"


def test_a_text_with_line_breaks_cannot_add_assignments(listener: socket.socket) -> None:
    notify("STATUS=series 1\nMAINPID=1\r\nSTOPPING=1")
    assert listener.recv(1000) == b"STATUS=series 1 MAINPID=1 STOPPING=1"


@pytest.mark.parametrize("address", [None, ""])
def test_without_systemd_nothing_is_sent_and_nothing_logged(
    monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    with capture_logs() as logs:
        notify("READY=1")
    assert logs == []


def test_a_vanished_socket_is_a_warning_and_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with capture_logs() as logs:
        notify("WATCHDOG=1")
    assert [(log["log_level"], log["message"]) for log in logs] == [("warning", "WATCHDOG=1")]


def test_a_manager_that_does_not_read_is_not_waited_for(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, capture_logs() as logs:
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(100_000):
                other.sendto(b"WATCHDOG=1", listener.getsockname())
        notify("WATCHDOG=1")
    assert [log["log_level"] for log in logs] == ["warning"]
