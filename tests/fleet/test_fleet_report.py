"""Reports of many hosts: of a rollout from its folder alone, and of hosts that are asked now."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from light_fleet import TABLE, Fleet, LightHost

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "unit"))

import report_samples as samples

from remedies import report as reports
from remedies.cli import main
from remedies.facts.host import read_host
from remedies.fleet import records, rundir
from remedies.fleet.host_state import HostStanding
from remedies.report.import_host import admit
from remedies.report.record import Chain, Reading
from remedies.transaction.journal import NAME
from remedies.values import replace

SCHEMA = Path(reports.__file__).with_name("report.schema.json")
SECRET = "C4N4RYsecret"
RUNS = ("--run-dir", "runs")


def rolled_out(fleet: Fleet) -> str:
    """Roll out to a host that keeps it, one that cannot, one that is not there; one has no turn."""
    fleet.host("a-good")
    fleet.host("b-absent", sshd=False)
    fleet.host("c-broken").agent(f"delete table inet {TABLE}\n", "")
    fleet.host("d-late")
    code, _, output = fleet.remedy(
        "apply", "--yes", "--batch", "3,100%", "--undo", "none", *RUNS, "--forks", "4",
        "--change-id", "CHG7", "--message", f"token={SECRET}", "--approved-by", "Bea",
        ansible_timeout=60,
    )  # fmt: skip
    assert code == 3, output
    (run,) = (fleet.folder / "runs").iterdir()
    return run.name


def of_run(fleet: Fleet, run: str, *words: str) -> tuple[int, str, str]:
    return fleet.call("remedy", "report", "--fleet", run, *RUNS, *words)


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {host["place"]["name"]: host for host in report["hosts"]}


def fault(host: dict[str, Any]) -> dict[str, Any]:
    (found,) = (j for j in host["judgements"] if j["condition"] == "tcp-invalid-reset")
    return dict(found)


def on_journal(host: LightHost, program: str) -> str:
    """Run ``sh -c PROGRAM`` on a host with the path of its journal as ``$1``."""
    script = f"set -- /var/lib/remedy/*/{NAME}; {program}"
    return host.on("sh", "-c", script)


def kept(host: LightHost, folder: Path) -> str:
    """Copy a host's journal to a state directory of the controller's; return that."""
    place = folder / read_host().netns
    place.mkdir(parents=True)
    (place / NAME).write_text(on_journal(host, 'cat "$1"'))
    return str(folder)


def test_a_rollout_is_reported_from_its_folder(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = rolled_out(fleet)
    code, out, err = of_run(fleet, run, "-o", "json:-")
    assert code == 0, err
    assert of_run(fleet, run, "--json")[1].count('"kind": "report"') == 1
    report = json.loads(out)
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    hosts = by_name(report)
    assert set(hosts) == {"a-good", "c-broken"}
    missing = {host["name"]: host["reason"] for host in report["unreached"]}
    assert set(missing) == {"b-absent", "d-late"}
    assert "Connection" in missing["b-absent"] or "timed out" in missing["b-absent"]
    assert missing["d-late"] == "not started: the run ended before its turn"

    good, broken = hosts["a-good"], hosts["c-broken"]
    assert (good["rollout"]["state"], broken["rollout"]["state"]) == ("confirmed", "reverted")
    assert (fault(good)["outcome"], fault(good)["verdict_after"]) == ("fixed", "mitigated")
    assert (fault(broken)["outcome"], fault(broken)["history"]) == ("fail", "rolled-back")
    (deed,) = good["deeds"]
    assert deed["confirmation"].startswith("confirmed by ")
    assert (deed["actor"]["change_id"], deed["actor"]["approver"]) == ("CHG7", "Bea")
    assert (report["by"]["change_id"], report["by"]["approver"]) == ("CHG7", "Bea")
    assert report["run"] == run

    files = {form: tmp_path / form for form in reports.formats()}
    words = [word for form, file in files.items() for word in ("-o", f"{form}:{file}")]
    code, out, err = of_run(fleet, run, *words)
    assert (code, out) == (0, ""), err
    for form, file in files.items():
        text = file.read_text()
        assert SECRET not in text + err
        assert form in ("nagios", "oscal-plan") or "b-absent" in text, form
    found = list((fleet.folder / "runs" / run / "records").iterdir())
    assert {p.name for p in found} == {"a-good.json", "c-broken.json"}
    assert all(SECRET not in p.read_text() for p in found)

    # The head that the controller kept tells whether the host's journal is still the one it was.
    host = fleet.hosts["a-good"]
    state = kept(host, tmp_path / "copy")
    words = ["audit", "verify", "--fleet", str(fleet.folder / "runs" / run), "--state-dir", state]
    assert main([*words, "--host", "a-good"]) == 0
    assert "anchored: that head is record" in capsys.readouterr().out
    assert main([*words, "--host", "c-broken"]) == 65
    assert "that head is not in the chain" in capsys.readouterr().out
    assert main([*words, "--host", "d-late"]) == 65
    assert "no journal head of d-late was kept" in capsys.readouterr().err
    assert main(words) == 64

    anchors = [
        *("fleet", "report", "-i", fleet.inventory(ansible_timeout=60), "--heads-of", run),
        *RUNS,
    ]
    anchors += ["--limit", "a-good,b-absent", "-o", "json:-"]
    code, out, err = fleet.call("remedy", *anchors)
    assert code == 9, out + err
    report = json.loads(out)
    chain = by_name(report)["a-good"]["chain"]
    assert chain["anchor"].startswith("anchored at record ")
    assert [host["name"] for host in report["unreached"]] == ["b-absent"]
    assert err == ""
    on_journal(host, "sed -i '$d' \"$1\"")
    code, out, err = fleet.call("remedy", *anchors)
    assert code == 9, out + err
    assert not by_name(json.loads(out))["a-good"]["chain"]["holds"]
    assert "a-good: journal: intact; the head kept elsewhere is not in the chain" in err


def record(number: int, **changes: Any) -> str:
    """Return what one host of a sample fleet would say of itself."""
    (host,) = samples.fleet(1).hosts
    judgements = tuple(replace(j, id=f"{j.id}{number}") for j in host.judgements)
    place = replace(host.place, name=f"h{number}", machine_id=f"{number:032x}")
    host = replace(host, place=place, judgements=judgements, rollout=None)
    host = replace(host, **changes)
    one = replace(samples.full(), hosts=(host,))
    return "".join(reports.load("json").render(one))


def simulated(folder: Path, hosts: int) -> rundir.Run:
    """Write the folder of a rollout to so many hosts, every 50th of which was not there."""
    names = tuple(f"edge-{n:04}.example.net" for n in range(hosts))
    run = rundir.begin(str(folder), rundir.RunTerms(("inventory",), names, ("100%",)))
    place = records.folder(run)
    Path(place).mkdir()
    for number, name in enumerate(names):
        if number % 50 == 49:
            run.tell(HostStanding(name, "unreachable", 9, "ssh: connect to port 22: timed out"))
            continue
        Path(place, f"{name}.json").write_text(record(number))
        run.tell(HostStanding(name, "confirmed", transaction=f"{samples.DEED.id}-0"))
    return run


def test_a_thousand_hosts_stand_in_one_report(tmp_path: Path) -> None:
    run = simulated(tmp_path, 1000)
    files = {form: tmp_path / f"report.{form}" for form in ("html", "json", "prometheus")}
    words = [word for form, file in files.items() for word in ("-o", f"{form}:{file}")]
    assert main(["report", "--fleet", run.folder, *words]) == 0
    report = json.loads(files["json"].read_text())
    assert (len(report["hosts"]), len(report["unreached"])) == (980, 20)
    matrix = files["html"].read_text().partition('<table id="matrix"')[2].partition("</table>")[0]
    assert matrix.count('<th scope="row">') == 1000
    assert (
        'remedy_host_reached{host="edge-0049.example.net"} 0.0' in files["prometheus"].read_text()
    )


def test_a_host_that_lies_in_form_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = simulated(tmp_path, 20)
    place = Path(records.folder(run))
    (judgement, *_) = samples.fleet(1).hosts[0].judgements
    lies = {
        "outcome": record(0, judgements=(
            replace(judgement, outcome="splendid"),)),  # type: ignore[arg-type]
        "severity": record(0, judgements=(
            replace(judgement, severity="none"),)),  # type: ignore[arg-type]
        "condition": record(0, judgements=(replace(judgement, condition="<b>"),)),
        "time": record(0, time="2026-13-45T99:99:99Z"),
        "head": record(0, chain=Chain(9, "none", "intact")),
        "counter": record(0, series=(replace(samples.SERIES[0], readings=(
            Reading(samples.TIME, "before", -1.0),)),)),
        "conditions": record(0, judgements=tuple(
            replace(judgement, condition=f"c{n}") for n in range(99))),
        "kind": '{"kind": "scan"}',
        "json": "{",
        "deep": '{"kind":"report","format_version":"1.0","hosts":[' + "[" * 99 + "]" * 99 + "]}",
        "version": record(0).replace('"format_version": "1.', '"format_version": "2.'),
        "key": record(0).replace('"netns"', '"surprise"'),
        "nan": record(0).replace('"window": 1.0', '"window": NaN'),
    }  # fmt: skip
    names = sorted(place.iterdir())[: len(lies)]
    for path, text in zip(names, lies.values(), strict=True):
        path.write_text(text)
    for form in reports.formats():
        assert main(["report", "--fleet", run.folder, "-o", f"{form}:-"]) == 0, form
    capsys.readouterr()
    assert main(["report", "--fleet", run.folder, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["hosts"]) == 20 - len(lies)
    reasons = {host["name"]: host["reason"] for host in report["unreached"]}
    for path, what in zip(names, lies, strict=True):
        assert path.name in reasons[path.name.removesuffix(".json")], what
    first = reasons[names[0].name.removesuffix(".json")]
    assert "'splendid' is not one of fail, needs-human" in first


def test_what_a_host_calls_its_controls_and_itself_is_not_its_to_say(tmp_path: Path) -> None:
    (judgement, *_) = samples.fleet(1).hosts[0].judgements
    text = record(7, judgements=(replace(judgement, title="Nothing wrong", controls=("X-1",)),))
    host = admit(text, "edge", "record")
    assert (host.place.name, host.place.hostname) == ("edge", "h7")
    assert host.judgements[0].title.startswith("Segments outside")
    assert "NIST-800-53 SC-7" in host.judgements[0].controls


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--fleet", "nosuch"), 65, "no such run"),
        (("--fleet", "nosuch", "--since", "2d"), 64, "--since is for one host's journal"),
        (("--fleet", "nosuch", "--txn", "t1"), 64, "--txn is for one host's journal"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    assert main(["report", *words, "--run-dir", str(tmp_path)]) == code
    assert said in capsys.readouterr().err
