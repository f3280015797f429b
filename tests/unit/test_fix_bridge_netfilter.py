"""The switch that shows bridged packets to conntrack: when it is set, and when refused."""

from __future__ import annotations

from builder import facts, finding

from remedies import catalogue
from remedies.facts.sysctl import NO_KEY, Sysctl
from remedies.fixes import bridge_netfilter
from remedies.model import Terms, Wanted
from remedies.netlink.links import Link, Links

KEY = "net.bridge.bridge-nf-call-iptables"
SEEN = finding("bridge-netfilter-missing", details={"key": KEY, "link": "cni0"})
CNI = (Link(3, "cni0", "bridge", True), Link(4, "veth0", "veth", True, 3))
VMS = (Link(5, "br0", "bridge", True), Link(6, "vnet0", "tun", True, 5))


def test_the_switch_is_set() -> None:
    seen = facts(Links(CNI), Sysctl({KEY: "0"}))
    assert bridge_netfilter.guard(SEEN, seen, Terms()) is None
    assert bridge_netfilter.desired(SEEN, seen, Terms()) == (Wanted(f"sysctl:{KEY}", "1"),)
    assert catalogue.may_write("bridge-netfilter", f"sysctl:{KEY}")


def test_it_is_refused_beside_another_bridge_and_without_the_module() -> None:
    beside = facts(Links((*CNI, *VMS)), Sysctl({KEY: "0"}))
    assert "br0" in (bridge_netfilter.guard(SEEN, beside, Terms()) or "")
    unloaded = facts(Links(CNI), Sysctl({}, {KEY: NO_KEY}))
    assert "modprobe" in (bridge_netfilter.guard(SEEN, unloaded, Terms()) or "")
    assert "finding" in (bridge_netfilter.guard(None, beside, Terms()) or "")
