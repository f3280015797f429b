"""Random firewalls beside NAT: what a stray segment may meet on its way.

In nft's syntax, or as iptables or ip6tables would restore them; for IPv4 or IPv6; beside
masquerading, a published port, or both.
"""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st
from judged_site import CONTAINER, FAR, HOST
from rules_of_others import table

OUT = ("10.21.17.0/24", "fd21::/64")
WIDE = ("10.21.0.0/16", "fd21::/32")
INSIDE = ("172.17.0.0/16", "fd17::/64")
LOOPBACK = ("127.0.0.0/8", "::1/128")


class Condition(NamedTuple):
    """One condition as nft and as iptables writes it; ``@`` stands for ``ip`` or ``ip6``."""

    nft: str
    iptables: str = ""


CONDITIONS = tuple(
    Condition(*each)
    for each in (
        ("",),
        ('iifname "eth0"', "-i eth0"),
        ('iifname "docker0"', "-i docker0"),
        ('iifname != "lo"', "! -i lo"),
        ('iifname { "eth0", "wg0" }',),
        ('iifname "eth*"', "-i eth+"),
        ('oifname "eth0"',),
        ('oifname != "docker0"',),
        ("ct state invalid", "-m conntrack --ctstate INVALID"),
        ("ct state invalid", "-m state --state INVALID"),
        ("ct state invalid", "-m conntrack --ctstate INVALID"),
        ("ct state established,related", "-m conntrack --ctstate RELATED,ESTABLISHED"),
        ("ct state new", "-m conntrack --ctstate NEW"),
        ("ct state != invalid", "-m conntrack ! --ctstate INVALID"),
        ("ct state { invalid, untracked }", "-m conntrack --ctstate INVALID,UNTRACKED"),
        ("ct status dnat", "-m conntrack --ctstatus SEEN_REPLY"),
        ("ct mark 1", "-m connmark --mark 0x1"),
        ("tcp dport 22", "-p tcp -m tcp --dport 22"),
        ("tcp dport 8080", "-p tcp -m tcp --dport 8080"),
        ("tcp dport { 22, 80-90 }", "-p tcp -m multiport --dports 22,80:90"),
        ("tcp dport 32768-65535", "-p tcp -m tcp --dport 32768:65535"),
        ("tcp dport @high", "-p tcp -m tcp --dport 1024:65535"),
        ("tcp dport != 22", "-p tcp -m tcp ! --dport 22"),
        ("tcp sport 443", "-p tcp -m tcp --sport 443"),
        ("tcp sport != 443", "-p tcp -m tcp ! --sport 443"),
        ("tcp sport 80", "-p tcp -m tcp --sport 80"),
        (
            "tcp flags & (fin | syn | rst | ack) == syn",
            "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN",
        ),
        ("tcp flags & (syn | ack) == ack", "-p tcp -m tcp --tcp-flags SYN,ACK ACK"),
        ("tcp flags ack", "-p tcp -m tcp --tcp-flags ACK ACK"),
        ("tcp flags & (rst | ack) == rst", "-p tcp -m tcp --tcp-flags RST,ACK RST"),
        ("@ saddr OUT", "-s OUT"),
        ("@ saddr FAR", "-s FAR"),
        ("@ saddr @peers",),
        ("@ saddr != @peers",),
        ("@ saddr != OUT", "! -s OUT"),
        ("@ saddr INSIDE", "-s INSIDE"),
        ("@ saddr LOOPBACK", "-s LOOPBACK"),
        ("@ saddr != LOOPBACK", "! -s LOOPBACK"),
        ("@ daddr HOST", "-d HOST"),
        ("@ daddr CONTAINER", "-d CONTAINER"),
        ("@ daddr != INSIDE", "! -d INSIDE"),
        ("fib daddr type local", "-m addrtype --dst-type LOCAL"),
        ("meta mark 0x1", "-m mark --mark 0x1"),
        ("meta mark != 0x1", "-m mark ! --mark 0x1"),
        ("meta mark & 0x4000 == 0x4000", "-m mark --mark 0x4000/0x4000"),
        ("meta l4proto tcp", "-p tcp"),
        ("meta nfproto ipv4",),
        ("meta pkttype host", "-m pkttype --pkt-type unicast"),
        ("meta pkttype != host", "-m pkttype ! --pkt-type unicast"),
        ("TTL 255", "TTL 255"),
        ("@ dscp ef", "-m dscp --dscp 0x2e"),
        ("@ dscp != ef", "-m dscp ! --dscp 0x2e"),
        ("ether saddr 02:00:00:00:01:03",),
        ("iifgroup 7",),
        ("iifgroup != 7",),
        ("rt classid 0",),
    )
)
VERDICTS = (
    ("accept", "-j ACCEPT"), ("accept", "-j ACCEPT"), ("drop", "-j DROP"), ("drop", "-j DROP"),
    ("jump one", "-j one"), ("jump two", "-j two"), ("goto two", "-g two"), ("return", "-j RETURN"),
    ("counter", ""), ("reject", "-j REJECT"), ("reject with tcp reset", "-j RESET"),
    ("meta mark set 0x1", "-j MARK --set-xmark 0x1/0xffffffff"),
    ("meta mark set meta mark | 0x4000", "-j MARK --set-xmark 0x4000/0x4000"),
    ("meta mark set meta mark & 0xfffffffe", "-j MARK --set-xmark 0x0/0x1"),
)  # fmt: skip
MAPS = (
    "ct state vmap { invalid : drop, established : accept, related : accept }",
    "ct state vmap { invalid : jump two, new : accept }",
    'iifname vmap { "eth0" : jump one, "docker0" : accept }',
    'iifname vmap { "eth0" : drop, "docker0" : accept }',
    "tcp dport vmap { 22 : accept, 80 : drop }",
    "meta l4proto . ct state vmap { tcp . invalid : drop, udp . invalid : accept }",
    'iifname . tcp dport vmap { "eth0" . 1024-65535 : drop, "eth0" . 22 : accept }',
    "meta mark vmap { 0x0 : jump two, 0x1 : accept }",
)
NEAR = (("input", "filter"), ("input", "filter"), ("input", "mangle"), ("prerouting", "mangle"),
        ("output", "filter"), ("prerouting", "raw"), ("postrouting", "mangle"))  # fmt: skip
FAR_SIDE = (("forward", "filter"), ("forward", "filter"), ("forward", "mangle"),
            ("postrouting", "mangle"))  # fmt: skip


class Firewall(NamedTuple):
    """A ruleset, and what NAT it has."""

    tool: str
    text: str
    version: int
    """0 for IPv4, 1 for IPv6."""
    masquerades: bool
    publishes: bool


def _for(version: int, text: str) -> str:
    """Return a condition with the addresses and words of an IP version."""
    text = text.replace("LOOPBACK", LOOPBACK[version])
    for word, found in (("OUT", OUT), ("FAR", FAR), ("INSIDE", INSIDE), ("HOST", HOST["eth0"])):
        text = text.replace(word, found[version])
    text = text.replace("BEHIND", (CONTAINER[0], f"[{CONTAINER[1]}]")[version])
    text = text.replace("CONTAINER", CONTAINER[version]).replace("@ ", ("ip ", "ip6 ")[version])
    if text.startswith("TTL"):
        return text.replace("TTL", ("ip ttl", "ip6 hoplimit")[version])
    return text


@st.composite
def rule(draw: st.DrawFn, targets: tuple[str, ...], version: int) -> str:
    """Return a rule in nft's syntax that leads to some chains alone."""
    if draw(st.integers(0, 6)) == 0:
        found = draw(st.sampled_from(MAPS))
    else:
        met = draw(st.lists(st.sampled_from(CONDITIONS), min_size=1, max_size=2))
        verdict = draw(st.sampled_from(VERDICTS))[0]
        tcp = ["meta l4proto tcp"] if "tcp reset" in verdict else []
        found = " ".join((*(_for(version, each.nft) for each in met), *tcp, verdict))
        if "ip6 " in found:  # nft loads no rule for both
            found = found.replace("meta nfproto ipv4 ", "")
    for name in ("one", "two"):  # a chain leads to later ones alone
        if name not in targets:
            found = found.replace(f"jump {name}", "accept").replace(f"goto {name}", "drop")
    return found


@st.composite
def line(draw: st.DrawFn, chain: str, version: int) -> str:
    """Return a rule as iptables-save writes it."""
    given = st.sampled_from([each.iptables for each in CONDITIONS if each.iptables])
    parts: dict[str, str] = {}
    verdict = draw(st.sampled_from(VERDICTS))[1]
    if verdict == "-j RESET":
        parts["-p"], verdict = "-p tcp", "-j REJECT --reject-with tcp-reset"
    for text in draw(st.lists(given, min_size=1, max_size=2)):
        if text.startswith("TTL"):
            text = text.replace("TTL", ("-m ttl --ttl-eq", "-m hl --hl-eq")[version])
        if text.startswith("-p tcp"):
            parts["-p"], text = "-p tcp", text[7:]
        option = text.removeprefix("! ").partition(" ")[0]
        if not text or (option == "-i" and chain in ("OUTPUT", "POSTROUTING")):
            continue
        parts.setdefault(text if option == "-m" else option, _for(version, text))
    if (chain == "one" and verdict.endswith("one")) or (chain == "two" and verdict[3:] in NAMES):
        verdict = "-j DROP"
    return f"-A {chain} {' '.join(parts.values())} {verdict}"


NAMES = ("one", "two")


def _nft_nat(version: int, masquerades: str, publishes: str) -> list[str]:
    family, inside = ("ip", "ip6")[version], INSIDE[version]
    lines = [f"table {family} site {{", f"chain behind {{ {family} saddr {inside} masquerade\n}}"]
    if masquerades:
        hook = "type nat hook postrouting priority srcnat;"
        lines.append(f"chain post {{ {hook}\n  {_for(version, masquerades)}\n}}")
    if publishes:
        hook = "type nat hook prerouting priority dstnat;"
        met = f"{family} daddr {HOST['eth0'][version]}"
        lines.append(f"chain pre {{ {hook}\n  {met} {_for(version, publishes)}\n}}")
    return [*lines, "}"]


MASQUERADES = (
    'oifname "eth0" @ saddr INSIDE masquerade',
    '@ saddr INSIDE oifname != "docker0" masquerade',
    'oifname "eth0" meta l4proto tcp masquerade',
    'oifname "eth0" jump behind',
    'oifname "eth0" snat to @ saddr map { CONTAINER : HOST }',
)
PUBLISHES = (
    "tcp dport 8080 dnat to BEHIND:80",
    "tcp dport 8080 dnat to BEHIND:80",
    "tcp dport 8080 dnat @ to tcp dport map { 8080 : CONTAINER . 80 }",
    "dnat @ to tcp dport map { 8080 : CONTAINER . 80, 8081 : CONTAINER . 443 }",
)


@st.composite
def nft_text(draw: st.DrawFn, version: int, masquerades: bool, publishes: bool) -> str:
    """Return NAT and a table with some base chains and two that they lead to."""

    def body(targets: tuple[str, ...]) -> str:
        rules = "\n".join(f"  {r}" for r in draw(st.lists(rule(targets, version), max_size=4)))
        return rules if family == "inet" else rules.replace("meta nfproto ipv4 ", "")

    family = draw(st.sampled_from((("ip", "ip6")[version], "inet")))
    kind = ("ipv4_addr", "ipv6_addr")[version]
    lines = [
        *_nft_nat(
            version,
            draw(st.sampled_from(MASQUERADES)) if masquerades else "",
            draw(st.sampled_from(PUBLISHES)) if publishes else "",
        ),
        f"table {family} f {{",
        "set high { type inet_service; flags interval; elements = { 1024-65535 } }",
        f"set peers {{ type {kind}; flags interval; elements = {{ {WIDE[version]} }} }}",
        f"chain two {{\n{body(())}\n}}",
        f"chain one {{\n{body(('two',))}\n}}",
    ]
    for number, (hook, priority) in enumerate(_bases(draw, publishes)):
        policy = draw(st.sampled_from(("accept", "accept", "drop")))
        rules = body(() if hook == "postrouting" else ("one", "two"))
        if hook == "postrouting":  # nothing is rejected there, nor in what it leads to
            rules = rules.replace("reject with tcp reset", "drop").replace("reject", "drop")
        lines.append(
            f"chain base{number} {{ type filter hook {hook} priority {priority} + {number}; "
            f"policy {policy};\n{rules}\n}}"
        )
    return "\n".join((*lines, "}", ""))


def _bases(draw: st.DrawFn, publishes: bool) -> list[tuple[str, str]]:
    hooks = draw(st.lists(st.sampled_from(NEAR), min_size=1, max_size=2))
    return [*hooks, *([draw(st.sampled_from(FAR_SIDE))] if publishes else [])]


@st.composite
def iptables_text(draw: st.DrawFn, version: int, masquerades: bool, publishes: bool) -> str:
    """Return tables as iptables-save prints them."""
    nat = []
    if masquerades:
        nat.append(f"-A POSTROUTING -s {INSIDE[version]} ! -o docker0 -j MASQUERADE")
    if publishes:
        to = (f"{CONTAINER[0]}:80", f"[{CONTAINER[1]}]:80")[version]
        nat.append("-A PREROUTING ! -i docker0 -p tcp -m tcp --dport 8080 -m addrtype --dst-type "
                   f"LOCAL -j DNAT --to-destination {to}")  # fmt: skip
    text = table("nat", *nat)
    bases: dict[str, dict[str, None]] = {}
    for hook, name in _bases(draw, publishes):
        bases.setdefault(name, {})[hook.upper()] = None
    for name, hooks in bases.items():
        lines = []
        for chain in (*hooks, *NAMES):
            policy = draw(st.sampled_from(("ACCEPT", "ACCEPT", "DROP"))) if chain in hooks else "-"
            lines.append(f":{chain} {policy} [0:0]")
        for chain in (*hooks, *NAMES):
            lines += draw(st.lists(line(chain, version), max_size=4))
        made = table(name, *lines)
        text += made if name == "filter" else made.replace("-j REJECT", "-j DROP")
    return text.replace("-j DROP --reject-with tcp-reset", "-j DROP")


@st.composite
def firewall(draw: st.DrawFn) -> Firewall:
    """Return a firewall beside NAT."""
    version = draw(st.integers(0, 1))
    masquerades, publishes = draw(st.sampled_from(((True, False), (False, True), (True, True))))
    if draw(st.integers(0, 3)):
        text = draw(nft_text(version, masquerades, publishes))
        return Firewall("nft", text, version, masquerades, publishes)
    tool = ("iptables-nft-restore", "ip6tables-nft-restore")[version]
    text = draw(iptables_text(version, masquerades, publishes))
    return Firewall(tool, text, version, masquerades, publishes)
