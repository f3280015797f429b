"""A decoded rule as its own tool writes it, so that a person finds it in that tool's output."""

from __future__ import annotations

from remedies.rules.decoded import Step
from remedies.rules.prefixes import single
from remedies.rules.rule import Match, PortRange

_ACTIONS = {"dnat": "DNAT", "snat": "SNAT", "masquerade": "MASQUERADE", "redirect": "REDIRECT"}
_OPTIONS = {"DNAT": "--to-destination", "SNAT": "--to-source"}
_SAVED = {"icmpv6": "ipv6-icmp"}
"""Protocols that iptables-save names otherwise (/etc/protocols)."""
_WITH_PORTS = ("tcp", "udp", "udplite", "sctp", "dccp")


def _ports(ranges: tuple[PortRange, ...], dash: str) -> list[str]:
    return [str(a) if a == b else f"{a}{dash}{b}" for a, b in ranges]


def _one_of(values: list[str]) -> str:
    return values[0] if len(values) == 1 else "{ " + ", ".join(values) + " }"


def _quoted(names: tuple[str, ...]) -> str:
    return _one_of([f'"{name}"' for name in names])


def nft(step: Step) -> str:
    """Return a rule in nft's syntax, without counters and comments."""
    match, parts = step.match, []
    for key, yes, no in (
        ("iifname", match.in_interfaces, match.not_in_interfaces),
        ("oifname", match.out_interfaces, match.not_out_interfaces),
    ):
        if yes:
            parts.append(f"{key} {_quoted(yes)}")
        if no:
            parts.append(f"{key} != {_quoted(no)}")
    for key, prefixes, holes in (
        ("saddr", match.sources, match.not_sources),
        ("daddr", match.destinations, match.not_destinations),
    ):
        for operator, values in (("", prefixes), ("!= ", holes)):
            if values in (("0.0.0.0/0",), ("::/0",)):
                if not match.destinations:  # which say the version by themselves
                    parts.append(f"meta nfproto ipv{'6' if ':' in values[0] else '4'}")
            elif values:
                version = "ip6" if ":" in values[0] else "ip"
                parts.append(f"{version} {key} {operator}{_one_of(list(values))}")
    for key, local in (("saddr", match.source_local), ("daddr", match.destination_local)):
        if local is not None:
            parts.append(f"fib {key} type {'' if local else '!= '}local")
    ports = [("sport", match.source_ports), ("dport", match.destination_ports)]
    if match.protocols and not (any(p for _, p in ports) and len(match.protocols) == 1):
        parts.append(f"meta l4proto {_one_of(list(match.protocols))}")
    header = match.protocols[0] if len(match.protocols) == 1 else "th"
    parts.extend(f"{header} {key} {_one_of(_ports(r, '-'))}" for key, r in ports if r)
    if match.states:
        parts.append(f"ct state {','.join(match.states)}")
    parts.extend(f"[{name}]" for name in match.unmodelled)
    return " ".join([*parts, *_nft_end(step)])


def _nft_end(step: Step) -> list[str]:
    if step.action in _ACTIONS:
        return [f"{step.action} to {step.to}" if step.to else step.action]
    return [part for part in (step.action, f"{step.verdict} {step.chain}".strip()) if part]


def iptables(chain: str, step: Step) -> str:
    """Return a rule as ``iptables-save`` prints it, without comments."""
    parts = ["-A", chain, *header(step.match), *_extensions(step.match), *filter(None, step.sets)]
    parts.extend(f"[{name}]" for name in step.match.unmodelled)
    if step.action == "notrack":
        parts += ["-j", "CT", "--notrack"]
    elif step.action:
        target = _ACTIONS[step.action]
        parts += ["-j", target]
        if step.to:
            parts += [_OPTIONS.get(target, "--to-ports"), step.to.lstrip(":")]
    elif step.verdict in ("jump", "goto"):
        parts += ["-j" if step.verdict == "jump" else "-g", step.chain]
    elif step.verdict:
        parts += ["-j", step.verdict.upper()]
    return " ".join(parts)


def header(match: Match) -> list[str]:
    """Return the words of what every rule of iptables has: addresses, interfaces, protocol."""
    parts: list[str] = []
    for flag, yes, no in (
        ("-s", match.sources, match.not_sources),
        ("-d", match.destinations, match.not_destinations),
        ("-i", match.in_interfaces, match.not_in_interfaces),
        ("-o", match.out_interfaces, match.not_out_interfaces),
        ("-p", tuple(_SAVED.get(name, name) for name in match.protocols), ()),
    ):
        for invert, values in (([], yes), (["!"], no)):
            if values:
                parts += [*invert, flag, ",".join(_word(flag, value) for value in values)]
    return parts


def _word(flag: str, value: str) -> str:
    """Return an address with its length, and an interface pattern with iptables' wildcard."""
    if flag in ("-s", "-d") and "/" not in value:
        return single(value)
    return value[:-1] + "+" if flag in ("-i", "-o") and value.endswith("*") else value


def _extensions(match: Match) -> list[str]:
    parts: list[str] = []
    for option, local in (
        ("--src-type", match.source_local),
        ("--dst-type", match.destination_local),
    ):
        if local is not None:
            parts += ["-m", "addrtype", *([] if local else ["!"]), option, "LOCAL"]
    single = len(match.protocols) == 1 and match.protocols[0] in _WITH_PORTS
    several = len(match.source_ports) > 1 or len(match.destination_ports) > 1
    if single and (match.source_ports or match.destination_ports) and not several:
        parts += ["-m", match.protocols[0]]
    for flag, ranges in (("sport", match.source_ports), ("dport", match.destination_ports)):
        if len(ranges) > 1:
            parts += ["-m", "multiport", f"--{flag}s", ",".join(_ports(ranges, ":"))]
        elif ranges:
            parts += [f"--{flag}", _ports(ranges, ":")[0]]
    if match.states:
        parts += ["-m", "conntrack", "--ctstate", ",".join(match.states).upper()]
    return parts
