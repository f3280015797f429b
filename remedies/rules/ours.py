"""The canonical states of what we own: nft tables and iptables chains, built purely.

A fix builds a state here, a resource driver reads one, and the two are equal text when the state
is in force. Two shapes:

nft table
    One JSON object a line in libnftables' own form (libnftables-json(5)): the table, its chains,
    their rules; keys sorted, handles left out, counters without figures.

iptables chain
    ``iptables-save`` lines of our chain and the jumps to it, under a line that names the variant::

        # iptables-nft
        *mangle
        :FORWARD
        :INPUT
        :REMEDY-INVALID -
        -A FORWARD -j REMEDY-INVALID
        -A INPUT -j REMEDY-INVALID
        -A REMEDY-INVALID -p tcp -m conntrack --ctstate INVALID -j DROP
        COMMIT

    A section that was read from the nf_tables store lists the built-in chains that exist, with our
    chain or without it, so that writing it back removes those that we alone caused to exist. They
    are no part of what is compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from remedies.errors import InputError
from remedies.model import Reversibility
from remedies.values import dataclass

Expression = dict[str, object]
"""One statement of a rule in libnftables' JSON, or ``comment(...)``."""

NFT_PREFIX = "remedy_"
"""What the names of our nft tables begin with: no other table is ever written."""

TRACE_PREFIX = "remedy_trace_"
"""The table of a trace that is under way; then its process. It is no change: the kernel removes it
when the process ends (:mod:`remedies.netfilter.nftrace`)."""

WRITTEN = "# Written by remedy (fix "
"""How a boot file of ours begins, but for data in our own folder."""
CHAIN_PREFIX = "REMEDY-"
"""What the names of our iptables chains begin with: no other chain is ever written."""

VARIANTS = ("nft", "legacy")
REVERSIBILITY: dict[str, Reversibility] = {"nft": "exact", "legacy": "lossy"}
"""By variant: a legacy table, once registered, stays until its namespace ends."""
_STORES = {"# iptables-nft": "nft", "# iptables-legacy": "legacy"}


@dataclass(frozen=True)
class NftChain:
    """A base chain of a table of ours; ``priority`` as the kernel counts it (filter is 0)."""

    name: str
    type: str
    """``filter``, ``nat`` or ``route``."""
    hook: str
    priority: int
    rules: tuple[tuple[Expression, ...], ...] = ()


def match(left: Expression, right: object, op: str = "==") -> Expression:
    """Return a comparison; ``right`` as libnftables prints it (name, number, set, range)."""
    return {"match": {"left": left, "op": op, "right": right}}


def meta(key: str, right: object, op: str = "==") -> Expression:
    """Return a match on packet metadata: ``meta("l4proto", "tcp")``."""
    return match({"meta": {"key": key}}, right, op)


def payload(protocol: str, field: str, right: object, op: str = "==") -> Expression:
    """Return a match on a header field: ``payload("udp", "dport", 5060)``."""
    return match({"payload": {"field": field, "protocol": protocol}}, right, op)


def tcp_flags(value: str) -> Expression:
    """Return a match on exactly these TCP flags: ``tcp flags == rst``.

    A mask would say less, but nft 0.9.8 reads none of several flags in JSON.
    """
    return payload("tcp", "flags", value)


def tcp_flag(name: str) -> Expression:
    """Return a match on one TCP flag, whatever others are set beside it: ``tcp flags syn``."""
    return payload("tcp", "flags", name, "in")


def ct_state(*states: str) -> Expression:
    """Return a match on the conntrack state: any of ``states`` (kernel order: invalid first)."""
    return match({"ct": {"key": "state"}}, states[0] if len(states) == 1 else list(states), "in")


def prefix(address: str, length: int) -> Expression:
    """Return a subnet, for the right side of a match."""
    return {"prefix": {"addr": address, "len": length}}


def port_range(first: int, last: int) -> Expression:
    """Return a range of ports, both included, for the right side of a match."""
    return {"range": [first, last]}


def any_of(*values: object) -> Expression:
    """Return an anonymous set, for the right side of a match; ``values`` in ascending order."""
    return {"set": list(values)}


def counter() -> Expression:
    """Return a counter; its figures are no part of the state."""
    return {"counter": None}


def drop() -> Expression:
    """Return the verdict that ends a packet."""
    return {"drop": None}


def notrack() -> Expression:
    """Return the statement that keeps a packet out of conntrack."""
    return {"notrack": None}


def to_local() -> Expression:
    """Return a match on packets to any unicast address of this host (``fib daddr type local``)."""
    return match({"fib": {"flags": ["daddr"], "result": "type"}}, "local")


def redirect() -> Expression:
    """Return the statement that sends a packet to its incoming interface's first address."""
    return {"redirect": None}


def clamp_mss() -> Expression:
    """Return the statement that lowers a TCP SYN's MSS to what its ways there and back carry."""
    size = {"tcp option": {"field": "size", "name": "maxseg"}}
    return {"mangle": {"key": size, "value": {"rt": {"key": "mtu"}}}}


def comment(text: str) -> Expression:
    """Return a rule's comment, to be put anywhere among its expressions (128 bytes at most)."""
    return {"comment": text}


def nameable(link: str) -> bool:
    """Tell whether a link's name can be written in a rule of every backend as it is."""
    return link.replace("-", "").replace("_", "").replace(".", "").isalnum()


def nft_split(path: str) -> tuple[str, str]:
    """Split ``inet/remedy_x`` into family and table.

    Raises InputError for a family we do not use and for a table that is not ours.
    """
    family, _, table = path.partition("/")
    plain = table[len(NFT_PREFIX) :].replace("_", "").isalnum() and table.isascii()
    if family not in ("inet", "ip", "ip6") or not table.startswith(NFT_PREFIX) or not plain:
        raise InputError(
            f"nft:{path} is not a table of remedy", f"inet, ip or ip6, then /{NFT_PREFIX}NAME"
        )
    return family, table


def nft_table(path: str, chains: tuple[NftChain, ...]) -> str:
    """Return the canonical text of a table of ours; raise InputError where ``path`` is not."""
    family, table = nft_split(path)
    objects: list[dict[str, object]] = [{"table": {"family": family, "name": table}}]
    for chain in chains:
        base: dict[str, object] = {"type": chain.type, "hook": chain.hook, "prio": chain.priority}
        base.update(family=family, table=table, name=chain.name, policy="accept")
        objects.append({"chain": base})
    for chain in chains:
        for rule in chain.rules:
            body: dict[str, object] = {"family": family, "table": table, "chain": chain.name}
            for part in rule:
                if "comment" in part:
                    body["comment"] = part["comment"]
            body["expr"] = [part for part in rule if "comment" not in part]
            objects.append({"rule": body})
    return nft_canonical(objects)


def nft_canonical(objects: Iterable[dict[str, object]]) -> str:
    """Return libnftables' objects of one table as canonical text.

    Handles, counter figures and ``metainfo`` go; the table comes first, then its chains in the
    kernel's order, then whatever else somebody put into the table (sets, maps: rules name them,
    and maps name chains), then rules by chain: written in this order, it loads.
    """
    ranks = {"table": 0, "chain": 1, "rule": 3}
    chains: dict[object, int] = {}
    kept: list[tuple[int, int, str]] = []
    for item in objects:
        ((kind, body),) = item.items()
        if kind == "metainfo" or not isinstance(body, dict):
            continue
        body = {key: value for key, value in body.items() if key != "handle"}
        if kind == "chain":
            chains.setdefault(body.get("name"), len(chains))
        if isinstance(body.get("expr"), list):
            body["expr"] = [
                {"counter": None} if "counter" in e and not isinstance(e["counter"], str) else e
                for e in body["expr"]
            ]  # a text is the name of a counter object
        place = chains.get(body.get("chain"), 0) if kind == "rule" else 0
        kept.append((ranks.get(kind, 2), place, json.dumps({kind: body}, sort_keys=True)))
    kept.sort(key=lambda entry: entry[:2])
    return "".join(line + "\n" for _, _, line in kept)


def iptables_split(path: str) -> tuple[str, str]:
    """Split ``mangle/REMEDY-X`` into table and chain.

    Raises InputError for a table that iptables does not have and a chain that is not ours.
    """
    table, _, chain = path.partition("/")
    plain = chain[len(CHAIN_PREFIX) :].replace("-", "").isalnum() and chain.isascii()
    known = table in ("raw", "mangle", "nat", "filter", "security")
    # XT_EXTENSION_MAXNAMELEN - 1 in include/uapi/linux/netfilter/x_tables.h
    if not known or not chain.startswith(CHAIN_PREFIX) or not plain or len(chain) > 28:
        raise InputError(f"iptables:{path} is not a chain of remedy", f"TABLE/{CHAIN_PREFIX}NAME")
    return table, chain


def iptables_chain(path: str, variant: str, hooks: tuple[str, ...], rules: tuple[str, ...]) -> str:
    """Return the canonical text of a chain of ours in force.

    ``path`` is ``mangle/REMEDY-INVALID``, ``variant`` one of :data:`VARIANTS`, ``hooks`` the
    built-in chains that jump to ours, ``rules`` as iptables-save prints them without
    ``-A CHAIN``. Raises InputError where ``path`` is not ours.
    """
    table, chain = iptables_split(path)
    jumps = tuple(f"-A {hook} -j {chain}" for hook in sorted(set(hooks)))
    return iptables_text(
        variant,
        table,
        (*(f":{hook}" for hook in sorted(set(hooks))), f":{chain} -"),
        (*jumps, *(f"-A {chain} {rule}" for rule in rules)),
    )


def iptables_text(variant: str, table: str, chains: tuple[str, ...], rules: tuple[str, ...]) -> str:
    """Return one section of a canonical text: the variant's line, chains, rules, COMMIT."""
    store = next(line for line, name in _STORES.items() if name == variant)
    lines = (store, f"*{table}", *chains, *rules, "COMMIT")
    return "".join(line + "\n" for line in lines)


def lines_of_state(state: str | None) -> list[str]:
    """Return the lines of a state; what else splitlines() splits at, a comment may hold."""
    return (state if state[-1] != "\n" else state[:-1]).split("\n") if state else []


def iptables_sections(state: str | None) -> dict[str, tuple[str, ...]]:
    """Split a canonical text into variant -> lines between ``*table`` and ``COMMIT``.

    Raises InputError for a text that is none.
    """
    sections: dict[str, tuple[str, ...]] = {}
    lines: list[str] = []
    for line in lines_of_state(state):
        lines.append(line)
        if line == "COMMIT":
            if len(lines) < 3 or lines[0] not in _STORES or not lines[1].startswith("*"):
                break
            sections[_STORES[lines[0]]] = tuple(lines[2:-1])
            lines = []
    if lines:
        raise InputError(f"not the state of an iptables chain: {lines[0]!r}")
    return sections


def iptables_in_force(state: str | None, chain: str) -> dict[str, tuple[str, ...]]:
    """Return those sections of a canonical text that hold our chain; raise InputError."""
    sections = iptables_sections(state)
    return {name: lines for name, lines in sections.items() if f":{chain} -" in lines}


def union(one: str, other: str) -> str:
    """Return the first of two states of one resource with the rules of the second, too.

    The order is that of the first. Raises InputError where the two are of different stores.
    """
    first, second = one.splitlines(), other.splitlines()
    if first[0] != second[0]:
        raise InputError(f"states of two kinds: {first[0]!r} and {second[0]!r}")
    more = [line for line in second if line not in first]
    if first[0] not in _STORES:
        return nft_canonical(json.loads(line) for line in (*first, *more))
    return "".join(line + "\n" for line in (*first[:-1], *more, first[-1]))
