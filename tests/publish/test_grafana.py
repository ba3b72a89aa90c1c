"""config/grafana: every query finds what a web publisher really exposes, and every alert fires when it should."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.conftest import FakeClock

from ringwatch.messages import Estimate, Metric, Reason, Snapshot, Status, StopState
from ringwatch.publish.outlet import OutletFacts
from ringwatch.publish.web import WebPublisher

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "config" / "grafana"
ALERTS, CASES = GRAFANA / "alerts.yaml", Path(__file__).with_name("alerts_test.yaml")
DASHBOARD = json.loads((GRAFANA / "ringwatch.json").read_text())
UNITS = r"(total|info|seconds|bytes|frames|ratio|spots|counts|crystallites|per_second|bool)"

Sample = tuple[str, dict[str, str], float]


def queries() -> list[str]:
    """What the panels ask for."""
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def choices() -> list[str]:
    """What the selectors above the panels ask for."""
    return [one["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]


def alerts() -> dict[str, str]:
    text = ALERTS.read_text()
    return dict(re.findall(r"alert: (\w+)\n(?: +#.*\n)* +expr: (.+)\n", text))


@pytest.fixture(scope="module")
def exposed(results) -> list[Sample]:
    """All samples of a web publisher that has seen one result of each kind, as Prometheus stores them."""
    web = WebPublisher("127.0.0.1:0", FakeClock(), lambda: [OutletFacts("hdf5", False, "disk full", 4, 2)])
    web.open()
    known = results.decision(reason_code="over")
    shown = (results.event(), results.rows(), all_measured(results), known, results.stop(), results.status())
    for result in shown:
        web.publish(result)
    text = httpx2.get(f"{web.url}/metrics").text
    web.close()
    families = text_string_to_metric_families(text)
    scraped = {"job": "ringwatch", "instance": "127.0.0.1:8080"}
    samples = [(one.name, one.labels | scraped, one.value) for family in families for one in family.samples]
    return [("up", scraped, 1.0), *samples]


def all_measured(results) -> Snapshot:
    """A snapshot in which no number is missing."""
    known = Estimate(0.5, 0.4, 0.6)
    snapshot = results.measured(measures=dict.fromkeys(get_args(Metric), known), repeating_fraction=known)
    return replace(snapshot, detector_dropped=1)


def selectors(query: str) -> Iterator[tuple[str, dict[str, tuple[str, str]]]]:
    """Metrics that a query asks for, and what it asks of their labels: operator and value."""
    for name, matchers in re.findall(r"(?<!\")\b(ringwatch_\w+|up)\b(?:\{([^}]*)\})?", query):
        yield name, {label: (sign, value) for label, sign, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', matchers)}


def test_every_name_is_a_noun_and_a_unit(exposed: list[Sample]) -> None:
    assert [name for name, *_ in exposed[1:] if not re.fullmatch(rf"ringwatch_[a-z_]+_{UNITS}", name)] == []


def test_every_metric_is_described_and_nothing_else(exposed: list[Sample]) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    described = set(re.findall(r"^\| `(ringwatch_\w+)`", page, re.MULTILINE))
    assert described == {name for name, *_ in exposed[1:]}


def test_queries_ask_for_metrics_and_labels_that_exist(exposed: list[Sample]) -> None:
    labels_of = {name: labels.keys() for name, labels, _ in exposed}
    for query in {*queries(), *choices(), *alerts().values()}:
        asked = list(selectors(query))
        assert asked or "__name__" in query
        for name, matchers in asked:
            assert name in labels_of, query
            assert matchers.keys() <= labels_of[name], query


def test_reasons_and_states_that_alerts_name_are_real() -> None:
    known = {
        ("ringwatch_decision_info", "reason_code"): get_args(Reason),
        ("ringwatch_stop_info", "state"): get_args(StopState),
        ("ringwatch_daemon_info", "state"): get_args(Status.__annotations__["state"]),
    }
    asked = [one for query in alerts().values() for one in selectors(query)]
    named = [(name, label, value) for name, matchers in asked for label, (_, value) in matchers.items()]
    for name, label, value in named:
        assert set(value.split("|")) <= set(known.get((name, label), value.split("|")))
    assert {name for name, *_ in named} >= {name for name, _ in known}


def test_files_that_name_each_other_exist() -> None:
    operations = (ROOT / "docs" / "operations.md").read_text()
    for file in GRAFANA.iterdir():
        assert f"config/grafana/{file.name}" in operations
    datasource = (GRAFANA / "datasource.yaml").read_text()
    assert "type: prometheus" in datasource
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {"${source}"}
    assert {one["name"] for one in DASHBOARD["templating"]["list"]} == {"source", "instance"}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is absent: install Debian's package prometheus")
    return found


def run(*command: object) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules(promtool: str) -> None:
    run(promtool, "check", "rules", ALERTS)


def test_promtool_accepts_the_scrape_configuration(promtool: str, tmp_path: Path) -> None:
    text = (GRAFANA / "prometheus.yaml").read_text().replace("/etc/prometheus/ringwatch-alerts.yaml", str(ALERTS))
    (tmp_path / "prometheus.yml").write_text(text)
    run(promtool, "check", "config", tmp_path / "prometheus.yml")


def test_every_alert_fires_when_it_should_and_only_then(promtool: str) -> None:
    cases = CASES.read_text()
    assert [name for name in alerts() if f"alertname: {name}\n" not in cases] == []
    run(promtool, "test", "rules", CASES)


def test_every_query_of_the_dashboard_finds_something(promtool: str, exposed: list[Sample], tmp_path: Path) -> None:
    """Prometheus itself evaluates them over what was really exposed."""
    found = [{"labels": "{}", "value": 1}]
    test = {
        "interval": "2s",
        "input_series": [{"series": series(name, labels), "values": f"{value}x60"} for name, labels, value in exposed],
        "promql_expr_test": [
            {
                "expr": f"count({ready(query)}) > bool 0",
                "eval_time": "1m",
                "exp_samples": found,
            }
            for query in queries()
        ],
    }
    (tmp_path / "dashboard.yaml").write_text(json.dumps({"rule_files": [str(ALERTS)], "tests": [test]}))
    run(promtool, "test", "rules", tmp_path / "dashboard.yaml")


def series(name: str, labels: dict[str, Any]) -> str:
    return f"{name}{{{', '.join(f'{label}={json.dumps(value)}' for label, value in labels.items())}}}"


def ready(query: str) -> str:
    """A query with Grafana's variables filled in."""
    return query.replace("$__rate_interval", "30s").replace("$instance", ".+")
