"""The pure parts of the probes: /proc texts, packets, and what facts answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies import codec
from remedies.errors import InputError, Unreadable
from remedies.facts.counters import (
    NETSTAT,
    SNMP,
    SNMP6,
    Counters,
    conntrack_rows,
    paired_lines,
    single_lines,
)
from remedies.facts.sockets import UdpSocket
from remedies.facts.sysctl import NO_KEY, Sysctl
from remedies.namespaces.cgroups import placement, pod
from remedies.netlink.links import Address, Link, Links

OLD = """entries  searched found new invalid ignore delete insert insert_failed drop early_drop
00000010  00000000 00000000 00000000 0000000a 00000000 00000000 00000000 00000001 00000002 00000003
00000010  00000000 00000000 00000000 00000010 00000000 00000000 00000000 00000000 00000000 00000000
"""
NEW = """entries  clashres found invalid chainlength insert insert_failed drop early_drop icmp_error
00000010  00000000 00000000 0000001a 00000000 00000000 00000001 00000002 00000003 00000000
"""


@pytest.mark.parametrize("text", [OLD, NEW])
def test_conntrack_columns_go_by_name_and_rows_are_summed(text: str) -> None:
    assert conntrack_rows(text) == {
        "nf_conntrack.invalid": 0x1A,
        "nf_conntrack.insert_failed": 1,
        "nf_conntrack.drop": 2,
        "nf_conntrack.early_drop": 3,
    }


def test_a_row_that_is_not_hexadecimal_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="nf_conntrack"):
        conntrack_rows("entries invalid\n0 zz\n")


def test_snmp_values_go_by_the_heading_above_them() -> None:
    text = "Icmp: InMsgs InDestUnreachs\nIcmp: 5 2\nTcp: MaxConn OutRsts\nTcp: -1 68\n"
    assert paired_lines(text, SNMP) == {"Icmp.InDestUnreachs": 2, "Tcp.OutRsts": 68}
    assert paired_lines("TcpExt: ListenDrops\nTcpExt: 9\n", NETSTAT) == {"TcpExt.ListenDrops": 9}


def test_snmp6_has_one_value_a_line() -> None:
    text = "Ip6InReceives  \t4\nIcmp6InDestUnreachs             \t7\n"
    assert single_lines(text, SNMP6) == {"Icmp6.InDestUnreachs": 7}


@given(st.text(max_size=300))
def test_any_text_is_counters_or_unreadable(text: str) -> None:
    for read in (
        conntrack_rows,
        lambda t: paired_lines("Tcp: OutRsts\nTcp:" + t, SNMP),
        lambda t: single_lines("Icmp6InDestUnreachs " + t, SNMP6),
    ):
        try:
            assert all(isinstance(value, int) for value in read(text).values())
        except Unreadable:
            continue


def test_a_delta_needs_both_readings() -> None:
    counters = Counters({"a": 1, "b": 1}, {"a": 4})
    assert counters.delta("a") == 3
    assert counters.delta("b") is None


def test_a_sysctl_that_is_not_there_is_not_one_that_could_not_be_read() -> None:
    fact = Sysctl({"a.b": "1"}, {"c.d": NO_KEY, "e.f": "Permission denied"})
    assert fact.get("a.b") == "1"
    assert fact.get("c.d") is None
    with pytest.raises(Unreadable, match="Permission denied"):
        fact.get("e.f")
    with pytest.raises(Unreadable, match="was not read"):
        fact.get("g.h")


LINKS = Links(
    links=(
        Link(1, "lo", "", up=True, loopback=True),
        Link(2, "eth0", "", up=True),
        Link(3, "docker0", "bridge", up=True),
        Link(4, "eth1", "", up=False),
    ),
    addresses=(
        Address("127.0.0.1", 8, 1, "host"),
        Address("127.0.0.53", 8, 1, "host"),
        Address("::1", 128, 1, "host"),
        Address("10.21.17.99", 24, 2, "global"),
        Address("10.21.17.98", 24, 2, "global"),
        Address("172.17.0.1", 16, 3, "global"),
        Address("192.0.2.1", 24, 4, "global"),
        Address("172.17.0.1", 32, 2, "global"),
        Address("203.0.113.53", 32, 1, "global"),
        Address("fe80::1", 64, 2, "link"),
        Address("fe80::2", 64, 3, "link"),
        Address("2001:db8::1", 64, 2, "global"),
    ),
)


def test_addresses_to_ask_are_those_that_others_can_use_each_once() -> None:
    assert LINKS.askable() == {
        4: ("10.21.17.99", "10.21.17.98", "172.17.0.1", "203.0.113.53"),
        6: ("2001:db8::1",),
    }
    assert [item.address for item in LINKS.reachable(6)] == ["2001:db8::1"]


@pytest.mark.parametrize("prefix", [-1, 33, 255])
def test_an_address_has_a_prefix_of_its_family(prefix: int) -> None:
    with pytest.raises(ValueError, match="no address"):
        Address("10.0.0.1", prefix, 1, "global")


@pytest.mark.parametrize(
    ("family", "v6only", "device", "expected"),
    [
        (4, None, "", True),
        (4, None, "eth0", False),
        (6, False, "", True),
        (6, None, "", True),
        (6, True, "", False),
    ],
)
def test_a_socket_spans_what_its_clients_can_use(
    family: int, v6only: bool | None, device: str, expected: bool
) -> None:
    address = "0.0.0.0" if family == 4 else "::"
    item = UdpSocket(family, address, 5, 1, 0, device=device, v6only=v6only)
    assert item.spans(LINKS.askable()) is expected


ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("cgroups", "expected"),
    [
        ("0::/system.slice/nginx.service\n", ("nginx.service", "")),
        (f"0::/system.slice/docker-{ID}.scope\n", ("", ID[:12])),
        (f"12:pids:/docker/{ID}\n1:name=systemd:/docker/{ID}\n", ("", ID[:12])),
        (f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", ("", ID[:12])),
        ("0::/user.slice/user-0.slice/session-3.scope\n", ("session-3.scope", "")),
        (
            "0::/user.slice/user-1.slice/user@1.service/app.slice/sip.service\n",
            ("sip.service", ""),
        ),
        ("0::/\n", ("", "")),
        ("nonsense", ("", "")),
    ],
)
def test_unit_and_container_come_from_the_cgroup(cgroups: str, expected: tuple[str, str]) -> None:
    assert placement(cgroups) == expected


UID = "6d2b0f3a-8a3e-4d0e-9f0a-1b2c3d4e5f60"


@pytest.mark.parametrize(
    ("cgroups", "expected"),
    [
        (
            f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod"
            f"{UID.replace('-', '_')}.slice/cri-containerd-{ID}.scope\n",
            UID,
        ),
        (f"12:pids:/kubepods/burstable/pod{UID}/{ID}\n0::/\n", UID),
        (f"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID}.slice/x.scope", UID),
        (f"0::/machine.slice/libpod-{ID}.scope\n", ""),
        (f"0::/system.slice/docker-{ID}.scope\n", ""),
        ("0::/system.slice/podman.service\n", ""),
        ("nonsense", ""),
    ],
)
def test_the_pod_comes_from_the_cgroup(cgroups: str, expected: str) -> None:
    assert pod(cgroups) == expected


def test_a_socket_of_no_ip_version_is_refused_where_it_stands() -> None:
    plain = codec.encode(UdpSocket(4, "0.0.0.0", 53, 1, 0))
    with pytest.raises(InputError, match=r"facts\.sockets: no IP version 8"):
        codec.decode(UdpSocket, {**plain, "family": 8}, "facts.sockets")
