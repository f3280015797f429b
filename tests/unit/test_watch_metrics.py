"""The watch's numbers: as text, over HTTP, and what a service manager is told."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import socket
from pathlib import Path

import pytest
from builder import finding, scan
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as older

from remedies import shipped
from remedies.errors import RemedyError, UsageError
from remedies.model import VERDICTS, Finding
from remedies.values import replace
from remedies.watch import endpoint, events, metrics, service_manager
from remedies.watch.baseline import WatchedNamespace, WatchPlace
from remedies.watch.endpoint import Endpoint
from remedies.watch.metrics import WatchNumbers
from remedies.watch.pulse import Pulse
from remedies.watch.service_manager import ServiceManager


def namespace(key: str, *findings: Finding, entries: int = 0) -> WatchedNamespace:
    seen, _ = events.compare((), scan(*findings), "")
    return WatchedNamespace(WatchPlace(key, key, key, ""), Pulse(entries=entries, limit=100), seen)


NUMBERS = WatchNumbers(
    conditions=("a", "b", "c"),
    namespaces=(
        namespace("host", finding("a"), finding("a", "t", verdict="proven"), entries=5),
        namespace("n", finding("b", verdict="unknown"), finding("c", waived="x"), entries=90),
    ),
    own="host",
    ready=True,
    last_success=1e9,
    scans=3,
    scan_seconds=0.1 + 0.2,
    counters={"nf_conntrack.drop": 4, "nf_conntrack.invalid": 6},
    events={"appeared": 2},
    fixes={"invalid-drop": False},
    hits={"invalid-drop": 7},
)


def test_what_is_applied_alone_is_counted_where_it_may_be() -> None:
    assert not [name for name in parsed(NUMBERS) if "unattended" in name]
    alone = replace(NUMBERS, unattended={"applied": 2}, stopped=True)
    assert value(alone, "remedy_unattended_applies", outcome="applied") == 2
    assert value(alone, "remedy_unattended_applies", outcome="rolled-back") == 0
    assert value(alone, "remedy_unattended_stopped") == 1


def parsed(numbers: WatchNumbers) -> dict[str, Metric]:
    text = metrics.text(numbers, openmetrics=True)
    return {f.name: f for f in openmetrics(text)}  # type: ignore[no-untyped-call]


def value(numbers: WatchNumbers, family: str, **labels: str) -> float:
    (sample,) = [s for s in parsed(numbers)[family].samples if s.labels == labels]
    return float(sample.value)


def test_one_verdict_of_each_condition_is_set_the_strongest_over_all_namespaces() -> None:
    samples = parsed(NUMBERS)["remedy_condition_status"].samples
    assert len(samples) == len(NUMBERS.conditions) * (len(VERDICTS) + 1)
    found = {s.labels["condition"]: s.labels["verdict"] for s in samples if s.value == 1}
    assert found == {"a": "proven", "b": "unknown", "c": "absent"}
    assert sum(s.value for s in samples) == len(NUMBERS.conditions)
    assert value(NUMBERS, "remedy_findings", condition="a", verdict="exposed") == 1
    assert value(NUMBERS, "remedy_findings_waived") == 1


def test_what_is_counted() -> None:
    assert value(NUMBERS, "remedy_drops", reason="nf_conntrack.drop") == 4
    assert value(NUMBERS, "remedy_signs", counter="nf_conntrack.invalid") == 6
    assert value(NUMBERS, "remedy_rule_hits", fix="invalid-drop") == 7
    assert value(NUMBERS, "remedy_fix_active", fix="invalid-drop") == 0
    assert value(NUMBERS, "remedy_watch_events", event="cleared") == 0
    assert value(NUMBERS, "remedy_conntrack_entries") == 5
    assert value(NUMBERS, "remedy_conntrack_fullest_ratio") == 0.9
    assert value(NUMBERS, "remedy_last_success_timestamp_seconds") == 1e9


def test_before_the_first_interval_nothing_is_said_of_any_condition() -> None:
    early = replace(NUMBERS, ready=False, last_success=None)
    assert value(early, "remedy_watch_ready") == 0
    names = set(parsed(early))
    left_out = {"remedy_condition_status", "remedy_findings", "remedy_findings_waived"}
    assert names.isdisjoint({*left_out, "remedy_last_success_timestamp_seconds"})
    assert set(parsed(NUMBERS)) == {*names, *left_out, "remedy_last_success_timestamp_seconds"}


def test_both_formats_say_the_same() -> None:
    def samples(families: object) -> list[tuple[str, dict[str, str], float]]:
        return [(s.name, s.labels, s.value) for f in families for s in f.samples]  # type: ignore[attr-defined]

    text = metrics.text(NUMBERS, openmetrics=False)
    assert samples(older(text)) == samples(parsed(NUMBERS).values())
    assert "# EOF" not in text


def test_no_label_holds_a_subject_or_a_namespace() -> None:
    labels = {name for f in parsed(NUMBERS).values() for s in f.samples for name in s.labels}
    assert labels == {"version", "condition", "verdict", "event", "reason", "counter", "fix"}


def test_a_hostile_value_stays_within_its_label() -> None:
    hostile = 'x"} 5\nremedy_up\\'
    numbers = replace(NUMBERS, hits={hostile: 1})
    assert value(numbers, "remedy_rule_hits", fix=hostile) == 1


def test_rules_and_dashboard_ask_for_metrics_that_are_there() -> None:
    alone = replace(NUMBERS, unattended={})
    names = {s.name for f in parsed(alone).values() for s in f.samples}
    folder = Path(shipped.folder("monitoring"))
    dashboard = json.loads((folder / "dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += re.findall(r"expr: (.*)", (folder / "alerts.yml").read_text())
    for expression in asked:
        found = set(re.findall(r"remedy_\w+", expression))
        assert found, expression
        assert found <= names, expression


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9720", ("127.0.0.1", 9720)),
        (":9720", ("127.0.0.1", 9720)),
        ("0.0.0.0:9720", ("0.0.0.0", 9720)),
        ("[::1]:9720", ("::1", 9720)),
    ],
)
def test_an_address_that_others_reach_has_to_be_given(text: str, expected: tuple[str, int]) -> None:
    assert endpoint.address(text) == expected


@pytest.mark.parametrize("text", ["", "web-1:9720", "localhost:1", "9720x", "127.0.0.1", "1:70000"])
def test_what_is_no_address_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        endpoint.address(text)


def get(served: Endpoint, path: str) -> tuple[int, str]:
    client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    try:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read().decode()
    finally:
        client.close()


def fed(served: Endpoint, text: str, *, ready: bool) -> None:
    """Feed it, and wait until that is what it serves."""
    served.update(text, ready=ready)
    while get(served, "/metrics") != (200, text):
        pass


def test_what_is_served() -> None:
    with Endpoint(endpoint.listen("127.0.0.1", 0), 3600.0) as served:
        assert get(served, "/metrics")[0] == get(served, "/healthz")[0] == 503
        fed(served, "early\n", ready=False)
        assert get(served, "/healthz")[0] == 503
        fed(served, "text\n", ready=True)
        assert get(served, "/healthz")[0] == 200
        assert get(served, "/etc/passwd")[0] == 404
        with pytest.raises(RemedyError):
            Endpoint(endpoint.listen("127.0.0.1", served.port), 1.0)
    with pytest.raises(ConnectionRefusedError):
        get(served, "/metrics")


def test_without_news_nothing_is_served() -> None:
    with Endpoint(endpoint.listen("127.0.0.1", 0), -1.0) as served:
        served.update("text\n", ready=True)
        assert get(served, "/metrics") == (503, "# EOF\n")


def test_clients_beyond_a_bound_are_closed_and_idle_ones_cut() -> None:
    with Endpoint(endpoint.listen("127.0.0.1", 0), 3600.0) as served:
        where = ("127.0.0.1", served.port)
        idle = [socket.create_connection(where) for _ in range(endpoint._CLIENTS)]
        with socket.create_connection(where) as more:
            more.settimeout(20)
            assert more.recv(1) == b""
        for each in idle:  # each is cut, though none says anything
            each.settimeout(60)
            assert each.recv(1) == b""
            each.close()


def test_a_long_request_is_refused() -> None:
    with (
        Endpoint(endpoint.listen("127.0.0.1", 0), 3600.0) as served,
        socket.create_connection(("127.0.0.1", served.port), timeout=20) as client,
    ):
        client.sendall(b"GET /".ljust(65537, b"x"))  # all that it reads, so that none is reset
        assert b" 414 " in client.recv(200)


def test_a_service_manager_hears_and_no_child_speaks_for_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        monkeypatch.setenv("WATCHDOG_USEC", "3000000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        found = service_manager.from_environment()
        assert found == ServiceManager(path, 3.0)
        assert "NOTIFY_SOCKET" not in os.environ
        found.tell("READY=1", "STATUS=x")
        assert select.select([manager], [], [], 5)[0]
        assert manager.recv(100) == b"READY=1\nSTATUS=x"
    found.tell("READY=1")  # it has gone
    ServiceManager().tell("READY=1")


def test_the_watchdog_of_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert service_manager.from_environment().watchdog is None
