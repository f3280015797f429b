"""What status says of a fix in force: since when, by which transaction, and for which fault."""

from __future__ import annotations

from argparse import Namespace
from types import SimpleNamespace
from typing import Any, cast

from builder import finding

from remedies.cli import status
from remedies.model import Held
from remedies.operations.outlook import Outlook
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
    args = Namespace(no_color=True, plain=True, typed=frozenset())
    text = status.text(args, cast(Any, here), HostStatus((entry,), Outlook((), ()), {}, ()))
    assert "since 2026-11-30 00:02:26 UTC" in text
    assert "for tcp-invalid-reset on tcp through NAT: was proven, mitigated right after" in text
    assert "'remedy verify'" in text
