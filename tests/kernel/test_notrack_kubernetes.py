"""Notrack rules beside NAT that break nothing, as Kubernetes and its networks write them."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest
from run_in import run_command

from remedies.conditions import notrack_breaks_nat as condition
from remedies.facts import saved
from remedies.facts.gather import read_facts
from remedies.facts.host import read_host
from remedies.namespaces.netns import inside

SERVICE, LOCAL = "10.96.0.10", "169.254.20.10"
RAW = "".join(
    f"-A PREROUTING -d {address}/32 -p {protocol} -m {protocol} --dport 53 -j CT --notrack\n"
    f"-A OUTPUT -s {address}/32 -p {protocol} -m {protocol} --sport 53 -j CT --notrack\n"
    f"-A OUTPUT -d {address}/32 -p {protocol} -m {protocol} --dport 53 -j CT --notrack\n"
    for address in (LOCAL, SERVICE)
    for protocol in ("udp", "tcp")
)
NAT = ":KUBE-SERVICES - [0:0]\n:KUBE-SEP - [0:0]\n" + "".join(
    f"-A {hook} -j KUBE-SERVICES\n" for hook in ("PREROUTING", "OUTPUT")
) + "".join(
    f"-A KUBE-SERVICES -d {SERVICE}/32 -p {protocol} -m {protocol} --dport 53 -j KUBE-SEP\n"
    f"-A KUBE-SEP -p {protocol} -m {protocol} -j DNAT --to-destination 10.244.0.7:53\n"
    for protocol in ("udp", "tcp")
)  # fmt: skip


@pytest.fixture(params=["nft", "legacy"])
def node(request: pytest.FixtureRequest, load: Callable[[str, str], str]) -> Iterator[str]:
    text = f"*raw\n{RAW}COMMIT\n*nat\n{NAT}COMMIT\n"
    ns = load(f"iptables-{request.param}-restore", text)
    with inside(ns):
        lines = ["link add nodelocaldns type bridge", "link set nodelocaldns up"]
        lines += [f"addr add {address}/32 dev nodelocaldns" for address in (SERVICE, LOCAL)]
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
        yield ns


@contextlib.contextmanager
def cache(*addresses: str) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for address in addresses:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                end = stack.enter_context(socket.socket(socket.AF_INET, kind))
                end.bind((address, 53))
                if kind == socket.SOCK_STREAM:
                    end.listen()
        yield


def verdicts() -> set[str]:
    facts = read_facts(read_host(), condition.NEEDS)
    assert saved.from_json(saved.to_json(facts), "facts") == facts
    return {finding.verdict for finding in condition.detect(facts, {})}


def test_what_a_socket_of_the_host_takes_is_not_missed_by_nat(node: str) -> None:
    with cache(SERVICE, LOCAL):
        assert verdicts() == {"mitigated"}


@pytest.mark.parametrize("addresses", [(), (LOCAL,), ("0.0.0.0",)])
def test_without_a_socket_on_that_address_nat_is_missed(
    node: str, addresses: tuple[str, ...]
) -> None:
    with cache(*addresses):
        assert "exposed" in verdicts()


KUBE_PROXY = """\
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.244.0.7:53
COMMIT
"""
CALICO = """\
*raw
:cali-PREROUTING - [0:0]
:cali-OUTPUT - [0:0]
-A PREROUTING -j cali-PREROUTING
-A OUTPUT -j cali-OUTPUT
-A cali-PREROUTING -p udp -m multiport --dports 4789 -m addrtype --dst-type LOCAL -j CT --notrack
-A cali-OUTPUT -p udp -m multiport --dports 4789 -m addrtype --src-type LOCAL -j CT --notrack
COMMIT
"""
SIP = """\
*raw
-A PREROUTING -d 192.0.2.10/32 -p udp -m udp --dport 5060 -j CT --notrack
-A OUTPUT -s 192.0.2.10/32 -p udp -m udp --sport 5060 -j CT --notrack
COMMIT
"""


@pytest.mark.parametrize("variant", ["nft", "legacy"])
@pytest.mark.parametrize("rules", [CALICO, SIP], ids=["calico-vxlan", "sip"])
def test_beside_kube_proxys_own_masquerade(
    load: Callable[[str, str], str], variant: str, rules: str
) -> None:
    with inside(load(f"iptables-{variant}-restore", rules + KUBE_PROXY)):
        assert verdicts() == set()


def test_a_services_own_port_is_missed(load: Callable[[str, str], str]) -> None:
    broad = SIP.replace("-d 192.0.2.10/32 ", "").replace("5060", "53")
    with inside(load("iptables-nft-restore", broad + KUBE_PROXY)):
        assert verdicts() == {"exposed"}


CALICO_NAT = """\
*nat
:cali-POSTROUTING - [0:0]
:cali-nat-outgoing - [0:0]
-A POSTROUTING -j cali-POSTROUTING
-A cali-POSTROUTING -j cali-nat-outgoing
-A cali-POSTROUTING -o vxlan.calico -m addrtype ! --src-type LOCAL --limit-iface-out \
-m addrtype --src-type LOCAL -j MASQUERADE --random-fully
-A cali-nat-outgoing -m set --match-set cali40masq-ipam-pools src \
-m set ! --match-set cali40all-ipam-pools dst -j MASQUERADE --random-fully
COMMIT
"""
POOLS = "create cali40masq-ipam-pools hash:net\nadd cali40masq-ipam-pools 10.244.0.0/16\n"
POOLS += POOLS.replace("masq", "all")
CILIUM = """\
*raw
:CILIUM_OUTPUT_raw - [0:0]
:CILIUM_PRE_raw - [0:0]
-A PREROUTING -m comment --comment "cilium-feeder: CILIUM_PRE_raw" -j CILIUM_PRE_raw
-A OUTPUT -m comment --comment "cilium-feeder: CILIUM_OUTPUT_raw" -j CILIUM_OUTPUT_raw
-A CILIUM_OUTPUT_raw -o lxc+ -m mark --mark 0xa00/0xfffffeff -j CT --notrack
-A CILIUM_OUTPUT_raw -o cilium_host -m mark --mark 0xa00/0xfffffeff -j CT --notrack
-A CILIUM_OUTPUT_raw -o lxc+ -m mark --mark 0x800/0xe00 -j CT --notrack
-A CILIUM_OUTPUT_raw -o cilium_host -m mark --mark 0x800/0xe00 -j CT --notrack
-A CILIUM_PRE_raw -m mark --mark 0x200/0xf00 -j CT --notrack
COMMIT
*nat
:CILIUM_POST_nat - [0:0]
-A POSTROUTING -j CILIUM_POST_nat
-A CILIUM_POST_nat -s 10.0.0.0/24 ! -d 10.0.0.0/24 ! -o cilium_+ -j MASQUERADE
-A CILIUM_POST_nat -m mark --mark 0xa00/0xe00 -j ACCEPT
-A CILIUM_POST_nat -s 127.0.0.1/32 -o cilium_host -j SNAT --to-source 10.0.0.1
-A CILIUM_POST_nat -o cilium_host -m mark --mark 0xf00/0xf00 -m conntrack --ctstate DNAT \
-j SNAT --to-source 10.0.0.1
COMMIT
"""
LINKS = """\
link add eth0 type bridge
link set eth0 up
addr add 192.0.2.10/24 dev eth0
link add vxlan.calico type vxlan id 4096 dstport 4789 local 192.0.2.10
link set vxlan.calico up
addr add 10.244.7.0/32 dev vxlan.calico
link add cilium_host type bridge
link set cilium_host up
addr add 10.0.0.1/32 dev cilium_host
"""


@pytest.fixture
def networked(netns: Callable[..., str]) -> Callable[[str, str], str]:
    """Give ``make(variant, text)``: a node with tunnel, pools and a ruleset."""

    def make(variant: str, text: str) -> str:
        ns = netns("kn")
        run_command(ns, ["ip", "-batch", "-"], stdin=LINKS)
        run_command(ns, ["ipset", "restore"], stdin=POOLS)
        run_command(ns, [f"iptables-{variant}-restore", "--noflush"], stdin=text)
        return ns

    return make


@pytest.mark.parametrize("variant", ["nft", "legacy"])
@pytest.mark.parametrize("network", [CALICO + CALICO_NAT, CILIUM], ids=["calico", "cilium"])
def test_a_clusters_network_keeps_its_own_packets_from_no_nat(
    networked: Callable[[str, str], str], variant: str, network: str
) -> None:
    with inside(networked(variant, network + KUBE_PROXY)):
        assert verdicts() == set()


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        # What is not the tunnel's leaves by it, and the tunnel's packets leave by another link.
        (CALICO.replace("4789", "4000") + CALICO_NAT, "exposed"),
        (CALICO + CALICO_NAT.replace("-o vxlan.calico", "-o eth0"), "unknown"),
        (CALICO.replace("-m addrtype --src-type LOCAL ", "")
         + "*nat\n-A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT\n", "exposed"),
        (CILIUM.replace("0x200/0xf00", "0x200/0xff00"), "unknown"),
        (CILIUM.replace("CILIUM_PRE_raw", "mine"), "unknown"),
    ],
    ids=["another-port", "another-link", "masqueraded-tunnel", "another-mark", "another-owner"],
)  # fmt: skip
def test_what_is_not_the_networks_own_is_judged(
    networked: Callable[[str, str], str], text: str, verdict: str
) -> None:
    with inside(networked("nft", text + KUBE_PROXY)):
        assert verdicts() == {verdict}


def left_from(port: int) -> str:
    """Return the source with which a datagram of the host's leaves by the tunnel."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as tap:  # ETH_P_ALL
        tap.bind(("vxlan.calico", 3))
        tap.settimeout(5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("192.0.2.10", 0))
            sender.sendto(b"question", ("10.244.8.1", port))
        while True:
            packet = tap.recv(2000)
            if packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_UDP:
                return socket.inet_ntoa(packet[12:16])


def test_what_the_host_sends_through_the_tunnel_leaves_as_the_verdict_says(
    networked: Callable[[str, str], str],
) -> None:
    ns = networked("nft", CALICO.replace("4789", "4000") + CALICO_NAT)
    reached = "route add 10.244.8.0/24 dev vxlan.calico\n"
    reached += "neigh add 10.244.8.1 lladdr 02:00:00:00:00:09 dev vxlan.calico\n"
    run_command(ns, ["ip", "-batch", "-"], stdin=reached)
    with inside(ns):
        assert left_from(4001) == "10.244.7.0"
        assert left_from(4000) == "192.0.2.10"
        assert verdicts() == {"exposed"}
