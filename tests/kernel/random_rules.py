"""Random firewalls in nft's syntax, beside NAT: what a stray segment may meet on its way."""

from __future__ import annotations

from hypothesis import strategies as st

NATS = (
    'oifname "eth0" ip saddr 172.17.0.0/16 masquerade',
    'ip saddr 172.17.0.0/16 oifname != "docker0" masquerade',
    'oifname "eth0" meta l4proto tcp masquerade',
    'oifname "eth0" jump behind',
)
CONDITIONS = (
    "",
    'iifname "eth0"', 'iifname "docker0"', 'iifname != "lo"', 'iifname { "eth0", "wg0" }',
    'iifname "eth*"',
    "ct state invalid", "ct state invalid", "ct state established,related", "ct state new",
    "ct state != invalid", "ct state { invalid, untracked }", "ct status dnat", "ct mark 1",
    "tcp dport 22", "tcp dport { 22, 80-90 }", "tcp dport 32768-65535", "tcp dport @high",
    "tcp dport != 22", "tcp sport 443", "tcp sport != 443",
    "tcp flags & (fin | syn | rst | ack) == syn", "tcp flags & (syn | ack) == ack",
    "tcp flags ack", "tcp flags & (fin | syn) == (fin | syn)",
    "ip saddr 10.21.17.0/24", "ip saddr 192.0.2.0/24", "ip saddr @peers", "ip saddr != @peers",
    "ip daddr 10.21.17.99", "ip daddr 172.17.0.1", "fib daddr type local",
    "meta mark 0x1", "meta mark != 0x1", "meta mark & 0x4000 == 0x4000",
    "meta l4proto tcp",
    "meta pkttype host", "meta pkttype != host", "ip ttl 255",
)  # fmt: skip
VERDICTS = ("accept", "accept", "drop", "drop", "jump one", "jump two", "goto two", "return",
            "counter", "reject", "meta mark set 0x1")  # fmt: skip
MAPS = (
    "ct state vmap { invalid : drop, established : accept, related : accept }",
    "ct state vmap { invalid : jump two, new : accept }",
    'iifname vmap { "eth0" : jump one, "docker0" : accept }',
    'iifname vmap { "eth0" : drop, "docker0" : accept }',
    "tcp dport vmap { 22 : accept, 80 : drop }",
    "meta l4proto . ct state vmap { tcp . invalid : drop, udp . invalid : accept }",
)
HOOKS = (("input", "filter"), ("input", "filter"), ("input", "filter"), ("input", "mangle"),
         ("prerouting", "mangle"), ("output", "filter"))  # fmt: skip


@st.composite
def rule(draw: st.DrawFn, targets: tuple[str, ...]) -> str:
    if draw(st.integers(0, 6)) == 0:
        found = draw(st.sampled_from(MAPS))
    else:
        conditions = draw(st.lists(st.sampled_from(CONDITIONS), min_size=1, max_size=2))
        found = " ".join((*conditions, draw(st.sampled_from(VERDICTS))))
    for name in ("one", "two"):  # a chain leads to later ones alone
        if name not in targets:
            found = found.replace(f"jump {name}", "accept").replace(f"goto {name}", "drop")
    return found


@st.composite
def firewall(draw: st.DrawFn) -> str:
    """Return NAT and a table with one or two base chains and two that they lead to."""

    def body(targets: tuple[str, ...]) -> str:
        return "\n".join(f"  {line}" for line in draw(st.lists(rule(targets), max_size=4)))

    family = draw(st.sampled_from(("ip", "inet")))
    lines = [
        "table ip site {",
        "chain behind { ip saddr 172.17.0.0/16 masquerade\n}",
        "chain post { type nat hook postrouting priority srcnat;",
        f"  {draw(st.sampled_from(NATS))}\n}}\n}}",
        f"table {family} f {{",
        "set high { type inet_service; flags interval; elements = { 1024-65535 } }",
        "set peers { type ipv4_addr; flags interval; elements = { 10.21.0.0/16 } }",
        f"chain two {{\n{body(())}\n}}",
        f"chain one {{\n{body(('two',))}\n}}",
    ]
    for number, (hook, priority) in enumerate(
        draw(st.lists(st.sampled_from(HOOKS), min_size=1, max_size=2))
    ):
        policy = draw(st.sampled_from(("accept", "accept", "drop")))
        lines.append(
            f"chain base{number} {{ type filter hook {hook} priority {priority} + {number}; "
            f"policy {policy};\n{body(('one', 'two'))}\n}}"
        )
    return "\n".join((*lines, "}", ""))
