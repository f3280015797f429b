"""Rules and states as text, in both directions: what is printed, what is read, what is refused."""

from __future__ import annotations

import json
import socket
from typing import Any, Optional

import pytest

from remedies.errors import InputError
from remedies.rules import flow_address, nft_syntax, ours, render, restore_script
from remedies.rules.decoded import PROTOCOLS, Step
from remedies.rules.rule import Match


def step(
    verdict: str = "accept", chain: str = "", action: str = "", to: str = "", **match: Any
) -> Step:
    return Step(Match(**match), verdict, chain, action, to)


UDP_53: dict[str, Any] = {"protocols": ("udp",), "destination_ports": ((53, 53),)}


@pytest.mark.parametrize(
    ("rule", "nft", "iptables"),
    [
        (step(), "accept", "-A C -j ACCEPT"),
        (step("jump", "mine"), "jump mine", "-A C -j mine"),
        (
            step("drop", destination_local=True),
            "fib daddr type local drop",
            "-A C -m addrtype --dst-type LOCAL -j DROP",
        ),
        (
            step("drop", destination_local=False),
            "fib daddr type != local drop",
            "-A C -m addrtype ! --dst-type LOCAL -j DROP",
        ),
        (step("goto", "mine"), "goto mine", "-A C -g mine"),
        (step("", action="masquerade"), "masquerade", "-A C -j MASQUERADE"),
        (
            step("", action="dnat", to="172.17.0.2:53", **UDP_53),
            "udp dport 53 dnat to 172.17.0.2:53",
            "-A C -p udp -m udp --dport 53 -j DNAT --to-destination 172.17.0.2:53",
        ),
        (
            step("", action="redirect", to=":5300", **UDP_53),
            "udp dport 53 redirect to :5300",
            "-A C -p udp -m udp --dport 53 -j REDIRECT --to-ports 5300",
        ),
        (
            step("drop", protocols=("tcp", "udp"), destination_ports=((1, 9), (53, 53))),
            "meta l4proto { tcp, udp } th dport { 1-9, 53 } drop",
            "-A C -p tcp,udp -m multiport --dports 1:9,53 -j DROP",
        ),
        (
            step("drop", protocols=("tcp",), source_ports=((1, 9),)),
            "tcp sport 1-9 drop",
            "-A C -p tcp -m tcp --sport 1:9 -j DROP",
        ),
        (
            step("drop", sources=("10.0.0.0/8",), not_destinations=("10.1.1.1",)),
            "ip saddr 10.0.0.0/8 ip daddr != 10.1.1.1 drop",
            "-A C -s 10.0.0.0/8 ! -d 10.1.1.1/32 -j DROP",
        ),
        (
            step("drop", destinations=("2001:db8::1",)),
            "ip6 daddr 2001:db8::1 drop",
            "-A C -d 2001:db8::1/128 -j DROP",
        ),
        (
            step("drop", in_interfaces=("veth*",), not_out_interfaces=("eth0",)),
            'iifname "veth*" oifname != "eth0" drop',
            "-A C -i veth+ ! -o eth0 -j DROP",
        ),
        (
            step("drop", not_in_interfaces=("eth0", "eth1"), out_interfaces=("br0",)),
            'iifname != { "eth0", "eth1" } oifname "br0" drop',
            "-A C ! -i eth0,eth1 -o br0 -j DROP",
        ),
        (
            step("drop", sources=("0.0.0.0/0",)),
            "meta nfproto ipv4 drop",
            "-A C -s 0.0.0.0/0 -j DROP",
        ),
        (step("drop", sources=("::/0",)), "meta nfproto ipv6 drop", "-A C -s ::/0 -j DROP"),
        (
            step("drop", sources=("::/0",), destinations=("fd00::1",)),
            "ip6 daddr fd00::1 drop",
            "-A C -s ::/0 -d fd00::1/128 -j DROP",
        ),
        (
            step("accept", source_local=True, states=("established", "related")),
            "fib saddr type local ct state established,related accept",
            "-A C -m addrtype --src-type LOCAL -m conntrack --ctstate ESTABLISHED,RELATED"
            " -j ACCEPT",
        ),
        (
            step("accept", source_local=False, protocols=("icmpv6",)),
            "fib saddr type != local meta l4proto icmpv6 accept",
            "-A C -p ipv6-icmp -m addrtype ! --src-type LOCAL -j ACCEPT",
        ),
        (
            step("drop", protocols=("tcp",), destination_ports=((1, 9), (53, 53))),
            "tcp dport { 1-9, 53 } drop",
            "-A C -p tcp -m multiport --dports 1:9,53 -j DROP",
        ),
        (
            step("drop", protocols=("tcp",), source_ports=((1, 9), (53, 53))),
            "tcp sport { 1-9, 53 } drop",
            "-A C -p tcp -m multiport --sports 1:9,53 -j DROP",
        ),
        (
            step("drop", unmodelled=("limit", "mark")),
            "[limit] [mark] drop",
            "-A C [limit] [mark] -j DROP",
        ),
        (step("", action="notrack"), "notrack", "-A C -j CT --notrack"),
        (
            step("", action="snat", to="192.0.2.1", protocols=("tcp",)),
            "meta l4proto tcp snat to 192.0.2.1",
            "-A C -p tcp -j SNAT --to-source 192.0.2.1",
        ),
        (
            step("drop", protocols=("tcp",), source_ports=((1, 9),), destination_ports=((22, 22),)),
            "tcp sport 1-9 tcp dport 22 drop",
            "-A C -p tcp -m tcp --sport 1:9 --dport 22 -j DROP",
        ),
    ],
)
def test_a_rule_is_printed_as_its_own_tool_does(rule: Step, nft: str, iptables: str) -> None:
    assert (render.nft(rule), render.iptables("C", rule)) == (nft, iptables)


def expression(right: object, key: str = "saddr") -> str:
    left = {"payload": {"protocol": "ip", "field": key}}
    table = {"table": {"family": "ip", "name": "remedy_x"}}
    chain = {"chain": {"family": "ip", "table": "remedy_x", "name": "c"}}
    match = {"match": {"op": "==", "left": left, "right": right}}
    rule = {"rule": {"family": "ip", "table": "remedy_x", "chain": "c", "expr": [match]}}
    return "".join(json.dumps(line) + "\n" for line in (table, chain, rule))


@pytest.mark.parametrize(
    ("right", "text"),
    [
        ("10.0.0.1", "ip saddr 10.0.0.1"),
        ({"prefix": {"addr": "10.0.0.0", "len": 8}}, "ip saddr 10.0.0.0/8"),
        ({"range": ["10.0.0.1", "10.0.0.9"]}, "ip saddr 10.0.0.1-10.0.0.9"),
        (
            {"set": ["10.0.0.1", {"prefix": {"addr": "10.1.0.0", "len": 16}}]},
            "ip saddr { 10.0.0.1, 10.1.0.0/16 }",
        ),
        ({"odd": 1}, 'ip saddr {"odd": 1}'),
    ],
)
def test_the_right_side_of_a_match_is_in_nft_syntax(right: object, text: str) -> None:
    assert f"\t\t{text}\n" in nft_syntax.nft_text(expression(right))


def match_of(left: object, right: object, op: str = "==") -> dict[str, object]:
    return {"match": {"op": op, "left": left, "right": right}}


FIB = {"flags": ["daddr", "iif"], "result": "type"}


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (match_of({"meta": {"key": "iifname"}}, "eth0"), 'iifname "eth0"'),
        (match_of({"meta": {"key": "l4proto"}}, "tcp", "!="), "meta l4proto != tcp"),
        (match_of({"ct": {"key": "state"}}, ["new", "invalid"], "in"), "ct state new,invalid"),
        (match_of({"fib": FIB}, "local"), "fib daddr . iif type local"),
        (match_of({"fib": {**FIB, "flags": "daddr"}}, "local"), "fib daddr type local"),
        (match_of({"payload": {"protocol": "tcp", "field": "flags"}}, ["syn", "ack"]),
         "tcp flags == syn,ack"),
        (match_of({"payload": {"base": "nh", "offset": 0}}, 4),
         '{"payload": {"base": "nh", "offset": 0}} 4'),
        ({"jump": {"target": "mine"}}, "jump mine"),
        ({"jump": {"target": "a-b"}}, 'jump "a-b"'),
        ({"drop": None}, "drop"),
        ({"limit": {"rate": 5, "per": "s"}}, '{"limit": {"per": "s", "rate": 5}}'),
    ],
)  # fmt: skip
def test_a_statement_is_in_nft_syntax(statement: dict[str, object], text: str) -> None:
    table = {"table": {"family": "ip", "name": "remedy_x", "flags": "dormant"}}
    chain = {"chain": {"family": "ip", "table": "remedy_x", "name": "c"}}
    rule = {"rule": {"family": "ip", "table": "remedy_x", "chain": "c", "expr": [statement]}}
    state = "".join(json.dumps(line) + "\n" for line in (table, chain, rule))
    assert nft_syntax.nft_text(state) == (
        f"table ip remedy_x {{\n\tflags dormant\n\n\tchain c {{\n\t\t{text}\n\t}}\n}}\n"
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-A C -j DROP", ("-A", "C", "-j", "DROP")),
        (r'-m comment --comment "a \"b\""', ("-m", "comment", "--comment", 'a "b"')),
        ("-A C ", ("-A", "C")),
        ("", None),
        ('--comment "half', None),
        ('--comment "a"b', None),
    ],
)
def test_a_line_of_iptables_save_has_words(line: str, words: Optional[tuple[str, ...]]) -> None:
    if words is not None:
        assert restore_script.words(line) == words
        return
    with pytest.raises(InputError, match=r"no rule|cannot read it back") as refused:
        restore_script.words(line)
    assert refused.value.hint
    assert "read it back" not in refused.value.hint


def test_a_unit_loads_the_rules_of_one_variant() -> None:
    chain = "mangle/REMEDY-X"
    one, other = (ours.iptables_chain(chain, of, ("INPUT",), ()) for of in ("nft", "legacy"))
    assert restore_script.iptables_batch(chain, one).variant == "nft"
    for state, count in ((one + other, 2), (None, 0)):
        with pytest.raises(InputError, match=f"{chain}: the state of {count} variants"):
            restore_script.iptables_batch(chain, state)


def test_a_line_that_is_refused_is_shown_in_part() -> None:
    for line in ('"' * 200, " " + "x" * 200 + '"'):
        with pytest.raises(InputError) as caught:
            restore_script.words(line)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("port", "taken"),
    [("0", 0), ("53", 53), ("65535", 65535), ("65536", None), ("-1", None), ("5\u0663", None)],
)  # fmt: skip
def test_a_flow_has_the_ports_that_there_are(port: str, taken: Optional[int]) -> None:
    path = f"udp/10.0.0.1/{port}/10.0.0.2/53"
    if taken is not None:
        named = flow_address.split(path)
        assert isinstance(named, flow_address.Exact)
        assert named.source_port == taken
        return
    with pytest.raises(InputError, match="is not a port"):
        flow_address.split(path)


def test_states_of_two_stores_are_not_joined_and_both_are_named() -> None:
    one, other = "*mangle\n:A - [0:0]\n", '{"table": 1}\n'
    with pytest.raises(InputError) as caught:
        ours.union(one, other)
    assert "*mangle" in str(caught.value)
    assert "table" in str(caught.value)


def test_jumps_to_a_chain_are_those_of_others() -> None:
    jumps = ["-A FORWARD -j REMEDY-X", "-A OUTPUT -p tcp -g REMEDY-X"]
    others = ["-A REMEDY-X -j REMEDY-X", "-A INPUT -j REMEDY-Y", "-A REMEDY-X -j DROP", "COMMIT"]
    assert restore_script.jumps_in([*others, *jumps, *others], "REMEDY-X") == jumps


def test_protocols_have_the_numbers_of_the_kernel() -> None:
    known = {name: number for number, name in PROTOCOLS.items()}
    for name in ("icmp", "igmp", "tcp", "udp", "esp", "ah", "icmpv6", "sctp", "udplite"):
        assert known[name] == getattr(socket, f"IPPROTO_{name.upper()}")


@pytest.mark.parametrize(
    ("name", "shown"),
    [("mine", "mine"), ("remedy_x2", "remedy_x2"), ("a b", '"a b"'), ("b\u00e4r", '"b\u00e4r"'),
     ("", '""'), ("a-b", '"a-b"'), (7, "7")],
)  # fmt: skip
def test_a_name_that_nft_could_not_read_back_is_in_quotes(name: object, shown: str) -> None:
    assert nft_syntax._name(name) == shown


@pytest.mark.parametrize(
    ("value", "hook", "text"),
    [
        (0, "forward", "filter"),
        (5, "forward", "filter + 5"),
        (-10, "input", "filter - 10"),
        (-150, "forward", "mangle"),
        (-100, "prerouting", "dstnat"),
        (100, "postrouting", "srcnat"),
        (-300, "output", "raw"),
        (5000, "forward", "5000"),
    ],
)
def test_a_priority_has_a_name_where_nft_has_one_near(value: int, hook: str, text: str) -> None:
    assert nft_syntax.priority(value, hook) == text


JUMPS = ("-A INPUT -j REMEDY-X", "-A FORWARD -j REMEDY-X")
RULES = ("-A REMEDY-X -j DROP",)


@pytest.mark.parametrize(
    ("there", "lines"),
    [
        ((), ("-I INPUT -j REMEDY-X", "-I FORWARD -j REMEDY-X")),
        (JUMPS, ()),
        (JUMPS[1:], ("-I INPUT -j REMEDY-X",)),
        # One too many, and one that is not wanted any more.
        ((*JUMPS, JUMPS[0]), ("-D INPUT -j REMEDY-X",)),
        ((*JUMPS, "-A OUTPUT -j REMEDY-X"), ("-D OUTPUT -j REMEDY-X",)),
    ],
)
def test_a_chain_is_replaced_with_the_jumps_that_are_missing_or_too_many(
    there: tuple[str, ...], lines: tuple[str, ...]
) -> None:
    text = restore_script.replacing("mangle", "REMEDY-X", JUMPS, RULES, there)
    assert text.splitlines() == ["*mangle", ":REMEDY-X - [0:0]", *RULES, *lines, "COMMIT"]
    assert text.endswith("\n")


def test_a_chain_is_removed_after_the_jumps_that_are_there() -> None:
    text = restore_script.removing("mangle", "REMEDY-X", JUMPS)
    assert text.splitlines() == [
        "*mangle", "-D INPUT -j REMEDY-X", "-D FORWARD -j REMEDY-X", "-F REMEDY-X", "-X REMEDY-X",
        "COMMIT",
    ]  # fmt: skip


def test_jumps_are_those_of_others_to_a_chain() -> None:
    lines = [*JUMPS, "-A INPUT -g REMEDY-X", "-A INPUT -j REMEDY-XY", "-A REMEDY-X -j REMEDY-X"]
    assert restore_script.jumps_in(lines, "REMEDY-X") == lines[:3]


@pytest.mark.parametrize(
    ("saved", "lines"),
    [
        ("", []),
        ("a\nb\n", ["a", "b"]),
        ('a "x\ny" b\nc\n', [r'a "x\ny" b', "c"]),
        ('a "\\"x" b\nc\n', ['a "\\"x" b', "c"]),
        ('a "x\\\\" b\nc\n', ['a "x\\\\" b', "c"]),
        ('a "x" "y\nz" b\nc\n', [r'a "x" "y\nz" b', "c"]),
    ],
)
def test_a_comment_with_a_newline_is_part_of_one_line(saved: str, lines: list[str]) -> None:
    assert restore_script.lines_of(saved) == lines


@pytest.mark.parametrize(
    ("line", "unsayable"),
    [("-A C", False), (r"a \"b\"", False), (r"a \\n", False), (r"a \n b", True)],
)
def test_a_rule_that_no_restore_could_be_fed(line: str, unsayable: bool) -> None:
    assert restore_script.unsayable(line) is unsayable
