"""Whose a rule is, said by a real scan: each program's rule stands as its tool prints it.

In each ruleset one rule of a program decides over INVALID segments of NAT's flows: it drops them,
or accepts them before a drop of the admin's. The message has the rule, its place and its owner.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from forked_cli import forked
from rules_of_others import table
from run_in import RunIn

INVALID = "-m conntrack --ctstate INVALID"
MASQUERADE = table("nat", "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE")
SITE = """
table ip site { chain post { type nat hook postrouting priority srcnat;
  ip saddr 172.17.0.0/16 oifname != "docker0" masquerade
  }
}
"""
INPUT = "type filter hook input priority filter;"


def led(chain: str, rule: str = f"{INVALID} -j DROP", *beside: str) -> str:
    """Return a filter table whose INPUT leads to a chain with one rule, and others beside it."""
    names = (chain, *(line.split()[1] for line in beside if line.startswith("-A")))
    chains = [f":{name} - [0:0]" for name in dict.fromkeys(names)]
    lines = (f"-A INPUT -j {chain}", f"-A {chain} {rule}", f"-A INPUT {INVALID} -j DROP")
    return MASQUERADE + table("filter", *chains, *lines, *beside)


def commented(comment: str) -> str:
    rule = f'-A INPUT {INVALID} -m comment --comment "{comment}" -j DROP'
    return MASQUERADE + table("filter", rule)


DROPS = f"{INVALID} -j DROP"
IPTABLES = {
    "the admin": (led("DOCKER-USER"), f"-A DOCKER-USER {DROPS}"),
    "docker": (led("DOCKER-FORWARD"), f"-A DOCKER-FORWARD {DROPS}"),
    "kube-router": (led("KUBE-ROUTER-INPUT"), f"-A KUBE-ROUTER-INPUT {DROPS}"),
    "kube-proxy": (led("KUBE-FIREWALL"), f"-A KUBE-FIREWALL {DROPS}"),
    "istio": (led("ISTIO_INBOUND"), f"-A ISTIO_INBOUND {DROPS}"),
    "proxmox": (led("PVEFW-HOST-IN"), f"-A PVEFW-HOST-IN {DROPS}"),
    "nixos": (led("nixos-fw"), f"-A nixos-fw {DROPS}"),
    "firewalld": (
        led("INPUT_direct", "-p udp -j RETURN"),
        f"-A INPUT {DROPS}",
    ),
    "tailscale": (
        led("ts-input", "-i tailscale0 -j ACCEPT"),
        "-A ts-input -i tailscale0 -j ACCEPT",
    ),
    "crowdsec": (led("CROWDSEC_CHAIN"), f"-A CROWDSEC_CHAIN {DROPS}"),
    "fail2ban": (led("f2b-recidive"), f"-A f2b-recidive {DROPS}"),
    "shorewall": (
        led("net-fw", DROPS, "-A shorewall -m recent --set --name %CURRENTTIME --rsource"),
        f"-A net-fw {DROPS}",
    ),
    "podman": (led("NETAVARK_INPUT"), f"-A NETAVARK_INPUT {DROPS}"),
    "openwrt": (
        led("zone_wan_input", DROPS, "-A zone_lan_forward -j RETURN"),
        f"-A zone_wan_input {DROPS}",
    ),
    "calico": (led("cali-INPUT"), f"-A cali-INPUT {DROPS}"),
    "cilium": (led("CILIUM_INPUT"), f"-A CILIUM_INPUT {DROPS}"),
    "ufw": (led("ufw-before-input"), f"-A ufw-before-input {DROPS}"),
    "libvirt": (led("LIBVIRT_INP"), f"-A LIBVIRT_INP {DROPS}"),
    "aws-vpc-cni": (
        commented("AWS, primary ENI"),
        f'-A INPUT {INVALID} -m comment --comment "AWS, primary ENI" -j DROP',
    ),
    "incus": (
        commented("generated for Incus network incusbr0"),
        f'-A INPUT {INVALID} -m comment --comment "generated for Incus network incusbr0" -j DROP',
    ),
    "": (commented("my own"), f'-A INPUT {INVALID} -m comment --comment "my own" -j DROP'),
}
OF_LEGACY = ("the admin", "firewalld", "shorewall", "openwrt", "aws-vpc-cni", "")
"""Signs of each kind, asked of the other variant, too."""
NFT: dict[str, tuple[str, str, str]] = {
    "istio": ("inet", "istio-proxy-raw", "input"),
    "proxmox": ("inet", "proxmox-firewall", "input"),
    "nixos": ("inet", "nixos-fw", "input"),
    "firewalld": ("inet", "firewalld", "filter_INPUT"),
    "incus": ("inet", "incus", "in.incusbr0"),
    "lxd": ("inet", "lxd", "in.lxdbr0"),
    "lxc-net": ("inet", "lxc", "input"),
    "crowdsec": ("ip", "crowdsec", "crowdsec-chain-input"),
    "fail2ban": ("inet", "f2b-table", "f2b-chain"),
    "podman": ("inet", "netavark", "INPUT"),
    "openwrt": ("inet", "fw4", "input"),
    "docker": ("ip", "docker-bridges", "filter-input"),
    "kube-proxy": ("ip", "kube-proxy", "filter-input"),
    "calico": ("ip", "calico", "filter-INPUT"),
    "libvirt": ("ip", "libvirt_network", "guest_input"),
    "": ("inet", "mine", "input"),
}


def message(ns: str, folder: Path) -> str:
    (found,) = forked(ns, folder, "scan", "--window", "0", "--show-all")["findings"]
    return str(found["message"])


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_iptables_rules_are_named(
    netns: Callable[..., str], run_in: RunIn, tmp_path: Path, variant: str
) -> None:
    ns = netns("on")
    for owner in IPTABLES if variant == "nft" else OF_LEGACY:
        text, rule = IPTABLES[owner]
        run_in(ns, [f"iptables-{variant}-restore"], stdin=text)
        assert rule in run_in(ns, [f"iptables-{variant}-save", "-t", "filter"]).stdout
        chain = rule.split()[1]
        whose = f", {owner}" if owner else ""
        told = f"'{rule}' (iptables-{variant} ip filter {chain}{whose})"
        said = message(ns, tmp_path)
        assert told in said, owner
        copied = said[said.index(told) + len("'-A") : said.index(f"' (iptables-{variant}")]
        run_in(ns, [f"iptables-{variant}", "-D", *shlex.split(copied)])
        left = run_in(ns, [f"iptables-{variant}-save", "-t", "filter"]).stdout.splitlines()
        assert left.count(rule) == text.splitlines().count(rule) - 1


def test_rules_of_nft_are_named(netns: Callable[..., str], run_in: RunIn, tmp_path: Path) -> None:
    ns = netns("on")
    for owner, (family, name, chain) in NFT.items():
        rule = "ct state invalid drop"
        text = f"table {family} {name} {{ chain {chain} {{ {INPUT}\n {rule}\n }}\n}}\n"
        run_in(ns, ["nft", "-f", "-"], stdin=f"flush ruleset\n{SITE}{text}")
        whose = f", {owner}" if owner else ""
        said = message(ns, tmp_path)
        told = re.search(rf"'{rule} # (handle \d+)' \(nft ({family} {name} {chain}){whose}\)", said)
        assert told, (owner, said)
        run_in(ns, ["nft", f"delete rule {told[2]} {told[1]}"])
        assert rule not in run_in(ns, ["nft", "list", "ruleset"]).stdout
