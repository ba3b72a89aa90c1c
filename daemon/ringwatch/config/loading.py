"""From a TOML file to a checked `Config`, or to one error that lists every mistake."""

import re
import tomllib
from pathlib import Path

from ringwatch.config.model import Config
from ringwatch.errors import ConfigError

MAX_FILE_BYTES = 1 << 18
"""A configuration is a few kilobytes; what is larger is another file."""


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Raises
    ------
    ConfigError
        The file cannot be read, is no TOML, or has mistakes: all of them.
    """
    path = path.absolute()
    text = _read(path)
    try:
        given = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(["lists or sections are nested too deeply"], str(path)) from None
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        raise ConfigError([_syntax_problem(str(error), text)], str(path)) from None
    return Config.from_mapping(given, path.parent, str(path))


def _read(path: Path) -> str:
    try:
        if not path.is_file():
            raise ConfigError(["no such file; `ringwatch init` writes one"], str(path))
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"cannot be read: {error.strerror}"], str(path)) from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError([f"larger than {MAX_FILE_BYTES} bytes: this is no configuration file"], str(path))
    try:
        return content.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        raise ConfigError([f"is no UTF-8 text (byte {error.start})"], str(path)) from None


def _syntax_problem(message: str, text: str) -> str:
    """The parser's message with the line it is about."""
    if found := re.search(r"\(at line (\d+)", message):
        line = text.splitlines()[int(found[1]) - 1].strip()
        return f'{message}: {line[:100]}  (key = value; text stands in "quotes", a list in [brackets])'
    return message
