"""conntrack-pressure: the threshold, the severity, and who owns the flows."""

from __future__ import annotations

import pytest

from remedies.conditions import conntrack_pressure
from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.flows import Flows, Share
from remedies.facts.process import Process
from remedies.facts.sockets import Sockets, UdpSocket
from remedies.facts.sysctl import NO_KEY, Sysctl
from remedies.model import Finding, Host
from remedies.netlink.links import Address, Link, Links
from remedies.values import replace

COUNT, MAX = "net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max"
SHARES = (
    Share("udp", "192.0.2.53", 53, 600),
    Share("udp", "192.0.2.10", 5060, 200),
)


def facts(sysctl: Sysctl, drop: int = 0, shares: tuple[Share, ...] = SHARES) -> Facts:
    owner = Process(7, "kamailio", (), "kamailio.service")
    known = {
        "sysctl": sysctl,
        "counters": Counters({"nf_conntrack.drop": 5}, {"nf_conntrack.drop": 5 + drop}),
        "flows": Flows(shares=shares),
        "links": Links((Link(2, "eth0", "", up=True),), (Address("192.0.2.10", 24, 2, "global"),)),
        "sockets": Sockets((UdpSocket(6, "::", 5060, 1, 0, v6only=False, owner=owner),)),
    }
    return Facts(Host("box", "m", "6.1", "host", "b"), "", 1.0, known)


def detect(count: str, drop: int = 0, **params: object) -> tuple[Finding, ...]:
    return conntrack_pressure.detect(facts(Sysctl({COUNT: count, MAX: "1000"}), drop), params)


@pytest.mark.parametrize("count", ["0", "799"])
def test_below_the_threshold_there_is_nothing(count: str) -> None:
    assert detect(count) == ()


@pytest.mark.parametrize(("count", "severity"), [("800", "high"), ("900", "critical")])
def test_from_the_threshold_on_it_is_active(count: str, severity: str) -> None:
    (found,) = detect(count)
    assert (found.verdict, found.severity, found.subject) == ("active", severity, "nf_conntrack")


def test_drops_make_it_critical() -> None:
    (found,) = detect("800", drop=3)
    assert found.severity == "critical"
    assert "3 packets were dropped" in found.message


def test_policy_sets_the_threshold() -> None:
    assert detect("850", threshold_percent=90) == ()
    assert len(detect("500", threshold_percent=50)) == 1


def test_the_local_service_that_owns_most_is_named_although_another_owns_more() -> None:
    (found,) = detect("850")
    assert "kamailio on udp port 5060 owns 200" in found.message
    assert found.details == {
        "protocol": "udp",
        "address": "192.0.2.10",
        "port": "5060",
        "process": "kamailio",
        "pid": "7",
        "unit": "kamailio.service",
        "container": "",
    }
    assert [e.value for e in found.evidence if e.source == "conntrack"] == ["600", "200"]


def test_without_shares_nobody_is_named() -> None:
    asked = facts(Sysctl({COUNT: "900", MAX: "1000"}), shares=())
    (found,) = conntrack_pressure.detect(asked, {})
    assert found.details == {}


def test_a_kernel_without_conntrack_has_no_pressure() -> None:
    assert conntrack_pressure.detect(facts(Sysctl({}, {COUNT: NO_KEY, MAX: NO_KEY})), {}) == ()


@pytest.mark.parametrize(
    "sysctl", [Sysctl({}, {COUNT: "Permission denied"}), Sysctl({COUNT: "many", MAX: "1"})]
)
def test_what_could_not_be_read_is_unknown(sysctl: Sysctl) -> None:
    with pytest.raises(Unreadable, match=COUNT):
        conntrack_pressure.detect(facts(sysctl), {})


@pytest.mark.parametrize("name", ["counters", "flows", "links", "sockets"])
def test_a_full_table_is_found_although_its_owners_cannot_be_read(name: str) -> None:
    """A dump of a full table on a busy machine may well be out of time."""
    whole = facts(Sysctl({COUNT: "1000", MAX: "1000"}))
    known = {key: value for key, value in whole.known.items() if key != name}
    (found,) = conntrack_pressure.detect(
        replace(whole, known=known, unknown={name: "too slow"}), {}
    )
    assert (found.verdict, found.severity) == ("active", "critical")
    assert any((e.key, "too slow" in e.value) == ("not read", True) for e in found.evidence)
