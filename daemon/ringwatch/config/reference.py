"""From the configuration's types to docs/configuration.md, config/ringwatch.schema.json and config/example.toml.

``python -m ringwatch.config.reference FOLDER`` writes them all below the folder of the project.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from ringwatch.config.keys import Key, SectionKeys, sections_of
from ringwatch.config.model import Config
from ringwatch.config.template import HOW_TO_READ, commented_toml

SCHEMA_FILE = "ringwatch.schema.json"


def json_schema() -> str:
    """The JSON schema, with which editors complete and check configuration files."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"


def example() -> str:
    """A configuration file with every key."""
    title = ["Example configuration of ringwatch: every key. " + HOW_TO_READ]
    values = {"stream.endpoint": "tcp://10.1.2.3:9999", "geometry.poni": "detector.poni"}
    return f"#:schema {SCHEMA_FILE}\n\n{commented_toml(title, values)}"


def markdown() -> str:
    """The reference for people."""
    blocks = [_INTRODUCTION, *(block for section in sections_of(Config) if section.keys for block in _section(section))]
    return "\n\n".join(blocks) + "\n"


_INTRODUCTION = f"""\
# Configuration

ringwatch reads one [TOML](https://toml.io) file. Only `geometry.poni` and `stream.endpoint` are required (or
`stream.follow` instead of the latter);
[config/example.toml](../config/example.toml) shows every key, `ringwatch init --poni FILE ENDPOINT` prints a file for
your detector, and `ringwatch check FILE` lists every mistake in one. Units are in the names: `_s` seconds, `_bytes`
bytes. Relative paths start at the folder of the file. Unknown keys are mistakes.
[config/{SCHEMA_FILE}](../config/{SCHEMA_FILE}) lets editors complete and check the keys.

This page is written from the types in `ringwatch.config` (`python -m ringwatch.config.reference .`)."""


def _section(section: SectionKeys) -> Iterator[str]:
    yield f"## [{section.path}]\n\n{section.meaning}"
    yield "\n".join(["| key | default | may be | meaning |", "|---|---|---|---|", *map(_row, section.keys)])


def _row(key: Key) -> str:
    return f"| `{key.name}` | {key.default} | {key.allowed} | {key.meaning} |"


def main(root: Path) -> None:
    """Write the three files below the folder of the project."""
    (root / "docs" / "configuration.md").write_text(markdown(), encoding="utf-8")
    (root / "config" / SCHEMA_FILE).write_text(json_schema(), encoding="utf-8")
    (root / "config" / "example.toml").write_text(example(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
