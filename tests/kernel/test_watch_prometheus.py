"""The watch's numbers as Prometheus itself sees them: scraped, checked, and alerts by our rules."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_watch import CONDITION, put_in, take_out
from waiting import eventually
from watching import PATIENCE, watching

from remedies import shipped
from remedies.namespaces.netns import inside

BIN = Path(__file__).resolve().parent.parent.parent / "build/prometheus/usr/bin"
RULES = Path(shipped.folder("monitoring"))
CONFIGURATION = """\
global: {{scrape_interval: 500ms, scrape_timeout: 400ms, evaluation_interval: 500ms}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: remedy
    static_configs: [{{targets: ["127.0.0.1:9720"]}}]
"""


@pytest.mark.parametrize(
    "words", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")]
)
def test_promtool_accepts_the_rules(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [BIN / "promtool", *words],
        cwd=RULES,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def query(name: str, expression: str) -> list[dict[str, str]]:
    """Return the labels of what an expression yields now; nothing while Prometheus begins."""
    words = urllib.parse.urlencode({"query": expression})
    with inside(name), contextlib.suppress(OSError):
        where = f"http://127.0.0.1:9090/api/v1/query?{words}"
        with urllib.request.urlopen(where, timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
            return [each["metric"] for each in found["data"]["result"]]
    return []


def await_one(name: str, expression: str) -> dict[str, str]:
    """Return the labels of the one result, as soon as it is there: Prometheus asks by its clock."""
    found: list[dict[str, str]] = []

    def there() -> bool:
        found[:] = query(name, expression)
        return bool(found)

    eventually(there, 3 * PATIENCE, f"Prometheus never had {expression}")
    assert len(found) == 1, found
    return found[0]


@contextlib.contextmanager
def prometheus(name: str, folder: Path) -> Iterator[None]:
    """Run Prometheus in a namespace, with our rules; it scrapes the watch there."""
    config = folder / "prometheus.yml"
    config.write_text(CONFIGURATION.format(rules=RULES / "alerts.yml"))
    with (folder / "prometheus.log").open("w") as log, subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{name}", "--", BIN / "prometheus",
         f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
         "--web.listen-address=127.0.0.1:9090"],
        stdout=log,
        stderr=log,
    ) as child:  # fmt: skip
        try:
            yield
        finally:
            child.kill()


def test_prometheus_sees_a_fault_come_and_go(
    netns: Callable[..., str], run_in: Any, tmp_path: Path
) -> None:
    name, away, file = netns(), netns(), tmp_path / "remedy.prom"
    state = f'remedy_condition_status{{condition="{CONDITION}",verdict="%s"}} == 1'
    words = ("--listen", "9720", "--metrics", str(file))
    with (
        watching(tmp_path / "state", *words, netns=name, begun_in=away) as watch,
        prometheus(away, tmp_path),
    ):
        assert watch.await_line(kind="watch")["port"] == 9720
        await_one(away, "remedy_watch_ready == 1")
        await_one(away, state % "absent")
        put_in(run_in, name)
        assert await_one(away, state % "exposed")["instance"] == "127.0.0.1:9720"
        await_one(away, 'ALERTS{alertname="RemedyFaultPossible",alertstate="pending"}')
        await_one(away, "remedy_conntrack_limit > remedy_conntrack_entries or remedy_namespaces")
        take_out(run_in, name)
        await_one(away, state % "absent")
        await_one(away, 'remedy_watch_events_total{event="cleared"} == 1')
        checked = subprocess.run(
            [BIN / "promtool", "check", "metrics"],
            input=file.read_bytes(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
        watch.end()
    assert not file.exists(), "what nobody renews would be read as how things are"
