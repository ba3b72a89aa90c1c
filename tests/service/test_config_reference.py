import re
import tomllib
from pathlib import Path

import pytest

from ringwatch.config import Config, load, reference
from ringwatch.config.keys import keys_of
from ringwatch.curve import write_pair

ROOT = Path(__file__).parents[2]
HOW = "written from the types: run `python -m ringwatch.config.reference .`"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("docs/configuration.md", reference.markdown()),
        (f"config/{reference.SCHEMA_FILE}", reference.json_schema()),
        ("config/example.toml", reference.example()),
    ],
)
def test_the_file_in_the_repository_is_current(file: str, text: str) -> None:
    assert (ROOT / file).read_text() == text, f"{file} is {HOW}"


def test_every_key_has_a_meaning_and_stands_in_every_file() -> None:
    markdown, schema, example = reference.markdown(), reference.json_schema(), reference.example()
    for key in keys_of(Config).values():
        assert key.meaning
        assert f"`{key.name}`" in markdown
        assert f'"{key.name}": {{' in schema
        assert re.search(rf"^#?{key.name} = ", example, re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "detector.poni").write_text("Distance: 0.1\n")
    for image in ("mask", "flat", "absorption", "dark"):
        (tmp_path / f"{image}.edf").write_bytes(b"")
    return tmp_path


def placed(text: str, folder: Path) -> Path:
    """The text as a file, with the folder for results replaced by one that exists."""
    path = folder / "ringwatch.toml"
    path.write_text(text.replace("/data/ringwatch", str(folder)))
    return path


def test_the_example_has_the_defaults(folder: Path) -> None:
    config = load(placed(reference.example(), folder))
    assert config == Config.from_mapping(
        {"stream": {"endpoint": "tcp://10.1.2.3:9999"}, "geometry": {"poni": "detector.poni"}}, folder
    )


@pytest.mark.parametrize("left_out", ["calibrant", "d_spacings_A"])  # each says where the rings are: never both
def test_the_example_with_every_key_switched_on_is_right_and_changes_no_default(folder: Path, left_out: str) -> None:
    # A window of all frames has no length; darks cannot be weighed with a monitor; frames have one source.
    left = {left_out, "frames", "seconds", "monitor_wait_s", "follow"}
    switched_on = re.sub(rf"^#(?=\[|(?!{'|'.join(left)})\w+ = )", "", reference.example(), flags=re.MULTILINE)
    given = tomllib.loads(switched_on)
    write_pair(folder / "keys", "daemon")
    (folder / "keys" / "clients").mkdir()
    config = load(placed(switched_on, folder))
    for path, key in keys_of(Config).items():
        if key.name in left:
            continue
        section, *rest = path.split(".")
        value = given[section][rest[0]] if len(rest) == 1 else given[section][rest[0]][rest[1]]
        if key.default not in {"required", "none"} and path != "stream.memory_bytes":
            assert value == tomllib.loads(f"default = {key.default}")["default"]
    assert config.geometry.mask == f"{folder}/mask.edf"
    assert config.stop is not None
    assert config.stop.criteria == (("spottiness_rings", 0.05),)


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.toml")), ids=lambda path: path.name)
def test_every_file_in_config_is_right_and_names_the_schema(path: Path, folder: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"#:schema {reference.SCHEMA_FILE}\n")
    assert load(placed(text, folder)).geometry.poni == folder / "detector.poni"


def test_all_three_files_are_written(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "config").mkdir()
    reference.main(tmp_path)
    assert (tmp_path / "docs" / "configuration.md").read_text() == reference.markdown()
    assert (tmp_path / "config" / reference.SCHEMA_FILE).read_text() == reference.json_schema()
    assert (tmp_path / "config" / "example.toml").read_text() == reference.example()
