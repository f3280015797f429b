"""The rules in a state of ours, as matches: what a plan's tables and chains would do to a packet.

The counterpart of :mod:`remedies.rules.ours`, for the statements that our fixes use. What is
not understood goes into ``unmodelled`` (the real match is narrower), and a verdict that is not
understood is the action ``other``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from remedies.rules.ours import iptables_sections
from remedies.rules.rule import Match, PacketRule, PortRange

ACTIONS = frozenset(("drop", "reject", "notrack", "redirect", "dnat", "snat", "masquerade"))
_SILENT = frozenset(("counter", "log"))
_META = {"l4proto": "protocols", "iifname": "in_interfaces", "oifname": "out_interfaces"}
_PAYLOAD = {
    "saddr": "sources",
    "daddr": "destinations",
    "sport": "source_ports",
    "dport": "destination_ports",
}
_OPTIONS = {
    "-p": "protocols",
    "-s": "sources",
    "-d": "destinations",
    "-i": "in_interfaces",
    "-o": "out_interfaces",
    "--sport": "source_ports",
    "--dport": "destination_ports",
    "--ctstate": "states",
}
_IGNORED = frozenset(("-m", "--comment"))
_NEGATED = frozenset(("sources", "destinations", "in_interfaces", "out_interfaces"))
"""Of these a match has the opposite, too, as ``not_`` and the name."""


def _rule(
    place: tuple[str, str, str, str, str], action: str, text: str, match: Match
) -> PacketRule:
    backend, family, table, chain, hook = place
    return PacketRule(backend, family, table, chain, hook, action, text, match, owner="remedy")


def nft(state: str) -> Iterable[PacketRule]:
    """Yield the rules of a table's state that do more than count and log."""
    objects = [json.loads(line) for line in state.splitlines()]
    hooks = {o["chain"]["name"]: o["chain"].get("hook", "") for o in objects if "chain" in o}
    for body in (o["rule"] for o in objects if "rule" in o):
        found: dict[str, Any] = {}
        unmodelled: list[str] = []
        action = ""
        for expression in body["expr"]:
            ((kind, inside),) = expression.items()
            if kind == "match":
                _match(inside, found, unmodelled)
            elif kind not in _SILENT:
                action = kind if kind in ACTIONS else "other"
        if action:
            place = ("nft", body["family"], body["table"], body["chain"], hooks[body["chain"]])
            text = body.get("comment") or f"{action} in {body['table']} {body['chain']}"
            yield _rule(place, action, text, Match(**found, unmodelled=tuple(unmodelled)))


def _match(inside: dict[str, Any], found: dict[str, Any], unmodelled: list[str]) -> None:
    left, right, op = inside["left"], inside["right"], inside["op"]
    ((kind, body),) = left.items()
    name = None
    if op in ("==", "in", "!="):
        if kind == "meta":
            name = _META.get(body["key"])
        elif kind == "ct" and body["key"] == "state":
            name = "states"
        elif kind == "payload":
            name = _PAYLOAD.get(body.get("field"))
            if name and name.endswith("_ports"):
                found.setdefault("protocols", (body["protocol"],))
        elif kind == "fib" and right == "local":
            found["destination_local"] = op != "!="
            return
        if op == "!=" and name is not None:
            name = f"not_{name}" if name in _NEGATED else None
    if name is None:
        unmodelled.append(json.dumps(inside, sort_keys=True))
        return
    values = right if isinstance(right, list) else [right]
    values = [v for value in values for v in (value["set"] if _is(value, "set") else [value])]
    if name.endswith("_ports"):
        found[name] = tuple(tuple(v["range"]) if _is(v, "range") else (v, v) for v in values)
    else:
        found[name] = tuple(
            f"{v['prefix']['addr']}/{v['prefix']['len']}" if _is(v, "prefix") else str(v)
            for v in values
        )


def _is(value: object, kind: str) -> bool:
    return isinstance(value, dict) and kind in value


def iptables(path: str, family: str, state: str) -> Iterable[PacketRule]:
    """Yield the rules of a chain's state, each once for every hook that jumps to the chain.

    ``path`` is ``mangle/REMEDY-X``, ``family`` ``ip`` or ``ip6``. Raises InputError.
    """
    table, _, chain = path.partition("/")
    for variant, lines in iptables_sections(state).items():
        jumps = [line.split()[1] for line in lines if line.endswith(f" -j {chain}")]
        for line in lines:
            if not line.startswith(f"-A {chain} "):
                continue
            action, match = _line(line.split()[2:])
            for hook in jumps:
                place = (f"iptables-{variant}", family, table, chain, hook.lower())
                yield _rule(place, action, line, match)


def _line(words: list[str]) -> tuple[str, Match]:
    """Return action and match of a rule's words, as iptables-save prints them."""
    found: dict[str, Any] = {}
    unmodelled: list[str] = []
    action = "other"
    rest = iter(words)
    negated = False
    for word in rest:
        if word == "-j":
            action = _action(list(rest))
        elif word == "--dst-type":
            found["destination_local"] = next(rest) == "LOCAL"
        elif word == "!":
            negated = True
            continue
        elif negated and _OPTIONS.get(word) not in _NEGATED:
            unmodelled.append(f"! {word}")
        elif word in _OPTIONS:
            name, value = _OPTIONS[word], next(rest)
            found[f"not_{name}" if negated else name] = (
                tuple(_ports(v) for v in value.split(","))
                if name.endswith("_ports")
                else tuple(value.lower().split(",") if name == "states" else (value,))
            )
        elif word in _IGNORED:
            next(rest)
        else:
            unmodelled.append(word)
        negated = False
    return action, Match(**found, unmodelled=tuple(unmodelled))


def _ports(value: str) -> PortRange:
    first, _, last = value.partition(":")
    return int(first), int(last or first)


def _action(words: list[str]) -> str:
    name = "notrack" if words == ["CT", "--notrack"] else words[0].lower()
    return name if name in ACTIONS else "other"
