"""Who wrote a rule, told by names that only one program gives: of its table, chain or comment.

Nothing in the kernel says whose a rule is, so this is knowledge: one table of signs, each with the
file of the project it is taken from. A rule without a sign is nobody's that we know: ``a rule``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Sequence
from fnmatch import translate

from remedies.values import NamedTuple

ADMIN = "the admin"
"""Who writes where a program leaves room: it never touches what stands there."""


class OwnerSign(NamedTuple):
    """What tells a program's rules."""

    owner: str
    where: str
    """``table``, ``chain`` or ``comment``: what ``pattern`` is the name or text of."""
    pattern: str
    """A shell pattern, as of fnmatch."""
    source: str
    """Project and file that the name is written in."""
    beside: str = ""
    """A pattern that a chain of the same table has to match, too: for names that others use."""


SIGNS = (
    OwnerSign("remedy", "table", "remedy_*", "remedy: remedies/fixes"),
    OwnerSign("remedy", "chain", "REMEDY-*", "remedy: remedies/fixes"),
    OwnerSign("firewalld", "table", "firewalld", "firewalld: src/firewall/core/nftables.py"),
    OwnerSign("kube-proxy", "table", "kube-proxy*", "kubernetes: pkg/proxy/nftables/proxier.go"),
    OwnerSign(
        "docker", "table", "docker-*", "moby: daemon/libnetwork/drivers/bridge/.../nftabler.go"
    ),
    OwnerSign("calico", "table", "calico*", "calico: felix/nftables/table.go"),
    OwnerSign("podman", "table", "netavark*", "netavark: src/firewall/nft.rs"),
    OwnerSign("libvirt", "table", "libvirt_*", "libvirt: src/network/network_nftables.c"),
    OwnerSign("openwrt", "table", "fw4", "firewall4: root/usr/share/firewall4/templates"),
    OwnerSign("istio", "table", "istio-*", "istio: tools/istio-nftables/pkg/constants"),
    OwnerSign("proxmox", "table", "proxmox-firewall*", "proxmox-firewall: src/firewall.rs"),
    OwnerSign("nixos", "table", "nixos-*", "nixpkgs: nixos/modules/services/networking"),
    OwnerSign("incus", "table", "incus", "incus: internal/server/firewall/drivers"),
    OwnerSign("lxd", "table", "lxd", "lxd: lxd/firewall/drivers"),
    OwnerSign("lxc-net", "table", "lxc", "lxc: config/init/common/lxc-net.in"),
    OwnerSign("crowdsec", "table", "crowdsec*", "cs-firewall-bouncer: pkg/nftables"),
    OwnerSign("fail2ban", "table", "f2b-*", "fail2ban: config/action.d/nftables.conf"),
    OwnerSign("sshuttle", "table", "sshuttle-*", "sshuttle: sshuttle/methods/nft.py"),
    OwnerSign("wg-quick", "table", "wg-quick-*", "wireguard-tools: src/wg-quick/linux.bash"),
    OwnerSign("flannel", "table", "flannel-*", "flannel: pkg/trafficmngr/nftables/nftables.go"),
    # Chains, and before a prefix the names under it that are another's.
    OwnerSign(ADMIN, "chain", "DOCKER-USER", "moby: daemon/libnetwork/firewall_linux.go"),
    OwnerSign("docker", "chain", "DOCKER*", "moby: daemon/libnetwork/drivers/bridge"),
    OwnerSign("kube-router", "chain", "KUBE-ROUTER-*", "kube-router: pkg/controllers/netpol"),
    OwnerSign("kube-router", "chain", "KUBE-POD-FW-*", "kube-router: pkg/controllers/netpol"),
    OwnerSign("kube-router", "chain", "KUBE-NWPLCY-*", "kube-router: pkg/controllers/netpol"),
    OwnerSign(
        "kubelet", "chain", "KUBE-KUBELET-*", "kubernetes: pkg/kubelet/kubelet_network_linux.go"
    ),
    OwnerSign("kube-proxy", "chain", "KUBE-*", "kubernetes: pkg/proxy/iptables/proxier.go"),
    OwnerSign("ufw", "chain", "ufw-*", "ufw: src/ufw-init-functions"),
    OwnerSign("ufw", "chain", "ufw6-*", "ufw: src/ufw-init-functions"),
    OwnerSign("calico", "chain", "cali-*", "calico: felix/rules/rule_defs.go"),
    OwnerSign("cilium", "chain", "CILIUM_*", "cilium: pkg/datapath/iptables/iptables.go"),
    OwnerSign("cilium", "chain", "OLD_CILIUM_*", "cilium: pkg/datapath/iptables/iptables.go"),
    OwnerSign("flannel", "chain", "FLANNEL-*", "flannel: pkg/trafficmngr/iptables/iptables.go"),
    OwnerSign("cni", "chain", "CNI-*", "containernetworking/plugins: plugins/meta/portmap"),
    OwnerSign("podman", "chain", "NETAVARK*", "netavark: src/firewall/varktables/types.rs"),
    OwnerSign("libvirt", "chain", "LIBVIRT_*", "libvirt: src/network/network_iptables.c"),
    OwnerSign("nixos", "chain", "nixos-*", "nixpkgs: nixos/modules/services/networking"),
    OwnerSign("istio", "chain", "ISTIO_*", "istio: tools/istio-iptables/pkg/constants"),
    OwnerSign("proxmox", "chain", "PVEFW-*", "pve-firewall: src/PVE/Firewall.pm"),
    OwnerSign("proxmox", "chain", "GROUP-*", "pve-firewall: src/PVE/Firewall.pm", "PVEFW-*"),
    OwnerSign("proxmox", "chain", "tap*", "pve-firewall: src/PVE/Firewall.pm", "PVEFW-*"),
    OwnerSign("proxmox", "chain", "veth*", "pve-firewall: src/PVE/Firewall.pm", "PVEFW-*"),
    OwnerSign("crowdsec", "chain", "CROWDSEC*", "cs-firewall-bouncer: pkg/iptables"),
    OwnerSign("tailscale", "chain", "ts-*", "tailscale: util/linuxfw"),
    OwnerSign("fail2ban", "chain", "f2b-*", "fail2ban: config/action.d/iptables.conf"),
    OwnerSign("sshuttle", "chain", "sshuttle-*", "sshuttle: sshuttle/methods/nat.py"),
    OwnerSign("aws-vpc-cni", "chain", "AWS-SNAT-CHAIN-*", "amazon-vpc-cni-k8s: pkg/networkutils"),
    OwnerSign(
        "aws-vpc-cni", "chain", "AWS-CONNMARK-CHAIN-*", "amazon-vpc-cni-k8s: pkg/networkutils"
    ),
    OwnerSign("openwrt", "chain", "zone_*", "firewall3: zones.c", "zone_*_forward"),
    *(
        OwnerSign("firewalld", "chain", name, "firewalld: src/firewall/core/ipXtables.py", beside)
        for name, beside in (
            *((f"{hook}_direct", "") for hook in ("INPUT", "FORWARD", "OUTPUT")),
            *((f"{hook}_direct", "") for hook in ("PREROUTING", "POSTROUTING")),
            *((f"{way}_*", "*_direct") for way in ("INPUT", "FORWARD", "OUTPUT", "IN", "FWD")),
            *((f"{way}_*", "*_direct") for way in ("FWDI", "FWDO", "PRE", "POST")),
            *((f"{way}_*", "*_direct") for way in ("PREROUTING", "POSTROUTING")),
        )
    ),
    # Its chains have the names of the host's own zones, and this one is in each of its tables.
    OwnerSign("shorewall", "chain", "shorewall", "shorewall: Perl/Shorewall/Misc.pm"),
    *(
        OwnerSign("shorewall", "chain", name, "shorewall: Perl/Shorewall/Chains.pm", "shorewall")
        for name in ("*[a-z]*", "~*", "%*")
    ),
    # Rules in the chains that all share.
    OwnerSign("calico", "comment", "cali:*", "calico: felix/generictables"),
    OwnerSign("cilium", "comment", "cilium: *", "cilium: pkg/datapath/iptables/iptables.go"),
    OwnerSign("flannel", "comment", "flanneld *", "flannel: pkg/trafficmngr/iptables"),
    OwnerSign("kube-router", "comment", "kube-router *", "kube-router: pkg/controllers/netpol"),
    OwnerSign("kube-proxy", "comment", "kubernetes *", "kubernetes: pkg/proxy/iptables"),
    OwnerSign("aws-vpc-cni", "comment", "AWS, *", "amazon-vpc-cni-k8s: pkg/networkutils"),
    OwnerSign("incus", "comment", "generated for Incus *", "incus: .../drivers_xtables.go"),
    OwnerSign("lxd", "comment", "generated for LXD *", "lxd: .../drivers_xtables.go"),
    OwnerSign("openwrt", "comment", "!fw[34]*", "firewall4, firewall3: rules' comments"),
    OwnerSign(
        "wg-quick", "comment", "wg-quick(8) rule for *", "wireguard-tools: src/wg-quick/linux.bash"
    ),
    OwnerSign("proxmox", "comment", "PVESIG:*", "pve-firewall: src/PVE/Firewall.pm"),
    OwnerSign("podman", "comment", "netavark *", "netavark: src/firewall/varktables/types.rs"),
    OwnerSign("cni", "comment", "CNI *", "containernetworking/plugins: plugins/meta/firewall"),
    OwnerSign("cni", "comment", 'name: "*" id: "*"', "containernetworking/plugins: pkg/ip/ipmasq"),
    OwnerSign("crowdsec", "comment", "CrowdSec*", "cs-firewall-bouncer: pkg/iptables"),
)

WRITES_BETWEEN = {
    "firewalld": "firewalld: src/firewall/core/ipXtables.py, build_default_rules()",
    "shorewall": "shorewall: Perl/Shorewall/Rules.pm",
}
"""Programs whose rules stand in a built-in chain behind the jumps to their own, without a comment;
with the file that says so. The others write nothing there but jumps."""

WRITES_BEFORE = {"firewalld": "firewalld 2: src/firewall/core/ipXtables.py, build_default_rules()"}
"""The same for programs whose rule stands directly before the first of these jumps, too."""


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


@functools.cache
def _signs(where: str) -> tuple[tuple[str, OwnerSign], ...]:
    """Return the signs of one kind, each with what its pattern begins with."""
    return tuple(
        (re.split(r"[*\[]", sign.pattern)[0], sign) for sign in SIGNS if sign.where == where
    )


def _owner_by_sign(where: str, name: str, chains: Collection[str] = ()) -> str:
    for start, sign in _signs(where):
        if name.startswith(start) and _compiled(sign.pattern).match(name):
            beside = _compiled(sign.beside) if sign.beside else None
            if beside is None or any(beside.match(chain) for chain in chains):
                return sign.owner
    return ""


@functools.lru_cache(maxsize=64)
def written_between(chains: tuple[str, ...]) -> bool:
    """Tell whether a table with these chains may have rules of a program that writes among jumps.

    Where it has none, nobody need look at what stands beside a rule.
    """
    return any(_owner_by_sign("chain", name, chains) in WRITES_BETWEEN for name in chains)


def owner_of(
    table: str,
    path: Sequence[str],
    comment: str = "",
    before: Iterable[str] = (),
    chains: Collection[str] = (),
    after: Iterable[str] = (),
) -> str:
    """Return the program that owns a rule in the last chain of ``path``, empty where unknown.

    ``path`` is the way from the base chain: the name nearest to the rule decides, then its
    ``comment``. ``before`` are the chains that earlier rules of its chain lead to: they tell whose
    a rule is that stands between the jumps of a program that writes there; ``after``, where the
    next one leads. ``chains`` are all of the table: some names say something only beside others.
    """
    told = _owner_by_sign("table", table)
    for name in reversed(path):
        told = told or _owner_by_sign("chain", name, chains)
    told = told or (_owner_by_sign("comment", comment) if comment else "")
    if told or len(path) > 1:
        return told
    beside = {_owner_by_sign("chain", name, chains) for name in before} & WRITES_BETWEEN.keys()
    beside |= {_owner_by_sign("chain", name, chains) for name in after} & WRITES_BEFORE.keys()
    return beside.pop() if len(beside) == 1 else ""
