"""What status says of a fix in force: since when, by which transaction, and for which fault."""

from __future__ import annotations

from argparse import Namespace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from builder import finding

from remedies.cli import status
from remedies.model import Held
from remedies.operations.outlook import AtBoot, Outlook
from remedies.operations.standing import HostStatus
from remedies.status.in_force import InForce
from remedies.transaction.ledger import Begin, Transaction, Verified

NAME, SYSCTL = "20261130T000226Z-3b333df4", "sysctl:net.netfilter.nf_conntrack_tcp_be_liberal"
BEGIN = Begin("apply", (), "0", "h", "m", "b", "root", "remedy apply")


def test_a_fix_is_told_with_its_age_and_its_fault() -> None:
    found = finding("tcp-invalid-reset", "tcp through NAT", verdict="proven")
    done = ({"finding": found.id, "condition": found.condition, "before": "proven",
             "after": "mitigated"},)  # fmt: skip
    told = Transaction(NAME, "2026-11-30T00:02:26Z", BEGIN, verified=Verified(done))
    held = Held(SYSCTL, "tcp-be-liberal", "0", "1", NAME, policy=("default",), answered=(found,))
    here = SimpleNamespace(
        ledger={NAME: told}, held={SYSCTL: held}, policy=SimpleNamespace(names=("default",))
    )
    entry = InForce(NAME, "tcp-be-liberal", SYSCTL, "ours")
    args = Namespace(no_color=True, plain=True, typed=frozenset(), quiet=False)
    text = status.text(args, cast(Any, here), HostStatus((entry,), Outlook((), ()), {}, ()))
    assert "since 2026-11-30 00:02:26 UTC" in text
    assert "for tcp-invalid-reset on tcp through NAT: was proven, mitigated right after" in text
    args.quiet = True
    brief = status.text(args, cast(Any, here), HostStatus((entry,), Outlook((), ()), {}, ()))
    assert brief == text.split("\n")[0]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (AtBoot(SYSCTL, "", None, ours=False, lasting=False), "lost at the next boot"),
        (AtBoot(SYSCTL, "a.conf:2", "0", ours=False, lasting=True), "that undoes the fix"),
        (AtBoot(SYSCTL, "a.conf:2", "1", ours=True, lasting=True), "a.conf:2 sets it to 1 at the"),
        (AtBoot(SYSCTL, "x.service", None, ours=True, lasting=True), "x.service brings it back"),
    ],
)
def test_the_next_boot_is_told_without_two_negations(entry: AtBoot, said: str) -> None:
    here = SimpleNamespace(ledger={}, held={})
    args = Namespace(no_color=True, plain=True, typed=frozenset(), quiet=False)
    text = status.text(args, cast(Any, here), HostStatus((), Outlook((entry,), ()), {}, ()))
    assert said in text
    assert "nothing brings it back" not in text
