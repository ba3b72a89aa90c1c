"""What pages draw: profiles and the summed image, each only once it is asked for."""

from dataclasses import replace

import httpx2
import numpy as np
import pytest
from tests.publish.conftest import TIME_NS

from ringwatch.messages import SmallImage
from ringwatch.publish.web import WebPublisher


@pytest.fixture
def web(clock):
    web = WebPublisher("127.0.0.1:0", clock, list)
    web.open()
    yield web
    web.close()


@pytest.fixture
def http(web):
    with httpx2.Client(base_url=web.url, timeout=5) as client:
        yield client


def image(results, n_frames=5, time_ns=TIME_NS):
    counts = np.array([[1.5, np.nan, 3.0], [4.0, 5.0, 6.0]], np.float32)
    return SmallImage(results.origin, time_ns, n_frames, counts, np.arange(6, dtype=np.uint16).reshape(2, 3))


def test_profiles_are_those_of_the_summed_image_where_there_are_such(web, http, results):
    web.publish(results.event())
    union, summed = results.profile("mean", "union"), results.profile("mean", "accumulated", n_frames=7)
    for profile in (summed, union, replace(results.profile("quantile"), warning="too few counts")):
        web.publish(profile)
    told = http.get("/api/profiles").json()
    assert told["profiles"]["mean"]["source"] == "accumulated"
    assert told["profiles"]["mean"]["n_frames"] == 7
    assert told["profiles"]["quantile"]["warning"] == "too few counts"
    assert told["unit"] == "2th_deg"
    np.testing.assert_allclose(told["radial"], results.event().radial, rtol=1e-5)


def test_bins_without_a_pixel_are_unknown_not_zero(web, http, results):
    web.publish(results.event())
    web.publish(replace(results.profile(), count=np.array([0.0, 1.0, 1.0, 1.0])))
    intensity = http.get("/api/profiles").json()["profiles"]["mean"]["intensity"]
    assert intensity[0] is None
    np.testing.assert_allclose(intensity[1:], results.profile().intensity[1:], rtol=1e-5)


def test_profiles_of_the_series_before_are_forgotten(web, http, results, other_results):
    web.publish(results.event())
    web.publish(results.profile())
    web.publish(other_results.event())
    assert http.get("/api/profiles").status_code == 204


def test_the_image_comes_as_raw_numbers(web, http, results):
    web.publish(results.event())
    web.show(image(results))
    answer = http.get("/api/image")
    counts = np.frombuffer(answer.content, "<f4").reshape([int(n) for n in answer.headers["Ringwatch-Shape"].split()])
    np.testing.assert_array_equal(counts, image(results).counts)
    assert answer.headers["Ringwatch-Frames"] == "5"
    assert answer.headers["Ringwatch-Bins"] == "4"
    bins = np.frombuffer(http.get("/api/image?of=bins").content, "<u2")
    assert bins.tolist() == [0, 1, 2, 3, 4, 5]
    assert http.get("/api/image?of=beauty").status_code == 400


def test_what_has_not_changed_is_not_sent_again(web, http, results):
    web.publish(results.event())
    web.publish(results.profile())
    web.show(image(results))
    for path in ("/api/profiles", "/api/image", "/api/image?of=bins"):
        tag = http.get(path).headers["etag"]
        again = http.get(path, headers={"if-none-match": tag})
        assert (again.status_code, again.content) == (304, b"")
    web.show(image(results, 6, TIME_NS + 1))
    assert http.get("/api/image", headers={"if-none-match": '"counts-1700000000000000000"'}).status_code == 200


def test_an_image_of_another_series_is_not_shown(web, http, results, other_results):
    web.publish(results.event())
    web.show(image(other_results))
    assert http.get("/api/image").status_code == 204


def test_an_image_of_a_later_block_is_shown(web, http, results):
    web.publish(results.event())
    web.show(replace(image(results), origin=replace(results.origin, generation=2)))
    assert http.get("/api/image").status_code == 200


def test_somebody_watches_for_a_while_after_asking(web, http, clock):
    assert not web.is_watching
    http.get("/api/latest")
    assert not web.is_watching
    http.get("/api/image")
    assert web.is_watching
    clock.advance(16)
    assert not web.is_watching
