"""Other writers of the settings we write: who is here, and what each is known to do.

Nobody announces that it owns a sysctl or a ruleset, so this is knowledge, not a query: a table
of which program writes which setting and when (:data:`KNOWN`), and which of these programs are on
this host (:class:`Owners`): told by the names of running processes in this network namespace, by
enabled units, and by configuration files that set a key. No second process is started.

Sources: kube-proxy, cmd/kube-proxy/app/conntrack.go (``setupConntrack``) and pkg/proxy/iptables
(route_localnet); moby, libnetwork (``setup_ipforwarding.go``, ``setup_bridgenetfiltering.go``,
``drivers/overlay/ostweaks_linux.go``); cilium and calico on rp_filter: cilium/cilium#20072,
projectcalico/felix#2082; nftables.service and netfilter-persistent(8) as Debian ships them;
ufw(8), IPT_SYSCTL; tuned.conf(5).
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple, Optional

from remedies.boot import assignments, normal
from remedies.errors import Unreadable
from remedies.facts import Asking
from remedies.values import dataclass


@dataclass(frozen=True)
class Writer:
    """One program on this host that is known to write network settings."""

    name: str
    seen: str
    """How it was told: ``process 812``, ``/etc/ufw/ufw.conf``."""


@dataclass(frozen=True)
class Line:
    """One line of a program's own configuration that sets a sysctl."""

    writer: str
    path: str
    line: int
    key: str
    """In the form of its path: ``net/ipv4/ip_forward``."""
    value: str


@dataclass(frozen=True)
class Owners:
    """Who else on this host writes network settings."""

    writers: tuple[Writer, ...] = ()
    lines: tuple[Line, ...] = ()
    unread: tuple[str, ...] = ()


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
        "sets it at each start where it is told to",
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

ROOT = ""
"""What stands before every path of configuration. Tests point it at a tree of their own."""

_COMMS = {
    "kube-proxy": "kube-proxy",
    "dockerd": "dockerd",
    "cilium-agent": "cilium-agent",
    "calico-node": "calico-node",
    "firewalld": "firewalld",
    "tuned": "tuned",
    "NetworkManager": "NetworkManager",
    "systemd-network": "systemd-networkd",  # comm has 15 bytes
}
_WANTS = ("sysinit.target.wants", "multi-user.target.wants")
_FLUSHERS = ("/etc/nftables.conf", "/etc/sysconfig/nftables.conf")
_LIMIT = 1 << 18
"""Bytes read of one configuration file."""


def read(asking: Asking) -> Owners:
    """Look at process names, enabled units and configuration files; never raises.

    What could not be looked at in ``asking``'s time is named in ``unread``.
    """
    unread: list[str] = []
    writers = [*_processes(asking.deadline(), unread), *_units(unread)]
    lines: list[Line] = []
    ufw = _content("/etc/ufw/ufw.conf", unread)
    if any(line.strip().lower() == "enabled=yes" for line in ufw.splitlines()):
        writers.append(Writer("ufw", "/etc/ufw/ufw.conf"))
        lines += _lines("ufw", "/etc/ufw/sysctl.conf", unread)
    if any(writer.name == "tuned" for writer in writers):
        for path in _profiles(unread):
            lines += _lines("tuned", path, unread)
    if not os.path.exists(ROOT + "/etc/cloud/cloud-init.disabled"):
        for path in ("/etc/cloud/cloud.cfg", "/var/lib/cloud/instance/user-data.txt"):
            lines += _lines("cloud-init", path, unread)
    return Owners(tuple(writers), tuple(lines), tuple(unread))


def _processes(deadline: float, unread: list[str]) -> list[Writer]:
    """Find known programs of this network namespace among the names of all processes."""
    found: dict[str, Writer] = {}
    here = os.stat("/proc/thread-self/ns/net")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if time.monotonic() > deadline:
            unread.append("processes: /proc took too long to walk")
            break
        try:
            with open(f"/proc/{pid}/comm", "rb", buffering=0) as file:
                name = _COMMS.get(file.read(32).rstrip(b"\n").decode("ascii", "replace"))
            if name and name not in found and _lives(pid, here):
                found[name] = Writer(name, f"process {pid}")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended in between
        except OSError as error:
            unread.append(f"/proc/{pid}: {error.strerror}")
    return list(found.values())


def _lives(pid: str, here: os.stat_result) -> bool:
    """Tell whether a process is of our namespace; one that may not be looked at counts."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/ns/net"), here)
    except PermissionError:
        return True


def _units(unread: list[str]) -> list[Writer]:
    """Return the enabled units that rewrite rulesets when they start."""
    found = []
    for unit in ("nftables.service", "netfilter-persistent.service"):
        enabled = any(os.path.lexists(f"{ROOT}/etc/systemd/system/{w}/{unit}") for w in _WANTS)
        if not enabled:
            continue
        if unit == "nftables.service":
            path = next((p for p in _FLUSHERS if "flush ruleset" in _content(p, unread)), "")
            if path:
                found.append(Writer(unit, f"'flush ruleset' in {path}"))
        else:
            found.append(Writer("netfilter-persistent", "an enabled unit"))
    return found


def _profiles(unread: list[str]) -> list[str]:
    """Return the files of tuned's active profiles and of those they include (tuned.conf(5))."""
    names = _content("/etc/tuned/active_profile", unread).split()
    paths: list[str] = []
    for name in names:
        if "/" in name or len(paths) > 20:
            continue
        folders = ("/etc/tuned", "/etc/tuned/profiles", "/usr/lib/tuned", "/usr/lib/tuned/profiles")
        path = next((p for f in folders if os.path.exists(ROOT + (p := f"{f}/{name}/tuned.conf"))),
                    "")  # fmt: skip
        if not path or path in paths:
            continue
        paths.append(path)
        for line in _content(path, unread).splitlines():
            left, _, right = line.partition("=")
            if left.strip() == "include":
                names += right.replace(",", " ").split()
    return paths


def _content(path: str, unread: list[str]) -> str:
    """Return a small file's text, empty where there is none."""
    try:
        with open(ROOT + path, encoding="utf-8", errors="replace") as file:
            return file.read(_LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        unread.append(f"{path}: {error.strerror}")
        return ""


def _lines(writer: str, path: str, unread: list[str]) -> list[Line]:
    """Return what a file sets among the keys of ``net``."""
    return [
        Line(writer, path, found.line, found.key, found.value)
        for found in assignments(_content(path, unread))
        if found.value is not None and found.key.startswith("net/")
    ]


def matches(pattern: str, address: str) -> bool:
    """Tell whether an address is one of a pattern's, where one ``*`` stands for anything."""
    head, star, tail = pattern.partition("*")
    if not star:
        return address == pattern
    return (
        len(address) >= len(head) + len(tail)
        and address.startswith(head)
        and address.endswith(tail)
    )


def concerning(address: str, owners: Owners) -> tuple[str, ...]:
    """Return a line for each program here that is known to write a resource.

    As ``kube-proxy (process 812) sets it to 1 ...: set conntrack.tcpBeLiberal ... instead``.
    """
    said = [
        f"{writer.name} ({writer.seen}) {known.does}: {known.instead}"
        for writer in owners.writers
        for known in KNOWN
        if known.writer == writer.name and matches(known.pattern, address)
    ]
    key = normal(address.partition(":")[2])
    said += [
        f"{line.writer} sets it to {line.value} ({line.path}:{line.line}): change it there"
        for line in owners.lines
        if address.startswith("sysctl:") and line.key == key
    ]
    return tuple(said)


def suspects(address: str) -> tuple[str, ...]:
    """Look who on this host may have written a resource, for a message; empty where unknown."""
    from remedies.facts.host import read_host

    try:
        owners: Optional[Owners] = read(Asking(host=read_host(), timeout=1.0))
    except (OSError, Unreadable):
        return ()
    return () if owners is None else concerning(address, owners)
