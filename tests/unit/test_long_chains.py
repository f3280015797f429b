"""What chains of many rules cost to judge, and what is said where not all are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Optional

import pytest
from builder import packet_rule

from remedies.errors import Unreadable
from remedies.netfilter import invalid
from remedies.netfilter.accepts import AcceptSearch
from remedies.netfilter.chains import NARROW, ReadTables
from remedies.netfilter.stores import Base
from remedies.netlink.links import Address, Link, Links
from remedies.rules.decoded import Step
from remedies.rules.matching import remainder
from remedies.rules.rule import Match, PacketRule
from remedies.values import replace

FORWARD = Base("nft", "ip", "f", "FORWARD", "forward", 0, "filter", accepts=True, rules=1)
LINKS = Links(
    links=(Link(2, "eth0", "", True), Link(3, "docker0", "bridge", True)),
    addresses=(Address("203.0.113.1", 24, 2, "global"), Address("172.17.0.1", 16, 3, "global")),
)
INVALID = Step(Match(states=("invalid",)), "drop")
ALL = Step(Match(), "drop")


class Store:
    """Chains of steps; those with an address are narrow."""

    def __init__(self, chains: Mapping[str, Sequence[Step]]) -> None:
        self.steps = {name: list(steps) for name, steps in chains.items()}
        self.decoded: list[bytes] = []
        self.asked: list[str] = []
        self.ending = ""
        self.left_out: list[str] = []

    def bases(self) -> tuple[Base, ...]:
        return (FORWARD,)

    def tables(self) -> tuple[tuple[str, str], ...]:
        return (("ip", "f"),)

    def chains(self, family: str, table: str) -> tuple[str, ...]:
        return tuple(self.steps)

    def raw(self, family: str, table: str, chain: str) -> Iterator[bytes]:
        self.asked.append(chain)
        yield from (f"{chain} {at}".encode() for at in range(len(self.steps[chain])))
        if chain == self.ending:
            raise Unreadable("it took too long")

    def every(self, family: str, table: str) -> Iterator[tuple[str, bytes]]:
        return ((chain, rule) for chain in self.steps for rule in self.raw(family, table, chain))

    def follow(self, family: str, table: str, chains: frozenset[str]) -> None:
        raise AssertionError("there are no maps")

    def followed(self, family: str, table: str) -> Optional[frozenset[str]]:
        return None

    def _step(self, rule: bytes) -> Step:
        chain, _, at = rule.decode().partition(" ")
        return self.steps[chain][int(at)]

    def targets(self, family: str, table: str, rule: bytes) -> tuple[str, ...]:
        step = self._step(rule)
        return (step.chain,) if step.chain else ()

    def narrow(self, family: str, rule: bytes) -> bool:
        return bool(self._step(rule).match.destinations)

    def decode(self, family: str, table: str, rule: bytes) -> tuple[Step, ...]:
        self.decoded.append(rule)
        return (self._step(rule),)

    def text(self, family: str, table: str, chain: str, step: Step) -> str:
        return f"{step.verdict} {step.match.states}"

    def backend(self, family: str, table: str) -> str:
        return "nft"


def container(number: int) -> str:
    return f"172.17.{1 + number // 256}.{number % 256}"


def published(number: int) -> PacketRule:
    match = Match(
        protocols=("tcp",),
        destination_ports=((8000 + number,) * 2,),
        not_in_interfaces=("docker0",),
        destination_local=True,
    )
    return packet_rule("prerouting", "dnat", match, to=f"{container(number)}:80")


def service(number: int, verdict: str = "accept") -> Step:
    return Step(
        Match(
            protocols=("tcp",),
            destinations=(f"{container(number)}/32",),
            destination_ports=((80, 80),),
            out_interfaces=("docker0",),
        ),
        verdict,
    )


def judge(
    store: Store,
    nat: Optional[Sequence[PacketRule]] = None,
    tables: Optional[ReadTables] = None,
) -> invalid.Judged:
    rules = [published(0)] if nat is None else nat
    return invalid.judged(
        [(store, FORWARD)],
        lambda family: rules if family == "ip" else [],
        LINKS,
        tables or ReadTables(),
    )


def test_what_is_left_of_packets_is_not_worked_out_for_each_of_many_services(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """500 published ports: the rest of 500 addresses, once for each of them, took seconds."""
    asked = []

    def counted(packets: Match, taken: Match) -> tuple[Match, ...]:
        asked.append(taken)
        return remainder(packets, taken)

    monkeypatch.setattr(invalid, "remainder", counted)
    chain = [service(number) for number in range(500)]
    led = Step(Match(out_interfaces=("docker0",)), "jump", "DOCKER")
    found = judge(
        Store({"FORWARD": [led, INVALID], "DOCKER": chain}), list(map(published, range(500)))
    )
    assert not found.unread
    assert len(asked) < 100


@pytest.mark.parametrize(("last", "closes"), [(INVALID, True), (ALL, False)])
def test_past_many_rules_by_address_only_a_drop_by_state_is_sure(last: Step, closes: bool) -> None:
    others = [service(1000 + number) for number in range(NARROW + 500)]
    store = Store({"FORWARD": [*others, last]})
    found = judge(store)
    assert not found.unread
    assert bool(found.drops) is closes
    assert len(set(store.decoded)) <= NARROW + 2


def test_up_to_that_many_rules_all_are_looked_at() -> None:
    others = [service(1000 + number) for number in range(500)]
    store = Store({"FORWARD": [*others, service(0), ALL]})
    found = judge(store)
    assert found.drops[-1].text.startswith("drop")
    assert len(set(store.decoded)) == 502


KEPT = Step(Match(states=("invalid",)), "accept")
INPUT = replace(FORWARD, chain="INPUT", hook="input")


def led_to_many(last: Step) -> Store:
    """Return a store whose chains of both hooks lead to one of many services, and to an end."""
    return Store(
        {
            "FORWARD": [Step(Match(), "jump", chain="connected")],
            "INPUT": [Step(Match(), "jump", chain="connected")],
            "connected": [*(service(number) for number in range(2 * NARROW)), last],
        }
    )


def test_a_chain_is_read_once_for_who_drops_and_who_accepts() -> None:
    store, search = led_to_many(KEPT), AcceptSearch()
    judge(store, tables=search.tables)
    assert store.asked == ["FORWARD", "connected"]
    found = search.found([(store, FORWARD), (store, INPUT)], ())
    assert store.asked == ["FORWARD", "connected", "INPUT"]
    assert found.invalid == "nft ip f connected: accept ('invalid',)"
    assert (found.synproxy, found.unread) == ("", ())


def test_who_accepts_is_found_in_what_nobody_else_read() -> None:
    store, search = led_to_many(KEPT), AcceptSearch()
    judge(store, [], search.tables)
    found = search.found([(store, INPUT)], ("legacy tables: gone",))
    assert found.invalid == "nft ip f connected: accept ('invalid',)"
    assert found.unread == ("legacy tables: gone",)
    assert search.found([(store, replace(INPUT, type="nat"))], ()).invalid == ""


def test_where_a_chain_was_not_read_to_its_end_nobody_is_sure() -> None:
    store, search = led_to_many(ALL), AcceptSearch()
    store.ending = "connected"
    store.steps["connected"].pop()
    assert judge(store, tables=search.tables).unread != ()
    found = search.found([(store, FORWARD)], ())
    assert found.unread == ("nft ip f FORWARD: it took too long",)
    assert store.asked == ["FORWARD", "connected"]
