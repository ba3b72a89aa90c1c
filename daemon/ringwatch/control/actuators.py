"""The configuration's [stop] section in, whoever is told to stop out."""

from ringwatch.clock import Clock
from ringwatch.config import StopConfig
from ringwatch.control.command import Command
from ringwatch.control.order import Actuator
from ringwatch.control.simplon import Simplon
from ringwatch.control.webhook import Webhook


def actuator(config: StopConfig, clock: Clock) -> Actuator | None:
    """As `via` says; None for "none"."""
    if config.via == "http" and config.url:
        return Webhook(config.url, config.timeout_s)
    if config.via == "simplon" and config.url:
        return Simplon(config.url, config.timeout_s, clock)
    if config.via == "command" and config.command:
        return Command(config.command, config.timeout_s)
    return None
