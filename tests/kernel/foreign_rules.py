"""Random rulesets as others write them (nft, both iptables, both families), and random steps."""

from __future__ import annotations

from hypothesis import strategies as st
from ruleset_steps import CHAINS, Foreign, Step

STORES = ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy")


# What others have: nft


RULES = (
    "counter",
    "ct state invalid drop",
    "ct state established,related accept",
    "meta mark set 0x1",
    "tcp dport { 22, 80-90 } counter accept",
    "udp dport @ports accept",
    "limit rate 5/second burst 7 packets accept",
    'iifname "eth*" drop comment "theirs; not ours"',
    'log prefix "theirs: "',
    "jump deeper",
    "goto deeper",
    "th dport vmap @ways",
    "meta l4proto { tcp, udp } th dport 53 return",
)
NAT_RULES = ("tcp dport 80 redirect to :8080", "udp dport 53 counter redirect", "jump deeper")
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
PRIORITIES = ("raw", "mangle", "filter", "filter + 10", "-10", "-105", "-300", "500")


@st.composite
def nft_table(draw: st.DrawFn, name: str) -> str:
    """One table of somebody's; half of them bear the names that iptables uses."""
    family = draw(st.sampled_from(("ip", "ip6", "inet")))
    lines = [f"table {family} {name} {{"]
    if name not in CHAINS and draw(st.integers(0, 9)) == 0:
        lines.append("flags dormant;")
    lines += [
        "set ports { type inet_service; flags interval; elements = { 53, 5060-5070 } }",
        'chain deeper { counter comment "end"\n }',
        "map ways { type inet_service : verdict; elements = { 9 : drop, 10 : goto deeper } }",
    ]
    for number in range(draw(st.integers(0, 3))):
        lines.append(f"chain c{number} {{")
        kind = draw(st.sampled_from(("filter", "filter", "filter", "nat", "none")))
        if kind == "nat":
            lines.append("type nat hook prerouting priority dstnat; policy accept;")
        elif kind == "filter":
            hook = draw(st.sampled_from(HOOKS))
            policy = draw(st.sampled_from(("accept", "drop")))
            priority = draw(st.sampled_from(PRIORITIES))
            lines.append(f"type filter hook {hook} priority {priority}; policy {policy};")
        lines += draw(st.lists(st.sampled_from(NAT_RULES if kind == "nat" else RULES), max_size=4))
        lines.append("}")
    return "\n".join([*lines, "}", ""])


NFT_NAMES = st.lists(
    st.sampled_from(("theirs", "firewalld", "remedy", "filter", "mangle", "nat", "raw")),
    max_size=3,
    unique=True,
)


@st.composite
def nft_text(draw: st.DrawFn) -> str:
    return "".join(draw(nft_table(name)) for name in draw(NFT_NAMES))


# What others have: iptables


LINES = (
    "-p tcp -m tcp --dport 22 -j ACCEPT",
    "-m conntrack --ctstate INVALID -j DROP",
    "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
    '-m comment --comment "their \\"own\\" rule" -j ACCEPT',
    "-p udp -m multiport --dports 53,5060:5070",
    "-m limit --limit 5/sec -j RETURN",
    "-j THEIRS",
    "-g THEIRS",
)
EXTRA = {
    "mangle": ("-j MARK --set-xmark 0x1/0xffffffff", "-p tcp -j TCPMSS --set-mss 1400"),
    "nat": (),
    "raw": ("-p udp -m udp --dport 53 -j CT --notrack",),
    "filter": ("-j REJECT", "-p udp -j LOG --log-prefix theirs"),
}


@st.composite
def iptables_table(draw: st.DrawFn, table: str) -> str:
    """One table: policies, a chain of theirs, rules; perhaps only built-in chains, or nothing."""
    lines = [f"*{table}"]
    for chain in draw(st.lists(st.sampled_from(CHAINS[table]), unique=True)):
        policies = ("ACCEPT",) if table == "nat" else ("ACCEPT", "ACCEPT", "DROP")
        lines.append(f":{chain} {draw(st.sampled_from(policies))} [0:0]")
    if draw(st.booleans()):
        lines.append(":THEIRS - [0:0]")
        rules = LINES + (() if table == "filter" else EXTRA[table])
        if table == "nat":  # it does not filter: DROP is refused there
            rules = tuple(rule for rule in rules if "DROP" not in rule)
        for _ in range(draw(st.integers(0, 4))):
            chain = draw(st.sampled_from(CHAINS[table]))
            rule = draw(st.sampled_from(rules))
            if "MSS" in rule:
                rule = rule.replace("-p tcp", "-p tcp --syn")
            lines.append(f"-A {chain} {rule}")
        if table == "filter":
            lines.append("-A THEIRS " + draw(st.sampled_from(EXTRA["filter"])))
    return "\n".join([*lines, "COMMIT", ""])


@st.composite
def iptables_text(draw: st.DrawFn) -> str:
    tables = draw(st.lists(st.sampled_from(tuple(CHAINS)), max_size=3, unique=True))
    return "".join(draw(iptables_table(table)) for table in tables)


@st.composite
def foreign(draw: st.DrawFn) -> Foreign:
    # two stores at most: a program's start is what an example costs
    which = draw(st.sampled_from(((), ("iptables-nft",), ("ip6tables-nft",), STORES[:2],
                                  ("iptables-legacy",), ("ip6tables-legacy",),
                                  ("iptables-nft", "ip6tables-legacy"))))  # fmt: skip
    return Foreign(
        draw(nft_text()),
        {store: draw(iptables_text()) for store in which},
        draw(st.sampled_from("01")),
        draw(st.integers(0, 3)) == 0,
    )


# What we do


FIXES = (
    "invalid-drop", "tcp-be-liberal", "notrack", "udp-redirect", "clamp-mss", "loopback-drop"
)  # fmt: skip
STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(("apply", "apply", "apply", "roll back", "again", "give back")),
        st.sampled_from(FIXES),
        st.sampled_from(("nftables", "iptables")),
        st.integers(0, 7),
    ),
    min_size=1,
    max_size=5,
)
