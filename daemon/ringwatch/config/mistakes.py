"""From pydantic's errors to sentences: where the mistake is, what was given, what would be right."""

import difflib
from collections.abc import Mapping, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ringwatch.config.keys import Key, toml_value

MAX_SENTENCES = 50
"""A file with more mistakes is no configuration; the rest is only counted."""

_WIDTH = 80
_ABSENT = object()

Location = tuple[str, ...]


def sentences(error: ValidationError, given: Mapping[str, object], keys: Mapping[str, Key]) -> list[str]:
    """One sentence a mistake.

    Parameters
    ----------
    error
        What pydantic found in ``given``.
    given
        Sections and keys as they were read.
    keys
        The known keys by dotted path.
    """
    # A key that may be of several types has an error for each of them: one stands for all, best one that says why.
    mistakes: dict[Location, ErrorDetails] = {}
    for details in error.errors(include_url=False):
        path = _path(details, keys)
        if path not in mistakes or details["type"] == "value_error":
            mistakes[path] = details
    told = [_sentence(path, details, given, keys) for path, details in list(mistakes.items())[:MAX_SENTENCES]]
    if rest := len(mistakes) - len(told):
        told.append(f"and {rest} more")
    return told


def _path(details: ErrorDetails, keys: Mapping[str, Key]) -> Location:
    """Where it is in the file: pydantic's location without the parts inside the value of a key."""
    parts = [str(part) for part in details["loc"]]
    for length in range(1, len(parts) + 1):
        if ".".join(parts[:length]) in keys:
            return tuple(parts[:length])
    return tuple(parts)


def _sentence(path: Location, details: ErrorDetails, given: Mapping[str, object], keys: Mapping[str, Key]) -> str:
    name = _short(".".join(path))
    is_key = len(details["loc"]) == len(path)  # not a value in a list or table
    if details["type"] == "extra_forbidden" and is_key:
        return f"{name}: unknown{_suggestion(path, keys)}"
    key = keys.get(".".join(path))
    if key is None and details["type"] == "value_error":  # of keys that do not go together
        return f"{name}: {details['ctx']['error']}"
    if key is None:
        return f"{name} should be a section: a line [{name}], and its keys below"
    if details["type"] == "missing" and is_key:
        return f"{name} is missing: {key.meaning.partition('. ')[0].rstrip('.')}; for example {key.name} = {key.sample}"
    value = _value_at(path, given)
    shown = name if key.is_secret or value is _ABSENT else f"{name} = {_shown(value)}"
    if details["type"] == "value_error":
        return f"{shown}: {details['ctx']['error']}"
    return f"{shown}: should be {key.allowed}"


def _suggestion(path: Location, keys: Mapping[str, Key]) -> str:
    """What was probably meant: a key of the same section, the same key elsewhere, or the section's keys."""
    names = {tuple(key.split(".")[:length]) for key in keys for length in range(1, key.count(".") + 2)}
    siblings = sorted(name[-1] for name in names if name[:-1] == path[:-1])
    if close := difflib.get_close_matches(path[-1], siblings, n=1):
        return f", did you mean {'.'.join((*path[:-1], *close))}?"
    if elsewhere := sorted(".".join(name) for name in names if name[-1] == path[-1]):
        return f", did you mean {' or '.join(elsewhere)}?"
    return f"; known {'here' if path[:-1] else 'sections'}: {', '.join(siblings)}"


def _value_at(path: Sequence[str], given: Mapping[str, object]) -> object:
    value: object = given
    for part in path:
        value = value.get(part, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    return value


def _shown(value: object) -> str:
    try:
        return _short(toml_value(value))
    except (ValueError, RecursionError):  # a number of thousands of digits, a list in a list in a list ...
        return "(too large to show)"


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 4] + " ..."
