"""The talk with a host, and what becomes of it when the host or the line does not play along."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from fake_store import YES
from hypothesis import given
from hypothesis import strategies as st

from remedies.bundle import build
from remedies.errors import RemedyError
from remedies.fleet import apply as applying
from remedies.fleet import calls
from remedies.fleet.calls import Visit
from remedies.fleet.host_state import HostStanding
from remedies.fleet.remote import BUNDLE_WANTED, HostLost, RemoteHost, Reply
from remedies.fleet.request import Approved, Order

DIGEST = "d" * 64
MARK = f"remedy {DIGEST}\n"
POLICY = '{"tool":"x","policy":{}}'
FINDING = {"id": "f", "condition": "c", "subject": "s", "verdict": "mitigated"}
APPLIED = {"kind": "apply", "outcome": "applied", "transaction": "T2",
           "pending_confirm_until": "2026-01-01T00:02:00Z", "changes": [],
           "verified": [{"finding": "f"}]}  # fmt: skip
VERIFIED = {"kind": "verify", "findings": [FINDING], "in_force": []}


class Script:
    """A host that answers each verb as it is told, and remembers what it was asked."""

    def __init__(self, **answers: Any) -> None:
        history = {"kind": "history", "transactions": [{"transaction": "T1", "kind": "apply"}]}
        self.answers = {"history": history, "verify": VERIFIED,
                        "confirm": {"kind": "confirm", "outcome": "confirmed"},
                        "rollback": {"kind": "rollback", "outcome": "rolled-back"},
                        **answers}  # fmt: skip
        self.asked: list[list[str]] = []
        self.stdin: list[bytes] = []

    def __call__(self, command: str, stdin: bytes) -> Reply:
        words = shlex.split(command)[8:]
        self.asked.append(words)
        self.stdin.append(stdin)
        answer = self.answers[words[0]]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Reply):
            return answer
        rc = answer.get("rc", 0)
        plain = {key: value for key, value in answer.items() if key != "rc"}
        return Reply(rc, MARK + json.dumps(plain), "")

    def verbs(self) -> list[str]:
        return [words[0] for words in self.asked]


def visit(carrier: Script) -> Visit:
    return Visit("h", RemoteHost(carrier, "/nonexistent", DIGEST, "/state/bundle"), Order())


def apply(script: Script) -> tuple[HostStanding, list[HostStanding], list[float]]:
    said: list[HostStanding] = []
    waited: list[float] = []
    asked = applying.HostTerms(60, Approved("{}", POLICY))
    outcome = applying.apply(visit(script), asked, YES, said.append, waited.append)
    return outcome.standing, said, waited


def test_a_change_is_looked_at_again_and_confirmed() -> None:
    script = Script(apply=APPLIED)
    last, said, waited = apply(script)
    assert script.verbs() == ["history", "apply", "verify", "confirm"]
    assert script.asked[1][-2:] == ["-", "--json"]
    assert script.stdin[1] == f"{POLICY}\n{{}}\n".encode()
    assert script.asked[3][1] == "T2"
    assert (last.state, last.rc, last.transaction, last.changed) == ("confirmed", 0, "T2", True)
    assert [(word.state, word.transaction) for word in said] == [
        ("applied", None),
        ("applied", "T2"),
        ("applied", "T2"),
    ]
    assert [word.message for word in said] == ["applying", "", "confirming"]
    assert waited == []


def test_nothing_to_do_is_not_a_change() -> None:
    last, _, _ = apply(Script(apply={"kind": "apply", "outcome": "nothing"}))
    assert (last.state, last.rc, last.changed) == ("untouched", 0, False)


def test_a_fault_that_is_still_there_is_undone() -> None:
    still = {**VERIFIED, "findings": [{**FINDING, "verdict": "active"}], "rc": 2}
    script = Script(apply=APPLIED, verify=still)
    last, _, _ = apply(script)
    assert script.verbs()[-1] == "rollback"
    assert "T2" in script.asked[-1]
    assert (last.state, last.rc, last.changed) == ("reverted", 3, False)
    assert last.message == "the fault is still there: c on s is active"


def test_another_fault_of_the_host_does_not_count() -> None:
    other = {**VERIFIED, "findings": [{**FINDING, "id": "other", "verdict": "proven"}], "rc": 2}
    last, _, _ = apply(Script(apply=APPLIED, verify=other))
    assert last.state == "confirmed"


def test_what_did_not_stay_is_undone() -> None:
    gone = {**VERIFIED, "in_force": [{"transaction": "T2", "resource": "r", "state": "gone"}]}
    last, _, _ = apply(Script(apply=APPLIED, verify=gone))
    assert (last.state, last.rc) == ("reverted", 3)


def test_an_undo_that_fails_needs_a_human() -> None:
    still = {**VERIFIED, "findings": [{**FINDING, "verdict": "active"}]}
    stuck = {"kind": "rollback", "outcome": "incomplete", "rc": 4}
    last, _, _ = apply(Script(apply=APPLIED, verify=still, rollback=stuck))
    assert (last.state, last.rc) == ("needs-human", 4)


def history(outcome: str) -> list[Any]:
    old = {"transaction": "T1", "kind": "apply", "outcome": "applied"}
    new = {"transaction": "T2", "kind": "apply", "outcome": outcome}
    return [{"kind": "history", "transactions": [old]},
            {"kind": "history", "transactions": [new, old]}]  # fmt: skip


def test_a_host_whose_time_was_up_before_it_was_looked_at_has_undone_it_itself() -> None:
    still = {**VERIFIED, "findings": [{**FINDING, "verdict": "exposed"}], "rc": 2}
    nothing = Reply(65, MARK, "remedy: transaction 'T2' has nothing in force\n")
    script = Script(apply=APPLIED, verify=still, rollback=nothing, history=history("reverted"))
    last, _, waited = apply(script)
    assert script.verbs()[-3:] == ["verify", "rollback", "history"]
    assert (last.state, last.rc, last.changed) == ("reverted", 7, False)
    assert last.message.endswith("is exposed; the host has undone it")
    assert waited == []


def test_a_line_that_breaks_is_waited_for_until_the_host_has_made_up_its_mind() -> None:
    for outcome, state, rc in (
        ("reverted", "reverted", 7), ("confirmed", "confirmed", 0), ("applied", "needs-human", 4),
    ):  # fmt: skip
        last, _, waited = apply(Script(apply=HostLost("cut"), history=history(outcome)))
        assert (last.state, last.rc, last.transaction) == (state, rc, "T2")
        assert waited == [60 + applying.GRACE]
    last, _, _ = apply(Script(apply=APPLIED, verify=HostLost("cut"), history=history("reverted")))
    assert (last.state, last.rc) == ("reverted", 7)
    nothing = [history("")[0], history("")[0]]
    last, _, _ = apply(Script(apply=HostLost("cut"), history=nothing))
    assert (last.state, last.rc) == ("untouched", 9)


def test_what_others_applied_since_is_not_taken_for_the_change() -> None:
    old, new = history("reverted")
    later = {"transaction": "T3", "kind": "apply", "outcome": "applied"}
    rows = [later, *new["transactions"]]
    after = {"kind": "history", "transactions": rows}
    for script in (Script(apply=HostLost("cut"), history=[old, after]),
                   Script(apply=APPLIED, verify=HostLost("cut"),
                          history=[old, after])):  # fmt: skip
        last, _, _ = apply(script)
        assert (last.state, last.rc, last.transaction) == ("reverted", 7, "T2")
    gone = {"kind": "history", "transactions": [later]}
    last, _, _ = apply(Script(apply=APPLIED, verify=HostLost("cut"), history=[old, gone]))
    assert (last.state, last.rc) == ("needs-human", 4)
    assert "T2" in last.message


def test_a_host_that_stays_away_is_unreachable_and_was_touched() -> None:
    gone = [history("")[0], HostLost("gone")]
    last, _, _ = apply(Script(apply=HostLost("cut"), history=gone))
    assert (last.state, last.rc, last.details) == ("unreachable", 9, {"touched": True})


def test_refusals_leave_the_host_as_it_was() -> None:
    for rc, outcome in ((5, "stale"), (8, "refused")):
        last, _, _ = apply(Script(apply={"kind": "apply", "outcome": outcome, "rc": rc}))
        assert (last.state, last.rc) == ("untouched", rc)
    last, _, _ = apply(Script(apply=Reply(6, MARK, "remedy: another writer; wait\n")))
    assert (last.state, last.rc, last.message) == ("untouched", 6, "another writer; wait")
    last, _, _ = apply(Script(apply=Reply(70, MARK, "remedy: internal error\n")))
    assert (last.state, last.rc) == ("needs-human", 70)


@given(out=st.text(), err=st.text(), rc=st.integers(0, 255))
def test_garbage_is_one_clean_line(out: str, err: str, rc: int) -> None:
    if rc == BUNDLE_WANTED:
        return
    for before in ("", MARK):
        reply = Reply(rc, before + out, err)
        found = calls.look(visit(Script(scan=reply)), "scan", policy=POLICY)
        assert found.plain == {}
        assert found.standing.rc != 0
        assert found.standing.message
        assert found.standing.message.isprintable()


def test_a_damaged_kept_bundle_is_not_sent(tmp_path: Path) -> None:
    """As a disk leaves it; a host would refuse it each time, and say that it was the network."""
    sent = []

    def carry(command: str, stdin: bytes) -> Reply:
        sent.append(stdin)
        return Reply(BUNDLE_WANTED, "", "")

    data = b"a bundle"
    path = tmp_path / f"{build.digest(data)}.pyz"
    host = RemoteHost(carry, str(path), build.digest(data), "/var/lib/remedy/bundle")
    path.write_bytes(data)
    host.ask(["plan"])
    assert sent == [b"\n", b"a bundle\n"]
    path.write_bytes(b"a bungle")
    with pytest.raises(RemedyError, match=str(path)) as refused:
        host.ask(["plan"])
    assert "remove it" in (refused.value.hint or "")
    assert len(sent) == 3


def test_where_nobody_leads_any_more_nothing_is_begun_and_nothing_confirmed() -> None:
    """The controller is gone before the host is told to apply, before and after the second look."""
    for asked, state in ((0, "untouched"), (1, "applied"), (2, "applied")):
        script = Script(apply=APPLIED)
        led = iter([True] * asked + [False])
        said: list[HostStanding] = []
        what = applying.HostTerms(60, Approved("{}", POLICY))
        outcome = applying.apply(
            visit(script), what, YES, said.append, lambda _: None, led.__next__
        )
        verbs_sent = [words[0] for words in script.asked]
        assert verbs_sent == ["history", "apply", "verify"][: asked + 1], asked
        assert outcome.standing.state == state
        assert outcome.standing.details == ({"timeout": 60} if asked else {})
        assert "the controller was stopped" in outcome.standing.message
        assert "confirming" not in [word.message for word in said]


@pytest.mark.parametrize(
    "key", ["findings", "unknown", "in_force", "changes", "refused", "verified"]
)
@pytest.mark.parametrize("value", [{"a": {}}, "text", 7, ["text"], [[]]])
def test_an_answer_of_another_shape_is_not_remedys(key: str, value: object) -> None:
    script = Script(scan={"kind": "scan", key: value})
    answer = RemoteHost(script, "/nonexistent", DIGEST, "/state/bundle").ask(["scan"])
    assert (answer.rc, answer.plain) == (1, {})
    assert "the host's answer is not remedy's" in answer.message


def test_an_answer_that_ansible_would_not_hand_on_is_not_taken() -> None:
    script = Script(scan={"kind": "scan", "findings": [FINDING] * 4000})
    answer = RemoteHost(script, "/nonexistent", DIGEST, "/state/bundle").ask(["scan"])
    assert (answer.rc, answer.plain) == (1, {})
    assert answer.message.startswith("the host's answer holds 4000 of findings")


def test_a_host_that_applied_and_cannot_be_understood_is_waited_for_like_one_that_was_lost() -> (
    None
):
    old = {"transaction": "T1", "kind": "apply", "outcome": "confirmed"}
    new = {"transaction": "T2", "kind": "apply", "outcome": "reverted"}
    told = [{"kind": "history", "transactions": rows} for rows in ([old], [new, old])]
    script, waited = Script(apply=Reply(0, MARK + "{", ""), history=told), list[float]()
    what = applying.HostTerms(60, Approved("{}", POLICY))
    found = applying.apply(visit(script), what, YES, lambda _: None, waited.append).standing
    assert (found.state, found.rc, waited) == ("reverted", 7, [60 + applying.GRACE])
    assert "not remedy's" in found.message


def test_a_failure_on_the_host_is_no_result_and_one_line() -> None:
    said = {"kind": "error", "code": 78, "message": "p.yaml:3: key", "hint": "mend it"}
    reply = Reply(78, MARK + json.dumps(said), "remedy: p.yaml:3: key; mend it\n")
    host = RemoteHost(Script(scan=reply), "/nonexistent", DIGEST, "/state/bundle")
    answer = host.ask(["scan"])
    assert (answer.rc, answer.plain, answer.message) == (78, {}, "p.yaml:3: key; mend it")
    assert answer.understood
