"""What programs are known to do with the settings we write. Knowledge, not a probe.

Sources: kube-proxy, cmd/kube-proxy/app/conntrack.go (``setupConntrack``) and pkg/proxy/iptables
(route_localnet); moby, libnetwork (``setup_ipforwarding.go``, ``setup_bridgenetfiltering.go``,
``drivers/overlay/ostweaks_linux.go``); cilium and calico on rp_filter: cilium/cilium#20072,
projectcalico/felix#2082; nftables.service and netfilter-persistent(8) as Debian ships them;
ufw(8), IPT_SYSCTL, and ufw-init-functions (``flush_builtins``); tuned.conf(5);
containernetworking/plugins, main/bridge (``enableIPForward``) and meta/portmap
(``enableLocalnetRouting``); firewalld, functions.py (``enable_ip_forwarding``);
systemd.network(5).
"""

from __future__ import annotations

from remedies.values import NamedTuple


class Known(NamedTuple):
    """What one program is known to do with the resources of one pattern."""

    writer: str
    pattern: str
    """A resource address; one ``*`` stands for anything."""
    does: str
    """Follows "WRITER (seen) ": when, and what."""
    instead: str
    """What to do about it."""


_KUBE, _NETFILTER = "kube-proxy", "sysctl:net.netfilter.nf_conntrack_"
_FLUSH = "empties the whole ruleset whenever it is started, reloaded or stopped"
_AGAIN = "'remedy apply' puts ours back"
CNI, UFW_INIT = "CNI plugins", "ufw-init"
_UNHOOKS = "empties the built-in chains of mangle whenever ufw is started or stopped"

KNOWN = (
    Known(
        _KUBE,
        _NETFILTER + "tcp_be_liberal",
        "sets it to 1 at each start where its conntrack.tcpBeLiberal is true, and adds an INVALID "
        "drop of its own where it then finds 0",
        "set conntrack.tcpBeLiberal in its configuration instead",
    ),
    Known(_KUBE, _NETFILTER + "max", "raises it at each start", "set conntrack.maxPerCore instead"),
    Known(
        _KUBE,
        _NETFILTER + "tcp_timeout_*",
        "sets it at each start",
        "set conntrack.tcpEstablishedTimeout or tcpCloseWaitTimeout instead",
    ),
    Known(
        _KUBE,
        _NETFILTER + "udp_timeout*",
        "sets it at each start if it is configured to",
        "set conntrack.udpTimeout or udpStreamTimeout instead",
    ),
    Known(
        _KUBE,
        "sysctl:net.ipv4.conf.all.route_localnet",
        "sets it to 1 at each start in iptables mode",
        "set iptables.localhostNodePorts instead",
    ),
    Known(
        "dockerd",
        "sysctl:net.ipv4.ip_forward",
        "sets it to 1 at each start",
        'set "ip-forward" in daemon.json instead',
    ),
    Known(
        "dockerd",
        "sysctl:net.ipv6.conf.*.forwarding",
        "sets it to 1 when it makes an IPv6 network",
        'set "ip-forward" in daemon.json instead',
    ),
    Known(
        "dockerd",
        "sysctl:net.bridge.*",
        "sets it to 1 for networks without inter-container traffic",
        "look at icc and userland-proxy in daemon.json",
    ),
    Known(
        "dockerd",
        "sysctl:net.ipv4.conf.*.route_localnet",
        "sets it to 1 on its bridges without a userland proxy",
        "look at userland-proxy in daemon.json",
    ),
    Known(
        "dockerd",
        "sysctl:net.ipv4.neigh.default.gc_thresh*",
        "raises it for overlay networks",
        "set a higher value than Docker's 8192, 49152 and 65536",
    ),
    Known(
        "cilium-agent",
        "sysctl:net.ipv4.conf.*.rp_filter",
        "sets it to 0 on links of its own",
        "leave its links alone",
    ),
    Known(
        "calico-node",
        "sysctl:net.ipv4.conf.*.rp_filter",
        "sets it on links of its own",
        "leave its links alone",
    ),
    Known(
        "systemd-networkd",
        "sysctl:net.ipv6.conf.*.accept_ra",
        "sets it to 0 on links that it manages",
        "set IPv6AcceptRA= in the link's .network file instead",
    ),
    Known(
        "NetworkManager",
        "sysctl:net.ipv6.conf.*.accept_ra",
        "sets it to 0 on links that it manages",
        "set ipv6.method of the connection instead",
    ),
    Known(
        "systemd-networkd",
        "sysctl:net.ipv4.ip_forward",
        "sets it where a .network file has IPForward= or IPv4Forwarding=",
        "set it there instead",
    ),
    Known(
        "firewalld",
        "sysctl:net.ipv4.ip_forward",
        "sets it to 1 when a zone masquerades or forwards a port",
        "leave it on while firewalld does either",
    ),
    Known(
        CNI,
        "sysctl:net.ipv4.ip_forward",
        "set it to 1 for each container behind a bridge that is its gateway",
        "leave it on while containers run",
    ),
    Known(
        CNI,
        "sysctl:net.ipv4.conf.*.route_localnet",
        "set it to 1 on the link of each container that publishes a port",
        "set snat of the portmap plugin to false instead",
    ),
    Known(UFW_INIT, "iptables:mangle/*", _UNHOOKS, _AGAIN),
    Known(UFW_INIT, "ip6tables:mangle/*", _UNHOOKS, _AGAIN),
    Known("nftables.service", "nft:*", _FLUSH, _AGAIN),
    Known("nftables.service", "iptables:*", _FLUSH, _AGAIN),
    Known("nftables.service", "ip6tables:*", _FLUSH, _AGAIN),
    Known(
        "netfilter-persistent",
        "iptables:*",
        "replaces the tables that its rules file names whenever it is started",
        _AGAIN,
    ),
    Known(
        "netfilter-persistent",
        "ip6tables:*",
        "replaces the tables that its rules file names whenever it is started",
        _AGAIN,
    ),
    Known(
        "firewalld",
        "iptables:*",
        "empties the iptables tables when it starts or reloads with its iptables backend",
        _AGAIN,
    ),
    Known(
        "firewalld",
        "ip6tables:*",
        "empties the iptables tables when it starts or reloads with its iptables backend",
        _AGAIN,
    ),
)
