"""What the networks of clusters send, told by tunnel and by mark: two tables, each row with source.

A tunnel's packets leave by another link than the tunnel, with an address of that link: what NAT
does to what a tunnel carries is not about them. A program that marks packets for rules of its own
says by the mark which they are: what marks them is judged, or nobody's rule but its own.
"""

from __future__ import annotations

from remedies.netlink.links import Links
from remedies.rules.marks import mark_test
from remedies.rules.matching import name_covers
from remedies.rules.rule import Match, PacketRule
from remedies.values import NamedTuple


class TunnelKind(NamedTuple):
    """How the packets of one kind of tunnel look from outside."""

    kind: str
    """Of the link, as ``ip -d link`` names it."""
    ports: tuple[int, ...]
    """UDP, where they are sent to."""
    source: str


TUNNELS = (
    TunnelKind("vxlan", (4789,), "RFC 7348, 5; Calico: VXLANPort in felix/config/config_params.go"),
    TunnelKind("vxlan", (8472,), "drivers/net/vxlan/vxlan_core.c (vxlan_port); flannel, Cilium"),
    TunnelKind("geneve", (6081,), "RFC 8926, 3.3"),
    TunnelKind("wireguard", (51820, 51821), "Calico: felix/config/config_params.go"),
    TunnelKind("wireguard", (51871,), "Cilium: pkg/wireguard/types/types.go"),
)


class KnownMark(NamedTuple):
    """A mark by which a program's rules know their own packets."""

    owner: str
    value: int
    mask: int
    """0: any, it is an option of the program."""
    source: str


_CILIUM = "cilium: pkg/datapath/linux/linux_defaults/mark.go"
MARKS = (
    KnownMark("kube-proxy", 0, 0, "kubernetes: --iptables-masquerade-bit"),
    KnownMark("cilium", 0x200, 0xF00, f"{_CILIUM}: MagicMarkIsToProxy"),
    KnownMark("cilium", 0xA00, 0xE00, f"{_CILIUM}: MagicMarkIsProxy"),
    KnownMark("cilium", 0xA00, 0xFFFFFEFF, f"{_CILIUM}: MagicMarkIsProxy, MagicMarkProxyNoIDMask"),
    KnownMark("cilium", 0xB00, 0xF00, f"{_CILIUM}: MagicMarkEgress"),
    KnownMark("cilium", 0x800, 0xE00, f"{_CILIUM}: MagicMarkIsProxyEPID"),
)


def tunnels_of(match: Match, links: Links) -> tuple[str, ...]:
    """Return the links whose tunnel's own packets these are; none where others may be, too."""
    ports = {port for first, last in match.destination_ports[:8] for port in (first, last)}
    if match.protocols != ("udp",) or len(ports) != len(match.destination_ports):
        return ()
    kinds = {row.kind for row in TUNNELS if ports & set(row.ports)}
    known = {port for row in TUNNELS for port in row.ports}
    if len(kinds) != 1 or not ports <= known:
        return ()
    return tuple(link.name for link in links.links if link.kind in kinds)


def leaves_by(match: Match, names: tuple[str, ...]) -> bool:
    """Tell whether what a rule sees leaves by these links alone."""
    out = match.out_interfaces
    return bool(out) and all(any(name_covers(name, each) for name in names) for each in out)


def by_its_mark(rule: PacketRule) -> bool:
    """Tell whether a rule is for nothing but packets that bear a mark of its own program."""
    rows = [row for row in MARKS if row.owner == rule.owner]
    tests = {mark_test(row.mask, row.value, negate=False) for row in rows if row.mask}
    any_mark = "meta mark" if any(not row.mask for row in rows) else "\0"

    def known(name: str) -> bool:
        return name in tests or name.startswith(any_mark)

    if rule.match.unmodelled:
        return all(map(known, rule.match.unmodelled))
    # What bears no mark has left: "meta mark & 0x4000 == 0 return" before it.
    return rule.match == Match() and any(known(n) for m in rule.after for n in m.unmodelled)
