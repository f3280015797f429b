"""What scripts build on: the JSON of every verb, exit codes, and where settings come from."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_host import Cli, Q
from cli_shapes import PROMISED, departures
from waiting import eventually

from remedies.lab.world import World

PRINTED_ELSEWHERE = {
    *("init", "trace-drop", "trace-event", "trace-more", "trace-sentence", "trace-step"),
    *("fleet", "host", "groups", "summary", "lab", "lab-up", "lab-down"),
    *("watch", "watch-apply", "watch-event", "watch-ready"),
}
"""Kinds whose documents are validated where a test prints them: of the trace, the watch, the fleet,
the lab and init."""

# --- JSON ---------------------------------------------------------------------------------------


def test_every_document_has_the_keys_that_were_promised(cli: Cli, tmp_path: Path) -> None:
    seen = [cli.json("scan"), cli.json("plan", *Q, "-o", str(tmp_path / "plan.json"))]
    assert seen[1]["changes"][0]["resource"] == "nft:inet/remedy_invalid_drop"
    saved = json.loads((tmp_path / "plan.json").read_text())
    assert departures(saved) == []
    seen += [cli.json("apply", str(tmp_path / "plan.json"), "--yes", *Q)]
    txn = seen[-1]["transaction"]
    assert (seen[-1]["outcome"], seen[-1]["verified"][0]["after"]) == ("applied", "mitigated")
    assert cli.json("apply", "--yes", *Q)["outcome"] == "nothing"
    seen += [cli.json("status"), cli.json("verify", *Q), cli.json("history")]
    assert seen[-3]["in_force"][0]["state"] == "ours"
    assert set(seen[-3]["in_force"][0]["counters"].values()) == {0}
    seen += [cli.json("show", txn), cli.json("rollback", "--yes"), cli.json("confirm")]
    assert seen[-2]["transactions"] == [txn]
    seen += [cli.json("trace", "--for", "100ms"), cli.json("audit", "verify")]
    seen += [cli.json("audit", "repair", "--yes")]
    seen += [cli.json("list"), cli.json("explain", "notrack"), cli.json("doctor")]
    seen += [
        cli.json("explain", "verdicts"),
        cli.json("check"),
        cli.json("show", "no-such", code=64),
    ]
    seen += [cli.json("explain", "notrack-breaks-nat"), cli.json("lab", "list")]
    seen += [cli.json("policy", verb, "--policy", "default") for verb in ("show", "check")]
    seen += [cli.json("bundle", "-o", str(tmp_path / "remedy.pyz"))]
    seen += [cli.json("export", "ansible", str(tmp_path / "plan.json"), "-o", str(tmp_path / "x"))]
    assert {document["kind"] for document in seen} == PROMISED - PRINTED_ELSEWHERE


def test_a_key_that_disappears_is_seen() -> None:
    whole = {"format_version": "1.0", "kind": "confirm", "transaction": None, "outcome": "nothing"}
    assert departures(whole) == []
    for key in ("format_version", "transaction", "outcome"):
        less = {name: value for name, value in whole.items() if name != key}
        assert departures(less) == [f"confirm: {key!r} is a required property"]
    assert departures({**whole, "outcome": "perhaps"}) != []
    assert departures({**whole, "transaction": 7}) != []


def test_what_waits_and_what_was_refused_have_the_keys_too(cli: Cli) -> None:
    pending = cli.json("apply", "--yes", "--confirm-timeout", "60s", *Q)
    assert pending["pending_confirm_until"] is not None
    assert cli.json("status")["pending_confirm"]["transaction"] == pending["transaction"]
    assert cli.json("confirm")["outcome"] == "confirmed"
    refused = cli.json("plan", *Q, *cli.policy("5060", "192.0.2.99"), code=8)
    assert refused["refused"][0]["fix"] == "notrack"


# --- exit codes ---------------------------------------------------------------------------------


def test_0_and_2_what_is_found_and_what_is_pending(cli: Cli, tmp_path: Path) -> None:
    facts = str(tmp_path / "facts.json")
    assert cli("scan", *Q, "--save-facts", facts).returncode == 0, "exposed is below active"
    assert cli("scan", *Q, "--fail-on", "exposed").returncode == 2
    assert cli("scan", *Q, "--fail-on", "proven").returncode == 0
    assert cli("scan", "--facts", facts, "--fail-on", "exposed").returncode == 2
    assert cli("plan", *Q).returncode == 0
    assert cli("plan", *Q, "--detailed-exitcode").returncode == 2
    assert cli("apply", "--yes", *Q).returncode == 0
    assert cli("plan", *Q, "--detailed-exitcode").returncode == 0
    assert cli("scan", *Q, "--fail-on", "exposed").returncode == 0, "mitigated is no finding"
    assert cli("verify", *Q).returncode == 0


def test_1_and_2_and_5_what_somebody_else_has_moved(cli: Cli, tmp_path: Path) -> None:
    plan = str(tmp_path / "plan.json")
    assert cli("plan", *Q, "-o", plan).returncode == 0
    cli.inside("nft", "add table inet remedy_invalid_drop")
    for options in (("--yes",), ("--dry-run",)):
        stale = cli("apply", plan, *Q, *options)
        assert stale.returncode == 5
        assert stale.stderr.count("the plan found absent, now it is") == 1
        assert "the plan found" not in stale.stdout
    cli.inside("nft", "delete table inet remedy_invalid_drop")
    assert cli("apply", plan, "--yes", *Q).returncode == 0
    cli.inside("nft", "add chain inet remedy_invalid_drop foreign")
    assert cli("status").returncode == 2
    drift = cli("rollback", "--yes")
    assert drift.returncode == 1
    assert all(word in drift.stdout for word in ("before absent", "written by remedy '", "now '"))
    assert cli.in_force()


FIRST = """
def point(name):
    if name == "before write nft:inet/remedy_invalid_drop" and passed.count(name) == 1:
        raise OSError(5, "Input/output error")
"""
SECOND = """
def point(name):
    if name.endswith("write nft:inet/remedy_invalid_drop") and len(passed) > 3:
        raise OSError(5, "Input/output error")
"""
"""What was written cannot be taken back, either."""
FOREIGN = """
def point(name):
    if name == "before verified":
        import subprocess
        subprocess.run(["nft", "add chain inet remedy_invalid_drop foreign"], check=True)
        raise OSError(5, "Input/output error")
"""


def test_3_and_4_what_cannot_be_written_or_undone(cli: Cli) -> None:
    failed = cli("apply", "--yes", *Q, point=FIRST)
    assert failed.returncode == 3, failed.stderr
    assert "the host is as before" in failed.stdout
    assert not cli.in_force()
    stuck = cli("apply", "--yes", *Q, point=SECOND)
    assert stuck.returncode == 4, (stuck.stdout, stuck.stderr)
    assert "stuck: nft:inet/remedy_invalid_drop" in stuck.stdout
    assert "the guard continues to undo" in stuck.stdout
    eventually(lambda: cli("status").returncode == 0, 20, "the guard has given up")
    assert not cli.in_force()


def test_4_what_somebody_else_has_changed_meanwhile_stays_incomplete(cli: Cli) -> None:
    """The writer's own rule is not what is there any more when verification fails."""
    stuck = cli("apply", "--yes", *Q, point=FOREIGN)
    assert stuck.returncode == 4, (stuck.stdout, stuck.stderr)
    assert "stuck: nft:inet/remedy_invalid_drop" in stuck.stdout
    assert "continues to undo" not in stuck.stdout
    assert cli.in_force()
    status = cli("status")
    assert status.returncode == 2
    assert "incomplete transaction" in status.stdout
    assert len(cli.json("status", code=2)["unfinished"]) == 1
    assert cli("rollback", "--yes", "--force").returncode == 0
    assert not cli.in_force()
    assert cli("status").returncode == 0


def test_6_another_is_writing_or_waits(cli: Cli) -> None:
    assert cli("apply", "--yes", "--confirm-timeout", "60s", *Q).returncode == 0
    waits = cli("apply", "--yes", *Q)
    assert waits.returncode == 6
    assert "'remedy confirm' keeps it" in waits.stderr
    assert re.search(r"until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+05", waits.stderr), "local time"
    assert cli("rollback", "--yes").returncode == 0
    (lock,) = cli.folder.glob("state/*/lock")
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for verb in (["apply", "--yes", *Q], ["rollback", "--yes"], ["confirm"]):
            locked = cli(*verb, "--lock-timeout", "50ms")
            assert locked.returncode == 6, locked.stderr
            assert "--lock-timeout" in locked.stderr


def test_7_not_confirmed_in_time(cli: Cli) -> None:
    done = cli("apply", "--yes", "--wait", "--confirm-timeout", "300ms", *Q)
    assert done.returncode == 7, done.stderr
    assert "reverted: the host is as before" in done.stdout
    assert not cli.in_force()
    assert cli("confirm").returncode == 7


def test_8_what_policy_wants_and_a_guard_refuses(cli: Cli, tmp_path: Path) -> None:
    policy = cli.policy("5060", "192.0.2.99")
    plan = str(tmp_path / "plan.json")
    for words in (["plan", "-o", plan], ["apply", "--yes"], ["apply", "-n"], ["apply", plan, "-n"]):
        refused = cli(*words, *Q, *policy)
        assert refused.returncode == 8, (words, refused.stdout, refused.stderr)


def test_9_a_host_out_of_reach(cli: Cli, tmp_path: Path) -> None:
    inventory = tmp_path / "hosts"
    inventory.write_text("away ansible_host=127.0.0.1 ansible_port=9 ansible_user=nobody\n")
    environment = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    done = cli("fleet", "scan", "-i", str(inventory), env=environment)
    assert done.returncode == 9, done.stderr


BAD = "apiVersion: remedy/v1\nname: bad\nrulez: {}\n"


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (1, ["plan", *Q, "-o", "/no/such/folder/plan"], "cannot be written"),
        (64, ["sacn"], "did you mean scan?"),
        (64, ["scan", "--show-al"], "did you mean --show-all?; see 'remedy scan --help'"),
        (64, ["rollback", "no-such"], "is not in the journal"),
        (64, ["apply"], "add --yes"),
        (64, ["apply", "--yes", "--confirm-timeout", "0"], "leaves no time to confirm"),
        (65, ["apply", "{junk}"], "not JSON"),
        (65, ["apply", "--yes", "{strange}"], "no fix is called 'moon-phase'"),
        (65, ["scan", "--facts", "{junk}"], "not JSON"),
        (65, ["show", "{txn}"], "journal"),
        (70, ["apply", "--yes"], "internal error"),
        (78, ["scan", "--policy", "{bad}"], ":3: rulez"),
    ],
)
def test_other_codes_with_one_line_each(
    cli: Cli, tmp_path: Path, code: int, words: list[str], said: str
) -> None:
    (tmp_path / "junk").write_text("{")
    (tmp_path / "bad").write_text(BAD)
    assert cli("plan", *Q, "-o", str(tmp_path / "plan")).returncode == 0
    plan = (tmp_path / "plan").read_text()
    (tmp_path / "strange").write_text(plan.replace('"invalid-drop"', '"moon-phase"'))
    txn = cli.json("apply", "--yes", *Q)["transaction"] if "{txn}" in words else ""
    if txn:
        assert cli("rollback", "--yes").returncode == 0
        (journal,) = cli.folder.glob("state/*/journal.jsonl")
        whole = journal.read_text()
        journal.write_text(whole.replace('"kind":"end"', '"kind":"END"', 1))
    paths = {name: str(tmp_path / name) for name in ("junk", "bad", "strange")}
    failing = "def point(name):\n    raise RuntimeError(name)\n" if code == 70 else ""
    done = cli(*(word.format(txn=txn, **paths) for word in words), point=failing)
    if txn:
        journal.write_text(whole)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
    assert said in done.stderr
    assert not cli.in_force()


# --- where settings come from, and where output goes --------------------------------------------


def test_flag_before_environment(cli: Cli, tmp_path: Path) -> None:
    there = tmp_path / "there"
    environment = {"REMEDY_STATE_DIR": str(there), "REMEDY_JSON": "1", "REMEDY_NETNS": "no-such"}
    assert json.loads(cli("scan", *Q, env=environment).stdout)["kind"] == "scan"
    assert not there.exists(), "--state-dir and --netns were given"
    wrong = cli("list", env={"REMEDY_LOCK_TIMEOUT": "soon"})
    assert (wrong.returncode, "REMEDY_LOCK_TIMEOUT" in wrong.stderr) == (78, True)
    approves = {f"REMEDY_{name}": "1" for name in ("YES", "FORCE", "KEEP", "CONFIRM", "EVERY")}
    assert cli("apply", *Q, env=approves).returncode == 64


def test_what_is_no_file_is_written_to_and_never_replaced(cli: Cli, tmp_path: Path) -> None:
    device, link, kept = tmp_path / "null", tmp_path / "link", tmp_path / "kept"
    os.mknod(device, 0o666 | 0o020000, os.makedev(1, 3))
    kept.write_text("kept")
    link.symlink_to(kept)
    writers = (
        ["plan", *Q, "-o", "{}"],
        ["scan", *Q, "--save-facts", "{}"],
        ["bundle", "-o", "{}"],
        ["report", *Q, "-o", "csv:{}"],
    )
    for words in writers:
        for path in (device, link):
            done = cli(*(word.format(path) for word in words))
            assert done.returncode == 0, done.stderr
        assert device.is_char_device(), words
        assert kept.read_text() == "kept", words
        link.unlink()
        link.symlink_to(kept)
    shown = cli("plan", "-q", "--json", *Q, "-o", "/dev/stderr").stderr
    assert json.loads(shown)["kind"] == "plan"


def test_the_state_folder_is_its_owners_alone_whatever_the_umask(cli: Cli) -> None:
    for verb in ("scan", "apply"):
        words = (verb, *Q, "--policy", "nat-gateway", *(["--yes"] if verb == "apply" else []))
        assert cli(*words, umask=0).returncode == 0
        for path in [cli.folder / "state", *cli.folder.glob("state/**/*")]:
            assert path.stat().st_mode & 0o077 == 0, path


# --- one transaction on another -----------------------------------------------------------------


def test_what_a_newer_transaction_stands_on_is_not_undone(
    exposed_world: World, netns: Callable[..., str], tmp_path: Path
) -> None:
    cli = Cli(exposed_world, tmp_path, netns("stack"))
    cli.inside("ip", "addr", "add", "192.0.2.10/32", "dev", "lo")
    for ports in ("5060", "5060, 5061"):
        done = cli("apply", "--yes", *Q, *cli.policy(ports, "192.0.2.10"))
        assert done.returncode == 0, done.stderr
    newer, older = (t["transaction"] for t in cli.json("history")["transactions"])
    for options in ([], ["--force"]):
        refused = cli("rollback", older, "--yes", *options)
        assert (refused.returncode, newer in refused.stderr) == (1, True), refused.stderr
    assert cli("rollback", newer, "--yes").returncode == 0
    assert cli("rollback", older, "--yes").returncode == 0
    assert cli.inside("nft", "list", "ruleset").stdout == ""
