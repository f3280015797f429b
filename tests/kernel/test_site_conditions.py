"""A condition that a policy states itself, from scan to rollback, on a sysctl of a namespace."""

from __future__ import annotations

import json
from pathlib import Path

from cli_host import Cli, Q

KEY = "net.ipv4.tcp_syn_retries"
POLICY = f"""\
apiVersion: remedy/v1
name: ours
extends: observe-only
site:
  - id: site.syn-retries
    title: Clients wait two minutes for a server that is gone
    fact: sysctl:{KEY}
    is: ">"
    value: 3
    mode: fix
    set: {{sysctl: {KEY}, value: 3}}
  - {{id: site.healthy, title: "no key like this", fact: "sysctl:{KEY}", is: "==", value: 99}}
  - {{id: site.gone, title: untold, fact: "sysctl:net.ipv4.no_such_key", is: "<", value: 1}}
"""


def test_a_site_condition_goes_the_way_of_every_other_one(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text(POLICY)
    file.chmod(0o600)
    options = ("--policy", str(file), *Q)

    def value() -> str:
        return cli.inside("sysctl", "-n", KEY).stdout.strip()

    def stated(document: dict[str, object], key: str) -> dict[str, str]:
        items: list[dict[str, str]] = document[key]  # type: ignore[assignment]
        return {x["condition"]: x.get("verdict", "") for x in items if "site." in x["condition"]}

    cli.inside("sysctl", "-qw", f"{KEY}=6")
    scanned = cli.json("scan", *options)
    assert stated(scanned, "findings") == {"site.syn-retries": "exposed"}
    assert set(stated(scanned, "unknown")) == {"site.gone"}
    plan = cli.json("plan", *options)
    assert [(c["resource"], c["before"], c["after"], c["fix"]) for c in plan["changes"]] == [
        (f"sysctl:{KEY}", "6", "3", "site.syn-retries")
    ]
    assert cli("apply", "--yes", *options).returncode == 0
    assert value() == "3"
    assert stated(cli.json("scan", *options), "findings") == {"site.syn-retries": "mitigated"}
    assert cli.json("plan", *options)["changes"] == []
    assert cli("status", "--policy", str(file)).returncode == 0
    report = json.loads(cli("report", *options, "-o", "json:-").stdout)
    outcomes = {j["condition"]: j["outcome"] for j in report["hosts"][0]["judgements"]}
    assert {k: v for k, v in outcomes.items() if "site." in k} == {
        "site.syn-retries": "fixed", "site.healthy": "pass", "site.gone": "unknown",
    }  # fmt: skip

    # Another state: the policy takes it along. The entry gone: what it set is given back.
    file.write_text(POLICY.replace("3\n", "2\n").replace("value: 3}", "value: 2}"))
    assert cli("apply", "--yes", *options).returncode == 0
    assert value() == "2"
    head, _, rest = POLICY.partition("  - id: site.syn-retries")
    file.write_text(head + "  - {id" + rest.partition("  - {id")[2])
    assert cli("apply", "--yes", *options).returncode == 0
    assert value() == "6"
    file.write_text(POLICY)
    assert cli("apply", "--yes", *options).returncode == 0
    assert cli("rollback", "--yes").returncode == 0
    assert value() == "6"
