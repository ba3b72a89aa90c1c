"""A configuration tried out: what is told of corrections, rings and stop rule, how wrong files and calibrants end."""

import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from ringwatch.__main__ import EXIT_CONFIG, main
from ringwatch.stream.powder import TRUTH

POWDER = replace(TRUTH, shape=(200, 220), poni1_m=100 * 75e-6, poni2_m=110 * 75e-6)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "powder.poni").write_text(POWDER.poni())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ringwatch(command: str, sections: str, *arguments: str, stream: str = "") -> Result:
    """A command with a configuration of the given sections."""
    header = f'[stream]\nendpoint = "tcp://127.0.0.1:1"\n{stream}[geometry]\nponi = "powder.poni"\n'
    Path("config.toml").write_text(header + sections)
    config = ["--config", "config.toml"] if arguments else ["config.toml"]
    return CliRunner().invoke(main, [command, *arguments, *config])


def told(what: str, result: Result) -> str:
    assert result.exit_code == 0, result.output
    return next(line.removeprefix(what).strip() for line in result.output.splitlines() if line.startswith(what))


def test_without_sections_rings_are_found_and_nothing_is_decided(folder: Path) -> None:
    result = ringwatch("check", "")
    assert told("rings", result) == "found in the profile of the summed image"
    assert told("stop", result) == "no section [stop]: nothing is decided, only observed"


def test_the_rings_of_a_calibrant_that_the_detector_sees_are_counted(folder: Path) -> None:
    # 0.3055 Angstrom at 0.1 m: the corners, 11.15 mm away, see d down to 2.75 Angstrom, the edges, 7.5 mm, 4.08
    Path("mine.D").write_text("5.0\n3.1357\n2.8000\n2.7000\n1.9202\n")
    mine = told("rings", ringwatch("check", '[rings]\ncalibrant = "mine.D"\n'))
    assert mine.endswith("mine.D: 3 of 5 fall on the detector, 1 with at least 50% of the azimuth, as is needed")
    assert told("rings", ringwatch("check", '[rings]\ncalibrant = "Si"\n')).startswith("Si: 1 of ")


def test_rings_that_all_miss_the_detector_are_told_loudly(folder: Path) -> None:
    result = ringwatch("check", "[rings]\nd_spacings_A = [1.0, 0.5]\n")
    assert told("rings", result).startswith("given d-spacings: NONE of 2 fall on the detector, NONE with")


def test_rings_wait_for_a_shape_that_only_the_frames_know(folder: Path) -> None:
    Path("powder.poni").write_text(POWDER.poni().replace('"max_shape": [200, 220]', '"max_shape": null'))
    result = ringwatch("check", "[rings]\nd_spacings_A = [3.1]\n[stop]\nmetric = 'counts'\ntarget = 1000\n")
    assert told("rings", result) == "given d-spacings: 1; how many fall on the detector depends on its shape"
    assert "counts is at least 1000," in told("stop", result)


def test_without_files_the_corrections_are_those_of_the_geometry(folder: Path) -> None:
    header = "; a flat field in the stream is used where the detector did not apply it"
    assert told("corrected", ringwatch("check", "")) == f"for solid angle, polarization 0.99{header}"
    plain = ringwatch("check", 'solid_angle = false\npolarization = "none"\n')
    assert told("corrected", plain) == f"for nothing{header}"


def test_signals_are_told_with_the_values_of_the_dark(folder: Path) -> None:
    assert told("signals", ringwatch("check", "")).startswith("raw counts, unsigned")
    assert told("signals", ringwatch("check", "quantum = 0.5\n")) == "raw counts in multiples of 1/2"
    dark = np.full(POWDER.shape, 3.25)
    dark[:, :55], dark[0, 0] = 1.25, np.nan
    np.save("dark.npy", dark)
    result = ringwatch("check", 'dark = "dark.npy"\n')
    assert told("signals", result) == (
        f"raw counts in multiples of 1/256, less the dark {folder}/dark.npy (1.25 to 3.25, mean 2.75)"
    )


@pytest.mark.parametrize("quantum", ["0.3", "2.0", "0.0", "1e-09", '"none"'])
def test_a_quantum_that_makes_no_sense_is_a_mistake(folder: Path, quantum: str) -> None:
    result = ringwatch("check", f"quantum = {quantum}\n")
    assert result.exit_code == EXIT_CONFIG
    assert f"geometry.quantum = {quantum}: should be" in result.output


def test_flat_field_and_absorption_are_told_with_their_values_and_the_pixels_they_cost(folder: Path) -> None:
    flat = np.full(POWDER.shape, 0.5)
    flat[:, 0], flat[0, 1] = np.nan, 1.25
    np.save("flat.npy", flat)
    with h5py.File("maps.h5", "w") as file:
        file["entry/absorption"] = np.full(POWDER.shape, 0.25, np.float32)
    result = ringwatch("check", 'flat = "flat.npy"\nabsorption = "maps.h5::/entry/absorption"\n')
    assert told("corrected", result) == (
        f"for solid angle, polarization 0.99, flat field {folder}/flat.npy (0.5 to 1.25), "
        f"absorption {folder}/maps.h5::/entry/absorption (0.25 to 0.25)"
    )
    assert told("mask", result).startswith("0.5% of the pixels are ignored")
    assert told("norm", result).endswith("kept)")


def test_a_flat_field_far_from_1_exceeds_the_limit_of_rounding(folder: Path) -> None:
    np.save("flat.npy", np.full(POWDER.shape, 1e-6))
    assert told("norm", ringwatch("check", 'flat = "flat.npy"\n')).endswith("EXCEEDED)")


WRONG_FILES = [
    (np.ones((220, 200)), r"the flat field .*maps\.h5::/map has shape \(220, 200\), the frames have \(200, 220\)"),
    (np.full(POWDER.shape, "1"), "the flat field .*maps.h5::/map holds object: real numbers are needed"),
    (np.zeros(POWDER.shape), "the flat field leaves no pixel: none that counts has a positive finite value"),
    (None, "the flat field .*maps.h5::/map cannot be read: .*doesn't exist"),
]


@pytest.mark.parametrize(("flat", "message"), WRONG_FILES, ids=["shape", "text", "zero", "absent"])
def test_a_flat_field_that_cannot_be_used_ends_with_the_reason(
    folder: Path, flat: np.ndarray | None, message: str
) -> None:
    with h5py.File("maps.h5", "w") as file:
        if flat is not None:
            file["map"] = flat.astype(object) if flat.dtype.kind == "U" else flat
    result = ringwatch("check", 'flat = "maps.h5::/map"\n')
    assert result.exit_code == EXIT_CONFIG
    assert re.search(message, result.output), result.output


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("metric = 'excess'\ntarget = 0.02", "when excess is at most 2 %, 95 % sure: nothing is stopped"),
        (
            "metric = ['ring_uncertainty', 'spots']\ntarget = [0.02, 60]\ncombine = 'any'\nconfidence = 0.9",
            "when ring_uncertainty is at most 2 % or spots is at least 60, 90 % sure",
        ),
        ("metric = ['excess', 'spots']\ntarget = [0.02, 60]", "excess is at most 2 % and spots is at least 60"),
    ],
)
def test_the_rule_is_told_with_its_targets_and_what_happens_then(folder: Path, section: str, said: str) -> None:
    assert said in told("stop", ringwatch("check", f"[stop]\n{section}\n"))


@pytest.mark.parametrize(
    ("command", "arguments"), [("check", ()), ("run", ()), ("reduce", ("absent.h5", "-o", "o.h5"))]
)
def test_an_unknown_calibrant_ends_before_anything_is_opened(
    folder: Path, command: str, arguments: tuple[str, ...]
) -> None:
    result = ringwatch(command, '[rings]\ncalibrant = "CeO3"\n', *arguments)
    assert result.exit_code == EXIT_CONFIG
    assert result.output == "ringwatch: 'CeO3' is neither a calibrant nor a file; similar: CeO2, Cr2O3, CuO, CrOx\n"
    assert not Path("o.h5").exists()


@pytest.mark.parametrize("command", ["check", "run"])
def test_rings_that_cannot_be_placed_end_before_the_detector_is_connected(folder: Path, command: str) -> None:
    result = ringwatch(command, 'unit = "r_mm"\n[rings]\nd_spacings_A = [3.1]\n')
    assert result.exit_code == EXIT_CONFIG
    assert result.output.endswith("cannot be placed by their d-spacings on an axis in r_mm: use 2th_deg or q_A^-1\n")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("", "tcp://127.0.0.1:1, not connected now: a second receiver on this port takes every second frame"),
        ("", "the oldest frames are skipped and counted"),
        (
            'socket = "sub"\n',
            "tcp://127.0.0.1:1, subscribed to: any number may be; frames that the publisher leaves out",
        ),
        ('policy = "block"\n', "nothing is taken from it: it waits, or loses frames itself"),
    ],
)
def test_who_else_may_read_the_stream_is_told(folder: Path, keys: str, said: str) -> None:
    assert said in told("stream", ringwatch("check", "", stream=keys))


def test_where_the_detector_counts_what_it_drops_is_told(folder: Path) -> None:
    result = ringwatch("check", "", stream='simplon = "http://10.1.2.3"\n')
    assert told("dropped", result) == "asked every 2 s of a series at http://10.1.2.3"
    stop = '[stop]\nmetric = "counts"\ntarget = 1000\nvia = "simplon"\nurl = "http://10.4.5.6"\n'
    assert told("dropped", ringwatch("check", stop)).endswith("at http://10.4.5.6")
    assert "dropped" not in ringwatch("check", stop.replace("simplon", "http")).output


def test_the_difference_of_two_thresholds_is_refused_with_the_reason(folder: Path) -> None:
    result = ringwatch("check", "", stream='channel = "difference"\n')
    assert result.exit_code == EXIT_CONFIG
    assert "holds no data, or zero, wherever it would be negative" in result.output


def test_split_pixels_are_told(folder: Path) -> None:
    result = ringwatch("check", 'splitting = "bbox"\nbins = 50\n')
    assert re.fullmatch(
        r"bbox: a pixel reaches 1\.\d\d bins; sums are good to float64, not exact", told("split", result)
    )
