"""The few sysctls that conditions and guards turn on, from /proc/sys."""

from __future__ import annotations

import os
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Asking
from remedies.values import dataclass, field

_LONGEST = 1 << 13
NO_KEY = "no such key: its kernel module is not loaded"

KEYS = (
    "net.bridge.bridge-nf-call-ip6tables",
    "net.bridge.bridge-nf-call-iptables",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_log_invalid",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_be_liberal",
    "net.netfilter.nf_conntrack_tcp_loose",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_unacknowledged",
    "net.netfilter.nf_conntrack_udp_timeout",
    "net.netfilter.nf_conntrack_udp_timeout_stream",
    "net.ipv4.conf.all.route_localnet",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.all.src_valid_mark",
    "net.ipv4.conf.default.rp_filter",
    "net.ipv4.ip_forward",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv6.conf.all.forwarding",
)
"""What is read: Documentation/networking/{nf_conntrack-sysctl,ip-sysctl}.rst of the kernel."""


@dataclass(frozen=True)
class Sysctl:
    """Values by dotted key."""

    values: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Keys that could not be read, with the reason (``no such key: module not loaded``)."""

    def get(self, key: str) -> Optional[str]:
        """Return a value, None where this kernel has no such key now.

        Raises Unreadable where the key is there and could not be read, or was not asked for.
        """
        if key in self.values:
            return self.values[key]
        reason = self.missing.get(key, "was not read")
        if reason == NO_KEY:
            return None
        raise Unreadable(f"{key}: {reason}")


def value(key: str) -> str:
    """Return one value of this namespace, tabs as single spaces; raise OSError.

    The kernel says it at once, as far as there is room (proc_sys_call_handler()).
    """
    descriptor = os.open(f"/proc/sys/{key.replace('.', '/')}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return " ".join(os.read(descriptor, _LONGEST).decode("utf-8", "replace").split())
    finally:
        os.close(descriptor)


def read(asking: Asking) -> Sysctl:
    """Read every key of :data:`KEYS`; one that cannot be read is missing with its reason."""
    values: dict[str, str] = {}
    missing: dict[str, str] = {}
    for key in KEYS:
        try:
            values[key] = value(key)
        except FileNotFoundError:
            missing[key] = NO_KEY
        except OSError as error:
            missing[key] = error.strerror or str(error)
    return Sysctl(values, missing)
