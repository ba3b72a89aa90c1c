import numpy as np
import pytest

from ringwatch import wire
from ringwatch.publish.payload import payload

ENVELOPE = ["schema", "type", "seq", "series", "unique_id", "sample", "generation", "digest", "time_ns"]
SPOTTINESS = {"spottiness", "spottiness_weighted", "spottiness_rings", "spottiness_class", "class_reason"}
FATES = {"received", "reduced", "late", "foreign", "duplicate", "malformed", "malformed_reasons", "skipped", "excluded"}
FATES |= {"excluded_reasons", "missing", "detector_dropped"}
PROFILE = {"kind", "source", "window", "n_frames", "radial", "intensity", "std", "sem", "signal", "variance"}
PROFILE |= {"normalization", "norm_sq", "count"}


def fields(result):
    message = wire.decode(wire.encode(payload(result, 5)))
    assert list(message)[: len(ENVELOPE)] == ENVELOPE
    assert message["schema"] == 1
    assert message["seq"] == 5
    return message


@pytest.mark.parametrize("kind", ["event", "rows", "snapshot", "profile"])
def test_every_message_says_what_it_belongs_to(results, kind):
    message = fields(getattr(results, kind)())
    assert message["series"] == 17
    assert message["unique_id"] == "s17"
    assert message["sample"] == "LaB6"
    assert message["generation"] == 1
    assert message["digest"] == "d1ce57"


def test_a_series_event(results):
    message = fields(results.event("abandoned", "why"))
    assert message.keys() - set(ENVELOPE) == {"event", "reason", "header", "radial", "edges", "unit", "exact"}
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
    assert message.keys() - set(ENVELOPE) == names
    for name in names:
        assert message[name].dtype == getattr(rows, name).dtype
        assert np.array_equal(message[name], getattr(rows, name), equal_nan=name.startswith("spottiness"))


def test_a_snapshot(results):
    message = fields(results.snapshot(412))
    assert message["type"] == "snapshot"
    assert message.keys() - set(ENVELOPE) == {"n_frames", "frames_expected", "union", "accumulated"} | FATES
    assert message["union"].keys() == SPOTTINESS
    assert message["accumulated"].keys() == SPOTTINESS | {"n_frames", "averaged"}
    assert message["accumulated"]["averaged"].keys() == SPOTTINESS
    assert message["union"]["spottiness"] == 0.163
    assert message["accumulated"]["averaged"]["spottiness_rings"] is None
    assert message["malformed"] == 6
    assert message["malformed_reasons"] == {"truncated": 5, "shape": 1}
    assert message["excluded"] == 2
    assert message["missing"] == 9
    assert message["detector_dropped"] is None


def test_a_snapshot_without_a_summed_image(results):
    assert fields(results.snapshot(accumulated=None))["accumulated"] is None


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
