"""Which NAT rules a notrack rule can be about: by what they see, and by where they lead."""

from __future__ import annotations

import pytest

from remedies.rules.decoded import Step
from remedies.rules.rule import Match
from remedies.rules.sought import Sought, Untracked, beside, of_protocols

OWN = ("192.0.2.10", "fd00::10")
UDP = ("udp",)


def ports(*numbers: int) -> tuple[tuple[int, int], ...]:
    return tuple((number, number) for number in numbers)


REQUESTS: Untracked = ("prerouting", Match(UDP, destination_ports=ports(5060)))
TO_HOST: Untracked = (
    "prerouting",
    Match(UDP, destinations=("192.0.2.10/32",), destination_ports=ports(5060)),
)
FROM_SERVERS: Untracked = ("prerouting", Match(UDP, source_ports=ports(53)))
ANSWERS: Untracked = ("output", Match(UDP, sources=("192.0.2.10/32",), source_ports=ports(5060)))
OF_CLIENTS: Untracked = ("prerouting", Match(UDP, source_ports=ports(40000)))
CLIENTS: Untracked = ("prerouting", Match(UDP, destination_ports=((40000, 50000),)))


@pytest.mark.parametrize(
    ("untracked", "rule", "met"),
    [
        (REQUESTS, Match(UDP, destination_ports=ports(5060)), True),
        (REQUESTS, Match(destination_ports=ports(53)), False),
        (REQUESTS, Match(("tcp",)), False),
        (REQUESTS, Match(), True),
        (TO_HOST, Match(destinations=("10.96.0.10/32",), destination_ports=ports(5060)), False),
        (TO_HOST, Match(destination_local=True, destination_ports=ports(5060)), True),
        # A service's port sends to clients, and to services of the same port.
        (ANSWERS, Match(destination_ports=ports(53)), False),
        (ANSWERS, Match(destination_ports=ports(5060)), True),
        (ANSWERS, Match(destination_ports=ports(40000)), True),
        (CLIENTS, Match(destination_ports=ports(53)), False),
        # What comes from a client's port may go to any.
        (FROM_SERVERS, Match(destination_ports=ports(54)), False),
        (OF_CLIENTS, Match(destination_ports=ports(54)), True),
        # The answers to what comes from a port that a rule names come to that port.
        (CLIENTS, Match(source_ports=ports(5060), destination_ports=ports(53)), True),
    ],
)
def test_by_what_a_rule_sees(untracked: Untracked, rule: Match, met: bool) -> None:
    assert beside([untracked], OWN).met(rule) is met


@pytest.mark.parametrize(
    ("untracked", "action", "to", "turns"),
    [
        (ANSWERS, "dnat", "192.0.2.10:5060", True),
        (ANSWERS, "dnat", "192.0.2.10:5061", False),
        (ANSWERS, "dnat", "192.0.2.10", True),
        (ANSWERS, "dnat", "10.244.0.7:5060", False),
        (ANSWERS, "dnat", "192.0.2.8-192.0.2.15:5060", True),  # a range: may be
        (ANSWERS, "dnat", "", True),
        (ANSWERS, "redirect", ":5060", True),
        (ANSWERS, "redirect", ":53", False),
        (ANSWERS, "masquerade", "", False),
        (FROM_SERVERS, "dnat", "10.244.0.7:53", True),
        (FROM_SERVERS, "dnat", "10.244.0.7:54", False),
        (FROM_SERVERS, "dnat", "192.0.2.10:53", False),  # this host's own answers pass output
        (FROM_SERVERS, "redirect", ":53", False),
        (CLIENTS, "dnat", "10.244.0.7:53", True),
        (REQUESTS, "dnat", "10.244.0.7:5060", False),  # no client's port
    ],
)
def test_by_where_a_rule_leads(untracked: Untracked, action: str, to: str, turns: bool) -> None:
    step = Step(Match(UDP), "accept", action=action, to=to)
    assert beside([untracked], OWN).turns(step) is turns


def test_a_rule_turns_no_answers_of_another_protocol() -> None:
    step = Step(Match(("tcp",)), "accept", action="dnat", to="192.0.2.10:5060")
    assert not beside([ANSWERS], OWN).turns(step)


def test_without_the_hosts_addresses_a_target_may_be_one() -> None:
    elsewhere = Step(Match(UDP), "accept", action="dnat", to="192.0.2.10:5060")
    assert beside([ANSWERS], ()).turns(elsewhere)


def test_behind_routing_protocols_tell() -> None:
    assert of_protocols([ANSWERS, REQUESTS]) == Sought((Match(UDP),))
