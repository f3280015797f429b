"""The kernel's reasons for dropping a packet, in an operator's words. Pure data.

Names are those of enum skb_drop_reason without its prefix (include/net/dropreason-core.h, where
each has a comment); which of them a kernel has, its BTF says.
"""

from __future__ import annotations

from remedies.values import NamedTuple


class DropReason(NamedTuple):
    """What a reason means, and where to look."""

    means: str
    """Completes "dropped: ...", without a full stop."""
    look: str = ""
    """A command or a setting that shows or settles it."""
    ordinary: bool = False
    """Part of a working protocol (a segment that came twice): counted, not told one by one."""


REASONS = {
    "NOT_SPECIFIED": DropReason("the kernel does not say why; its function tells where"),
    "NETFILTER_DROP": DropReason(
        "a rule of the firewall, or a chain's policy, dropped or rejected it",
        "nft list ruleset; iptables-save -c",
    ),
    "NO_SOCKET": DropReason(
        "no socket takes it: nothing listens at this address and port, or the connection is not "
        "known here",
        "ss -lntu",
    ),
    "SOCKET_CLOSE": DropReason("its socket was being closed", ordinary=True),
    "SOCKET_FILTER": DropReason("a filter that a program set on its socket", ordinary=True),
    "SOCKET_RCVBUFF": DropReason(
        "its socket's receive buffer is full: the program reads too slowly",
        "ss -lunmp (d: drops); sysctl net.core.rmem_max; nstat UdpRcvbufErrors",
    ),
    "SOCKET_BACKLOG": DropReason(
        "the backlog of its socket is full while the program holds it",
        "nstat TcpExtTCPBacklogDrop; sysctl net.ipv4.tcp_rmem",
    ),
    "PROTO_MEM": DropReason(
        "the memory for sockets of this protocol is used up",
        "cat /proc/net/sockstat; sysctl net.ipv4.tcp_mem net.ipv4.udp_mem",
    ),
    "PKT_TOO_SMALL": DropReason("it is shorter than its headers say"),
    "TCP_CSUM": DropReason("TCP's checksum is wrong", "ethtool -K LINK tx off (offload of a link)"),
    "UDP_CSUM": DropReason("UDP's checksum is wrong", "ethtool -K LINK tx off (offload of a link)"),
    "ICMP_CSUM": DropReason("ICMP's checksum is wrong"),
    "IP_CSUM": DropReason("the IPv4 header's checksum is wrong"),
    "SKB_CSUM": DropReason("a checksum could not be computed"),
    "OTHERHOST": DropReason(
        "its frame is addressed to another machine (promiscuous mode)", ordinary=True
    ),
    "UNICAST_IN_L2_MULTICAST": DropReason("a unicast packet in a broadcast or multicast frame"),
    "MAC_INVALID_SOURCE": DropReason("its frame's source address is this link's own, or none"),
    "LOCAL_MAC": DropReason("its frame's source address is one of this bridge's own: a loop"),
    "IP_INHDR": DropReason("its IP header is malformed"),
    "IP_RPFILTER": DropReason(
        "the way back to its source is by another link: reverse path filter",
        "sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.LINK.rp_filter; ip route get SOURCE",
    ),
    "IP_INADDRERRORS": DropReason(
        "it is not for this host, and it is not forwarded, or its destination is invalid",
        "sysctl net.ipv4.ip_forward net.ipv4.conf.LINK.forwarding",
    ),
    "IP_INNOROUTES": DropReason("no route to its destination", "ip route get DESTINATION"),
    "IP_OUTNOROUTES": DropReason("no route to its destination", "ip route get DESTINATION"),
    "IP_LOCAL_SOURCE": DropReason("it came from outside, with an address of this host as source"),
    "IP_INVALID_SOURCE": DropReason("its source address is not valid as a source"),
    "IP_LOCALNET": DropReason(
        "it has an address of 127.0.0.0/8 and came from, or goes to, a link",
        "sysctl net.ipv4.conf.LINK.route_localnet",
    ),
    "IP_INVALID_DEST": DropReason("its destination address is not valid"),
    "IP_NOPROTO": DropReason("nothing here handles its IP protocol"),
    "UNHANDLED_PROTO": DropReason("nothing here handles its link-layer protocol", ordinary=True),
    "INVALID_PROTO": DropReason("its protocol does not fit the link it came from"),
    "IPV6DISABLED": DropReason(
        "IPv6 is switched off on this link", "sysctl net.ipv6.conf.LINK.disable_ipv6"
    ),
    "PKT_TOO_BIG": DropReason(
        "it is larger than the next link's MTU and may not be fragmented",
        "ip link show; tracepath DESTINATION; nft add rule ... tcp option maxseg size set rt mtu",
    ),
    "DUP_FRAG": DropReason("this fragment is a duplicate or overlaps another"),
    "FRAG_REASM_TIMEOUT": DropReason(
        "the other fragments did not arrive", "nstat IpReasmFails; sysctl net.ipv4.ipfrag_time"
    ),
    "FRAG_TOO_FAR": DropReason(
        "its fragments arrived too far apart", "sysctl net.ipv4.ipfrag_max_dist"
    ),
    "XFRM_POLICY": DropReason("an IPsec policy does not allow it", "ip xfrm policy"),
    "SECURITY_HOOK": DropReason("a security module (SELinux, AppArmor) does not allow it"),
    "BPF_CGROUP_EGRESS": DropReason(
        "a BPF program of its sender's control group does not allow it", "bpftool cgroup tree"
    ),
    "XDP": DropReason("an XDP program dropped it", "ip link show (xdp)"),
    "TC_INGRESS": DropReason("a tc filter dropped it", "tc filter show dev LINK ingress"),
    "TC_EGRESS": DropReason("a tc filter dropped it", "tc filter show dev LINK egress"),
    "QDISC_DROP": DropReason("the link's queue is full or limits the rate", "tc -s qdisc"),
    "QDISC_OVERLIMIT": DropReason("the queue of its link is over its limit", "tc -s qdisc"),
    "QDISC_CONGESTED": DropReason("the queue of its link is congested", "tc -s qdisc"),
    "FQ_FLOW_LIMIT": DropReason("its flow fills the link's queue", "tc -s qdisc"),
    "FQ_BAND_LIMIT": DropReason("its priority band fills the link's queue", "tc -s qdisc"),
    "CPU_BACKLOG": DropReason(
        "a processor's queue of arrived packets is full",
        "cat /proc/net/softnet_stat (second column); sysctl net.core.netdev_max_backlog",
    ),
    "FULL_RING": DropReason("the ring of a link (tun, veth with XDP) is full"),
    "NOMEM": DropReason("there was no memory for it"),
    "PFMEMALLOC": DropReason("memory is short: it took a reserve not meant for it"),
    "DEV_READY": DropReason("the link it goes to is down", "ip link show"),
    "DEV_HDR": DropReason("no frame could be made for it on this link"),
    "NEIGH_FAILED": DropReason(
        "the next hop does not answer (ARP, neighbour discovery)",
        "ip neigh show; ip route get DESTINATION",
    ),
    "NEIGH_CREATEFAIL": DropReason(
        "the neighbour table is full, or takes no entry for the next hop",
        "ip -s neigh; sysctl net.ipv4.neigh.default.gc_thresh3; dmesg | grep neighbour",
    ),
    "NEIGH_QUEUEFULL": DropReason(
        "too many packets wait for the next hop to answer (ARP)",
        "ip neigh show; sysctl net.ipv4.neigh.LINK.unres_qlen_bytes",
    ),
    "NEIGH_DEAD": DropReason("the neighbour entry was removed while it waited"),
    "TCP_LISTEN_OVERFLOW": DropReason(
        "the program does not accept connections fast enough: its accept queue is full",
        "ss -lnt (Recv-Q against Send-Q); sysctl net.core.somaxconn",
    ),
    "TCP_OVERWINDOW": DropReason("its data lies beyond the receive window of its connection"),
    "TCP_ZEROWINDOW": DropReason("its connection's receive window is closed", ordinary=True),
    "TCP_INVALID_SEQUENCE": DropReason("its sequence number lies outside its connection's window"),
    "TCP_INVALID_END_SEQUENCE": DropReason("its data ends beyond its connection's window"),
    "TCP_INVALID_ACK_SEQUENCE": DropReason("it acknowledges what was never sent"),
    "TCP_ACK_UNSENT_DATA": DropReason("it acknowledges what was never sent"),
    "TCP_INVALID_SYN": DropReason("a SYN within an existing connection", ordinary=True),
    "TCP_FLAGS": DropReason("its flags do not fit the state of its connection"),
    "TCP_RFC7323_PAWS": DropReason(
        "its timestamp is older than its connection's (PAWS): several hosts behind one "
        "NAT address have different clocks",
        "nstat TcpExtPAWSEstab",
    ),
    "TCP_RFC7323_TW_PAWS": DropReason(
        "its timestamp is older than that of the connection before (PAWS)",
        "nstat TcpExtPAWSTimewait",
    ),
    "TCP_OLD_DATA": DropReason("a duplicate: its data arrived before", ordinary=True),
    "TCP_OLD_SEQUENCE": DropReason("a duplicate: its data arrived before", ordinary=True),
    "TCP_OFOMERGE": DropReason("a duplicate: its data arrived before, out of order", ordinary=True),
    "TCP_OLD_ACK": DropReason("a newer acknowledgment arrived before", ordinary=True),
    "TCP_TOO_OLD_ACK": DropReason("its acknowledgment is too old to be genuine"),
    "TCP_RESET": DropReason("a reset that ended its connection", ordinary=True),
    "TCP_CLOSE": DropReason("its connection is closed", ordinary=True),
    "TCP_ABORT_ON_DATA": DropReason("data came for a connection that its program had closed"),
    "TCP_OFO_QUEUE_PRUNE": DropReason("TCP discarded out-of-order data: no memory"),
    "TCP_OFO_DROP": DropReason("TCP could not store out-of-order data: no memory"),
    "TCP_MINTTL": DropReason("its TTL is below the minimum that its socket accepts"),
    "TCP_MD5NOTFOUND": DropReason("it lacks the MD5 signature that its connection requires"),
    "TCP_MD5UNEXPECTED": DropReason("it has an MD5 signature that its connection does not expect"),
    "TCP_MD5FAILURE": DropReason("its MD5 signature is wrong"),
    "TAP_FILTER": DropReason("a filter on a virtual machine's link dropped it", ordinary=True),
    "TAP_TXFILTER": DropReason("a filter on a virtual machine's link dropped it", ordinary=True),
    "BRIDGE_INGRESS_STP_STATE": DropReason(
        "its bridge port is not forwarding yet (spanning tree)", "bridge link show"
    ),
    "NO_TX_TARGET": DropReason("there is no link or bridge port that it could go to"),
    "VXLAN_VNI_NOT_FOUND": DropReason("no VXLAN link here has its network number"),
    "VXLAN_INVALID_HDR": DropReason("its VXLAN header is malformed"),
    "QUEUE_PURGE": DropReason("its socket was closed before the program read it", ordinary=True),
    "PACKET_SOCK_ERROR": DropReason("a program that captures packets is too slow", ordinary=True),
}  # fmt: skip


NO_REASON = "NOT_SPECIFIED"
_PLACES = {"neigh_invalidate": "NEIGH_FAILED", "neigh_resolve_output": "NEIGH_FAILED"}
"""Functions that give no reason where they could (net/core/neighbour.c)."""
_NOT_FOR_US = (NO_REASON, "IP_INNOROUTES", "IP_OUTNOROUTES", "IP_INADDRERRORS")


def sign_of(reason: str, place: str) -> str:
    """Return a reason, or the one that the kernel's function stands for where it gives none."""
    return _PLACES.get(place, reason) if reason == NO_REASON else reason


def words(reason: str, place: str, destination: str) -> DropReason:
    """Return what a reason means that the kernel gave in the function ``place``.

    A multicast or broadcast packet (``destination``: its address) that nothing here listens for
    is ordinary.
    """
    if reason in _NOT_FOR_US and _for_many(destination):
        return DropReason(
            "a multicast or broadcast packet that nothing here listens for", ordinary=True
        )
    reason = sign_of(reason, place)
    return REASONS.get(reason, DropReason(f"the kernel's reason {reason}"))


def _for_many(address: str) -> bool:
    """Tell whether an address is a multicast or the broadcast one (RFC 5771, RFC 4291)."""
    first = address.partition(".")[0]
    return address.startswith("ff") or (
        first.isdigit() and (224 <= int(first) < 240 or first == "255")
    )
