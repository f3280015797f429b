"""A redirected request beside the one it was: which rules let in the one and not the other."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remedies.rules.admission import InputChain, InputRule, closed
from remedies.rules.rule import JUMP_DEPTH, Match
from remedies.values import replace

OLD_ADDRESS, NEW_ADDRESS = "10.21.17.99/32", "172.17.0.1/32"
PORT = ((56789, 56789),)
ANY = Match()


def request(address: str) -> Match:
    return Match(
        protocols=("udp",),
        sources=("0.0.0.0/0",),
        destinations=(address,),
        destination_ports=PORT,
        in_interfaces=("docker0",),
        destination_local=True,
        states=("new",),
    )


def rule(
    verdict: str,
    match: Match = ANY,
    chain: str = "in",
    target: str = "",
) -> InputRule:
    return InputRule(chain, match, verdict, target, f"{verdict} {chain}")


def to(address: str) -> Match:
    return Match(protocols=("udp",), destinations=(address,), destination_ports=PORT)


def nested(depth: int) -> list[InputRule]:
    """Return chains that lead from one to the next, the last of which accepts."""
    names = ["in", *(f"c{number}" for number in range(depth))]
    jumps = [rule("jump", chain=one, target=other) for one, other in zip(names, names[1:])]
    return [*jumps, rule("accept", chain=names[-1])]


TO_OLD, TO_NEW, TO_PORT = to(OLD_ADDRESS), to(NEW_ADDRESS), Match(destination_ports=PORT)
BOTH = replace(TO_OLD, destinations=(OLD_ADDRESS, NEW_ADDRESS))
SOME = Match(sources=("172.17.0.2/32",))
SET = Match(unmodelled=("match-set",))
CASES = {
    "nothing": ((), True, None),
    "a policy drops both": ((), False, None),
    "the port is open": ([rule("accept", TO_PORT)], False, None),
    "the link is open": ([rule("accept", Match(in_interfaces=("docker0",)))], False, None),
    "one address is open": ([rule("accept", TO_OLD)], False, "policy"),
    "one address is open and nothing is dropped": ([rule("accept", TO_OLD)], True, None),
    "one is open, the other by a later rule": (
        [rule("accept", TO_OLD), rule("accept", TO_PORT)],
        False,
        None,
    ),
    "one is open, the other for some": (
        [rule("accept", TO_OLD), rule("accept", Match(sources=SOME.sources))],
        False,
        "policy",
    ),
    "one is open, then all is dropped": (
        [rule("accept", TO_OLD), rule("drop")],
        True,
        "'drop in' (here) stops requests to 172.17.0.1; 'accept in' opens 10.21.17.99 alone",
    ),
    "the bridge's address is dropped": ([rule("drop", TO_NEW)], True, "'drop in' (here) stops"),
    "the bridge's address is rejected": ([rule("reject", TO_NEW)], True, "'reject in'"),
    "the uplink's address is dropped": ([rule("drop", TO_OLD)], True, None),
    "a chain for one of them, then the other is dropped": (
        [rule("jump", TO_OLD, target="mine"), rule("drop", TO_NEW)],
        True,
        "'jump in' (here) decides otherwise",
    ),
    "both addresses are dropped": ([rule("drop", BOTH)], True, None),
    "some of one are let in, then both addresses are dropped": (
        [rule("accept", replace(TO_OLD, sources=SOME.sources)), rule("drop", BOTH)],
        True,
        "'drop in' (here) stops",
    ),
    "all is dropped but the bridge's": (
        [rule("drop", Match(not_destinations=(NEW_ADDRESS,)))],
        True,
        None,
    ),
    "a set opens some": ([rule("accept", SET)], False, "policy"),
    "a set drops some": ([rule("drop", SET)], True, "'drop in' (here) stops"),
    "a limit drops both alike": ([rule("drop", Match(unmodelled=("limit",)))], True, None),
    "a mark opens both alike": ([rule("accept", Match(unmodelled=("meta mark",)))], False, None),
    "a status opens both alike": (
        [rule("accept", Match(unmodelled=("bits of ct key 2",)))],
        False,
        None,
    ),
    "a part of a header may be the address": (
        [rule("accept", Match(unmodelled=("bits of destination",)))],
        False,
        "policy",
    ),
    "a source is dropped for both": ([rule("drop", SOME)], True, None),
    "opened in a chain": (
        [rule("jump", target="mine"), rule("accept", TO_OLD, "mine")],
        False,
        "policy",
    ),
    "opened in a chain for both": (
        [rule("jump", target="mine"), rule("accept", TO_PORT, "mine")],
        False,
        None,
    ),
    "a chain is left by both, and one is opened behind it": (
        [
            rule("jump", target="mine"),
            rule("return", Match(), "mine"),
            rule("drop", Match(), "mine"),
            rule("accept", TO_OLD),
        ],
        False,
        "policy",
    ),
    "opened behind a chain that some leave": (
        [
            rule("jump", target="mine"),
            rule("return", SOME, "mine"),
            rule("accept", Match(), "mine"),
            rule("accept", TO_OLD),
        ],
        False,
        "policy",
    ),
    "one is open, and both leave the chain that drops": (
        [
            rule("accept", TO_OLD),
            rule("jump", target="mine"),
            rule("return", Match(), "mine"),
            rule("drop", Match(), "mine"),
            rule("accept"),
        ],
        False,
        None,
    ),
    "one is open, and some leave the chain that drops": (
        [
            rule("accept", TO_OLD),
            rule("jump", target="mine"),
            rule("return", SOME, "mine"),
            rule("drop", Match(), "mine"),
            rule("accept"),
        ],
        False,
        "drop mine",
    ),
    "sent to a chain by address": (
        [rule("jump", TO_OLD, target="mine"), rule("accept", Match(), "mine")],
        False,
        "decides otherwise",
    ),
    "some are sent to a chain that lets both in, and one is opened behind it": (
        [
            rule("jump", SOME, target="mine"),
            rule("accept", Match(), "mine"),
            rule("accept", TO_OLD),
        ],
        False,
        "policy",
    ),
    "who goes to a chain does not come back": (
        [rule("goto", target="mine"), rule("accept", TO_OLD, "mine"), rule("accept")],
        False,
        "policy",
    ),
    "some go to a chain, and one of the others is opened": (
        [rule("goto", SOME, target="mine"), rule("accept", TO_OLD)],
        False,
        "policy",
    ),
    "some go to a chain, and both of the others are opened": (
        [rule("goto", SOME, target="mine"), rule("accept")],
        False,
        None,
    ),
    "a loop of chains": ([rule("jump", target="in")], True, "too many chains"),
    "as many chains as the kernel goes through": (nested(JUMP_DEPTH), False, None),
    "one chain more": (nested(JUMP_DEPTH + 1), False, "too many chains"),
    "established only": ([rule("accept", Match(states=("established",)))], False, None),
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_redirected_request_is_kept_out_where_the_other_is_not(case: str) -> None:
    rules, accepts, expected = CASES[case]
    chain = InputChain("here", "ip", "in", accepts, tuple(rules))
    why: Optional[str] = closed(chain, request(OLD_ADDRESS), request(NEW_ADDRESS))
    if expected is None:
        assert why is None
    else:
        assert why is not None
        assert expected in why
        assert "requests to 172.17.0.1" in why


TRACKED_LOOKS = ("ct key 2", "bits of ct key 2", "connlimit", "conntrack", "ctstate SNAT/DNAT")


@pytest.mark.parametrize("name", ["limit", "meta mark", "match-set", "fib daddr", *TRACKED_LOOKS])
def test_a_rule_may_look_at_the_conntrack_entry(name: str) -> None:
    """A packet without one is another packet to such rules, and the same to all others."""
    chain = InputChain("here", "ip", "in", False, (rule("accept", Match(unmodelled=(name,))),))
    one = request(OLD_ADDRESS)
    why = closed(chain, one, replace(one, states=("untracked",)))
    assert (why is not None) == (name in TRACKED_LOOKS)


NEW, UNTRACKED = Match(states=("new",)), Match(states=("untracked",))


@pytest.mark.parametrize(
    ("rules", "accepts", "told"),
    [
        ([rule("drop", UNTRACKED)], True, "'drop in' (here) stops untracked packets"),
        (
            [rule("accept", NEW), rule("drop")],
            True,
            "'drop in' (here) stops untracked packets; 'accept in' passes new ones alone",
        ),
        (
            [rule("accept", NEW)],
            False,
            "the policy of here drops untracked packets; 'accept in' passes new ones alone",
        ),
        ([rule("drop", NEW)], True, None),
        ([rule("accept", UNTRACKED), rule("drop")], True, None),
    ],
)
def test_a_rule_that_stops_what_is_not_tracked_is_named(
    rules: list[InputRule], accepts: bool, told: Optional[str]
) -> None:
    chain = InputChain("here", "ip", "in", accepts, tuple(rules))
    one = request(OLD_ADDRESS)
    assert closed(chain, one, replace(one, states=("untracked",))) == told


# Every short chain, against what becomes of each packet rule by rule.

_MATCHES = (ANY, TO_OLD, TO_NEW, SOME, Match(sources=("172.17.0.0/24",)))
_ENDS = st.builds(rule, st.sampled_from(("accept", "drop", "reject", "return")),
                  st.sampled_from(_MATCHES))  # fmt: skip
_JUMPS = st.builds(rule, st.sampled_from(("jump", "goto")), st.sampled_from((ANY, SOME)),
                   target=st.just("mine"))  # fmt: skip


def _meets(one: InputRule, source: str, destination: str) -> bool:
    """Tell whether a rule takes a packet, by its addresses alone."""
    match = one.match
    return (not match.sources or any(_in(source, net) for net in match.sources)) and (
        not match.destinations or f"{destination}/32" in match.destinations
    )


def _in(address: str, prefix: str) -> bool:
    return ip_address(address) in ip_network(prefix)


def _end(chains: dict[str, list[InputRule]], name: str, source: str, destination: str) -> str:
    """Return the verdict of a chain on one packet; empty where it comes out at its end."""
    for one in chains[name]:
        if not _meets(one, source, destination):
            continue
        if one.verdict == "return":
            return ""
        if one.verdict not in ("jump", "goto"):
            return one.verdict
        end = _end(chains, one.target, source, destination)
        if end or one.verdict == "goto":
            return end
    return ""


@given(
    base=st.lists(st.one_of(_ENDS, _JUMPS), max_size=4),
    mine=st.lists(_ENDS, max_size=3),
    accepts=st.booleans(),
)
@settings(max_examples=700)
def test_what_is_called_open_is_open_to_every_client_and_what_is_called_closed_stops_one(
    base: list[InputRule], mine: list[InputRule], accepts: bool
) -> None:
    mine = [replace(one, chain="mine") for one in mine]
    chain = InputChain("here", "ip", "in", accepts, (*base, *mine))
    chains = {"in": base, "mine": mine}

    def passes(source: str, address: str) -> bool:
        end = _end(chains, "in", source, address.partition("/")[0])
        return end == "accept" or (not end and accepts)

    stopped = [s for s in ("172.17.0.2", "172.17.0.3", "10.0.0.1") if not passes(s, NEW_ADDRESS)]
    why = closed(chain, request(OLD_ADDRESS), request(NEW_ADDRESS))
    if why is None:
        assert not [source for source in stopped if passes(source, OLD_ADDRESS)]
    elif "otherwise" not in why and not any(one.match.sources for one in (*base, *mine)):
        assert stopped, why
