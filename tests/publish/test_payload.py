import dataclasses

import numpy as np
import pytest

from ringwatch import wire
from ringwatch.messages import Decision, RingTable, Statistics
from ringwatch.publish.payload import frame_profiles, payload

ENVELOPE = ["schema", "type", "seq", "series", "unique_id", "sample", "generation", "digest"]
ENVELOPE += ["accumulation", "time_ns"]
SPOTTINESS = {"spottiness", "spottiness_weighted", "spottiness_rings", "spottiness_class", "class_reason"}
FATES = {"received", "reduced", "late", "foreign", "duplicate", "malformed", "malformed_reasons", "skipped", "excluded"}
FATES |= {"excluded_reasons", "missing", "detector_dropped"}
PROFILE = {
    "kind",
    "source",
    "window",
    "n_frames",
    "warning",
    "error_model",
    "radial",
    "intensity",
    "std",
    "sem",
    "signal",
    "variance",
}
PROFILE |= {"normalization", "norm_sq", "count"}


def fields(result):
    message = wire.decode(wire.encode(payload(result, 5)))
    assert list(message)[: len(ENVELOPE)] == ENVELOPE
    assert message["schema"] == 1
    assert message["seq"] == 5
    return message


@pytest.mark.parametrize("kind", ["event", "rows", "snapshot", "profile", "decision", "stop"])
def test_every_message_says_what_it_belongs_to(results, kind):
    message = fields(getattr(results, kind)())
    assert message["series"] == 17
    assert message["unique_id"] == "s17"
    assert message["sample"] == "LaB6"
    assert message["generation"] == 1
    assert message["digest"] == "d1ce57"
    assert message["accumulation"] == "s17"


def test_a_series_event(results):
    message = fields(results.event("abandoned", "why"))
    names = {"event", "reason", "header", "radial", "edges", "unit", "exact", "setup", "sums_shape"}
    assert message.keys() - set(ENVELOPE) == names
    assert message["setup"] is None
    assert message["type"] == "series"
    assert message["event"] == "abandoned"
    assert message["header"] == {"nimages": 100, "energy": 65000.0, "name": "détecteur", "flat": None}
    assert np.array_equal(message["edges"], results.event().edges)
    assert message["exact"] is True


def test_rows_of_frames(results):
    rows = results.rows(40, 3)
    message = fields(rows)
    names = {"frame", "spottiness", "spottiness_weighted", "spottiness_rings", "total_signal", "masked_pixels"}
    assert message["type"] == "frames"
    assert message.keys() - set(ENVELOPE) == names | {"monitor"}
    assert message["monitor"] is None
    for name in names:
        assert message[name].dtype == getattr(rows, name).dtype
        assert np.array_equal(message[name], getattr(rows, name), equal_nan=name.startswith("spottiness"))


def test_a_snapshot(results):
    message = fields(results.snapshot(412))
    assert message["type"] == "snapshot"
    names = {"n_frames", "frames_expected", "window", "union", "accumulated", "saturated_pixels", "beam_down_since"}
    assert message.keys() - set(ENVELOPE) == names | FATES
    assert message["union"].keys() == SPOTTINESS
    assert message["accumulated"].keys() == SPOTTINESS | {"n_frames", "averaged", "statistics"}
    assert message["accumulated"]["statistics"]["measures"] == {}
    assert message["accumulated"]["averaged"].keys() == SPOTTINESS
    assert message["union"]["spottiness"] == 0.163
    assert message["accumulated"]["averaged"]["spottiness_rings"] is None
    assert message["malformed"] == 6
    assert message["malformed_reasons"] == {"truncated": 5, "shape": 1}
    assert message["excluded"] == 2
    assert message["missing"] == 9
    assert message["detector_dropped"] is None


def test_a_snapshot_of_single_frames_has_no_union(results):
    message = fields(results.snapshot(union=None, accumulated=None, window="none"))
    assert (message["union"], message["accumulated"], message["window"]) == (None, None, "none")


def test_an_accumulation_over_several_series_is_named_by_the_first(results):
    rows = results.rows()
    message = fields(dataclasses.replace(rows, origin=dataclasses.replace(rows.origin, accumulation="s12")))
    assert (message["unique_id"], message["accumulation"]) == ("s17", "s12")


def test_rows_say_what_they_were_weighed_with(results):
    rows = dataclasses.replace(results.rows(), monitor=np.array([1.0, 0.5, 2.0]))
    assert fields(rows)["monitor"].tolist() == [1.0, 0.5, 2.0]


def test_a_snapshot_without_a_summed_image(results):
    assert fields(results.snapshot(accumulated=None))["accumulated"] is None


def test_statistics_are_part_of_the_summed_image(results):
    known = fields(results.measured(412))["accumulated"]["statistics"]
    assert known.keys() == {field.name for field in dataclasses.fields(Statistics)}
    assert known["n_frames"] == 412
    assert known["measures"].keys() == {"spottiness_rings", "excess", "ring_uncertainty", "spots"}
    assert known["measures"]["excess"] == {"value": -0.001, "low": -0.004, "high": 0.002, "bound": None}
    assert known["measures"]["spots"] == {"value": 50.0, "low": 50.0, "high": None, "bound": "lower"}
    assert known["independent_frames"]["value"] == 58.0
    assert known["repeating_fraction"] is None
    assert known["photon_share"]["value"] == 0.75
    assert np.array_equal(known["bin_spottiness"], [0.02, np.nan, 0.03, np.nan], equal_nan=True)


def test_rings_are_arrays_of_one_length(results):
    rings = fields(results.measured())["accumulated"]["statistics"]["rings"]
    assert rings.keys() == {field.name for field in dataclasses.fields(RingTable)}
    assert {column.shape for column in rings.values()} == {(2,)}
    assert rings["d_spacing_A"].tolist() == [1.25, 2.5]
    assert rings["spots_bound"].tolist() == [0, 1]
    assert np.isnan(rings["uncertainty"][1])
    assert fields(results.measured(rings=None))["accumulated"]["statistics"]["rings"] is None


def test_a_decision(results):
    message = fields(results.decision(412))
    assert message["type"] == "decision"
    names = {field.name for field in dataclasses.fields(Decision)} - {"origin", "time_ns"}
    assert message.keys() - set(ENVELOPE) == names
    assert (message["metric"], message["reason_code"], message["action"]) == (
        "ring_uncertainty",
        "above_target",
        "continue",
    )
    assert message["armed"] is False
    assert message["sentence"] == results.decision().sentence
    assert message["forecast"] == {
        "frames": 1190.0, "low": 870.0, "high": None, "seconds": 18.0, "seconds_low": 11.0, "seconds_high": None,
        "p_never": 0.04, "settles_at": {"value": 0.011, "low": 0.0, "high": 0.015, "bound": None}, "limit": "grains",
    }  # fmt: skip
    assert message["score"] is None


def test_a_stop_report(results):
    message = fields(results.stop("failed", "I asked the detector to stop."))
    assert message["type"] == "stop"
    assert {name: message[name] for name in message.keys() - set(ENVELOPE)} == {
        "n_frames": 412,
        "via": "simplon",
        "state": "failed",
        "sentence": "I asked the detector to stop.",
    }


def test_a_decision_that_could_not_be_made_has_no_numbers(results):
    message = fields(results.decision(value=None, low=float("nan"), forecast=None, reason_code="over"))
    assert message["value"] is None
    assert message["low"] is None
    assert message["forecast"] is None
    assert message["score"] == {"n_frames": 700, "value": 0.019, "final_value": 0.008}


def test_rows_are_told_without_their_profiles(results):
    assert payload(results.profiled(), 3).keys() == payload(results.rows(), 3).keys()


def test_profiles_of_frames(results):
    message = frame_profiles(results.profiled(7, 2), 3)
    assert message.keys() - set(ENVELOPE) == {"frame", "kind", "intensity", "sem"}
    assert (message["type"], message["seq"], message["frame"].tolist()) == ("frame_profiles", 3, [7, 8])
    with pytest.raises(ValueError, match="without profiles"):
        frame_profiles(results.rows(), 3)


def test_a_profile(results):
    message = fields(results.profile(source="accumulated"))
    assert message["type"] == "profile"
    assert message.keys() - set(ENVELOPE) == PROFILE
    assert np.array_equal(message["norm_sq"], results.profile().norm_sq)


def test_the_status_belongs_to_no_series(results):
    message = fields(results.status())
    assert message["type"] == "status"
    assert message["series"] is None
    assert message["fps"] == 200.0
    assert message["totals"] == {"series": 3, "frames": 1234}
