"""What a trace says of a dropped packet beside its reason: condition, fix, where to look."""

from __future__ import annotations

import pytest

from remedies.netlink.flow import Tuple
from remedies.rules.rule import PacketRule
from remedies.trace import cures
from remedies.trace.drop_reasons import words
from remedies.trace.event import DropEvent

V4 = Tuple("10.21.17.1", 50000, "172.17.0.2", 80)
V6 = Tuple("fd10::1", 50000, "fd17::2", 80)


def dropped(
    reason: str = "NETFILTER_DROP",
    protocol: str = "tcp",
    way: Tuple = V4,
    conntrack: str = "new",
    *,
    invalid: bool = False,
) -> DropEvent:
    """Return a drop of a packet that came by eth0."""
    told = words(reason, "", way.destination)
    return DropEvent(
        time=0.0, reason=reason, means=told.means, look=told.look, ordinary=told.ordinary,
        protocol=protocol, way=way, flags="", namespace="", container="", link="eth0",
        conntrack=conntrack, place="", invalid=invalid, sign=reason,
    )  # fmt: skip


def ruled(
    backend: str = "nft",
    family: str = "inet",
    table: str = "filter",
    chain: str = "forward",
    owner: str = "",
) -> PacketRule:
    """Return a rule that drops."""
    return PacketRule(
        backend=backend, family=family, table=table, chain=chain, hook="forward", action="drop",
        text="policy drop", owner=owner,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("drop", "rule", "fix"),
    [
        (dropped(), ruled(),
         "nft insert rule inet filter forward ip daddr 172.17.0.2 tcp dport 80 accept"),
        (dropped(way=V6), ruled(),
         "nft insert rule inet filter forward ip6 daddr fd17::2 tcp dport 80 accept"),
        (dropped(conntrack="established, reply"), ruled(),
         "nft insert rule inet filter forward ct state established,related accept"),
        (dropped(protocol="icmp type 8 code 0", way=Tuple("10.0.0.1", 0, "10.0.0.2", 0)), ruled(),
         "nft insert rule inet filter forward ip daddr 10.0.0.2 meta l4proto icmp accept"),
        (dropped(), ruled("iptables-nft", "ip", chain="FORWARD"),
         "iptables-nft -t filter -I FORWARD -d 172.17.0.2 -p tcp --dport 80 -j ACCEPT"),
        (dropped(way=V6, protocol="udp"), ruled("iptables-legacy", "ip6", chain="INPUT"),
         "ip6tables-legacy -t filter -I INPUT -d fd17::2 -p udp --dport 80 -j ACCEPT"),
        (dropped(conntrack="related, reply"), ruled("iptables-legacy", "ip", chain="INPUT"),
         "iptables-legacy -t filter -I INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"),
        (dropped(), ruled("iptables-nft", "ip", chain="DOCKER", owner="docker"),
         "iptables-nft -t filter -I DOCKER-USER -d 172.17.0.2 -p tcp --dport 80 -j ACCEPT"),
    ],
)  # fmt: skip
def test_the_command_lets_just_that_by(drop: DropEvent, rule: PacketRule, fix: str) -> None:
    assert cures.of_rule(drop, rule).endswith(fix)
    assert cures.of_rule(drop, rule).startswith("if it is to pass: ")


def test_the_program_that_writes_a_rule_is_named_first() -> None:
    assert "ufw route allow" in cures.of_rule(dropped(), ruled(owner="ufw"))
    assert "firewall-cmd" in cures.of_rule(dropped(), ruled(owner="firewalld"))
    assert "endpointslices" in cures.of_rule(dropped(), ruled(owner="kube-proxy"))
    assert "insert" not in cures.of_rule(dropped(), ruled(owner="kube-proxy"))
    assert "remedy status" in cures.of_rule(dropped(), ruled(owner="remedy"))


@pytest.mark.parametrize(
    ("drop", "condition"),
    [
        (dropped(conntrack="established, reply"), "reply-dropped"),
        (dropped(protocol="icmp type 3 code 4", conntrack="related, reply"), "mtu-black-hole"),
        (dropped(protocol="icmp type 3 code 1", conntrack="related, reply"), ""),
        (dropped(invalid=True), "tcp-invalid-stall"),
        (dropped("SOCKET_FILTER"), ""),
        (dropped(conntrack="new"), ""),  # a firewall that does what it is for
        (dropped(conntrack=""), ""),
        (dropped(conntrack="related, reply"), ""),
    ],
)
def test_a_drop_names_the_condition_that_it_is_a_sign_of(drop: DropEvent, condition: str) -> None:
    assert cures.condition(drop) == condition


@pytest.mark.parametrize(
    ("drop", "look"),
    [
        (dropped("IP_RPFILTER"), "net.ipv4.conf.eth0.rp_filter; ip route get 10.21.17.1"),
        (dropped("IP_INNOROUTES"), "ip route get 172.17.0.2"),
        (dropped("IP_INADDRERRORS", way=V6), "net.ipv6.conf.all.forwarding"),
        (dropped("NEIGH_FAILED", way=V6), "ip -6 neigh show; ip -6 route get fd17::2"),
    ],
)
def test_where_to_look_has_the_packets_own_names(drop: DropEvent, look: str) -> None:
    assert look in cures.look(drop)
    assert not [word for word in ("LINK", "SOURCE", "DESTINATION") if word in cures.look(drop)]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_that_is_open_elsewhere_is_not_to_be_started(protocol: str) -> None:
    elsewhere = cures.listen(protocol, 80, ("127.0.0.1 (nginx[7])",), "10.21.17.99")
    assert elsewhere is not None
    assert "10.21.17.99" in elsewhere
    assert "start" not in elsewhere
    assert "start" in (cures.listen(protocol, 80, (), "10.21.17.99") or "")
    assert cures.listen(protocol, 0, (), "10.21.17.99") is None


def test_what_is_too_big_is_clamped_for_tcp_alone() -> None:
    assert "ip6tables -t mangle" in cures.smaller("tcp", "eth0", 1280, True)
    assert "--clamp-mss-to-pmtu" in cures.smaller("tcp", "eth0", 1280, False)
    assert "1280" in cures.smaller("udp", "eth0", 1280, False)
