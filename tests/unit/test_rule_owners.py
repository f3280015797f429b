"""Whose a rule is: by table, by the nearest chain, by comment, by the jumps before it."""

from __future__ import annotations

import pytest

from remedies.rules.owners import ADMIN, SIGNS, WRITES_BETWEEN, owner_of

BY_NAME = {
    "kube-proxy": ("KUBE-SVC-X", "KUBE-POSTROUTING", "KUBE-FIREWALL"),
    "kubelet": ("KUBE-KUBELET-CANARY",),
    "kube-router": ("KUBE-ROUTER-FORWARD", "KUBE-POD-FW-X", "KUBE-NWPLCY-X"),
    "docker": ("DOCKER", "DOCKER-FORWARD", "DOCKER-ISOLATION-STAGE-1"),
    ADMIN: ("DOCKER-USER",),
    "ufw": ("ufw-before-input", "ufw6-user-input", "ufw-docker-logging-deny"),
    "calico": ("cali-FORWARD",),
    "cilium": ("CILIUM_FORWARD", "OLD_CILIUM_FORWARD"),
    "istio": ("ISTIO_OUTPUT", "ISTIO_PRERT"),
    "proxmox": ("PVEFW-FORWARD",),
    "nixos": ("nixos-fw", "nixos-nat-post", "nixos-fw-log-refuse"),
    "libvirt": ("LIBVIRT_FWI",),
    "podman": ("NETAVARK_FORWARD", "NETAVARK-1D8721804F16F"),
    "cni": ("CNI-FORWARD", "CNI-HOSTPORT-DNAT"),
    "flannel": ("FLANNEL-POSTRTG",),
    "tailscale": ("ts-input", "ts-postrouting"),
    "fail2ban": ("f2b-sshd",),
    "crowdsec": ("CROWDSEC_CHAIN",),
    "sshuttle": ("sshuttle-12300",),
    "aws-vpc-cni": ("AWS-SNAT-CHAIN-0", "AWS-CONNMARK-CHAIN-0"),
    "firewalld": ("INPUT_direct", "POSTROUTING_direct"),
    "remedy": ("REMEDY-INVALID-DROP",),
}
TABLES = {
    "firewalld": "firewalld",
    "kube-proxy": "kube-proxy",
    "docker-bridges": "docker",
    "netavark": "podman",
    "libvirt_network": "libvirt",
    "fw4": "openwrt",
    "istio-proxy-nat": "istio",
    "nixos-fw": "nixos",
    "incus": "incus",
    "lxd": "lxd",
    "lxc": "lxc-net",
    "crowdsec6": "crowdsec",
    "f2b-table": "fail2ban",
    "wg-quick-wg0": "wg-quick",
    "flannel-ipv4": "flannel",
    "proxmox-firewall": "proxmox",
    "remedy_invalid_drop": "remedy",
}
COMMENTS = {
    "cali:6gwbT8clXdHdC1b1": "calico",
    "cilium: any->proxy redirect": "cilium",
    "kubernetes forwarding rules": "kube-proxy",
    "kube-router netpol - 4IA2OSFRMVNDXBVV": "kube-router",
    "AWS, primary ENI": "aws-vpc-cni",
    "CNI firewall plugin rules": "cni",
    "generated for Incus network incusbr0": "incus",
    "generated for LXD network lxdbr0": "lxd",
    "!fw4: Handle inbound flows": "openwrt",
    "wg-quick(8) rule for wg0": "wg-quick",
    'name: "cbr0" id: "0123"': "cni",
    "netavark firewall rules": "podman",
    "flanneld masq": "flannel",
}


@pytest.mark.parametrize(
    ("owner", "chain"), [(owner, chain) for owner, chains in BY_NAME.items() for chain in chains]
)
def test_a_chain_names_its_program(owner: str, chain: str) -> None:
    assert owner_of("filter", ("FORWARD", chain)) == owner


@pytest.mark.parametrize("table", TABLES)
def test_a_table_names_its_program(table: str) -> None:
    assert owner_of(table, ("input",)) == TABLES[table]


@pytest.mark.parametrize("comment", COMMENTS)
def test_a_comment_names_who_wrote_into_a_shared_chain(comment: str) -> None:
    assert owner_of("filter", ("FORWARD",), comment) == COMMENTS[comment]


@pytest.mark.parametrize(
    ("path", "chains"),
    [
        (("INPUT",), ()),
        (("INPUT", "mine"), ("mine", "INPUT_direct", "PVEFW-INPUT")),
        (("INPUT", "IN_something"), ("IN_something",)),
        (("INPUT", "tap100i0-IN"), ("tap100i0-IN",)),
        (("INPUT", "net-fw"), ("net-fw",)),
        (("INPUT", "GROUP-x"), ("GROUP-x", "KUBE-FIREWALL")),
    ],
)
def test_names_that_anybody_may_give_are_nobodys(
    path: tuple[str, ...], chains: tuple[str, ...]
) -> None:
    assert owner_of("filter", path, "my own drop", chains=chains) == ""


@pytest.mark.parametrize(
    ("chain", "beside", "owner"),
    [
        ("IN_public_allow", "INPUT_direct", "firewalld"),
        ("FORWARD_IN_ZONES", "FORWARD_direct", "firewalld"),
        ("tap100i0-IN", "PVEFW-FORWARD", "proxmox"),
        ("net-fw", "shorewall", "shorewall"),
        ("reject", "shorewall", "shorewall"),
        ("zone_wan_input", "zone_lan_forward", "openwrt"),
    ],
)
def test_some_names_say_it_beside_another(chain: str, beside: str, owner: str) -> None:
    assert owner_of("filter", ("INPUT", chain), chains=(chain, beside)) == owner


def test_the_nearest_chain_decides() -> None:
    assert owner_of("filter", ("FORWARD", "DOCKER-USER", "ufw-user-forward")) == "ufw"
    assert owner_of("filter", ("FORWARD", "DOCKER-USER", "mine")) == ADMIN


@pytest.mark.parametrize("before", [("INPUT_direct", "INPUT_ZONES"), ("f2b-sshd", "INPUT_direct")])
def test_a_rule_behind_firewalls_jumps_is_firewalls(before: tuple[str, ...]) -> None:
    """firewalld writes its own drop of INVALID into INPUT, without a comment."""
    chains = ("INPUT_direct", "INPUT_ZONES", "f2b-sshd")
    assert owner_of("filter", ("INPUT",), before=before, chains=chains) == "firewalld"


@pytest.mark.parametrize(
    ("after", "owner"),
    [("INPUT_direct", "firewalld"), ("shorewall", ""), ("f2b-sshd", ""), ("mine", "")],
)
def test_the_rule_before_firewallds_first_jump_is_firewallds(after: str, owner: str) -> None:
    told = owner_of("filter", ("INPUT",), chains=("INPUT_direct", "shorewall"), after=(after,))
    assert told == owner


@pytest.mark.parametrize(
    "before", [(), ("f2b-sshd",), ("DOCKER-USER", "DOCKER-FORWARD"), ("mine",)]
)
def test_jumps_of_those_who_write_nothing_else_there_say_nothing(before: tuple[str, ...]) -> None:
    assert owner_of("filter", ("INPUT",), before=before, chains=(*before, "INPUT_direct")) == ""


def test_what_stands_beside_a_rule_says_nothing_in_a_chain_of_somebodys() -> None:
    jumps = ("INPUT_direct",)
    assert owner_of("filter", ("INPUT", "mine"), before=jumps, chains=(*jumps, "mine")) == ""


def test_between_jumps_of_two_who_write_there_a_rule_is_nobodys() -> None:
    before = ("INPUT_direct", "net-fw")
    chains = (*before, "shorewall")
    for known, owner in ((before[:1], "firewalld"), (before[1:], "shorewall"), (before, "")):
        assert owner_of("filter", ("INPUT",), before=known, chains=chains) == owner


def test_every_sign_has_its_source() -> None:
    assert all(": " in sign.source for sign in SIGNS)
    assert all(": " in source for source in WRITES_BETWEEN.values())
    assert {sign.where for sign in SIGNS} == {"table", "chain", "comment"}
