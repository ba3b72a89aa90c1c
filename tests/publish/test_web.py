import json
import re
import socket
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx2
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from tests.conftest import FakeClock

from ringwatch.errors import PublishError
from ringwatch.messages import Estimate
from ringwatch.publish import api, guard
from ringwatch.publish import web as server
from ringwatch.publish.outlet import OutletFacts
from ringwatch.publish.web import WebPublisher

STATIC = Path(api._STATIC)
FINE = OutletFacts("zeromq", True, "", 0, 0)
DOWN = OutletFacts("hdf5", False, "PublishError: disk full", 4, 2)


@pytest.fixture
def outlets():
    return [FINE]


@pytest.fixture
def web(clock, outlets):
    web = WebPublisher("127.0.0.1:0", clock, lambda: outlets)
    web.open()
    yield web
    web.close()


@pytest.fixture
def http(web):
    with httpx2.Client(base_url=web.url, timeout=5) as client:
        yield client


@pytest.fixture(scope="module")
def quiet():
    """A server that has nothing to tell, for all tests that publish nothing: its end takes 0.2 s."""
    web = WebPublisher("127.0.0.1:0", FakeClock(), lambda: [FINE])
    web.open()
    with httpx2.Client(base_url=web.url, timeout=5) as client:
        yield client
    web.close()


def show(web, *put):
    for result in put:
        web.publish(result)


# ----------------------------------------------------------------------------------------------- page and assets


def test_the_page_and_all_it_needs_come_from_here(quiet):
    page = quiet.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(assets) == 5
    for asset in assets:
        assert asset.startswith("static/")
        assert quiet.get(f"/{asset}").status_code == 200
    assert {"curves.js", "formats.js"} < modules_of(quiet, "page.js")


def modules_of(http, name, found=frozenset()):
    """All that a module imports, and what those do: each must be served."""
    answer = http.get(f"/static/{name}")
    assert answer.status_code == 200
    found |= {name}
    for module in re.findall(r'from "\./(.+?)"', answer.text):
        found = found if module in found else modules_of(http, module, found)
    return found


def test_no_text_becomes_markup():
    for script in STATIC.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", script.read_text())


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere():
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|style=|<script>| on\w+=", page)
    for file in STATIC.glob("*.*"):
        addresses = re.findall(r"https?://[^\s\"')]+", file.read_text())
        assert [one for one in addresses if one != "http://www.w3.org/2000/svg"] == []


def test_every_answer_carries_the_security_headers(quiet):
    for path in ("/", "/api/latest", "/static/page.js", "/nothing/here"):
        headers = quiet.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("path", ["/static/../web.py", "/static/%2e%2e/web.py", "/static/..%2fweb.py", "/static/"])
def test_no_file_outside_the_assets_is_served(quiet, path):
    assert quiet.get(path).status_code == 404


def test_nothing_can_be_changed(quiet):
    for path in ("/", "/api/latest", "/api/history", "/healthz"):
        assert quiet.post(path).status_code == 405


# ---------------------------------------------------------------------------------------------------------- host


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "http://[", "http://127.0.0.1"]
)
def test_another_page_may_not_post(quiet, origin):
    host = f"localhost:{quiet.base_url.port}"
    answer = quiet.post("/api/latest", headers={"host": host, "origin": origin})
    assert (answer.status_code, answer.text) == (400, "Another page asks for this.\n")
    assert "access-control-allow-origin" not in answer.headers


def test_our_own_page_and_scripts_may_post(quiet):
    host = f"localhost:{quiet.base_url.port}"
    for headers in ({"host": host}, {"host": host, "origin": f"http://{host}"}):
        assert quiet.post("/api/latest", headers=headers).status_code == 405, "there is nothing to post there"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "LOCALHOST:1", "[::1]:8080"])
def test_this_machine_by_name_is_answered(quiet, host):
    assert quiet.get("/api/latest", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "10.1.2.3", "", "[", "a@b:x"]
)
def test_a_foreign_name_is_refused(quiet, host):
    answer = quiet.get("/api/latest", headers={"host": host})
    assert answer.status_code == 400
    assert "word" not in answer.text


def test_bound_to_all_addresses_its_own_name_and_any_number_are_answered():
    everywhere = guard.Guard(None, "0.0.0.0")  # noqa: S104 - what a user may configure
    assert everywhere._trusts("10.1.2.3:8080")
    assert everywhere._trusts("[fe80::1]:8080")
    assert everywhere._trusts(socket.gethostname())
    assert not everywhere._trusts("evil.example")


# ----------------------------------------------------------------------------------------------------------- API


def test_latest_tells_the_facts(web, http, results):
    show(web, results.event(), results.rows(), results.snapshot(412), results.status())
    facts = http.get("/api/latest").json()
    assert facts["frame"] == 412
    assert facts["accumulated_spottiness"] == 0.034
    assert facts["frame_spottiness_rings"] is None
    assert facts["sentence"].startswith("Frame 412: the summed rings are uneven by 2.1 %.")
    assert facts["problem"] == ""


def test_history_gives_all_curves_of_a_measure(web, http, results):
    show(web, results.event(), results.rows(n=3), results.snapshot(3))
    history = http.get("/api/history").json()
    assert history["measure"] == "spottiness"
    assert history["frame"] == {"n_frames": [1, 2, 3], "value": [0.25, 0.251, 0.252]}
    assert history["accumulated"] == {"n_frames": [3], "value": [0.034]}
    assert http.get("/api/history?measure=spottiness_rings").json()["union"]["value"] == [0.12]


def test_history_of_a_metric_of_the_summed_image(web, http, results):
    show(web, results.event(), results.measured(412))
    history = http.get("/api/history?measure=ring_uncertainty").json()
    assert history["high"] == {"n_frames": [412], "value": [0.039]}
    assert history["frame"] == {"n_frames": [], "value": []}


def test_latest_and_events_tell_a_decision(web, http, results):
    show(web, results.event(), results.decision())
    assert http.get("/api/latest").json()["sentence"] == results.decision().sentence
    with http.stream("GET", "/api/events") as stream:
        sent = dict(events(stream, 3))
    assert sent["decision"]["forecast"]["seconds"] == 18.0
    assert sent["latest"]["target"] == 0.02


def test_an_unknown_measure_is_named_an_error(quiet):
    answer = quiet.get("/api/history?measure=beauty")
    assert answer.status_code == 400
    assert "spottiness_rings" in answer.json()["error"]


def events(stream, n):
    """The first ``n`` server-sent events as (name, data)."""
    got, name = [], None
    for line in stream.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            got.append((name, json.loads(line.removeprefix("data: "))))
        if len(got) == n:
            return got
    return got


def test_events_bring_the_newest_at_once_and_then_what_changes(web, http, results):
    show(web, results.event(), results.snapshot(1))
    with http.stream("GET", "/api/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        stream.iter_lines = lambda: lines
        first = events(stream, 3)
        assert [name for name, _ in first] == ["series", "snapshot", "latest"]
        assert first[2][1]["frame"] == 1
        show(web, results.rows(40, 2), results.status())
        second = events(stream, 3)
        assert {name for name, _ in second} <= {"frames", "status", "latest"}
        assert dict(second)["frames"]["frame"] == [40, 41]


def test_events_of_some_topics_come_with_the_facts_after_any_change(web, http, results):
    show(web, results.event(), results.snapshot(1))
    with http.stream("GET", "/api/events?topics=snapshot,nonsense") as stream:
        lines = stream.iter_lines()
        stream.iter_lines = lambda: lines
        assert [name for name, _ in events(stream, 2)] == ["snapshot", "latest"]
        show(web, results.status())
        assert [name for name, _ in events(stream, 1)] == ["latest"]


def test_events_are_thinned_to_five_a_second(web, http, results):
    with http.stream("GET", "/api/events") as stream:
        feeding = threading.Event()

        def feed():
            n = 0
            while not feeding.wait(0.002):
                n += 1
                web.publish(results.snapshot(n))

        feeder = threading.Thread(target=feed)
        feeder.start()
        numbers = [data["n_frames"] for name, data in events(stream, 12) if name == "snapshot"]
        feeding.set()
        feeder.join(2)
    assert numbers == sorted(numbers)
    assert numbers[-1] - numbers[0] > 2 * len(numbers)


# -------------------------------------------------------------------------------------------------------- health


def test_health_is_green_while_all_is_well(web, http, results):
    show(web, results.event(), results.snapshot(), results.status())
    answer = http.get("/healthz")
    assert answer.status_code == 200
    health = answer.json()
    assert health["healthy"] is True
    assert health["problems"] == []
    assert health["publishers"] == {"zeromq": "ok"}
    assert health["state"] == "measuring"


def unhealthy(http):
    answer = http.get("/healthz")
    assert answer.status_code == 503
    assert http.get("/api/latest").json()["problem"]
    return answer.json()["problems"]


def test_health_is_red_when_the_poni_does_not_fit_until_the_next_series(web, http, results, other_results):
    show(web, results.event("abandoned", "use the PONI file of this detector"), results.status("waiting"))
    assert unhealthy(http) == ["Series 17 was abandoned: use the PONI file of this detector."]
    show(web, other_results.event())
    assert http.get("/healthz").status_code == 200


def test_a_sample_that_must_not_be_stopped_is_no_illness_of_the_daemon(web, http, results):
    show(web, results.event(), results.measured(), results.decision(reason_code="beam_loss"), results.status())
    assert http.get("/api/latest").json()["word"] == "CHECK SETUP"
    assert http.get("/healthz").status_code == 200


def test_health_is_red_in_error_when_silent_and_when_a_publisher_is_down(web, http, results, clock, outlets):
    show(web, results.status("error", reason="no device"))
    assert unhealthy(http) == ["no device."]
    show(web, results.status())
    clock.advance(11)
    assert unhealthy(http) == ["The daemon has said nothing for 11 s."]
    show(web, results.status())
    outlets.append(DOWN)
    assert unhealthy(http) == ["Publisher hdf5 is down: PublishError: disk full."]


def test_health_is_red_while_results_lag_behind(web, http, results):
    show(web, results.event(), results.status(lag_s=9.0))
    assert http.get("/healthz").status_code == 200
    show(web, results.status(lag_s=12.4))
    assert unhealthy(http) == ["Results are 12 s behind the frames."]
    show(web, results.status(lag_s=0.1))
    assert http.get("/healthz").status_code == 200


def test_health_is_red_once_another_device_had_to_take_over(web, http, results):
    show(web, results.event(), results.status(device="GPU"))
    assert http.get("/healthz").status_code == 200
    show(web, results.status(device="CPU"))
    assert unhealthy(http) == ["The device GPU failed; now it is CPU."]


def test_frames_that_have_to_wait_for_their_monitor_are_no_lag(clock, results):
    web = WebPublisher("127.0.0.1:0", clock, list, waits_s=60.0)
    web.open()
    show(web, results.event(), results.status(lag_s=65.0))
    assert httpx2.get(f"{web.url}/healthz").status_code == 200
    web.close()


def test_the_log_says_where_the_page_is_and_how_others_see_it(clock):
    with structlog.testing.capture_logs() as said:
        for bind in ("127.0.0.1:0", "0.0.0.0:0"):
            web = WebPublisher(bind, clock, list)
            web.open()
            web.close()
    port = httpx2.URL(said[0]["event"].split()[1]).port
    tunnel = f"ssh -L {port}:127.0.0.1:{port} {socket.gethostname()}"
    told = f"(this machine only; from the control room: {tunnel}, or set web.bind)"
    assert said[0]["event"] == f"page: http://127.0.0.1:{port} {told}"
    assert said[1]["event"].endswith("(every machine that reaches this one)")


# ------------------------------------------------------------------------------------------------------- metrics


def metrics(http):
    answer = http.get("/metrics")
    assert answer.status_code == 200
    families = list(text_string_to_metric_families(answer.text))
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}


def test_metrics_equal_the_results(web, http, results, outlets):
    snapshot, status = results.snapshot(412), results.status()
    show(web, results.event(), results.rows(), snapshot, status)
    outlets.append(DOWN)
    values = metrics(http)
    expected = {
        ("ringwatch_frames_total", "received"): snapshot.fates.received,
        ("ringwatch_frames_total", "reduced"): snapshot.fates.reduced,
        ("ringwatch_frames_total", "late"): snapshot.fates.late,
        ("ringwatch_frames_total", "foreign"): snapshot.fates.foreign,
        ("ringwatch_frames_total", "duplicate"): snapshot.fates.duplicate,
        ("ringwatch_frames_total", "malformed"): snapshot.fates.malformed.total(),
        ("ringwatch_frames_total", "skipped"): snapshot.fates.skipped,
        ("ringwatch_frames_total", "excluded"): snapshot.fates.excluded.total(),
        ("ringwatch_missing_frames",): snapshot.missing,
        ("ringwatch_accumulated_frames",): snapshot.n_frames,
        ("ringwatch_spottiness_ratio", "spottiness", "union"): snapshot.union.spottiness,
        ("ringwatch_spottiness_ratio", "accumulated", "spottiness_rings"): 0.021,
        ("ringwatch_spottiness_ratio", "averaged", "spottiness_weighted"): 0.061,
        ("ringwatch_spottiness_ratio", "frame", "spottiness"): results.rows().spottiness[-1],
        ("ringwatch_frames_per_second",): status.fps,
        ("ringwatch_lag_seconds",): status.lag_s,
        ("ringwatch_backlog_bytes",): status.backlog_bytes,
        ("ringwatch_last_data_timestamp_seconds",): snapshot.time_ns / 1e9,
        ("ringwatch_series_info", "17", "LaB6", "s17"): 1,
        ("ringwatch_publisher_healthy_bool", "zeromq"): 1,
        ("ringwatch_publisher_healthy_bool", "hdf5"): 0,
        ("ringwatch_publisher_failures_total", "hdf5"): 4,
        ("ringwatch_publisher_dropped_total", "hdf5"): 2,
    }
    assert {name: values[name] for name in expected} == expected
    assert ("ringwatch_spottiness_ratio", "averaged", "spottiness_rings") not in values
    assert ("ringwatch_spottiness_ratio", "frame", "spottiness_rings") not in values
    assert ("ringwatch_detector_dropped_frames",) not in values


def test_metrics_of_statistics_and_decision(web, http, results):
    show(web, results.event(), results.measured(), results.decision())
    values = metrics(http)
    expected = {
        ("ringwatch_ring_uncertainty_ratio", "value"): 0.034,
        ("ringwatch_independent_frames", "low"): 41,
        ("ringwatch_photon_share_ratio", "high"): 0.9,
        ("ringwatch_decision_info", "above_target", "continue", "ring_uncertainty"): 1,
        ("ringwatch_decision_value_ratio", "ring_uncertainty", "value"): 0.034,
        ("ringwatch_decision_target_ratio", "ring_uncertainty"): 0.02,
        ("ringwatch_decision_stop_bool",): 0,
        ("ringwatch_forecast_frames", "value"): 1190,
        ("ringwatch_forecast_seconds", "low"): 11,
        ("ringwatch_forecast_never_ratio",): 0.04,
    }
    assert {name: values[name] for name in expected} == expected
    show(web, results.decision(reason_code="reached"))
    assert metrics(http)["ringwatch_decision_stop_bool",] == 1
    spots = {"metric": "spots", "value": 60.0, "target": 100.0, "low": None, "high": None}
    show(web, results.decision(**spots), results.stop("failed"))
    values = metrics(http)
    assert values["ringwatch_decision_value_spots", "spots", "value"] == 60
    assert values["ringwatch_stop_info", "failed", "simplon"] == 1
    assert ("ringwatch_decision_value_spots", "spots", "low") not in values


def test_metrics_leave_out_what_is_not_known(web, http, results):
    nothing = Estimate(float("nan"), 0.0, 1.0)
    show(web, results.event(), results.measured(measures={}, independent_frames=None, photon_share=nothing))
    show(web, results.decision(value=None, forecast=None))
    names = {name for name, *_ in metrics(http)}
    assert not names & {"ringwatch_ring_uncertainty_ratio", "ringwatch_independent_frames"}
    assert "ringwatch_photon_share_ratio" not in names, "no interval of what is not known"
    assert not names & {"ringwatch_decision_value_ratio", "ringwatch_forecast_frames", "ringwatch_score_frames"}
    assert "ringwatch_decision_target_ratio" in names


def test_metrics_before_the_first_result_have_no_numbers_of_a_series(quiet):
    names = {name for name, *_ in metrics(quiet)}
    assert names == {
        "ringwatch_frames_total",
        "ringwatch_publisher_healthy_bool",
        "ringwatch_publisher_failures_total",
        "ringwatch_publisher_dropped_total",
    }


def test_hostile_names_cannot_break_the_format(web, http, results):
    from ringwatch.messages import Origin, SeriesEvent

    origin = Origin(1, 'u"\n}', 'a"b\\c\nringwatch_evil_total 1', 1, "")
    event = results.event()
    show(web, SeriesEvent(origin, 0, "start", "", {}, event.radial, event.edges, "", True))
    assert ("ringwatch_series_info", "1", origin.sample, origin.unique_id) in metrics(http)


# ---------------------------------------------------------------------------------------- slow, idle and too many


@pytest.fixture
def hasty(monkeypatch, clock):
    """A server that waits for a request for 0.2 s only; its address."""
    monkeypatch.setattr(server, "REQUEST_S", 0.2)
    web = WebPublisher("127.0.0.1:0", clock, lambda: [FINE])
    web.open()
    yield "127.0.0.1", httpx2.URL(web.url).port
    web.close()


def hung_up(connection):
    """Whether the server ends the connection; what it says before does not count."""
    connection.settimeout(5)
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


HEAD = b"GET /api/latest HTTP/1.1\r\nHost: localhost\r\n"
BODY = b"POST /api/stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n{"


@pytest.mark.parametrize("sent", [b"", b"G", HEAD, HEAD + b"\r\n" + HEAD, BODY])
def test_a_request_that_does_not_come_is_not_waited_for(hasty, sent):
    with socket.create_connection(hasty) as connection:
        connection.sendall(sent)
        assert hung_up(connection)


def dripped_in_vain(connection):
    """Whether the server hangs up on somebody who sends a byte now and then."""
    connection.settimeout(0.02)
    for _ in range(500):
        try:
            connection.sendall(b"G")
            if not connection.recv(1):
                return True
        except TimeoutError:
            pass
        except ConnectionError:
            return True
    return False


def test_a_request_that_drips_is_not_waited_for(hasty):
    with socket.create_connection(hasty) as connection:
        assert dripped_in_vain(connection)


def test_pages_that_watch_and_scripts_that_come_again_are_no_late_requests(hasty):
    address = f"http://{hasty[0]}:{hasty[1]}"
    with httpx2.Client(base_url=address, timeout=5) as client, client.stream("GET", "/api/events") as events:
        chunks = events.iter_text()
        for _ in range(3):
            assert client.get("/api/latest").status_code == 200
            threading.Event().wait(0.1)
        assert next(chunks)
        assert client.get("/api/wait", params={"timeout_s": 0.5}).json()["outcome"] == "timeout"


def test_a_head_of_any_length_is_not_kept(quiet):
    with socket.create_connection(("127.0.0.1", quiet.base_url.port)) as connection:
        with suppress(ConnectionError):
            connection.sendall(HEAD + b"X: " + b"x" * (server.MAX_HEAD_BYTES + 70_000))
        assert hung_up(connection)


def test_sockets_are_left_for_files(monkeypatch, clock):
    monkeypatch.setattr(server, "MAX_SOCKETS", 2)
    web = WebPublisher("127.0.0.1:0", clock, list)
    web.open()
    address = "127.0.0.1", httpx2.URL(web.url).port
    with ExitStack() as stack:
        first, second, third = (stack.enter_context(socket.create_connection(address)) for _ in range(3))
        assert hung_up(third)
        first.close()
        second.sendall(HEAD + b"\r\n")
        second.settimeout(5)
        assert b"200 OK" in second.recv(100)
    web.close()


# ---------------------------------------------------------------------------------------------------------- life


def test_it_stops_quickly_with_a_page_open_and_frees_its_port(web, http):
    server = web._thread
    with http.stream("GET", "/api/events"):
        web.close()
    assert server not in threading.enumerate()
    with socket.create_server(("127.0.0.1", httpx2.URL(web.url).port)):
        pass


def test_it_opens_again_with_what_it_knew(web, results):
    show(web, results.event(), results.snapshot(412))
    web.close()
    with pytest.raises(PublishError, match="ended"):
        web.publish(results.status())
    web.open()
    assert httpx2.get(f"{web.url}/api/latest").json()["frame"] == 412


@pytest.mark.parametrize("bind", ["127.0.0.1:http", "127.0.0.1:99999", "300.1.1.1:0", "nonsense"])
def test_an_impossible_address_is_said(clock, bind):
    web = WebPublisher(bind, clock, list)
    with pytest.raises(PublishError, match=f"cannot serve the page on {bind}"):
        web.open()
    web.close()


def test_a_taken_port_is_said(clock, web):
    with pytest.raises(PublishError, match="in use"):
        WebPublisher(web.url.removeprefix("http://"), clock, list).open()
