"""The first page is followed word by word, and no page names a command or an option that does not exist."""

import re
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from tests.service.test_offline import POWDER

from ringwatch.__main__ import main
from ringwatch.stream.simulator import Simulator

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
FIRST = (ROOT / "README.md").read_text().partition("## First success")[2].partition("\n## ")[0]
COMMANDS = [line.partition("#")[0].strip() for line in FIRST.splitlines() if line.strip().startswith("ringwatch ")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What somebody has who begins: recorded frames and the PONI file of the detector."""
    (tmp_path / "detector.poni").write_text(POWDER.poni())
    simulator = Simulator(POWDER, 3)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["/entry/data/data"] = np.stack([simulator.frame() for _ in range(5)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def follow(command: str) -> None:
    """Run one line of the page; ``>`` writes what it prints into a file, as a shell does."""
    words, _, file = command.partition(" > ")
    done = CliRunner().invoke(main, shlex.split(words)[1:])
    assert done.exit_code == 0, f"{command}: {done.output}"
    if file:
        Path(file).write_text(done.output)


def test_the_first_page_leads_from_own_frames_to_a_plot_and_a_configuration(folder: Path) -> None:
    assert [command.split()[1] for command in COMMANDS] == [
        "devices", "reduce", "verify", "init", "check", "run", "watch",
    ]  # fmt: skip
    for command in COMMANDS[:5]:
        follow(command)
    with h5py.File(folder / "result.h5") as file:
        assert np.isfinite(file["entry/data/I"][()]).any()
    assert (folder / "result.png").read_bytes().startswith(b"\x89PNG")
    assert 'endpoint = "tcp://detector:31001"' in (folder / "beamline.toml").read_text()
    assert COMMANDS[5:] == ["ringwatch run beamline.toml", "ringwatch watch"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    code = re.findall(r"^ {4,}[^#\n]*|`[^`\n]+`", page.read_text(), re.MULTILINE)
    for name, rest in re.findall(r"(?<![\w/@.-])ringwatch ([a-z]+)\b([^`\n#|]*)", "\n".join(code)):
        assert name in main.commands, f"ringwatch {name}"
        known = {option for parameter in main.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)(--?[a-z][\w-]*)", rest)) <= known | {"--help"}, f"ringwatch {name}{rest}"
