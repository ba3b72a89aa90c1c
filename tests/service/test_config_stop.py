"""What may stand in [rings] and [stop], and what is said about a mistake there."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringwatch.config import GROWING_METRICS, Config, FilesConfig, RingsConfig, StopConfig
from ringwatch.errors import ConfigError

Keys = dict[str, Any]
HERE = Path(__file__).parent
ENOUGH: Keys = {"metric": "spottiness_rings", "target": 0.05}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "detector.poni").write_text("Distance: 0.1\n")
    (tmp_path / "sample.D").write_text("3.1\n1.9\n")
    return tmp_path


def config_of(folder: Path, **sections: Keys) -> Config:
    required = {"stream": {"endpoint": "tcp://10.1.2.3:9999"}, "geometry": {"poni": "detector.poni"}}
    return Config.from_mapping(required | sections, folder)


def rings_of(folder: Path, **keys: object) -> RingsConfig:
    return config_of(folder, rings=keys).rings


def stop_of(folder: Path, **keys: object) -> StopConfig:
    stop = config_of(folder, stop=keys).stop
    assert stop is not None
    return stop


def problems_of(folder: Path, **sections: Keys) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        config_of(folder, **sections)
    return caught.value.problems


# -------------------------------------------------------------------------------------------------------- the rings


@pytest.mark.parametrize("name", ["CeO2", "LaB6_SRM660c", "alpha_Al2O3_SRM676a_2015"])
def test_a_calibrant_may_be_a_name(folder: Path, name: str) -> None:
    assert rings_of(folder, calibrant=name).calibrant == name


def test_a_calibrant_may_be_a_file_relative_to_the_configuration(folder: Path) -> None:
    assert rings_of(folder, calibrant="sample.D").calibrant == f"{folder}/sample.D"


def test_d_spacings_may_come_in_any_order(folder: Path) -> None:
    assert rings_of(folder, d_spacings_A=[1.9, 3.1, 2]).d_spacings_A == (1.9, 3.1, 2.0)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"calibrant": "none.D"}, 'rings.calibrant = "none.D": no such file: {folder}/none.D'),
        ({"calibrant": ""}, 'rings.calibrant = "": no such file: {folder}'),
        ({"calibrant": 5}, "rings.calibrant = 5: should be text"),
        ({"d_spacings_A": []}, "rings.d_spacings_A = []: should be a list of 1 to 63 numbers above 0"),
        ({"d_spacings_A": [1.9, 0]}, "rings.d_spacings_A = [1.9, 0]: should be a list of 1 to 63 numbers above 0"),
        ({"d_spacings_A": ["1.9"]}, 'rings.d_spacings_A = ["1.9"]: should be a list of 1 to 63 numbers above 0'),
        ({"d_spacings_A": 1.9}, "rings.d_spacings_A = 1.9: should be a list of 1 to 63 numbers above 0"),
        ({"d_spacings_A": [2, 1.9, 2.0]}, "rings.d_spacings_A = [2, 1.9, 2.0]: names 2.0 more than once"),
        (
            {"calibrant": "CeO2", "d_spacings_A": [1.9]},
            "rings.d_spacings_A = [1.9]: calibrant says where the rings are, too; leave out one of the two",
        ),
    ],
)
def test_a_mistake_about_the_rings_is_told(folder: Path, keys: Keys, expected: str) -> None:
    assert problems_of(folder, rings=keys) == (expected.format(folder=folder),)


def test_63_rings_are_the_most(folder: Path) -> None:
    assert len(rings_of(folder, d_spacings_A=list(range(1, 64))).d_spacings_A or ()) == 63
    (problem,) = problems_of(folder, rings={"d_spacings_A": list(range(1, 65))})
    assert problem.endswith("should be a list of 1 to 63 numbers above 0")


# --------------------------------------------------------------------------------------------------------- the rule


def test_metric_and_target_are_enough_and_all_others_have_the_documented_defaults(folder: Path) -> None:
    stop = stop_of(folder, **ENOUGH)
    assert stop.criteria == (("spottiness_rings", 0.05),)
    assert (stop.combine, stop.confidence, stop.rearm, stop.rings_fraction) == ("all", 0.95, 1.15, 0.8)
    assert (stop.min_frames, stop.min_time_s, stop.min_independent_frames, stop.min_spots) == (16, 2, 5, 50)
    assert (stop.max_frames, stop.max_time_s, stop.on_never, stop.allow_static) == (None, None, "continue", False)


@pytest.mark.parametrize(
    ("metric", "target", "criteria"),
    [
        (["excess", "spots"], [0.02, 500], (("excess", 0.02), ("spots", 500.0))),
        (["counts"], 1, (("counts", 1.0),)),
        ("ring_uncertainty", [0.99], (("ring_uncertainty", 0.99),)),
    ],
)
def test_several_metrics_have_a_target_each(
    folder: Path, metric: object, target: object, criteria: tuple[tuple[str, float], ...]
) -> None:
    assert stop_of(folder, metric=metric, target=target).criteria == criteria


def test_the_metrics_that_grow_are_told_apart(folder: Path) -> None:
    assert {metric for metric, _ in stop_of(folder, metric=["spots", "counts"], target=[9, 9]).criteria} == (
        GROWING_METRICS
    )


def test_recorded_frames_may_be_decided_on_too() -> None:
    config = FilesConfig.model_validate({"geometry": {"poni": Path(__file__)}, "stop": ENOUGH})
    assert config.stop == StopConfig(metric="spottiness_rings", target=0.05)
    assert config.rings == RingsConfig()


def test_a_metric_and_a_target_must_be_named(folder: Path) -> None:
    metric, target = problems_of(folder, stop={})
    assert metric.startswith("stop.metric is missing: What is compared with the target; it has no default; for example")
    assert metric.endswith('metric = "spottiness_rings"')
    assert target.startswith("stop.target is missing: The value of the metric that is good enough")
    assert target.endswith("target = 0.05")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"metric": "union"}, '.metric = "union": should be "spottiness" or "spottiness_weighted" or '),
        ({"metric": "union"}, '"counts" or a list of 1 to 8 of these'),
        ({"metric": []}, ".metric = []: should be "),
        ({"metric": ["excess", 5]}, '.metric = ["excess", 5]: should be '),
        (
            {"metric": ["excess", "excess"], "target": [0.1, 0.2]},
            '.metric = ["excess", "excess"]: names excess more than once',
        ),
        ({"target": 0}, ".target = 0: should be a number above 0 or a list of 1 to 8 of these"),
        ({"target": "5 %"}, '.target = "5 %": should be a number above 0 or a list'),
        ({"target": ["0.1"]}, '.target = ["0.1"]: should be a number above 0 or a list'),
        (
            {"target": 2},
            ".target = 2: spottiness_rings is a fraction, its target should be below 1: 0.02 means 2 %",
        ),
        ({"target": 1.0}, "should be below 1: 0.02 means 2 %"),
        (
            {"metric": ["excess", "spots"], "target": [0.02, 0.5]},
            ".target = [0.02, 0.5]: spots is a number of spots, its target should be at least 1",
        ),
        (
            {"metric": ["excess", "spots"], "target": 0.02},
            ".target = 0.02: metric and target should be equally many; there are 2 and 1",
        ),
        ({"target": [0.02, 0.03]}, "should be equally many; there are 1 and 2"),
        ({"combine": "both"}, '.combine = "both": should be "all" or "any"'),
        ({"confidence": 95}, ".confidence = 95: should be a number above 0.5 and below 1"),
        ({"confidence": 0.5}, ".confidence = 0.5: should be a number above 0.5 and below 1"),
        ({"rearm": 0.9}, ".rearm = 0.9: should be a number from 1 up to 100"),
        ({"min_frames": 0}, ".min_frames = 0: should be a whole number from 1 up to 1000000000"),
        ({"min_frames": 16.0}, ".min_frames = 16.0: should be a whole number"),
        ({"min_time_s": -1}, ".min_time_s = -1: should be a number from 0 up to 1000000"),
        ({"min_independent_frames": 0}, ".min_independent_frames = 0: should be a number from 1"),
        ({"min_spots": -1}, ".min_spots = -1: should be a number from 0"),
        ({"rings_fraction": 80}, ".rings_fraction = 80: should be a number above 0 up to 1"),
        ({"max_frames": 0}, ".max_frames = 0: should be a whole number from 1"),
        (
            {"max_frames": 15},
            ".max_frames = 15: is less than min_frames = 16, so that the metric would never decide",
        ),
        (
            {"min_time_s": 5.5, "max_time_s": 5},
            ".max_time_s = 5: is less than min_time_s = 5.5, so that the metric would never decide",
        ),
        ({"max_time_s": 0}, ".max_time_s = 0: should be a number above 0"),
        ({"on_never": "abort"}, '.on_never = "abort": should be "continue" or "stop"'),
        ({"allow_static": 1}, ".allow_static = 1: should be true or false"),
        ({"whom": "detector"}, ".whom: unknown; known here: allow_static, combine, command, confidence, dry_run"),
        ({"via": "detector"}, '.via = "detector": should be "none" or "http" or "command" or "simplon" or "epics"'),
        ({"via": "http"}, '.via = "http": "http" needs url'),
        ({"via": "simplon"}, '.via = "simplon": "simplon" needs url'),
        ({"via": "command"}, '.via = "command": "command" needs command'),
        ({"via": "epics"}, '.via = "epics": "epics" needs pv'),
        ({"url": "10.1.2.3"}, '.url = "10.1.2.3": should be http://HOST'),
        ({"url": "http://a b"}, '.url = "http://a b": should be http://HOST'),
        ({"url": "http://me:secret@host"}, "without a password"),
        ({"url": "http://host:99999"}, "should be http://HOST"),
        ({"url": "http://[::1"}, "should be http://HOST"),
        ({"url": "file:///etc/passwd"}, "should be http://HOST"),
        ({"command": []}, ".command = []: should be a list of 1 to 64 texts"),
        ({"command": "stop_scan now"}, ".command = "),
        ({"pv": "a b"}, '.pv = "a b": should be text'),
        ({"timeout_s": 0}, ".timeout_s = 0: should be a number above 0 up to 600"),
        ({"min_frame": 3}, ".min_frame: unknown, did you mean stop.min_frames?"),
    ],
)
def test_a_mistake_about_the_rule_is_told(folder: Path, keys: Keys, expected: str) -> None:
    (problem,) = problems_of(folder, stop=ENOUGH | keys)
    assert problem.startswith("stop.")
    assert expected in problem


def test_a_wrong_metric_is_told_once_whatever_its_target(folder: Path) -> None:
    (problem,) = problems_of(folder, stop={"metric": ["excess", "union"], "target": 500})
    assert problem.startswith('stop.metric = ["excess", "union"]: should be')


def test_stop_is_a_section(folder: Path) -> None:
    assert problems_of(folder, stop=5) == ("stop should be a section: a line [stop], and its keys below",)  # type: ignore[arg-type]


SOME = st.sampled_from(["counts", 0.02, "spots", "excess", "union", 0.5, 3, 0, 10**400, None, True, float("nan")])
SOME_OR_LIST = SOME | st.lists(SOME, max_size=3)


@settings(deadline=None, max_examples=100)
@given(st.fixed_dictionaries({"metric": SOME_OR_LIST, "target": SOME_OR_LIST}))
def test_any_metric_and_target_are_criteria_or_a_config_error(keys: Keys) -> None:
    try:
        stop = config_of(HERE, stop=keys, geometry={"poni": __file__}).stop
    except ConfigError as error:
        told = error.problems
    else:
        told = ()
        assert stop is not None
        assert all(target >= 1 if metric in GROWING_METRICS else 0 < target < 1 for metric, target in stop.criteria)
    assert all(problem.startswith(("stop.metric = ", "stop.target = ")) for problem in told)
