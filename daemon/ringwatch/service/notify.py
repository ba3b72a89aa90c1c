"""From states to systemd (sd_notify): READY=1, STATUS=..., WATCHDOG=1, STOPPING=1. Nothing happens without systemd."""

import os
import socket

import structlog

TIMEOUT_S = 1.0
"""systemd takes messages at once; if it does not, the daemon must not wait for it."""


def notify(*assignments: str) -> None:
    """Tell systemd, as in ``notify("READY=1", "STATUS=waiting for a series")``.

    A message that cannot be delivered is logged and left: systemd's own time-outs say what follows.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    message = "\n".join(" ".join(assignment.splitlines()) for assignment in assignments)
    # A leading @ is systemd's spelling of a socket in the abstract namespace.
    target = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(TIMEOUT_S)
            sender.sendto(message.encode(), target)
    except OSError as error:
        structlog.get_logger(__name__).warning("systemd was not told", message=message, error=str(error))
