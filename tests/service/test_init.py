from pathlib import Path

import pytest

from ringwatch.config import Config, load
from ringwatch.errors import ConfigError
from ringwatch.service.init import initial_config

ENDPOINT = "tcp://10.1.2.3:9999"
PONI = """\
# Calibration done on a Sunday: 12:00
poni_version: 2.1
Detector: Eiger2CdTe_4M
Detector_config: {"pixel1": 7.5e-05, "pixel2": 7.5e-05, "orientation": 3}
Distance: 0.1518
Poni1: 0.08337975
Poni2: 0.07915125
Rot1: 0
Rot2: 0
Rot3: 0
Wavelength: 2.846e-11
"""


def written(folder: Path, text: str = PONI, name: str = "detector.poni") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_it_loads_from_any_folder_and_changes_no_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poni = written(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    config = tmp_path / "elsewhere" / "ringwatch.toml"
    monkeypatch.chdir(tmp_path)
    config.write_text(initial_config(ENDPOINT, Path("detector.poni")))
    assert load(config) == Config.for_endpoint(ENDPOINT, poni)


def title_of(text: str) -> str:
    return " ".join(line.removeprefix("# ") for line in text.partition("\n#\n")[0].splitlines())


def test_it_tells_detector_distance_and_energy(tmp_path: Path) -> None:
    assert title_of(initial_config(ENDPOINT, written(tmp_path))).endswith("Eiger2CdTe_4M, 151.80 mm, 43.564 keV.")


def test_without_a_wavelength_it_says_what_follows(tmp_path: Path) -> None:
    poni = written(tmp_path, PONI.partition("Wavelength")[0])
    assert title_of(initial_config(ENDPOINT, poni)).endswith("151.80 mm, no wavelength given, so no unit q.")


def test_a_poni_file_of_the_first_version_has_no_detector(tmp_path: Path) -> None:
    poni = written(tmp_path, "PixelSize1: 0.000172\nDistance: 0.2\nPoni1: 0.1\nPoni2: 0.1\nWavelength: 4e-11\n")
    assert title_of(initial_config(ENDPOINT, poni)).endswith(": 200.00 mm, 30.996 keV.")


@pytest.mark.parametrize("name", ['a "b".poni', "back\\slash.poni", "line\nbreak.poni", "\x7f\x01.poni", "é中😀.poni"])
def test_any_name_of_a_file_survives(tmp_path: Path, name: str) -> None:
    poni = written(tmp_path, name=name)
    config = tmp_path / "ringwatch.toml"
    config.write_text(initial_config(ENDPOINT, poni))
    assert load(config).geometry.poni == poni


def test_nothing_in_the_poni_file_can_become_a_setting(tmp_path: Path) -> None:
    poni = written(tmp_path, PONI.replace("Eiger2CdTe_4M", "x\v[web]\x00\x1b[31m" + "y" * 1000))
    config = tmp_path / "ringwatch.toml"
    config.write_text(initial_config(ENDPOINT, poni))
    assert load(config) == Config.for_endpoint(ENDPOINT, poni)


@pytest.mark.parametrize(
    "text", ["", "{}", "PNG\0\1\2", PONI.replace("Distance", "Length"), PONI.replace("0.1518", "x")]
)
def test_what_is_no_poni_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match='no line "Distance: NUMBER"'):
        initial_config(ENDPOINT, written(tmp_path, text))


def test_a_wrong_address_and_a_missing_file_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        initial_config("localhost", tmp_path / "none.poni")
    assert len(caught.value.problems) == 2


def test_real_poni_files_are_understood(shared_data: Path, tmp_path: Path) -> None:
    config = tmp_path / "ringwatch.toml"
    for poni in sorted(shared_data.glob("*.poni")):
        config.write_text(initial_config(ENDPOINT, poni))
        assert load(config).geometry.poni == poni
