import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ringwatch.config import Config, load, values
from ringwatch.config.keys import keys_of
from ringwatch.errors import ConfigError

ENDPOINT = "tcp://10.1.2.3:9999"
Mapping = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "detector.poni").write_text("Distance: 0.1\n")
    (tmp_path / "mask.h5").write_bytes(b"")
    return tmp_path


def config_of(folder: Path, **sections: Mapping) -> Config:
    """A right configuration, with keys changed or added."""
    right: Mapping = {"stream": {"endpoint": ENDPOINT}, "geometry": {"poni": "detector.poni"}}
    given = {name: right.get(name, {}) | sections.get(name, {}) for name in {**right, **sections}}
    return Config.from_mapping(given, folder)


def problems_of(folder: Path, **sections: Mapping) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        config_of(folder, **sections)
    return caught.value.problems


def problem_of(folder: Path, **sections: Mapping) -> str:
    (problem,) = problems_of(folder, **sections)
    return problem


def write(folder: Path, text: str) -> Path:
    path = folder / "ringwatch.toml"
    path.write_text(text)
    return path


# --------------------------------------------------------------------------------------------------- what is right


@pytest.mark.parametrize(
    ("window", "text"),
    [({}, "all"), ({"kind": "last", "frames": 100}, "last 100 frames"),
     ({"kind": "every", "seconds": 2.5}, "every 2.5 s"), ({"kind": "every", "seconds": 60}, "every 60 s")],
)  # fmt: skip
def test_a_window_is_a_table_and_has_a_text(folder: Path, window: Mapping, text: str) -> None:
    assert config_of(folder, accumulate={"window": window}).accumulate.window.text == text


@pytest.mark.parametrize(
    ("accumulate", "said"),
    [
        ({"window": {"kind": "last"}}, "accumulate.window: "),
        ({"window": {"kind": "all", "frames": 3}}, "accumulate.window: "),
        ({"window": {"kind": "every", "frames": 3, "seconds": 1.0}}, "either frames or seconds"),
        ({"scope": "frame", "window": {"kind": "last", "frames": 3}}, "adds nothing up, so that there is no window"),
        ({"scope": "sampel"}, 'should be "series" or "sample" or "frame"'),
        ({"monitor_wait_s": 5}, "monitor_reference is needed with it"),
        ({"monitor_reference": 1e6, "monitor_wait_s": 5}, "accumulate.monitor_wait_s needs web.token"),
        ({"monitor_reference": 0}, "accumulate.monitor_reference = 0: should be a number above 0"),
    ],
)
def test_what_is_added_up_has_to_make_sense(folder: Path, accumulate: Mapping, said: str) -> None:
    assert said in problem_of(folder, accumulate=accumulate)


def test_what_cannot_be_weighed_has_no_monitor(folder: Path) -> None:
    accumulate, web = {"monitor_reference": 1e6, "monitor_wait_s": 5}, {"token": "0123456789abcdef"}
    assert config_of(folder, accumulate=accumulate, web=web).accumulate.monitor_wait_s == 5
    variance = {"variance": {"gain": 1.0, "readout": 0.0}}
    said = problem_of(folder, accumulate=accumulate, web=web, profiles=variance)
    assert "monitor_wait_s cannot be combined with profiles.variance" in said


def test_single_frames_cannot_be_decided_upon(folder: Path) -> None:
    stop = {"metric": "spottiness_rings", "target": 0.05}
    assert "nothing to decide on" in problem_of(folder, accumulate={"scope": "frame"}, stop=stop)


def test_two_keys_are_enough_and_all_others_have_the_documented_defaults(folder: Path) -> None:
    config = config_of(folder)
    assert (config.stream.channel, config.stream.policy) == ("threshold_1", "skip")
    assert (config.stream.end_timeout_s, config.stream.late_s) == (10, 1)
    geometry = config.geometry
    assert (geometry.unit, geometry.bins, geometry.radial_range, geometry.mask) == ("2th_deg", "pixel", None, None)
    assert (geometry.flat, geometry.absorption, geometry.dark, geometry.quantum) == (None, None, None, "auto")
    assert (geometry.dummy, geometry.solid_angle, geometry.polarization) == ("auto", True, 0.99)
    assert (config.profiles.interval_s, config.accumulate.scope) == (1, "series")
    assert (config.rings.calibrant, config.rings.d_spacings_A, config.stop) == (None, None, None)
    assert (config.publish.zmq.bind, config.publish.hdf5) == ("tcp://127.0.0.1:5560", None)
    assert config.web.address == ("127.0.0.1", 8080)
    assert (config.device.platform, config.device.type) == (None, None)


@pytest.mark.parametrize(("ram_bytes", "expected"), [(64 << 30, 4 << 30), (8 << 30, 2 << 30)])
def test_frames_wait_in_4_gib_or_a_quarter_of_the_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ram_bytes: int, expected: int
) -> None:
    monkeypatch.setattr(values, "_ram_bytes", lambda: ram_bytes)
    assert config_of(folder).stream.memory_bytes == expected


def test_relative_paths_start_at_the_folder_of_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    (folder / "results").mkdir()
    path = write(
        folder,
        f'stream.endpoint = "{ENDPOINT}"\n'
        '[geometry]\nponi = "detector.poni"\nmask = "mask.h5::/entry/mask"\n'
        '[publish.hdf5]\nroot = "results"\n',
    )
    config = load(path)
    assert config.geometry.poni == folder / "detector.poni"
    assert config.geometry.mask == f"{folder}/mask.h5::/entry/mask"
    assert config.publish.hdf5 is not None
    assert config.publish.hdf5.root == folder / "results"


def test_on_the_command_line_relative_paths_start_at_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    config = Config.for_endpoint(ENDPOINT, Path("detector.poni"))
    assert (config.stream.endpoint, config.geometry.poni) == (ENDPOINT, folder / "detector.poni")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("stream", "endpoint", "ipc:///run/detector"),
        ("stream", "endpoint", "tcp://dcu.id11:31001"),
        ("geometry", "bins", 65534),
        ("geometry", "radial_range", [1, 20.5]),
        ("geometry", "dummy", [-1, 4294967295]),
        ("geometry", "dummy", []),
        ("geometry", "polarization", "none"),
        ("geometry", "polarization", -1),
        ("geometry", "unit", "q_A^-1"),
        ("web", "bind", "0.0.0.0:0"),
        ("device", "platform", "Portable Computing Language"),
        ("device", "type", "cpu"),
    ],
)
def test_is_accepted(folder: Path, section: str, key: str, value: object) -> None:
    accepted = getattr(getattr(config_of(folder, **{section: {key: value}}), section), key)
    assert accepted == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("bind", ["tcp://*:5560", "tcp://0.0.0.0:0", "tcp://eth0:5560", "ipc:///run/results"])
def test_results_may_be_published_at(folder: Path, bind: str) -> None:
    assert config_of(folder, publish={"zmq": {"bind": bind}}).publish.zmq.bind == bind


@pytest.mark.parametrize("name", ["{sample}_{series:06d}", "{series}", "id11 {sample}-{series:03d}_{sample}"])
def test_results_may_be_called(folder: Path, name: str) -> None:
    hdf5 = config_of(folder, publish={"hdf5": {"root": ".", "name": name}}).publish.hdf5
    assert hdf5 is not None
    assert "00012" in hdf5.name.format(sample="Si", series=12_00012)


def test_a_configuration_cannot_be_changed(folder: Path) -> None:
    config = config_of(folder)
    with pytest.raises(ValidationError, match="frozen"):
        config.web.bind = "0.0.0.0:80"


# ---------------------------------------------------------------------------------------------- one mistake a time


def test_missing_keys_are_named_with_their_meaning_and_an_example(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({}, folder)
    endpoint, poni = caught.value.problems
    assert endpoint.startswith("stream.follow: stream.endpoint is missing: the address of the detector's stream")
    assert 'endpoint = "tcp://10.1.2.3:9999"' in endpoint
    assert poni.startswith("geometry.poni is missing: Calibration")


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"stream": {"late": 1}}, "stream.late: unknown, did you mean stream.late_s?"),
        ({"geometry": {"interval_s": 1}}, "geometry.interval_s: unknown, did you mean profiles.interval_s?"),
        ({"stream": {"bind": ""}}, "stream.bind: unknown, did you mean publish.zmq.bind or web.bind?"),
        ({"device": {"xyz": 1}}, "device.xyz: unknown; known here: platform, type"),
        ({"publish": {"zqm": {}}}, "publish.zqm: unknown, did you mean publish.zmq?"),
        ({"geometri": {}}, "geometri: unknown, did you mean geometry?"),
        ({"zmq": {}}, "zmq: unknown, did you mean publish.zmq?"),
        (
            {"xyz": {}},
            "xyz: unknown; known sections: accumulate, device, geometry, profiles, publish, rings, stop, stream, web",
        ),
    ],
)
def test_an_unknown_key_is_told_with_what_was_probably_meant(folder: Path, sections: Mapping, expected: str) -> None:
    assert problem_of(folder, **sections) == expected


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("geometry", "bins", "pixels", '= "pixels": should be "pixel" or a whole number from 1 up to 65534'),
        ("geometry", "bins", 65535, "= 65535: should be"),
        ("geometry", "bins", True, "= true: should be"),
        ("geometry", "bins", 1000.0, "= 1000.0: should be"),
        pytest.param("geometry", "bins", 16**20000, "= (too large to show): should be", id="huge"),
        ("geometry", "polarization", 1.5, '= 1.5: should be "none" or a number from -1 up to 1'),
        ("geometry", "polarization", True, "= true: should be"),
        ("geometry", "polarization", math.nan, "= NaN: should be"),
        ("geometry", "radial_range", [20, 2], "= [20, 2]: the lower limit comes first"),
        ("geometry", "radial_range", [2], "= [2]: should be a list of 2 numbers from 0"),
        ("geometry", "radial_range", [0, 10**400], "should be a list of 2 numbers from 0 up to 1000000"),
        (
            "geometry",
            "dummy",
            [1.5, "x"],
            '= [1.5, "x"]: should be "auto" or a list of at most 16 whole numbers from -2147',
        ),
        ("geometry", "unit", "2theta", '= "2theta": should be "2th_deg" or "2th_rad" or'),
        ("geometry", "splitting", "pixel", '= "pixel": should be "no" or "bbox" or "full"'),
        ("profiles", "sigma_clip", "of", '= "of": should be "off" or a table of thres (a number from 0 up to'),
        ("profiles", "sigma_clip", {"thres": -1}, "= {thres = -1}: should be"),
        ("profiles", "sigma_clip", {"thresh": 5}, "= {thresh = 5}: should be"),
        ("profiles", "quantile", [0.6, 0.4], "= [0.6, 0.4]: the lower quantile comes first"),
        ("profiles", "quantile", [40, 60], '= [40, 60]: should be "off" or a list of 2 numbers from 0 up to 1'),
        ("profiles", "median_clip", "off", '= "off": should be true or false'),
        ("geometry", "solid_angle", "yes", '= "yes": should be true or false'),
        ("geometry", "poni", 5, "= 5: should be the path of a file"),
        ("stream", "late_s", "1", '= "1": should be a number from 0 up to 60'),
        ("stream", "end_timeout_s", 0, "= 0: should be a number above 0 up to 86400"),
        ("stream", "memory_bytes", 1000, "= 1000: should be a whole number from 16777216"),
        ("stream", "memory_bytes", 10**18, "more than this machine's"),
        ("stream", "endpoint", "10.1.2.3:9999", '= "10.1.2.3:9999": should be tcp://HOST:PORT, as in'),
        ("stream", "endpoint", "tcp://dcu", "should be tcp://HOST:PORT"),
        ("stream", "endpoint", "tcp://dcu:0", "the port should be from 1 to 65535"),
        ("stream", "endpoint", "tcp://*:9999", "names no machine"),
        ("stream", "endpoint", "tcp://dcu:٩٩٩٩", "should be tcp://HOST:PORT"),
        ("stream", "endpoint", "ipc://" + "x" * 200, "should be tcp://HOST:PORT"),
        ("web", "bind", "http://localhost:8080", "should be HOST:PORT without http://"),
        ("web", "bind", "localhost:80800", "the port should be from 0 (any free one) to 65535"),
        ("device", "type", "tpu", '= "tpu": should be "gpu" or "cpu"'),
        ("publish", "zmq", "tcp://*:1", "publish.zmq should be a section: a line [publish.zmq]"),
    ],
)
def test_a_wrong_value_is_shown_with_what_would_be_right(
    folder: Path, section: str, key: str, value: object, expected: str
) -> None:
    problem = problem_of(folder, **{section: {key: value}})
    assert problem.startswith(f"{section}.{key}")
    assert expected in problem


@pytest.mark.parametrize("bind", ["5560", "tcp://*", "tcp://*:65536", "udp://*:5560"])
def test_an_address_that_cannot_be_published_at_is_a_mistake(folder: Path, bind: str) -> None:
    assert problem_of(folder, publish={"zmq": {"bind": bind}}).startswith(f'publish.zmq.bind = "{bind}": ')


@pytest.mark.parametrize("name", ["{sample}", "a/{series}", "{series:999999999d}", "{sample.__class__}{series}", "{}"])
def test_a_file_name_without_the_series_or_with_anything_else_in_braces_is_a_mistake(folder: Path, name: str) -> None:
    problem = problem_of(folder, publish={"hdf5": {"root": ".", "name": name}})
    assert "contains {series} or {series:06d}" in problem


# ------------------------------------------------------------------------------------------------ files and folders


def test_missing_files_are_named_by_the_path_that_was_tried(folder: Path) -> None:
    given = {"poni": "sub/x.poni", "mask": "x.h5::/m", "flat": "f.edf", "absorption": "a.h5::/a"}
    poni, mask, flat, absorption = problems_of(folder, geometry=given)
    assert poni == f'geometry.poni = "sub/x.poni": no such file: {folder}/sub/x.poni'
    assert mask == f'geometry.mask = "x.h5::/m": no such file: {folder}/x.h5'
    assert flat == f'geometry.flat = "f.edf": no such file: {folder}/f.edf'
    assert absorption == f'geometry.absorption = "a.h5::/a": no such file: {folder}/a.h5'


@pytest.mark.parametrize("poni", [".", "a\0b", "x" * 5000])
def test_what_is_no_file_is_a_mistake(folder: Path, poni: str) -> None:
    assert "no such file" in problem_of(folder, geometry={"poni": poni})


def test_a_missing_folder_for_results_is_a_mistake(folder: Path) -> None:
    assert f"no such folder: {folder}/nowhere; make it" in problem_of(folder, publish={"hdf5": {"root": "nowhere"}})


def test_files_without_permission_are_mistakes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may do everything, so the answer of the system is replaced.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    poni, root = problems_of(folder, publish={"hdf5": {"root": "."}})
    assert f"user id {os.geteuid()} may not read {folder}/detector.poni" in poni
    assert f"may not write into {folder}" in root
    assert f"ReadWritePaths={folder}" in root


# --------------------------------------------------------------------------------------------------- all at once


def test_every_mistake_of_a_file_is_told_at_once(folder: Path) -> None:
    path = write(
        folder,
        """
        [stream]
        endpiont = "tcp://dcu:9999"
        late_s = "one"
        [geometry]
        poni = "missing.poni"
        bins = 0
        radial_range = [5, 1]
        [publish.hdf5]
        flush_s = -1
        [stopp]
        """,
    )
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.source == str(path)
    assert [problem.split(" ")[0].rstrip(":") for problem in caught.value.problems] == [
        "stream.follow",
        "stream.late_s",
        "stream.endpiont",
        "geometry.poni",
        "geometry.bins",
        "geometry.radial_range",
        "publish.hdf5.root",
        "publish.hdf5.flush_s",
        "stopp",
    ]
    assert str(caught.value).startswith(f"{path}: 9 mistakes\n  - stream.follow: stream.endpoint is missing")


def test_a_file_full_of_mistakes_is_told_in_bounded_length(folder: Path) -> None:
    problems = problems_of(folder, stream={f"key{i}" * 100: "x" * 10000 for i in range(1000)})
    assert problems[-1] == "and 950 more"
    assert len("".join(problems)) < 20000


# ------------------------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[stream]\nendpoint = tcp://dcu:9999\n", r"line 2.*: endpoint = tcp://dcu:9999  .*text stands in \"quotes\""),
        ("[stream]\n[stream]\n", r"line 2.*: \[stream\]"),
        ('a = "', "Unterminated|end of document"),
        ("a = " + "[" * 5000, "nested too deeply"),
        ("a = " + "1" * 5000, "digits"),
        ("#" * (1 << 18) + "\n", "larger than 262144 bytes"),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(folder: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load(write(folder, text))


def test_what_is_no_text_is_told_with_its_place(folder: Path) -> None:
    (folder / "ringwatch.toml").write_bytes(b"[stream]\xff")
    with pytest.raises(ConfigError, match=r"no UTF-8 text \(byte 8\)"):
        load(folder / "ringwatch.toml")


def test_a_byte_order_mark_is_no_mistake(folder: Path) -> None:
    text = f'\ufeffstream.endpoint = "{ENDPOINT}"\r\ngeometry.poni = "detector.poni"\r\n'
    assert load(write(folder, text)).stream.endpoint == ENDPOINT


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_missing_file_is_told(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(folder / name)


# ----------------------------------------------------------------------------------------------------- everything

NAMES = st.sampled_from(sorted({part for path in keys_of(Config) for part in path.split(".")})) | st.text(max_size=5)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.datetimes()
    | st.sampled_from([ENDPOINT, "detector.poni", "pixel", "auto", 10**400])
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4))


RIGHT_OR_NOT = st.fixed_dictionaries(
    {
        "stream": st.just({"endpoint": ENDPOINT}) | st.dictionaries(NAMES, VALUES, max_size=6),
        "geometry": st.just({"poni": __file__}) | st.dictionaries(NAMES, VALUES, max_size=6),
    }
)
ANYTHING = st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES, max_size=6), max_size=4)


def problems_or_none(mapping: Mapping) -> tuple[str, ...] | None:
    try:
        Config.from_mapping(mapping)
    except ConfigError as error:
        return error.problems
    return None


@settings(deadline=None, max_examples=150)
@given(RIGHT_OR_NOT, ANYTHING)
def test_any_mapping_is_a_configuration_or_a_config_error(sections: Mapping, others: Mapping) -> None:
    problems = problems_or_none(sections | others)
    assert problems is None or (problems and all(problems))


def test_frames_come_from_a_stream_or_from_files(folder: Path) -> None:
    files = Config.from_mapping(
        {"stream": {"follow": "raw/**/scan*/eiger_*.h5::/entry/data"}, "geometry": {"poni": "detector.poni"}}, folder
    )
    assert files.stream.follow == files.stream.source == f"{folder}/raw/**/scan*/eiger_*.h5::/entry/data"
    assert problem_of(folder, stream={"follow": "raw/*.h5"}).endswith(
        "there is an endpoint, too: a series comes either from the stream or from files"
    )
    assert "names one file: write * where" in problem_of(folder, stream={"follow": "raw/eiger_0000.h5"})


@pytest.mark.parametrize("clip", [{"sigma_clip": {"thres": 4}}, {"median_clip": True}])
def test_parts_of_pixels_are_not_clipped(folder: Path, clip: Mapping) -> None:
    problem = problem_of(folder, geometry={"splitting": "full"}, profiles=clip)
    assert problem.startswith(f"profiles: {next(iter(clip))} need whole pixels")
    assert config_of(folder, geometry={"splitting": "full"}, profiles={"quantile": [0.2, 0.8]}).profiles.quantile
    assert config_of(folder, profiles=clip).geometry.splitting == "no"


@pytest.mark.parametrize(
    "profiles", [{"error_model": "poisson"}, {"error_model": "hybrid"}, {"variance": {"gain": 1.0, "readout": 2.0}}]
)
def test_signals_and_noise_of_any_kind_are_split(folder: Path, profiles: Mapping) -> None:
    config = config_of(folder, geometry={"splitting": "bbox", "quantum": 0.5}, profiles=profiles)
    assert (config.geometry.splitting, config.geometry.quantum) == ("bbox", 0.5)
