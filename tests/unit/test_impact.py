"""Will this cut me off: rules of ours against a session, a new one like it, and DNS queries."""

from __future__ import annotations

import builder
import pytest
from builder import change, plan
from older_drop import OLDER, OLDER_LINE

from remedies.facts import Facts
from remedies.facts.netfilter import Netfilter
from remedies.facts.routes import DefaultRoute, Routes
from remedies.facts.session import Connection, Session
from remedies.fixes import invalid_drop, notrack
from remedies.model import Backend, Terms
from remedies.planning import lockout
from remedies.rules import ours
from remedies.rules.kinds import rules_of
from remedies.values import replace

SSH = Connection("203.0.113.9", 50000, "192.0.2.1", 22, "SSH_CONNECTION", True, True, True)
DROP = f"nft:{invalid_drop.TABLE}"
CHAIN = "iptables:mangle/REMEDY-INVALID"


def facts(*connections: Connection, loose: bool | None = True, dns: str = "192.0.2.53") -> Facts:
    return builder.facts(Session(connections, (dns,), loose), Routes())


def judged(resource: str, after: str | None, seen: Facts) -> tuple[str, str]:
    (found,) = lockout.judge(plan(change(resource, None, after)), seen)
    return found.severity, found.reason


def drop_chain() -> str:
    rules = (OLDER_LINE,)
    return ours.iptables_chain("mangle/REMEDY-INVALID", "nft", ("INPUT", "FORWARD"), rules)


BOTH = pytest.mark.parametrize(("resource", "state"), [(DROP, OLDER), (CHAIN, drop_chain())])
"""Every INVALID segment dropped, as earlier versions did."""


@BOTH
def test_a_tracked_session_is_not_harmed_by_an_invalid_drop(resource: str, state: str) -> None:
    assert judged(resource, state, facts(SSH)) == ("none", "little")


@BOTH
def test_a_session_that_conntrack_cannot_pick_up_would_be_cut(resource: str, state: str) -> None:
    unknown = replace(SSH, tracked=False, replied=None)
    level, reason = judged(resource, state, facts(unknown, loose=False))
    assert level == "severe"
    assert "203.0.113.9:50000 -> 192.0.2.1:22" in reason
    assert judged(resource, state, facts(unknown, loose=True))[0] == "mild"
    assert judged(resource, state, facts(unknown, loose=None))[0] == "mild", "no such key yet"


def test_half_a_connection_would_be_cut() -> None:
    half = replace(SSH, replied=False)
    assert judged(DROP, OLDER, facts(half))[0] == "severe"


def test_what_may_not_be_asked_is_not_called_fine() -> None:
    blind = replace(SSH, tracked=None, replied=None)
    assert judged(DROP, OLDER, facts(blind))[0] == "mild"
    unknown = builder.facts(unknown={"session": "too slow"})
    assert judged(DROP, OLDER, unknown)[0] == "mild"


def test_a_reset_that_is_kept_in_cuts_no_session() -> None:
    """Whatever conntrack knows of it: no segment of the session is a reset."""
    line = ours.iptables_chain(
        "mangle/REMEDY-INVALID", "nft", ("OUTPUT", "FORWARD"), (invalid_drop.LINE,)
    )
    for session in (SSH, replace(SSH, replied=False), replace(SSH, tracked=False, replied=None)):
        for resource, state in ((DROP, invalid_drop.table()), (CHAIN, line)):
            assert judged(resource, state, facts(session, loose=False))[0] != "severe"


def test_no_session_no_harm() -> None:
    assert judged(DROP, OLDER, facts())[0] == "none"
    assert judged("nft:inet/remedy_x", None, facts(SSH))[0] == "none"


def notrack_state(backend: Backend, port: int, address: str = "192.0.2.1") -> tuple[str, str]:
    params: dict[str, object] = {"protocol": "tcp", "ports": [port], "addresses": [address]}
    seen = builder.facts(Netfilter(True, "nft"))
    (wanted,) = notrack.desired(None, seen, Terms(backend=backend, params=params))
    assert wanted.state
    return wanted.resource, wanted.state


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
@pytest.mark.parametrize("live", [True, False])
def test_taking_the_sessions_own_port_out_of_conntrack_is_severe(
    backend: Backend, live: bool
) -> None:
    level, reason = judged(*notrack_state(backend, 22), facts(replace(SSH, live=live)))
    assert level == "severe"
    assert "takes out of conntrack" in reason


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
@pytest.mark.parametrize(("port", "address"), [(5060, "192.0.2.1"), (22, "192.0.2.2")])
def test_another_port_or_address_is_not(backend: Backend, port: int, address: str) -> None:
    assert judged(*notrack_state(backend, port, address), facts(SSH))[0] == "none"


def table(hook: str, *rule: ours.Expression, family: str = "inet") -> str:
    chain = ours.NftChain(hook, "filter", hook, 0, (rule,))
    return ours.nft_table(f"{family}/remedy_x", (chain,))


SSH_PORT = ours.payload("tcp", "dport", 22)


@pytest.mark.parametrize(
    ("rule", "level"),
    [
        ((SSH_PORT, ours.drop()), "severe"),
        ((ours.payload("tcp", "dport", ours.any_of(22, 80)), ours.drop()), "severe"),
        ((ours.payload("tcp", "dport", ours.port_range(1, 100)), ours.drop()), "severe"),
        ((ours.payload("tcp", "dport", 23), ours.drop()), "none"),
        ((ours.payload("udp", "dport", 22), ours.drop()), "none"),
        ((ours.payload("ip", "saddr", ours.prefix("203.0.113.0", 24)), ours.drop()), "severe"),
        ((ours.payload("ip", "saddr", ours.prefix("198.51.100.0", 24)), ours.drop()), "none"),
        ((SSH_PORT, ours.ct_state("new"), ours.drop()), "severe"),
        ((SSH_PORT, {"redirect": None}), "severe"),
        ((SSH_PORT, {"queue": None}), "severe"),
        ((ours.meta("iifname", "docker0"), SSH_PORT, ours.drop()), "severe"),
    ],
)
def test_any_rule_of_ours_is_laid_against_the_session(
    rule: tuple[ours.Expression, ...], level: str
) -> None:
    assert judged("nft:inet/remedy_x", table("prerouting", *rule), facts(SSH))[0] == level
    assert judged("nft:inet/remedy_x", table("forward", *rule), facts(SSH))[0] == "none"


SSH6 = replace(SSH, peer="2001:db8::9", address="2001:db8::1")
LATER = replace(SSH, live=False)


def port(protocol: str, direction: str, number: int) -> ours.Expression:
    return ours.payload(protocol, direction, number)


@pytest.mark.parametrize(
    ("session", "hook", "match", "level"),
    [
        (SSH, "input", port("tcp", "sport", 50000), "severe"),
        (SSH, "input", port("tcp", "sport", 50001), "none"),
        (LATER, "input", port("tcp", "sport", 50001), "severe"),
        (SSH, "input", ours.to_local(), "severe"),
        (SSH, "output", port("tcp", "sport", 22), "severe"),
        (SSH, "output", port("tcp", "sport", 23), "none"),
        (SSH, "output", port("tcp", "dport", 50000), "severe"),
        (SSH, "output", port("tcp", "dport", 50001), "none"),
        (SSH, "output", port("udp", "sport", 22), "none"),
        (SSH, "output", ours.payload("ip", "daddr", "203.0.113.9"), "severe"),
        (SSH, "output", ours.payload("ip", "daddr", "203.0.113.8"), "none"),
        (SSH, "postrouting", port("tcp", "sport", 22), "severe"),
        (SSH6, "input", port("tcp", "dport", 22), "severe"),
    ],
)
def test_a_drop_cuts_a_session_off_in_either_direction(
    session: Connection, hook: str, match: ours.Expression, level: str
) -> None:
    assert judged("nft:inet/remedy_x", table(hook, match, ours.drop()), facts(session))[0] == level


@pytest.mark.parametrize(("family", "harmed"), [("ip", SSH), ("ip6", SSH6)])
def test_rules_of_one_ip_version_do_not_see_sessions_of_the_other(
    family: str, harmed: Connection
) -> None:
    state = table("input", SSH_PORT, ours.drop(), family=family)
    for session in (SSH, SSH6):
        level = judged(f"nft:{family}/remedy_x", state, facts(session))[0]
        assert level == ("severe" if session is harmed else "none")


@pytest.mark.parametrize(
    ("session", "rule", "words"),
    [
        (SSH, (SSH_PORT, ours.drop()), "drops your session"),
        (LATER, (SSH_PORT, ours.drop()), "drops a session like yours"),
        (SSH, (SSH_PORT, ours.ct_state("new"), ours.drop()), "could drop your session"),
        (SSH, (SSH_PORT, {"reject": None}), "rejects your session"),
        (SSH, (SSH_PORT, ours.ct_state("new"), {"reject": None}), "rejects your session"),
        (SSH, (SSH_PORT, ours.notrack()), "takes out of conntrack"),
    ],
)
def test_what_a_rule_does_to_the_session_is_said(
    session: Connection, rule: tuple[ours.Expression, ...], words: str
) -> None:
    level, reason = judged("nft:inet/remedy_x", table("input", *rule), facts(session))
    assert level == "severe"
    assert f"{words}" in reason
    assert session.text in reason


DNS = port("udp", "dport", 53)


@pytest.mark.parametrize(
    ("hook", "rule", "level"),
    [
        ("output", (DNS, ours.drop()), "severe"),
        ("output", (DNS, {"reject": None}), "severe"),
        ("output", (DNS, ours.notrack()), "mild"),
        ("output", (port("udp", "dport", 52), ours.drop()), "none"),
        ("output", (port("udp", "dport", 54), ours.drop()), "none"),
        ("output", (port("tcp", "dport", 53), ours.drop()), "none"),
        ("output", (ours.payload("ip", "daddr", "192.0.2.54"), DNS, ours.drop()), "none"),
        ("output", (port("udp", "sport", 5353), ours.drop()), "none"),
        ("output", (ours.ct_state("invalid"), DNS, ours.drop()), "none"),
        ("input", (port("udp", "sport", 53), ours.drop()), "severe"),
        ("input", (port("udp", "sport", 54), ours.drop()), "none"),
        ("input", (port("tcp", "sport", 53), ours.drop()), "none"),
        ("input", (port("udp", "dport", 5353), ours.drop()), "none"),
        ("input", (ours.payload("ip", "saddr", "192.0.2.54"), ours.drop()), "none"),
        ("input", (DNS, ours.drop()), "none"),
        ("forward", (DNS, ours.drop()), "none"),
    ],
)
def test_the_hosts_own_dns_queries_and_their_answers_count(
    hook: str, rule: tuple[ours.Expression, ...], level: str
) -> None:
    assert judged("nft:inet/remedy_x", table(hook, *rule), facts())[0] == level


INVALID = ours.ct_state("invalid")


@pytest.mark.parametrize(
    ("hook", "rule", "ways", "level"),
    [
        ("forward", (INVALID, ours.drop()), [(4, "eth0"), (4, "eth1")], "mild"),
        ("forward", (INVALID, ours.drop()), [(6, "eth0"), (6, "eth1")], "mild"),
        ("forward", (INVALID, ours.drop()), [(4, "eth0"), (4, "eth0")], "none"),
        ("forward", (INVALID, ours.drop()), [(4, "eth0"), (6, "eth1")], "none"),
        ("forward", (ours.ct_state("new"), ours.drop()), [(4, "eth0"), (4, "eth1")], "none"),
        ("input", (INVALID, ours.drop()), [(4, "eth0"), (4, "eth1")], "none"),
    ],
)
def test_forwarded_connections_that_take_several_ways_count(
    hook: str, rule: tuple[ours.Expression, ...], ways: list[tuple[int, str]], level: str
) -> None:
    routes = Routes(tuple(DefaultRoute(family, (link,), 254, 0) for family, link in ways))
    found = judged("nft:inet/remedy_x", table(hook, *rule), builder.facts(Session(), routes))
    assert found[0] == level
    assert level == "none" or f"IPv{ways[0][0]} default routes leave by eth0, eth1" in found[1]
    unread = builder.facts(Session(), unknown={"routes": "EPERM"})
    assert judged("nft:inet/remedy_x", table(hook, *rule), unread)[0] == "none"


def test_half_a_connection_that_is_not_tracked_is_picked_up() -> None:
    seen = replace(SSH, tracked=False, replied=False)
    assert judged(DROP, OLDER, facts(seen))[0] == "mild"


def test_sysctls_and_stale_flows() -> None:
    assert judged("sysctl:net.netfilter.nf_conntrack_tcp_be_liberal", "1", facts(SSH))[0] == "none"
    assert judged("sysctl:net.ipv4.conf.all.rp_filter", "1", facts(SSH))[0] == "mild"
    (found,) = lockout.judge(plan(change(DROP, None, None, effects=("flow:udp/x",))), facts(SSH))
    assert found.severity == "mild"


def test_the_worst_comes_first_and_boot_files_do_not_count() -> None:
    changes = (
        change(DROP, None, invalid_drop.table()),
        change("nft:inet/remedy_x", None, table("input", SSH_PORT, ours.drop())),
        change("file:/etc/x", None, "x", boot=True),
    )
    unjudged = change("sysctl:net.ipv4.conf.all.rp_filter", "0", "1")
    found = lockout.judge(plan(*changes), facts(SSH))
    assert [i.severity for i in found] == ["severe", "none"]
    found = lockout.judge(plan(changes[0], unjudged), facts(SSH))
    assert [i.severity for i in found] == ["mild", "none"]


@pytest.mark.parametrize(
    ("connection", "remote"),
    [
        (SSH, True),
        (replace(SSH, live=False), False),
        (replace(SSH, peer="127.0.0.1"), False),
        (replace(SSH, peer="::1"), False),
        (replace(SSH, peer="192.0.2.1"), False),
    ],
)
def test_remote_is_a_live_connection_from_elsewhere(connection: Connection, remote: bool) -> None:
    assert lockout.is_remote(facts(connection)) is remote


def test_what_our_fixes_write_is_understood() -> None:
    states = [
        (DROP, OLDER),
        (CHAIN, drop_chain()),
        notrack_state("nftables", 5060),
        notrack_state("iptables", 5060),
    ]
    for resource, state in states:
        for rule in rules_of(resource, state):
            assert rule.action in ("drop", "notrack")
            assert rule.match.unmodelled == ()
            assert rule.hook in ("input", "forward", "prerouting", "output")
