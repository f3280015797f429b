"""conntrack's counters over ctnetlink: per CPU, summed here, by the kernel's names.

The same figures as /proc/net/stat/nf_conntrack, which a kernel may lack
(CONFIG_NF_CONNTRACK_PROCFS). Numbers are those of ``enum ctattr_stats_cpu`` in
include/uapi/linux/netfilter/nfnetlink_conntrack.h. Needs CAP_NET_ADMIN.
"""

from __future__ import annotations

import struct

from remedies.netlink.socket import Netlink, attributes

IPCTNL_MSG_CT_GET_STATS_CPU = (1 << 8) | 4
IPCTNL_MSG_CT_GET_STATS = (1 << 8) | 5

_NAMES = {
    2: "found",
    4: "invalid",
    8: "insert",
    9: "insert_failed",
    10: "drop",
    11: "early_drop",
    12: "error",
    13: "search_restart",
    14: "clash_resolve",
    15: "chain_toolong",
}
_GLOBAL_ENTRIES = 1
_HEADER = struct.pack("=BBH", 0, 0, 0)  # struct nfgenmsg: AF_UNSPEC, NFNETLINK_V0


def cpu_counters(payload: bytes) -> dict[str, int]:
    """Return the counters of one CPU's message; raise Unreadable where it is malformed."""
    return {
        _NAMES[kind]: int.from_bytes(value, "big")
        for kind, value in attributes(payload, 4)
        if kind in _NAMES and len(value) == 4
    }


def counters(client: Netlink) -> dict[str, int]:
    """Return this namespace's counters, summed over CPUs; a kernel's own set of names.

    Cumulative since the namespace was made. Raises OSError and Unreadable.
    """
    total: dict[str, int] = {}
    for _, payload in client.dump(IPCTNL_MSG_CT_GET_STATS_CPU, _HEADER):
        for name, value in cpu_counters(payload).items():
            total[name] = total.get(name, 0) + value
    return total


def count(client: Netlink) -> int:
    """Return how many entries this namespace has. Raises OSError and Unreadable."""
    for _, payload in client.request(IPCTNL_MSG_CT_GET_STATS, _HEADER):
        for kind, value in attributes(payload, 4):
            if kind == _GLOBAL_ENTRIES:
                return int.from_bytes(value, "big")
    return 0
