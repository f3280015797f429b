"""Who wrote a rule, told by the names of its table and of the chains that lead to it."""

from __future__ import annotations

from collections.abc import Iterable

_PREFIXES = (
    ("REMEDY-", "remedy"),
    ("KUBE-", "kube-proxy"),
    ("ufw-", "ufw"),
    ("ufw6-", "ufw"),
    ("cali-", "calico"),
    ("CILIUM_", "cilium"),
    ("OLD_CILIUM_", "cilium"),
    ("FLANNEL-", "flannel"),
    ("CNI-", "cni"),
    ("NETAVARK", "podman"),
    ("LIBVIRT_", "libvirt"),
    ("DOCKER", "docker"),
    ("nixos-fw", "nixos"),
)
_TABLES = (
    ("remedy_", "remedy"),
    ("firewalld", "firewalld"),
    ("kube-proxy", "kube-proxy"),
    ("docker-", "docker"),
    ("calico", "calico"),
    ("netavark", "podman"),
    ("libvirt_", "libvirt"),
    ("fw4", "openwrt"),
)


def owner_of(table: str, chains: Iterable[str]) -> str:
    """Return the program that owns a rule in the last of ``chains``, empty where unknown.

    ``chains`` is the way from the base chain: the name nearest to the rule decides.
    """
    for prefix, owner in _TABLES:
        if table.startswith(prefix):
            return owner
    for chain in reversed(list(chains)):
        for prefix, owner in _PREFIXES:
            if chain.startswith(prefix):
                return owner
    return ""
