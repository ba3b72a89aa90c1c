"""From sections and keys to a commented TOML file: every key with its meaning; those with a default switched off."""

import textwrap
from collections.abc import Iterable, Mapping

from ringwatch.config.keys import Key, SectionKeys, sections_of, toml_value
from ringwatch.config.model import Config

HOW_TO_READ = (
    "A key behind # is switched off and shows its default, or an example where the default is none. "
    "Relative paths start at the folder of this file. Check it with: ringwatch check FILE"
)

_WIDTH = 100


def commented_toml(title: Iterable[str], values: Mapping[str, object]) -> str:
    """Write a configuration file that explains itself.

    Parameters
    ----------
    title
        Comment lines at the top.
    values
        Values by dotted path; all other keys are written as ``#key = default``.
    """
    blocks = ["\n".join(_comment(title)), *(_section(s, values) for s in sections_of(Config) if s.keys)]
    return "\n\n\n".join(blocks) + "\n"


def _section(section: SectionKeys, values: Mapping[str, object]) -> str:
    off = "#" if section.optional and not any(key.path in values for key in section.keys) else ""
    heading = [*_comment([section.meaning]), f"{off}[{section.path}]"]
    return "\n\n".join(["\n".join(heading), *(_key(key, values) for key in section.keys)])


def _key(key: Key, values: Mapping[str, object]) -> str:
    given = key.path in values
    line = f"{key.name} = {toml_value(values[key.path])}" if given else f"#{key.name} = {key.sample}"
    return "\n".join([*_comment([key.meaning, f"({_allowed(key)})"]), line])


def _allowed(key: Key) -> str:
    return f"{key.allowed}; {'required' if key.required else f'default: {key.default}'}"


def _comment(paragraphs: Iterable[str]) -> list[str]:
    lines = [line for paragraph in paragraphs for line in textwrap.wrap(paragraph, _WIDTH) or [""]]
    return [f"# {line}".rstrip() for line in lines]
