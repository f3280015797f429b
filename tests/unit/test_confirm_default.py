"""When apply waits for a confirmation that nobody asked for: README says over SSH, by default."""

from __future__ import annotations

from typing import Optional

import pytest
from builder import HOST, change, facts, plan, policy

from remedies.errors import UsageError
from remedies.facts import session as ssh
from remedies.facts.routes import Routes
from remedies.facts.session import Connection
from remedies.model import Change
from remedies.operations import weigh
from remedies.operations.session import HostSession

REMOTE = Connection("203.0.113.9", 50000, "192.0.2.1", 22, "SSH_CONNECTION", True, True, True)
LOCAL = Connection("127.0.0.1", 50000, "127.0.0.1", 22, "SSH_CONNECTION", True, True, True)
MILD = change("sysctl:net.ipv4.ip_forward", "0", "1")
HARMLESS = change("sysctl:net.netfilter.nf_conntrack_tcp_be_liberal", "0", "1")
SEVERE = change(
    "nft:inet/x",
    after='{"chain": {"family": "inet", "table": "x", "name": "in", "type": "filter", '
    '"hook": "input", "prio": 0, "policy": "accept"}}\n'
    '{"rule": {"family": "inet", "table": "x", "chain": "in", "expr": [{"drop": null}]}}',
)


def waits(
    connection: Connection,
    *changes: Change,
    timeout: Optional[float] = None,
    confirm: Optional[str] = None,
) -> Optional[float]:
    seen = facts(ssh.Session((connection,), (), True), Routes())
    here = HostSession(HOST, policy(), "", {}, {}, read=lambda *_, **__: seen)
    return weigh.confirm_time(here, plan(*changes), timeout, confirm)


def test_over_ssh_it_waits_for_what_can_be_noticed() -> None:
    assert waits(REMOTE, MILD) == weigh.CONFIRM > 0
    assert waits(REMOTE, HARMLESS) is None
    assert waits(LOCAL, MILD) is None


def test_what_can_cut_off_is_refused_until_it_is_named_or_timed() -> None:
    with pytest.raises(UsageError, match=r"nft:inet/x.*--confirm-timeout"):
        waits(REMOTE, SEVERE)
    assert waits(REMOTE, SEVERE, timeout=30.0) is None, "as it was asked for"
    assert waits(REMOTE, SEVERE, confirm=HOST.name) is None
    with pytest.raises(UsageError, match=HOST.name):
        waits(REMOTE, SEVERE, confirm="another")


def test_boot_files_alone_need_no_confirmation() -> None:
    assert waits(REMOTE, change("file:/etc/x", boot=True)) is None
