"""From the configuration's types to plain sections and keys: what each means, may be, and is by default."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the configuration.

    Attributes
    ----------
    path
        Dotted, as ``stream.endpoint``.
    meaning
        One or more sentences.
    allowed
        What it may be, in words.
    required
        It has no default.
    default
        In words; TOML where it is a fixed value.
    sample
        A value in TOML: the default, or an example where the default is no fixed value.
    is_secret
        Its value is never shown.
    """

    path: str
    meaning: str
    allowed: str
    required: bool
    default: str
    sample: str
    is_secret: bool = False

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class SectionKeys:
    """One section of the configuration; ``optional`` means that leaving it out switches something off."""

    path: str
    meaning: str
    optional: bool
    keys: tuple[Key, ...]


def sections_of(model: type[BaseModel], path: str = "", *, optional: bool = False) -> Iterator[SectionKeys]:
    """All sections below a type, in the order of the file."""
    schema = model.model_json_schema()
    properties = {name: _resolved(of_key, schema) for name, of_key in schema["properties"].items()}
    nested = {name: _section_type(field) for name, field in model.model_fields.items()}
    prefix = f"{path}." if path else ""
    keys = tuple(
        _key(prefix + name, field, properties[name])
        for name, field in model.model_fields.items()
        if nested[name] is None
    )
    yield SectionKeys(path, _one_line(model.__doc__), optional, keys)
    for name, section in nested.items():
        if section is not None:
            yield from sections_of(section, prefix + name, optional=model.model_fields[name].default is None)


@functools.cache
def keys_of(model: type[BaseModel]) -> Mapping[str, Key]:
    """All keys below a type, by path."""
    return {key.path: key for section in sections_of(model) for key in section.keys}


def toml_value(value: object) -> str:
    """A text, number, boolean, list or table as TOML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {toml_value(item)}" for name, item in value.items()) + "}"
    # JSON's notation of these is TOML's, but for the DEL character. Paths become text.
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007F")


def _section_type(field: FieldInfo) -> type[BaseModel] | None:
    """The type of a section that may be left out or not; a key that is a table or something else is no section."""
    match [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not type(None)]:
        case [type() as kind] if issubclass(kind, BaseModel):
            return kind
    return None


def _resolved(schema: Schema, whole: Schema) -> Schema:
    """A key's schema with the tables it may be, instead of references to them."""
    branches = schema.get("anyOf", [])
    found = [whole["$defs"][branch["$ref"].rpartition("/")[2]] if "$ref" in branch else branch for branch in branches]
    return {**schema, "anyOf": found} if branches else schema


def _key(path: str, field: FieldInfo, schema: Schema) -> Key:
    sample = (schema.get("examples") or [None])[0] if schema.get("default") is None else schema["default"]
    return Key(path, _one_line(field.description), _in_words(schema), field.is_required(),
               _default_in_words(field, schema), toml_value(sample), _is_secret(schema))  # fmt: skip


def _is_secret(schema: Schema) -> bool:
    return any(branch.get("writeOnly", False) for branch in schema.get("anyOf", [schema]))


def _default_in_words(field: FieldInfo, schema: Schema) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return _one_line(field.default_factory.__doc__).rstrip(".")
    return "none" if field.default is None else toml_value(schema["default"])


def _in_words(schema: Schema) -> str:
    """What a JSON schema allows, for people."""
    if "anyOf" in schema:
        return _one_of_in_words([branch for branch in schema["anyOf"] if branch.get("type") != "null"])
    if "const" in schema or "enum" in schema:
        return " or ".join(toml_value(value) for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return _list_in_words(schema)
    if schema["type"] == "object":
        return _table_in_words(schema["properties"])
    if schema.get("format") == "path":
        return "the path of a file or folder"
    return _NOUNS[schema["type"]] + _range_in_words(schema)


_NOUNS = {"boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "text"}


def _one_of_in_words(branches: Sequence[Schema]) -> str:
    return " or ".join(
        f"a list of {_length_in_words(branch)} of these" if branch.get("items") in branches else _in_words(branch)
        for branch in branches
    )


def _table_in_words(properties: Mapping[str, Schema]) -> str:
    return "a table of " + " and ".join(f"{name} ({_in_words(schema)})" for name, schema in properties.items())


def _list_in_words(schema: Schema) -> str:
    if "prefixItems" in schema:
        items = schema["prefixItems"]
        return f"a list of {len(items)} numbers" + _range_in_words(items[0])
    if "enum" in schema["items"]:
        return "a list of " + " and ".join(toml_value(value) for value in schema["items"]["enum"])
    nouns = _NOUNS[schema["items"]["type"]].removeprefix("a ") + "s"
    return f"a list of {_length_in_words(schema)} {nouns}" + _range_in_words(schema["items"])


def _length_in_words(schema: Schema) -> str:
    least = f"{schema['minItems']} to" if "minItems" in schema else "at most"
    return f"{least} {schema['maxItems']}"


def _range_in_words(schema: Schema) -> str:
    limits = [f"{words} {schema[name]:.12g}" for name, words in _LIMITS.items() if name in schema]
    return f" {' '.join(limits)}" if limits else ""


_LIMITS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "up to", "exclusiveMaximum": "and below"}


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
