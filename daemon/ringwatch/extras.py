"""Libraries that come with an extra of the installation: their module, or a sentence about how to get it."""

from importlib import import_module
from typing import Any

from ringwatch.errors import ConfigError


def extra(module: str, name: str, needed_by: str) -> Any:
    """A module of the extra ``name``.

    Raises
    ------
    ConfigError
        It is not installed; ``needed_by`` says what in the configuration asks for it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError([f"{needed_by} needs {module.partition('.')[0]}: pip install 'ringwatch[{name}]'"]) from error
