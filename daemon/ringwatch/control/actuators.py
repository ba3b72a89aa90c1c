"""The configuration's [stop] section in, whoever is told to stop out."""

from ringwatch.clock import Clock
from ringwatch.config import StopConfig
from ringwatch.control.command import Command
from ringwatch.control.epics import ProcessVariable
from ringwatch.control.order import Actuator
from ringwatch.control.owner import Messenger, Owner
from ringwatch.control.simplon import Simplon
from ringwatch.control.webhook import Webhook


def actuator(config: StopConfig, clock: Clock) -> Actuator | None:
    """As `via` says; None for "none".

    Raises
    ------
    ConfigError
        What `via` needs is not installed.
    """
    if config.via == "simplon" and config.url:
        return Simplon(config.url, config.timeout_s, clock)
    messenger = _messenger(config)
    return None if messenger is None else Owner(messenger, config.timeout_s, clock)


def _messenger(config: StopConfig) -> Messenger | None:
    if config.via == "http" and config.url:
        return Webhook(config.url, config.timeout_s)
    if config.via == "command" and config.command:
        return Command(config.command, config.timeout_s)
    if config.via == "epics" and config.pv:
        return ProcessVariable(config.pv, config.timeout_s)
    return None
