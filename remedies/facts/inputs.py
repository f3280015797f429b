"""The rules that decide on packets for this host once destination NAT has rewritten them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remedies.errors import Unreadable
from remedies.facts.netfilter import open_stores
from remedies.rules.admission import InputChain, InputRule
from remedies.rules.matching import conjoin
from remedies.rules.rule import Match
from remedies.values import dataclass

if TYPE_CHECKING:
    from remedies.facts import Asking
    from remedies.netfilter.stores import Base, RuleStore

TOPIC = "input-rules"

_NAT = -100
"""NF_IP_PRI_NAT_DST (include/uapi/linux/netfilter_ipv4.h)."""
_OUT = ("output", "postrouting")
_MOST = 20_000


@dataclass(frozen=True)
class Inputs:
    """Filter chains on input, and those on prerouting behind destination NAT, for UDP and TCP.

    Read where the topic ``input-rules`` is asked for; otherwise ``asked`` is False.
    """

    asked: bool
    chains: tuple[InputChain, ...] = ()
    outputs: tuple[InputChain, ...] = ()
    """Filter chains on output, and on postrouting."""
    unread: tuple[str, ...] = ()
    """Chains that could not be read, and why."""


def read(asking: Asking) -> Inputs:
    """Read the fact; ends at ``asking``'s deadline. Raises Unreadable without CAP_NET_ADMIN."""
    if TOPIC not in asking.topics:
        return Inputs(asked=False)
    stores, unread = open_stores(asking.deadline())
    inputs: list[InputChain] = []
    outputs: list[InputChain] = []
    for store in stores:
        for base in store.bases():
            behind = base.hook == "prerouting" and base.priority > _NAT
            found = inputs if base.hook == "input" or behind else outputs
            if base.type == "nat" or not (found is inputs or base.hook in _OUT):
                continue
            if base.accepts and not base.rules:
                continue
            place = base.place
            try:
                rules = _rules(store, base)
            except Unreadable as error:
                unread.append(f"{place}: {error}")
            else:
                found.append(InputChain(place, base.family, base.chain, base.accepts, rules))
    return Inputs(True, tuple(inputs), tuple(outputs), tuple(unread))


def _rules(store: RuleStore, base: Base) -> tuple[InputRule, ...]:
    """Return the rules with a verdict that UDP or TCP can meet, of all that ``base`` reaches."""
    transport = Match(protocols=("udp", "tcp"))
    waiting, seen = [base.chain], {base.chain}
    found: list[InputRule] = []
    while waiting:
        chain = waiting.pop()
        for raw in store.raw(base.family, base.table, chain):
            for step in store.decode(base.family, base.table, raw):
                if not step.verdict or conjoin(step.match, transport) is None:
                    continue
                text = store.text(base.family, base.table, chain, step)
                found.append(InputRule(chain, step.match, step.verdict, step.chain, text))
                if step.chain and step.chain not in seen:
                    seen.add(step.chain)
                    waiting.append(step.chain)
                if len(found) > _MOST:
                    raise Unreadable(f"more than {_MOST} rules")
    return tuple(found)
