"""The table of kinds of resources: what is asked of each by those who do not write it."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from remedies.errors import InputError
from remedies.fixes import invalid_drop
from remedies.model import Action
from remedies.rules import kinds, ours
from remedies.rules.kinds import KINDS
from remedies.rules.ours import NftChain
from remedies.rules.rule import Match, PacketRule

TABLE = "inet/remedy_x"
CHAIN = "mangle/REMEDY-X"
LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
DROP = "-p tcp -m conntrack --ctstate INVALID -j DROP"


def nft(*rules: tuple[Any, ...]) -> str:
    return ours.nft_table(TABLE, (NftChain("c", "filter", "forward", 0, rules),))


def chain(*rules: str, variant: str = "nft", hooks: tuple[str, ...] = ("FORWARD",)) -> str:
    return ours.iptables_chain(CHAIN, variant, hooks, rules)


def test_every_kind_has_its_driver() -> None:
    from remedies import resources

    for scheme, path in {**dict.fromkeys(KINDS, "x"), "nft": TABLE}.items():
        driver, split = resources.driver(f"{scheme}:{path}")
        assert split == path
        assert callable(driver.read)


@pytest.mark.parametrize("address", ["", "nft", "nft:", "nosuch:x", ":x", "inet/remedy_x"])
def test_an_address_of_no_kind_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="no resource has the address"):
        kinds.of(address)


@pytest.mark.parametrize(
    ("address", "family", "boot", "data", "cleared"),
    [
        (f"sysctl:{LIBERAL}", "", False, "", False),
        (f"nft:{TABLE}", "inet", False, "json", False),
        ("nft:ip6/remedy_x", "ip6", False, "json", False),
        (f"iptables:{CHAIN}", "ip", False, "ipv4", True),
        (f"ip6tables:{CHAIN}", "ip6", False, "ipv6", True),
        ("file:/etc/x", "", True, "", False),
        ("flow:udp/eth0/53", "", False, "", False),
    ],
)
def test_what_a_kind_is(address: str, family: str, boot: bool, data: str, cleared: bool) -> None:
    kind, path = kinds.of(address)
    assert (kind.family(path), kind.boot, kind.boot_data) == (family, boot, data)
    assert kind.cleared_by_firewalld is cleared
    assert kind.rules(path, "") == () or family
    assert kinds.rules_of(address, None) == ()
    assert kind.memory(()) == 0


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ((), []),
        (((ours.counter(),),), []),
        ((({"log": None}, {"drop": None}),), [("drop", {})]),
        ((({"accept": None},),), [("other", {})]),
        (
            (({"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}},
              {"drop": None}),),
            [("drop", {"protocols": ("tcp",)})],
        ),
        (
            (({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["invalid"]}},
              {"drop": None}),),
            [("drop", {"states": ("invalid",)})],
        ),
        (
            (({"match": {"op": "==", "left": {"ct": {"key": "mark"}}, "right": 1}},
              {"drop": None}),),
            [("drop", {"unmodelled": (
                '{"left": {"ct": {"key": "mark"}}, "op": "==", "right": 1}',)})],
        ),
        (
            (({"match": {"op": "!=", "left": {"ct": {"key": "state"}}, "right": "new"}},
              {"drop": None}),),
            [("drop", {"unmodelled": (
                '{"left": {"ct": {"key": "state"}}, "op": "!=", "right": "new"}',)})],
        ),
        (
            (({"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}},
                         "right": {"set": [53, {"range": [60, 70]}]}}}, {"redirect": None}),),
            [("redirect", {"protocols": ("udp",), "destination_ports": ((53, 53), (60, 70))})],
        ),
        (
            (({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}},
                         "right": {"prefix": {"addr": "10.0.0.0", "len": 8}}}}, {"drop": None}),),
            [("drop", {"sources": ("10.0.0.0/8",)})],
        ),
        (
            (({"match": {"op": "==", "left": {"fib": {"result": "type", "flags": ["daddr"]}},
                         "right": "local"}}, {"drop": None}),),
            [("drop", {"destination_local": True})],
        ),
        (
            (({"match": {"op": "!=", "left": {"fib": {"result": "type", "flags": ["daddr"]}},
                         "right": "local"}}, {"drop": None}),),
            [("drop", {"destination_local": False})],
        ),
        (
            (({"match": {"op": "==", "left": {"fib": {"result": "type", "flags": ["daddr"]}},
                         "right": "broadcast"}}, {"drop": None}),),
            [("drop", {"unmodelled": (
                '{"left": {"fib": {"flags": ["daddr"], "result": "type"}}, "op": "==", '
                '"right": "broadcast"}',)})],
        ),
    ],
)  # fmt: skip
def test_rules_of_a_table(rules: tuple[Any, ...], found: list[tuple[str, dict[str, Any]]]) -> None:
    made = kinds.rules_of(f"nft:{TABLE}", nft(*rules))
    assert [(rule.action, rule.match) for rule in made] == [(a, Match(**m)) for a, m in found]
    places = {(r.backend, r.family, r.table, r.chain, r.hook, r.owner) for r in made}
    assert places <= {("nft", "inet", "remedy_x", "c", "forward", "remedy")}


def test_a_rule_is_named_by_its_comment_or_by_where_it_stands() -> None:
    named, bare = kinds.rules_of(
        f"nft:{TABLE}", nft(({"drop": None}, ours.comment("why")), ({"drop": None},))
    )
    assert (named.text, bare.text) == ("why", "drop in remedy_x c")


@pytest.mark.parametrize(
    ("line", "action", "match"),
    [
        (DROP, "drop", {"protocols": ("tcp",), "states": ("invalid",)}),
        ("-m conntrack --ctstate INVALID,UNTRACKED -j DROP", "drop",
         {"states": ("invalid", "untracked")}),
        ("-i eth0 -p udp -m udp --dport 53 -m addrtype --dst-type LOCAL -j REDIRECT", "redirect",
         {"in_interfaces": ("eth0",), "protocols": ("udp",), "destination_ports": ((53, 53),),
          "destination_local": True}),
        ("-m addrtype --dst-type UNICAST -j DROP", "drop", {"destination_local": False}),
        ("-s 10.0.0.0/8 -d 10.0.0.1/32 -o eth1 -j ACCEPT", "other",
         {"sources": ("10.0.0.0/8",), "destinations": ("10.0.0.1/32",),
          "out_interfaces": ("eth1",)}),
        ("-p udp -m udp --sport 53:60 -m comment --comment why -j CT --notrack", "notrack",
         {"protocols": ("udp",), "source_ports": ((53, 60),)}),
        ("-j CT --zone 1", "other", {}),
        ("-p tcp --syn -j DROP", "drop", {"protocols": ("tcp",), "unmodelled": ("--syn",)}),
        ("-p tcp", "other", {"protocols": ("tcp",)}),
        ("! -s 10.0.0.0/8 ! -i eth0 -j DROP", "drop",
         {"not_sources": ("10.0.0.0/8",), "not_in_interfaces": ("eth0",)}),
        ("-p udp -m udp ! --sport 53 -j DROP", "drop",
         {"protocols": ("udp",), "unmodelled": ("! --sport", "53")}),
        ("-m conntrack ! --ctstate NEW -j DROP", "drop", {"unmodelled": ("! --ctstate", "NEW")}),
    ],
)  # fmt: skip
def test_rules_of_a_chain(line: str, action: str, match: dict[str, Any]) -> None:
    for scheme, family in (("iptables", "ip"), ("ip6tables", "ip6")):
        found = kinds.rules_of(
            f"{scheme}:{CHAIN}", chain(line, hooks=("OUTPUT", "FORWARD"), variant="legacy")
        )
        assert [rule.hook for rule in found] == ["forward", "output"], "once for each jump"
        for rule in found:
            assert (rule.action, rule.match) == (action, Match(**match))
            assert (rule.backend, rule.family) == ("iptables-legacy", family)
            assert (rule.table, rule.chain) == ("mangle", "REMEDY-X")
            assert rule.text == f"-A REMEDY-X {line}"


@pytest.mark.parametrize(
    ("address", "state", "size"),
    [
        (f"nft:{TABLE}", nft(({"drop": None},)), 3072 + 1024 + 768),
        (f"nft:{TABLE}", nft(({"drop": None},), ({"drop": None},)), 3072 + 1024 + 2 * 768),
        (f"nft:{TABLE}", nft(), 0),
        (f"iptables:{CHAIN}", chain(DROP), 3072 + 2 * 1024 + 2 * 1536),
        (f"iptables:{CHAIN}", chain(DROP, hooks=("INPUT", "FORWARD")), 3072 + 3 * 1024 + 3 * 1536),
        (f"ip6tables:{CHAIN}", chain(DROP, DROP + " -4"), 3072 + 2 * 1024 + 3 * 1536),
        ("sysctl:net.x", "1", 0),
        ("file:/etc/x", "x", 0),
    ],
)  # fmt: skip
def test_the_memory_that_rules_take(address: str, state: str, size: int) -> None:
    kind, _ = kinds.of(address)
    assert kind.memory(kinds.rules_of(address, state)) == size


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (LIBERAL, ""),
        (LIBERAL.replace(".", "/"), ""),
        ("net.ipv4.ip_forward", "net.ipv4.ip_forward can change which packets pass"),
    ],
)
def test_a_sysctl_may_do_what_no_rule_tells(path: str, said: str) -> None:
    assert KINDS["sysctl"].unjudged(path).startswith(said)
    assert bool(KINDS["sysctl"].unjudged(path)) == bool(said)
    assert KINDS["nft"].unjudged(TABLE) == ""


@pytest.mark.parametrize(
    ("address", "state", "reversible"),
    [
        (f"nft:{TABLE}", nft(), "exact"),
        (f"iptables:{CHAIN}", chain(DROP), "exact"),
        (f"iptables:{CHAIN}", chain(DROP, variant="legacy"), "lossy"),
        (f"ip6tables:{CHAIN}", chain(DROP) + chain(DROP, variant="legacy"), "lossy"),
        ("file:/etc/x", "x", "exact"),
        (f"iptables:{CHAIN}", None, "exact"),
    ],
)
def test_the_removal_of_a_legacy_chain_is_lossy(
    address: str, state: Optional[str], reversible: str
) -> None:
    kind, path = kinds.of(address)
    assert kind.removal(path, state) == reversible


FIXES = ("flow-advice", "invalid-drop", "udp-redirect")


@pytest.mark.parametrize(
    ("address", "state", "fix"),
    [
        ("nft:inet/remedy_invalid_drop", "", "invalid-drop"),
        ("nft:ip/remedy_udp_redirect", "", "udp-redirect"),
        ("iptables:mangle/REMEDY-INVALID", "", "invalid-drop"),
        ("iptables:nat/REMEDY-UDP", "", "udp-redirect"),
        ("nft:inet/remedy_other", "", None),
        ("nft:inet/remedy_", "", None),
        ("file:/etc/remedy/boot/udp-redirect.json", "{}", "udp-redirect"),
        ("file:/etc/sysctl.d/x.conf", "# Written by remedy (fix invalid-drop); x", "invalid-drop"),
        ("file:/etc/sysctl.d/x.conf", "# Written by remedy (fix other); x", None),
        ("file:/etc/udp-redirect/x.conf", "", None),
    ],
)
def test_which_fix_made_what_is_there(address: str, state: str, fix: Optional[str]) -> None:
    kind, path = kinds.of(address)
    assert kind.made_by(path, state, FIXES) == fix


@pytest.mark.parametrize(
    ("address", "action", "before", "after", "line"),
    [
        (f"sysctl:{LIBERAL}", "update", "0\n", "1\n", "nf_conntrack_tcp_be_liberal 0 -> 1"),
        (f"nft:{TABLE}", "create", None, "x", f"+ nft:{TABLE}"),
        ("file:/etc/x", "remove", "x", None, "- file:/etc/x"),
        (f"iptables:{CHAIN}", "update", "x", "y", f"~ iptables:{CHAIN}"),
        (
            "flow:udp/192.0.2.1/1/192.0.2.2/53",
            "remove",
            "x",
            None,
            "- udp 192.0.2.1:1 -> 192.0.2.2:53",
        ),
    ],
)
def test_a_change_in_one_line(
    address: str, action: Action, before: Optional[str], after: Optional[str], line: str
) -> None:
    kind, _ = kinds.of(address)
    assert kind.summary(address, action, before, after) == line


@pytest.mark.parametrize(
    ("address", "ports"),
    [
        ("flow:udp/192.0.2.1/1024/192.0.2.2/53", (1024, 53)),
        ("flow:udp/eth0/53", (53,)),
        (f"nft:{TABLE}", None),
        ("file:/etc/x", None),
        ("sysctl:net.x", None),
    ],
)
def test_only_a_flow_is_an_effect(address: str, ports: Optional[tuple[int, ...]]) -> None:
    kind, path = kinds.of(address)
    assert kind.deletes(path) == ports


def test_a_table_and_a_chain_are_loaded_at_boot_and_nothing_else() -> None:
    _, path = kinds.of(f"nft:{invalid_drop.TABLE}")
    load = KINDS["nft"].loading(path, invalid_drop.table(), "/f")
    assert (load.command, load.clears) == ("/usr/sbin/nft -j -f /f", ())
    assert load.text.startswith('{"nftables": [')
    load = KINDS["ip6tables"].loading(CHAIN, chain(DROP, variant="legacy"), "/f")
    assert load.command == "/usr/sbin/ip6tables-legacy-restore -w --noflush /f"
    assert load.clears == ("/usr/sbin/ip6tables-legacy -w -t mangle -D FORWARD -j REMEDY-X",)
    assert load.text == (
        f"*mangle\n:REMEDY-X - [0:0]\n-A REMEDY-X {DROP}\n-I FORWARD -j REMEDY-X\nCOMMIT\n"
    )
    assert not KINDS["nft"].boot_remarks, "JSON has no comments"
    for scheme in ("sysctl", "file", "flow"):
        with pytest.raises(NotImplementedError):
            KINDS[scheme].loading("x", "y", "/f")


def test_a_rule_is_of_the_type_that_those_read_who_judge_it() -> None:
    assert all(isinstance(r, PacketRule) for r in kinds.rules_of(f"iptables:{CHAIN}", chain(DROP)))
